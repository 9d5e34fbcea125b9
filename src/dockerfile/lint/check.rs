//! Checks that need no more than the instructions.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::linter::Linter;
use super::rules;
use crate::dockerfile::ast::{Instruction, Stage};
use crate::dockerfile::place::Lines;

/// Names of stages that mean something else.
const RESERVED_STAGE_NAMES: [&str; 2] = ["context", "scratch"];

/// The checks of a whole file that come before anything is compiled, in BuildKit's order.
pub fn stages(stages: &[Stage], linter: &mut Linter) {
    stage_names(stages, linter);
    instruction_casing(stages, linter);
}

fn stage_names(stages: &[Stage], linter: &mut Linter) {
    let mut seen = HashSet::new();
    for stage in stages {
        let Some(name) = stage.from.name.as_deref() else { continue };
        if RESERVED_STAGE_NAMES.contains(&name) {
            let rule = &rules::RESERVED_STAGE_NAME;
            linter.report(rule, stage.origin.lines, (rule.message)(name));
        }
        if !seen.insert(name) {
            let rule = &rules::DUPLICATE_STAGE_NAME;
            linter.report(rule, stage.origin.lines, (rule.message)(name));
        }
    }
}

/// The words of the instructions, with their lines. Global `ARG`s have no say.
fn keywords(stages: &[Stage]) -> impl Iterator<Item = (&str, Lines)> {
    stages.iter().flat_map(|stage| {
        let origins = stage.instructions.iter().map(|Instruction { origin, .. }| origin);
        std::iter::once(&stage.origin)
            .chain(origins)
            .map(|origin| (origin.keyword.as_str(), origin.lines))
    })
}

fn instruction_casing(stages: &[Stage], linter: &mut Linter) {
    let is_lower = |word: &str| !word.contains(|c: char| c.is_ascii_uppercase());
    let is_upper = |word: &str| !word.contains(|c: char| c.is_ascii_lowercase());
    let (mut lower, mut upper) = (0_usize, 0_usize);
    for (word, _) in keywords(stages) {
        lower += usize::from(is_lower(word));
        upper += usize::from(is_upper(word));
    }
    for (word, lines) in keywords(stages) {
        let (fits, casing) = if lower > upper {
            (is_lower(word), "lowercase")
        } else {
            (is_upper(word), "uppercase")
        };
        if !fits {
            let rule = &rules::CONSISTENT_INSTRUCTION_CASING;
            linter.report(rule, lines, (rule.message)(word, casing));
        }
    }
}

/// Whether the name of a variable sounds like a secret's: one of its words, between underscores, is
/// that of a secret, and none says that it is public or only tells where the secret lies.
pub fn sounds_secret(name: &str) -> bool {
    static SECRET: LazyLock<Option<Regex>> = LazyLock::new(|| {
        words("apikey|auth|credential|credentials|key|password|pword|passwd|secret|token")
    });
    static HARMLESS: LazyLock<Option<Regex>> = LazyLock::new(|| words("public|file|version"));
    let has = |words: &LazyLock<Option<Regex>>| words.as_ref().is_some_and(|r| r.is_match(name));
    has(&SECRET) && !has(&HARMLESS)
}

fn words(alternatives: &str) -> Option<Regex> {
    Regex::new(&format!("(?i)(?:_|^)(?:{alternatives})(?:_|$)")).ok()
}

#[cfg(test)]
mod tests {
    use super::sounds_secret;

    #[test]
    fn secrets_are_known_by_their_names() {
        for name in ["API_KEY", "apikey", "DATABASE_PASSWORD", "GITHUB_TOKEN", "auth", "x_key_y"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "PUBLIC_KEY", "TOKEN_FILE", "KEY_VERSION", "MONKEY", "AUTHOR"] {
            assert!(!sounds_secret(name), "{name}");
        }
    }
}
