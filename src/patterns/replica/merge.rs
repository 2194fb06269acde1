//! Values whose copies can be merged: the trait, sets, maps, and a counter.

use crate::value::{PortId, Str};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A value whose copies can be merged. Equal values have to be serialized equally (with
/// [`BTreeMap`], not with `HashMap`), or else copies are sent to and fro in vain.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::patterns::replica::Merge;
/// use serde::{Deserialize, Serialize};
///
/// /// The highest number that anybody has seen.
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Highest(u64);
///
/// impl Merge for Highest {
///     fn merge_with(&mut self, other: Self) {
///         self.0 = self.0.max(other.0);
///     }
/// }
/// # let mut highest = Highest(1);
/// # highest.merge_with(Highest(2));
/// # assert_eq!(highest.0, 2);
/// # Ok(()) }
/// ```
pub trait Merge: Serialize + DeserializeOwned + Clone + Default + Send + Sync + 'static {
    /// Takes over what `other` knows in addition. For all values `a`, `b` and `c`, merging `b` into
    /// `a` must equal merging `a` into `b`, merging `c` into that must equal merging `b` with `c`
    /// merged into it, and merging `a` into itself must change nothing.
    fn merge_with(&mut self, other: Self);
}

/// A set that only grows.
impl<T: Ord + Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Merge for BTreeSet<T> {
    fn merge_with(&mut self, other: Self) {
        self.extend(other);
    }
}

/// Keys stay; the values of each are merged.
impl<K, V: Merge> Merge for BTreeMap<K, V>
where
    K: Ord + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    fn merge_with(&mut self, other: Self) {
        for (key, value) in other {
            self.entry(key).or_default().merge_with(value);
        }
    }
}

/// A number to which every copy can add and from which it can subtract. It has two numbers for each
/// copy that ever did so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counter(pub(super) BTreeMap<Str, (u64, u64)>);

impl Counter {
    /// The sum; [`i64::MAX`] or [`i64::MIN`] if it is beyond these.
    pub fn value(&self) -> i64 {
        let sums = self.0.values().map(|&(added, taken)| i128::from(added) - i128::from(taken));
        // Fewer than 2^63 entries of less than 2^64 each.
        i64::try_from(sums.clone().sum::<i128>()).unwrap_or_else(|_| match sums.sum::<i128>() > 0 {
            true => i64::MAX,
            false => i64::MIN,
        })
    }

    /// What `copy` changes in order to add a number.
    pub(super) fn adding(&self, copy: &PortId, n: i64) -> Counter {
        let key = copy.as_str().to_owned();
        let (mut added, mut taken) = self.0.get(&key).copied().unwrap_or_default();
        let to = if n < 0 { &mut taken } else { &mut added };
        *to = to.saturating_add(n.unsigned_abs());
        Counter(BTreeMap::from([(key, (added, taken))]))
    }
}

impl Merge for Counter {
    fn merge_with(&mut self, other: Self) {
        for (copy, (added, taken)) in other.0 {
            let known = self.0.entry(copy).or_default();
            *known = (known.0.max(added), known.1.max(taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn copy(name: u8) -> PortId {
        format!("n#{name}").parse().unwrap()
    }

    proptest! {
        /// Changes of a few copies arrive somewhere in another order, and some of them again.
        #[test]
        fn counters_are_equal_whatever_the_order_and_repetition(
            changes in proptest::collection::vec((0..3_u8, any::<i32>()), 0..20),
            order in proptest::collection::vec(any::<usize>(), 0..60),
        ) {
            let mut copies: BTreeMap<u8, Counter> = BTreeMap::new();
            let mut sent = Vec::new();
            for &(name, n) in &changes {
                let own = copies.entry(name).or_default();
                let change = own.adding(&copy(name), n.into());
                own.merge_with(change.clone());
                sent.push(change);
            }
            let mut elsewhere = Counter::default();
            for index in order.into_iter().filter(|_| !changes.is_empty()) {
                elsewhere.merge_with(sent[index % changes.len()].clone());
            }
            sent.into_iter().rev().for_each(|change| elsewhere.merge_with(change));
            let sum: i64 = changes.iter().map(|&(_, n)| i64::from(n)).sum();
            prop_assert_eq!(elsewhere.value(), sum);
        }
    }

    #[test]
    fn a_sum_that_is_too_large_is_the_largest_one() {
        let entry = |name: u8, added, taken| (copy(name).as_str().to_owned(), (added, taken));
        let most = Counter([entry(0, u64::MAX, 0), entry(1, u64::MAX, 0)].into());
        assert_eq!(most.value(), i64::MAX);
        assert_eq!(most.adding(&copy(0), 1).0, [entry(0, u64::MAX, 0)].into());
        assert_eq!(Counter([entry(0, 0, u64::MAX)].into()).value(), i64::MIN);
    }

    #[test]
    fn sets_and_maps_keep_what_either_has() {
        let mut map: BTreeMap<String, BTreeSet<u8>> = [("a".into(), [1].into())].into();
        map.merge_with([("a".into(), [2].into()), ("b".into(), [3].into())].into());
        assert_eq!(map, [("a".into(), [1, 2].into()), ("b".into(), [3].into())].into());
    }
}
