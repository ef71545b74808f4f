//! What the fuzz targets ask of any bytes, asked of their corpus and of small mutations of it.

use proptest::{collection::vec, prelude::*, sample::Index};
use ringfence::{admission, check};
use std::{fs, path::Path, sync::LazyLock};

/// The inputs of a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

static REVIEWS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("review"));
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| corpus("check"));

/// One change: at a place, so many bytes go, and these come, or those of another place.
fn changed(bytes: &[u8], changes: &[(Index, usize, Vec<u8>, Option<Index>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, gone, new, from) in changes.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        let copied = from.map(|from| from.index(bytes.len()));
        let new = copied.map_or_else(|| new.clone(), |from| bytes[from..(from + 40).min(bytes.len())].to_vec());
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, new);
    }
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>, Option<Index>)>> {
    vec((any::<Index>(), 0_usize..20, vec(any::<u8>(), 0..6), any::<Option<Index>>()), 1..5)
}

#[test]
fn the_corpus_holds() {
    REVIEWS.iter().for_each(|bytes| admission::trial::review(bytes));
    FILES.iter().for_each(|bytes| check::trial::file(bytes));
    assert!(REVIEWS.len() >= 5 && FILES.len() >= 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_changed_review_holds(which in any::<Index>(), changes in changes()) {
        admission::trial::review(&changed(&REVIEWS[which.index(REVIEWS.len())], &changes));
    }

    #[test]
    fn a_changed_file_holds(which in any::<Index>(), changes in changes()) {
        check::trial::file(&changed(&FILES[which.index(FILES.len())], &changes));
    }
}
