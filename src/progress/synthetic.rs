//! Stages and pushes, told as the builder tells of its vertices, so that there is one kind of step.

use crate::event::{
    BuildStatus, Event, PushAction, PushStatus, Stage, Vertex, VertexStatus, Warning,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, time::SystemTime};

/// What the views are told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// A step began, ended, or said something.
    Status(BuildStatus),
    /// Something that is tied to no step.
    Warning(Warning),
    /// A build is over. Another of the same steps may follow.
    Built,
}

/// Remembers when stages and blobs began, which their events do not say.
#[derive(Debug, Default)]
pub(super) struct Synthesizer {
    stages: BTreeMap<Stage, Open>,
    blobs: BTreeMap<String, SystemTime>,
}

/// A stage that has begun. Several builds that run side by side are in the same stage at once: it
/// is one step, from the first begin to the last end.
#[derive(Debug)]
struct Open {
    vertex: Vertex,
    begun: usize,
}

impl Synthesizer {
    /// What an event at `now` tells.
    pub(super) fn tell(&mut self, event: Event, now: SystemTime) -> Option<Told> {
        match event {
            Event::Build(status) => Some(Told::Status(status)),
            Event::Warning(warning) => Some(Told::Warning(warning)),
            Event::StageStarted { stage, subject } => {
                if let Some(open) = self.stages.get_mut(&stage) {
                    open.begun += 1;
                    return None;
                }
                let vertex = Vertex {
                    digest: digest(stage),
                    name: format!("[{}] {subject}", name(stage)),
                    started: Some(now),
                    ..Vertex::default()
                };
                self.stages.insert(stage, Open { vertex: vertex.clone(), begun: 1 });
                shown(stage).then(|| vertices(vertex))
            }
            Event::StageEnded { stage, ok } => {
                let open = self.stages.get_mut(&stage)?;
                open.begun -= 1;
                if !ok {
                    "failed".clone_into(&mut open.vertex.error);
                }
                if open.begun > 0 {
                    return None;
                }
                let mut vertex = self.stages.remove(&stage)?.vertex;
                vertex.completed = Some(now);
                Some(if shown(stage) { vertices(vertex) } else { Told::Built })
            }
            Event::Push(push) => self.push(&push, now),
        }
    }

    fn push(&mut self, push: &PushStatus, now: SystemTime) -> Option<Told> {
        let started = *self.blobs.entry(push.id.clone()).or_insert(now);
        let (word, ended) = match push.action {
            PushAction::Preparing => return None,
            PushAction::Uploading => ("uploading", false),
            PushAction::Uploaded => ("uploading", true),
            PushAction::Existing => ("existing", true),
            PushAction::Mounted => ("mounted", true),
        };
        let status = VertexStatus {
            id: format!("{word} {}", push.id),
            vertex: digest(Stage::Push),
            name: word.to_owned(),
            current: i64::try_from(push.current).unwrap_or(i64::MAX),
            total: push.total.map_or(0, |total| i64::try_from(total).unwrap_or(i64::MAX)),
            timestamp: Some(now),
            started: Some(started),
            completed: ended.then_some(now),
        };
        Some(Told::Status(BuildStatus { statuses: vec![status], ..BuildStatus::default() }))
    }
}

/// The build is what its vertices say of it.
fn shown(stage: Stage) -> bool {
    stage != Stage::Build
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Build => "build",
        Stage::Compile => "compile",
        Stage::Connect => "connect",
        Stage::Push => "push",
        Stage::Sign => "sign",
        Stage::Cache => "cache",
    }
}

fn vertices(vertex: Vertex) -> Told {
    Told::Status(BuildStatus { vertices: vec![vertex], ..BuildStatus::default() })
}

/// A digest that no op has.
fn digest(stage: Stage) -> String {
    use std::fmt::Write as _;
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(format!("bk-sync stage {}", name(stage))) {
        let _cannot_fail = write!(digest, "{byte:02x}");
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::{Synthesizer, Told};
    use crate::event::{Event, PushAction, PushStatus, Stage};
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_stage_of_several_builds_ends_with_the_last_of_them() {
        let mut synthesizer = Synthesizer::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let started =
            |name: &str| Event::StageStarted { stage: Stage::Compile, subject: name.to_owned() };
        let ended = |ok| Event::StageEnded { stage: Stage::Compile, ok };
        assert!(synthesizer.tell(started("Dockerfile"), at(1)).is_some());
        assert_eq!(synthesizer.tell(started("Dockerfile"), at(2)), None);
        assert_eq!(synthesizer.tell(ended(false), at(3)), None);
        let Some(Told::Status(status)) = synthesizer.tell(ended(true), at(4)) else { panic!() };
        let vertex = status.vertices.first().unwrap();
        assert_eq!((vertex.started, vertex.completed), (Some(at(1)), Some(at(4))));
        assert_eq!(vertex.error, "failed");
        assert_eq!(synthesizer.tell(ended(true), at(5)), None, "it has ended");
    }

    #[test]
    fn a_push_is_a_step_with_its_blobs_as_parts() {
        let mut synthesizer = Synthesizer::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let started = Event::StageStarted { stage: Stage::Push, subject: "r/a:1".to_owned() };
        let Some(Told::Status(status)) = synthesizer.tell(started, at(1)) else { panic!() };
        let vertex = status.vertices.first().unwrap().clone();
        assert_eq!((vertex.name.as_str(), vertex.completed), ("[push] r/a:1", None));

        let blob = |action, current| {
            Event::Push(PushStatus { id: "sha256:ab".to_owned(), action, current, total: Some(9) })
        };
        assert_eq!(synthesizer.tell(blob(PushAction::Preparing, 0), at(2)), None);
        let Some(Told::Status(status)) = synthesizer.tell(blob(PushAction::Uploaded, 9), at(4))
        else {
            panic!()
        };
        let part = status.statuses.first().unwrap();
        assert_eq!((part.id.as_str(), part.current), ("uploading sha256:ab", 9));
        assert_eq!((part.started, part.completed), (Some(at(2)), Some(at(4))));
        assert_eq!(part.vertex, vertex.digest);

        let ended = Event::StageEnded { stage: Stage::Push, ok: false };
        let Some(Told::Status(status)) = synthesizer.tell(ended, at(5)) else { panic!() };
        assert_eq!(status.vertices.first().unwrap().error, "failed");
    }
}
