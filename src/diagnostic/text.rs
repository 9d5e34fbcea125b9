//! Diagnostics as text for people. Colour repeats what the words say.

use super::{Diagnostic, Excerpt};
use annotate_snippets::{Group, Level, Renderer};
use std::fmt::Write as _;

const RED: anstyle::Style = anstyle::AnsiColor::BrightRed.on_default().bold();
const YELLOW: anstyle::Style = anstyle::AnsiColor::Yellow.on_default().bold();
const CYAN: anstyle::Style = anstyle::AnsiColor::Cyan.on_default().bold();
const DIM: anstyle::Style = anstyle::Style::new().dimmed();

/// A failure as text, with ANSI styles, ending in a newline.
pub fn render(diagnostic: &Diagnostic) -> String {
    let mut text = format!("{RED}error{RED:#}: {}\n", clean(&diagnostic.message));
    for excerpt in &diagnostic.excerpts {
        text.push_str(&picture(excerpt, &Level::ERROR));
    }
    if let Some(step) = &diagnostic.step {
        let name = if step.name.is_empty() { "the step" } else { step.name.as_str() };
        line(&mut text, "step", name);
        if let Some(command) = &step.command
            && !step.name.ends_with(command.as_str())
        {
            line(&mut text, "command", command);
        }
        if let Some(code) = step.exit_code {
            line(&mut text, "exit code", &code.to_string());
        }
        if !step.log.is_empty() {
            text.push_str("last lines of its output:\n");
            for log in &step.log {
                put(&mut text, format_args!("  {DIM}|{DIM:#} {}\n", clean(log)));
            }
        }
    }
    for cause in &diagnostic.causes {
        line(&mut text, "caused by", cause);
    }
    for note in &diagnostic.notes {
        line(&mut text, "note", note);
    }
    if let Some(fix) = &diagnostic.fix {
        put(&mut text, format_args!("{CYAN}hint{CYAN:#}: {}\n", indented(fix)));
    }
    for action in &diagnostic.next_actions {
        let (command, description) = (clean(&action.command), clean(&action.description));
        put(&mut text, format_args!("{CYAN}next{CYAN:#}: `{command}` ({description})\n"));
    }
    if diagnostic.is_explained() {
        put(&mut text, format_args!("{DIM}more{DIM:#}: `bk-sync explain {}`\n", diagnostic.code));
    }
    text
}

/// A warning as text, with ANSI styles, ending in a newline.
pub fn render_warning(message: &str, excerpt: Option<&Excerpt>, hint: Option<&str>) -> String {
    let mut text = format!("{YELLOW}warning{YELLOW:#}: {}\n", clean(message));
    if let Some(excerpt) = excerpt {
        text.push_str(&picture(excerpt, &Level::WARNING));
    }
    if let Some(hint) = hint {
        put(&mut text, format_args!("{CYAN}hint{CYAN:#}: {}\n", indented(hint)));
    }
    text
}

/// The marked lines of a file. Tabs and control characters are the renderer's matter.
fn picture(excerpt: &Excerpt, level: &Level<'static>) -> String {
    match excerpt.snippet() {
        Some(snippet) => {
            let report = [Group::with_level(level.clone()).element(snippet)];
            let mut picture = Renderer::styled().render(&report);
            picture.push('\n');
            picture
        }
        None => excerpt.line().map_or_else(
            || format!(" --> {}\n", clean(&excerpt.file)),
            |line| format!(" --> {}:{line}\n", clean(&excerpt.file)),
        ),
    }
}

fn line(text: &mut String, head: &str, body: &str) {
    put(text, format_args!("{DIM}{head}{DIM:#}: {}\n", indented(body)));
}

fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _cannot_fail = text.write_fmt(line);
}

/// Text of several lines, the later ones indented below the first.
fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(clean).collect();
    lines.join("\n  ")
}

/// Text that came from elsewhere, without what would steer the terminal.
fn clean(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::{render, render_warning};
    use crate::diagnostic::{Diagnostic, Excerpt, Exit, NextAction, Range, Step};

    const DOCKERFILE: &str = "FROM alpine AS build\nWORKDIR /src\nCOPY . .\nRUN make\\\n  all\n\nFROM scratch\nCOPY --from=build /out /\n";

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_failed_step_shows_place_output_and_fix() {
        let mut diagnostic = Diagnostic::new(
            "BUILD_STEP_FAILED",
            Exit::Build,
            "`RUN make all` failed with exit code 2",
        )
        .with_excerpt(Excerpt {
            file: "Dockerfile".to_owned(),
            text: DOCKERFILE.to_owned(),
            ranges: vec![Range { start: (4, 0), end: (5, 5) }],
            label: None,
        })
        .with_fix("run the step by hand");
        diagnostic.step = Some(Step {
            name: "[build 4/4] RUN make all".to_owned(),
            command: Some("/bin/sh -c make all".to_owned()),
            exit_code: Some(2),
            log: vec!["cc -c a.c".to_owned(), "make: *** \u{1b}[31m[all] Error 1".to_owned()],
        });
        diagnostic.causes.push("process ended".to_owned());
        diagnostic.next_actions.push(NextAction {
            command: "bk-sync build --target build".to_owned(),
            description: "build up to the stage".to_owned(),
        });
        insta::assert_snapshot!(plain(&render(&diagnostic)), @r"
        error: `RUN make all` failed with exit code 2
         --> Dockerfile:4:1
          |
        2 | WORKDIR /src
        3 | COPY . .
        4 | RUN make\
          | ^^^^^^^^^
        5 |   all
          | ^^^^^
        6 |
        7 | FROM scratch
          |
        step: [build 4/4] RUN make all
        command: /bin/sh -c make all
        exit code: 2
        last lines of its output:
          | cc -c a.c
          | make: *** [all] Error 1
        caused by: process ended
        hint: run the step by hand
        next: `bk-sync build --target build` (build up to the stage)
        more: `bk-sync explain BUILD_STEP_FAILED`
        ");
    }

    #[test]
    fn a_place_without_columns_marks_the_whole_line() {
        let excerpt = Excerpt {
            file: "Dockerfile".to_owned(),
            text: "FROM alpine\nRUN\tfalse ünï\n".to_owned(),
            ranges: vec![Range { start: (2, 0), end: (2, 0) }],
            label: Some("here".to_owned()),
        };
        insta::assert_snapshot!(plain(&render_warning("odd", Some(&excerpt), Some("mend it"))), @r"
        warning: odd
         --> Dockerfile:2:1
          |
        1 | FROM alpine
        2 | RUN    false ünï
          | ^^^^^^^^^^^^^^^^ here
        hint: mend it
        ");
    }

    #[test]
    fn ranges_outside_the_file_still_name_it() {
        for range in [((0, 0), (0, 0)), ((9, 0), (9, 1)), ((2, 50), (1, 0)), ((1, 99), (9, 99))] {
            let excerpt = Excerpt {
                file: "F".to_owned(),
                text: "FROM a\nRUN b\n".to_owned(),
                ranges: vec![Range { start: range.0, end: range.1 }],
                label: None,
            };
            let shown = plain(&render_warning("odd", Some(&excerpt), None));
            assert!(shown.contains("--> F:"), "{shown}");
        }
    }
}
