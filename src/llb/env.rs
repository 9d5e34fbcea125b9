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

#[derive(Clone, Debug, Default)]
struct Inner {
    by_age: BTreeMap<u64, (Arc<str>, Arc<str>)>,
    ages: HashMap<Arc<str>, u64>,
    next: u64,
}

impl Env {
    /// Sets a variable.
    pub fn set(&mut self, name: &str, value: &str) {
        let inner = Arc::make_mut(&mut self.inner);
        let age = inner.next;
        inner.next += 1;
        let name: Arc<str> = name.into();
        if let Some(old) = inner.ages.insert(Arc::clone(&name), age) {
            inner.by_age.remove(&old);
        }
        inner.by_age.insert(age, (name, value.into()));
    }

    /// Sets a variable unless it is there.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if self.get(name).is_none() {
            self.set(name, value);
        }
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &str) {
        let inner = Arc::make_mut(&mut self.inner);
        if let Some(age) = inner.ages.remove(name) {
            inner.by_age.remove(&age);
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let age = self.inner.ages.get(name)?;
        self.inner.by_age.get(age).map(|(_, value)| value.as_ref())
    }

    /// Names and values, the one that was set last at the end.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.inner.by_age.values().map(|(name, value)| (name.as_ref(), value.as_ref()))
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
