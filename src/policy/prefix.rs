//! Maps of prefixes: which is the longest that holds a network, and which are in it.
//!
//! Prefixes lie in each other or apart, and are ordered by where they begin, the wider one first.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{collections::BTreeMap, net::IpAddr};

/// What is said of the longest prefix that holds a whole network, itself included. Prefixes have no bits of a host.
pub fn longest<V>(prefixes: &BTreeMap<IpNet, V>, network: IpNet) -> Option<&V> {
    let mut at = network.trunc();
    loop {
        // What holds the network is not after it. If the last such prefix does not hold it, what does holds both of them.
        let (last, value) = prefixes.range(..=at).next_back()?;
        if last.contains(&network) {
            return Some(value);
        }
        at = around(last, &at)?;
    }
}

/// The prefixes in a network, itself included.
pub fn within<V>(prefixes: &BTreeMap<IpNet, V>, network: IpNet) -> impl Iterator<Item = IpNet> {
    prefixes.range(network..).map(|(prefix, _)| *prefix).take_while(move |prefix| network.contains(prefix))
}

/// The longest prefix that holds the first addresses of two; none for two families.
fn around(one: &IpNet, other: &IpNet) -> Option<IpNet> {
    match (one.addr(), other.addr()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let bits = (one.to_bits() ^ other.to_bits()).leading_zeros();
            Some(IpNet::V4(Ipv4Net::new(one, bits.try_into().ok()?).ok()?.trunc()))
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let bits = (one.to_bits() ^ other.to_bits()).leading_zeros();
            Some(IpNet::V6(Ipv6Net::new(one, bits.try_into().ok()?).ok()?.trunc()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of few bits, so that they lie in each other often.
    fn prefix() -> impl Strategy<Value = IpNet> {
        let bits = || prop_oneof![0u32..16, Just(u32::MAX)];
        let v4 = (bits(), 0u8..=32).prop_map(|(bits, length)| (bits.reverse_bits() | bits, length));
        let v4 = v4.prop_map(|(bits, length)| IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc()));
        let v6 = (bits(), 0u8..=128).prop_map(|(bits, length)| {
            let bits = u128::from(bits).reverse_bits() | u128::from(bits);
            IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc())
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn the_longest_prefix_is_the_first_one_on_the_way_up(
            prefixes in prop::collection::btree_map(prefix(), any::<u8>(), 0..12),
            network in prefix(),
        ) {
            let up = std::iter::successors(Some(network), IpNet::supernet).find_map(|at| prefixes.get(&at));
            prop_assert_eq!(longest(&prefixes, network), up);
        }

        #[test]
        fn what_is_within_a_network_is_what_it_contains(
            prefixes in prop::collection::btree_map(prefix(), any::<u8>(), 0..12),
            network in prefix(),
        ) {
            let held: Vec<IpNet> = prefixes.keys().copied().filter(|prefix| network.contains(prefix)).collect();
            prop_assert_eq!(within(&prefixes, network).collect::<Vec<_>>(), held);
        }
    }
}
