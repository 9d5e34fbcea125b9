//! Reading and matching ignore files: patterns, a blank line, paths.

#![no_main]

use bk_sync_fuzz::ignorefile::{IgnoreFile, Matcher};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (patterns, paths) = input.split_once("\n\n").unwrap_or((input, "a/b"));
    let Ok(file) = IgnoreFile::parse(patterns.as_bytes()) else { return };
    let checked = file.check();
    let Ok(matcher) = Matcher::new(file.patterns()) else {
        assert!(checked.is_err());
        return;
    };
    for path in paths.lines().filter(|path| !path.is_empty()) {
        let mut parent = None;
        let mut answer = false;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let (hit, matched) = matcher.walk(&path[..end], parent.as_ref());
            answer = hit;
            parent = Some(matched);
        }
        if !matcher.has_negations() && path.split('/').all(|part| !part.is_empty()) {
            assert_eq!(answer, matcher.at_once(path), "{path:?} by {:?}", file.patterns());
        }
    }
});
