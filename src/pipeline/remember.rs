//! Keeps what a build was made of, so that the next one can be compared with it (see
//! [`crate::why`]).
//!
//! In the state directory each context has a directory, and each Dockerfile, target and set of
//! platforms of it two files there: the last build, and the one before. Both are whole or not there.

use super::journal::Journal;
use crate::{
    buildkit::session::Announced,
    compile,
    dockerfile::{
        self,
        ast::{Arg, Kind},
        lint::Linter,
    },
    plan::{BuildPlan, Context},
    why::{self, Entry, Record, Went},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What the name of the last build's record ends in.
const LAST: &str = "last";
/// What that of the one before ends in.
const BEFORE: &str = "before";

/// Where the records of one plan lie.
#[derive(Clone, Debug)]
pub struct Memory {
    directory: PathBuf,
    name: String,
}

/// What is known of a build that has ended.
#[derive(Clone, Debug)]
pub(super) struct Build<'a> {
    /// What was asked for.
    pub(super) plan: &'a BuildPlan,
    /// The builder's address.
    pub(super) builder: String,
    /// Who compiled.
    pub(super) frontend: &'a str,
    /// The graphs, where they were made here.
    pub(super) graphs: Option<&'a compile::Build>,
    /// Whether it came to a result.
    pub(super) ok: bool,
}

impl Memory {
    /// The memory of `plan`, whose paths start from `directory`, in the state directory. None for a
    /// context that is no directory here.
    pub fn of(state: &Path, plan: &BuildPlan, directory: &Path) -> Option<Self> {
        let Context::Directory(context) = &plan.context else { return None };
        let parts = [
            plan.file.as_deref().unwrap_or_default(),
            plan.target.as_deref().unwrap_or_default(),
            &plan.platforms.join(","),
        ];
        let home = home(state, &directory.join(context))?;
        Some(Self { directory: home, name: hashed(&parts.join("\0")) })
    }

    /// The last build, and the one before it, as far as they are remembered.
    ///
    /// # Errors
    /// The records cannot be read.
    pub fn last(&self) -> io::Result<Option<(Record, Option<Record>)>> {
        let path = self.path(LAST);
        let Some(last) = read(&path)? else { return Ok(None) };
        Ok(Some((last, read(&path.with_extension(BEFORE))?)))
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.directory.join(format!("{}.{kind}", self.name))
    }

    /// Keeps a build. A failure to do so is logged, and no failure of the build.
    pub(super) fn keep(&self, build: &Build<'_>, journal: &Journal, announced: Vec<Announced>) {
        let record = record(build, journal, announced);
        if let Err(error) = self.write(&record) {
            tracing::warn!(%error, "the build cannot be remembered");
        }
    }

