//! A list of patterns, of which the last match decides.

use super::{Pattern, PatternError, pattern::Anchor};
use std::collections::HashMap;
use thiserror::Error;

/// Answers whether paths are matched by a list of patterns.
///
/// Two questions are possible, and in rare cases the answers differ. [`walk`](Self::walk) goes down
/// from the root and remembers what matched each directory; it decides what is sent to a builder.
/// [`at_once`](Self::at_once) asks about a path alone.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
    has_negations: bool,
    /// Patterns by what a path must have to match (indices, ascending), so that most patterns are
    /// never tried.
    by_base: HashMap<String, Vec<u32>>,
    by_first: HashMap<String, Vec<u32>>,
    others: Vec<u32>,
}

/// Which patterns matched a directory or one above it, for [`Matcher::walk`] of what lies in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Matched {
    /// Indices, ascending.
    patterns: Vec<u32>,
}

/// Why a list of patterns cannot be used.
#[derive(Clone, Debug, Error)]
#[error("pattern `{pattern}`: {source}; hint: {}", source.fix())]
pub struct MatcherError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub source: PatternError,
}

impl Matcher {
    /// Reads the patterns.
    ///
    /// # Errors
    /// [`MatcherError`] for the first pattern that the reference matcher would refuse.
    pub fn new<T: AsRef<str>>(patterns: impl IntoIterator<Item = T>) -> Result<Self, MatcherError> {
        let mut matcher = Self::default();
        for text in patterns {
            let text = text.as_ref();
            let pattern = Pattern::new(text)
                .map_err(|source| MatcherError { pattern: text.to_owned(), source })?;
            let Some(pattern) = pattern else { continue };
            let index = u32::try_from(matcher.patterns.len()).unwrap_or(u32::MAX);
            match pattern.anchor() {
                Anchor::Base(base) => {
                    matcher.by_base.entry(base.to_owned()).or_default().push(index);
                }
                Anchor::First(first) => {
                    matcher.by_first.entry(first.to_owned()).or_default().push(index);
                }
                Anchor::None => matcher.others.push(index),
            }
            matcher.has_negations |= pattern.is_negated();
            matcher.patterns.push(pattern);
        }
        Ok(matcher)
    }

    /// The patterns, less blank ones.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Whether any pattern is negated.
    pub fn has_negations(&self) -> bool {
        self.has_negations
    }

    /// Whether `path` is matched, given what matched its directory (`None` at the root).
    pub fn walk(&self, path: &str, parent: Option<&Matched>) -> (bool, Matched) {
        let inherited = parent.map_or(&[][..], |matched| &matched.patterns);
        let mut matched = Matched::default();
        let mut answer = false;
        // All patterns that may have a say, in order; the others cannot change the answer.
        let mut candidates = self.candidates(path);
        candidates.extend_from_slice(inherited);
        candidates.sort_unstable();
        candidates.dedup();
        for index in candidates {
            let Some(pattern) = self.pattern(index) else { continue };
            // As in the reference: a pattern that cannot change the answer is not tried, and then
            // does not count as matched for what lies below.
            let hit = inherited.binary_search(&index).is_ok()
                || (pattern.is_negated() == answer && pattern.matches(path));
            if hit {
                matched.patterns.push(index);
                answer = !pattern.is_negated();
            }
        }
        (answer, matched)
    }

    /// Whether `path` is matched, asked without a walk: each pattern is tried on the path and on
    /// all directories above it. Above what lies in `/` the root itself counts as one.
    pub fn at_once(&self, path: &str) -> bool {
        let in_root = path.strip_prefix('/').is_some_and(|rest| !rest.contains('/'));
        let mut answer = false;
        for pattern in &self.patterns {
            if pattern.is_negated() != answer {
                continue;
            }
            let mut above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
            if pattern.matches(path)
                || above.any(|parent| pattern.matches(parent))
                || (in_root && pattern.matches("/"))
            {
                answer = !pattern.is_negated();
            }
        }
        answer
    }

