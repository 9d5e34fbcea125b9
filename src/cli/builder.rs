//! `builder ls|inspect|du|prune`.

use super::{arguments::GlobalArguments, build::named_builder, environment::Environment, execute};
use crate::{
    buildkit::{
        control::Control,
        dial::{self, Connection, connect},
        discover::{self, candidates, discover},
        errors::Failure,
    },
    config::{Config, Origin, Setting, parse_time},
    diagnostic::{Diagnostic, Exit, Printer},
    pipeline::{
        Error,
        builder::{Builder, BuilderKind},
    },
    proto::moby::buildkit::v1::{PruneRequest, UsageRecord, types::WorkerRecord},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{cell::RefCell, pin::pin, time::Duration};

const EXAMPLES: &str = "Examples:
  bk-sync builder ls                            where builders could be, and which answer
  bk-sync builder inspect                       workers, platforms and limits of the one in use
  bk-sync builder du                            what its cache holds
  bk-sync builder prune --max-used-space 10gb   remove the oldest until 10 GB are left";

/// How long a builder that is only listed may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often somebody who waits for a builder hears how far it is.
const WORD: Duration = Duration::from_secs(5);

/// Look at builders and their caches
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct BuilderArguments {
    #[command(subcommand)]
    command: BuilderCommand,
}

#[derive(Debug, Subcommand)]
enum BuilderCommand {
    /// List the places where builders could be, and how each answers
    ///
    /// In the order in which `build` tries them; the first that answers is the one in use. Where
    /// one is named, by flag, variable or config, it is the only one.
    Ls,
    /// Show workers, platforms and limits of the builder in use
    Inspect,
    /// Show what the builder's cache holds
    Du {
        /// Only records that this matches, such as `type==exec.cachemount`
        #[arg(long, value_name = "FILTER")]
        filter: Vec<String>,
        /// List every record, not only the sum of each type
        #[arg(long)]
        records: bool,
    },
    /// Remove from the builder's cache what is not in use
    Prune(PruneArguments),
}

/// Remove from the builder's cache what is not in use
///
/// Without a limit everything that no build uses is removed, but for what only `--all` removes.
#[derive(Args, Debug)]
struct PruneArguments {
    /// Also remove what is shared with images, and frontends
    #[arg(short, long)]
    all: bool,
    /// Only records that this matches, such as `type==regular`
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Keep what was used within TIME, such as `24h`
    #[arg(long, value_name = "TIME", value_parser = parse_time, visible_alias = "until")]
    keep_duration: Option<Duration>,
    /// Keep this much, the newest first, such as `5gb`
    #[arg(long, value_name = "SIZE", value_parser = size)]
    reserved_space: Option<i64>,
    /// Keep no more than this
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_used_space: Option<i64>,
    /// Remove until this much of the builder's disk is free
    #[arg(long, value_name = "SIZE", value_parser = size)]
    min_free_space: Option<i64>,
}

fn size(text: &str) -> Result<i64, String> {
    let bytes = crate::config::values::byte_size(text).map_err(|error| error.hint)?;
    i64::try_from(bytes).map_err(|_| "a smaller size".to_owned())
}

/// What a command came to: text, JSON, and how it ends.
struct Said {
    text: String,
    result: Value,
}

impl BuilderArguments {
    /// Asks, and writes the answer.
    pub(super) fn run(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let inputs = execute::discovery(&builder(global, config, environment)?, environment);
        let options = execute::dial_options(global, environment)?;
        let quiet = GlobalArguments { quiet: true, ..global.clone() };
        let command = self.command;
        let aside = |text: &str| {
            if !global.quiet {
                printer.aside(text);
            }
        };
        let (said, _) = execute::supervised(&quiet, environment, Vec::new(), async |_, cancel| {
            tokio::select! {
                said = ask(command, &inputs, &options, &aside) => said,
                () = cancel.cancelled() => Err(Box::new(Error::Interrupted.into())),
            }
        })?;
        printer
            .success("builder", said.text.trim_end(), &said.result, &[], &[])
            .map_err(|error| Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}

/// The builder that a flag, a variable or the config names.
fn builder(
    global: &GlobalArguments,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<Setting<Option<String>>, Box<Diagnostic>> {
    use crate::config::{BuildOverrides, BuildSettings};
    if let Some(named) = named_builder(global, environment) {
        return Ok(Setting { value: Some(named.value), origin: named.origin });
    }
    let Some(template) = config.and_then(|config| config.sections.build.builder.clone()) else {
        return Ok(Setting { value: None, origin: Origin::Default });
    };
    // Only this one value: a tag that cannot be made is no matter here.
    let mut only = config.cloned();
    if let Some(config) = &mut only {
        config.sections = crate::config::Sections::default();
        config.sections.build.builder = Some(template);
    }
    let variable = |name: &str| environment.text(name);
    let settings = BuildSettings::resolve(BuildOverrides::default(), only.as_ref(), variable)?;
    Ok(settings.builder)
}

async fn ask(
    command: BuilderCommand,
    inputs: &discover::Inputs,
    options: &dial::Options,
    aside: &dyn Fn(&str),
) -> Result<Said, Box<Diagnostic>> {
    if matches!(command, BuilderCommand::Ls) {
        return Ok(list(inputs, options).await);
    }
    let found = discover(inputs, options).await.map_err(|miss| Box::new(miss.into()))?;
    let connection = found.connection;
    let control = Control::new(connection.channel.clone());
    match command {
        BuilderCommand::Ls => Ok(list(inputs, options).await),
        BuilderCommand::Inspect => Ok(inspect(&connection)),
        BuilderCommand::Du { filter, records } => {
            let usage = control.disk_usage(&filter).await.map_err(failed)?;
            Ok(usage_said(&usage, records))
        }
        BuilderCommand::Prune(prune) => {
            let request = PruneRequest {
                filter: prune.filter,
                all: prune.all,
                keep_duration: prune.keep_duration.map_or(0, nanoseconds),
                reserved_space: prune.reserved_space.unwrap_or_default(),
                max_used_space: prune.max_used_space.unwrap_or_default(),
                min_free_space: prune.min_free_space.unwrap_or_default(),
            };
            let removed = pruned(&control, request, aside).await.map_err(failed)?;
            let bytes = total(&removed);
            Ok(Said {
                text: format!("removed {} records, {}", removed.len(), shown(bytes)),
                result: json!({ "removed": { "records": removed.len(), "bytes": bytes } }),
            })
        }
    }
}

/// Has the builder remove records. It may take minutes over one, or be busy with collecting garbage by
/// itself before it begins: `aside` hears that it goes on.
async fn pruned(
    control: &Control,
    request: PruneRequest,
    aside: &dyn Fn(&str),
) -> Result<Vec<UsageRecord>, Failure> {
    let removed = RefCell::new(Vec::new());
    let mut pruning = pin!(control.prune(request, |record| removed.borrow_mut().push(record)));
    loop {
        tokio::select! {
            done = pruning.as_mut() => {
                done?;
                return Ok(removed.take());
            }
            () = tokio::time::sleep(WORD) => {
                let so_far = removed.borrow();
                let size = shown(total(&so_far));
                aside(&format!("the builder still works: {} records removed so far, {size}", so_far.len()));
            }
        }
    }
}

/// A duration as the builder takes it.
fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn failed(failure: Failure) -> Box<Diagnostic> {
    Diagnostic::from(Error::Builder { message: failure.message }).into()
}

/// Every place where a builder could be, asked in turn.
async fn list(inputs: &discover::Inputs, options: &dial::Options) -> Said {
    let mut found = Vec::new();
    for candidate in candidates(inputs, &|path| std::fs::read(path)) {
        let named = candidate.source.to_string();
        let target = match candidate.target {
            Ok(target) => target,
            Err(error) => {
                found.push((String::new(), named, Err(error.to_string())));
                continue;
            }
        };
        let mut options = options.clone();
        options.docker = inputs.docker.clone();
        if let Some(tls) = target.tls {
            options.tls = tls;
        }
        options.timeout = options.timeout.min(PATIENCE);
        let answer = connect(&target.address, &options).await.map_err(|error| error.to_string());
        found.push((target.address.to_string(), named, answer));
    }
    let used = found.iter().position(|(.., answer)| answer.is_ok());
    let mut lines = Vec::new();
    let mut builders = Vec::new();
    for (at, (address, named, answer)) in found.iter().enumerate() {
        let in_use = used == Some(at);
        let (state, platforms) = match answer {
            Ok(connection) => {
                let builder = Builder::new(&connection.workers);
                let list: Vec<String> =
                    builder.platforms.iter().map(crate::llb::Platform::format).collect();
                (format!("{}, {}", kind(&builder), list.join(", ")), list)
            }
            Err(error) => {
                // The address stands before it.
                let known = format!("the builder `{address}` cannot be reached: ");
                let words = error.strip_prefix(&known).unwrap_or(error);
                (words.lines().next().unwrap_or_default().to_owned(), Vec::new())
            }
        };
        let mark = if in_use { '*' } else { ' ' };
        lines.push(format!("{mark} {address}  ({named})  {state}"));
        builders.push(json!({
            "address": address,
            "named_by": named,
            "in_use": in_use,
            "answers": answer.is_ok(),
            "error": answer.as_ref().err(),
            "kind": answer.as_ref().ok().map(|one| kind(&Builder::new(&one.workers))),
            "platforms": platforms,
        }));
    }
    Said { text: lines.join("\n"), result: json!({ "builders": builders }) }
}

fn kind(builder: &Builder) -> &'static str {
    match builder.kind {
        BuilderKind::Standalone => "buildkitd",
        BuilderKind::DockerContainerd => "docker, containerd store",
        BuilderKind::DockerGraphdriver => "docker, graphdrivers",
    }
}

fn inspect(connection: &Connection) -> Said {
    let builder = Builder::new(&connection.workers);
    let mut lines = vec![format!("{}  {}", connection.address, kind(&builder))];
    let workers: Vec<Value> = connection.workers.iter().map(|w| worker(w, &mut lines)).collect();
    Said {
        text: lines.join("\n"),
        result: json!({
            "address": connection.address.to_string(),
            "kind": kind(&builder),
            "workers": workers,
        }),
    }
}

fn worker(worker: &WorkerRecord, lines: &mut Vec<String>) -> Value {
    let builder = Builder::new(std::slice::from_ref(worker));
    let platforms: Vec<String> =
        builder.platforms.iter().map(crate::llb::Platform::format).collect();
    let version = worker.buildkit_version.as_ref().map(|version| version.version.clone());
    lines.push(format!("worker {}", worker.id));
    lines.push(format!("  version    {}", version.as_deref().unwrap_or("not told")));
    lines.push(format!("  platforms  {}", platforms.join(", ")));
    for (name, value) in &worker.labels {
        lines.push(format!("  label      {name}={value}"));
    }
    let mut policies = Vec::new();
    for policy in &worker.gc_policy {
        lines.push(format!(
            "  limit      {}keep {} for {} h, at most {}, {} free",
            if policy.all { "all: " } else { "" },
            shown(policy.reserved_space),
            policy.keep_duration / 3_600_000_000_000,
            limit(policy.max_used_space),
            shown(policy.min_free_space),
        ));
        policies.push(json!({
            "all": policy.all,
            "filters": policy.filters,
            "keep_seconds": policy.keep_duration / 1_000_000_000,
            "reserved_bytes": policy.reserved_space,
            "max_used_bytes": policy.max_used_space,
            "min_free_bytes": policy.min_free_space,
        }));
    }
    json!({
        "id": worker.id,
        "version": version,
        "platforms": platforms,
        "labels": worker.labels,
        "limits": policies,
    })
}

fn limit(bytes: i64) -> String {
    if bytes == 0 { "no limit".to_owned() } else { shown(bytes) }
}

fn usage_said(records: &[UsageRecord], each: bool) -> Said {
    let mut types = std::collections::BTreeMap::<&str, (usize, i64)>::new();
    for record in records {
        let entry = types.entry(record.record_type.as_str()).or_default();
        *entry = (entry.0 + 1, entry.1 + record.size);
    }
    let reclaimable: i64 =
        records.iter().filter(|record| !record.in_use).map(|record| record.size).sum();
    let mut lines = Vec::new();
    if each {
        for record in records {
            let state = if record.in_use { "in use" } else { "" };
            lines.push(format!(
                "{}  {:>10}  {:20}  {:6}  {}",
                record.id,
                shown(record.size),
                record.record_type,
                state,
                record.description
            ));
        }
    }
    for (name, (count, bytes)) in &types {
        lines.push(format!("{:24}  {count:>5} records  {:>10}", name, shown(*bytes)));
    }
    lines.push(format!(
        "{:24}  {:>5} records  {:>10}, {} not in use",
        "total",
        records.len(),
        shown(total(records)),
        shown(reclaimable)
    ));
    let by_type: Vec<Value> = types
        .iter()
        .map(|(name, (count, bytes))| json!({ "type": name, "records": count, "bytes": bytes }))
        .collect();
    let list: Vec<Value> = records
        .iter()
        .filter(|_| each)
        .map(|record| {
            json!({
                "id": record.id,
                "type": record.record_type,
                "bytes": record.size,
                "in_use": record.in_use,
                "shared": record.shared,
                "uses": record.usage_count,
                "description": record.description,
            })
        })
        .collect();
    Said {
        text: lines.join("\n"),
        result: json!({
            "total_bytes": total(records),
            "reclaimable_bytes": reclaimable,
            "types": by_type,
            "records": list,
        }),
    }
}

fn total(records: &[UsageRecord]) -> i64 {
    records.iter().map(|record| record.size).sum()
}

/// Bytes as people read them.
fn shown(bytes: i64) -> String {
    const UNITS: [(&str, i64); 4] =
        [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (unit, size) in UNITS {
        if bytes >= size {
            return format!("{}.{} {unit}", bytes / size, (bytes % size) * 10 / size);
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::{shown, size};

    #[test]
    fn sizes_are_read_and_shown_in_powers_of_ten_and_two() {
        assert_eq!(shown(999), "999 B");
        assert_eq!(shown(1_500), "1.5 kB");
        assert_eq!(shown(21_340_000_000), "21.3 GB");
        assert!(size("10gb").is_ok_and(|bytes| bytes >= 10_000_000_000));
        assert!(size("ten").is_err());
    }
}
