//! The last word on a run: what was cached, sent and skipped, and where the time went. Pure.

use super::{
    state::{State, Step},
    text::{bytes, seconds},
};
use crate::event::PODS;
use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

/// Steps that are named as those that took the time.
const SLOWEST: usize = 3;
/// What is quicker is not worth naming.
const WORTH: Duration = Duration::from_millis(100);

/// The lines, the first of which stands for all and says whether it went `well`; none where nothing
/// was begun.
pub(super) fn closing(
    state: &State,
    well: bool,
    started: SystemTime,
    now: SystemTime,
) -> Vec<String> {
    let shown: Vec<&Step> =
        state.steps().iter().filter(|step| !step.hidden && step.is_ended()).collect();
    if shown.is_empty() {
        return Vec::new();
    }
    let elapsed = seconds(now.duration_since(started).unwrap_or_default());
    let mut head = if well { "done in " } else { "failed after " }.to_owned() + &elapsed;
    let steps = of_the_dockerfile(&shown);
    if !steps.is_empty() {
        let cached = steps.iter().filter(|step| step.cached).count();
        let (all, ran) = (counted(steps.len(), "step"), steps.len() - cached);
        let _cannot_fail = write!(head, ": {all}, {cached} cached, {ran} ran");
    }
    let mut lines = vec![head];
    lines.extend(sent(&shown));
    lines.extend(pushed(&shown));
    lines.extend(pods(&shown));
    lines.extend(times(&shown, now));
    lines
}

/// The steps of the Dockerfile, which bear a number such as `[build 2/4]`; of a build whose frontend
/// names its steps otherwise, all that are not ours.
fn of_the_dockerfile<'s>(steps: &[&'s Step]) -> Vec<&'s Step> {
    const OURS: [&str; 5] = ["[connect]", "[compile]", "[push]", "[rollout]", "[rollback]"];
    let is_numbered = |step: &&&Step| {
        let label = step.name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let number = label.and_then(|(label, _)| label.split(' ').next_back()?.split_once('/'));
        number.is_some_and(|(at, of)| at.parse::<u32>().is_ok() && of.parse::<u32>().is_ok())
    };
    let numbered: Vec<&Step> = steps.iter().filter(is_numbered).copied().collect();
    if !numbered.is_empty() {
        return numbered;
    }
    let is_ours = |step: &&&Step| OURS.iter().any(|head| step.name.starts_with(head));
    steps.iter().filter(|step| !is_ours(step)).copied().collect()
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Bytes that went to the builder.
fn sent(steps: &[&Step]) -> Option<String> {
    let transfers = steps.iter().flat_map(|step| &step.parts);
    let total: i64 = transfers
        .filter(|part| part.id.starts_with("transferring "))
        .map(|part| part.current)
        .sum();
    (total > 0).then(|| format!("  sent    {} to the builder", bytes(total)))
}

/// Blobs by what became of them.
fn pushed(steps: &[&Step]) -> Option<String> {
    let blobs = || {
        let push = steps.iter().filter(|step| step.name.starts_with("[push]"));
        push.flat_map(|step| &step.parts)
    };
    let count = |word: &str| blobs().filter(|part| part.name == word).count();
    let (uploaded, mounted, existing) = (count("uploading"), count("mounted"), count("existing"));
    if uploaded + mounted + existing == 0 {
        return None;
    }
    let size: i64 = blobs().filter(|part| part.name == "uploading").map(|part| part.current).sum();
    let mut text = format!("  pushed  {} in {}", bytes(size), counted(uploaded, "blob"));
    if existing > 0 {
        let word = if existing == 1 { "was" } else { "were" };
        let _cannot_fail = write!(text, ", {existing} {word} there");
    }
    if mounted > 0 {
        let _cannot_fail = write!(text, ", {mounted} mounted");
    }
    Some(text)
}