    fn pattern(&self, index: u32) -> Option<&Pattern> {
        self.patterns.get(usize::try_from(index).ok()?)
    }

    fn candidates(&self, path: &str) -> Vec<u32> {
        let base = path.rsplit_once('/').map_or(path, |(_, base)| base);
        let first = path.split_once('/').map_or(path, |(first, _)| first);
        let mut found = self.others.clone();
        found.extend(self.by_base.get(base).into_iter().flatten());
        found.extend(self.by_first.get(first).into_iter().flatten());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{Matched, Matcher};
    use crate::ignorefile::Pattern;
    use proptest::prelude::*;

    /// The definition, word for word: every pattern is tried in order, with a flag for each.
    fn oracle(patterns: &[Pattern], path: &str, parent: &[bool]) -> (bool, Vec<bool>) {
        let mut flags = vec![false; patterns.len()];
        let mut answer = false;
        for (index, pattern) in patterns.iter().enumerate() {
            let mut hit = parent.get(index).copied().unwrap_or_default();
            if !hit {
                if pattern.is_negated() != answer {
                    continue;
                }
                hit = pattern.matches(path);
            }
            flags[index] = hit;
            if hit {
                answer = !pattern.is_negated();
            }
        }
        (answer, flags)
    }

    fn walk(matcher: &Matcher, path: &str) -> bool {
        let mut parent: Option<Matched> = None;
        for (at, _) in path.match_indices('/') {
            parent = Some(matcher.walk(path.split_at(at).0, parent.as_ref()).1);
        }
        matcher.walk(path, parent.as_ref()).0
    }

    proptest! {
        #[test]
        fn the_index_of_patterns_changes_no_answer(
            texts in prop::collection::vec("!?(a|b|\\*|\\*\\*|\\?|[ab]x|x)(/?(a|b|\\*|\\*\\*|x\\*)){0,3}", 0..12),
            path in "[abx]{1,2}(/[abx]{1,2}){0,3}",
        ) {
            let matcher = Matcher::new(&texts).unwrap();
            let mut flags = Vec::new();
            for (at, _) in path.match_indices('/') {
                flags = oracle(matcher.patterns(), path.split_at(at).0, &flags).1;
            }
            let expected = oracle(matcher.patterns(), &path, &flags).0;
            prop_assert_eq!(walk(&matcher, &path), expected);
        }

        #[test]
        fn no_pattern_and_no_path_panics(texts in prop::collection::vec(".{0,12}", 0..6), path in ".{0,20}") {
            for text in &texts {
                // The root is above no path that is walked to.
                if path.starts_with('/') {
                    continue;
                }
                if let Ok(matcher) = Matcher::new([text.as_str()]) {
                    // One pattern gives both questions the same answer.
                    prop_assert_eq!(matcher.at_once(&path), walk(&matcher, &path));
                }
            }
        }
    }

    #[test]
    fn the_root_is_above_what_lies_in_it() {
        for (pattern, path, answer) in
            [("[^a]", "/a", true), ("/", "/a", true), ("/", "/a/b", false), ("a", "/a", false)]
        {
            assert_eq!(Matcher::new([pattern]).unwrap().at_once(path), answer, "{pattern} {path}");
        }
    }

    #[test]
    fn thousands_of_patterns_stay_fast() {
        let texts: Vec<String> = (0..5_000)
            .map(|index| match index % 3 {
                0 => format!("dir{index}/sub/**"),
                1 => format!("**/name{index}"),
                _ => format!("a/b/c{index}.txt"),
            })
            .collect();
        let matcher = Matcher::new(&texts).unwrap();
        // Only patterns with the path's own first or last part are candidates.
        assert_eq!(matcher.candidates("dir3/sub/x").len(), 1);
        assert_eq!(matcher.candidates("some/where/name4").len(), 1);
        assert!(walk(&matcher, "dir3/sub/x"));
        assert!(walk(&matcher, "q/name4/deep/er"));
        assert!(!walk(&matcher, "a/b/c3.txt"));
        assert!(walk(&matcher, "a/b/c5.txt"));
    }
}
