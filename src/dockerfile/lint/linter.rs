//! Who decides which rules speak, and remembers what they said.

use super::options::Options;
use super::rules::Rule;
use crate::dockerfile::place::Lines;

/// What a rule has to say of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The rule's name.
    pub rule: &'static str,
    /// What the rule is about.
    pub description: &'static str,
    /// Where it is explained; empty where it is not.
    pub url: &'static str,
    /// What is wrong here.
    pub message: String,
    /// Where.
    pub lines: Lines,
}

/// Collects warnings, in the order in which they are found.
#[derive(Debug, Clone, Default)]
pub struct Linter {
    options: Options,
    warnings: Vec<Warning>,
}

/// A build that has warnings and was told to fail then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("lint violation found for rules: {}", .rules.join(", "))]
pub struct Violations {
    /// The rules, in the order of their names.
    pub rules: Vec<&'static str>,
}

impl Linter {
    /// A linter with these options for the whole file.
    pub fn new(options: Options) -> Self {
        Self { options, warnings: Vec::new() }
    }

    /// The options for the whole file.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Reports under the options of the whole file.
    pub fn report<M>(&mut self, rule: &Rule<M>, lines: Lines, message: String) {
        if speaks(&self.options, rule) {
            self.push(rule, lines, message);
        }
    }

    /// A view that knows the `check` comment above one instruction.
    pub fn scope(&mut self, comments: &[String]) -> Scope<'_> {
        let local = Options::from_comments(comments).map(|added| {
            let mut options = self.options.clone();
            options.add(&added);
            options
        });
        Scope { linter: self, local }
    }

    /// What was found so far.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// What was found.
    pub fn into_warnings(self) -> Vec<Warning> {
        self.warnings
    }

    /// Fails if there are warnings and the options make that an error.
    ///
    /// # Errors
    /// [`Violations`], which names the rules.
    pub fn verdict(&self) -> Result<(), Violations> {
        if !self.options.error || self.warnings.is_empty() {
            return Ok(());
        }
        let mut rules: Vec<_> = self.warnings.iter().map(|warning| warning.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        Err(Violations { rules })
    }

    fn push<M>(&mut self, rule: &Rule<M>, lines: Lines, message: String) {
        let facts = rule.facts;
        self.warnings.push(Warning {
            rule: facts.name,
            description: facts.description,
            url: facts.url,
            message,
            lines,
        });
    }
}

fn speaks<M>(options: &Options, rule: &Rule<M>) -> bool {
    if rule.facts.experimental {
        options.experimental.contains(rule.facts.name)
    } else {
        !options.skip.contains(rule.facts.name)
    }
}

/// A linter for one instruction.
#[derive(Debug)]
pub struct Scope<'a> {
    linter: &'a mut Linter,
    local: Option<Options>,
}

impl Scope<'_> {
    /// Reports under the options that count for this instruction.
    pub fn report<M>(&mut self, rule: &Rule<M>, lines: Lines, message: String) {
        let options = self.local.as_ref().unwrap_or(&self.linter.options);
        if speaks(options, rule) {
            self.linter.push(rule, lines, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules;
    use super::{Lines, Linter, Options};

    fn report(linter: &mut Linter, comments: &[&str]) {
        let comments: Vec<String> = comments.iter().map(|&text| text.to_owned()).collect();
        let message = (rules::WORKDIR_RELATIVE_PATH.message)("x");
        linter.scope(&comments).report(&rules::WORKDIR_RELATIVE_PATH, Lines::one(3), message);
    }

    #[test]
    fn a_comment_silences_one_instruction() {
        let mut linter = Linter::default();
        report(&mut linter, &["check=skip=WorkdirRelativePath"]);
        assert_eq!(linter.warnings(), []);
        report(&mut linter, &[]);
        assert_eq!(linter.warnings()[0].rule, "WorkdirRelativePath");
        assert_eq!(linter.warnings()[0].lines, Lines::one(3));
    }

    #[test]
    fn experimental_rules_speak_when_asked_and_cannot_be_skipped() {
        let rule = &rules::INVALID_DEFINITION_DESCRIPTION;
        let count = |options: &str| {
            let mut linter = Linter::new(Options::parse(options).unwrap());
            linter.report(rule, Lines::one(1), String::new());
            linter.warnings().len()
        };
        assert_eq!(count(""), 0);
        assert_eq!(count("experimental=InvalidDefinitionDescription"), 1);
        assert_eq!(count("skip=all;experimental=all"), 1);
    }

    #[test]
    fn warnings_are_errors_where_the_file_says_so() {
        let mut linter = Linter::new(Options::parse("error=true").unwrap());
        assert!(linter.verdict().is_ok());
        report(&mut linter, &[]);
        report(&mut linter, &[]);
        assert_eq!(
            linter.verdict().unwrap_err().to_string(),
            "lint violation found for rules: WorkdirRelativePath"
        );
    }
}
