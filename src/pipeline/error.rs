//! Why a build came to nothing, in enough detail that a user reads what to mend and a script can
//! tell one failure from another.

use super::{journal::Journal, login::LoginFailure};
use crate::{
    buildkit::{
        errors::{Code, Failure, Source},
        session::SessionError,
    },
    registry::RegistryError,
};
use std::{io, path::PathBuf};

/// Why a build came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The builder failed the build: a step, a source, a missing file.
    #[error("{message}", message = .0.message)]
    Build(Box<BuildFailure>),
    /// The builder does not answer, or not as a builder does.
    #[error("the builder does not answer: {message}")]
    Builder {
        /// What it said, or what was seen of the connection.
        message: String,
    },
    /// The Dockerfile's text is wrong; nothing ran.
    #[error("{message}", message = .0.message)]
    Dockerfile(Box<BuildFailure>),
    /// Ended by whoever started it, after clean-up.
    #[error("interrupted")]
    Interrupted,
    /// The image was built and a Docker could not take it in.
    #[error("the image could not be loaded into Docker: {message}")]
    Load {
        /// What that Docker said.
        message: String,
    },
    /// A registry would not take the image; nothing was built.
    #[error("{message}", message = .0.message)]
    Preflight(Box<PushFailure>),
    /// The image was built and a registry did not take it.
    #[error("{message}", message = .0.message)]
    Push(Box<PushFailure>),
    /// The image is not fit to leave the builder, and only one that is may.
    #[error("{0}")]
    Unfit(Refusal),
    /// An image that the build starts from is not signed by whom it has to be; nothing ran.
    #[error("{0}")]
    Unverified(Refusal),
    /// What was asked for cannot be done; nothing ran.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session with the builder was lost in mid-build.
    #[error(transparent)]
    Session(SessionError),
    /// A file could not be read or written here.
    #[error("{action} `{path}`: {cause}", path = path.display())]
    Io {
        /// What was tried, such as `cannot write`.
        action: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// A wish that cannot be fulfilled: an argument or a combination of them, or a builder that lacks
/// what they need.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Refusal {
    /// A refusal without a fix.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), fix: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// A build that failed on the builder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BuildFailure {
    /// Stable, `SCREAMING_SNAKE`.
    pub code: &'static str,
    /// What failed, in one line.
    pub message: String,
    /// Places in the Dockerfile, nearest first.
    pub sources: Vec<Source>,
    /// The step that failed.
    pub step: Option<FailedStep>,
    /// The builder's own words, where `message` does not have them.
    pub cause: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
}

/// The step that failed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FailedStep {
    /// Its name on the screen, such as `[build 2/4] RUN make`.
    pub name: String,
    /// The command that ran.
    pub command: Option<String>,
    /// What it exited with.
    pub exit_code: Option<u32>,
    /// The last lines of its output.
    pub log: Vec<String>,
}

/// A push that failed after the build.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PushFailure {
    /// Stable, `SCREAMING_SNAKE`: `PUSH_DENIED`, `PUSH_NAME_UNKNOWN`, `PUSH_UNREACHABLE`,
    /// `PUSH_FAILED`.
    pub code: &'static str,
    /// What failed, in one line.
    pub message: String,
    /// The reference that was pushed, where known.
    pub reference: Option<String>,
    /// The registry's or the builder's own words.
    pub cause: Option<String>,
    /// What to do about it.
    pub fix: Option<String>,
    /// The id to go on with, where the image is held.
    pub resume: Option<String>,
}

/// What BuildKit puts before a push's error.
const PUSH_PREFIX: &str = "failed to push ";

/// How the step is called that asks a registry for an image.
const METADATA_STEP: &str = "[internal] load metadata for ";

/// What the Dockerfile frontend puts before what is wrong with the text.
const PARSE_PREFIX: &str = "dockerfile parse error";

