//! Which repositories of a registry have had which blobs, so that the next repository can take
//! them from there. A memory, not a promise: what it says is tried, and may be wrong.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Repositories that are remembered for one blob.
const REPOSITORIES: usize = 4;
/// Blobs that are remembered; the ones longest unseen are forgotten.
const BLOBS: usize = 4096;

/// What was noted within so many notes need not be noted again.
const REFRESH: u64 = 1024;

/// The memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Places {
    /// Counts notes, to tell old from new.
    #[serde(default)]
    clock: u64,
    #[serde(default)]
    hosts: BTreeMap<String, BTreeMap<String, Seen>>,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Seen {
    last: u64,
    /// The latest first.
    repositories: Vec<String>,
}

impl Places {
    /// Reads what [`Places::to_json`] wrote; what cannot be read is forgotten.
    pub fn from_json(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// As text.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Remembers that `repository` at `host` has `digest`.
    pub fn note(&mut self, host: &str, digest: &str, repository: &str) {
        let seen = self.hosts.entry(host.to_owned()).or_default();
        let seen = seen.entry(digest.to_owned()).or_default();
        if seen.repositories.first().is_some_and(|latest| latest == repository)
            && self.clock.saturating_sub(seen.last) < REFRESH
        {
            return;
        }
        self.clock += 1;
        let clock = self.clock;
        seen.last = clock;
        seen.repositories.retain(|known| known != repository);
        seen.repositories.insert(0, repository.to_owned());
        seen.repositories.truncate(REPOSITORIES);
    }

    /// Up to `count` repositories at `host` that may have `digest`, but for `except`.
    pub fn candidates(&self, host: &str, digest: &str, except: &str, count: usize) -> Vec<String> {
        let seen = self.hosts.get(host).and_then(|blobs| blobs.get(digest));
        let names = seen.into_iter().flat_map(|seen| &seen.repositories);
        names.filter(|name| name.as_str() != except).take(count).cloned().collect()
    }

    /// Whether anything was noted of `repository` at `host`.
    pub fn knows(&self, host: &str, repository: &str) -> bool {
        let blobs = self.hosts.get(host).into_iter().flat_map(BTreeMap::values);
        blobs.flat_map(|seen| &seen.repositories).any(|known| known == repository)
    }

    /// Forgets the oldest of what is too much.
    pub fn trim(&mut self) {
        let mut ages: Vec<u64> =
            self.hosts.values().flat_map(|blobs| blobs.values().map(|seen| seen.last)).collect();
        let Some(surplus) = ages.len().checked_sub(BLOBS).filter(|surplus| *surplus > 0) else {
            return;
        };
        ages.sort_unstable();
        let oldest_kept = ages.get(surplus).copied().unwrap_or(u64::MAX);
        for blobs in self.hosts.values_mut() {
            blobs.retain(|_, seen| seen.last >= oldest_kept);
        }
        self.hosts.retain(|_, blobs| !blobs.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOBS, Places};

    #[test]
    fn the_latest_repositories_are_tried_first_and_never_the_own() {
        let mut places = Places::default();
        for name in ["a", "b", "c", "d", "e", "b"] {
            places.note("r", "x", name);
        }
        assert_eq!(places.candidates("r", "x", "e", 3), ["b", "d", "c"]);
        assert!(places.candidates("other", "x", "", 3).is_empty());
        assert_eq!(Places::from_json(&places.to_json()), places);
        assert_eq!(Places::from_json(b"nonsense"), Places::default());
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut places = Places::default();
        for number in 0..BLOBS + 2 {
            places.note("r", &format!("d{number}"), "a");
        }
        places.trim();
        assert!(places.candidates("r", "d1", "", 1).is_empty());
        assert_eq!(places.candidates("r", "d2", "", 1), ["a"]);
    }
}
