//! The part of a deploy that happens in a cluster: looking, rolling out, checking, going back.

use super::Outcome;
use crate::{
    cluster::{AccessSettings, Cluster},
    diagnostic::{Diagnostic, Exit},
    event::Events,
    image::reference::Reference,
    pipeline::{
        self, Error,
        rollout::{RolloutFailure, RolloutInputs, Waiting, WorkloadStatus},
        verify::{Checks, VerifyInputs},
    },
    plan::{RolloutPlan, SyncPlan},
    record::{self, CheckRecord, ImageRecord, PodRecord, Receipt, ReplicaSetRecord, RolloutRecord},
    rollout::{
        OnFailure, PinnedImage, Provenance, Request, RolloutReport, WorkloadName,
        api::resource,
        preflight::{Doubt, missing_rights},
        report::{Outcome as Ended, PodReport, RevisionReport},
        request::PlatformManifest,
        rights::calls_of_checks,
    },
    verify::{
        inngest::checks::{Expected, InngestCheck, Sync},
        pods::Pods,
        report::{Check, CheckedPod, VerifyReport},
    },
};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What stands for an image that is not built yet. It is never sent anywhere but in a dry run.
const NO_DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// What decides where and how images run.
#[derive(Clone, Debug, Default)]
pub struct ClusterParts {
    /// Which cluster, and as whom.
    pub access: AccessSettings,
    /// Who holds the lock, for those who find it taken.
    pub holder: String,
    /// How long another deploy's lock is waited for.
    pub lock_wait: Duration,
    /// Whether another deploy's lock is taken away.
    pub lock_takeover: bool,
    /// What is checked after the rollout.
    pub checks: Checks,
}

/// The workload of one deploy.
#[derive(Debug)]
pub(in crate::pipeline) struct Target<'a> {
    plan: &'a SyncPlan,
    rollout: &'a RolloutPlan,
    parts: ClusterParts,
    events: Events,
    cluster: Option<Cluster>,
    /// The pods that carry the image, as they were last seen.
    pods: Vec<CheckedPod>,
    /// What a build is for that names no platform.
    native: Option<String>,
}

impl<'a> Target<'a> {
    /// The workload that `plan` names; none where it names none.
    pub(in crate::pipeline) fn new(
        plan: &'a SyncPlan,
        parts: ClusterParts,
        events: Events,
    ) -> Option<Self> {
        let rollout = plan.rollout.as_ref()?;
        Some(Self { plan, rollout, parts, events, cluster: None, pods: Vec::new(), native: None })
    }

    async fn inputs(&mut self, cancel: &CancellationToken) -> Outcome<RolloutInputs> {
        let cluster = if let Some(cluster) = &self.cluster {
            cluster.clone()
        } else {
            let connected = tokio::select! {
                connected = Cluster::connect(&self.parts.access) => connected,
                () = cancel.cancelled() => return Err(Box::new(Error::Interrupted.into())),
            };
            let cluster = connected
                .map_err(|error| Box::new(Diagnostic::from(RolloutFailure::Access(error))))?;
            self.cluster.insert(cluster).clone()
        };
        Ok(RolloutInputs {
            cluster,
            holder: self.parts.holder.clone(),
            events: self.events.clone(),
            cancel: cancel.clone(),
            // What a deploy rolls out it has built.
            registry: None,
        })
    }

    fn name(&self) -> Outcome<WorkloadName> {
        let text = format!("{}/{}", self.rollout.kind, self.rollout.name);
        text.parse().map_err(|error: crate::rollout::workload::NameError| {
            Box::new(
                Diagnostic::new("CONFIG_INVALID", Exit::Usage, error.to_string())
                    .with_fix("write `deployment/NAME` as `rollout.workload`"),
            )
        })
    }

