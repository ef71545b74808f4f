//! What a node must do for enforcement: looked at every second, made good where it can be, and told where it can not.

use crate::node::{
    bridge,
    bypass::{Counters, Judged},
    conntrack::{self, Conntrack},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// Conntrack that is kept on by an agent; whoever ends enforcement takes it away.
#[derive(Debug, Clone)]
pub struct Kept(Arc<Mutex<Option<Conntrack>>>);

impl Kept {
    /// Turns it on.
    ///
    /// # Errors
    /// Why it may be off.
    pub fn on() -> Result<Self, conntrack::Error> {
        Ok(Kept(Arc::new(Mutex::new(Some(Conntrack::keep()?)))))
    }

    /// Puts back what somebody took away. Says whether there was something to put back.
    fn again(&self) -> Result<bool, conntrack::Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() || Conntrack::stands() {
            return Ok(false);
        }
        *kept = Some(Conntrack::keep()?);
        Ok(true)
    }

    /// Ends it.
    pub fn forget(&self) {
        // The table is its owner's for as long as he lives.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        Conntrack::forget();
    }
}

/// What has to be looked at.
#[derive(Debug)]
pub struct Needs {
    conntrack: Kept,
    counters: Counters,
}

impl Needs {
    /// With conntrack on.
    pub fn new(conntrack: Kept) -> Self {
        Needs { conntrack, counters: Counters::default() }
    }

    /// What is missing, each in one line. `pods` are the interfaces of pods, `judged` the packets that the hook has seen.
    pub fn missing(&mut self, pods: &BTreeSet<u32>, judged: Judged) -> Vec<String> {
        let mut missing = Vec::new();
        match bridge::call_netfilter() {
            Ok(true) => tracing::warn!("bridges did not call netfilter: they do now"),
            Ok(false) => {}
            Err(error) => missing.push(error.to_string()),
        }
        match self.conntrack.again() {
            Ok(true) => tracing::warn!("somebody took the rule away that keeps conntrack on: it is back"),
            Ok(false) => {}
            Err(error) => missing.push(error.to_string()),
        }
        match self.counters.look(pods, judged) {
            Ok(found) => missing.extend(found),
            Err(error) => missing.push(format!("nobody knows whether traffic of pods passes the hook by: {error}")),
        }
        missing
    }
}
