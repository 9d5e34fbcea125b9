//! What is known of a workload and of what belongs to it, kept up to date by watches. Pure data.

mod note;
mod pod;
mod revision;

pub use note::Note;
pub use pod::{Container, Ended, Pod, Role, State, digest_of};
pub use revision::{Revision, template_digest};

use super::workload::{Kind, Workload, containers};
use serde_json::Value;
use std::{cmp::Reverse, collections::BTreeMap};

/// What is known of a workload and of what belongs to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The workload; none before it is seen and after it is deleted.
    pub workload: Option<Workload>,
    /// Its revisions, by uid.
    pub revisions: BTreeMap<String, Revision>,
    /// Pods that its selector matches, by uid.
    pub pods: BTreeMap<String, Pod>,
    /// What was said of any of them, by the event's uid.
    pub notes: BTreeMap<String, Note>,
}

/// The revision that a workload goes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target<'o> {
    /// The ReplicaSet or ControllerRevision, where it is seen.
    pub revision: Option<&'o Revision>,
    mark: Mark,
}

/// How the pods of a revision are known.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Mark {
    /// By the uid of their controller.
    Owner(String),
    /// By the uid of their controller and a label.
    Labelled(String, String),
}

impl Observed {
    /// The revision of the workload's template as it stands, where its controller has made one. It
    /// holds only where the controller has seen the template: see
    /// [`super::status::is_observed`].
    pub fn target(&self) -> Option<Target<'_>> {
        let workload = self.workload.as_ref()?;
        let uid = workload.uid.as_str();
        let own =
            || self.revisions.values().filter(|revision| revision.owner.as_deref() == Some(uid));
        match workload.name.kind {
            Kind::CronJob | Kind::Job => None,
            Kind::Deployment => {
                let template = template_digest(&workload.template);
                // Where several fit, the controller takes the oldest.
                let same = own()
                    .filter(|revision| revision.template == template)
                    .min_by(|a, b| (&a.created, &a.name).cmp(&(&b.created, &b.name)));
                // Where a newer API server fills a template in, the controller's number tells.
                let number = workload.revision.as_ref().and_then(|text| text.parse().ok());
                let revision = same.or_else(|| {
                    own().find(|revision| {
                        Some(revision.number) == number && carries(revision, workload)
                    })
                })?;
                Some(Target { revision: Some(revision), mark: Mark::Owner(revision.uid.clone()) })
            }
            Kind::StatefulSet => {
                let name = workload.update_revision.as_ref()?;
                let revision = own().find(|revision| &revision.name == name);
                Some(Target { revision, mark: Mark::Labelled(uid.to_owned(), name.clone()) })
            }
            Kind::DaemonSet => {
                // The newest that is seen may be the one before, where its watch lags behind.
                let revision = own()
                    .filter(|revision| carries(revision, workload))
                    .max_by_key(|revision| revision.number)?;
                let hash = revision.hash.clone()?;
                let mark = Mark::Labelled(uid.to_owned(), hash);
                Some(Target { revision: Some(revision), mark })
            }
        }
    }

    /// The pods of `target`.
    pub fn pods_of<'o>(&'o self, target: &Target<'_>) -> impl Iterator<Item = &'o Pod> + use<'o> {
        let mark = target.mark.clone();
        self.pods.values().filter(move |pod| match &mark {
            Mark::Owner(uid) => pod.owner.as_ref() == Some(uid),
            Mark::Labelled(uid, label) => {
                pod.owner.as_ref() == Some(uid) && pod.revision.as_ref() == Some(label)
            }
        })
    }

    /// The workload's pods, of whatever revision.
    pub fn own_pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().filter(|pod| {
            let Some(owner) = &pod.owner else { return false };
            let is_workload = self.workload.as_ref().is_some_and(|workload| &workload.uid == owner);
            is_workload || self.revisions.contains_key(owner)
        })
    }

    /// What was said of the object `uid`, the last first.
    pub fn notes_of<'o>(&'o self, uid: &str) -> Vec<&'o Note> {
        let mut notes: Vec<&Note> =
            self.notes.values().filter(|note| note.object_uid == uid).collect();
        notes.sort_by_key(|note| Reverse(note.last));
        notes
    }
}

/// Whether a revision has the images of the workload's template.
fn carries(revision: &Revision, workload: &Workload) -> bool {
    containers(&workload.template).all(|(_, container)| {
        let name = container.get("name").and_then(Value::as_str);
        name.is_some_and(|name| revision.image(name) == workload.image(name))
    })
}