impl Error {
    /// What a failure of the builder means, with what the status stream told before.
    pub fn from_failure(failure: &Failure, journal: &Journal) -> Self {
        if failure.connection {
            return Self::Builder { message: failure.message.clone() };
        }
        // Where our own words come back through the builder, only the step has the prefix.
        let step = journal.failed().map(|(_, step)| step.error.as_str());
        let mut told = [Some(failure.message.as_str()), step].into_iter().flatten();
        if let Some((_, rest)) = told.find_map(|words| words.split_once(PUSH_PREFIX)) {
            let (reference, cause) = rest.split_once(": ").unwrap_or((rest, ""));
            return Self::Push(Box::new(PushFailure::new(Some(reference), cause)));
        }
        let built = BuildFailure::new(failure, journal);
        if failure.message.contains(PARSE_PREFIX) || is_usage(&failure.message) {
            return Self::Dockerfile(Box::new(built));
        }
        Self::Build(Box::new(built))
    }
}

/// Whether the words say that the Dockerfile and the flags do not go together.
fn is_usage(message: &str) -> bool {
    message.contains("target stage") && message.contains("could not be found")
}

impl BuildFailure {
    /// A Dockerfile that was found wrong here.
    pub fn dockerfile(message: String, sources: Vec<Source>, fix: Option<String>) -> Self {
        let (code, _, known_fix) = judge(&Failure::new(Code::Unknown, message.as_str()), None);
        let code = if code == "BUILD_FAILED" { "DOCKERFILE_INVALID" } else { code };
        Self { code, message, sources, fix: fix.or(known_fix), ..Self::default() }
    }

    fn new(failure: &Failure, journal: &Journal) -> Self {
        let details = &failure.details;
        let vertex = details.vertex.as_deref();
        // A vertex of a nested build may be unknown to the status stream.
        let (digest, step) = match vertex.and_then(|digest| Some((digest, journal.step(digest)?))) {
            Some((digest, step)) => (Some(digest), Some(step)),
            None => {
                journal.failed().map_or((vertex, None), |(digest, step)| (Some(digest), Some(step)))
            }
        };
        let op = details.op.as_ref();
        let name = step.map(|step| step.name.clone()).or_else(|| op.and_then(|op| op.name.clone()));
        let command = op
            .map(|op| command_line(&op.args))
            .filter(|line| !line.is_empty())
            .or_else(|| quoted_command(&failure.message));
        let failed = name.map(|name| FailedStep {
            name,
            command,
            exit_code: details.exit_code.or_else(|| exit_code(&failure.message)),
            log: digest.map(|digest| journal.tail(digest)).unwrap_or_default(),
        });
        let (code, message, fix) = judge(failure, failed.as_ref());
        Self {
            code,
            // These two say all that the builder's words say, less its internal names.
            cause: (message != failure.message
                && !matches!(code, "FILE_NOT_FOUND" | "STEP_FAILED"))
            .then(|| failure.message.clone()),
            message,
            sources: details.sources.clone(),
            step: failed,
            fix,
        }
    }
}

