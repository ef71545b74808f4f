//! Real packets in network namespaces: what the hook lets through on nodes as plain CNIs make them.
//!
//! [`Server`] and [`reaches`] are ordinary sockets, [`wire::Wire`] sends and hears frames as they are, and [`site::Site`] is
//! a lab under NetworkPolicies. One file below is one subject.

mod changes;
mod errors;
mod fence;
mod fragments;
mod handover;
mod headers;
mod neighbours;
mod ports;
mod protocols;
mod resolver;
mod routed;
mod services;
mod site;
mod town;
mod wire;

pub(crate) use handover::flood;

use ringfence::{demo::lab::Lab, node::sandbox};
use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A lab in a sandbox of a thread of its own.
pub(crate) fn in_lab(test: impl FnOnce(Lab) + Send) {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            sandbox::enter().unwrap();
            test(Lab::new().unwrap());
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Echoes on 80 and 81/TCP, 53 and 54/UDP, until dropped.
struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    fn start(lab: &Lab, space: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let (listeners, sockets) = lab
            .within(space, || {
                let listeners = [80, 81].map(|port| TcpListener::bind(any(port)).unwrap());
                let sockets = [53, 54].map(|port| UdpSocket::bind(any(port)).unwrap());
                (listeners, sockets)
            })
            .unwrap();
        let mut threads = Vec::new();
        for listener in listeners {
            let stop = stop.clone();
            listener.set_nonblocking(true).unwrap();
            threads.push(thread::spawn(move || {
                let mut streams: Vec<TcpStream> = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = listener.accept() {
                        stream.set_nonblocking(true).unwrap();
                        streams.push(stream);
                    }
                    streams.retain_mut(|stream| {
                        let mut byte = [0];
                        match stream.read(&mut byte) {
                            Ok(0) => false,
                            Ok(_) => stream.write_all(&byte).is_ok(),
                            Err(e) => e.kind() == ErrorKind::WouldBlock,
                        }
                    });
                    thread::sleep(Duration::from_millis(2));
                }
            }));
        }
        for socket in sockets {
            let stop = stop.clone();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            threads.push(thread::spawn(move || {
                let mut buffer = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
            }));
        }
        Server { stop, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether a server answers.
fn reaches(lab: &Lab, from: &str, to: IpAddr, protocol: u8, port: u16) -> bool {
    let to = SocketAddr::new(to, port);
    lab.within(from, || match protocol {
        TCP => TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok_and(|mut stream| echoes(&mut stream)),
        _ => {
            let any: IpAddr = if to.is_ipv4() { "0.0.0.0".parse().unwrap() } else { "::".parse().unwrap() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            (0..2).any(|_| socket.send_to(b"x", to).is_ok() && socket.recv(&mut [0; 8]).is_ok())
        }
    })
    .unwrap()
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn pins(node: &str) -> PathBuf {
    PathBuf::from("/sys/fs/bpf/ringfence").join(node)
}
