//! Names and values: `ARG`, `ENV` and `LABEL`.

use super::{Cause, Fault, Request, Scope, doc_comments, report_description};
use crate::dockerfile::ast::{Arg, ArgName, Pair};
use crate::dockerfile::node::Arguments;

pub(super) fn read_pairs(request: &Request<'_>) -> Result<Vec<Pair>, Fault> {
    request.no_flags()?;
    match &request.node.args {
        Arguments::Pairs(pairs) if !pairs.is_empty() => {
            if pairs.iter().any(|pair| pair.key.is_empty()) {
                return Err(Cause::BlankName(request.name).into());
            }
            Ok(pairs.clone())
        }
        _ => Err(Cause::NoArgument(request.name).into()),
    }
}

/// Its flags are never looked at.
pub(super) fn read_arg(request: &Request<'_>, scope: &mut Scope<'_>) -> Result<Arg, Fault> {
    if request.words().is_empty() {
        return Err(Cause::NoArgument(request.name).into());
    }
    let mut names = Vec::with_capacity(request.words().len());
    for word in request.words() {
        let (key, value) = match word.split_once('=') {
            Some(("", _)) => return Err(Cause::BlankName(request.name).into()),
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        names.push(ArgName { key: key.to_owned(), value, doc_comment: None });
    }
    let comments = &request.node.comments;
    if !comments.is_empty() {
        let keys: Vec<&str> = names.iter().map(|name| name.key.as_str()).collect();
        report_description(request.node, "ARG", &keys, scope);
        let docs = doc_comments(comments, &keys);
        for name in &mut names {
            name.doc_comment = docs.get(name.key.as_str()).map(|&text| text.to_owned());
        }
    }
    Ok(Arg { names })
}
