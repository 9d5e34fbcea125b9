//! The one table that says what each error means to a user: its code, its exit, its fix.

use crate::{
    buildkit::{discover::Miss, errors::Source},
    compile::CompileError,
    diagnostic::{Diagnostic, Excerpt, Exit, NextAction, Range, Step},
    dockerfile::Lines,
    pipeline::{
        self,
        error::{BuildFailure, PushFailure},
    },
};
use serde_json::json;
use std::{io, path::Path};

/// Something of the command line, the environment or the config that cannot be meant.
pub(super) fn usage(message: impl Into<String>, fix: impl Into<String>) -> Box<Diagnostic> {
    Diagnostic::new("USAGE", Exit::Usage, message).with_fix(fix).into()
}

/// A file that `--html` names cannot be written.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> Diagnostic {
    let message = format!("cannot write `{}`: {error}", path.display());
    Diagnostic::new("FILE_FAILED", Exit::Usage, message)
        .with_fix("name a file that can be written with `--html`")
}

impl From<pipeline::Error> for Diagnostic {
    fn from(error: pipeline::Error) -> Self {
        use pipeline::Error;
        match error {
            Error::Build(failure) => failed_build(*failure, Exit::Build),
            Error::Dockerfile(failure) => failed_build(*failure, Exit::Usage),
            Error::Builder { .. } => Self::new("BUILDER_LOST", Exit::NoBuilder, error.to_string())
                .with_fix("see whether it still runs, and look at its log"),
            Error::Interrupted => {
                Self::new("INTERRUPTED", Exit::Interrupted, "interrupted; nothing runs any more")
            }
            Error::Load { .. } => Self::new("LOAD_FAILED", Exit::Build, error.to_string())
                .with_fix(
                    "see whether that Docker runs, or write `--output type=docker,dest=FILE`",
                ),
            Error::Preflight(failure) => refused_push(*failure, Exit::Preflight),
            Error::Push(failure) => refused_push(*failure, Exit::Push),
            Error::Refused(refusal) => {
                let mut diagnostic = Self::new(refusal.code, Exit::Usage, refusal.message);
                diagnostic.fix = refusal.fix;
                diagnostic
            }
            Error::Unfit(refusal) => {
                let mut diagnostic = Self::new(refusal.code, Exit::Preflight, refusal.message)
                    .with_note("nothing was exported or pushed, since `--strict` is given");
                diagnostic.fix = refusal.fix;
                diagnostic
            }
            Error::Unverified(refusal) => {
                let mut diagnostic = Self::new(refusal.code, Exit::Preflight, refusal.message)
                    .with_note("no step has run");
                diagnostic.fix = refusal.fix;
                diagnostic
            }
            Error::Session(_) => Self::new("SESSION_LOST", Exit::Build, error.to_string())
                .with_sources(&error)
                .with_fix("build again: what was built is cached"),
            Error::Io { ref path, .. } => Self::new("FILE_FAILED", Exit::Build, error.to_string())
                .with_sources(&error)
                .with_detail("path", path.display().to_string()),
        }
    }
}

impl From<Miss> for Diagnostic {
    fn from(miss: Miss) -> Self {
        let (code, exit) = if miss.is_misnamed() {
            ("BUILDER_ADDRESS_INVALID", Exit::Usage)
        } else {
            ("BUILDER_UNREACHABLE", Exit::NoBuilder)
        };
        let text = miss.to_string();
        let mut lines = text.lines();
        let message = lines.next().unwrap_or_default().trim_end_matches("; tried:");
        let mut diagnostic = Self::new(code, exit, message).with_fix(miss.fix());
        if exit == Exit::NoBuilder {
            diagnostic.next_actions.push(NextAction {
                command: "bk-sync builder ls".to_owned(),
                description: "where builders could be, and which answer".to_owned(),
            });
        }
        let tried: Vec<&str> = lines.map(str::trim).collect();
        for place in &tried {
            diagnostic = diagnostic.with_note(format!("tried {place}"));
        }
        diagnostic
    }
}

/// What is wrong with a Dockerfile. All that could be found wrong with its text is shown at once.
pub(super) fn uncompiled(error: &CompileError, file: &str, text: &[u8]) -> Diagnostic {
    let picture = |lines: &Lines, label: Option<String>| {
        let source = Source {
            filename: file.to_owned(),
            data: text.to_vec(),
            lines: vec![(lines.first, lines.last)],
        };
        excerpt(&source).map(|excerpt| Excerpt { label, ..excerpt })
    };
    let mut diagnostic = Diagnostic::new("DOCKERFILE_INVALID", Exit::Usage, error.to_string());
    diagnostic.fix = error.hint();
    diagnostic.excerpts = match error.dockerfile_errors() {
        Some(errors) if !errors.rest.is_empty() => errors
            .iter()
            .filter_map(|error| picture(error.lines.as_ref()?, Some(error.to_string())))
            .collect(),
        _ => error.places.iter().flatten().take(1).filter_map(|at| picture(at, None)).collect(),
    };
    diagnostic
}

fn refused_push(failure: PushFailure, exit: Exit) -> Diagnostic {
    let PushFailure { code, message, reference, cause, fix, resume } = failure;
    let mut diagnostic = Diagnostic::new(code, exit, message);
    diagnostic.fix = fix;
    diagnostic.causes.extend(cause);
    if let Some(id) = resume {
        diagnostic.next_actions.push(NextAction {
            command: format!("bk-sync push --resume {id}"),
            description: "finish the push without a build".to_owned(),
        });
        diagnostic = diagnostic.with_detail("resume", id);
    }
    match reference {
        Some(reference) => diagnostic.with_detail("reference", reference),
        None => diagnostic,
    }
}

