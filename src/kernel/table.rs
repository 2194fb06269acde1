//! A hash table that grows in steps, for keys of which a peer may send hundreds of thousands: no
//! insertion moves more than [`MAX_LEAF`] entries.

use foldhash::fast::RandomState;
use hashbrown::Equivalent;
use hashbrown::hash_table::{self, HashTable, OccupiedEntry};
use std::hash::{BuildHasher, Hash};

/// The number of entries with which a leaf is divided: what 2048 buckets hold.
const MAX_LEAF: usize = 1792;

const BITS: u32 = 4;

/// The number of parts into which a leaf is divided.
const PARTS: usize = 1 << BITS;

/// The first bit of a hash that chooses a part. Within a leaf, the lower ones choose the bucket.
const FIRST_BIT: u32 = 16;

/// The bits from here on are compared within a leaf before the keys are.
const END: u32 = 56;

/// The number of bits that choose the parts of a table on all levels.
const PLACE_BITS: u32 = END - FIRST_BIT;

/// A place in a table that can be kept while the table changes: what is in the table all the time is
/// found once or more often in the leaves from the first to the last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    /// The bits that choose a part on each level, the first level's highest.
    place: u64,
}

impl Cursor {
    /// Behind the last leaf.
    pub(super) const END: Cursor = Cursor { place: 1 << PLACE_BITS };

    pub(super) const fn is_at_end(self) -> bool {
        self.place >> PLACE_BITS != 0
    }
}

/// A map from keys to values, in no order.
///
/// Small tables are a single leaf, an ordinary hash table; larger ones are trees whose leaves have up to
/// [`MAX_LEAF`] entries. The hashes depend on a secret of each table.
#[derive(Debug, Clone)]
pub(super) struct Table<K, V> {
    root: Node<K, V>,
    len: usize,
    secret: RandomState,
}

#[derive(Debug, Clone)]
enum Node<K, V> {
    Leaf(HashTable<(K, V)>),
    /// A part for each value of the next [`BITS`] bits of the hash.
    Branch(Box<[Node<K, V>; PARTS]>),
}

/// The place of a key.
pub(super) enum Place<'a, K, V> {
    Occupied(OccupiedEntry<'a, (K, V)>),
    Vacant(Vacant<'a, K, V>),
}

/// The place of a key that the table does not have.
pub(super) struct Vacant<'a, K, V> {
    inner: hash_table::VacantEntry<'a, (K, V)>,
    len: &'a mut usize,
}

impl<'a, K, V> Vacant<'a, K, V> {
    /// The key has to be the one that was looked up.
    #[inline]
    pub(super) fn insert(self, key: K, value: V) -> &'a mut V {
        *self.len += 1;
        &mut self.inner.insert((key, value)).into_mut().1
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table { root: Node::Leaf(HashTable::new()), len: 0, secret: RandomState::default() }
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        let hash = self.secret.hash_one(key);
        let found = self.root.leaf(hash).find(hash, |(held, _)| key.equivalent(held));
        found.map(|(_, value)| value)
    }

    #[inline]
    pub(super) fn get_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        self.get_key_value_mut(key).map(|(_, value)| value)
    }

    #[inline]
    pub(super) fn get_key_value_mut<Q: Hash + Equivalent<K> + ?Sized>(
        &mut self,
        key: &Q,
    ) -> Option<(&K, &mut V)> {
        let hash = self.secret.hash_one(key);
        let leaf = self.root.leaf_mut(hash);
        let found = leaf.find_mut(hash, |(held, _)| key.equivalent(held));
        found.map(|(key, value)| (&*key, value))
    }

    pub(super) fn contains_key<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.get(key).is_some()
    }

    /// The place of a key, in which its value can be inserted.
    #[inline]
    pub(super) fn place<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Place<'_, K, V> {
        let hash = self.secret.hash_one(key);
        let secret = &self.secret;
        let hash_of = |(key, _): &(K, V)| secret.hash_one(key);
        let leaf = self.root.leaf_with_room(hash, &hash_of);
        match leaf.entry(hash, |(held, _)| key.equivalent(held), hash_of) {
            hash_table::Entry::Occupied(inner) => Place::Occupied(inner),
            hash_table::Entry::Vacant(inner) => Place::Vacant(Vacant { inner, len: &mut self.len }),
        }
    }

    /// Adds a key that the table does not have.
    pub(super) fn add(&mut self, key: K, value: V) -> &mut V {
        let hash = self.secret.hash_one(&key);
        let secret = &self.secret;
        let hash_of = |(key, _): &(K, V)| secret.hash_one(key);
        self.len += 1;
        let leaf = self.root.leaf_with_room(hash, &hash_of);
        &mut leaf.insert_unique(hash, (key, value), hash_of).into_mut().1
    }

    /// Sets the value of a key.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Place::Occupied(mut slot) => Some(std::mem::replace(&mut slot.get_mut().1, value)),
            Place::Vacant(slot) => {
                slot.insert(key, value);
                None
            }
        }
    }

    /// Removes a key. A leaf that has become nearly empty gives memory back.
    pub(super) fn remove<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        let hash = self.secret.hash_one(key);
        let leaf = self.root.leaf_mut(hash);
        let found = leaf.find_entry(hash, |(held, _)| key.equivalent(held)).ok()?;
        let ((_, value), _) = found.remove();
        self.len -= 1;
        if self.len == 0 {
            self.root = Node::Leaf(HashTable::new());
        } else if leaf.capacity() > 16 && leaf.len() < leaf.capacity() / 8 {
            let secret = &self.secret;
            leaf.shrink_to(2 * leaf.len(), |(key, _)| secret.hash_one(key));
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { leaf: hash_table::Iter::default(), branches: Vec::new() };
        iter.enter(&self.root);
        iter
    }

    /// The entries of the leaf at the cursor, in no order. The cursor moves to the next leaf.
    pub(super) fn next_leaf(&self, cursor: &mut Cursor) -> impl Iterator<Item = (&K, &V)> {
        let (mut node, mut left) = (&self.root, PLACE_BITS);
        while let Node::Branch(parts) = node {
            left -= BITS;
            node = &parts[(cursor.place >> left) as usize % PARTS];
        }
        // All places below this leaf begin with the same bits.
        cursor.place = ((cursor.place >> left) + 1) << left;
        let entries = match node {
            Node::Leaf(leaf) => leaf.iter(),
            Node::Branch(_) => hash_table::Iter::default(),
        };
        entries.map(|(key, value)| (key, value))
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }
}

