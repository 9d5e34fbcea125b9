use super::super::ast::{Dockerfile, Kind, Network, Security};
use super::super::lint::{Linter, Options};
use super::super::place::Lines;
use super::{Cause, parse, parse_trigger};

fn read(source: &str) -> Dockerfile {
    parse(source.as_bytes(), &mut Linter::default()).unwrap()
}

fn only(source: &str) -> Kind {
    let file = read(&format!("FROM a\n{source}"));
    let [instruction] = file.stages[0].instructions.as_slice() else { panic!("{file:?}") };
    instruction.kind.clone()
}

/// The causes with their lines.
fn wrong(source: &str) -> Vec<(String, Option<Lines>)> {
    let errors = parse(source.as_bytes(), &mut Linter::default()).unwrap_err();
    errors.iter().map(|error| (error.to_string(), error.lines)).collect()
}

fn first_wrong(source: &str) -> String {
    wrong(source).remove(0).0
}

#[test]
fn stages_and_what_stands_before_them() {
    let file = read(
        "# escape=`\nARG A=1\n# app what runs\nFROM --platform=$P b AS App\nRUN x `\n y\nFROM c\n",
    );
    assert_eq!(file.escape, '`');
    assert_eq!(file.directives.len(), 1);
    assert_eq!(file.global_args[0].arg.names[0].value.as_deref(), Some("1"));
    let from = &file.stages[0].from;
    assert_eq!((from.base.as_str(), from.name.as_deref()), ("b", Some("app")));
    assert_eq!(from.platform.as_deref(), Some("$P"));
    assert_eq!(from.doc_comment.as_deref(), Some("what runs"));
    let run = &file.stages[0].instructions[0];
    assert_eq!(run.origin.code, "RUN x  y");
    assert_eq!(run.origin.lines, Lines::new(5, 6));
    assert_eq!(file.stages.len(), 2);
}

#[test]
fn spans_show_the_source() {
    let source = "FROM a\n  COPY --chown=u \\\n   # note\n  --nope=1 a b\n";
    let errors = parse(source.as_bytes(), &mut Linter::default()).unwrap_err();
    let span = errors.first.span.unwrap();
    assert_eq!(source.get(span.start..span.end), Some("--nope=1"));
    assert_eq!(span.position(source.as_bytes()), (4, 3));
    assert_eq!(errors.first.lines, Some(Lines::new(2, 4)));

    let source = "\u{feff}FROM a\r\nRUN <<X\r\nok\r\nX\r\nUSER u\r\n";
    let file = read(source);
    let spans = file.stages[0].instructions.iter().map(|instruction| instruction.origin.span);
    let texts: Vec<_> = spans.map(|span| source.get(span.start..span.end).unwrap()).collect();
    assert_eq!(texts, ["RUN <<X\r\nok\r\nX", "USER u"]);
}

#[test]
fn comments_belong_to_what_follows() {
    let file = read("FROM a\n# one\n\n# two\n# check=skip=X\nRUN b\n# lost\n#\n# kept\nRUN c\n");
    let comments: Vec<_> =
        file.stages[0].instructions.iter().map(|i| i.origin.comments.clone()).collect();
    assert_eq!(comments[0], ["one", "two", "check=skip=X"]);
    assert_eq!(comments[1], ["kept"]);
}

#[test]
fn heredocs_of_copy_become_files() {
    let Kind::Copy(copy) = only("COPY <<-a <<'b' c /d\n\t1\n\ta\n2\nb\n") else { panic!() };
    assert_eq!(copy.files.paths, ["c"]);
    assert_eq!(copy.files.dest, "/d");
    let inline: Vec<_> = copy
        .files
        .inline
        .iter()
        .map(|source| (source.name.as_str(), source.data.as_slice(), source.expand))
        .collect();
    assert_eq!(inline, [("a", &b"1\n"[..], true), ("b", b"2\n", false)]);
}

