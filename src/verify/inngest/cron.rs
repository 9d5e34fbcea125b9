//! Crons that have stopped running although they are registered. Pure.

use super::app::AppsError;
use crate::verify::report::Finding;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

/// A function that a cron starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cron {
    /// The server's id of it.
    pub id: String,
    /// Its slug: the app's id, a hyphen and its own.
    pub slug: String,
    /// When it runs, as cron has it.
    pub schedule: String,
}

/// The question for all functions with their triggers.
pub fn functions_question() -> Value {
    json!({ "query": "{ functions { id slug triggers { type value } } }" })
}

/// The question for the last completed run of a function since `from`.
pub fn run_question(function: &str, from: &str) -> Value {
    json!({
        "query": "query($filter: RunsFilterV2!) { runs(first: 1, filter: $filter, orderBy: [{field: STARTED_AT, direction: DESC}]) { edges { node { startedAt } } } }",
        "variables": { "filter": { "from": from, "status": ["COMPLETED"], "functionIDs": [function] } },
    })
}

/// The crons of `app` among the functions that a server lists.
///
/// # Errors
/// The answer lists no functions.
pub fn read_crons(app: &str, body: &[u8]) -> Result<Vec<Cron>, AppsError> {
    #[derive(Deserialize)]
    struct Function {
        id: String,
        slug: String,
        #[serde(default)]
        triggers: Option<Vec<Trigger>>,
    }
    #[derive(Deserialize)]
    struct Trigger {
        #[serde(rename = "type")]
        kind: String,
        value: String,
    }
    let json: Value = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let list = json.pointer("/data/functions").ok_or(AppsError::Unreadable)?;
    let functions: Vec<Function> =
        serde_json::from_value(list.clone()).map_err(|_| AppsError::Unreadable)?;
    let prefix = format!("{app}-");
    let crons = functions.into_iter().filter(|function| function.slug.starts_with(&prefix));
    Ok(crons
        .filter_map(|function| {
            let mut triggers = function.triggers.unwrap_or_default().into_iter();
            let cron = triggers.find(|trigger| trigger.kind.eq_ignore_ascii_case("cron"))?;
            Some(Cron { id: function.id, slug: function.slug, schedule: cron.value })
        })
        .collect())
}

/// When the run began that the answer to [`run_question`] tells; none where there was none.
///
/// # Errors
/// The answer has another shape.
pub fn read_run(body: &[u8]) -> Result<Option<jiff::Timestamp>, AppsError> {
    let json: Value = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let edges = json.pointer("/data/runs/edges").and_then(Value::as_array);
    let edges = edges.ok_or(AppsError::Unreadable)?;
    let started = edges.first().and_then(|edge| edge.pointer("/node/startedAt"));
    Ok(started.and_then(Value::as_str).and_then(|text| text.parse().ok()))
}

/// What is to be said of a cron whose last completed run began at `last`. Registration is no proof:
/// a cron that last ran longer ago than `max_age` is dead. One that never ran may be new.
pub fn judge(
    cron: &Cron,
    last: Option<jiff::Timestamp>,
    now: jiff::Timestamp,
    max_age: Duration,
) -> Option<Finding> {
    let Cron { slug, schedule, .. } = cron;
    let Some(last) = last else {
        let message = format!(
            "the cron `{slug}` (`{schedule}`) has no completed run in the last {} s",
            max_age.as_secs().saturating_mul(SEEN)
        );
        return Some(Finding::told("INNGEST_CRON_NEVER_RAN", message));
    };
    let age = Duration::from_secs(u64::try_from(now.as_second() - last.as_second()).unwrap_or(0));
    (age > max_age).then(|| {
        Finding::fatal(
            "INNGEST_CRON_STALE",
            format!(
                "the cron `{slug}` (`{schedule}`) last completed a run {} s ago, which is more than \
                 {} s",
                age.as_secs(),
                max_age.as_secs()
            ),
        )
        .with_fix("see why its runs fail or do not begin: being registered is no proof")
    })
}

/// The longest time between two runs of a schedule of five fields, each `*`, a number, a range, a
/// list of them, or any with `/STEP`; a time zone in front is passed over. None where it cannot be
/// read, or never comes.
pub fn cadence(schedule: &str) -> Option<Duration> {
    let words = schedule.split_whitespace().filter(|word| !word.contains('='));
    let fields: Vec<&str> = words.collect();
    let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return None };
    let (minutes, hours) = (field(minutes, 0, 59)?, field(hours, 0, 23)?);
    let (every_day, every_weekday) = (*days == "*", *weekdays == "*");
    let (days, months) = (field(days, 1, 31)?, field(months, 1, 12)?);
    let weekdays: BTreeSet<u8> = field(weekdays, 0, 7)?.into_iter().map(|day| day % 7).collect();
    let mut longest = None;
    let mut last: Option<u64> = None;
    // Two years hold every gap but those around a 29th of February.
    let mut date = jiff::civil::date(2026, 1, 1);
    for day in 0..731_u64 {
        let on_day = i8_in(&days, date.day());
        let on_weekday = i8_in(&weekdays, date.weekday().to_sunday_zero_offset());
        // Where both are given, either will do.
        let matches = match (every_day, every_weekday) {
            (false, false) => on_day || on_weekday,
            _ => on_day && on_weekday,
        };
        if matches && i8_in(&months, date.month()) {
            for hour in &hours {
                for minute in &minutes {
                    let now = day * 1440 + u64::from(*hour) * 60 + u64::from(*minute);
                    longest = longest.max(last.map(|last| now - last));
                    last = Some(now);
                }
            }
        }
        date = date.tomorrow().ok()?;
    }
    longest.map(|minutes| Duration::from_secs(minutes * 60))
}