impl<K, V> Node<K, V> {
    #[inline]
    fn leaf(&self, hash: u64) -> &HashTable<(K, V)> {
        let (mut node, mut shift) = (self, FIRST_BIT);
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(parts) => node = &parts[part_of(hash, shift)],
            }
            shift += BITS;
        }
    }

    #[inline]
    fn leaf_mut(&mut self, hash: u64) -> &mut HashTable<(K, V)> {
        let (mut node, mut shift) = (self, FIRST_BIT);
        loop {
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(parts) => node = &mut parts[part_of(hash, shift)],
            }
            shift += BITS;
        }
    }

    /// The leaf for this hash. A full one is divided.
    #[inline]
    fn leaf_with_room(
        &mut self,
        hash: u64,
        hash_of: &impl Fn(&(K, V)) -> u64,
    ) -> &mut HashTable<(K, V)> {
        let (mut node, mut shift) = (self, FIRST_BIT);
        loop {
            if let Node::Leaf(leaf) = node
                && leaf.len() >= MAX_LEAF
                && shift < END
            {
                *node = Node::Branch(divide(std::mem::take(leaf), shift, hash_of));
            }
            match node {
                Node::Leaf(leaf) => return leaf,
                Node::Branch(parts) => node = &mut parts[part_of(hash, shift)],
            }
            shift += BITS;
        }
    }
}

#[inline]
const fn part_of(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize % PARTS
}

fn divide<K, V>(
    leaf: HashTable<(K, V)>,
    shift: u32,
    hash_of: &impl Fn(&(K, V)) -> u64,
) -> Box<[Node<K, V>; PARTS]> {
    let mut parts: [HashTable<(K, V)>; PARTS] =
        std::array::from_fn(|_| HashTable::with_capacity(2 * leaf.len() / PARTS));
    for entry in leaf {
        let hash = hash_of(&entry);
        parts[part_of(hash, shift)].insert_unique(hash, entry, hash_of);
    }
    Box::new(parts.map(Node::Leaf))
}

/// The entries of a table, in no order.
#[derive(Debug)]
pub(super) struct Iter<'a, K, V> {
    leaf: hash_table::Iter<'a, (K, V)>,
    /// What is left of the branches above the leaf, the lowest last.
    branches: Vec<std::slice::Iter<'a, Node<K, V>>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn enter(&mut self, node: &'a Node<K, V>) {
        match node {
            Node::Leaf(leaf) => self.leaf = leaf.iter(),
            Node::Branch(parts) => self.branches.push(parts.iter()),
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            match self.branches.last_mut()?.next() {
                Some(node) => self.enter(node),
                None => drop(self.branches.pop()),
            }
        }
    }
}

impl<'a, K: Hash + Eq, V> IntoIterator for &'a Table<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K: Hash + Eq, V> FromIterator<(K, V)> for Table<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut table = Table::default();
        for (key, value) in entries {
            table.insert(key, value);
        }
        table
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
