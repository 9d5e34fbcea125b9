//! Secrets that are lent for a time: taken when first needed, renewed while they are, given back
//! at the end.

use super::{Credentials, Kind, Lookup, Origin, Problem, RegistryHost, Secret, Source};
use futures::future::BoxFuture;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// Of a lease's life, this part of it in per cent is used before it is renewed.
const USED_UP: u32 = 75;
/// Giving back may take this long, whatever the lessor's own limits: somebody waits for the end.
const RELEASE_LIMIT: Duration = Duration::from_secs(12);

/// Who lends secrets.
pub trait Lessor: fmt::Debug + Send + Sync + 'static {
    /// Takes out a lease.
    fn lease(&self) -> BoxFuture<'_, Result<Lease, Problem>>;

    /// Gives a lease back. One that has expired is given back already.
    fn revoke<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, Result<(), Problem>>;

    /// What to call it.
    fn origin(&self) -> Origin;
}

/// Where it is noted that a lease must be given back, for the case that this process never can.
pub trait Loans: fmt::Debug + Send + Sync + 'static {
    /// `lessor` has lent `id` to this process.
    fn note(&self, lessor: &str, id: &str);

    /// It has been given back.
    fn settle(&self, lessor: &str, id: &str);

    /// What `lessor` lent to processes that are no more. It is this process's to settle from now on.
    fn left_behind(&self, lessor: &str) -> Vec<String>;
}

/// A secret on loan.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The secret.
    pub value: Secret,
    /// What it is given back by.
    pub id: Option<String>,
    /// How long it holds; unknown where the lessor does not say.
    pub expires_in: Option<Duration>,
}

/// A lessor as a source of credentials for named registries, and for these alone.
#[derive(Clone, Debug)]
pub struct Leased {
    hosts: Vec<RegistryHost>,
    username: String,
    quiet: bool,
    release_limit: Duration,
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    lessor: Box<dyn Lessor>,
    loans: Option<Arc<dyn Loans>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// What others left behind has been given back.
    cleared: bool,
    /// Nothing more is lent: all has been given back.
    closed: bool,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    since: Instant,
}

impl Held {
    /// How long it may still be used before it must be renewed; none for good.
    fn left(&self) -> Option<Duration> {
        let useful = self.lease.expires_in? * USED_UP / 100;
        Some(useful.saturating_sub(self.since.elapsed()))
    }
}

impl Leased {
    /// What `lessor` lends, as the password of `username` at `hosts`.
    pub fn new(hosts: Vec<RegistryHost>, username: impl Into<String>, lessor: impl Lessor) -> Self {
        let desk = Desk { lessor: Box::new(lessor), loans: None, state: Mutex::default() };
        Self {
            hosts,
            username: username.into(),
            quiet: false,
            release_limit: RELEASE_LIMIT,
            desk: Arc::new(desk),
        }
    }

    /// Notes in `loans` what is lent, and gives back what is noted there of processes that are no
    /// more. To be called before anything is lent.
    #[must_use]
    pub fn noting(mut self, loans: Arc<dyn Loans>) -> Self {
        if let Some(desk) = Arc::get_mut(&mut self.desk) {
            desk.loans = Some(loans);
        }
        self
    }

    /// Says nothing where nothing is lent: nobody has named this lessor.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
}

impl Desk {
    /// The secret, lent now or before; with what is to be told, and how long it is good for.
    async fn lend(&self) -> (Option<Secret>, Vec<Problem>, Option<Duration>) {
        let mut state = self.state.lock().await;
        if state.closed {
            return (None, Vec::new(), None);
        }
        if let Some(held) = &state.held
            && held.left() != Some(Duration::ZERO)
        {
            return (Some(held.lease.value.clone()), Vec::new(), held.left());
        }
        let old = state.held.take();
        let lease = match self.lessor.lease().await {
            Ok(lease) => lease,
            Err(problem) => {
                state.held = old;
                return (None, vec![problem], None);
            }
        };
        if let (Some(loans), Some(id)) = (&self.loans, &lease.id) {
            loans.note(&self.lessor.origin().to_string(), id);
        }
        let mut problems = Vec::new();
        if !std::mem::replace(&mut state.cleared, true) {
            problems.extend(self.clear().await);
        }
        if let Some(Held { lease: Lease { id, expires_in, .. }, .. }) = old {
            problems.push(Problem::Renewed {
                origin: self.lessor.origin(),
                life: expires_in.unwrap_or_default(),
            });
            problems.extend(self.give_back(id.as_deref()).await.err());
        }
        let value = lease.value.clone();
        let held = Held { lease, since: Instant::now() };
        let left = held.left();
        state.held = Some(held);
        (Some(value), problems, left)
    }

    async fn close(&self) -> Vec<Problem> {
        let mut state = self.state.lock().await;
        state.closed = true;
        let mut problems = Vec::new();
        if let Some(held) = state.held.take() {
            problems.extend(self.give_back(held.lease.id.as_deref()).await.err());
        }
        // A run that needed nothing gives back what others left, all the same.
        if !std::mem::replace(&mut state.cleared, true) {
            problems.extend(self.clear().await);
        }
        problems
    }

