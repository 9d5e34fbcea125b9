//! One deploy at a time for each workload: a Lease in its namespace that names who holds it.
//!
//! The holder renews it while it works and lets go of it in every ending. A holder that was killed
//! renews no more, and the Lease is anybody's once its time is up. Clocks of two machines are not
//! compared where it matters: what looks expired is watched for a while before it is taken.

use super::{api::ApiError, workload::WorkloadName};
use crate::cluster::Cluster;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

/// For how long a Lease holds that is not renewed.
pub const TTL: Duration = Duration::from_secs(30);
/// How often it is renewed.
const RENEWAL: Duration = Duration::from_secs(7);
/// How long a Lease that looks expired is watched: a holder that lives renews it meanwhile.
const DOUBT: Duration = Duration::from_secs(9);
/// A Lease that was not renewed for this long is nobody's by any clock.
const LONG_DEAD: Duration = Duration::from_mins(5);
/// How often a Lease that another holds is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long letting go may take: a Lease that is kept runs out by itself.
const RELEASE: Duration = Duration::from_secs(5);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The API server does not let us.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Whoever asked for it wants it no more.
    #[error("interrupted")]
    Cancelled,
    /// Another deploy holds it.
    #[error("{workload} is locked by {holder}")]
    Held {
        /// The workload.
        workload: WorkloadName,
        /// Who holds it.
        holder: String,
        /// Since when, as the API says it.
        since: Option<String>,
        /// When the holder last renewed it.
        renewed: Option<String>,
    },
}

/// A lock that we hold.
pub struct Lock {
    leases: Api<Lease>,
    name: String,
    holder: String,
    keeper: JoinHandle<()>,
    stop: CancellationToken,
    lost: CancellationToken,
}

impl fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lock").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a lock is asked for.
#[derive(Clone, Debug)]
pub struct Wish<'w> {
    /// The workload.
    pub workload: &'w WorkloadName,
    /// Who asks.
    pub holder: &'w str,
    /// How long another's lock is waited for.
    pub wait: Duration,
    /// Whether another's lock is taken away.
    pub takeover: bool,
}

impl Lock {
    /// Takes the lock of a workload.
    ///
    /// # Errors
    /// [`LockError`].
    pub async fn take(
        cluster: &Cluster,
        wish: &Wish<'_>,
        cancel: &CancellationToken,
    ) -> Result<Self, LockError> {
        let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let name = lease_name(wish.workload);
        let deadline = Instant::now() + wish.wait;
        let mut doubted: Option<(Option<Timestamp>, Instant)> = None;
        loop {
            let found = leases
                .get_opt(&name)
                .await
                .map_err(|source| ApiError::new(format!("cannot read lease/{name}"), source))?;
            let renewed = found.as_ref().and_then(renewal);
            let free = match found.as_ref().map(|lease| standing(lease, Timestamp::now())) {
                None | Some(Standing::Free | Standing::LongDead) => true,
                _ if wish.takeover => true,
                Some(Standing::Held) => {
                    doubted = None;
                    false
                }
                Some(Standing::Doubtful) => {
                    let (seen, since) = *doubted.get_or_insert((renewed, Instant::now()));
                    if seen != renewed {
                        doubted = None;
                    }
                    doubted.is_some() && since.elapsed() >= DOUBT
                }
            };
            if free {
                match hold(&leases, &name, found, wish.holder).await {
                    Ok(lease) => return Ok(Self::keep(leases, name, wish.holder, lease)),
                    // Somebody was faster.
                    Err(kube::Error::Api(status)) if status.code == 409 => continue,
                    Err(source) => {
                        let action = format!("cannot take lease/{name}");
                        return Err(ApiError::new(action, source).into());
                    }
                }
            }
            // A Lease that looks expired is worth the doubt even where no wait is asked for.
            if doubted.is_none() && Instant::now() >= deadline {
                return Err(held(wish.workload, found.as_ref()));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = cancel.cancelled() => return Err(LockError::Cancelled),
            }
        }
    }

    fn keep(leases: Api<Lease>, name: String, holder: &str, lease: Lease) -> Self {
        let (stop, lost) = (CancellationToken::new(), CancellationToken::new());
        let keeper = tokio::spawn(renew(
            leases.clone(),
            name.clone(),
            holder.to_owned(),
            lease,
            stop.clone(),
            lost.clone(),
        ));
        Self { leases, name, holder: holder.to_owned(), keeper, stop, lost }
    }

    /// Cancelled when another takes it from us, or when it ran out because it could not be renewed.
    pub fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    /// Lets go of it. What goes wrong goes wrong in silence: it runs out by itself.
    pub async fn release(self) {
        self.stop.cancel();
        let release = async {
            if let Err(error) = self.keeper.await {
                tracing::debug!(%error, "the lock's keeper ended badly");
            }
            let Ok(mut lease) = self.leases.get(&self.name).await else { return };
            if holder(&lease) != Some(self.holder.as_str()) {
                return;
            }
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
                spec.renew_time = None;
                spec.acquire_time = None;
            }
            if let Err(error) =
                self.leases.replace(&self.name, &PostParams::default(), &lease).await
            {
                tracing::debug!(%error, "the lock could not be let go of");
            }
        };
        if tokio::time::timeout(RELEASE, release).await.is_err() {
            tracing::debug!("the lock could not be let go of in time");
        }
    }
}

