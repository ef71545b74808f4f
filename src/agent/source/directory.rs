//! A directory of manifests, watched: every change of a file becomes a new reading of the whole.
//!
//! `files -> inotify -> what read makes of them`, by [`follow`]. A file counts when whoever writes it has closed it, so that half a file is
//! not taken for a whole one; changes in quick succession are taken together. A reading that fails is tried again until it
//! succeeds, also when the directory itself goes and comes back.

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

/// Writes within this time are taken together.
const SETTLE: Duration = Duration::from_millis(5);
/// How soon a reading that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Reads a directory now and whenever something changes below it, and hands `take` what `read` makes of it, until `take`
/// says that nobody listens any more.
pub fn follow<T, E: std::fmt::Display>(
    directory: &Path,
    read: impl Fn() -> Result<T, E>,
    mut take: impl FnMut(Result<T, String>) -> bool,
) {
    loop {
        let (sender, changes) = channel();
        // Watched first, read then: nothing that changes in between is missed.
        let watching = match watch(directory, move |event| drop(sender.send(event))) {
            Ok(watcher) => watcher,
            Err(error) => {
                let why = format!("{} can not be watched: {error}; create it or name another one", directory.display());
                if !take(Err(why)) {
                    return;
                }
                thread::sleep(RETRY);
                continue;
            }
        };
        loop {
            let reading = read().map_err(|error| error.to_string());
            let failed = reading.is_err();
            if !take(reading) {
                return;
            }
            match next(&changes, failed) {
                Next::Read => {}
                Next::Watch => break,
            }
        }
        drop(watching);
    }
}

enum Next {
    Read,
    Watch,
}

/// Waits for a change. After a failure it does not wait long, and watches anew: the directory may be another one.
fn next(changes: &Receiver<notify::Result<notify::Event>>, failed: bool) -> Next {
    let first =
        if failed { changes.recv_timeout(RETRY) } else { changes.recv().map_err(|_| RecvTimeoutError::Disconnected) };
    match first {
        Ok(_) => {}
        Err(_) => return Next::Watch,
    }
    // The first settles what follows it, but not without end.
    for _ in 0..20 {
        match changes.recv_timeout(SETTLE) {
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Next::Read
}

/// Tells of every event below a directory that leaves whole files behind, for as long as the watcher lives.
pub(in crate::agent) fn watch(
    directory: &Path,
    mut tell: impl FnMut(notify::Result<notify::Event>) + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let counts = match &event {
            Ok(event) => is_whole(&event.kind),
            // Events were lost.
            Err(_) => true,
        };
        if counts {
            tell(event);
        }
    })?;
    watcher.watch(directory, RecursiveMode::Recursive)?;
    Ok(watcher)
}

/// Whether an event leaves whole files behind: closed after writing, renamed, removed, a directory made. Reading a file
/// is an event too, and a write is one before its file is whole.
fn is_whole(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::PathBuf};

    fn readings(directory: PathBuf) -> Receiver<Result<String, String>> {
        let (sender, receiver) = channel();
        let file = directory.join("one.yaml");
        let read = move || fs::read_to_string(&file);
        thread::spawn(move || follow(&directory, read, |reading| sender.send(reading).is_ok()));
        receiver
    }

    fn until(readings: &Receiver<Result<String, String>>, wanted: impl Fn(&Result<String, String>) -> bool) {
        for _ in 0..50 {
            if wanted(&readings.recv_timeout(Duration::from_secs(5)).expect("another reading")) {
                return;
            }
        }
        panic!("it never came");
    }

    #[test]
    fn a_change_of_a_file_is_read_and_one_that_is_replaced_by_renaming_too() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one.yaml"), "a").unwrap();
        let readings = readings(directory.path().to_owned());
        until(&readings, |r| r.as_deref() == Ok("a"));
        fs::write(directory.path().join("one.yaml"), "b").unwrap();
        until(&readings, |r| r.as_deref() == Ok("b"));
        fs::write(directory.path().join("new"), "c").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("one.yaml")).unwrap();
        until(&readings, |r| r.as_deref() == Ok("c"));
    }

    #[test]
    fn a_directory_that_goes_and_comes_back_is_followed_again() {
        let above = tempfile::tempdir().unwrap();
        let directory = above.path().join("cluster");
        let readings = readings(directory.clone());
        until(&readings, |r| r.is_err());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("one.yaml"), "a").unwrap();
        until(&readings, |r| r.as_deref() == Ok("a"));
        fs::remove_dir_all(&directory).unwrap();
        until(&readings, |r| r.is_err());
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("one.yaml"), "b").unwrap();
        until(&readings, |r| r.as_deref() == Ok("b"));
    }

    #[test]
    fn half_a_file_is_not_read() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one.yaml"), "whole").unwrap();
        let readings = readings(directory.path().to_owned());
        until(&readings, |r| r.as_deref() == Ok("whole"));
        let mut file =
            fs::OpenOptions::new().write(true).truncate(true).open(directory.path().join("one.yaml")).unwrap();
        file.write_all(b"ha").unwrap();
        file.flush().unwrap();
        assert!(readings.recv_timeout(Duration::from_millis(200)).is_err());
        file.write_all(b"lf").unwrap();
        drop(file);
        until(&readings, |r| r.as_deref() == Ok("half"));
    }

    #[test]
    fn reading_does_not_make_it_read_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one.yaml"), "a").unwrap();
        let readings = readings(directory.path().to_owned());
        until(&readings, |r| r.is_ok());
        assert!(readings.recv_timeout(Duration::from_millis(300)).is_err());
    }
}
