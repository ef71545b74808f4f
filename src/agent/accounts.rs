//! Packets and bytes by policy, across the lives of ids.
//!
//! The kernel counts by id, and ids come and go with the contents of policies. What an id counted is added up here under
//! the policies that it stands for, before the id is given away. Whoever shows the sums needs a bound on them: so many
//! policies have sums of their own, all others share one, and what nothing stands for any more is forgotten after a while.

use crate::{
    datapath::Count,
    policy::{
        model::{Direction, Key},
        table::{FIRST_ID, Label},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// How many policies have sums of their own.
pub const POLICIES: usize = 2_000;
/// How long the sums of a policy stay that is no more: a scrape or two must see the last of it.
pub const REMEMBERED: Duration = Duration::from_secs(600);

/// What was counted for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// A reason of the kernel's own (`enum reason` in `ringfence.h`).
    Reason(u32),
    /// A policy in one direction; `None` = those that came when there were too many already.
    Policy(Option<Key>, Direction, Decided),
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decided {
    /// A rule of the policy admitted them.
    Allowed,
    /// The policy isolates, and no rule admitted them.
    Denied,
    /// The policy is in audit and would have denied them.
    Audited,
}

/// Sums by account.
#[derive(Debug, Default)]
pub struct Accounts {
    sums: BTreeMap<Account, Count>,
    seen: BTreeMap<u32, Count>,
    /// The policies that have sums of their own, and since when nothing stands for them.
    named: BTreeMap<Key, Option<Instant>>,
    unreported: u64,
}

impl Accounts {
    /// Adds what the kernel's counters gained since the last time. `label` says what an id stands for. A packet that
    /// several policies isolate from, or admit, counts for each of them.
    pub fn add<'a>(&mut self, counters: &BTreeMap<u32, Count>, label: impl Fn(u32) -> Option<&'a Label>) {
        for (id, count) in counters {
            let gained = *count - self.seen.insert(*id, *count).unwrap_or_default();
            let accounts = match label(*id) {
                Some(label) => self.accounts_of(label),
                None if *id < FIRST_ID => vec![Account::Reason(*id)],
                None => continue,
            };
            self.unreported += gained.unreported;
            for account in accounts {
                *self.sums.entry(account).or_default() += gained;
            }
        }
    }

    fn accounts_of(&mut self, label: &Label) -> Vec<Account> {
        let (of, decided): (BTreeSet<(&Key, Direction)>, _) = match label {
            Label::Policies(direction, policies) => {
                (policies.iter().map(|policy| (policy, *direction)).collect(), Decided::Denied)
            }
            Label::Audited(direction, policies) => {
                (policies.iter().map(|policy| (policy, *direction)).collect(), Decided::Audited)
            }
            Label::Rules(rules) => {
                (rules.iter().map(|rule| (&rule.policy, rule.direction)).collect(), Decided::Allowed)
            }
        };
        of.into_iter().map(|(policy, direction)| Account::Policy(self.name(policy), direction, decided)).collect()
    }

    /// The policy, if it has sums of its own, or may have them now.
    fn name(&mut self, policy: &Key) -> Option<Key> {
        if let Some(gone) = self.named.get_mut(policy) {
            *gone = None;
        } else if self.named.len() < POLICIES {
            self.named.insert(policy.clone(), None);
        } else {
            return None;
        }
        Some(policy.clone())
    }

    /// Forgets policies that no label has spoken of for a while.
    pub fn sweep<'a>(&mut self, labels: impl Iterator<Item = &'a Label>, now: Instant) {
        let mut spoken_of = BTreeSet::new();
        for label in labels {
            match label {
                Label::Policies(_, policies) | Label::Audited(_, policies) => spoken_of.extend(policies),
                Label::Rules(rules) => spoken_of.extend(rules.iter().map(|rule| &rule.policy)),
            }
        }
        for (policy, gone) in &mut self.named {
            *gone = if spoken_of.contains(policy) { None } else { gone.or(Some(now)) };
        }
        let forgotten = |gone: Instant| now.saturating_duration_since(gone) >= REMEMBERED;
        let before = self.named.len();
        self.named.retain(|_, gone| !gone.is_some_and(forgotten));
        if self.named.len() < before {
            self.sums.retain(|account, _| match account {
                Account::Policy(Some(policy), ..) => self.named.contains_key(policy),
                _ => true,
            });
        }
    }

    /// The kernel's counter of an id begins at nothing again.
    pub fn forget(&mut self, id: u32) {
        self.seen.remove(&id);
    }

    /// How many decisions were counted and not reported.
    pub fn unreported(&self) -> u64 {
        self.unreported
    }

    /// Every account and its sum.
    pub fn sums(&self) -> &BTreeMap<Account, Count> {
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::table::RuleRef;

    fn denied(name: &str) -> Account {
        Account::Policy(Some(Key::new("shop", name)), Direction::Ingress, Decided::Denied)
    }

    fn label(names: &[&str]) -> Label {
        Label::Policies(Direction::Ingress, names.iter().map(|name| Key::new("shop", *name)).collect())
    }

    fn packets(packets: u64) -> Count {
        Count { packets, bytes: packets * 100, unreported: packets / 2 }
    }

    #[test]
    fn a_policy_keeps_its_sum_when_its_id_changes_and_an_id_starts_afresh_under_another_name() {
        let mut accounts = Accounts::default();
        let labels = BTreeMap::from([(16, label(&["a"]))]);
        accounts.add(&BTreeMap::from([(16, packets(4))]), |id| labels.get(&id));
        accounts.add(&BTreeMap::from([(16, packets(8))]), |id| labels.get(&id));
        accounts.forget(16);
        let labels = BTreeMap::from([(16, label(&["b"])), (17, label(&["a"]))]);
        accounts.add(&BTreeMap::from([(16, packets(2)), (17, packets(2))]), |id| labels.get(&id));
        assert_eq!(accounts.sums()[&denied("a")], packets(10));
        assert_eq!(accounts.sums()[&denied("b")], packets(2));
    }

    #[test]
    fn every_policy_that_isolates_or_admits_is_counted_once_for_each_direction() {
        let mut accounts = Accounts::default();
        let rule = |rule| RuleRef { policy: Key::new("shop", "a"), direction: Direction::Ingress, rule };
        let labels = BTreeMap::from([(16, label(&["a", "b"])), (17, Label::Rules(vec![rule(0), rule(1)]))]);
        accounts.add(&BTreeMap::from([(16, packets(4)), (17, packets(6))]), |id| labels.get(&id));
        let allowed = Account::Policy(Some(Key::new("shop", "a")), Direction::Ingress, Decided::Allowed);
        let sums = [(denied("a"), packets(4)), (denied("b"), packets(4)), (allowed, packets(6))];
        assert_eq!(*accounts.sums(), sums.into());
    }

    #[test]
    fn what_an_earlier_agent_counted_under_unknown_ids_is_not_given_to_anybody() {
        let mut accounts = Accounts::default();
        accounts.add(&BTreeMap::from([(40, packets(4)), (3, packets(2))]), |_| None);
        assert_eq!(*accounts.sums(), [(Account::Reason(3), packets(2))].into());
        // Nor when the id is given away again.
        let given = label(&["a"]);
        accounts.add(&BTreeMap::from([(40, packets(6))]), |_| Some(&given));
        assert_eq!(accounts.sums()[&denied("a")], packets(2));
    }

    #[test]
    fn the_first_policies_keep_their_sums_and_all_that_come_later_share_one() {
        let mut accounts = Accounts::default();
        // Names run backwards: whoever was named stays named, whatever its name.
        for n in (0..POLICIES + 10).rev() {
            let label = label(&[&format!("policy-{n:05}")]);
            accounts.add(&BTreeMap::from([(16, packets(2))]), |_| Some(&label));
            accounts.forget(16);
        }
        assert_eq!(accounts.sums().len(), POLICIES + 1);
        let others = Account::Policy(None, Direction::Ingress, Decided::Denied);
        assert_eq!(accounts.sums()[&others], packets(20));
        assert!(accounts.sums().contains_key(&denied("policy-02009")));
    }

    #[test]
    fn a_policy_that_is_no_more_is_forgotten_after_a_while_and_one_that_came_back_is_not() {
        let mut accounts = Accounts::default();
        let labels = [label(&["stays"]), label(&["goes"]), label(&["returns"])];
        for (label, id) in labels.iter().zip(16..) {
            accounts.add(&BTreeMap::from([(id, packets(2))]), |_| Some(label));
        }
        let now = Instant::now();
        accounts.sweep(labels[..1].iter(), now);
        accounts.sweep([&labels[0], &labels[2]].into_iter(), now + REMEMBERED / 2);
        assert_eq!(accounts.sums().len(), 3);
        accounts.sweep(labels[..1].iter(), now + REMEMBERED);
        assert_eq!(accounts.sums().keys().cloned().collect::<Vec<_>>(), [denied("returns"), denied("stays")]);
    }
}