fn i8_in(set: &BTreeSet<u8>, value: i8) -> bool {
    u8::try_from(value).is_ok_and(|value| set.contains(&value))
}

/// The numbers from `low` to `high` that a field of a schedule names.
fn field(text: &str, low: u8, high: u8) -> Option<BTreeSet<u8>> {
    let mut named = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (low, high),
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None => {
                let from = range.parse().ok()?;
                (from, if part.contains('/') { high } else { from })
            }
        };
        if from < low || to > high || from > to {
            return None;
        }
        named.extend((from..=to).step_by(step));
    }
    Some(named)
}

/// How many times the greatest age is looked back.
pub const SEEN: u64 = 30;

#[cfg(test)]
mod tests {
    use super::{Cron, cadence, judge, read_crons, read_run};
    use std::time::Duration;

    #[test]
    fn crons_of_the_app_are_read() {
        let body = br#"{"data":{"functions":[
            {"id":"1","slug":"bus-a","triggers":[{"type":"EVENT","value":"x"},{"type":"CRON","value":"*/5 * * * *"}]},
            {"id":"2","slug":"bus-b","triggers":[{"type":"EVENT","value":"x"}]},
            {"id":"3","slug":"other-a","triggers":[{"type":"CRON","value":"0 * * * *"}]},
            {"id":"4","slug":"bus-c","triggers":null}]}}"#;
        let crons = read_crons("bus", body).unwrap();
        assert_eq!(
            crons,
            [Cron { id: "1".into(), slug: "bus-a".into(), schedule: "*/5 * * * *".into() }]
        );
        assert!(read_crons("bus", b"{}").is_err());
    }

    #[test]
    fn a_cron_that_has_not_run_for_too_long_is_dead() {
        let cron = Cron { id: "1".into(), slug: "bus-a".into(), schedule: "*/5 * * * *".into() };
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let code = |last: Option<&str>| {
            let last = last.map(|last| last.parse().unwrap());
            judge(&cron, last, now, Duration::from_mins(10)).map(|found| (found.code, found.fatal))
        };
        assert_eq!(code(Some("2026-11-25T11:55:00Z")), None);
        assert_eq!(code(Some("2026-11-25T12:00:05Z")), None, "clocks differ");
        assert_eq!(code(Some("2026-11-25T11:40:00Z")), Some(("INNGEST_CRON_STALE", true)));
        assert_eq!(code(None), Some(("INNGEST_CRON_NEVER_RAN", false)));
    }

    #[test]
    fn a_schedule_has_a_cadence() {
        const DAY: u64 = 24 * 60;
        for (schedule, minutes) in [
            ("* * * * *", Some(1)),
            ("*/5 * * * *", Some(5)),
            ("0 */2 * * *", Some(120)),
            ("30 7 * * *", Some(DAY)),
            ("TZ=America/Los_Angeles 0 9 * * 1-5", Some(3 * DAY)),
            ("0 0 * * 0", Some(7 * DAY)),
            ("0 0 * * 7", Some(7 * DAY)),
            ("0 0 1 * *", Some(31 * DAY)),
            ("0 0 1 1 *", Some(365 * DAY)),
            ("0,30 8-10 * * *", Some(21 * 60 + 30)),
            ("0 0 13 * 5", Some(7 * DAY)),
            ("0 0 31 2 *", None),
            ("@daily", None),
            ("60 * * * *", None),
            ("*/0 * * * *", None),
            ("5-1 * * * *", None),
        ] {
            let expected = minutes.map(|minutes| Duration::from_secs(minutes * 60));
            assert_eq!(cadence(schedule), expected, "{schedule}");
        }
    }

    #[test]
    fn the_last_run_is_read() {
        let body =
            br#"{"data":{"runs":{"edges":[{"node":{"startedAt":"2026-11-25T11:55:00Z"}}]}}}"#;
        assert_eq!(read_run(body).unwrap(), "2026-11-25T11:55:00Z".parse().ok());
        assert_eq!(read_run(br#"{"data":{"runs":{"edges":[]}}}"#), Ok(None));
        assert!(read_run(br#"{"errors":[]}"#).is_err());
    }
}
