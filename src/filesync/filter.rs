//! What of a tree a builder wants.

use crate::ignorefile::{Matched, Matcher, MatcherError, Pattern};
use thiserror::Error;

/// The lists that a builder sends with a request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FilterLists {
    /// Patterns of which a path must match one; none means all paths.
    pub include: Vec<String>,
    /// Patterns of which a path must match none.
    pub exclude: Vec<String>,
    /// Paths to include with all symbolic links on the way to them.
    pub follow: Vec<String>,
}

/// Decides for each path of a walk.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Option<Selection>,
    exclude: Option<Selection>,
}

#[derive(Clone, Debug)]
struct Selection {
    matcher: Matcher,
    /// The literal starts of the patterns that can still select something below a directory that
    /// is not selected itself; `None` where a wildcard makes that impossible to tell.
    below: Option<Vec<String>>,
}

/// What a directory leaves to what is in it.
#[derive(Clone, Debug, Default)]
pub struct Level {
    include: Matched,
    exclude: Matched,
}

/// What is done with a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is not sent, and nothing below it can be.
    Prune,
    /// It is not sent, unless something below it is.
    Skip,
    /// It is sent.
    Select,
}

/// Why lists are refused.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A pattern that excludes.
    #[error("invalid exclude {0}")]
    Exclude(#[source] MatcherError),
    /// A pattern that includes.
    #[error("invalid include {0}")]
    Include(#[source] MatcherError),
}

impl Filter {
    /// A filter by patterns; `include` holds the resolved follow paths too.
    ///
    /// # Errors
    /// [`FilterError`] for a broken pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, FilterError> {
        Ok(Self {
            include: Selection::new(include, false).map_err(FilterError::Include)?,
            exclude: Selection::new(exclude, true).map_err(FilterError::Exclude)?,
        })
    }

    /// Decides for `path`, which lies in the directory of `parent` (`None` at the root).
    pub fn decide(
        &self,
        path: &str,
        is_directory: bool,
        parent: Option<&Level>,
    ) -> (Verdict, Level) {
        let mut verdict = Verdict::Select;
        let mut level = Level::default();
        if let Some(include) = &self.include {
            let (wanted, matched) =
                include.matcher.walk(path, parent.map(|parent| &parent.include));
            level.include = matched;
            if !wanted {
                if is_directory && !include.reaches_below(path) {
                    return (Verdict::Prune, level);
                }
                verdict = Verdict::Skip;
            }
        }
        if let Some(exclude) = &self.exclude {
            let (ignored, matched) =
                exclude.matcher.walk(path, parent.map(|parent| &parent.exclude));
            level.exclude = matched;
            if ignored {
                if is_directory && !exclude.reaches_below(path) {
                    return (Verdict::Prune, level);
                }
                verdict = Verdict::Skip;
            }
        }
        (verdict, level)
    }
}

impl Selection {
    /// `exceptions`: whether it is the negated patterns that select (they do among excludes).
    fn new(patterns: &[String], exceptions: bool) -> Result<Option<Self>, MatcherError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let matcher = Matcher::new(patterns)?;
        let below = matcher
            .patterns()
            .iter()
            .filter(|pattern| pattern.is_negated() == exceptions)
            .map(literal_start)
            .collect();
        Ok(Some(Self { matcher, below }))
    }

    fn reaches_below(&self, directory: &str) -> bool {
        self.below.as_ref().is_none_or(|starts| {
            starts.iter().any(|start| {
                start.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
            })
        })
    }
}

/// A pattern with a slash behind it and without a trailing wildcard part, if it then is literal.
fn literal_start(pattern: &Pattern) -> Option<String> {
    let text = pattern.text();
    let text = text.strip_suffix("/**").unwrap_or(text);
    let text = text.strip_suffix("/*").unwrap_or(text);
    (!text.contains(['*', '[', ']', '?', '^', '\\'])).then(|| format!("{text}/"))
}

#[cfg(test)]
mod tests {
    use super::{Filter, Verdict};

    fn verdict(include: &[&str], exclude: &[&str], path: &str) -> Verdict {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&owned(include), &owned(exclude)).unwrap();
        filter.decide(path, true, None).0
    }

    #[test]
    fn directories_are_left_out_only_where_nothing_below_can_be_wanted() {
        assert_eq!(verdict(&[], &["a"], "a"), Verdict::Prune);
        assert_eq!(verdict(&[], &["a", "!a/b"], "a"), Verdict::Skip);
        assert_eq!(verdict(&[], &["a", "!ab"], "a"), Verdict::Prune);
        assert_eq!(verdict(&[], &["a", "!**/b"], "a"), Verdict::Skip);
        assert_eq!(verdict(&["a/b"], &[], "a"), Verdict::Skip);
        assert_eq!(verdict(&["a/b/*"], &[], "c"), Verdict::Prune);
        assert_eq!(verdict(&["*/b"], &[], "c"), Verdict::Skip);
        assert_eq!(verdict(&[], &[], "c"), Verdict::Select);
    }
}
