//! The environment of a state: names and values, in the order in which they were last set.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Environment variables, cheap to clone and to read.
///
/// Setting a name again moves it to the end, which decides the order in an exec op. A clone shares
/// everything until one of both is changed.
#[derive(Clone, Debug, Default)]
pub struct Env {
    inner: Arc<Inner>,
}

/// Three groups, one behind the other: what is in the way of nothing, what was settled and is kept by rank, and
/// what was set since then.
#[derive(Clone, Debug, Default)]
struct Inner {
    old: BTreeMap<u64, Entry>,
    settled: BTreeMap<u64, Entry>,
    new: BTreeMap<u64, Entry>,
    slots: HashMap<Arc<str>, Slot>,
    next: u64,
}

type Entry = (Arc<str>, Arc<str>);

#[derive(Clone, Copy, Debug)]
enum Slot {
    Old(u64),
    Settled(u64),
    New(u64),
}

impl Inner {
    fn group(&mut self, slot: Slot) -> (&mut BTreeMap<u64, Entry>, u64) {
        match slot {
            Slot::Old(at) => (&mut self.old, at),
            Slot::Settled(at) => (&mut self.settled, at),
            Slot::New(at) => (&mut self.new, at),
        }
    }

    fn put(&mut self, slot: Slot, entry: Entry) {
        if let Some(before) = self.slots.insert(Arc::clone(&entry.0), slot) {
            let (group, at) = self.group(before);
            group.remove(&at);
        }
        let (group, at) = self.group(slot);
        group.insert(at, entry);
    }
}

impl Env {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        let inner = Arc::make_mut(&mut self.inner);
        let age = inner.next;
        inner.next += 1;
        inner.put(Slot::New(age), (name.into(), value.into()));
    }

    /// Sets a variable unless it is there.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Sets all variables of a list again in its order, where only those may differ from it that
    /// were set since it was last set as a whole: `find` knows the rank in the list and the value of a name that
    /// is in it. It takes no longer than what was set since then.
    pub(crate) fn set_again<'v>(&mut self, find: impl Fn(&str) -> Option<(usize, &'v str)>) {
        let inner = Arc::make_mut(&mut self.inner);
        for (age, entry) in std::mem::take(&mut inner.new) {
            match find(&entry.0) {
                Some((rank, value)) => {
                    inner.slots.remove(&entry.0);
                    inner.put(Slot::Settled(rank as u64), (entry.0, value.into()));
                }
                None => inner.put(Slot::Old(age), entry),
            }
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        let inner = Arc::make_mut(&mut self.inner);
        if let Some(slot) = inner.slots.remove(name) {
            let (group, at) = inner.group(slot);
            group.remove(&at);
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let entry = match self.inner.slots.get(name)? {
            Slot::Old(at) => self.inner.old.get(at),
            Slot::Settled(at) => self.inner.settled.get(at),
            Slot::New(at) => self.inner.new.get(at),
        };
        entry.map(|(_, value)| value.as_ref())
    }

    /// Names and values, the one that was set last at the end.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        let Inner { old, settled, new, .. } = &*self.inner;
        let entries = old.values().chain(settled.values()).chain(new.values());
        entries.map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The names, in the same order.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// `NAME=value` for each variable, in the same order.
    pub fn to_list(&self) -> Vec<String> {
        self.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_set_again_without_going_through_it() {
        let list = [("P", "p"), ("A", "image"), ("B", "b")];
        let find = |name: &str| {
            let rank = list.iter().position(|(known, _)| *known == name)?;
            Some((rank, list[rank].1))
        };
        let mut quick = Env::default();
        for (name, value) in &list {
            quick.set(name, value);
        }
        let mut slow = quick.clone();
        for changes in [&["X", "A"][..], &["B", "Y", "X"], &[], &["P", "Z"]] {
            quick.set_again(find);
            for (name, value) in &list {
                slow.set(name, value);
            }
            assert_eq!(quick.to_list(), slow.to_list());
            for name in changes {
                quick.set(name, "argument");
                slow.set(name, "argument");
            }
            assert_eq!(quick.to_list(), slow.to_list());
            assert_eq!(quick.get("A"), slow.get("A"));
        }
    }

    #[test]
    fn setting_again_moves_to_the_end() {
        let mut env = Env::default();
        env.set("A", "1");
        env.set("B", "2");
        let before = env.clone();
        env.set("A", "3");
        assert_eq!(env.to_list(), ["B=2", "A=3"]);
        assert_eq!(before.to_list(), ["A=1", "B=2"]);
        env.remove("B");
        env.set_default("A", "4");
        env.set_default("C", "5");
        assert_eq!(env.to_list(), ["A=3", "C=5"]);
        assert_eq!(env.get("B"), None);
    }
}
