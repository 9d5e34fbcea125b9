//! Compiling for a builder that is only imagined: what base images hold comes from a file, and no
//! builder is contacted.

use super::{
    attributes::attributes,
    builder::Builder,
    error::{Error, Refusal},
    sources::{Sources, Stdin, sources},
};
use crate::{
    compile::{
        self, Answer, Build, CheckStep, Checked, CompileError, Compiler, IgnoreFileText,
        ImageAnswer, Question, Request, Step, WebContext,
    },
    filesync::Source,
    llb::{Caps, Platform},
    plan::BuildPlan,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// The images that an imagined builder finds, by their full references.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Images(BTreeMap<String, ImageEntry>);

/// An image, or why there is none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageEntry {
    #[serde(default)]
    digest: String,
    /// Image configs, by platform.
    #[serde(default)]
    platforms: BTreeMap<String, Value>,
    /// What a builder answers instead.
    error: Option<String>,
}

/// What an imagined builder is like. Fields that are not named here are ignored, so that the case
/// files of the conformance corpus can be read as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Assumptions {
    /// The platforms that it runs, its own first.
    pub worker_platforms: Vec<String>,
    /// LLB capabilities that it lacks; it has all others of BuildKit v0.32.
    pub unsupported_caps: Vec<String>,
    /// What it answers when it is asked about a source, by the source's address.
    pub source_metadata: BTreeMap<String, SourceMetadata>,
    /// Attributes of the frontend that no flag sets, passed as they are, last.
    pub frontend_attrs: BTreeMap<String, String>,
}

/// What is known of a source without fetching it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SourceMetadata {
    /// When it last changed, as RFC 3339 has it.
    #[serde(deserialize_with = "timestamp")]
    pub last_modified: Option<jiff::Timestamp>,
}

fn timestamp<'de, D: Deserializer<'de>>(from: D) -> Result<Option<jiff::Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            worker_platforms: vec!["linux/amd64".to_owned(), "linux/arm64".to_owned()],
            unsupported_caps: Vec::new(),
            source_metadata: BTreeMap::new(),
            frontend_attrs: BTreeMap::new(),
        }
    }
}

/// A builder that is only imagined.
#[derive(Clone, Debug, Default)]
pub struct Imagined {
    /// The images it finds.
    pub images: Images,
    /// What it is like.
    pub assumptions: Assumptions,
    /// The id of the session that it is served by.
    pub session_id: String,
}

/// What was compiled, and the Dockerfile that it was compiled from.
#[derive(Clone, Debug)]
pub struct CompiledHere<T> {
    /// What came of it.
    pub outcome: T,
    /// The Dockerfile's name.
    pub file: String,
    /// Its text.
    pub text: Vec<u8>,
}

/// Compiles `plan` for `imagined`. Relative paths start from `directory`.
///
/// # Errors
/// The Dockerfile or a file that it needs is not here, or it cannot be compiled.
pub async fn compile(
    plan: &BuildPlan,
    directory: &Path,
    stdin: Option<Stdin>,
    imagined: &Imagined,
) -> Result<CompiledHere<Build>, Failed> {
    let mut prepared = Prepared::new(plan, directory, stdin, imagined).await?;
    loop {
        match prepared.compiler.step() {
            Step::Done(build) => return Ok(prepared.done(*build)),
            Step::Ask(questions) => prepared.answer(questions, imagined),
            Step::Failed(failure) => {
                return Err(Failed::Dockerfile(Box::new(prepared.done(failure.error))));
            }
        }
    }
}

/// Checks the Dockerfile of `plan` against the lint rules, for `imagined`.
///
/// # Errors
/// As [`compile()`], but for what is wrong with the Dockerfile: that is part of the answer.
pub async fn check(
    plan: &BuildPlan,
    directory: &Path,
    stdin: Option<Stdin>,
    imagined: &Imagined,
) -> Result<CompiledHere<Checked>, Failed> {
    let mut prepared = Prepared::new(plan, directory, stdin, imagined).await?;
    loop {
        match prepared.compiler.check() {
            CheckStep::Done(checked) => return Ok(prepared.done(*checked)),
            CheckStep::Ask(questions) => prepared.answer(questions, imagined),
        }
    }
}

/// What came of a compilation that builds nothing.
#[derive(Debug)]
pub enum Looked {
    /// What the lint rules say.
    Checked(CompiledHere<Checked>),
    /// The graphs, as they are compiled here.
    Graphs(CompiledHere<Build>),
    /// The graphs that the builder's own frontend made. Its warnings went to the screen.
    BuilderGraphs(Build),
    /// Both, side by side.
    Compared(Box<Compared>),
    /// The Dockerfile is wrong.
    Wrong(Box<CompiledHere<CompileError>>),
}

/// What was compiled here and what the builder's own frontend made of the same; at least one of
/// them made graphs.
#[derive(Debug)]
pub struct Compared {
    /// Here.
    pub here: CompiledHere<Result<Build, CompileError>>,
    /// There, or what the builder said instead.
    pub there: Result<Build, String>,
}