    fn write(&self, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        // The file is its owner's alone, as temporary files are: it tells of arguments.
        let mut file = io::BufWriter::new(tempfile::NamedTempFile::new_in(&self.directory)?);
        record.write_to(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let last = self.path(LAST);
        match fs::rename(&last, self.path(BEFORE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        file.persist(last).map(drop).map_err(|error| error.error)
    }
}

/// The last build of the context `context` and the one before it, as far as they are remembered.
/// Of several Dockerfiles, targets and platforms the one that was built last; `is_meant` may choose.
///
/// # Errors
/// The records cannot be read.
pub fn last_build(
    state: &Path,
    context: &Path,
    is_meant: impl Fn(&Record) -> bool,
) -> io::Result<Option<(Record, Option<Record>)>> {
    let Some(home) = home(state, context) else { return Ok(None) };
    let entries = match fs::read_dir(&home) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest: Option<(SystemTime, Record, PathBuf)> = None;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != LAST) {
            continue;
        }
        let written = path.metadata()?.modified()?;
        if newest.as_ref().is_some_and(|(other, ..)| *other >= written) {
            continue;
        }
        let Some(record) = read(&path)? else { continue };
        if is_meant(&record) {
            newest = Some((written, record, path));
        }
    }
    let Some((_, last, path)) = newest else { return Ok(None) };
    let before = read(&path.with_extension(BEFORE))?;
    Ok(Some((last, before)))
}

/// The record at `path`. One of another version counts as none.
fn read(path: &Path) -> io::Result<Option<Record>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Record::decode(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The directory of a context's records.
fn home(state: &Path, context: &Path) -> Option<PathBuf> {
    let context = fs::canonicalize(context).ok()?;
    Some(state.join("builds").join(hashed(context.to_str()?)))
}

fn hashed(text: &str) -> String {
    let mut name = String::new();
    for byte in Sha256::digest(text.as_bytes()).iter().take(12) {
        let _cannot_fail = write!(name, "{byte:02x}");
    }
    name
}

fn record(build: &Build<'_>, journal: &Journal, announced: Vec<Announced>) -> Record {
    let first = journal.named("").filter_map(|step| step.started).min();
    let went = |digest: &str| {
        let step = journal.step(digest)?;
        let time = step.completed?.duration_since(step.started?).unwrap_or_default();
        Some(Went {
            cached: step.cached,
            failed: !step.error.is_empty(),
            began: step
                .started
                .zip(first)
                .and_then(|(started, first)| started.duration_since(first).ok())
                .and_then(|since| u64::try_from(since.as_millis()).ok()),
            milliseconds: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        })
    };
    let mut record = Record {
        at: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .unwrap_or_default(),
        builder: build.builder.clone(),
        dockerfile: build.plan.file.clone().unwrap_or_else(|| "Dockerfile".to_owned()),
        target: build.plan.target.clone(),
        ok: build.ok,
        frontend: build.frontend.to_owned(),
        ..Record::default()
    };
    let Some(graphs) = build.graphs else { return record };
    for target in &graphs.targets {
        let offset = record.steps.len();
        let mut steps = why::steps(&target.definition, &target.id(), went);
        for input in steps.iter_mut().flat_map(|step| &mut step.inputs) {
            *input += offset;
        }
        record.steps.extend(steps);
    }
    hide(&mut record, &build.plan.args);
    if let Some(source) = &graphs.source_map {
        record.arguments = arguments(&source.data, &build.plan.args);
    }
    for entry in announced {
        let content = match entry.digest {
            Some(digest) => format!("{:032x}", u128::from_be_bytes(digest)),
            None if entry.size > 0 => format!("@{}", entry.mtime),
            None => String::new(),
        };
        let kept = Entry {
            path: entry.path,
            mode: entry.mode,
            size: u64::try_from(entry.size).unwrap_or_default(),
            content,
            link: entry.link,
        };
        record.files.entry(entry.directory).or_default().push(kept);
    }
    for entries in record.files.values_mut() {
        entries.sort();
        entries.dedup();
    }
    record
}

/// Takes the values of arguments that may be secrets out of the steps' texts.
fn hide(record: &mut Record, arguments: &BTreeMap<String, String>) {
    for (name, value) in arguments {
        if value.is_empty() || why::kept(name, value) == *value {
            continue;
        }
        for step in &mut record.steps {
            step.name = step.name.replace(value, "***");
            for text in step.properties.values_mut() {
                *text = text.replace(value, "***");
            }
        }
    }
}

/// What `ARG` declares in a Dockerfile, with the value that was given, else the default.
fn arguments(
    dockerfile: &[u8],
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, Option<String>> {
    let mut linter = Linter::default();
    let Ok(parsed) = dockerfile::parse(dockerfile, &mut linter) else { return BTreeMap::new() };
    let of_stages =
        parsed.stages.iter().flat_map(|stage| &stage.instructions).filter_map(|instruction| {
            match &instruction.kind {
                Kind::Arg(arg) => Some(arg),
                _ => None,
            }
        });
    let all: Vec<&Arg> =
        parsed.global_args.iter().map(|global| &global.arg).chain(of_stages).collect();
    let mut found = BTreeMap::new();
    for name in all.into_iter().flat_map(|arg| &arg.names) {
        let value = given.get(&name.key).or(name.value.as_ref());
        let value = value.map(|value| why::kept(&name.key, value));
        // A later declaration without a default takes over the value of an earlier one.
        let known = found.entry(name.key.clone()).or_insert(None);
        *known = value.or_else(|| known.take());
    }
    found
}
