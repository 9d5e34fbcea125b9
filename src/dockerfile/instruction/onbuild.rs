//! `ONBUILD`.

use super::{Cause, Fault, Request};
use crate::dockerfile::node::Arguments;

pub(super) fn read(request: &Request<'_>) -> Result<String, Fault> {
    let inner = match &request.node.args {
        Arguments::Instruction { keyword, .. } if !keyword.is_empty() => keyword.trim(),
        _ => return Err(Cause::NoArgument(request.name).into()),
    };
    request.no_flags()?;
    let inner = inner.to_uppercase();
    match inner.as_str() {
        "ONBUILD" => return Err(Cause::OnbuildChain.into()),
        "MAINTAINER" | "FROM" => return Err(Cause::OnbuildTrigger(inner).into()),
        _ => {}
    }
    // What it keeps is the text, its heredocs put back where they stood.
    let mut text = without_keyword(&request.node.line).to_owned();
    for heredoc in &request.node.heredocs {
        text.push('\n');
        text.push_str(&String::from_utf8_lossy(&heredoc.content));
        text.push_str(&heredoc.announced.name);
    }
    Ok(text)
}

fn without_keyword(line: &str) -> &str {
    let blank = |c: char| matches!(c, '\t' | '\n' | '\u{0c}' | '\r' | ' ');
    let start = line.trim_start_matches(blank);
    match start.split_at_checked("ONBUILD".len()) {
        Some((word, rest)) if word.eq_ignore_ascii_case("ONBUILD") => {
            rest.trim_start_matches(blank)
        }
        _ => line,
    }
}
