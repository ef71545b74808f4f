//! Nothing of a sandbox is left, however it ends.
use crate::root::root_or_return;
use ringfence::node::sandbox;
use std::{
    ffi::OsString,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

fn this(test: &str) -> Vec<OsString> {
    [&format!("sandbox::{test}"), "--exact", "--nocapture"].map(OsString::from).into()
}

#[test]
fn a_program_runs_itself_in_a_sandbox() {
    root_or_return!();
    if !sandbox::is_inside() {
        assert!(sandbox::run_self(this("a_program_runs_itself_in_a_sandbox")).unwrap().success());
        return;
    }
    sandbox::furnish().unwrap();
    assert_eq!(std::process::id(), 1, "of its own process ids");
    let interfaces: Vec<_> = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(interfaces, ["lo"]);
    assert_eq!(fs::read_dir("/run/netns").unwrap().count(), 0);
    assert!(Command::new("ip").args(["netns", "add", "inside"]).status().unwrap().success());
}

/// Three deep: the test kills a process whose sandbox has a process that would sleep for a minute.
#[test]
fn a_sandbox_ends_with_the_process_that_made_it() {
    root_or_return!();
    const MIDDLE: &str = "RINGFENCE_TEST_MIDDLE";
    // Like no other command line on the machine.
    let nap = format!("60.{}", std::env::var(MIDDLE).unwrap_or_else(|_| std::process::id().to_string()));
    if sandbox::is_inside() {
        sandbox::furnish().unwrap();
        Command::new("sleep").arg(nap).status().unwrap();
        return;
    }
    if std::env::var_os(MIDDLE).is_some() {
        sandbox::run_self(this("a_sandbox_ends_with_the_process_that_made_it")).unwrap();
        return;
    }
    let sleeps = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        lines.filter(|line| *line == format!("sleep\0{nap}\0").into_bytes()).count()
    };
    let wait_for = |count| {
        (0..100).any(|_| {
            sleeps() == count || {
                thread::sleep(Duration::from_millis(50));
                false
            }
        })
    };
    let mut middle = Command::new("/proc/self/exe")
        .args(this("a_sandbox_ends_with_the_process_that_made_it"))
        .env(MIDDLE, std::process::id().to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = wait_for(1);
    middle.kill().unwrap();
    middle.wait().unwrap();
    assert!(began, "the process in the sandbox never ran");
    assert!(wait_for(0), "it outlives the sandbox");
}
