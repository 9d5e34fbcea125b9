//! Whatever the text, reading it ends, without a panic, and all places it names lie inside of it.

use std::collections::BTreeMap;

use bk_sync::dockerfile::ast::{Dockerfile, Kind, Origin};
use bk_sync::dockerfile::expand::Expander;
use bk_sync::dockerfile::lint::{Linter, Options};
use bk_sync::dockerfile::{Lines, Span, directive, parse, parse_trigger};
use proptest::prelude::*;

use crate::generated::dockerfiles;

/// Pieces of which Dockerfiles, good and bad, are made.
const PIECES: &[&str] = &[
    "FROM a",
    "FROM --platform=$P a AS b",
    "from a as B",
    "RUN ",
    "run ",
    "COPY ",
    "ADD ",
    "ENV ",
    "LABEL ",
    "ARG ",
    "USER u",
    "WORKDIR ",
    "EXPOSE ",
    "VOLUME ",
    "CMD ",
    "ENTRYPOINT ",
    "SHELL ",
    "HEALTHCHECK ",
    "ONBUILD ",
    "STOPSIGNAL ",
    "MAINTAINER ",
    "NONSENSE ",
    "--link ",
    "--from=b ",
    "--mount=type=cache,target=/x ",
    "--mount=type=secret,id=\"a\" ",
    "--network=none ",
    "--interval=1s ",
    "--x=\"y z\" ",
    "--",
    "-- ",
    "<<EOF ",
    "<<-'EOF' ",
    "<< x ",
    "EOF",
    "\n",
    "\r\n",
    "\n",
    "\n",
    "\\\n",
    "`\n",
    "\\",
    "`",
    " ",
    "\t",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=a\n",
    "[\"a\", \"b\"]",
    "[\"a\"",
    "[1]",
    "$A",
    "${A:-b}",
    "${A",
    "'",
    "\"",
    "=",
    "A=b ",
    "a b ",
    "CMD x",
    "NONE",
    "\u{feff}",
    "ü",
    "\u{a0}",
    "\u{2028}",
    "\0",
    "80/tcp ",
    "/",
    ":",
    ",",
];

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let pieces = proptest::collection::vec(proptest::sample::select(PIECES), 0..60)
        .prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let mixed = (pieces.clone(), bytes.clone()).prop_map(|(mut text, bytes)| {
        let middle = text.len() / 2;
        text.splice(middle..middle, bytes);
        text
    });
    prop_oneof![8 => pieces, 1 => bytes, 1 => mixed]
}

fn origins(file: &Dockerfile) -> Vec<&Origin> {
    let mut origins: Vec<&Origin> = file.global_args.iter().map(|arg| &arg.origin).collect();
    for stage in &file.stages {
        origins.push(&stage.origin);
        origins.extend(stage.instructions.iter().map(|instruction| &instruction.origin));
    }
    origins
}

fn inside(span: Span, source: &[u8]) -> bool {
    span.start <= span.end && span.end <= source.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn reading_ends_and_places_lie_inside(source in texts()) {
        let count = u32::try_from(source.split(|&byte| byte == b'\n').count()).unwrap();
        let mut linter = Linter::new(Options::parse("experimental=all").unwrap());
        drop(directive::syntax(&source));
        match parse(&source, &mut linter) {
            Ok(file) => {
                let mut before = Lines::default();
                let mut end = 0;
                for origin in origins(&file) {
                    prop_assert!(inside(origin.span, &source), "{origin:?}");
                    prop_assert!(origin.span.start >= end, "{origin:?} overlaps");
                    end = origin.span.end;
                    prop_assert!(origin.lines.first > before.last, "{origin:?} after {before:?}");
                    prop_assert!(origin.lines.last <= count, "{origin:?} of {count}");
                    let (line, _) = origin.span.position(&source);
                    prop_assert!(line >= usize::try_from(origin.lines.first).unwrap());
                    before = origin.lines;
                }
                for warning in linter.warnings() {
                    prop_assert!(warning.lines.first >= 1 && warning.lines.last <= count);
                }
                for stage in &file.stages {
                    for instruction in &stage.instructions {
                        match &instruction.kind {
                            Kind::Onbuild(text) => drop(parse_trigger(text, Lines::one(1))),
                            Kind::Run(run) => {
                                for mount in &run.mounts {
                                    prop_assert!(inside(mount.span, &source));
                                }
                            }
                            _ => {}
                        }
                    }
                }
            }
            Err(errors) => {
                for error in errors.iter() {
                    if let Some(span) = error.span {
                        prop_assert!(inside(span, &source), "{error:?}");
                    }
                    if let Some(lines) = error.lines {
                        prop_assert!(lines.first <= lines.last && lines.last <= count, "{error:?}");
                    }
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn valid_files_are_read_whole(made in dockerfiles(&["example.test/base:1", "debian"])) {
        let file = parse(made.text.as_bytes(), &mut Linter::default());
        let file = file.map_err(|errors| TestCaseError::fail(format!("{errors}\n{}", made.text)))?;
        let mut words: Vec<String> = Vec::new();
        words.extend(origins(&file).iter().map(|origin| origin.keyword.to_uppercase()));
        prop_assert_eq!(words, made.instructions);
        let names: Vec<_> =
            file.stages.iter().filter_map(|stage| stage.from.name.clone()).collect();
        prop_assert_eq!(names, made.stages);
    }

    #[test]
    fn expanding_ends(
        pieces in proptest::collection::vec(
            proptest::sample::select(&[
                "${", "$", "}", "A", "B", ":", "-", "+", "?", "#", "%", "/", "*", "\\", "`", "'", "\"",
                "<<", " ", "a", "ü", "${A", "$A", "${A//", "\u{feff}", "\0",
            ][..]),
            0..40,
        ),
        value in ".{0,20}",
        escape in proptest::sample::select(&['\\', '`'][..]),
        rules in any::<[bool; 4]>(),
    ) {
        let text = pieces.concat();
        let variables = BTreeMap::from([("A".to_owned(), value)]);
        let mut expander = Expander::new(escape);
        if rules[0] { expander = expander.keep_quotes(); }
        if rules[1] { expander = expander.keep_escapes(); }
        if rules[2] { expander = expander.ignore_quotes(); }
        if rules[3] { expander = expander.keep_unset(); }
        let word = expander.word(&text, &variables);
        let words = expander.words(&text, &variables);
        prop_assert_eq!(word.is_ok(), words.is_ok());
        if let Ok(expansion) = word {
            prop_assert!(expansion.names.matched.iter().all(|name| name == "A"));
            prop_assert!(!expansion.names.unmatched.contains("A"));
        }
    }

    #[test]
    fn what_needs_no_reading_stays(text in "[a-zA-Z0-9 ./:=ü-]{0,40}") {
        let expansion = Expander::new('\\').word(&text, &BTreeMap::new()).unwrap();
        prop_assert_eq!(expansion.text, text);
    }
}

#[test]
fn a_file_of_a_hundred_thousand_lines_is_read_whole() {
    let body = "RUN --mount=type=cache,target=/root/.cache make \\\n  all && echo \"done\"\n";
    let source = format!("FROM a\n{}", body.repeat(50_000));
    let file = parse(source.as_bytes(), &mut Linter::default()).unwrap();
    assert_eq!(file.stages[0].instructions.len(), 50_000);
}