fn failed_build(failure: BuildFailure, exit: Exit) -> Diagnostic {
    let BuildFailure { code, message, sources, step, cause, fix } = failure;
    let mut diagnostic = Diagnostic::new(code, exit, message);
    // The nearest place is the instruction; the ones around it say how it came to be run.
    diagnostic.excerpts = sources.iter().filter_map(excerpt).take(1).collect();
    diagnostic.step = step.map(|step| Step {
        name: step.name,
        command: step.command,
        exit_code: step.exit_code.map(i64::from),
        log: step.log,
    });
    diagnostic.causes.extend(cause);
    diagnostic.fix = fix;
    if let Some(line) = diagnostic.excerpts.first().and_then(Excerpt::line) {
        diagnostic.details.insert("line".to_owned(), json!(line));
    }
    diagnostic
}

fn excerpt(source: &Source) -> Option<Excerpt> {
    let text = String::from_utf8_lossy(&source.data).into_owned();
    let ranges: Vec<Range> = source
        .lines
        .iter()
        .filter_map(|(first, last)| {
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            let width = text.lines().nth(last.checked_sub(1)?)?.chars().count();
            Some(Range { start: (first, 0), end: (last, width) })
        })
        .collect();
    let file = source.filename.clone();
    (!ranges.is_empty()).then_some(Excerpt { file, text, ranges, label: None })
}

#[cfg(test)]
mod tests {
    use crate::{
        buildkit::errors::Source,
        diagnostic::{Diagnostic, Exit, failure, render},
        pipeline::error::{BuildFailure, Error, FailedStep, PushFailure, Refusal},
    };
    use std::io;

    fn step() -> Error {
        Error::Build(Box::new(BuildFailure {
            code: "STEP_FAILED",
            message: "a step failed with exit code 127".to_owned(),
            sources: vec![Source {
                filename: "Dockerfile".to_owned(),
                data: b"FROM alpine\nRUN nope \\\n  --x\n".to_vec(),
                lines: vec![(2, 3)],
            }],
            step: Some(FailedStep {
                name: "[2/2] RUN nope   --x".to_owned(),
                command: Some("nope   --x".to_owned()),
                exit_code: Some(127),
                log: vec!["/bin/sh: nope: not found".to_owned()],
            }),
            cause: Some("failed to solve: process \"/bin/sh -c nope\" did not complete".to_owned()),
            fix: Some("the command was not found".to_owned()),
        }))
    }

    #[test]
    fn a_failed_step_is_the_picture_that_users_know() {
        let diagnostic = Diagnostic::from(step());
        insta::assert_snapshot!(anstream::adapter::strip_str(&render(&diagnostic)), @r#"
        error: a step failed with exit code 127
         --> Dockerfile:2:1
          |
        1 | FROM alpine
        2 | RUN nope \
          | ^^^^^^^^^^
        3 |   --x
          | ^^^^^
        step: [2/2] RUN nope   --x
        exit code: 127
        last lines of its output:
          | /bin/sh: nope: not found
        caused by: failed to solve: process "/bin/sh -c nope" did not complete
        hint: the command was not found
        more: `bk-sync explain STEP_FAILED`
        "#);
        insta::assert_json_snapshot!(failure(Some("build"), &diagnostic), @r#"
        {
          "command": "build",
          "error": {
            "code": "STEP_FAILED",
            "details": {
              "causes": [
                "failed to solve: process \"/bin/sh -c nope\" did not complete"
              ],
              "exit_code": 11,
              "line": 2,
              "locations": [
                {
                  "file": "Dockerfile",
                  "ranges": [
                    {
                      "end": {
                        "column": 5,
                        "line": 3
                      },
                      "start": {
                        "column": 0,
                        "line": 2
                      }
                    }
                  ]
                }
              ],
              "step": {
                "command": "nope   --x",
                "exit_code": 127,
                "log": [
                  "/bin/sh: nope: not found"
                ],
                "name": "[2/2] RUN nope   --x"
              }
            },
            "message": "a step failed with exit code 127"
          },
          "fix": "the command was not found",
          "next_actions": [
            {
              "command": "bk-sync explain STEP_FAILED",
              "description": "what it means, why it happens, what to do"
            }
          ],
          "ok": false
        }
        "#);
    }

    #[test]
    fn every_error_has_its_exit() {
        let failed = |code, reference: Option<&str>| {
            Box::new(PushFailure {
                code,
                message: "m".to_owned(),
                reference: reference.map(str::to_owned),
                ..PushFailure::default()
            })
        };
        let io = Error::Io {
            action: "cannot write",
            path: "/x".into(),
            cause: io::Error::other("full"),
        };
        let table = [
            (step(), Exit::Build, "STEP_FAILED"),
            (Error::Interrupted, Exit::Interrupted, "INTERRUPTED"),
            (Error::Builder { message: "m".to_owned() }, Exit::NoBuilder, "BUILDER_LOST"),
            (Error::Load { message: "m".to_owned() }, Exit::Build, "LOAD_FAILED"),
            (Error::Push(failed("PUSH_DENIED", Some("r/a"))), Exit::Push, "PUSH_DENIED"),
            (Error::Refused(Refusal::new("NO", "m")), Exit::Usage, "NO"),
            (io, Exit::Build, "FILE_FAILED"),
        ];
        for (error, exit, code) in table {
            let diagnostic = Diagnostic::from(error);
            assert_eq!((diagnostic.exit, diagnostic.code), (exit, code));
        }
    }

    #[test]
    fn a_dockerfile_that_is_wrong_is_a_usage_error() {
        let failure = BuildFailure { code: "DOCKERFILE_INVALID", ..BuildFailure::default() };
        assert_eq!(Diagnostic::from(Error::Dockerfile(Box::new(failure))).exit, Exit::Usage);
    }
}
