//! Several sources as one.

use super::{Lookup, RegistryHost, Source};
use std::{collections::HashMap, fmt, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// How long an answer is good for. Helpers hand out tokens that live as little as five minutes.
const FRESH: Duration = Duration::from_mins(4);

/// Sources in the order in which they are asked; the first that knows credentials is believed.
pub struct Chain {
    sources: Vec<Box<dyn Source>>,
    /// Held while a source is asked: helpers in front of a keychain do not like company.
    known: Mutex<HashMap<RegistryHost, (Instant, Lookup)>>,
    fresh: Duration,
}

impl Default for Chain {
    fn default() -> Self {
        Self { sources: Vec::new(), known: Mutex::default(), fresh: FRESH }
    }
}

impl Chain {
    /// A chain that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source, to be asked after those before it.
    #[must_use]
    pub fn with(mut self, source: impl Source + 'static) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    /// What the sources know of `host`. The problems of all that were asked are reported, also
    /// where a later source knew.
    pub async fn lookup(&self, host: &RegistryHost) -> Lookup {
        let mut known = self.known.lock().await;
        if let Some((at, lookup)) = known.get(host)
            && at.elapsed() < self.fresh
        {
            return lookup.clone();
        }
        let mut lookup = Lookup::default();
        for source in &self.sources {
            let answer = source.lookup(host).await;
            lookup.problems.extend(answer.problems);
            lookup.credentials = answer.credentials;
            if lookup.credentials.is_some() {
                break;
            }
        }
        known.insert(host.clone(), (Instant::now(), lookup.clone()));
        lookup
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
    use crate::credential::{Given, HelperError, Lookup, RegistryHost, Secret, Source};
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
            Box::pin(async { Lookup { credentials: None, problems: vec![Arc::new(problem)] } })
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