    async fn give_back(&self, id: Option<&str>) -> Result<(), Problem> {
        self.lessor.revoke(id).await?;
        if let (Some(loans), Some(id)) = (&self.loans, id) {
            loans.settle(&self.lessor.origin().to_string(), id);
        }
        Ok(())
    }

    /// Gives back what others could not.
    async fn clear(&self) -> Option<Problem> {
        let loans = self.loans.as_ref()?;
        let origin = self.lessor.origin();
        let mut count = 0;
        for id in loans.left_behind(&origin.to_string()) {
            match self.give_back(Some(&id)).await {
                Ok(()) => count += 1,
                // Most likely it has expired. If not, the next one tries again.
                Err(error) => tracing::debug!(%error, "a lease of an earlier run stays"),
            }
        }
        (count > 0).then_some(Problem::GivenBack { origin, count })
    }
}

impl Source for Leased {
    fn lookup<'a>(&'a self, host: &'a RegistryHost) -> BoxFuture<'a, Lookup> {
        Box::pin(async move {
            if !self.hosts.contains(host) {
                return Lookup::default();
            }
            // In a task of its own: a lookup that is dropped on the way must not lose a lease that
            // has been granted.
            let desk = self.desk.clone();
            let Ok((secret, problems, good_for)) =
                tokio::spawn(async move { desk.lend().await }).await
            else {
                return Lookup::default();
            };
            let credentials = secret.map(|secret| Credentials {
                username: self.username.clone(),
                secret,
                kind: Kind::Password,
                origin: self.desk.lessor.origin(),
            });
            let problems = problems.into_iter().filter(|_| !self.quiet).map(Arc::new).collect();
            Lookup { credentials, problems, good_for }
        })
    }

