//! Several sources as one.

use super::{Lookup, Problem, RegistryHost, Source};
use futures::future::join_all;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Mutex, time::Instant};

/// How long an answer is good for. Helpers hand out tokens that live as little as five minutes.
const FRESH: Duration = Duration::from_mins(4);

/// Sources in the order in which they are asked; the first that knows credentials is believed.
pub struct Chain {
    sources: Vec<Box<dyn Source>>,
    /// Held while a source is asked: helpers in front of a keychain do not like company.
    known: Mutex<HashMap<RegistryHost, (Instant, Lookup)>>,
    /// Everything has been given back.
    released: AtomicBool,
    fresh: Duration,
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            known: Mutex::default(),
            released: AtomicBool::new(false),
            fresh: FRESH,
        }
    }
}

impl Chain {
    /// A chain that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source, to be asked after those before it.
    #[must_use]
    pub fn with(self, source: impl Source + 'static) -> Self {
        self.with_boxed(Box::new(source))
    }

    /// The same for a source of any type.
    #[must_use]
    pub fn with_boxed(mut self, source: Box<dyn Source>) -> Self {
        self.sources.push(source);
        self
    }

    /// What the sources know of `host`. The problems of all that were asked are reported, also
    /// where a later source knew.
    pub async fn lookup(&self, host: &RegistryHost) -> Lookup {
        let mut known = self.known.lock().await;
        if let Some((at, lookup)) = known.get(host)
            && at.elapsed() < lookup.good_for.map_or(self.fresh, |good| good.min(self.fresh))
        {
            return lookup.clone();
        }
        let mut lookup = Lookup::default();
        for source in &self.sources {
            let answer = source.lookup(host).await;
            lookup.problems.extend(answer.problems);
            lookup.credentials = answer.credentials;
            lookup.good_for = answer.good_for;
            if lookup.credentials.is_some() {
                break;
            }
        }
        // What is asked for after the end is forgotten at once.
        if !self.released.load(Ordering::Acquire) {
            known.insert(host.clone(), (Instant::now(), lookup.clone()));
        }
        lookup
    }

    /// Gives back what the sources have lent, all at once, and forgets what they said. To be called
    /// in every ending: success, failure and interruption. A second call does nothing.
    pub async fn release(&self) -> Vec<Arc<Problem>> {
        if self.released.swap(true, Ordering::AcqRel) {
            return Vec::new();
        }
        let problems = join_all(self.sources.iter().map(|source| source.release())).await;
        self.known.lock().await.clear();
        problems.into_iter().flatten().collect()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Chain({} sources)", self.sources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Chain;
    use crate::credential::{Given, HelperError, Lookup, Problem, RegistryHost, Secret, Source};
    use futures::future::BoxFuture;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    struct Broken(Arc<AtomicUsize>);

    impl Source for Broken {
        fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let problem = HelperError::Missing {
                command: "docker-credential-x".to_owned(),
                host: host.clone(),
                config: "/c".into(),
            };
            let problems = vec![Arc::new(Problem::Helper(problem))];
            Box::pin(async { Lookup { problems, ..Lookup::default() } })
        }
    }

    fn given(host: &str, username: &str) -> Given {
        Given::new(vec![RegistryHost::new(host)], username, Secret::new("pw"), "VAR")
    }

    #[tokio::test]
    async fn the_first_source_that_knows_is_believed() {
        let chain = Chain::new().with(given("a", "first")).with(given("a", "second"));
        let found = chain.lookup(&RegistryHost::new("a")).await.credentials.unwrap();
        assert_eq!(found.username, "first");
        assert!(chain.lookup(&RegistryHost::new("b")).await.credentials.is_none());
    }

    #[tokio::test]
    async fn a_broken_source_is_reported_and_stops_nothing_and_is_asked_again_only_when_stale() {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut chain = Chain::new().with(Broken(asked.clone())).with(given("a", "joe"));
        let host = RegistryHost::new("a");
        for _ in 0..3 {
            let lookup = chain.lookup(&host).await;
            assert_eq!(lookup.problems.len(), 1);
            assert_eq!(lookup.credentials.unwrap().username, "joe");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        chain.fresh = Duration::ZERO;
        chain.lookup(&host).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
