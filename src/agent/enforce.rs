//! The enforcing thread: what was read becomes what the kernel has, and what the kernel tells gets names.
//!
//! `Reading -> events -> State -> changes -> Datapath`, and back: `Event, counters -> Flow, Accounts`. One thread owns the
//! state and the maps, so nothing is locked. What can not be applied leaves the old state in the kernel, and says why.

use super::{accounts::Accounts, flow::flow, lookout::Wake, needs::Needs, ops::Shared, source::Told};
use crate::{
    datapath::{self, Datapath, Events, Reason},
    k8s::reading::Reading,
    node::{bypass::Judged, memory},
    policy::{
        change::changes,
        cluster::{self, Cluster, Sightings, Unknown},
        model::Name,
        state::State,
        table::{Address, Meaning},
    },
};
use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

/// How often the kernel's events are fetched while the cluster is quiet.
const EVENTS: Duration = Duration::from_millis(50);
/// How often counters are read and the node is looked at.
const ROUND: Duration = Duration::from_secs(1);
/// How often memory is given back that a change needed on its way.
const GIVE_BACK: Duration = Duration::from_secs(60);

/// Everything that the enforcing thread owns.
pub struct Enforcer {
    name: Name,
    datapath: Datapath,
    events: Events,
    state: State,
    attached: bool,
    /// The generation that is to be enforced, and what happened since the state was told last.
    waiting: Option<(u64, Vec<cluster::Event>)>,
    /// What the node said before the source said anything; `None` from then on.
    early: Option<Vec<cluster::Event>>,
    /// Whoever looks at the node, and which ranges it was told that the Node has.
    lookout: Sender<Wake>,
    ranges: Vec<IpNet>,
    /// Whoever tells other nodes what this one sees.
    neighbours: Option<tokio::sync::watch::Sender<Option<Sightings>>>,
    /// What other nodes say to see and can not have.
    strays: BTreeSet<(Name, IpAddr)>,
    /// How many addresses of the resolver were said to be too many.
    left_out: usize,
    accounts: Accounts,
    /// Whether the kernel reports accepted connections, once that is known.
    accepted: Option<bool>,
    shared: Shared,
    gave_back: Instant,
    needs: Needs,
    /// Packets that the hook has seen.
    judged: Judged,
    /// Whether interfaces may lack the hook's companions, and why they could not be had.
    lacking: bool,
    refused: Option<String>,
}

impl Enforcer {
    /// Takes over what is in the kernel. Nothing changes there until the first reading.
    pub fn new(
        name: Name,
        empty: Cluster,
        datapath: Datapath,
        shared: Shared,
        lookout: Sender<Wake>,
        neighbours: Option<tokio::sync::watch::Sender<Option<Sightings>>>,
        needs: Needs,
    ) -> Result<Self, datapath::Error> {
        let events = datapath.events()?;
        // Ids that nobody knows any more count for nobody, also once they are given away again.
        let mut accounts = Accounts::default();
        accounts.add(&datapath.counters()?, |_| None);
        let state = State::new(name.clone(), empty, datapath.table()?);
        Ok(Self {
            name,
            datapath,
            events,
            state,
            attached: false,
            waiting: None,
            early: Some(Vec::new()),
            lookout,
            ranges: Vec::new(),
            neighbours,
            strays: BTreeSet::new(),
            left_out: 0,
            accounts,
            accepted: None,
            shared,
            gave_back: Instant::now(),
            needs,
            judged: Judged::default(),
            lacking: false,
            refused: None,
        })
    }

