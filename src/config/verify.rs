//! `[verify]`: what must hold once the new pods run.

use super::{
    Located, Problem, Template,
    schema::{command, template, templates, time},
    table::Table,
};
use serde_json::Value as Json;
use std::time::Duration;

/// `[verify]`: the checks after a rollout.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VerifySection {
    /// `[[verify.http]]`, in the order of the file.
    pub http: Vec<HttpCheck>,
    /// `[[verify.exec]]`, in the order of the file.
    pub exec: Vec<ExecCheck>,
    /// `[verify.inngest]`.
    pub inngest: Option<InngestCheck>,
    /// How long a check may take that has no timeout of its own.
    pub timeout: Option<Located<Duration>>,
}

/// `[[verify.http]]`: a request to a new pod.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The pod's port.
    pub port: Located<u16>,
    /// The path.
    pub path: Option<Template>,
    /// The status that the answer must have.
    pub status: Option<Located<u16>>,
    /// What the answer's JSON must hold, by dotted path.
    pub json: Option<Located<Json>>,
    /// How long it may take until the answer is as expected.
    pub timeout: Option<Located<Duration>>,
}

/// `[[verify.exec]]`: a command inside a new pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecCheck {
    /// The program and its arguments.
    pub command: Vec<Located<String>>,
    /// The container; the one that was rolled out where none is named.
    pub container: Option<Template>,
    /// The exit code that it must end with; 0 where none is given.
    pub exit: Option<Located<u16>>,
    /// What its stdout must contain.
    pub stdout: Option<Located<String>>,
    /// How long it may take.
    pub timeout: Option<Located<Duration>>,
}

/// `[verify.inngest]`: what an Inngest server must know of the new version.
#[derive(Clone, Debug, PartialEq)]
pub struct InngestCheck {
    /// Where the section stands.
    pub span: std::ops::Range<usize>,
    /// The server.
    pub url: Option<Template>,
    /// The app's id.
    pub app: Option<Template>,
    /// Where the app serves its functions: port and path.
    pub serve: Option<(Located<u16>, Option<Template>)>,
    /// Which functions must be there.
    pub functions: Option<Functions>,
    /// What becomes of apps that no pod serves any more.
    pub stale_apps: Option<Located<StaleApps>>,
    /// Which apps are stale: those whose name or URL holds one of these texts. Nothing is deleted
    /// that none of them matches.
    pub stale_match: Vec<Located<String>>,
    /// Who makes the server read the new functions.
    pub sync: Option<Located<InngestSync>>,
    /// The variable with the signing key.
    pub signing_key_env: Option<Located<String>>,
    /// Source files (globs, relative to the config file) that list functions: one that stands in
    /// the source and in none of these is named.
    pub indexes: Option<Vec<Template>>,
    /// Source files (globs) that define functions.
    pub sources: Option<Vec<Template>>,
    /// How old each cron's last completed run may be, in multiples of its cadence.
    pub cron_age: Option<Located<u16>>,
    /// What becomes of a deploy while runs of the app go on.
    pub running: Option<Located<WhileRunning>>,
    /// How often the registration is asked for before it counts as failed.
    pub attempts: Option<Located<u16>>,
    /// How long all of it may take.
    pub timeout: Option<Located<Duration>>,
}

/// Which functions an Inngest server must know.
#[derive(Clone, Debug, PartialEq)]
pub enum Functions {
    /// Those that this names as their source.
    From(Located<String>),
    /// These ids.
    Ids(Vec<Located<String>>),
}

/// What becomes of apps that no pod serves any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StaleApps {
    /// They are deleted.
    Delete,
    /// They are reported.
    Report,
}

/// What becomes of a deploy while runs of the app go on: a rollout ends the steps that run in old pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhileRunning {
    /// It is refused before anything changes.
    Refuse,
    /// It is told.
    Report,
}

/// Who makes an Inngest server read the new functions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InngestSync {
    /// We ask the new pod, which registers itself.
    Pod,
    /// We ask the server, which asks the app's URL.
    Server,
}

impl VerifySection {
    pub(super) fn read(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut section = Self::default();
        for check in table.array("http", problems) {
            section.http.extend(http(check, problems));
        }
        for check in table.array("exec", problems) {
            section.exec.extend(exec(check, problems));
        }
        section.inngest = table.table("inngest", problems).map(|table| inngest(table, problems));
        section.timeout = time(&mut table, "timeout", problems);
        table.refuse_unknown_keys(problems);
        section
    }
}

