//! `history`.

use super::{environment::Environment, execute, failure::unwritable};
use crate::{
    diagnostic::{Diagnostic, Exit, Printer},
    record::{History, HistoryError, Receipt},
};
use clap::Args;
use serde_json::json;
use std::{fs, path::PathBuf};

const EXAMPLES: &str = "Examples:
  bk-sync history                       the last deploys, newest first
  bk-sync history 20260301T10           the receipt of one; the begin of its id is enough
  bk-sync history --format json         the same for scripts
  bk-sync history 20260301T10 --html deploy.html   one as a page for a browser
  bk-sync history --project shop/deployment/web";

/// List the deploys made from here, or print the receipt of one
///
/// Receipts are kept in the state directory (`$XDG_STATE_HOME/bk-sync`, else
/// `~/.local/state/bk-sync`), the last 200 of each project.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct HistoryArguments {
    /// The begin of a deploy's id
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Write a page for a browser to FILE: the graph, the time line, layers, the diagnosis
    #[arg(long, value_name = "FILE", requires = "id")]
    html: Option<PathBuf>,
    /// Only deploys of this project: `NAMESPACE/KIND/NAME`, or a repository
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    project: Option<String>,
    /// No more than COUNT deploys
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

impl HistoryArguments {
    /// Writes what was found.
    pub(super) fn run(
        self,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let history = kept(environment)?;
        let (line, result) = if let Some(id) = &self.id {
            let receipt = one(id, history.find(id).map_err(unreadable)?)?;
            let mut line = serde_json::to_string_pretty(&receipt).unwrap_or_default();
            if let Some(path) = &self.html {
                let page = receipt.page(history.build(&receipt));
                fs::write(path, page.html()).map_err(|error| unwritable(path, &error))?;
                line = path.display().to_string();
            }
            (line, json!({ "receipts": [receipt] }))
        } else {
            let mut receipts = history.list(self.project.as_deref()).map_err(unreadable)?;
            receipts.truncate(self.limit);
            if receipts.is_empty() {
                printer.aside("no deploy is recorded here yet: `bk-sync sync` makes one");
            }
            let lines: Vec<String> = receipts.iter().map(Receipt::line).collect();
            (lines.join("\n"), json!({ "receipts": receipts }))
        };
        printer
            .success("history", &line, &result, &[], &[])
            .map_err(|error| Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}

/// The receipts of this user.
///
/// # Errors
/// There is no state directory.
pub(super) fn kept(environment: &Environment) -> Result<History, Box<Diagnostic>> {
    let state = execute::state(environment).ok_or_else(|| {
        Diagnostic::new("STATE_MISSING", Exit::Usage, "there is no state directory")
            .with_fix("set `XDG_STATE_HOME` or `HOME`")
    })?;
    Ok(History::new(&state))
}

/// Receipts that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "it fits `map_err`")]
pub(super) fn unreadable(error: HistoryError) -> Box<Diagnostic> {
    Diagnostic::new("HISTORY_UNUSABLE", Exit::Usage, error.to_string())
        .with_sources(&error)
        .with_detail("path", error.path.display().to_string())
        .with_fix("see who may read the state directory")
        .into()
}

/// The one receipt whose id begins with `id`.
///
/// # Errors
/// There is none, or several.
pub(super) fn one(id: &str, found: Vec<Receipt>) -> Result<Receipt, Box<Diagnostic>> {
    if found.len() > 1 {
        let ids: Vec<&str> = found.iter().map(|receipt| receipt.id.as_str()).collect();
        let message = format!("the ids of {} deploys begin with `{id}`", found.len());
        return Err(Diagnostic::new("RECEIPT_AMBIGUOUS", Exit::Usage, message)
            .with_detail("ids", ids)
            .with_fix("give more of the id")
            .into());
    }
    found.into_iter().next().ok_or_else(|| {
        let message = format!("no deploy's id begins with `{id}`");
        Diagnostic::new("RECEIPT_NOT_FOUND", Exit::Usage, message)
            .with_fix("see `bk-sync history`")
            .into()
    })
}
