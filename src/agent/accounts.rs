//! Packets and bytes by policy, across the lives of ids.
//!
//! The kernel counts by id, and ids come and go with the contents of policies. What an id counted is added up here under
//! the names that it stands for, before the id is given away.

use crate::{
    datapath::Count,
    policy::table::{FIRST_ID, Label},
};
use std::collections::BTreeMap;

/// What was counted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A reason of the kernel's own (`enum reason` in `ringfence.h`).
    Reason(u32),
    /// A label: policies that denied, rules that admitted.
    Label(Label),
}

/// Sums by account.
#[derive(Debug, Default)]
pub struct Accounts {
    sums: BTreeMap<Account, Count>,
    seen: BTreeMap<u32, Count>,
}

impl Accounts {
    /// Adds what the kernel's counters gained since the last time. `label` says what an id stands for.
    pub fn add<'a>(&mut self, counters: &BTreeMap<u32, Count>, label: impl Fn(u32) -> Option<&'a Label>) {
        for (id, count) in counters {
            let account = match label(*id) {
                Some(label) => Account::Label(label.clone()),
                None if *id < FIRST_ID => Account::Reason(*id),
                None => continue,
            };
            let seen = self.seen.insert(*id, *count).unwrap_or_default();
            let sum = self.sums.entry(account).or_default();
            sum.packets += count.packets.saturating_sub(seen.packets);
            sum.bytes += count.bytes.saturating_sub(seen.bytes);
        }
    }

    /// The kernel's counter of an id begins at nothing again.
    pub fn forget(&mut self, id: u32) {
        self.seen.remove(&id);
    }

    /// Every account and its sum.
    pub fn sums(&self) -> &BTreeMap<Account, Count> {
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Direction, Key};

    fn label(name: &str) -> Label {
        Label::Policies(Direction::Ingress, vec![Key::new("shop", name)])
    }

    fn packets(packets: u64) -> Count {
        Count { packets, bytes: packets * 100 }
    }

    #[test]
    fn a_policy_keeps_its_sum_when_its_id_changes_and_an_id_starts_afresh_under_another_name() {
        let mut accounts = Accounts::default();
        let labels = BTreeMap::from([(16, label("a"))]);
        accounts.add(&BTreeMap::from([(16, packets(5))]), |id| labels.get(&id));
        accounts.add(&BTreeMap::from([(16, packets(7))]), |id| labels.get(&id));
        accounts.forget(16);
        let labels = BTreeMap::from([(16, label("b")), (17, label("a"))]);
        accounts.add(&BTreeMap::from([(16, packets(1)), (17, packets(2))]), |id| labels.get(&id));
        assert_eq!(accounts.sums()[&Account::Label(label("a"))], packets(9));
        assert_eq!(accounts.sums()[&Account::Label(label("b"))], packets(1));
    }

    #[test]
    fn what_an_earlier_agent_counted_under_unknown_ids_is_not_given_to_anybody() {
        let mut accounts = Accounts::default();
        accounts.add(&BTreeMap::from([(40, packets(5)), (3, packets(2))]), |_| None);
        assert_eq!(accounts.sums().len(), 1);
        assert_eq!(accounts.sums()[&Account::Reason(3)], packets(2));
    }
}
