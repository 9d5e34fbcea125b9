//! A receipt as a page for a browser: the steps of its build and its stages on one time line.

use super::{Outcome, Receipt, StageState};
use crate::page::{Page, State, Step};
use jiff::Timestamp;

/// The stage's name beside the rails, for the stages of a deploy. No stage of a Dockerfile has it.
const LANE: &str = "bk-sync deploy";

impl Receipt {
    /// The deploy as a page. `build` is what its build did, step by step, where that was kept.
    pub fn page(&self, build: Option<Page>) -> Page {
        let mut page = build.unwrap_or_default();
        page.title = format!("Deploy of {}", self.project);
        page.ok = match self.outcome {
            Outcome::Done | Outcome::Unchanged => Some(true),
            Outcome::Failed | Outcome::Interrupted => Some(false),
            Outcome::Running => None,
        };
        let of_build = std::mem::take(&mut page.facts);
        page.facts = self.facts();
        page.facts.extend(of_build);
        if let Some(failure) = &self.failure {
            page.diagnosis.push(format!("{}: {}", failure.code, failure.message));
            page.diagnosis.push(format!(
                "The stage `{}` ended the deploy with exit code {}.",
                failure.stage.name(),
                failure.exit_code
            ));
            page.diagnosis.extend(self.rolled_back.map(|back| {
                if back {
                    "The image before it runs again."
                } else {
                    "The image before it did not come back."
                }
                .to_owned()
            }));
        }
        let failed = self.checks.iter().filter(|check| !check.ok);
        page.diagnosis.extend(failed.map(|check| format!("{}: {}", check.name, check.finding)));
        page.layers = self.layers();
        self.add_stages(&mut page);
        page
    }

    fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![
            ("Deploy".to_owned(), self.id.clone()),
            ("Outcome".to_owned(), self.outcome.name().to_owned()),
            ("Began".to_owned(), self.started.clone()),
            ("Reason".to_owned(), self.reason.clone()),
        ];
        facts.extend(self.ended.clone().map(|ended| ("Ended".to_owned(), ended)));
        if let Some(git) = &self.git {
            let dirty = if git.dirty { ", with changes" } else { "" };
            facts.push(("Commit".to_owned(), format!("{}{dirty}", git.commit)));
        }
        if let Some(image) = &self.image {
            facts.push(("Image".to_owned(), image.reference.clone()));
        }
        if let Some(rollout) = &self.rollout {
            let place = format!("{}/{}", rollout.namespace, rollout.workload);
            facts.push(("Workload".to_owned(), place));
            let before = rollout.previous_image.clone();
            facts.extend(before.map(|image| ("Image before".to_owned(), image)));
            if !rollout.pods.is_empty() {
                let pods: Vec<&str> = rollout.pods.iter().map(|pod| pod.name.as_str()).collect();
                facts.push(("Pods".to_owned(), pods.join(", ")));
            }
        }
        facts.retain(|(_, value)| !value.is_empty());
        facts
    }

    fn layers(&self) -> Vec<(String, u64)> {
        let manifests = self.image.as_ref().map_or(&[][..], |image| &image.manifests);
        let layers = manifests.iter().flat_map(|manifest| {
            let platform = manifest.platform.as_deref().filter(|_| manifests.len() > 1);
            manifest.layers.iter().map(move |layer| match platform {
                Some(platform) => (format!("{platform} {}", layer.digest), layer.size),
                None => (layer.digest.clone(), layer.size),
            })
        });
        layers.collect()
    }

    /// Puts the stages below the steps, and the steps where their stage was.
    fn add_stages(&self, page: &mut Page) {
        let began = |text: &str| -> Option<u64> {
            let first = self.started.parse::<Timestamp>().ok()?;
            let since = text.parse::<Timestamp>().ok()?.as_millisecond() - first.as_millisecond();
            Some(u64::try_from(since).unwrap_or_default())
        };
        let mut stages: Vec<_> = self.stages.iter().collect();
        stages.sort_by_key(|(name, stage)| (began(&stage.started), **name));
        let built = stages.iter().find(|(name, _)| name.name() == "build");
        let offset = built.and_then(|(_, stage)| began(&stage.started)).unwrap_or_default();
        for step in &mut page.steps {
            step.began = step.began.map(|began| began.saturating_add(offset));
        }
        for (name, stage) in stages {
            let inputs = match page.steps.last() {
                Some(last) if last.stage == LANE => vec![page.steps.len() - 1],
                _ => Vec::new(),
            };
            page.steps.push(Step {
                name: name.name().to_owned(),
                stage: LANE.to_owned(),
                inputs,
                state: match stage.state {
                    StageState::Done | StageState::Running => State::Ran,
                    StageState::Failed => State::Failed,
                    StageState::Skipped => State::Cached,
                },
                began: began(&stage.started),
                milliseconds: stage.ms.unwrap_or_default(),
                why: match stage.state {
                    StageState::Running => {
                        vec!["it had not ended when this was written".to_owned()]
                    }
                    StageState::Skipped => vec!["an earlier deploy had done it".to_owned()],
                    StageState::Done | StageState::Failed => Vec::new(),
                },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::SyncStage,
        record::{FailureRecord, ImageRecord, LayerRecord, ManifestRecord, StageRecord},
    };

    fn stage(state: StageState, started: &str, ms: u64) -> StageRecord {
        StageRecord { state, started: started.to_owned(), ms: Some(ms) }
    }

    #[test]
    fn steps_and_stages_share_one_time_line() {
        let layer = LayerRecord { digest: "sha256:l".to_owned(), size: 3 };
        let manifest = ManifestRecord { layers: vec![layer], ..ManifestRecord::default() };
        let mut receipt = Receipt {
            started: "2026-01-01T00:00:00.000Z".to_owned(),
            outcome: Outcome::Failed,
            image: Some(ImageRecord { manifests: vec![manifest], ..ImageRecord::default() }),
            failure: Some(FailureRecord {
                stage: SyncStage::Rollout,
                code: "CRASH_LOOP".to_owned(),
                message: "it crashes".to_owned(),
                exit_code: 13,
            }),
            rolled_back: Some(true),
            ..Receipt::default()
        };
        let stages = [
            (SyncStage::Build, stage(StageState::Done, "2026-01-01T00:00:01.500Z", 900)),
            (SyncStage::Rollout, stage(StageState::Failed, "2026-01-01T00:00:04.000Z", 70)),
        ];
        receipt.stages.extend(stages);
        let step = Step { name: "RUN a".to_owned(), began: Some(20), ..Step::default() };
        let page = receipt.page(Some(Page { steps: vec![step], ..Page::default() }));
        let times: Vec<_> =
            page.steps.iter().map(|step| (step.name.as_str(), step.began, &*step.inputs)).collect();
        let expected: [(&str, Option<u64>, &[usize]); 3] =
            [("RUN a", Some(1520), &[]), ("build", Some(1500), &[]), ("rollout", Some(4000), &[1])];
        assert_eq!(times, expected);
        assert_eq!(page.layers, [("sha256:l".to_owned(), 3)]);
        assert_eq!(page.ok, Some(false));
        let html = page.html();
        assert!(html.contains("CRASH_LOOP: it crashes") && html.contains("runs again"), "{html}");
    }
}
