//! Imports point one way: downwards. Rooms of one floor do not import each other.

use std::{fs, path::Path};

/// The rooms of the house, lowest floor first.
const FLOORS: [&[&str]; 7] = [
    &["finding", "telemetry"],
    &["policy"],
    &["report", "lint", "k8s", "datapath", "node", "tls"],
    &["catalogue"],
    &["agent", "check", "controller", "admission"],
    &["demo"],
    &["cli"],
];

fn floor(room: &str) -> usize {
    FLOORS.iter().position(|rooms| rooms.contains(&room)).unwrap_or_else(|| panic!("{room} stands on no floor"))
}

/// Every room that a text names behind `crate::`, also in a list: `use crate::{check, report::findings}`.
fn named(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 1;
                let end = list.find(|c| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    depth == 0
                });
                let mut depth = 0;
                let top = |c: char| {
                    depth += i32::from(c == '{') - i32::from(c == '}');
                    c == ',' && depth == 0
                };
                list[..end.expect("a closed list")].split(top).map(str::to_owned).collect()
            }
            None => vec![rest.to_owned()],
        };
        for item in list {
            rooms.push(item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    rooms.retain(|room: &String| !room.is_empty());
    rooms
}

fn sources(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn wrong(room: &str, text: &str) -> Vec<String> {
    let below = |other: &String| other == room || floor(other) < floor(room);
    named(text).into_iter().filter(|other| !below(other)).collect()
}

#[test]
fn every_import_points_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 10);
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "main"].contains(&room) {
            continue;
        }
        let wrong = wrong(room, &fs::read_to_string(&file).unwrap());
        assert!(wrong.is_empty(), "{}: {room} must not know {wrong:?}", inside.display());
    }
}

#[test]
fn an_import_that_points_up_is_found() {
    assert_eq!(wrong("policy", "use crate::k8s::yaml;"), ["k8s"]);
    assert_eq!(wrong("lint", "use crate::{finding::Finding, policy::{model, cluster}, report::text};"), ["report"]);
    assert_eq!(wrong("cli", "use crate::{\n    check, demo::{self, lab},\n};"), Vec::<String>::new());
}
