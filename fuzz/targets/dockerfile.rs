//! Reading Dockerfiles.

#![no_main]

use bk_sync_fuzz::dockerfile::ast::{Dockerfile, Kind, Origin};
use bk_sync_fuzz::dockerfile::lint::{Linter, Options};
use bk_sync_fuzz::dockerfile::{Lines, MountError, Span, directive, parse, parse_trigger};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &[u8]| {
    drop(directive::syntax(source));
    let mut linter = Linter::new(Options::parse("experimental=all").unwrap());
    match parse(source, &mut linter) {
        Ok(file) => {
            check(&file, source);
            assert_eq!(parse(source, &mut Linter::default()).unwrap(), file);
        }
        Err(errors) => {
            for error in errors.iter() {
                assert!(error.span.is_none_or(|span| inside(span, source)), "{error:?}");
                assert!(!error.to_string().is_empty());
                drop(error.hint());
            }
        }
    }
});

fn inside(span: Span, source: &[u8]) -> bool {
    span.start <= span.end && span.end <= source.len()
}

fn check(file: &Dockerfile, source: &[u8]) {
    let mut last = Lines::default();
    let mut in_order = |origin: &Origin| {
        assert!(inside(origin.span, source), "{origin:?}");
        assert!(origin.lines.first > last.last, "{origin:?} after {last:?}");
        last = origin.lines;
    };
    file.global_args.iter().for_each(|arg| in_order(&arg.origin));
    assert!(!file.stages.is_empty());
    for stage in &file.stages {
        in_order(&stage.origin);
        for instruction in &stage.instructions {
            in_order(&instruction.origin);
            match &instruction.kind {
                Kind::Onbuild(text) => drop(parse_trigger(text, Lines::one(1))),
                Kind::Run(run) => {
                    let mut same = |word: &str| Ok::<_, MountError>(word.to_owned());
                    drop(run.resolve_mounts(&mut same));
                    drop(run.command.sole_heredoc().map(|heredoc| heredoc.content()));
                }
                _ => {}
            }
        }
    }
}