/// Code, message and fix for a failure, by its typed details first and its words second.
fn judge(failure: &Failure, step: Option<&FailedStep>) -> (&'static str, String, Option<String>) {
    let words = failure.message.as_str();
    let details = &failure.details;
    let fix = |text: &str| Some(text.to_owned());
    if words.contains(PARSE_PREFIX) {
        let message = words.get(words.find(PARSE_PREFIX).unwrap_or(0)..).unwrap_or(words);
        return ("DOCKERFILE_INVALID", message.to_owned(), None);
    }
    if is_usage(words) {
        return (
            "TARGET_NOT_FOUND",
            last_cause(words),
            fix("name a stage that the Dockerfile has with --target"),
        );
    }
    if words.contains("failed to read dockerfile") {
        return (
            "DOCKERFILE_NOT_FOUND",
            words.to_owned(),
            fix("name the Dockerfile with --file, as a path in the context"),
        );
    }
    if let Some((source, _)) = words.split_once(" denied by policy") {
        let source = source.rsplit_once("source ").map_or(source, |(_, source)| source);
        return (
            "SOURCE_DENIED",
            format!("the source policy denies {}", source.trim_matches('"')),
            fix("allow it in the source policy, or use another source"),
        );
    }
    if let Some(name) = step.and_then(|step| step.name.strip_prefix(METADATA_STEP)) {
        let words = last_cause(words);
        return (
            "BASE_IMAGE_UNRESOLVED",
            format!("cannot resolve `{name}`: {words}"),
            fix_image(&failure.message),
        );
    }
    if let Some(code) = step.and_then(|step| step.exit_code) {
        let message = format!("a step failed with exit code {code}");
        let hint = match code {
            126 => fix("the command exists and cannot be run: look at its mode and its platform"),
            127 => {
                fix("the command was not found: install it in an earlier step, or mend its path")
            }
            137 => fix(
                "the step was killed, mostly for want of memory: give the builder more, or use less",
            ),
            _ => None,
        };
        return ("STEP_FAILED", message, hint);
    }
    if words.contains("exec format error") {
        return (
            "EMULATION_MISSING",
            "a step is for a platform that the builder cannot run".to_owned(),
            fix("build on a machine of that platform, or set up QEMU emulation on the builder"),
        );
    }
    if let Some(capability) = &details.frontend_capability {
        return (
            "FRONTEND_UNSUPPORTED",
            format!("the frontend lacks `{capability}`"),
            fix("use a newer frontend in the `# syntax` line"),
        );
    }
    if let Some(missing) = missing_file(words) {
        return (
            "FILE_NOT_FOUND",
            format!("`{missing}` is not in the build context"),
            fix("mend the path, or see whether `.dockerignore` leaves it out"),
        );
    }
    if words.contains("failed to resolve source metadata")
        || words.contains("failed to resolve image")
    {
        let message = last_cause_with(words, "failed to resolve");
        return ("BASE_IMAGE_UNRESOLVED", message, fix_image(words));
    }
    if words.contains("no space left on device") {
        return (
            "BUILDER_DISK_FULL",
            "the builder's disk is full".to_owned(),
            fix("make room there, for one with `bk-sync builder prune`"),
        );
    }
    if words.contains("is not allowed") && words.contains("entitlement")
        || words.contains("granting entitlement")
    {
        return (
            "ENTITLEMENT_DENIED",
            words.to_owned(),
            fix("grant it with --allow, and let the builder grant it in its configuration"),
        );
    }
    if let Some(id) =
        words.split("secret ").nth(1).and_then(|rest| rest.strip_suffix(": not found"))
    {
        return (
            "SECRET_MISSING",
            format!("the build needs a secret `{id}` that was not given"),
            Some(format!("add --secret id={id},src=FILE or --secret id={id},env=NAME")),
        );
    }
    if failure.code == Code::Cancelled {
        return ("BUILD_CANCELLED", "the builder cancelled the build".to_owned(), None);
    }
    ("BUILD_FAILED", words.to_owned(), None)
}

fn fix_image(words: &str) -> Option<String> {
    let fix = if is_denied(words) {
        "log in to that registry, or mend the name in FROM"
    } else if words.contains("not found") {
        "mend the name or the tag in FROM, or choose a platform that the image has"
    } else if is_unreachable(words) {
        "see whether the builder can reach that registry"
    } else {
        return None;
    };
    Some(fix.to_owned())
}