/// Why nothing was compiled.
#[derive(Debug)]
pub enum Failed {
    /// The Dockerfile is wrong.
    Dockerfile(Box<CompiledHere<CompileError>>),
    /// Anything else.
    Other(Error),
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// A compilation whose files are read.
struct Prepared {
    compiler: Compiler,
    sources: Sources,
    file: String,
    text: Vec<u8>,
}

impl Prepared {
    async fn new(
        plan: &BuildPlan,
        directory: &Path,
        stdin: Option<Stdin>,
        imagined: &Imagined,
    ) -> Result<Self, Failed> {
        let Assumptions { worker_platforms, unsupported_caps, frontend_attrs, .. } =
            &imagined.assumptions;
        let platform = |text: &String| {
            Platform::parse(text).map_err(|error| {
                Refusal::new("PLATFORM_INVALID", format!("`{text}` is no platform: {error}"))
                    .with_fix("mend `worker_platforms` in the file of `--assume`")
            })
        };
        let platforms = worker_platforms.iter().map(platform).collect::<Result<Vec<_>, _>>()?;
        let own = platforms.first().cloned().unwrap_or_else(|| Platform::new("linux", "amd64"));
        let builder = Builder { platforms, ..Builder::default() };

        let sources = sources(plan, directory, stdin).await?;
        let Some(dockerfile) = sources.dockerfile.clone() else {
            return Err(Refusal::new(
                "DOCKERFILE_ELSEWHERE",
                "the Dockerfile is not on this machine, and no builder is asked for it",
            )
            .with_fix("leave `--images` out, or name a Dockerfile here with `--file`")
            .into());
        };
        let mut attrs = attributes(plan, &builder)?;
        // A directory's name on this machine is no part of a graph that is the same everywhere.
        let is_of_this_machine = |name: &str| name.starts_with("sharedkey:localdir:");
        let files = sources.attributes.iter().filter(|(name, _)| !is_of_this_machine(name));
        attrs.extend(files.map(|(name, value)| (name.clone(), value.clone())));
        attrs.extend(frontend_attrs.clone());

        let text = dockerfile.text.to_vec();
        let web = WebContext::default();
        let session = imagined.session_id.clone();
        let entry = Compiler::entry(&attrs, &session, web).map_err(|outcome| {
            let (file, text) = (dockerfile.name.clone(), text.clone());
            Failed::Dockerfile(Box::new(CompiledHere { outcome, file, text }))
        })?;
        let ignore_file = ignore_file(&sources, &dockerfile.name, entry.local_context);
        let caps = unsupported_caps.iter().fold(Caps::all(), |caps, id| caps.without(id));
        let compiler = Compiler::new(Request {
            dockerfile: text.clone(),
            attrs,
            ignore_file,
            web_context: web,
            builder: compile::Builder { caps, platform: own },
            session,
        });
        Ok(Self { compiler, sources, file: dockerfile.name, text })
    }

    fn answer(&mut self, questions: Vec<Question>, imagined: &Imagined) {
        for question in questions {
            let answer = match &question {
                Question::Image(image) => imagined.images.find(
                    &image.reference,
                    image.platform.as_ref(),
                    &imagined.assumptions.worker_platforms,
                ),
                Question::IgnoreFile(file) => {
                    Ok(Answer::File(self.read(&file.local, ".dockerignore")))
                }
                Question::Input(input) => {
                    Err(format!("no builder is asked for what `{}` makes", input.name))
                }
                Question::SourceTime(source) => {
                    let known = imagined.assumptions.source_metadata.get(&source.identifier);
                    let time = known.and_then(|known| known.last_modified);
                    Ok(Answer::Time(time.map(jiff::Timestamp::as_second)))
                }
            };
            self.compiler.answer(question, answer);
        }
    }

    fn read(&self, local: &str, name: &str) -> Option<Vec<u8>> {
        read(&self.sources, local, name)
    }

    fn done<T>(self, outcome: T) -> CompiledHere<T> {
        CompiledHere { outcome, file: self.file, text: self.text }
    }
}

impl Images {
    /// The answer to a question about an image, in the builder's words where there is none.
    fn find(
        &self,
        reference: &str,
        platform: Option<&Platform>,
        worker_platforms: &[String],
    ) -> Result<Answer, String> {
        let prefix = format!("failed to resolve source metadata for {reference}");
        let Some(entry) = self.0.get(reference) else {
            return Err(format!("{prefix}: {reference}: not found"));
        };
        if let Some(error) = &entry.error {
            return Err(format!("{prefix}: {error}"));
        }
        let platform = match platform {
            Some(platform) => platform.normalized().format(),
            None => worker_platforms
                .first()
                .and_then(|text| Platform::parse(text).ok())
                .map_or_else(|| "linux/amd64".to_owned(), |own| own.normalized().format()),
        };
        match entry.platforms.get(&platform) {
            Some(config) => Ok(Answer::Image(ImageAnswer {
                reference: None,
                digest: entry.digest.clone(),
                config: config.to_string().into_bytes(),
            })),
            None => Err(format!("{prefix}: no match for platform in manifest: not found")),
        }
    }
}

/// The ignore file that counts: the Dockerfile's own, else that of the context.
fn ignore_file(sources: &Sources, dockerfile: &str, local_context: bool) -> Option<IgnoreFileText> {
    let own = format!("{dockerfile}.dockerignore");
    if let Some(data) = read(sources, "dockerfile", &own) {
        return Some(IgnoreFileText { name: own, data });
    }
    let name = ".dockerignore".to_owned();
    let data = read(sources, "context", &name).filter(|_| local_context)?;
    Some(IgnoreFileText { name, data })
}

/// A file of a directory that the session would serve.
fn read(sources: &Sources, directory: &str, name: &str) -> Option<Vec<u8>> {
    match sources.directories.get(directory)? {
        Source::Directory(path) => fs::read(path.join(name)).ok(),
        Source::Memory(files) => files.get(name).map(|text| text.to_vec()),
    }
}