    /// What is asked of the cluster. Before the build there is no digest, and only platforms.
    fn request(&self, image: Option<&ImageRecord>) -> Outcome<Request> {
        let tag = self.plan.build.tags.first().cloned().unwrap_or_default();
        let named = Reference::parse(&tag);
        let repository = named.as_ref().map(Reference::name).unwrap_or_default();
        let pinned = match image {
            Some(image) => {
                let mut pinned = PinnedImage::parse(&image.reference).map_err(|error| {
                    Box::new(Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))
                })?;
                pinned.manifests = image
                    .manifests
                    .iter()
                    .filter_map(|one| {
                        Some(PlatformManifest {
                            platform: one.platform.clone()?,
                            digest: one.digest.clone(),
                        })
                    })
                    .collect();
                pinned
            }
            None => PinnedImage {
                repository,
                digest: NO_DIGEST.to_owned(),
                tag: None,
                manifests: self
                    .platforms()
                    .map(|platform| PlatformManifest {
                        platform: platform.clone(),
                        digest: NO_DIGEST.to_owned(),
                    })
                    .collect(),
            },
        };
        let mut request = Request::new(vec![self.name()?], pinned);
        request.container.clone_from(&self.rollout.container);
        request.timeout = Duration::from_secs(self.rollout.timeout_seconds);
        request.on_failure =
            if self.rollout.rollback_on_failure { OnFailure::Rollback } else { OnFailure::Keep };
        request.lock_wait = self.parts.lock_wait;
        request.lock_takeover = self.parts.lock_takeover;
        request.provenance = Provenance {
            commit: self.plan.git.as_ref().map(|git| git.commit.clone()),
            tag: named.ok().and_then(|named| named.tag().map(str::to_owned)),
        };
        Ok(request)
    }

    /// What the image will be for, as far as it is known before the build.
    fn platforms(&self) -> impl Iterator<Item = &String> {
        let named = &self.plan.build.platforms;
        named.iter().chain(self.native.iter().filter(|_| named.is_empty()))
    }

    /// Says what a build is for that names no platform: the builder's own.
    pub(in crate::pipeline) fn note_native(&mut self, platform: Option<String>) {
        self.native = platform;
    }

    /// The cluster, reached.
    pub(in crate::pipeline) async fn cluster(
        &mut self,
        cancel: &CancellationToken,
    ) -> Outcome<Cluster> {
        Ok(self.inputs(cancel).await?.cluster)
    }

    /// What speaks for and against a rollout, before there is an image.
    pub(in crate::pipeline) async fn look(
        &mut self,
        cancel: &CancellationToken,
    ) -> Outcome<Result<Vec<Doubt>, RolloutFailure>> {
        let inputs = self.inputs(cancel).await?;
        let request = self.request(None)?;
        let checked = pipeline::rollout::preflight(&request, &inputs).await;
        Ok(checked.map(|all| all.into_iter().flat_map(|one| one.doubts).collect()))
    }

    /// What runs now.
    pub(in crate::pipeline) async fn status(
        &mut self,
        cancel: &CancellationToken,
    ) -> Outcome<Option<WorkloadStatus>> {
        let inputs = self.inputs(cancel).await?;
        let name = self.name()?;
        let report = pipeline::rollout::status(Some(&name), &inputs)
            .await
            .map_err(|failure| Box::new(Diagnostic::from(failure)))?;
        Ok(report.workloads.into_iter().next())
    }

    /// Looks whether the rollout can come about, before there is an image.
    pub(super) async fn preflight(&mut self, cancel: &CancellationToken) -> Outcome<()> {
        self.look(cancel).await?.map(drop).map_err(|failure| Box::new(failure.into()))
    }

    /// Looks whether the checks may ask the new pods what they will.
    pub(in crate::pipeline) async fn check_rights(
        &mut self,
        cancel: &CancellationToken,
    ) -> Outcome<()> {
        let checks = &self.parts.checks;
        let mut verbs = Vec::new();
        let asks_worker = |check: &InngestCheck| matches!(check.expected, Expected::Worker { .. });
        if !checks.http.is_empty() || checks.inngest.as_ref().is_some_and(asks_worker) {
            verbs.push("get");
        }
        let registers = |check: &InngestCheck| matches!(check.sync, Sync::Worker { .. });
        if checks.inngest.as_ref().is_some_and(registers) {
            verbs.push("update");
        }
        let calls = calls_of_checks(&verbs, !checks.exec.is_empty());
        if calls.is_empty() {
            return Ok(());
        }
        let cluster = self.cluster(cancel).await?;
        let missing = tokio::select! {
            missing = missing_rights(&cluster, &calls) => missing,
            () = cancel.cancelled() => return Err(Box::new(Error::Interrupted.into())),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the checks of `[verify]` may not {} in the namespace `{}`",
            missing.join(", "),
            cluster.namespace
        );
        Err(Diagnostic::new("RIGHTS_MISSING", Exit::Preflight, message)
            .with_fix("add them to the Role of this account, or leave these checks out")
            .into())
    }

    /// The check of an Inngest server, where there is one.
    pub(super) fn inngest(&self) -> Option<&InngestCheck> {
        self.parts.checks.inngest.as_ref()
    }

    /// Whether the image runs already, whole and ready.
    pub(super) async fn is_current(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> Outcome<bool> {
        let cluster = self.cluster(cancel).await?;
        let Some(status) = self.status(cancel).await? else { return Ok(false) };
        let digest = receipt.image.as_ref().map(|image| image.digest.as_str());
        let is_current = status.settled && digest.is_some() && status.digest.as_deref() == digest;
        if is_current {
            self.pods = checked(&status.pods);
            receipt.rollout = Some(self.seen(&cluster, &status, receipt));
        }
        Ok(is_current)
    }

    fn seen(&self, cluster: &Cluster, status: &WorkloadStatus, receipt: &Receipt) -> RolloutRecord {
        let before = receipt.rollout.as_ref().and_then(|before| before.previous_image.clone());
        RolloutRecord {
            context: cluster.context.clone(),
            namespace: cluster.namespace.clone(),
            workload: status.workload.to_string(),
            container: self.rollout.container.clone().unwrap_or_default(),
            previous_image: before,
            changed: false,
            replica_set: status.revision.as_ref().map(revision),
            pods: status.pods.iter().map(pod).collect(),
        }
    }

    /// Gives the workload the image, and waits for it.
    pub(super) async fn rollout(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> Outcome<()> {
        let inputs = self.inputs(cancel).await?;
        let request = self.request(receipt.image.as_ref())?;
        match pipeline::rollout::rollout(&request, inputs).await {
            Ok(report) => {
                self.note(&report, receipt);
                Ok(())
            }
            Err(failure) => {
                let (RolloutFailure::Failed(report) | RolloutFailure::Interrupted(Some(report))) =
                    &failure
                else {
                    return Err(Box::new(failure.into()));
                };
                self.note(report, receipt);
                let back = report.workloads.first().and_then(|one| one.rollback.as_ref());
                receipt.rolled_back = back
                    .map(|back| back.outcome == crate::rollout::report::RollbackOutcome::Verified);
                Err(Box::new(failure.into()))
            }
        }
    }

    fn note(&mut self, report: &RolloutReport, receipt: &mut Receipt) {
        let Some(one) = report.workloads.first() else { return };
        self.pods = checked(&one.pods);
        receipt.rollout = Some(RolloutRecord {
            context: report.context.clone(),
            namespace: one.namespace.clone(),
            workload: one.workload.to_string(),
            container: one.containers.join(","),
            previous_image: one.previous_image.clone(),
            changed: one.outcome != Ended::Unchanged,
            replica_set: one.revision.as_ref().map(revision),
            pods: one.pods.iter().map(pod).collect(),
        });
    }

    /// Checks the pods that carry the image.
    pub(super) async fn verify(
        &mut self,
        receipt: &mut Receipt,
        cancel: &CancellationToken,
    ) -> Outcome<()> {
        let cluster = self.cluster(cancel).await?;
        let inputs = VerifyInputs {
            pods: Pods::new(cluster.client.clone(), cluster.namespace.clone()),
            new: self.pods.clone(),
            events: self.events.clone(),
            cancel: cancel.clone(),
        };
        let report = pipeline::verify::verify(&self.parts.checks, inputs).await;
        let report = report.map_err(|_| Box::new(Diagnostic::from(Error::Interrupted)))?;
        receipt.checks = report.checks.iter().map(check).collect();
        if report.ok() { Ok(()) } else { Err(failed(&report)) }
    }

    /// Brings back the image that ran before.
    pub(super) async fn roll_back(&mut self, cancel: &CancellationToken) -> Outcome<()> {
        let inputs = self.inputs(cancel).await?;
        let waiting = Waiting {
            timeout: Duration::from_secs(self.rollout.timeout_seconds),
            settle: None,
            lock_wait: self.parts.lock_wait,
            lock_takeover: self.parts.lock_takeover,
        };
        let name = self.name()?;
        let back = pipeline::rollout::rollback(&name, &waiting, inputs).await;
        back.map(drop).map_err(|failure| Box::new(failure.into()))
    }

    /// Writes the receipt's facts beside the workload: not into its template, so that no pod is
    /// started anew.
    pub(super) async fn annotate(
        &mut self,
        receipt: &Receipt,
        cancel: &CancellationToken,
    ) -> Result<(), String> {
        let inputs = self.inputs(cancel).await.map_err(|error| error.message)?;
        let name = self.name().map_err(|error| error.message)?;
        let cluster = inputs.cluster;
        let api: Api<DynamicObject> =
            Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource(name.kind));
        let change = json!({ "metadata": { "annotations": record::annotations(receipt) } });
        let parameters =
            PatchParams { field_manager: Some("bk-sync".to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(&change);
        tokio::select! {
            done = api.patch_metadata(&name.name, &parameters, &patch) => {
                done.map(drop).map_err(|error| format!("{name} could not be annotated: {error}"))
            }
            () = cancel.cancelled() => Err("interrupted before the workload was annotated".to_owned()),
        }
    }
}

fn checked(pods: &[PodReport]) -> Vec<CheckedPod> {
    pods.iter().map(|pod| CheckedPod { name: pod.name.clone(), uid: pod.uid.clone() }).collect()
}

fn check(check: &Check) -> CheckRecord {
    let findings: Vec<&str> =
        check.findings.iter().map(|finding| finding.message.as_str()).collect();
    CheckRecord {
        name: format!("{} {}", check.kind, check.subject),
        ok: check.ok,
        finding: findings.join("; "),
        ms: check.duration_ms,
    }
}

/// The first finding that failed, with the others beside it.
fn failed(report: &VerifyReport) -> Box<Diagnostic> {
    let mut failures = report.failures();
    let Some((check, first)) = failures.next() else {
        let message = "a check failed and found nothing";
        return Diagnostic::new("INTERNAL", Exit::Internal, message).into();
    };
    let message = format!("{} {}: {}", check.kind, check.subject, first.message);
    let mut diagnostic = Diagnostic::new(first.code, Exit::Verify, message);
    diagnostic.fix.clone_from(&first.fix);
    for (check, more) in failures {
        diagnostic =
            diagnostic.with_note(format!("{} {}: {}", check.kind, check.subject, more.message));
    }
    let checks = serde_json::to_value(&report.checks).unwrap_or_default();
    diagnostic.with_detail("checks", checks).into()
}

fn pod(pod: &PodReport) -> PodRecord {
    PodRecord { name: pod.name.clone(), uid: pod.uid.clone(), node: pod.node.clone() }
}

fn revision(revision: &RevisionReport) -> ReplicaSetRecord {
    ReplicaSetRecord { name: revision.name.clone(), uid: revision.uid.clone() }
}
