//! The table that keeps conntrack on, as `nft` sees it.
use crate::root::root_or_return;
use ringfence::node::{conntrack::Conntrack, sandbox};
use std::{process::Command, thread};

fn tables() -> Vec<String> {
    let output = Command::new("nft").args(["list", "tables"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn one_table_stays_whoever_comes_and_goes() {
    root_or_return!();
    if Command::new("nft").arg("--version").output().is_err() {
        assert!(std::env::var_os("RINGFENCE_REQUIRE_ROOT").is_none(), "nft is needed");
        eprintln!("needs nft: not run");
        return;
    }
    let inside = thread::spawn(|| {
        sandbox::enter().unwrap();
        let first = Conntrack::keep().unwrap();
        assert_eq!(tables(), ["table inet ringfence"]);
        assert!(Command::new("nft").args(["flush", "ruleset"]).status().unwrap().success());
        assert_eq!(tables(), ["table inet ringfence"], "others can not flush it");
        let second = Conntrack::keep().unwrap();
        assert_eq!(tables(), ["table inet ringfence", "table inet ringfence-2"]);
        drop((first, second));
        let third = Conntrack::keep().unwrap();
        assert_eq!(tables(), ["table inet ringfence"]);
        let listed = Command::new("nft").args(["-a", "list", "ruleset"]).output().unwrap().stdout;
        let rules = String::from_utf8(listed).unwrap();
        // Table, chain, and one rule, which nft has no words for.
        assert_eq!(rules.matches("# handle").count(), 3, "rules do not pile up: {rules}");
        drop(third);
        assert_eq!(tables(), ["table inet ringfence"], "it outlives its owner");
        Conntrack::forget();
        assert_eq!(tables(), Vec::<String>::new());
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn where_anybody_can_flush_the_table_it_is_noticed_and_put_back() {
    root_or_return!();
    let inside = thread::spawn(|| {
        sandbox::enter().unwrap();
        assert!(!Conntrack::stands());
        let kept = Conntrack::keep_without_owner().unwrap();
        assert!(Conntrack::stands());
        if Command::new("nft").arg("--version").output().is_ok() {
            let nft = |words: &[&str]| assert!(Command::new("nft").args(words).status().unwrap().success());
            nft(&["flush", "ruleset"]);
            assert!(!Conntrack::stands());
            let _again = Conntrack::keep_without_owner().unwrap();
            assert!(Conntrack::stands());
            // The table is there, and its rule is not.
            nft(&["flush", "table", "inet", "ringfence"]);
            assert!(!Conntrack::stands());
        }
        drop(kept);
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
