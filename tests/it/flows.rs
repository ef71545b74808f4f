//! `ringfence flows` beside a real agent: what is denied as it happens, what is accepted on request, and no flow twice.

use crate::{
    agent::{Agent, connects, listen, one_node},
    packets::in_lab,
    root::root_or_return,
};
use ringfence::demo::lab::Lab;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

/// `ringfence flows` on `node1`, which goes with the test.
struct Reader {
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
}

impl Reader {
    fn start(lab: &Lab, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfence"));
        command.arg("flows").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = lab.within("node1", || command.spawn().unwrap()).unwrap();
        fn lines(of: impl std::io::Read + Send + 'static) -> Receiver<String> {
            let (sender, lines) = channel();
            thread::spawn(move || {
                BufReader::new(of).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
            lines
        }
        let (lines, said) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Reader { child, lines, said }
    }

    /// The next line that it prints.
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(10)).expect("a line")
    }

    /// What it has printed besides, after some time.
    fn more(&self) -> Vec<String> {
        thread::sleep(Duration::from_millis(300));
        self.lines.try_iter().collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn what_is_denied_is_told_as_it_happens_and_nothing_twice() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let source = ["--cluster".as_ref(), directory.path().as_os_str()];
        let start = || {
            let agent = Agent::at(&lab, "node1", "node1", "127.0.0.1:9441", &source);
            agent.until("ready", |agent| agent.get("readyz").0 == 200);
            agent
        };
        let agent = start();
        assert!(!connects(&lab, "client", (web.ipv4, 54)));
        // What was before, and what comes.
        let text = Reader::start(&lab, &[]);
        let line = text.line();
        let after_time = line.split_once("Z ").unwrap().1;
        assert!(after_time.starts_with("deny TCP shop/client 10.244.1.10:"), "{line}");
        assert!(
            line.ends_with(":54: no rule admits it at its destination, which is isolated for ingress by shop/web"),
            "{line}"
        );
        let objects = Reader::start(&lab, &["--denied", "-o", "json", "--last", "0"]);
        assert_eq!(objects.more(), [""; 0]);
        text.more();
        assert!(!connects(&lab, "client", (web.ipv6, 54)));
        let flow = json(&objects.line());
        assert_eq!((&flow["verdict"], &flow["reason"]), (&"deny".into(), &"policy".into()));
        assert_eq!((&flow["source"]["pod"], &flow["destination"]["port"]), (&"shop/client".into(), &54.into()));
        assert_eq!(flow["isolatedBy"], serde_json::json!(["shop/web"]));
        let numbers: Vec<u64> = std::iter::once(flow["number"].as_u64().unwrap())
            .chain(objects.more().iter().map(|line| json(line)["number"].as_u64().unwrap()))
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        let shown = text.more();
        assert_eq!(shown.len(), numbers.len(), "{shown:?}");

        // Everything so far, at once, and what was accepted is not among it.
        let once = lab.within("node1", || {
            Command::new(env!("CARGO_BIN_EXE_ringfence")).args(["flows", "--once", "-o", "json"]).output().unwrap()
        });
        let once = once.unwrap();
        let numbers: Vec<u64> =
            String::from_utf8(once.stdout).unwrap().lines().map(|l| json(l)["number"].as_u64().unwrap()).collect();
        assert!(once.status.success() && numbers == (1..=*numbers.last().unwrap()).collect::<Vec<_>>(), "{numbers:?}");

        // The agent goes, and another one comes: the reader stays.
        drop(agent);
        assert!(objects.said.recv_timeout(Duration::from_secs(10)).unwrap().contains("does not answer"));
        let _agent = start();
        assert!(!connects(&lab, "client", (web.ipv4, 54)));
        assert_eq!(json(&objects.line())["destination"]["address"], "10.244.1.11");
        assert!(objects.said.recv_timeout(Duration::from_secs(10)).unwrap().contains("started anew"));
    });
}

#[test]
fn accepted_connections_are_told_while_somebody_asks() {
    root_or_return!();
    in_lab(|mut lab| {
        let (directory, web) = one_node(&mut lab);
        let _listeners = [53, 54].map(|port| listen(&lab, "web", port));
        let source = ["--cluster".as_ref(), directory.path().as_os_str()];
        let agent = Agent::at(&lab, "node1", "node1", "127.0.0.1:9441", &source);
        agent.until("ready", |agent| agent.get("readyz").0 == 200);
        let told = |agent: &Agent| agent.get("flows").1.contains(r#""verdict":"allow""#);
        assert!(connects(&lab, "client", (web.ipv4, 53)));
        thread::sleep(Duration::from_millis(200));
        assert!(!told(&agent), "nobody asked");

        let reader = Reader::start(&lab, &["--accepted", "-o", "json"]);
        thread::sleep(Duration::from_millis(300));
        assert!(connects(&lab, "client", (web.ipv4, 53)));
        let flow = json(&reader.line());
        assert_eq!((&flow["verdict"], &flow["source"]["pod"]), (&"allow".into(), &"shop/client".into()));
        assert_eq!(flow["allowedBy"], serde_json::json!([{"policy": "shop/web", "direction": "ingress", "rule": 0}]));
        // Once a connection, not once a packet.
        assert_eq!(reader.more(), [""; 0]);
        // Whoever did not ask is not bothered.
        let other = Reader::start(&lab, &[]);
        assert_eq!(other.more(), [""; 0]);
        assert!(connects(&lab, "client", (web.ipv6, 53)));
        assert_eq!(json(&reader.line())["destination"]["address"], "fd00:1::b");
        assert_eq!(other.more(), [""; 0]);
    });
}

#[test]
fn without_an_agent_it_says_so_in_one_line_and_exits_with_2() {
    let address = (Ipv4Addr::LOCALHOST, 1);
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["flows", "--agent", &format!("{}:{}", address.0, address.1)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("no agent answers at 127.0.0.1:1") && said.contains("--agent"), "{said}");
}
