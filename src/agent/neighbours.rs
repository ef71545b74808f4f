//! What agents tell each other: a pod's address, which its node knows before its first process runs and the API later.
//!
//! `Cluster::untold -> object of the node -> Event::Neighbour elsewhere`, by [`follow`]. An object is there while there is
//! something to tell, and no longer than the pod of the agent. Without any of it, pods of other nodes are known when the API says
//! their addresses.

use super::{source::Told, status::Status};
use crate::{
    k8s::{
        neighbours::{self, LABEL, Owner, PREFIX},
        watch::{self, Access, Error, Named, Selected},
    },
    policy::{
        cluster::{Event, Sightings},
        model::Name,
    },
};
use kube::Client;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, mpsc::Sender},
    thread,
    time::Duration,
};
use tokio::{sync::watch as latest, time::Instant};

/// What failed is tried again after this, with what is to be told then.
const AGAIN: Duration = Duration::from_secs(1);

/// What is taken back waits for this long: other nodes hear what the API says now on another way, perhaps later.
const TAKING_BACK: Duration = Duration::from_secs(2);

/// Where agents tell each other.
#[derive(Debug, Clone)]
pub struct Place {
    /// The API server.
    pub access: Access,
    /// The namespace of their objects.
    pub namespace: String,
    /// The pod of this one, of the same namespace: what it tells goes with it.
    pub pod: Owner,
}

impl Place {
    fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }
}

