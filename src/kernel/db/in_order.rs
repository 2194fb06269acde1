//! Values that are taken in ascending order. They are sorted a part at a time, since sorting hundreds of
//! thousands of keys at once would keep others from the kernel for too long.

/// The number of values that are sorted at once.
const PART: usize = 32 << 10;

/// Values, of which the smallest is taken first.
#[derive(Debug)]
pub(super) struct InOrder<T> {
    /// Larger values than those in `sorted`, in no order.
    rest: Vec<T>,
    /// In descending order.
    sorted: Vec<T>,
}

impl<T: Ord> InOrder<T> {
    pub(super) const fn new(values: Vec<T>) -> Self {
        InOrder { rest: values, sorted: Vec::new() }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.sorted.is_empty()
    }

    /// The smallest value.
    pub(super) fn first(&mut self) -> Option<&T> {
        self.sort_some();
        self.sorted.last()
    }

    /// Takes the smallest value.
    pub(super) fn take_first(&mut self) -> Option<T> {
        self.sort_some();
        self.sorted.pop()
    }

    fn sort_some(&mut self) {
        if !self.sorted.is_empty() {
            return;
        }
        self.sorted = match self.rest.len().checked_sub(PART) {
            None | Some(0) => std::mem::take(&mut self.rest),
            Some(at) => {
                self.rest.select_nth_unstable_by(at, |a, b| b.cmp(a));
                self.rest.split_off(at)
            }
        };
        self.sorted.sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::cmp::Ordering;

    thread_local! {
        static COMPARISONS: Cell<u32> = const { Cell::new(0) };
    }

    /// Counts how often it is compared.
    #[derive(Debug, PartialEq, Eq)]
    struct Counted(u32);

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARISONS.set(COMPARISONS.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    /// The numbers below a power of two, in an order that looks random.
    fn mixed(count: u32) -> Vec<u32> {
        (0..count).map(|n| n.wrapping_mul(0x9e37_79b1) % count).collect()
    }

    #[test]
    fn all_values_come_in_ascending_order() {
        let part = PART as u32;
        for count in [0, 1, 2, part, 2 * part, 4 * part] {
            let mut values = InOrder::new(mixed(count));
            for number in 0..count {
                assert!(!values.is_empty());
                assert_eq!(values.first(), Some(&number));
                assert_eq!(values.take_first(), Some(number));
            }
            assert!(values.is_empty() && values.take_first().is_none());
        }
    }

    #[test]
    fn no_step_takes_a_quarter_of_the_comparisons_of_sorting_them_all() {
        let count = 1 << 19;
        let numbers: Vec<Counted> = mixed(count).into_iter().map(Counted).collect();
        let mut values = InOrder::new(numbers);
        let mut most = 0;
        while !values.is_empty() {
            COMPARISONS.set(0);
            values.take_first();
            most = most.max(COMPARISONS.get());
        }
        let sorting = count * count.ilog2();
        assert!(most < sorting / 4, "{most} comparisons at once");
    }
}
