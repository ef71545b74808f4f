//! The lab of the demo, with servers in it, and real connections between everybody and every tier.

use super::{
    cast::{PODS, USER, callers, tiers},
    lab::{self, Lab},
    reach::Reach,
};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

/// A connection that takes longer than this is a dropped one: on one machine an allowed one takes a millisecond.
const PATIENCE: Duration = Duration::from_millis(600);

/// One node with the pods on its bridge, users outside, and servers that say their names.
#[derive(Debug)]
pub struct Scene {
    lab: Lab,
    /// Everybody's address.
    pub addresses: BTreeMap<&'static str, IpAddr>,
}

impl Scene {
    /// Builds it. The calling process must be in a sandbox.
    pub fn build() -> Result<Self, lab::Error> {
        let mut lab = Lab::new()?;
        lab.node(1)?;
        let mut addresses = BTreeMap::new();
        for pod in PODS {
            addresses.insert(pod.name, IpAddr::from(lab.pod(1, pod.name)?.ipv4));
        }
        addresses.insert(USER.name, lab.outside()?.ipv4.into());
        let scene = Scene { lab, addresses };
        for tier in tiers() {
            scene.serve(tier.name, tier.port.unwrap_or_default())?;
        }
        Ok(scene)
    }

    /// A server in a pod, which says the pod's name to whoever connects.
    fn serve(&self, name: &'static str, port: u16) -> Result<(), lab::Error> {
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        let listener = self
            .inside(name, bind)?
            .map_err(|source| lab::Error::System { what: format!("a server in {name} on port {port}"), source })?;
        thread::spawn(move || {
            for mut caller in listener.incoming().flatten() {
                let _ = caller.write_all(name.as_bytes());
            }
        });
        Ok(())
    }

    /// Does something in the network namespace of somebody; `user` is outside, `node` is the node.
    pub fn inside<T: Send>(&self, name: &str, what: impl FnOnce() -> T + Send) -> Result<T, lab::Error> {
        let space = match name {
            "user" => "outside",
            "node" => "node1",
            pod => pod,
        };
        self.lab.within(space, what)
    }

    /// Everybody connects to every tier, all at once.
    pub fn measure(&self) -> Result<Reach, lab::Error> {
        let mut reached = Vec::new();
        thread::scope(|scope| {
            let mut attempts = Vec::new();
            for from in callers() {
                for to in tiers() {
                    let Some(address) = self.addresses.get(to.name) else { continue };
                    let target = SocketAddr::new(*address, to.port.unwrap_or_default());
                    let attempt = move || self.inside(from.name, move || answers(target, to.name));
                    attempts.push((from.name, to.name, scope.spawn(attempt)));
                }
            }
            for (from, to, attempt) in attempts {
                // A thread that panicked reached nobody.
                if attempt.join().unwrap_or(Ok(false))? {
                    reached.push((from, to));
                }
            }
            Ok(Reach::new(|from, to| reached.contains(&(from, to))))
        })
    }

    /// Measures until it is what is expected, for this long at most; what was measured last otherwise.
    pub fn measure_until(&self, expected: &Reach, patience: Duration) -> Result<Reach, lab::Error> {
        let begun = std::time::Instant::now();
        loop {
            let measured = self.measure()?;
            if measured == *expected || begun.elapsed() > patience {
                return Ok(measured);
            }
        }
    }
}

/// Whether a server answers there with its name.
fn answers(target: SocketAddr, name: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&target, PATIENCE) else { return false };
    let mut said = String::new();
    let heard = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut said));
    heard.is_ok() && said == name
}