/// Listens to the others, and tells them what is sent here, until nobody sends any more. What was sent last is written at
/// once, or when the write before it has ended; where it only takes something back, [`TAKING_BACK`] later.
///
/// # Errors
/// A thread that can not be started.
pub fn follow(
    place: Place,
    node: Name,
    readings: Sender<Told>,
    status: Arc<Status>,
    alive: impl Send + 'static,
) -> io::Result<latest::Sender<Option<Sightings>>> {
    let (teller, untold) = latest::channel(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = async move {
        let _alive = alive;
        let mut ears = Ears { own: node.clone(), objects: BTreeMap::new(), complaint: None, status };
        let selected = Selected::labelled(place.collection(), LABEL);
        let hear = selected.follow(place.access.clone(), |told| {
            let events = ears.hear(told);
            // Who does not listen any more has stopped sending, too.
            let _ = events.is_empty() || readings.send(Told::Node(events)).is_ok();
        });
        tokio::select! {
            () = hear => {}
            () = tell(&place, &node, untold) => {}
        }
    };
    thread::Builder::new().name("neighbours".to_owned()).spawn(move || runtime.block_on(run))?;
    Ok(teller)
}

async fn tell(place: &Place, node: &Name, mut untold: latest::Receiver<Option<Sightings>>) {
    let mut pen = Pen { place, object: Named::new(place.collection(), format!("{PREFIX}{node}")), node, client: None };
    let (mut told, mut complaint): (Option<Sightings>, _) = (None, None);
    let mut not_before = None;
    loop {
        let next = untold.borrow_and_update().clone();
        if let Some(seen) = next.filter(|seen| told.as_ref() != Some(seen)) {
            let is_said = |(address, pod)| told.as_ref().is_some_and(|told| told.get(address) == Some(pod));
            if told.is_some() && seen.iter().all(is_said) {
                let due = *not_before.get_or_insert_with(|| Instant::now() + TAKING_BACK);
                tokio::select! {
                    changed = untold.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            not_before = None;
            match pen.write(&seen).await {
                Ok(()) => (told, complaint) = (Some(seen), None),
                Err(error) => {
                    let why = error.to_string();
                    if complaint.as_ref() != Some(&why) {
                        tracing::warn!("other nodes know new pods of this one later: {why}");
                        complaint = Some(why);
                    }
                    pen.client = None;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        } else {
            not_before = None;
            if untold.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Writes the object of the own node.
struct Pen<'a> {
    place: &'a Place,
    object: Named,
    node: &'a Name,
    client: Option<Client>,
}

impl Pen<'_> {
    async fn write(&mut self, seen: &Sightings) -> Result<(), Error> {
        let client = self.place.access.keep(&mut self.client).await?;
        if seen.is_empty() {
            return self.object.delete(&client, &Value::Null).await;
        }
        // Of what a former agent of the node left nothing stays, its pod as the owner neither: the same manager applied it.
        self.object.apply(&client, &neighbours::object(self.node, &self.place.pod, seen)).await.map(drop)
    }
}

/// What was heard.
struct Ears {
    own: Name,
    /// Whose objects there are, and what could not be read of each.
    objects: BTreeMap<Name, Vec<String>>,
    /// Why nothing is heard.
    complaint: Option<String>,
    status: Arc<Status>,
}

impl Ears {
    fn hear(&mut self, told: watch::Told) -> Vec<Event> {
        if let watch::Told::Lost(error) = told {
            let why = error.to_string();
            if self.complaint.as_ref() != Some(&why) {
                tracing::warn!("new pods of other nodes are known later: {why}");
                self.complaint = Some(why);
            }
            return Vec::new();
        }
        self.complaint = None;
        match told {
            watch::Told::Listed(objects) => {
                let there: Vec<Name> = objects.iter().filter_map(neighbours::node).collect();
                let gone: Vec<Name> = self.objects.keys().filter(|name| !there.contains(name)).cloned().collect();
                let gone: Vec<Event> = gone.into_iter().map(|name| self.gone(name)).collect();
                gone.into_iter().chain(objects.iter().filter_map(|object| self.there(object))).collect()
            }
            watch::Told::There(object) => self.there(&object).into_iter().collect(),
            watch::Told::Gone(object) => neighbours::node(&object).map(|name| self.gone(name)).into_iter().collect(),
            watch::Told::Lost(_) => Vec::new(),
        }
    }

    fn gone(&mut self, name: Name) -> Event {
        self.objects.remove(&name);
        Event::Neighbour(name, Sightings::new())
    }

    fn there(&mut self, object: &Value) -> Option<Event> {
        // What this node sees itself it does not have to be told.
        let name = neighbours::node(object).filter(|name| *name != self.own)?;
        let (seen, mistakes) = neighbours::read(object);
        let known = self.objects.insert(name.clone(), mistakes.clone()).unwrap_or_default();
        let new: Vec<_> = mistakes.into_iter().filter(|mistake| !known.contains(mistake)).collect();
        self.status.mistaken(new.len());
        if let Some(first) = new.first() {
            tracing::warn!("what {name} says of its pods is not all taken: {first} (and {} more)", new.len() - 1);
        }
        Some(Event::Neighbour(name, seen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Key, Uid};
    use serde_json::json;

    fn object(node: &str, pod: u8) -> Value {
        let seen = [([10, 1, 0, pod].into(), (Key::new("shop", "web"), Uid(pod.into())))];
        neighbours::object(node, &"agent-x/0b5e-1".parse().unwrap(), &seen.into())
    }

    fn nodes(events: &[Event]) -> Vec<(&str, usize)> {
        fn of(event: &Event) -> (&str, usize) {
            match event {
                Event::Neighbour(name, seen) => (name.as_ref(), seen.len()),
                other => panic!("{other:?}"),
            }
        }
        events.iter().map(of).collect()
    }

    #[test]
    fn what_others_say_is_heard_and_what_a_list_lacks_is_gone() {
        let status = Arc::new(Status::default());
        let mut ears = Ears { own: "n1".into(), objects: BTreeMap::new(), complaint: None, status: status.clone() };
        let listed = ears.hear(watch::Told::Listed(vec![object("n1", 1), object("n2", 2), object("n3", 3)]));
        assert_eq!(nodes(&listed), [("n2", 1), ("n3", 1)], "not of itself");
        assert_eq!(nodes(&ears.hear(watch::Told::Listed(vec![object("n3", 3)]))), [("n2", 0), ("n3", 1)]);
        assert_eq!(nodes(&ears.hear(watch::Told::Gone(object("n3", 3)))), [("n3", 0)]);
        let stranger = json!({"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": "x"}});
        assert_eq!(ears.hear(watch::Told::There(stranger)), []);
        assert_eq!(status.report().neighbour_mistakes, 0);
    }

    #[test]
    fn a_mistake_counts_once_and_the_rest_is_taken() {
        let status = Arc::new(Status::default());
        let mut ears = Ears { own: "n1".into(), objects: BTreeMap::new(), complaint: None, status: status.clone() };
        let mut spoilt = object("n2", 2);
        spoilt["data"]["web"] = json!("10.1.0.9");
        for _ in 0..3 {
            assert_eq!(nodes(&ears.hear(watch::Told::There(spoilt.clone()))), [("n2", 1)]);
            assert_eq!(status.report().neighbour_mistakes, 1);
        }
    }
}