#[test]
fn heredocs_beyond_utf8_keep_their_bytes() {
    let source = b"FROM a\nCOPY <<'x' /y\n\xff\n\nx\n";
    let file = parse(source, &mut Linter::default()).unwrap();
    let Kind::Copy(copy) = &file.stages[0].instructions[0].kind else { panic!() };
    assert_eq!(copy.files.inline[0].data, b"\xff\n\n");
    let errors = parse(b"FROM a\nRUN \xff\n", &mut Linter::default()).unwrap_err();
    assert_eq!(*errors.first.cause, Cause::NotUtf8 { instruction: "RUN" });
}

#[test]
fn a_heredoc_that_is_all_of_a_run_is_known() {
    let Kind::Run(run) = only("RUN <<-x\n\ta\n\tx\n") else { panic!() };
    assert_eq!(run.command.sole_heredoc().unwrap().content(), "a\n");
    let Kind::Run(run) = only("RUN cat <<x\na\nx\n") else { panic!() };
    assert_eq!(run.command.sole_heredoc(), None);
    assert_eq!(run.command.heredocs[0].data, "a\n");
}

#[test]
fn a_spaced_heredoc_swallows_its_body_and_stays_two_paths() {
    let Kind::Copy(copy) = only("COPY << x /y\nbody\nx\n") else { panic!() };
    assert_eq!(copy.files.paths, ["<<", "x"]);
    assert_eq!(copy.files.inline, []);
}

#[test]
fn run_flags() {
    let run = "RUN --network=none --security=insecure --mount=from=x,target=/y --device=d/e=f z";
    let Kind::Run(run) = only(run) else { panic!() };
    assert_eq!((run.network, run.security), (Network::None, Security::Insecure));
    assert_eq!(run.mounts[0].from, "x");
    assert_eq!(run.devices[0].name, "d/e=f");
    assert_eq!(
        run.flags.into_iter().collect::<Vec<_>>(),
        ["device", "mount", "network", "security"]
    );
}

#[test]
fn triggers_keep_their_text() {
    let Kind::Onbuild(text) = only("onbuild  RUN <<x && y  \nz\nx\n") else { panic!() };
    assert_eq!(text, "RUN <<x && y  \nz\nx");
    let trigger = parse_trigger(&text, Lines::one(7)).unwrap();
    assert_eq!(trigger.origin.lines, Lines::one(7));
    let Kind::Run(run) = trigger.kind else { panic!() };
    assert_eq!(run.command.heredocs[0].data, "z\n");

    for (text, cause) in [
        ("BROKEN", "unknown instruction: BROKEN"),
        ("USER a\nUSER b", "onbuild trigger should be a single expression"),
        ("FROM a", "FROM is not a command type"),
        ("", "file with no instructions"),
        ("RUN <<x", "unterminated heredoc"),
    ] {
        let error = parse_trigger(text, Lines::one(7)).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.lines), (cause, Some(Lines::one(7))));
    }
}

#[test]
fn flags_that_nobody_looks_at_are_let_through() {
    for line in ["ARG --x A", "STOPSIGNAL --x 9", "HEALTHCHECK --x NONE", "ONBUILD COPY --x a b"] {
        read(&format!("FROM a\n{line}"));
    }
    for line in ["USER --x a", "ENV --x A=b", "CMD --x a", "ONBUILD --x RUN a", "VOLUME --x a"] {
        assert_eq!(first_wrong(&format!("FROM a\n{line}")), "unknown flag: --x", "{line}");
    }
}

#[test]
fn what_cannot_be_cut_comes_before_what_makes_no_sense() {
    let errors = wrong("FROM a\nNONSENSE\nENV A\nCOPY b\nCMD [1]\n");
    assert_eq!(errors, [
        ("ENV must have two arguments".to_owned(), Some(Lines::one(3))),
        (
            "when using JSON array syntax, arrays must be comprised of strings only".to_owned(),
            Some(Lines::one(5))
        ),
        ("unknown instruction: NONSENSE".to_owned(), Some(Lines::one(2))),
        (
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined"
                .to_owned(),
            Some(Lines::one(4))
        ),
    ]);
}

