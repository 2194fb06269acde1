//! The keys of hashes in a Storable image: there they follow their values, while in packed form they
//! precede them.

use super::ops::{HOOK_RECURSES, Key, Op, Ops};
use super::{Reading, Scratch};
use crate::wire::framing::FramingError;
use crate::wire::framing::shared::grow;

/// An array, hash or object that is searched for keys.
#[derive(Debug)]
pub(super) struct Container {
    left: usize,
    /// For a hash: whether its keys have flags.
    hash: Option<bool>,
    /// Whether it is an object as in [`super::hook`].
    hook: bool,
    /// The index of the key of the value that is being skipped.
    slot: Option<usize>,
}

impl<'a> Reading<'a> {
    /// The key of the value that begins at `value`; it follows the value.
    pub(super) fn key_ahead(
        &mut self,
        value: usize,
        flagged: bool,
    ) -> Result<Key<'a>, FramingError> {
        if self.scratch.next_key == self.scratch.keys.len() {
            self.find_keys(value, flagged)?;
        }
        let at = self.scratch.keys.get(self.scratch.next_key).copied().unwrap_or_default();
        self.scratch.next_key += 1;
        Ops::new(self.image, at as usize, self.ops.order).key(flagged)
    }

    /// Finds the keys of the hash value that begins at `value` and of all hash values inside it, in the
    /// order in which they will be needed, so that each octet is read only once more.
    fn find_keys(&mut self, value: usize, flagged: bool) -> Result<(), FramingError> {
        let Scratch { levels, keys, next_key, containers, .. } = &mut *self.scratch;
        keys.clear();
        *next_key = 0;
        let mut ops = Ops::new(self.image, value, self.ops.order);
        containers.clear();
        containers.push(Container { left: 1, hash: Some(flagged), hook: false, slot: None });
        while let Some(container) = containers.last_mut() {
            let mut op = ops.op()?;
            if container.hash.is_some() && !op.is_leaf() {
                container.slot = Some(keys.len());
                grow(keys, 1);
                keys.push(0);
            }
            while op.is_prefix() {
                op = ops.op()?;
            }
            let (left, hash, hook) = match op {
                Op::Array(len) => (len, None, false),
                Op::Hash { len, flagged } => (len, Some(flagged), false),
                Op::HookOfOthers { flags } if flags & HOOK_RECURSES != 0 => (1, None, true),
                Op::HookOfOthers { flags } => {
                    ops.hook_end(flags)?;
                    (0, None, false)
                }
                _ => (0, None, false),
            };
            if left > 0 {
                if levels.len() + containers.len() > self.limits.nesting {
                    return Err(FramingError::TooDeep { limit: self.limits.nesting });
                }
                containers.push(Container { left, hash, hook, slot: None });
                continue;
            }
            while let Some(container) = containers.last_mut() {
                if let Some(flagged) = container.hash {
                    let slot = container.slot.take().and_then(|slot| keys.get_mut(slot));
                    if let Some(slot) = slot {
                        *slot = u32::try_from(ops.at).unwrap_or(u32::MAX);
                    }
                    ops.key(flagged)?;
                }
                if container.hook {
                    let flags = ops.hook_flags()?;
                    if flags & HOOK_RECURSES != 0 {
                        break;
                    }
                    ops.hook_end(flags)?;
                }
                container.left -= 1;
                if container.left > 0 {
                    break;
                }
                containers.pop();
            }
        }
        Ok(())
    }
}