/// What a Lease is to who wants it.
#[derive(Debug, Eq, PartialEq)]
enum Standing {
    /// Its time is up by our clock.
    Doubtful,
    /// Nobody holds it.
    Free,
    /// Somebody does.
    Held,
    /// Its time is up by any clock.
    LongDead,
}

fn standing(lease: &Lease, now: Timestamp) -> Standing {
    if holder(lease).is_none() {
        return Standing::Free;
    }
    let Some(renewed) = renewal(lease) else { return Standing::Free };
    let spec = lease.spec.as_ref();
    let ttl = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .map_or(TTL.as_secs(), |seconds| u64::try_from(seconds).unwrap_or_default());
    let age = now.duration_since(renewed);
    let seconds =
        |seconds: u64| SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    if age > seconds(ttl.max(LONG_DEAD.as_secs())) {
        Standing::LongDead
    } else if age > seconds(ttl) {
        Standing::Doubtful
    } else {
        Standing::Held
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn renewal(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    spec.renew_time.as_ref().or(spec.acquire_time.as_ref()).map(|time| time.0)
}

fn held(workload: &WorkloadName, lease: Option<&Lease>) -> LockError {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let time = |time: Option<&MicroTime>| time.map(|time| time.0.to_string());
    LockError::Held {
        workload: workload.clone(),
        holder: lease.and_then(holder).unwrap_or("another deploy").to_owned(),
        since: time(spec.and_then(|spec| spec.acquire_time.as_ref())),
        renewed: time(spec.and_then(|spec| spec.renew_time.as_ref())),
    }
}

/// Writes us into the Lease. The version of the Lease that was read holds: of two who do this at the
/// same time, one gets a conflict.
async fn hold(
    leases: &Api<Lease>,
    name: &str,
    found: Option<Lease>,
    holder: &str,
) -> Result<Lease, kube::Error> {
    let now = MicroTime(Timestamp::now());
    let transitions =
        found.as_ref().and_then(|lease| lease.spec.as_ref()?.lease_transitions).unwrap_or_default();
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_duration_seconds: i32::try_from(TTL.as_secs()).ok(),
        lease_transitions: Some(transitions.saturating_add(1)),
        ..LeaseSpec::default()
    };
    if let Some(mut lease) = found {
        lease.spec = Some(spec);
        return leases.replace(name, &PostParams::default(), &lease).await;
    }
    let labels =
        BTreeMap::from([("app.kubernetes.io/managed-by".to_owned(), "bk-sync".to_owned())]);
    let metadata =
        ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
}

async fn renew(
    leases: Api<Lease>,
    name: String,
    us: String,
    mut lease: Lease,
    stop: CancellationToken,
    lost: CancellationToken,
) {
    let mut renewed = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(RENEWAL) => {}
            () = stop.cancelled() => return,
        }
        if let Some(spec) = &mut lease.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let parameters = PostParams::default();
        let attempt = tokio::select! {
            attempt = leases.replace(&name, &parameters, &lease) => attempt,
            () = stop.cancelled() => return,
        };
        match attempt {
            Ok(newer) => {
                lease = newer;
                renewed = Instant::now();
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                match leases.get_opt(&name).await {
                    Ok(Some(current)) if holder(&current) == Some(us.as_str()) => lease = current,
                    Ok(_) => {
                        lost.cancel();
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "the lock cannot be read"),
                }
            }
            Err(error) => tracing::debug!(%error, "the lock cannot be renewed"),
        }
        if renewed.elapsed() > TTL {
            lost.cancel();
            return;
        }
    }
}

/// The Lease's name. Names of workloads may be as long as those of Leases.
pub fn lease_name(workload: &WorkloadName) -> String {
    let name = format!("bk-sync-{}-{}", workload.kind.word(), workload.name);
    if name.len() <= 253 {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let short = digest.iter().take(8).fold(String::new(), |mut text, byte| {
        let _cannot_fail = write!(text, "{byte:02x}");
        text
    });
    let kept: String = name.chars().take(200).collect();
    format!("{}-{short}", kept.trim_end_matches(['-', '.']))
}

#[cfg(test)]
mod tests {
    use super::{Standing, lease_name, standing};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::{
        api::coordination::v1::{Lease, LeaseSpec},
        apimachinery::pkg::apis::meta::v1::MicroTime,
    };

    #[test]
    fn a_lease_is_free_doubtful_or_held() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let lease = |holder: Option<&str>, age: i64| Lease {
            spec: Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                renew_time: Some(MicroTime(now - SignedDuration::from_secs(age))),
                lease_duration_seconds: Some(30),
                ..LeaseSpec::default()
            }),
            ..Lease::default()
        };
        let table = [
            (lease(None, 1), Standing::Free),
            (lease(Some(""), 1), Standing::Free),
            (lease(Some("ann"), 1), Standing::Held),
            (lease(Some("ann"), -60), Standing::Held),
            (lease(Some("ann"), 31), Standing::Doubtful),
            (lease(Some("ann"), 301), Standing::LongDead),
            (Lease::default(), Standing::Free),
        ];
        for (lease, expected) in table {
            assert_eq!(standing(&lease, now), expected, "{lease:?}");
        }
    }

    #[test]
    fn a_leases_name_is_short_enough() {
        assert_eq!(lease_name(&"deploy/web".parse().unwrap()), "bk-sync-deployment-web");
        let long =
            |end: &str| lease_name(&format!("sts/{}{end}", "a".repeat(250)).parse().unwrap());
        assert!(long("x").len() <= 253);
        assert_ne!(long("x"), long("y"));
    }
}
