//! How long to wait before a server is asked again.
//!
//! Twice as long after each failure, up to a bound, and never as long as the neighbours: a thousand agents that lost one
//! server at once must not come back at once.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(10);

/// Failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It failed once more: how long to wait, at least for as long as the server asks for.
    pub(crate) fn failed(&mut self, asked: Option<Duration>) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        asked.unwrap_or_default() + between(wait / 2, wait)
    }

    /// How often it failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// It works.
    pub(crate) fn works(&mut self) {
        self.failures = 0;
    }
}

/// Some time between two.
pub(super) fn between(least: Duration, most: Duration) -> Duration {
    // The keys of a hasher are random, which is all that is needed.
    let part = RandomState::new().hash_one(()) % 1024;
    least + most.saturating_sub(least).mul_f64(part as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew_when_it_works() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..100).map(|_| backoff.failed(None)).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[50..].iter().all(|wait| *wait >= LAST / 2 && *wait <= LAST));
        assert!(waits[50..].iter().collect::<std::collections::BTreeSet<_>>().len() > 10, "no jitter");
        backoff.works();
        assert!(backoff.failed(None) <= FIRST);
        assert!(backoff.failed(Some(Duration::from_secs(7))) >= Duration::from_secs(7));
    }
}
