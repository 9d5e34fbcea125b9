//! Strings with `{git.sha}`, `{git.short}`, `{git.branch}` and `{env.NAME}` in them. `{{` is a
//! brace; braces around anything that is no dotted word stand for themselves.

use super::{Located, Problem};
use std::ops::Range;

/// A string of the config file, read and not yet filled in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
    span: Range<usize>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Fact(Fact),
}

/// What a placeholder stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fact {
    /// A variable of the environment.
    Env(String),
    /// The branch that is checked out.
    GitBranch,
    /// The commit's full hash.
    GitSha,
    /// The commit's short hash.
    GitShort,
}

impl Template {
    /// Reads the placeholders of a string; one that is unknown is a problem.
    pub(super) fn parse(text: Located<String>, problems: &mut Vec<Problem>) -> Option<Self> {
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut rest = text.value.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            literal.push_str(before);
            let word = after.split_once('}').filter(|(word, _)| is_dotted_word(word));
            if let Some(after) = after.strip_prefix('{') {
                literal.push('{');
                rest = after;
            } else if let Some((word, after)) = word {
                let Some(fact) = Fact::named(word) else {
                    problems.push(Problem {
                        message: format!("unknown placeholder `{{{word}}}`"),
                        span: text.span.clone(),
                        hint: Some(
                            "the placeholders are `{git.sha}`, `{git.short}`, `{git.branch}` and \
                             `{env.NAME}`; write `{{` for a brace"
                                .to_owned(),
                        ),
                    });
                    return None;
                };
                parts.push(Part::Text(std::mem::take(&mut literal)));
                parts.push(Part::Fact(fact));
                rest = after;
            } else {
                literal.push('{');
                rest = after;
            }
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Some(Self { parts, span: text.span })
    }

    /// Where it stands in the file.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Whether it is the empty string.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it says which commit or branch this is.
    pub fn uses_git(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Fact(fact) => !matches!(fact, Fact::Env(_)),
            Part::Text(_) => false,
        })
    }

    /// Whether it holds a variable of the environment.
    pub fn uses_environment(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Fact(Fact::Env(_))))
    }

    /// The string as it could stand in the file.
    pub fn source(&self) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.replace('{', "{{"),
            Part::Fact(Fact::Env(name)) => format!("{{env.{name}}}"),
            Part::Fact(Fact::GitBranch) => "{git.branch}".to_owned(),
            Part::Fact(Fact::GitSha) => "{git.sha}".to_owned(),
            Part::Fact(Fact::GitShort) => "{git.short}".to_owned(),
        };
        self.parts.iter().map(part).collect()
    }

    /// The string with every placeholder filled in by `fact`.
    ///
    /// # Errors
    /// What `fact` says of the first placeholder that it cannot fill.
    pub fn fill<E>(&self, mut fact: impl FnMut(&Fact) -> Result<String, E>) -> Result<String, E> {
        let mut filled = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Fact(wanted) => filled.push_str(&fact(wanted)?),
            }
        }
        Ok(filled)
    }
}

impl Fact {
    fn named(word: &str) -> Option<Self> {
        match word {
            "git.branch" => Some(Self::GitBranch),
            "git.sha" => Some(Self::GitSha),
            "git.short" => Some(Self::GitShort),
            _ => word
                .strip_prefix("env.")
                .filter(|name| !name.is_empty())
                .map(|name| Self::Env(name.to_owned())),
        }
    }
}

fn is_dotted_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::{Fact, Template};
    use crate::config::Located;

    fn filled(text: &str) -> Result<String, String> {
        let mut problems = Vec::new();
        let located = Located { value: text.to_owned(), span: 0..text.len() };
        let Some(template) = Template::parse(located, &mut problems) else {
            return Err(problems.remove(0).message);
        };
        template.fill(|fact| match fact {
            Fact::GitSha => Ok("0123abc".to_owned()),
            Fact::Env(name) if name == "STAGE" => Ok("prod".to_owned()),
            other => Err(format!("no {other:?}")),
        })
    }

    #[test]
    fn placeholders_are_filled_and_other_braces_stay() {
        let table = [
            ("", Ok("")),
            ("latest", Ok("latest")),
            ("{git.sha}", Ok("0123abc")),
            ("{env.STAGE}-{git.sha}!", Ok("prod-0123abc!")),
            ("{{git.sha}", Ok("{git.sha}")),
            ("{\"a\": {}}", Ok("{\"a\": {}}")),
            ("a{", Ok("a{")),
            ("{git.branch}", Err("no GitBranch")),
            ("{env.OTHER}", Err("no Env(\"OTHER\")")),
            ("{git.tag}", Err("unknown placeholder `{git.tag}`")),
            ("{env.}", Err("unknown placeholder `{env.}`")),
            ("{sha}", Err("unknown placeholder `{sha}`")),
        ];
        for (text, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn only_git_placeholders_use_git() {
        let mut problems = Vec::new();
        for (text, expected) in [("{git.sha}", true), ("{env.A}", false), ("git.sha", false)] {
            let located = Located { value: text.to_owned(), span: 0..text.len() };
            let template = Template::parse(located, &mut problems).unwrap();
            assert_eq!(template.uses_git(), expected, "{text}");
        }
    }
}