fn http(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Option<HttpCheck> {
    let port = required_port(&mut table, "[[verify.http]]", problems);
    let path = template(&mut table, "path", problems);
    let (mut status, mut json) = (None, None);
    if let Some(mut expect) = table.table("expect", problems) {
        status = expect.integer("status", 100..=599, problems);
        json = expect.json("json");
        expect.refuse_unknown_keys(problems);
    }
    let timeout = time(&mut table, "timeout", problems);
    table.refuse_unknown_keys(problems);
    Some(HttpCheck { port: port?, path, status, json, timeout })
}

fn exec(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Option<ExecCheck> {
    let before = problems.len();
    let words = command(&mut table, "command", problems);
    if words.is_none() && problems.len() == before {
        problems.push(Problem {
            message: "`[[verify.exec]]` has no `command`".to_owned(),
            span: table.span(),
            hint: Some("add what runs in the pod: `command = [\"program\"]`".to_owned()),
        });
    }
    let container = template(&mut table, "container", problems);
    let (mut exit, mut stdout) = (None, None);
    if let Some(mut expect) = table.table("expect", problems) {
        exit = expect.integer("exit", 0..=255, problems);
        stdout = expect.string("stdout", problems);
        expect.refuse_unknown_keys(problems);
    }
    let timeout = time(&mut table, "timeout", problems);
    table.refuse_unknown_keys(problems);
    Some(ExecCheck { command: words?, container, exit, stdout, timeout })
}

fn inngest(mut table: Table<'_>, problems: &mut Vec<Problem>) -> InngestCheck {
    let known = [("report", StaleApps::Report), ("delete", StaleApps::Delete)];
    let serve = table.table("serve", problems).and_then(|mut serve| {
        let port = required_port(&mut serve, "verify.inngest.serve", problems);
        let path = template(&mut serve, "path", problems);
        serve.refuse_unknown_keys(problems);
        Some((port?, path))
    });
    let functions = if table.is_table("functions") {
        table.table("functions", problems).and_then(|mut functions| {
            let from = functions.string("from", problems);
            functions.refuse_unknown_keys(problems);
            from.map(Functions::From)
        })
    } else {
        table.strings("functions", problems).map(Functions::Ids)
    };
    let ways = [("pod", InngestSync::Pod), ("server", InngestSync::Server)];
    let whiles = [("report", WhileRunning::Report), ("refuse", WhileRunning::Refuse)];
    let section = InngestCheck {
        span: table.span(),
        url: template(&mut table, "url", problems),
        app: template(&mut table, "app", problems),
        serve,
        functions,
        stale_apps: table.choice("stale_apps", &known, problems),
        stale_match: table.strings("stale_match", problems).unwrap_or_default(),
        sync: table.choice("sync", &ways, problems),
        signing_key_env: table.string("signing_key_env", problems),
        indexes: templates(&mut table, "indexes", problems),
        sources: templates(&mut table, "sources", problems),
        cron_age: table.integer("cron_age", 1..=1000, problems),
        running: table.choice("running", &whiles, problems),
        attempts: table.integer("attempts", 1..=20, problems),
        timeout: time(&mut table, "timeout", problems),
    };
    if let (Some(Located { value: StaleApps::Delete, span }), true) =
        (&section.stale_apps, section.stale_match.is_empty())
    {
        problems.push(Problem {
            message: "`verify.inngest.stale_apps = \"delete\"` says not which apps".to_owned(),
            span: span.clone(),
            hint: Some(
                "add `stale_match = [\"…\"]`, texts of the names or URLs that are stale".to_owned(),
            ),
        });
    }
    table.refuse_unknown_keys(problems);
    section
}

fn required_port(
    table: &mut Table<'_>,
    place: &str,
    problems: &mut Vec<Problem>,
) -> Option<Located<u16>> {
    let before = problems.len();
    let port = table.integer("port", 1..=u16::MAX, problems);
    if port.is_none() && problems.len() == before {
        problems.push(Problem {
            message: format!("`{place}` has no `port`"),
            span: table.span(),
            hint: Some("add the pod's port: `port = 8080`".to_owned()),
        });
    }
    port
}
