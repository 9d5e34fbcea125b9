//! From nodes to typed instructions: one file for each family, each of which knows its flags and what
//! its arguments must be. The order of the checks is BuildKit's, since the first that fails is told.

mod command;
mod device;
mod files;
mod from;
mod healthcheck;
mod mount;
mod onbuild;
mod plain;
mod run;
mod value;

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ast::{From, Kind, Origin};
use super::error::{Cause, Fault};
use super::flags::{self, Known, Values};
use super::lint::Scope;
use super::node::{Arguments, Keyword, Node};
use super::suggest::suggest_ignoring_case;

pub(super) use from::report_casing;

/// What a node turns out to be.
pub(super) enum Read {
    /// The start of a stage.
    From(From),
    /// Anything else.
    Instruction(Kind),
}

/// A node, and which instruction it is.
pub(super) struct Request<'a> {
    node: &'a Node,
    name: &'static str,
}

impl Request<'_> {
    /// Its flags, of which it knows these.
    fn flags(&self, known: &Known) -> Result<Values, Fault> {
        flags::read(&self.node.flags, self.name, known)
    }

    /// It has no flags.
    fn no_flags(&self) -> Result<(), Fault> {
        self.flags(&[]).map(|_| ())
    }

    /// Its arguments, whatever their form.
    fn words(&self) -> &[String] {
        self.node.args.words().0
    }

    /// Whether its arguments are in JSON form.
    fn is_json(&self) -> bool {
        self.node.args.words().1
    }

    /// Its only argument.
    fn one_word(&self) -> Result<String, Fault> {
        match self.words() {
            [word] => Ok(word.clone()),
            _ => Err(Cause::NotOneArgument(self.name).into()),
        }
    }
}

/// The instruction of a node, which `scope` may have something to say of.
pub(super) fn read(node: &Node, scope: &mut Scope<'_>) -> Result<Read, Fault> {
    let Some((keyword, name)) = Keyword::from_word(&node.keyword) else {
        let word = node.keyword.clone();
        let all = Keyword::ALL.into_iter().map(|(_, name)| name);
        let suggestion = suggest_ignoring_case(&word, all);
        return Err(Cause::UnknownInstruction { word, suggestion }.into());
    };
    let request = Request { node, name };
    let kind = match keyword {
        Keyword::From => return from::read(&request, scope).map(Read::From),
        Keyword::Add => Kind::Add(files::read_add(&request)?),
        Keyword::Arg => Kind::Arg(value::read_arg(&request, scope)?),
        Keyword::Cmd => Kind::Cmd(command::read(&request)?),
        Keyword::Copy => Kind::Copy(files::read_copy(&request)?),
        Keyword::Entrypoint => Kind::Entrypoint(command::read(&request)?),
        Keyword::Env => Kind::Env(value::read_pairs(&request)?),
        Keyword::Expose => Kind::Expose(plain::read_expose(&request)?),
        Keyword::Healthcheck => Kind::Healthcheck(healthcheck::read(&request)?),
        Keyword::Label => Kind::Label(value::read_pairs(&request)?),
        Keyword::Maintainer => Kind::Maintainer(plain::read_maintainer(&request, scope)?),
        Keyword::Onbuild => Kind::Onbuild(onbuild::read(&request)?),
        Keyword::Run => Kind::Run(run::read(&request)?),
        Keyword::Shell => Kind::Shell(command::read_shell(&request)?),
        // No flag of it is ever looked at.
        Keyword::StopSignal => Kind::StopSignal(request.one_word()?),
        Keyword::User => Kind::User(plain::read_one(&request)?),
        Keyword::Volume => Kind::Volume(plain::read_volume(&request)?),
        Keyword::Workdir => Kind::Workdir(plain::read_one(&request)?),
    };
    // These become operations of the graph, with their text beside them.
    let becomes_operation = matches!(kind, Kind::Add(_) | Kind::Copy(_) | Kind::Workdir(_));
    let has_heredoc_beyond_utf8 = || {
        let mut heredocs = node.heredocs.iter();
        heredocs.any(|heredoc| std::str::from_utf8(&heredoc.content).is_err())
    };
    let is_text = match kind {
        Kind::Run(_) => node.utf8 && !has_heredoc_beyond_utf8(),
        _ if becomes_operation => node.utf8,
        _ => true,
    };
    if is_text {
        Ok(Read::Instruction(kind))
    } else {
        Err(Cause::NotUtf8 { instruction: name }.into())
    }
}

/// Where a node stands and how it was written.
pub(super) fn origin(node: Node) -> Origin {
    let Node { keyword, line, lines, span, comments, .. } = node;
    let trimmed = line.trim();
    let code = if trimmed.len() == line.len() { line } else { trimmed.to_owned() };
    Origin { keyword, code, lines, span, comments }
}

/// What the comments say of each name: the text after it, in the first that starts with it. Names
/// are looked up by their length, so that many names under many comments stay cheap.
fn doc_comments<'a>(comments: &'a [String], names: &[&str]) -> HashMap<&'a str, &'a str> {
    let wanted: HashSet<&str> = names.iter().copied().collect();
    let lengths: BTreeSet<usize> = wanted.iter().map(|name| name.len()).collect();
    let mut found = HashMap::new();
    for comment in comments {
        for &length in lengths.range(..comment.len()) {
            let Some((name, rest)) = comment.split_at_checked(length) else { continue };
            if let (true, Some(text)) = (wanted.contains(name), rest.strip_prefix(' ')) {
                found.entry(name).or_insert(text);
            }
        }
    }
    found
}

/// Reports comments that look like a description of `names` and are none.
fn report_description(node: &Node, instruction: &str, names: &[&str], scope: &mut Scope<'_>) {
    let (Some(last), [first, others @ ..]) = (node.comments.last(), names) else { return };
    let word = last.split(' ').next().unwrap_or_default();
    if names.contains(&word) {
        return;
    }
    let example = if others.is_empty() { first } else { "<arg_key>" };
    let rule = &super::lint::rules::INVALID_DEFINITION_DESCRIPTION;
    scope.report(rule, node.lines, (rule.message)(instruction, example));
}

/// The type of a `HEALTHCHECK` and its command; nothing for other instructions.
fn typed(node: &Node) -> Option<(&str, &Arguments)> {
    match &node.args {
        Arguments::Typed(kind, command) => Some((kind, command)),
        _ => None,
    }
}