/// Pods that were proven: those of a rollout that failed are the failure's matter.
fn pods(steps: &[&Step]) -> Option<String> {
    let good = steps.iter().filter(|step| step.error.is_empty());
    let parts = good.flat_map(|step| &step.parts).filter(|part| part.id == PODS);
    let (ready, wanted) =
        parts.fold((0, 0), |(ready, wanted), part| (ready + part.current, wanted + part.total));
    (wanted > 0).then(|| format!("  pods    {ready} of {wanted} ready"))
}

/// The steps that took longest.
fn times(steps: &[&Step], now: SystemTime) -> Option<String> {
    let mut slow: Vec<(Duration, &str)> = steps
        .iter()
        .map(|step| (step.duration(now), step.name.as_str()))
        .filter(|(time, _)| *time >= WORTH)
        .collect();
    slow.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let named: Vec<String> = slow
        .iter()
        .take(SLOWEST)
        .map(|(time, name)| format!("{} {}", short(name), seconds(*time)))
        .collect();
    (!named.is_empty()).then(|| format!("  time    {}", named.join(", ")))
}

/// A name as far as it tells steps apart.
fn short(name: &str) -> String {
    const SHOWN: usize = 40;
    if name.chars().count() <= SHOWN {
        return name.to_owned();
    }
    let mut cut: String = name.chars().take(SHOWN - 1).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::closing;
    use crate::{
        event::{BuildStatus, Event, PODS, PushAction, PushStatus, Stage, Vertex, VertexStatus},
        progress::{
            state::State,
            synthetic::{Synthesizer, Told},
        },
    };
    use std::time::{Duration, SystemTime};

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_last_word_tells_what_was_done_and_where_the_time_went() {
        let (mut state, mut synthesizer) = (State::default(), Synthesizer::default());
        let vertex = |digest: &str, name: &str, cached, started, completed| Vertex {
            digest: digest.to_owned(),
            name: name.to_owned(),
            cached,
            started: Some(at(started)),
            completed: Some(at(completed)),
            ..Vertex::default()
        };
        let context = VertexStatus {
            id: "transferring context:".to_owned(),
            vertex: "c".to_owned(),
            current: 2_100_000,
            ..VertexStatus::default()
        };
        state.apply(Told::Status(BuildStatus {
            vertices: vec![
                vertex("a", "[1/3] FROM alpine", true, 0, 0),
                vertex("c", "[internal] load build context", false, 0, 400),
                vertex("b", "[2/3] RUN make", false, 400, 8500),
            ],
            statuses: vec![context],
            ..BuildStatus::default()
        }));
        let blob = |id: &str, action, current| {
            Event::Push(PushStatus { id: id.to_owned(), action, current, total: None })
        };
        let stage =
            |stage, subject: &str| Event::StageStarted { stage, subject: subject.to_owned() };
        let events = [
            (8500, stage(Stage::Push, "r/a:1")),
            (8600, blob("sha256:1", PushAction::Existing, 0)),
            (9000, blob("sha256:2", PushAction::Uploaded, 5_000_000)),
            (9100, Event::StageEnded { stage: Stage::Push, ok: true }),
        ];
        let pods = VertexStatus {
            id: PODS.to_owned(),
            vertex: "d".to_owned(),
            current: 2,
            total: 3,
            ..VertexStatus::default()
        };
        state.apply(Told::Status(BuildStatus {
            vertices: vec![vertex("d", "[rollout] deployment/app", false, 9100, 12_100)],
            statuses: vec![pods],
            ..BuildStatus::default()
        }));
        for (now, event) in events {
            if let Some(told) = synthesizer.tell(event, at(now)) {
                state.apply(told);
            }
        }
        insta::assert_snapshot!(closing(&state, true, at(0), at(12345)).join("\n"), @r"
        done in 12.3s: 2 steps, 1 cached, 1 ran
          sent    2.10MB to the builder
          pushed  5.00MB in 1 blob, 1 was there
          pods    2 of 3 ready
          time    [2/3] RUN make 8.1s, [rollout] deployment/app 3.0s, [push] r/a:1 0.6s
        ");
        assert!(closing(&State::default(), true, at(0), at(1)).is_empty());
    }
}
