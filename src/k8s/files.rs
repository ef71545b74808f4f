//! Paths -> the files to read, in name order, bounded.
//!
//! A directory stands for every `*.yaml`, `*.yml` and `*.json` below it; `-` is standard input. Hidden names are left out:
//! a mounted ConfigMap keeps its real files in one, and links to them.

use super::yaml;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The most files of one run.
pub const MAX_FILES: usize = 10_000;
/// The most bytes of one run.
pub const MAX_TOTAL: usize = 256 << 20;
const MAX_DEPTH: usize = 32;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its path as it was named; `<stdin>` for standard input.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system said no.
    #[error("cannot read {path}: {source}: check the path and who may read it")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Nothing to read in a directory.
    #[error("{0} holds no *.yaml, *.yml or *.json: name the directory that does")]
    Empty(String),
    /// More than is read at once.
    #[error("more than {} files, or more than {} MiB in all: name fewer paths", MAX_FILES, MAX_TOTAL >> 20)]
    TooMuch,
}

/// Reads files, and directories recursively. What cannot be read does not keep the rest from being read.
pub fn read(paths: &[PathBuf]) -> (Vec<File>, Vec<Error>) {
    let (mut names, mut files, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let before = names.len();
        let is_directory = path.is_dir();
        match is_directory {
            true => directory(path, 0, &mut names, &mut errors),
            false => names.push(path.clone()),
        }
        if is_directory && names.len() == before && errors.is_empty() {
            errors.push(Error::Empty(path.display().to_string()));
        }
    }
    let mut total = 0;
    for (count, name) in names.into_iter().enumerate() {
        match one(&name) {
            Ok(file) => {
                total += file.bytes.len();
                if count >= MAX_FILES || total > MAX_TOTAL {
                    errors.push(Error::TooMuch);
                    break;
                }
                files.push(file);
            }
            Err(source) => errors.push(Error::Io { path: name.display().to_string(), source }),
        }
    }
    (files, errors)
}

fn directory(path: &Path, depth: usize, names: &mut Vec<PathBuf>, errors: &mut Vec<Error>) {
    let entries =
        fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>());
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(source) => return errors.push(Error::Io { path: path.display().to_string(), source }),
    };
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden || names.len() > MAX_FILES {
            continue;
        }
        let manifest =
            entry.extension().is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        // Links to files are followed, links to directories are not: they can go in circles.
        if entry.is_dir() && !entry.is_symlink() && depth < MAX_DEPTH {
            directory(&entry, depth + 1, names, errors);
        } else if manifest && !entry.is_dir() {
            names.push(entry);
        }
    }
}

fn one(path: &Path) -> io::Result<File> {
    // One byte more than is read, so that the reader sees that there is more.
    let limit = yaml::MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        return Ok(File { name: "<stdin>".to_owned(), bytes });
    }
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(File { name: path.display().to_string(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf], below: &Path) -> Vec<String> {
        let (files, errors) = read(paths);
        assert!(errors.is_empty(), "{errors:?}");
        files.iter().map(|f| f.name.strip_prefix(below.to_str().expect("UTF-8")).expect("below").to_owned()).collect()
    }

    #[test]
    fn a_directory_is_its_manifests_in_name_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        for sub in ["b", "..data"] {
            fs::create_dir(root.join(sub)).expect("a directory");
        }
        for name in ["c.yaml", "a.json", "b/d.yml", "README.md", ".hidden.yaml", "..data/e.yaml"] {
            fs::write(root.join(name), "").expect("a file");
        }
        std::os::unix::fs::symlink("..data/e.yaml", root.join("e.yaml")).expect("a link");
        std::os::unix::fs::symlink(".", root.join("circle")).expect("a link");
        assert_eq!(names(&[root.to_owned()], root), ["/a.json", "/b/d.yml", "/c.yaml", "/e.yaml"]);
        assert_eq!(names(&[root.join("README.md")], root), ["/README.md"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let good = directory.path().join("a.yaml");
        fs::write(&good, "a: 1").expect("a file");
        let (files, errors) = read(&[directory.path().join("absent.yaml"), good]);
        assert_eq!((files.len(), errors.len()), (1, 1));
        assert!(errors[0].to_string().contains("absent.yaml"));
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(read(&[empty.path().to_owned()]).1[..], [Error::Empty(_)]));
    }
}
