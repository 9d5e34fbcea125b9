//! `[deploy]`, `[[hook]]` and `[record]`: what holds for a deploy as a whole.

use super::{
    Located, Problem, Template,
    schema::{bytes, command, template, time},
    table::Table,
};
use crate::plan::{Moment, SyncStage, fill_words};
use std::{collections::BTreeMap, time::Duration};

/// What the words of `[record] command` may name.
pub const RECORD_FACTS: [&str; 12] = [
    "digest",
    "git.branch",
    "git.sha",
    "git.short",
    "id",
    "image",
    "namespace",
    "outcome",
    "reason",
    "workload",
    "workload.kind",
    "workload.name",
];

/// `[deploy]`: how long each stage may take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploySection {
    /// `[deploy.deadlines]`, by stage.
    pub deadlines: BTreeMap<SyncStage, Located<Duration>>,
    /// With less free disk than this a builder on this machine is not asked to build. In bytes.
    pub free_disk: Option<Located<u64>>,
}

/// `[[hook]]`: a command before or after a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct HookSection {
    /// Which stage.
    pub stage: Located<SyncStage>,
    /// Before or after it.
    pub when: Located<Moment>,
    /// The program and its arguments.
    pub command: Vec<Located<String>>,
    /// How long it may take.
    pub timeout: Option<Located<Duration>>,
}

/// `[record]`: where a deploy is written down, beside our own history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordSection {
    /// A command that is told of each deploy.
    pub command: Option<Vec<Located<String>>>,
    /// `[record.http]`: an address that gets the receipt.
    pub http: Option<HttpSink>,
    /// Whether the receipt is pushed beside the image, as its referrer.
    pub referrer: Option<Located<bool>>,
    /// How long each of them may take.
    pub timeout: Option<Located<Duration>>,
}

/// `[record.http]`: an address that gets the receipt as JSON, in a POST.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSink {
    /// The address.
    pub url: Template,
    /// The variable with a bearer token for it.
    pub token_env: Option<Located<String>>,
}

impl DeploySection {
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut section = Self::default();
        if let Some(mut deadlines) = table.table("deadlines", problems) {
            for stage in SyncStage::ALL {
                if let Some(limit) = time(&mut deadlines, stage.name(), problems) {
                    section.deadlines.insert(stage, limit);
                }
            }
            deadlines.refuse_unknown_keys(problems);
        }
        section.free_disk = bytes(&mut table, "free_disk", problems);
        table.refuse_unknown_keys(problems);
        section
    }
}

impl HookSection {
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let stages = SyncStage::ALL.map(|stage| (stage.name(), stage));
        let moments = [("before", Moment::Before), ("after", Moment::After)];
        let before = problems.len();
        let stage = table.choice("stage", &stages, problems);
        let when = table.choice("when", &moments, problems);
        let words = command(&mut table, "command", problems);
        let timeout = time(&mut table, "timeout", problems);
        let (Some(stage), Some(when), Some(words)) = (stage, when, words) else {
            if problems.len() == before {
                problems.push(Problem {
                    message: "`[[hook]]` needs `stage`, `when` and `command`".to_owned(),
                    span: table.span(),
                    hint: Some(
                        "write `stage = \"rollout\"`, `when = \"before\"` and `command = [\"…\"]`"
                            .to_owned(),
                    ),
                });
            }
            table.refuse_unknown_keys(problems);
            return None;
        };
        table.refuse_unknown_keys(problems);
        Some(Self { stage, when, command: words, timeout })
    }
}

impl RecordSection {
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let words = command(&mut table, "command", problems);
        for word in words.iter().flatten() {
            let known = |name: &str| RECORD_FACTS.contains(&name).then(String::new);
            if let Err(unknown) = fill_words(&word.value, known) {
                problems.push(Problem {
                    message: format!("unknown placeholder `{{{unknown}}}`"),
                    span: word.span.clone(),
                    hint: Some(format!(
                        "the placeholders of `record.command` are `{{{}}}`; write `{{{{` for a \
                         brace",
                        RECORD_FACTS.join("}`, `{")
                    )),
                });
            }
        }
        let http = table.table("http", problems).and_then(|mut http| {
            let url = template(&mut http, "url", problems);
            let token_env = http.string("token_env", problems);
            if url.is_none() {
                problems.push(Problem {
                    message: "`[record.http]` has no `url`".to_owned(),
                    span: http.span(),
                    hint: Some("add `url = \"https://…\"`".to_owned()),
                });
            }
            http.refuse_unknown_keys(problems);
            Some(HttpSink { url: url?, token_env })
        });
        let section = Self {
            command: words,
            http,
            referrer: table.boolean("referrer", problems),
            timeout: time(&mut table, "timeout", problems),
        };
        table.refuse_unknown_keys(problems);
        section
    }
}