#[test]
fn one_missing_from_is_one_error() {
    assert_eq!(wrong("RUN a\nRUN b\n").len(), 1);
    assert_eq!(wrong("FROM a as\nRUN b\n").len(), 1);
    let nothing = |line| ("file with no instructions".to_owned(), Some(Lines::one(line)));
    assert_eq!(wrong("\u{feff}"), [nothing(1)]);
    assert_eq!(wrong("\n#\n"), [nothing(2)]);
    assert_eq!(wrong("ARG A\n"), [("dockerfile contains no stages to build".to_owned(), None)]);
}

#[test]
fn errors_have_an_end() {
    assert_eq!(wrong(&format!("FROM a\n{}", "x\n".repeat(1000))).len(), super::MAX_ERRORS);
    assert_eq!(wrong(&format!("FROM a\n{}", "ENV x\n".repeat(1000))).len(), super::MAX_ERRORS);
}

#[test]
fn healthchecks() {
    let Kind::Healthcheck(health) = only(
        "HEALTHCHECK --interval=1m30s --timeout=0 --retries=3 --start-period= CMD [\"a\", \"b\"]",
    ) else {
        panic!()
    };
    assert_eq!(health.test, ["CMD", "a", "b"]);
    assert_eq!((health.interval, health.timeout, health.retries), (90_000_000_000, 0, 3));
    let Kind::Healthcheck(health) = only("HEALTHCHECK cmd a  b") else { panic!() };
    assert_eq!(health.test, ["CMD-SHELL", "a  b"]);
    for (line, cause) in [
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK RUN a", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=x CMD a", "invalid number of retries \"x\""),
        ("HEALTHCHECK --interval=5 CMD a", "missing unit in duration \"5\""),
    ] {
        assert_eq!(first_wrong(&format!("FROM a\n{line}")), cause);
    }
}

#[test]
fn warnings_stop_at_the_first_error() {
    let source = "FROM a\nMAINTAINER m\nNONSENSE\nMAINTAINER n\n";
    let mut linter = Linter::default();
    parse(source.as_bytes(), &mut linter).unwrap_err();
    let lines: Vec<_> = linter.warnings().iter().map(|warning| warning.lines.first).collect();
    assert_eq!(lines, [2]);
}

#[test]
fn descriptions_are_checked_on_request() {
    let source = "# build what\nFROM a AS stage\n# B c\nARG A B\n# x\nARG C D\n# x\nARG E\n";
    let mut linter = Linter::new(Options::parse("experimental=all").unwrap());
    parse(source.as_bytes(), &mut linter).unwrap();
    let found: Vec<_> =
        linter.warnings().iter().map(|warning| (warning.lines.first, &*warning.message)).collect();
    assert_eq!(
        found,
        [
            (2, "Comment for FROM should follow the format: `# stage <description>`"),
            (6, "Comment for ARG should follow the format: `# <arg_key> <description>`"),
            (8, "Comment for ARG should follow the format: `# E <description>`"),
        ]
    );
}

#[test]
fn every_cause_is_told_with_a_hint_or_speaks_for_itself() {
    for source in [
        "",
        "#",
        "# escape=x\nFROM a",
        "# check=a\n# check=b\nFROM a",
        "ARG A",
        "RUN a",
        "FROM",
        "FROM a as 1",
        "FROM a\nCOPY a",
        "FROM a\nCOPY a <<b\nb",
        "FROM a\nRUN <<x",
        "FROM a\nENV =a",
        "FROM a\nONBUILD FROM b",
        "FROM a\nSHELL a",
        "FROM a\nVOLUME [\"\"]",
        "FROM a\nCMDX",
        "FROM a\nRUN --network=x a",
        "FROM a\nRUN --security=x a",
        "FROM a\nRUN --mount=from=$a,b a",
        "FROM a\nRUN --device=a,b a",
        "FROM a\nCOPY --link=x a b",
        "FROM a\nCOPY --from a b",
    ] {
        let errors = parse(source.as_bytes(), &mut Linter::default()).unwrap_err();
        assert!(errors.first.hint().is_some_and(|hint| !hint.is_empty()), "{source}: {errors}");
    }
}
