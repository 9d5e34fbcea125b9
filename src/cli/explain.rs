//! `explain`.

use crate::{
    diagnostic::{
        Diagnostic, Exit, Printer,
        codes::{self, Explanation},
    },
    dockerfile::suggest,
};
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "Examples:
  bk-sync explain PUSH_DENIED   what it means, why it happens, what to do
  bk-sync explain               all codes
  bk-sync explain 12            the codes that end with exit code 12";

/// Explain the code of an error or a warning
///
/// Every failure has a code: with `--format json` it is `error.code`, and the text names it in its
/// last line.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExplainArguments {
    /// The code, or an exit code [default: list all]
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

impl ExplainArguments {
    /// Writes the long form of a code, or the list.
    ///
    /// # Errors
    /// Where there is no such code, or stdout cannot be written.
    pub(super) fn run(&self, printer: Printer) -> Result<Exit, Box<Diagnostic>> {
        let (text, result) = match self.code.as_deref() {
            None => (list(&codes::all()), json!({ "codes": short(&codes::all()) })),
            Some(text) => match (codes::find(text), text.parse::<u8>()) {
                (Some(found), _) => (found.text(), found.to_json()),
                (None, Ok(number)) => {
                    let found = ending_with(number)?;
                    (list(&found), json!({ "codes": short(&found) }))
                }
                (None, Err(_)) => return Err(unknown(text)),
            },
        };
        printer.success("explain", &text, &result, &[], &[]).map_err(|error| {
            Diagnostic::new("STDOUT_FAILED", Exit::Internal, format!("cannot write: {error}"))
        })?;
        Ok(Exit::Done)
    }
}

/// The codes that a run can fail with that ends with `number`.
fn ending_with(number: u8) -> Result<Vec<&'static Explanation>, Box<Diagnostic>> {
    let ends = |code: &&Explanation| code.exits.iter().any(|exit| exit.code() == number);
    let found: Vec<_> = codes::all().into_iter().filter(ends).collect();
    if found.is_empty() {
        let message = format!("no failure ends with exit code {number}");
        return Err(Diagnostic::new("USAGE", Exit::Usage, message)
            .with_fix("see `bk-sync --help` for the exit codes")
            .into());
    }
    Ok(found)
}

fn unknown(text: &str) -> Box<Diagnostic> {
    let upper = text.to_ascii_uppercase();
    let near = suggest(&upper, codes::all().into_iter().map(|known| known.code));
    let fix = match near {
        Some(code) => format!("did you mean `bk-sync explain {code}`?"),
        None => "`bk-sync explain` lists all codes".to_owned(),
    };
    Diagnostic::new("USAGE", Exit::Usage, format!("there is no code `{text}`")).with_fix(fix).into()
}

/// A code a line, with its exit codes and its title.
fn list(codes: &[&Explanation]) -> String {
    let width = codes.iter().map(|code| code.code.len()).max().unwrap_or_default();
    let lines: Vec<String> = codes
        .iter()
        .map(|code| {
            let exits: Vec<String> =
                code.exits.iter().map(|exit| exit.code().to_string()).collect();
            let exits = if code.is_failure() { exits.join(",") } else { "-".to_owned() };
            format!("{:width$}  {exits:>5}  {}", code.code, code.title)
        })
        .collect();
    lines.join("\n")
}

fn short(codes: &[&Explanation]) -> Vec<serde_json::Value> {
    codes.iter().map(|code| code.to_json()).collect()
}