impl PushFailure {
    /// A push that failed, by the registry's or the builder's words.
    pub fn new(reference: Option<&str>, cause: &str) -> Self {
        let registry = reference.and_then(|name| name.split('/').next()).unwrap_or("the registry");
        let subject = reference.unwrap_or("the image");
        let words = cause.to_ascii_lowercase();
        let (code, what, fix) = if is_denied(&words) {
            (
                "PUSH_DENIED",
                format!("{registry} refused the push of {subject}"),
                Some(format!(
                    "log in to {registry} with an account that may push (`docker login`, or BK_SYNC_REGISTRY_USERNAME and _PASSWORD)"
                )),
            )
        } else if words.contains("name unknown")
            || words.contains("name_unknown")
            || words.contains("404 not found")
        {
            (
                "PUSH_NAME_UNKNOWN",
                format!("{registry} knows no such repository: {subject}"),
                Some("make the repository first, or mend the name".to_owned()),
            )
        } else if is_unreachable(&words) {
            (
                "PUSH_UNREACHABLE",
                format!("{registry} could not be reached for the push of {subject}"),
                Some("see whether the builder can reach that address, then build again: what was built is cached".to_owned()),
            )
        } else {
            (
                "PUSH_FAILED",
                format!("the push of {subject} failed"),
                Some("build again: what was built is cached".to_owned()),
            )
        };
        Self {
            code,
            message: what,
            reference: reference.map(str::to_owned),
            cause: (!cause.is_empty()).then(|| cause.to_owned()),
            fix,
            resume: None,
        }
    }

    /// A push of ours that a registry did not take.
    pub fn of_registry(reference: &str, error: &RegistryError) -> Self {
        let code = error.diagnostic_code();
        let host = &error.host;
        let message = match code {
            "PUSH_DENIED" => format!("{host} refused the push of {reference}"),
            "PUSH_UNREACHABLE" => {
                format!("{host} could not be reached for the push of {reference}")
            }
            "PUSH_NAME_UNKNOWN" => format!("{host} knows no such repository: {reference}"),
            _ => format!("the push of {reference} failed"),
        };
        Self {
            code,
            message,
            reference: Some(reference.to_owned()),
            cause: Some(error.explanation()),
            fix: Some(error.fix()),
            resume: None,
        }
    }

    /// The same failure of an image that is held under `id`.
    #[must_use]
    pub fn resumable(mut self, id: &str) -> Self {
        let go_on = format!("then go on with `bk-sync push --resume {id}`: nothing is built again");
        self.fix = Some(match self.fix {
            Some(fix) => format!("{fix}; {go_on}"),
            None => go_on,
        });
        self.resume = Some(id.to_owned());
        self
    }
}

impl PushFailure {
    /// The same failure, told by what stood in the way of the login: it knows the user, where the
    /// password comes from, and what is missing.
    #[must_use]
    pub fn explained_by(mut self, login: &LoginFailure) -> Self {
        if login.is_refusal() && self.code != "PUSH_DENIED" {
            let words = "denied";
            let Self { code, message, .. } = Self::new(self.reference.as_deref(), words);
            (self.code, self.message) = (code, message);
        }
        if self.code == "PUSH_DENIED" {
            self.cause = Some(login.to_string());
            self.fix = Some(login.hint());
        }
        self
    }
}