    /// Works until nobody tells anything any more.
    pub fn run(mut self, told: &Receiver<Told>) {
        let mut round = Instant::now();
        self.look_at_node();
        loop {
            match told.recv_timeout(if self.lacking { Duration::ZERO } else { EVENTS }) {
                Ok(first) => self.take(std::iter::once(first).chain(told.try_iter())),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tell();
            self.settle();
            self.attach_next();
            if round.elapsed() >= ROUND {
                round = Instant::now();
                self.attach_refused();
                self.enforce();
                self.count();
                self.look_at_node();
                self.accounts.sweep(self.state.table().labels.values(), Instant::now());
                if self.gave_back.elapsed() >= GIVE_BACK {
                    self.give_back();
                }
            }
        }
    }

    fn look_at_node(&mut self) {
        let pods = self.state.cluster().attachments.values().map(|attachment| attachment.ifindex).collect();
        let missing = self.needs.missing(&pods, self.judged);
        self.shared.status.node(missing.into_iter().chain(self.refused.clone()).collect());
    }

    /// Interfaces that are new get the hook's companions one by one, between whatever comes: nothing waits for more than one.
    fn attach_next(&mut self) {
        if self.lacking {
            let next = self.datapath.attach_next();
            // What is refused holds up no other.
            self.lacking = *next.as_ref().unwrap_or(&true);
            if let Err(error) = next {
                tracing::error!("what leaves by the ports of a bridge is not looked at everywhere: {error}");
                self.refused = Some(error.to_string());
            }
        }
    }

    /// What was refused is tried again.
    fn attach_refused(&mut self) {
        let why = self.datapath.attach_refused().err().map(|error| error.to_string());
        if why != self.refused
            && let Some(why) = &why
        {
            tracing::error!("what leaves by the ports of a bridge is not looked at everywhere: {why}");
        }
        self.refused = why;
    }

    /// What another node can not see is no pod's, and is said once.
    fn look_at_neighbours(&mut self) {
        let cluster = self.state.cluster();
        let strays =
            cluster.neighbours.keys().flat_map(|node| cluster.strays(node).map(|address| (node.clone(), address)));
        let strays: BTreeSet<_> = strays.collect();
        let new: Vec<_> = strays.difference(&self.strays).collect();
        self.shared.status.mistaken(new.len());
        if let Some((node, address)) = new.first() {
            let more = new.len() - 1;
            tracing::warn!(
                "{node} says that it has a pod at {address}, outside of its pod ranges: not taken (and {more} more)"
            );
        }
        self.strays = strays;
    }

    /// That not all of it fits is said once.
    fn look_at_resolver(&mut self) {
        let left_out = self.state.cluster().resolver.left_out();
        if left_out != std::mem::replace(&mut self.left_out, left_out) && left_out > 0 {
            let said = "kube-dns has more addresses than baselines let DNS out to";
            tracing::warn!("{said}: {left_out} are left out; label its pods k8s-app: kube-dns");
        }
    }

    /// What came together becomes one change: a whole says everything that the source said before it, too.
    fn take(&mut self, told: impl Iterator<Item = Told>) {
        // Without events, something that waits is tried again in its own time.
        let (mut events, mut whole) = (None, false);
        let mut seen = Vec::new();
        for one in told {
            match one {
                Told::Node(more) => seen.extend(more),
                Told::Cluster(Reading::Whole(cluster)) => {
                    self.shared.status.taken();
                    whole = true;
                    seen.splice(0..0, self.early.take().unwrap_or_default());
                    events = Some(self.state.cluster().events_to(*cluster));
                }
                Told::Cluster(Reading::Events(more)) => events.get_or_insert_default().extend(more),
                Told::Cluster(Reading::Current(at)) => self.shared.status.current(at),
                Told::Cluster(Reading::Refused(why)) => {
                    tracing::error!("the old state stays: {why}");
                    self.shared.status.refused(why);
                }
                Told::Cluster(Reading::Away(why)) => {
                    tracing::warn!("the old state stays: {why}");
                    self.shared.status.away(why);
                }
            }
        }
        if let Some(early) = &mut self.early {
            early.extend(seen.iter().cloned());
            if let Err(error) = self.close(&seen) {
                tracing::error!("pods that are new here are not closed: {error}");
            }
        } else if events.is_some() || !seen.is_empty() {
            seen.extend(events.unwrap_or_default());
            let generation = self.shared.status.read();
            self.waiting = Some((generation, seen));
            self.enforce();
            self.tell_ranges();
            self.tell_neighbours();
            self.look_at_neighbours();
            self.look_at_resolver();
        }
        if whole {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        memory::give_back();
        self.gave_back = Instant::now();
    }

    /// As long as the source has said nothing, what a predecessor enforced stays. But an address on another interface than
    /// it knew is another pod's, and nobody knows whose: it is closed.
    fn close(&mut self, seen: &[cluster::Event]) -> Result<(), datapath::Error> {
        if self.state.cluster().unknown == Unknown::Open {
            return Ok(());
        }
        let pinned = self.datapath.table()?;
        let mut closed = pinned.clone();
        for event in seen {
            let cluster::Event::Attachment(address, Some(attachment)) = event else { continue };
            let ifindex = attachment.ifindex;
            let known = closed.addresses.get(address).filter(|known| [0, ifindex].contains(&known.ifindex));
            if known.is_none() {
                let meaning = Meaning { closed: true, ..Meaning::default() };
                closed.addresses.insert(*address, Address { meaning, ifindex });
            }
        }
        let steps = changes(&pinned, &closed);
        if !steps.is_empty() {
            self.datapath.apply(&steps)?;
            self.state.found(closed);
        }
        Ok(())
    }

    /// Whoever looks at the node hears which ranges it has.
    fn tell_ranges(&mut self) {
        let ranges = self.state.cluster().nodes.get(&self.name).map(|node| node.pod_ranges.as_slice());
        let ranges = ranges.unwrap_or_default();
        if self.ranges != ranges {
            self.ranges = ranges.to_vec();
            // Who does not look any more needs no ranges.
            let _ = self.lookout.send(Wake::Ranges(self.ranges.clone()));
        }
    }

    /// The agents of other nodes hear what the API does not say yet.
    fn tell_neighbours(&self) {
        let Some(neighbours) = &self.neighbours else { return };
        let untold = Some(self.state.cluster().untold());
        neighbours.send_if_modified(|told| {
            let is_new = *told != untold;
            *told = untold;
            is_new
        });
    }

    /// Leads the kernel to what was read last, if it is not there yet. What fails is tried again in the next round.
    fn enforce(&mut self) {
        let Some((generation, events)) = self.waiting.take() else { return };
        let begun = Instant::now();
        match self.lead(events) {
            Ok(steps) => {
                self.shared.measured.change(begun.elapsed());
                let cluster = self.state.cluster();
                let (pods, policies) = (cluster.pods.len(), cluster.policies.len());
                self.shared.status.enforced(generation, pods, policies);
                if steps > 0 {
                    tracing::info!(generation, steps, pods, policies, "enforced");
                }
            }
            Err(error) => {
                tracing::error!("the old state stays: {error}");
                self.shared.status.kernel_failed(error.to_string());
                // The state has taken the events in; what the kernel has is asked, not believed.
                self.waiting = Some((generation, Vec::new()));
                match self.datapath.table() {
                    Ok(table) => self.state.found(table),
                    Err(error) => tracing::error!("the kernel's state can not be read: {error}"),
                }
            }
        }
    }

    /// Takes events in and applies what follows from them; returns in how many steps.
    fn lead(&mut self, events: Vec<cluster::Event>) -> Result<usize, datapath::Error> {
        let changes = self.state.apply(events);
        if !changes.is_empty() {
            self.datapath.publish(&changes)?;
            self.lacking = self.attached;
        }
        // The program goes into the hook when there is a state that it can enforce.
        if !self.attached {
            self.datapath.attach()?;
            self.attached = true;
        }
        // What an id that is not in use any more has counted belongs to what it stood for; then it begins anew, once the
        // packets have passed that still count for it.
        let gone = self.state.confirm();
        let counts = gone.keys().map(|id| Ok((*id, self.datapath.counter(*id)?))).collect::<Result<_, _>>()?;
        self.accounts.add(&counts, |id| gone.get(&id));
        for id in gone.into_keys() {
            self.datapath.reset_counter(id)?;
            self.accounts.forget(id);
        }
        Ok(changes.len())
    }

    /// Clears away what the last change left, once no packet reads it any more.
    fn settle(&mut self) {
        if let Err(error) = self.datapath.settle_in_time() {
            tracing::warn!("entries that nothing points to are left behind until the next start: {error}");
        }
    }

    fn count(&mut self) {
        match self.datapath.counters() {
            Ok(counters) => {
                let all = counters.values().map(|count| count.packets).sum::<u64>();
                let of_node = counters.get(&Reason::Node.id()).map_or(0, |count| count.packets);
                self.judged = Judged { of_node, of_others: all - of_node };
                self.accounts.add(&counters, |id| self.state.label(id));
                self.shared.measured.count(&self.accounts, self.datapath.generation());
            }
            Err(error) => tracing::warn!("packets are not counted: {error}"),
        }
    }

    fn tell(&mut self) {
        let wanted = self.shared.recent.accepted_wanted();
        if self.accepted != Some(wanted) {
            self.datapath.report_accepts(wanted);
            self.accepted = Some(wanted);
        }
        match self.events.next(Duration::ZERO) {
            Ok(events) => {
                let flows: Vec<_> = events.iter().map(|event| flow(event, &self.state)).collect();
                for flow in flows.iter().zip(&events).filter_map(|(flow, event)| (!event.accepted).then_some(flow)) {
                    tracing::info!(target: "flow", "{flow}");
                }
                self.shared.recent.keep(flows);
            }
            Err(error) => tracing::warn!("events are not read: {error}"),
        }
    }
}
