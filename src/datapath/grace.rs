//! Grace periods: until no packet is under way that began before.
//!
//! A thread of its own asks the kernel, so that whoever publishes a state does not wait for the packets of the one before.

use super::error::Error;
use nix::{errno::Errno, libc};
use std::{
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
};

/// Until no packet is under way that began before the call. Median 9 ms.
pub(super) fn wait() -> Result<(), Error> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes three integers and touches no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if answer == 0 { Ok(()) } else { Err(Error::NoGracePeriod(Errno::last())) }
}

/// At most one grace period that somebody else waits for.
#[derive(Debug)]
pub(super) struct Grace {
    begin: Sender<()>,
    over: Receiver<Result<(), Error>>,
    period: Period,
}

#[derive(Debug)]
enum Period {
    None,
    Running,
    Over(Result<(), Error>),
}

impl Grace {
    /// Starts the thread, which ends with this value.
    pub(super) fn new() -> Result<Self, Error> {
        let (begin, begun) = channel();
        let (ended, over) = channel();
        let waits = move || {
            while begun.recv().is_ok() && ended.send(wait()).is_ok() {}
        };
        thread::Builder::new().name("grace".to_owned()).spawn(waits).map_err(Error::NoThread)?;
        Ok(Self { begin, over, period: Period::None })
    }

    /// A period begins now. The one before must have been [`Grace::end`]ed.
    pub(super) fn begin(&mut self) {
        self.period = match self.begin.send(()) {
            Ok(()) => Period::Running,
            // The thread is gone: then there is nobody but the caller to wait.
            Err(_) => Period::Over(wait()),
        };
    }

    /// Whether one was begun and not ended.
    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.period, Period::None)
    }

    /// Whether [`Grace::end`] would have to wait.
    pub(super) fn is_running(&mut self) -> bool {
        if matches!(self.period, Period::Running) {
            match self.over.try_recv() {
                Ok(over) => self.period = Period::Over(over),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.period = Period::Over(wait()),
            }
        }
        matches!(self.period, Period::Running)
    }

    /// Waits until the period is over. True if there was one.
    pub(super) fn end(&mut self) -> Result<bool, Error> {
        match std::mem::replace(&mut self.period, Period::None) {
            Period::None => Ok(false),
            Period::Running => self.over.recv().unwrap_or_else(|_| wait()).map(|()| true),
            Period::Over(over) => over.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_is_waited_for_once_and_by_whoever_ends_it() {
        let mut grace = Grace::new().unwrap();
        assert!(!grace.is_begun() && !grace.is_running());
        assert!(!grace.end().unwrap(), "there was none");
        for _ in 0..3 {
            grace.begin();
            assert!(grace.is_begun());
            assert!(grace.end().unwrap());
            assert!(!grace.is_begun() && !grace.is_running());
        }
        grace.begin();
        while grace.is_running() {
            thread::yield_now();
        }
        assert!(grace.is_begun(), "it is over, and nobody has ended it");
        assert!(grace.end().unwrap() && !grace.end().unwrap());
    }
}
