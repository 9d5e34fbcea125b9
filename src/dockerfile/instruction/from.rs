//! `FROM`.

use super::{Cause, Fault, From, Request, Scope, doc_comments, report_description};
use crate::dockerfile::flags::Shape;
use crate::dockerfile::lint::rules;
use crate::dockerfile::node::Node;

pub(super) fn read(request: &Request<'_>, scope: &mut Scope<'_>) -> Result<From, Fault> {
    let name = stage_name(request.words())?;
    let mut flags = request.flags(&[("platform", Shape::Text)])?;
    let comments = &request.node.comments;
    if let Some(name) = &name {
        report_description(request.node, "FROM", &[name.as_str()], scope);
    }
    Ok(From {
        base: request.words().first().cloned().unwrap_or_default(),
        doc_comment: name
            .as_deref()
            .and_then(|name| doc_comments(comments, &[name]).remove(name))
            .map(str::to_owned),
        name,
        platform: Some(flags.text("platform")).filter(|platform| !platform.is_empty()),
    })
}

fn stage_name(words: &[String]) -> Result<Option<String>, Cause> {
    match words {
        [_] => Ok(None),
        [_, word, name] if word.eq_ignore_ascii_case("as") => {
            let lower = name.to_lowercase();
            let mut chars = lower.chars();
            let valid = chars.next().is_some_and(|first| first.is_ascii_lowercase())
                && chars.all(|c| {
                    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.')
                });
            if valid { Ok(Some(lower)) } else { Err(Cause::StageName(name.clone())) }
        }
        _ => Err(Cause::FromArguments),
    }
}

/// Reports capitals in a stage's name, and an `AS` that is not written as its `FROM`. This comes
/// before anything else is known of the instruction.
pub(in crate::dockerfile) fn report_casing(node: &Node, scope: &mut Scope<'_>) {
    let (words, _) = node.args.words();
    if let [_, _, name] = words
        && *name != name.to_lowercase()
    {
        let rule = &rules::STAGE_NAME_CASING;
        scope.report(rule, node.lines, (rule.message)(name));
    }
    if let [_, as_word, _, ..] = words {
        let from = &node.keyword;
        // A word of mixed case has a rule of its own.
        let fits = if *from == from.to_lowercase() {
            *as_word == as_word.to_lowercase()
        } else if *from == from.to_uppercase() {
            *as_word == as_word.to_uppercase()
        } else {
            true
        };
        if !fits {
            let rule = &rules::FROM_AS_CASING;
            scope.report(rule, node.lines, (rule.message)(from, as_word));
        }
    }
}
