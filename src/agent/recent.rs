//! The flows that were reported last, a bounded number of them.

use crate::report::flows::Flow;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many flows are kept.
pub const KEPT: usize = 1024;

/// The flows that were reported last.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    flows: VecDeque<Flow>,
    last: u64,
}

impl Recent {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A thread that panicked left a whole ring behind: pushing is the only change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a flow, and numbers it.
    pub fn keep(&self, mut flow: Flow) {
        let mut ring = self.ring();
        ring.last += 1;
        flow.number = ring.last;
        if ring.flows.len() == KEPT {
            ring.flows.pop_front();
        }
        ring.flows.push_back(flow);
    }

    /// Those with a higher number, in order.
    pub fn after(&self, number: u64) -> Vec<Flow> {
        self.ring().flows.iter().filter(|flow| flow.number > number).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::flows::End;

    fn flow() -> Flow {
        let end = || End { address: [10, 0, 0, 1].into(), port: 1, pod: None };
        Flow {
            number: 0,
            time_ms: 0,
            verdict: "deny".to_owned(),
            direction: None,
            source: end(),
            destination: end(),
            protocol: "TCP".to_owned(),
            reply: false,
            reason: String::new(),
            by: vec![],
        }
    }

    #[test]
    fn the_oldest_goes_and_numbers_go_on() {
        let recent = Recent::default();
        for _ in 0..KEPT + 5 {
            recent.keep(flow());
        }
        let kept = recent.after(0);
        assert_eq!((kept.len(), kept[0].number), (KEPT, 6));
        assert_eq!(recent.after(KEPT as u64 + 4).len(), 1);
        assert!(recent.after(u64::MAX).is_empty());
    }
}
