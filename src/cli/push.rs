//! `push`.

use super::{
    arguments::GlobalArguments,
    build::SigningArguments,
    credentials,
    environment::Environment,
    execute::{self, Surroundings, internal, login, supervised},
    failure::usage,
    reach::reach,
};
use crate::{
    config::{Config, SignOverride, signing},
    credential::RegistryHost,
    diagnostic::{Diagnostic, Exit, Printer},
    image::reference::{Reference, check_digest},
    pipeline::push::{Held, HeldError, PushRequest, PushSettings, PushSource, push},
    plan::BuildPlan,
    registry::RetryBudget,
};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

const EXAMPLES: &str = "Examples:
  bk-sync push app.tar ghcr.io/me/app:1               from an OCI archive or a `docker save` archive
  bk-sync push layout/ ghcr.io/me/app:1 ghcr.io/me/app:latest
  bk-sync push sha256:4bc4… ghcr.io/me/app:1          from the builder that built it
  bk-sync push --resume                               finish the push that failed last";

/// What `--retry-budget` and `--hold` are for a command that has no such flags.
pub(super) const DEFAULTS: (Duration, Hold) = (Duration::from_mins(5), Hold::Builder);

/// Push an image that was built before
///
/// SOURCE is an OCI layout (a directory), an archive of one, an archive that `docker save` wrote, or
/// the digest of an image in the builder. Only what a registry lacks is sent; an upload that is cut
/// goes on where the registry says it stopped.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct PushArguments {
    /// A layout, an archive, or `sha256:…` in the builder
    #[arg(value_name = "SOURCE", required_unless_present = "resume", conflicts_with = "resume")]
    source: Option<String>,
    /// Where to: `[REGISTRY/]REPOSITORY[:TAG]`
    #[arg(value_name = "REF", required_unless_present = "resume", conflicts_with = "resume")]
    references: Vec<String>,
    /// Finish a push that failed: ID as it was named then [default: the last]
    #[arg(long, value_name = "ID", num_args = 0..=1, default_missing_value = "")]
    resume: Option<String>,
    /// How long a blob is tried without getting further, such as `90s` or `10m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    retry_budget: Duration,
    /// Where an image that could not be pushed is held
    #[arg(long, value_name = "WHERE", default_value = "builder")]
    hold: Hold,
    #[command(flatten)]
    signing: SigningArguments,
}

/// `--hold`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Hold {
    /// Where it lies: the builder keeps what it built for some time
    Builder,
    /// In our state directory, as an OCI layout, until it is pushed
    Layout,
}

impl PushArguments {
    /// Pushes, and writes the result.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let state = execute::state(environment);
        let (source, references, held) = match (self.resume, self.source) {
            (Some(id), _) => {
                let id = Some(id.as_str()).filter(|id| !id.is_empty());
                let held = Held::find(state.as_deref().unwrap_or(Path::new("")), id)
                    .map_err(|error| nothing_held(&error))?;
                let references = held.references.clone();
                (PushSource::of(&held), references, Some(held))
            }
            (None, Some(source)) => (named(&source)?, self.references, None),
            (None, None) => return Err(usage("there is nothing to push", "name a SOURCE")),
        };
        let mut names = Vec::new();
        for text in &references {
            let name = Reference::parse(text).map_err(|error| {
                let message = format!("`{text}` is no image name: {error}");
                usage(message, "write it as [REGISTRY/]REPOSITORY[:TAG]")
            })?;
            let by_digest = held.as_ref().is_some_and(|held| held.by_digest);
            let name = if by_digest { name } else { name.or_latest() };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let plan = BuildPlan {
            tags: names.iter().map(Reference::to_string).collect(),
            push: true,
            signing: match (
                self.signing.given()?,
                held.as_ref().and_then(|one| one.signing.clone()),
            ) {
                // What goes on is signed as was asked for when it began.
                (SignOverride::Unsaid, Some(begun)) => Some(begun),
                (given, _) => signing(given, config, |name| environment.text(name))?.value,
            },
            ..BuildPlan::default()
        };
        let settings = settings(&plan, (self.retry_budget, self.hold), config, environment)?;
        let (chain, warnings) = credentials::chain(&plan, config, environment)?;
        let surroundings = Surroundings { global, config, environment, printer };
        let work = async |events, cancel| {
            let login = login(chain, &events);
            let connection = match &source {
                PushSource::Path(_) => None,
                PushSource::Builder { address, .. } => {
                    let place = execute::builder(surroundings, address.as_deref());
                    let found = execute::reach(&place, surroundings, &events, &cancel).await?;
                    Some(found.connection)
                }
            };
            let request = PushRequest {
                source,
                connection: connection.as_ref(),
                names,
                held,
                settings: &settings,
                plan: &plan,
                variables: execute::variables(&plan, environment),
                login: &login,
                state: state.as_deref(),
                events: &events,
                cancel: &cancel,
            };
            push(request).await.map_err(|error| Box::new(Diagnostic::from(error)))
        };
        let (pushed, summary) = supervised(global, environment, warnings, work)?;
        let line = match pushed.references.first() {
            Some(reference) => format!("{reference}@{}", pushed.digest),
            None => pushed.digest.clone(),
        };
        let result = json!({
            "image": { "digest": pushed.digest, "tags": pushed.references },
            "push": pushed.pushed,
        });
        printer
            .success("push", &line, &result, &summary.warnings(), &[])
            .map_err(|error| internal(&error))?;
        Ok(Exit::Done)
    }
}

/// The source that an argument means.
fn named(source: &str) -> Result<PushSource, Box<Diagnostic>> {
    if source.starts_with("sha256:") {
        return match check_digest(source) {
            Ok(()) => Ok(PushSource::Builder { digest: source.to_owned(), address: None }),
            Err(error) => Err(usage(format!("`{source}`: {error}"), "give the digest in full")),
        };
    }
    let path = PathBuf::from(source);
    if path.exists() {
        return Ok(PushSource::Path(path));
    }
    Err(usage(
        format!("`{source}` does not exist"),
        "name an OCI layout, an archive, or an image in the builder by its `sha256:…`",
    ))
}

/// How registries are pushed to.
///
/// # Errors
/// See [`reach`].
pub(super) fn settings(
    plan: &BuildPlan,
    (retry_budget, hold): (Duration, Hold),
    config: Option<&Config>,
    environment: &Environment,
) -> Result<PushSettings, Box<Diagnostic>> {
    let names = plan.tags.iter().filter_map(|tag| Reference::parse(tag).ok());
    let hosts: BTreeSet<RegistryHost> =
        names.map(|name| RegistryHost::new(name.domain())).collect();
    let reach = reach(hosts, config, environment)?;
    let keeps_layout = matches!(hold, Hold::Layout);
    let budget = RetryBudget { without_progress: retry_budget, ..RetryBudget::default() };
    Ok(PushSettings { reach, budget, keeps_layout })
}

/// A duration as a user writes it: `90s`, `10m`, `1h`, `500ms`, or seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    let wrong = || "write it as `90s`, `10m` or `1h`".to_owned();
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

fn nothing_held(error: &HeldError) -> Box<Diagnostic> {
    let fix = match error {
        HeldError::Nothing => "push an image with `bk-sync push SOURCE REF`",
        HeldError::Unknown { .. } => "name one of them, or none for the last",
        HeldError::Unreadable { .. } => {
            "remove the file, and build again: what was built is cached"
        }
    };
    Diagnostic::new("NOTHING_TO_RESUME", Exit::Usage, error.to_string()).with_fix(fix).into()
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("7", 7), ("10m", 600), ("1h", 3600)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "s", "5d", "-1s", "1.5m", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
