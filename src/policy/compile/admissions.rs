//! What the policies in use admit from and to the identities in use.
//!
//! Policies come with the first pod that they isolate, identities with the first address or prefix of their class; each
//! brings its entries, and takes them along when the last one goes.

use super::{
    super::{
        change::Before,
        identity::Class,
        ids::Judge,
        mode::Mode,
        policy_set::{ANYBODY, Member, PolicySet},
        table::{Admission, IdentityId, Label, PolicyId, PortPrefix, PortSetId, RuleId, RuleRef},
    },
    Compiled, Ids,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Compiled {
    /// One more pod that these policies isolate. The first one brings their terms and what they admit with it.
    pub(super) fn take_set(&mut self, set: Arc<PolicySet>, ids: &mut Ids, before: &mut Before) -> PolicyId {
        let id = PolicyId::new(ids.judges.of(Judge::Policies(set.clone())), set.mode());
        if let Some((_, pods)) = self.sets.get_mut(&id) {
            *pods += 1;
            return id;
        }
        let mut policies = Vec::with_capacity(set.members().len());
        let mut concerned = BTreeSet::new();
        for number in set.members() {
            let Some(member) = ids.members.thing(*number) else { continue };
            policies.push(member.policy.clone());
            let sets = self.members.entry(*number).or_default();
            let is_new = sets.is_empty();
            sets.push(id);
            for term in member.terms() {
                concerned.extend(self.holders.get(&term).into_iter().flatten());
                let members = self.in_use.entry(term).or_default();
                if is_new {
                    if members.is_empty()
                        && let Some(what) = ids.terms.thing(term)
                    {
                        self.terms.add(what, term);
                        self.touched.terms.insert(term, what.clone());
                    }
                    members.insert(*number);
                }
            }
        }
        let label = match set.mode() {
            Mode::Enforce => Label::Policies(set.direction, policies),
            Mode::Audit => Label::Audited(set.direction, policies),
        };
        self.label(id.number(), label, before);
        self.sets.insert(id, (set, 1));
        self.admit(id, IdentityId(0), &Class::new(), ids, before);
        for identity in concerned {
            if let Some(class) = self.identities.get(&identity).map(|(class, _)| class.clone()) {
                self.admit(id, identity, &class, ids, before);
            }
        }
        id
    }

    /// One pod less that these policies isolate. With the last one go their terms and their entries.
    pub(super) fn leave_set(&mut self, id: PolicyId, ids: &Ids, before: &mut Before) {
        let Some((_, pods)) = self.sets.get_mut(&id) else { return };
        *pods -= 1;
        if *pods > 0 {
            return;
        }
        let Some((set, _)) = self.sets.remove(&id) else { return };
        self.forget(id.number(), before);
        let admissions = self.table.admissions.range((id, IdentityId(0))..=(id, IdentityId(u32::MAX)));
        for key in admissions.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.leave_admission(key, before);
        }
        for number in set.members() {
            let Some(sets) = self.members.get_mut(number) else { continue };
            sets.retain(|set| *set != id);
            if sets.is_empty() {
                self.members.remove(number);
                self.leave_member(*number, ids);
            }
        }
    }

    /// No set has it any more.
    fn leave_member(&mut self, number: u32, ids: &Ids) {
        for term in ids.members.thing(number).into_iter().flat_map(|member| member.terms()) {
            let Some(members) = self.in_use.get_mut(&term) else { continue };
            members.remove(&number);
            if members.is_empty() {
                self.in_use.remove(&term);
                if let Some(what) = ids.terms.thing(term) {
                    self.terms.remove(what, term);
                    self.touched.terms.insert(term, what.clone());
                }
            }
        }
    }

    /// One more address or prefix of this class. The first one brings what policies admit with it.
    pub(super) fn take_identity(&mut self, mut class: Class, ids: &mut Ids, before: &mut Before) -> IdentityId {
        class.sort_unstable();
        class.dedup();
        if class.is_empty() {
            return IdentityId(0);
        }
        let id = IdentityId(ids.identities.of(class.clone()));
        if let Some((_, users)) = self.identities.get_mut(&id) {
            *users += 1;
            return id;
        }
        for policy in self.concerned(&class) {
            self.admit(policy, id, &class, ids, before);
        }
        for term in &class {
            self.holders.entry(*term).or_default().insert(id);
        }
        self.identities.insert(id, (class, 1));
        id
    }

    /// One address or prefix less. With the last one go the entries that were for it alone.
    pub(super) fn leave_identity(&mut self, id: IdentityId, before: &mut Before) {
        let Some((_, users)) = self.identities.get_mut(&id) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        let Some((class, _)) = self.identities.remove(&id) else { return };
        for term in &class {
            if let Some(holders) = self.holders.get_mut(term) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.holders.remove(term);
                }
            }
        }
        for policy in self.concerned(&class) {
            self.leave_admission((policy, id), before);
        }
    }

    /// The policies to which a class is not just anybody.
    fn concerned(&self, class: &Class) -> BTreeSet<PolicyId> {
        let members = class.iter().filter_map(|term| self.in_use.get(term)).flatten();
        members.filter_map(|member| self.members.get(member)).flatten().copied().collect()
    }

    /// The members of a set that may admit a class: all of them, or those among all that ask for it, whichever are fewer.
    fn asking(&self, id: PolicyId, set: &PolicySet, class: &Class, ids: &Ids) -> Vec<Arc<Member>> {
        let asking = || std::iter::once(&ANYBODY).chain(class).filter_map(|term| self.in_use.get(term));
        let is_member = |number: &&u32| self.members.get(number).is_some_and(|sets| sets.contains(&id));
        let thing = |number: &u32| ids.members.thing(*number).cloned();
        if asking().map(BTreeSet::len).sum::<usize>() < set.members().len() {
            let those: BTreeSet<&u32> = asking().flatten().filter(is_member).collect();
            those.into_iter().filter_map(thing).collect()
        } else {
            set.members().iter().filter_map(thing).collect()
        }
    }

    /// Fills in what a policy admits from, or to, an identity.
    fn admit(&mut self, policy: PolicyId, identity: IdentityId, class: &Class, ids: &mut Ids, before: &mut Before) {
        let Some(set) = self.sets.get(&policy).map(|(set, _)| set.clone()) else { return };
        let mut any = BTreeSet::new();
        let mut ports: BTreeMap<PortPrefix, BTreeSet<RuleRef>> = BTreeMap::new();
        let members = self.asking(policy, &set, class, ids);
        for (rule, clause) in members.iter().flat_map(|member| member.clauses_with(class)) {
            if clause.ports.is_none() {
                any.insert(rule);
                continue;
            }
            for prefix in clause.prefixes(class) {
                ports.entry(prefix).or_default().insert(rule.clone());
            }
        }
        let admission = if !any.is_empty() {
            Admission { ports: PortSetId(0), any: Some(self.take_rule(any.into_iter().collect(), ids, before)) }
        } else if !ports.is_empty() {
            Admission { ports: self.take_port_set(ports, ids, before), any: None }
        } else {
            return;
        };
        self.table.admissions.insert((policy, identity), admission);
        before.admissions.entry((policy, identity)).or_insert(None);
    }

    /// An admission less, and with it what it alone used.
    fn leave_admission(&mut self, key: (PolicyId, IdentityId), before: &mut Before) {
        let Some(admission) = self.table.admissions.remove(&key) else { return };
        before.admissions.entry(key).or_insert(Some(admission));
        admission.any.into_iter().for_each(|rule| self.leave_rule(rule, before));
        if self.port_sets.leave(&admission.ports) {
            let entries = self.table.ports.range(entries_of(admission.ports));
            for (entry, rule) in entries.map(|(entry, rule)| (*entry, *rule)).collect::<Vec<_>>() {
                self.table.ports.remove(&entry);
                before.ports.entry(entry).or_insert(Some(rule));
                self.leave_rule(rule, before);
            }
        }
    }

    fn take_rule(&mut self, rules: Vec<RuleRef>, ids: &mut Ids, before: &mut Before) -> RuleId {
        let id = RuleId(ids.judges.of(Judge::Rules(rules.clone())));
        if self.rules.take(id) {
            self.label(id.0, Label::Rules(rules), before);
        }
        id
    }

    fn leave_rule(&mut self, rule: RuleId, before: &mut Before) {
        if self.rules.leave(&rule) {
            self.forget(rule.0, before);
        }
    }

    fn label(&mut self, id: u32, label: Label, before: &mut Before) {
        let old = self.table.labels.insert(id, label);
        before.labels.entry(id).or_insert(old);
    }

    fn forget(&mut self, id: u32, before: &mut Before) {
        let old = self.table.labels.remove(&id);
        before.labels.entry(id).or_insert(old);
    }

    fn take_port_set(
        &mut self,
        ports: BTreeMap<PortPrefix, BTreeSet<RuleRef>>,
        ids: &mut Ids,
        before: &mut Before,
    ) -> PortSetId {
        let ports: Vec<(PortPrefix, Vec<RuleRef>)> =
            ports.into_iter().map(|(prefix, rules)| (prefix, rules.into_iter().collect())).collect();
        let mut number = |rules: &Vec<RuleRef>| RuleId(ids.judges.of(Judge::Rules(rules.clone())));
        let contents = ports.iter().map(|(prefix, rules)| (*prefix, number(rules))).collect();
        let set = PortSetId(ids.port_sets.of(contents));
        if self.port_sets.take(set) {
            for (prefix, rules) in ports {
                let rule = self.take_rule(rules, ids, before);
                self.table.ports.insert((set, prefix), rule);
                before.ports.entry((set, prefix)).or_insert(None);
            }
        }
        set
    }
}

/// The keys of a port set's entries.
fn entries_of(set: PortSetId) -> std::ops::RangeInclusive<(PortSetId, PortPrefix)> {
    let at = |protocol, port, bits| (set, PortPrefix { protocol, port, bits });
    at(0, 0, 0)..=at(u8::MAX, u16::MAX, u8::MAX)
}