    fn release(&self) -> BoxFuture<'_, Vec<Arc<Problem>>> {
        let desk = self.desk.clone();
        Box::pin(async move {
            let closing = tokio::spawn(async move { desk.close().await });
            match tokio::time::timeout(self.release_limit, closing).await {
                Ok(Ok(problems)) => problems.into_iter().map(Arc::new).collect(),
                Ok(Err(_)) | Err(_) => {
                    vec![Arc::new(Problem::Kept { origin: self.desk.lessor.origin() })]
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Lease, Leased, Lessor, Loans};
    use crate::credential::{
        Chain, CommandError, Given, Origin, Problem, RegistryHost, Secret, Source as _,
    };
    use futures::future::BoxFuture;
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    /// Lends numbered secrets and writes down what it is asked.
    #[derive(Clone, Debug, Default)]
    struct Office {
        told: Arc<Mutex<Vec<String>>>,
        life: Option<Duration>,
        pause: Duration,
        fails: bool,
    }

    impl Office {
        fn told(&self) -> String {
            self.told.lock().unwrap().join(" ")
        }
    }

    impl Lessor for Office {
        fn lease(&self) -> BoxFuture<'_, Result<Lease, Problem>> {
            Box::pin(async {
                tokio::time::sleep(self.pause).await;
                if self.fails {
                    let program = "lend".to_owned();
                    return Err(Problem::Command(CommandError::Missing { program }));
                }
                let mut told = self.told.lock().unwrap();
                let number = told.iter().filter(|words| words.starts_with("lend")).count() + 1;
                told.push(format!("lend-{number}"));
                Ok(Lease {
                    value: Secret::new(format!("pw-{number}")),
                    id: Some(number.to_string()),
                    expires_in: self.life,
                })
            })
        }

        fn revoke<'a>(&'a self, id: Option<&'a str>) -> BoxFuture<'a, Result<(), Problem>> {
            self.told.lock().unwrap().push(format!("revoke-{}", id.unwrap_or("?")));
            Box::pin(async { Ok(()) })
        }

        fn origin(&self) -> Origin {
            Origin::Lease { name: "pat".to_owned() }
        }
    }

    fn host() -> RegistryHost {
        RegistryHost::new("ghcr.io")
    }

    fn chain(office: &Office) -> Chain {
        Chain::new().with(Leased::new(vec![host()], "joe", office.clone()))
    }

    #[tokio::test]
    async fn one_lease_serves_many_lookups_and_is_given_back_once() {
        let office = Office::default();
        let chain = chain(&office);
        for _ in 0..3 {
            let found = chain.lookup(&host()).await.credentials.unwrap();
            assert_eq!((found.username.as_str(), found.secret.expose()), ("joe", &b"pw-1"[..]));
        }
        assert!(chain.lookup(&RegistryHost::new("quay.io")).await.credentials.is_none());
        for _ in 0..2 {
            assert!(chain.release().await.is_empty());
        }
        assert_eq!(office.told(), "lend-1 revoke-1");
        assert!(chain.lookup(&host()).await.credentials.is_none(), "nothing is lent any more");
        assert_eq!(office.told(), "lend-1 revoke-1");
    }

    #[tokio::test]
    async fn what_was_never_needed_is_neither_lent_nor_given_back() {
        let office = Office::default();
        assert!(chain(&office).release().await.is_empty());
        assert_eq!(office.told(), "");
    }

    #[tokio::test]
    async fn a_lease_is_renewed_when_it_is_used_up_and_the_user_hears_of_it() {
        let office = Office { life: Some(Duration::from_hours(1)), ..Office::default() };
        let long = chain(&office);
        for _ in 0..2 {
            let lookup = long.lookup(&host()).await;
            assert_eq!(lookup.credentials.unwrap().secret.expose(), b"pw-1");
            assert!(lookup.problems.is_empty());
        }

        // One that has ended already when it comes.
        let office = Office { life: Some(Duration::ZERO), ..Office::default() };
        let short = chain(&office);
        assert!(short.lookup(&host()).await.problems.is_empty());
        let renewed = short.lookup(&host()).await;
        assert_eq!(renewed.credentials.unwrap().secret.expose(), b"pw-2");
        assert_eq!(
            renewed.problems[0].to_string(),
            "the lease `pat` was lent for 0 s only, and had to be renewed"
        );
        short.release().await;
        assert_eq!(office.told(), "lend-1 lend-2 revoke-1 revoke-2");
    }

    /// What is noted, as `lessor id`; some of it by others.
    #[derive(Debug, Default)]
    struct Notebook {
        ours: Mutex<Vec<String>>,
        theirs: Mutex<Vec<&'static str>>,
    }

    impl Loans for Notebook {
        fn note(&self, lessor: &str, id: &str) {
            self.ours.lock().unwrap().push(format!("{lessor} {id}"));
        }

        fn settle(&self, lessor: &str, id: &str) {
            self.ours.lock().unwrap().retain(|one| *one != format!("{lessor} {id}"));
            self.theirs.lock().unwrap().retain(|one| *one != id);
        }

        fn left_behind(&self, lessor: &str) -> Vec<String> {
            assert_eq!(lessor, "the lease `pat`");
            self.theirs.lock().unwrap().iter().map(|id| (*id).to_owned()).collect()
        }
    }

    #[tokio::test]
    async fn what_a_killed_run_was_lent_is_given_back_by_the_next() {
        let office = Office::default();
        let notebook = Arc::new(Notebook::default());
        notebook.theirs.lock().unwrap().extend(["8", "9"]);
        let leased = Leased::new(vec![host()], "joe", office.clone()).noting(notebook.clone());
        let lookup = leased.lookup(&host()).await;
        assert_eq!(
            lookup.problems[0].to_string(),
            "2 of the lease `pat` that an earlier run left behind were given back"
        );
        assert!(!lookup.problems[0].is_loss());
        assert!(leased.lookup(&host()).await.problems.is_empty());
        assert_eq!(office.told(), "lend-1 revoke-8 revoke-9");
        assert_eq!(*notebook.ours.lock().unwrap(), ["the lease `pat` 1"]);
        leased.release().await;
        assert!(notebook.ours.lock().unwrap().is_empty());
        assert!(notebook.theirs.lock().unwrap().is_empty());

        // Also by one that needed nothing.
        notebook.theirs.lock().unwrap().push("7");
        let idle = Leased::new(vec![host()], "joe", office.clone()).noting(notebook.clone());
        assert!(matches!(*idle.release().await[0], Problem::GivenBack { count: 1, .. }));
        assert!(office.told().ends_with("revoke-7"), "{}", office.told());
    }

    /// A build that is interrupted drops its lookups; what is granted afterwards must not be lost.
    #[tokio::test]
    async fn a_lease_whose_asker_is_gone_is_given_back_too() {
        let office = Office { pause: Duration::from_millis(500), ..Office::default() };
        let chain = chain(&office);
        let lookup = tokio::time::timeout(Duration::from_millis(50), chain.lookup(&host())).await;
        assert!(lookup.is_err());
        chain.release().await;
        assert_eq!(office.told(), "lend-1 revoke-1");
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_ever() {
        let office = Office { pause: Duration::from_hours(1), ..Office::default() };
        let mut leased = Leased::new(vec![host()], "joe", office);
        leased.release_limit = Duration::from_millis(50);
        drop(tokio::time::timeout(Duration::from_millis(50), leased.lookup(&host())).await);
        let problems = leased.release().await;
        assert!(matches!(*problems[0], Problem::Kept { .. }), "{problems:?}");
    }

    #[tokio::test]
    async fn one_that_lends_nothing_is_told_and_the_next_source_is_asked() {
        let office = Office { fails: true, ..Office::default() };
        let next = Given::new(vec![host()], "next", Secret::new("pw"), "VAR");
        let lookup = chain(&office).with(next).lookup(&host()).await;
        assert_eq!(lookup.credentials.unwrap().username, "next");
        assert!(lookup.problems[0].hint().contains("install `lend`"));
        let quiet = Leased::new(vec![host()], "joe", office).quiet();
        assert!(quiet.lookup(&host()).await.problems.is_empty());
    }
}