fn is_denied(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    [
        "401 unauthorized",
        "403 forbidden",
        "denied",
        "insufficient_scope",
        "authorization failed",
        "no basic auth credentials",
        "authentication required",
        "unauthorized",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

fn is_unreachable(words: &str) -> bool {
    [
        "connection refused",
        "no such host",
        "i/o timeout",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "tls handshake",
        "server misbehaving",
        "eof",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

/// What a file is called that a `COPY` did not find.
fn missing_file(words: &str) -> Option<&str> {
    let rest = words.split("failed to calculate checksum of ref ").nth(1)?;
    let quoted = rest.get(rest.find('"')? + 1..)?;
    let (path, after) = quoted.split_once('"')?;
    after.starts_with(": not found").then_some(path)
}

/// The number in `exit code: 7`.
fn exit_code(words: &str) -> Option<u32> {
    let rest = words.split("did not complete successfully: exit code: ").nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The command in `process "…" did not complete successfully`, less the shell around it.
fn quoted_command(words: &str) -> Option<String> {
    let (before, _) = words.split_once("\" did not complete successfully")?;
    let (_, quoted) = before.split_once("process \"")?;
    let mut command = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        command.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            },
            other => other,
        });
    }
    Some(command.strip_prefix("/bin/sh -c ").unwrap_or(&command).to_owned())
}

fn last_cause(words: &str) -> String {
    words.rsplit(": ").next().unwrap_or(words).to_owned()
}

fn last_cause_with(words: &str, from: &str) -> String {
    words.rfind(from).and_then(|at| words.get(at..)).unwrap_or(words).to_owned()
}

/// A command as one would type it; the shell that BuildKit puts around it is left out.
fn command_line(args: &[String]) -> String {
    if let [shell, flag, script] = args
        && flag == "-c"
        && shell.ends_with("sh")
    {
        return script.clone();
    }
    args.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buildkit::errors::{Details, FailedOp},
        credential::RegistryHost,
        event::{BuildStatus, Vertex, VertexLog},
        registry::token::TokenError,
    };

    fn failure(message: &str) -> Failure {
        Failure::new(Code::Unknown, message)
    }

    fn code(message: &str) -> &'static str {
        match Error::from_failure(&failure(message), &Journal::default()) {
            Error::Build(failure) | Error::Dockerfile(failure) => failure.code,
            Error::Push(failure) => failure.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn failures_are_told_apart_by_code() {
        let table = [
            ("failed to calculate checksum of ref a::b: \"/nope\": not found", "FILE_NOT_FOUND"),
            ("dockerfile parse error on line 2: unknown instruction: FORM", "DOCKERFILE_INVALID"),
            ("target stage \"x\" could not be found", "TARGET_NOT_FOUND"),
            (
                "failed to read dockerfile: open Dockerfile: no such file or directory",
                "DOCKERFILE_NOT_FOUND",
            ),
            (
                "process \"/bin/sh -c false\" did not complete successfully: exit code: 1",
                "BUILD_FAILED",
            ),
            (
                "docker.io/library/nope:latest: failed to resolve source metadata for docker.io/library/nope:latest: not found",
                "BASE_IMAGE_UNRESOLVED",
            ),
            ("write /x: no space left on device", "BUILDER_DISK_FULL"),
            ("secret token: not found", "SECRET_MISSING"),
            (
                "failed to push r/a:1: unexpected status from HEAD request to http://r/v2/a: 401 Unauthorized",
                "PUSH_DENIED",
            ),
            (
                "failed to push r/a:1: server message: insufficient_scope: authorization failed",
                "PUSH_DENIED",
            ),
            (
                "failed to push r/a:1: failed to do request: dial tcp 127.0.0.1:1: connect: connection refused",
                "PUSH_UNREACHABLE",
            ),
            ("failed to push r/a:1: unexpected status: 404 Not Found", "PUSH_NAME_UNKNOWN"),
            ("failed to push r/a:1: unexpected status: 500 Internal Server Error", "PUSH_FAILED"),
            ("something else", "BUILD_FAILED"),
        ];
        for (message, expected) in table {
            assert_eq!(code(message), expected, "{message}");
        }
    }

    #[test]
    fn a_failed_step_comes_with_its_command_exit_code_and_log() {
        let mut journal = Journal::default();
        journal.observe(&BuildStatus {
            vertices: vec![Vertex {
                digest: "sha256:v".to_owned(),
                name: "[2/2] RUN make".to_owned(),
                error: "exit".to_owned(),
                ..Vertex::default()
            }],
            logs: vec![VertexLog {
                vertex: "sha256:v".to_owned(),
                data: b"no rule\n".to_vec(),
                ..VertexLog::default()
            }],
            ..BuildStatus::default()
        });
        let mut failure =
            failure("process \"/bin/sh -c make\" did not complete successfully: exit code: 2");
        *failure.details = Details {
            vertex: Some("sha256:v".to_owned()),
            op: Some(FailedOp {
                args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "make".to_owned()],
                ..FailedOp::default()
            }),
            ..Details::default()
        };
        let Error::Build(built) = Error::from_failure(&failure, &journal) else {
            panic!("no build failure");
        };
        assert_eq!(built.code, "STEP_FAILED");
        assert_eq!(
            built.step,
            Some(FailedStep {
                name: "[2/2] RUN make".to_owned(),
                command: Some("make".to_owned()),
                exit_code: Some(2),
                log: vec!["no rule".to_owned()],
            })
        );
    }

    #[test]
    fn a_command_is_read_out_of_the_words_where_nothing_better_came() {
        let table = [
            (
                r#"process "/bin/sh -c echo \"a\" \\ b" did not complete successfully: exit code: 1"#,
                Some(r#"echo "a" \ b"#),
            ),
            (
                r#"x: process "make all" did not complete successfully: exit code: 2"#,
                Some("make all"),
            ),
            ("something else", None),
        ];
        for (words, expected) in table {
            assert_eq!(quoted_command(words).as_deref(), expected);
        }
    }

    #[test]
    fn a_dockerfile_found_wrong_here_has_the_code_that_the_builder_would_give() {
        let code = |message: &str| BuildFailure::dockerfile(message.to_owned(), vec![], None).code;
        assert_eq!(code("target stage \"x\" could not be found"), "TARGET_NOT_FOUND");
        assert_eq!(code("unknown instruction: FORM"), "DOCKERFILE_INVALID");
    }

    #[test]
    fn a_base_image_is_known_by_the_step_that_asked_for_it() {
        let mut journal = Journal::default();
        journal.observe(&BuildStatus {
            vertices: vec![Vertex {
                digest: "sha256:m".to_owned(),
                name: "[internal] load metadata for r/a:1".to_owned(),
                error: "r/a:1: not found".to_owned(),
                ..Vertex::default()
            }],
            ..BuildStatus::default()
        });
        let Error::Build(built) =
            Error::from_failure(&failure("r/a:1: r/a:1: not found"), &journal)
        else {
            panic!("no build failure");
        };
        assert_eq!(built.code, "BASE_IMAGE_UNRESOLVED");
        assert_eq!(built.message, "cannot resolve `r/a:1`: not found");
    }

    #[test]
    fn a_broken_connection_is_no_failed_build() {
        let mut failure = failure("transport error: broken pipe");
        failure.connection = true;
        let error = Error::from_failure(&failure, &Journal::default());
        assert!(matches!(error, Error::Builder { .. }), "{error:?}");
    }

    #[test]
    fn a_refused_login_is_a_refused_push_whatever_the_builder_made_of_it() {
        let words = "failed to push r.example/a:1: failed to authorize: Unauthenticated: wrong";
        let mut journal = Journal::default();
        let vertex = Vertex {
            digest: "export".to_owned(),
            name: "exporting to image".to_owned(),
            error: words.to_owned(),
            ..Vertex::default()
        };
        journal.observe(&BuildStatus { vertices: vec![vertex], ..BuildStatus::default() });
        let Error::Push(failure) = Error::from_failure(&failure("wrong"), &journal) else {
            panic!("no push failure");
        };
        assert_eq!(failure.reference.as_deref(), Some("r.example/a:1"));
        let host = RegistryHost::new("r.example");
        let login = TokenError::NoCredentials { host, message: String::new() };
        let failure = failure.explained_by(&LoginFailure::Token(login));
        assert_eq!(failure.code, "PUSH_DENIED");
        assert_eq!(failure.message, "r.example refused the push of r.example/a:1");
        assert!(failure.cause.unwrap().contains("no credentials for it were found"));
        assert!(failure.fix.unwrap().contains("docker login r.example"));
    }

    #[test]
    fn the_push_failure_names_what_was_pushed() {
        let failure = PushFailure::new(Some("r.example/a:1"), "403 Forbidden");
        assert_eq!(failure.message, "r.example refused the push of r.example/a:1");
        assert_eq!(failure.cause.as_deref(), Some("403 Forbidden"));
    }
}
