//! What holds for one build: each value from the strongest source that names it, and which that is.

use super::{
    Config, Dirty, Fact, Git, GitError, SignOverride, Template, signing,
    values::{self, ValueError},
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    plan::{BaseKey, CacheEntry, Context, SigningPlan},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long writing caches may take where nobody says.
const CACHE_DEADLINE: Duration = Duration::from_mins(5);

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment(&'static str),
    /// A flag or an argument.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Environment(name) => write!(formatter, "${name}"),
            Self::Flag(name) => formatter.write_str(name),
        }
    }
}

/// A value and where it came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// What flags and environment say of a build, before the file is asked. Empty is: nothing said.
#[derive(Clone, Debug, Default)]
pub struct BuildOverrides {
    /// The context argument.
    pub context: Option<String>,
    /// `--file`.
    pub file: Option<String>,
    /// `--platform`.
    pub platforms: Vec<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--tag`.
    pub tags: Vec<String>,
    /// `--cache-from`.
    pub cache_from: Vec<CacheEntry>,
    /// `--cache-to`.
    pub cache_to: Vec<CacheEntry>,
    /// `--cache-deadline`.
    pub cache_deadline: Option<Duration>,
    /// `--base-key`.
    pub base_keys: Vec<BaseKey>,
    /// `--sign-key` or `--no-sign`.
    pub signing: SignOverride,
    /// `--builder`, or the variable that stands in for it.
    pub builder: Option<Setting<String>>,
}

/// What holds for one build.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildSettings {
    /// The context, as a path that holds from the working directory, or as given.
    pub context: Setting<String>,
    /// The Dockerfile.
    pub file: Setting<Option<String>>,
    /// Platforms in their normal form.
    pub platforms: Setting<Vec<String>>,
    /// The stage.
    pub target: Setting<Option<String>>,
    /// Build arguments, each with its own origin.
    pub args: BTreeMap<String, Setting<String>>,
    /// Contexts beside the main one that the file names.
    pub contexts: BTreeMap<String, Setting<String>>,
    /// References for the image.
    pub tags: Setting<Vec<String>>,
    /// Caches to read.
    pub cache_from: Setting<Vec<CacheEntry>>,
    /// Caches to write.
    pub cache_to: Setting<Vec<CacheEntry>>,
    /// How long writing them may take once the image is there.
    pub cache_deadline: Setting<Duration>,
    /// By whom images have to be signed that the build starts from.
    pub base_keys: Setting<Vec<BaseKey>>,
    /// How what is pushed is signed.
    pub signing: Setting<Option<SigningPlan>>,
    /// The builder's address.
    pub builder: Setting<Option<String>>,
}

/// Why no settings came about. The place in the file is kept where the file is at fault.
#[derive(Debug)]
pub struct SettingsError(Box<Diagnostic>);

impl SettingsError {
    pub(super) fn new(diagnostic: Diagnostic) -> Self {
        Self(diagnostic.into())
    }
}

impl From<SettingsError> for Box<Diagnostic> {
    fn from(error: SettingsError) -> Self {
        error.0
    }
}

impl BuildSettings {
    /// Resolves flags over environment over file over defaults. `variable` looks up `{env.NAME}`.
    ///
    /// # Errors
    /// Where a value of the file that is needed cannot be had: an unknown variable, no git, a
    /// checkout with changes where the tag would claim a commit.
    pub fn resolve(
        overrides: BuildOverrides,
        config: Option<&Config>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let signing = signing(overrides.signing.clone(), config, &variable)?;
        let Some(config) = config else { return Ok(Self::from_flags(overrides, signing)) };
        let filler = Filler { config, variable };
        let section = &config.sections.build;

        // A context on the command line that is not the configured one is another project: the
        // configured Dockerfile is none of its.
        let configured_context = match &section.context {
            Some(context) => Setting {
                value: rooted(config.directory(), &filler.fill(context)?),
                origin: filler.origin(context),
            },
            None => Setting { value: ".".to_owned(), origin: Origin::Default },
        };
        let same_context = overrides.context.as_deref().is_none_or(|given| {
            Path::new(given).canonicalize().ok().is_some_and(|given| {
                Path::new(&configured_context.value).canonicalize().is_ok_and(|one| one == given)
            })
        });
        let context = flag(overrides.context, "CONTEXT").unwrap_or(configured_context);
        let file = match (flag(overrides.file.map(Some), "--file"), &section.file) {
            (Some(flag), _) => flag,
            (None, Some(file)) if same_context => {
                let text = filler.fill(file)?;
                // In a remote context it is a path of that context.
                let value =
                    if is_url(&context.value) { text } else { rooted(config.directory(), &text) };
                Setting { value: Some(value), origin: filler.origin(file) }
            }
            (None, _) => Setting { value: None, origin: Origin::Default },
        };
        let target = match (flag(overrides.target.map(Some), "--target"), &section.target) {
            (Some(flag), _) => flag,
            (None, Some(target)) => Setting {
                value: Some(filler.fill(target)?).filter(|target| !target.is_empty()),
                origin: filler.origin(target),
            },
            (None, None) => Setting { value: None, origin: Origin::Default },
        };
        let platforms = filler.list(
            overrides.platforms,
            "--platform",
            section.platforms.as_deref(),
            values::platforms,
        )?;
        let cache_from = filler.list(
            overrides.cache_from,
            "--cache-from",
            section.cache_from.as_deref(),
            values::cache_entries,
        )?;
        let cache_to = filler.list(
            overrides.cache_to,
            "--cache-to",
            section.cache_to.as_deref(),
            values::cache_entries,
        )?;
        let cache_deadline = match (overrides.cache_deadline, &section.cache_deadline) {
            (None, Some(deadline)) => {
                Setting { value: deadline.value, origin: filler.place(&deadline.span) }
            }
            (given, _) => deadline(given),
        };
        let base_keys = filler.base_keys(overrides.base_keys)?;
        let mut args = BTreeMap::new();
        for (name, template) in &section.args {
            if !overrides.args.contains_key(name) {
                let value = filler.fill(template)?;
                args.insert(name.clone(), Setting { value, origin: filler.origin(template) });
            }
        }
        args.extend(flag_args(overrides.args));
        let mut contexts = BTreeMap::new();
        for (name, template) in &section.contexts {
            let text = filler.fill(template)?;
            let is_here = !text.contains("://") && !text.starts_with("target:");
            let value = if is_here { rooted(config.directory(), &text) } else { text };
            contexts.insert(name.clone(), Setting { value, origin: filler.origin(template) });
        }
        let tags = match flag(Some(overrides.tags).filter(|tags| !tags.is_empty()), "--tag") {
            Some(flag) => flag,
            None => filler.tags()?,
        };
        let builder = match (overrides.builder, &section.builder) {
            (Some(given), _) => Setting { value: Some(given.value), origin: given.origin },
            (None, Some(builder)) => {
                Setting { value: Some(filler.fill(builder)?), origin: filler.origin(builder) }
            }
            (None, None) => Setting { value: None, origin: Origin::Default },
        };
        Ok(Self {
            context,
            file,
            platforms,
            target,
            args,
            contexts,
            tags,
            cache_from,
            cache_to,
            cache_deadline,
            base_keys,
            signing,
            builder,
        })
    }

    fn from_flags(overrides: BuildOverrides, signing: Setting<Option<SigningPlan>>) -> Self {
        fn list<T>(values: Vec<T>, name: &'static str) -> Setting<Vec<T>> {
            let origin = if values.is_empty() { Origin::Default } else { Origin::Flag(name) };
            Setting { value: values, origin }
        }
        fn one(value: Option<String>, name: &'static str) -> Setting<Option<String>> {
            flag(value.map(Some), name).unwrap_or(Setting { value: None, origin: Origin::Default })
        }
        Self {
            context: flag(overrides.context, "CONTEXT")
                .unwrap_or(Setting { value: ".".to_owned(), origin: Origin::Default }),
            file: one(overrides.file, "--file"),
            platforms: list(overrides.platforms, "--platform"),
            target: one(overrides.target, "--target"),
            args: flag_args(overrides.args).collect(),
            contexts: BTreeMap::new(),
            tags: list(overrides.tags, "--tag"),
            cache_from: list(overrides.cache_from, "--cache-from"),
            cache_to: list(overrides.cache_to, "--cache-to"),
            cache_deadline: deadline(overrides.cache_deadline),
            base_keys: list(overrides.base_keys, "--base-key"),
            signing,
            builder: overrides.builder.map_or(
                Setting { value: None, origin: Origin::Default },
                |given| Setting { value: Some(given.value), origin: given.origin },
            ),
        }
    }
}

/// The flag's deadline of caches, else the usual one.
fn deadline(given: Option<Duration>) -> Setting<Duration> {
    flag(given, "--cache-deadline")
        .unwrap_or(Setting { value: CACHE_DEADLINE, origin: Origin::Default })
}

fn flag<T>(value: Option<T>, name: &'static str) -> Option<Setting<T>> {
    value.map(|value| Setting { value, origin: Origin::Flag(name) })
}

fn flag_args(args: BTreeMap<String, String>) -> impl Iterator<Item = (String, Setting<String>)> {
    args.into_iter()
        .map(|(name, value)| (name, Setting { value, origin: Origin::Flag("--build-arg") }))
}

/// A path of the file as it holds from the working directory; a URL stays as it is.
pub(super) fn rooted(directory: &Path, text: &str) -> String {
    if text == "-" || is_url(text) || directory == Path::new(".") {
        return text.to_owned();
    }
    directory.join(text).to_string_lossy().into_owned()
}

fn is_url(text: &str) -> bool {
    Context::classify(text, |_| false).is_some_and(|context| context.is_remote())
}

/// A template of the file, filled in. `variable` looks up `{env.NAME}`.
///
/// # Errors
/// Where a value that it needs cannot be had: an unknown variable, no git.
pub fn fill(
    template: &Template,
    config: &Config,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, SettingsError> {
    Filler { config, variable }.fill(template)
}

/// Fills the file's templates with facts, asked for only where they are used.
pub(super) struct Filler<'c, V> {
    pub(super) config: &'c Config,
    pub(super) variable: V,
}

impl<V: Fn(&str) -> Option<String>> Filler<'_, V> {
    pub(super) fn origin(&self, template: &Template) -> Origin {
        self.place(&template.span())
    }

    /// A place in the file as an origin.
    pub(super) fn place(&self, span: &std::ops::Range<usize>) -> Origin {
        Origin::File { path: self.config.path.clone(), line: self.config.line(span) }
    }

    fn checkout(&self) -> &Git {
        self.config.checkout()
    }

    pub(super) fn fill(&self, template: &Template) -> Result<String, SettingsError> {
        template.fill(|fact| match fact {
            Fact::Env(name) => (self.variable)(name).ok_or_else(|| {
                self.wrong(
                    template,
                    Diagnostic::new(
                        "CONFIG_INVALID",
                        Exit::Usage,
                        format!("the variable `{name}` is not set"),
                    )
                    .with_fix(format!("set `{name}`, or give the value with a flag")),
                )
            }),
            Fact::GitBranch => self.checkout().branch().map_err(|error| self.git(template, &error)),
            Fact::GitSha => self.checkout().sha().map_err(|error| self.git(template, &error)),
            Fact::GitShort => self.checkout().short().map_err(|error| self.git(template, &error)),
        })
    }

    /// A list: the flag's, or else the file's, each entry read by `read`.
    fn list<T>(
        &self,
        given: Vec<T>,
        name: &'static str,
        templates: Option<&[Template]>,
        read: impl Fn(&str) -> Result<Vec<T>, ValueError>,
    ) -> Result<Setting<Vec<T>>, SettingsError> {
        if !given.is_empty() {
            return Ok(Setting { value: given, origin: Origin::Flag(name) });
        }
        let mut values = Vec::new();
        let templates = templates.unwrap_or_default();
        for template in templates {
            let text = self.fill(template)?;
            values.extend(read(&text).map_err(|error| {
                let diagnostic = Diagnostic::new("CONFIG_INVALID", Exit::Usage, error.problem)
                    .with_fix(error.hint);
                self.wrong(template, diagnostic)
            })?);
        }
        let origin = templates.first().map_or(Origin::Default, |first| self.origin(first));
        Ok(Setting { value: values, origin })
    }

    /// The flag's keys of base images, or else the file's.
    fn base_keys(&self, given: Vec<BaseKey>) -> Result<Setting<Vec<BaseKey>>, SettingsError> {
        if !given.is_empty() {
            return Ok(Setting { value: given, origin: Origin::Flag("--base-key") });
        }
        let keys = &self.config.sections.build.base_keys;
        let mut read = Vec::new();
        for (images, template) in keys {
            let images = values::images(images).map_err(|error| {
                let diagnostic = Diagnostic::new("CONFIG_INVALID", Exit::Usage, error.problem)
                    .with_fix(error.hint);
                self.wrong(template, diagnostic)
            })?;
            let key = rooted(self.config.directory(), &self.fill(template)?).into();
            read.push(BaseKey { images, key });
        }
        let origin = keys.values().next().map_or(Origin::Default, |first| self.origin(first));
        Ok(Setting { value: read, origin })
    }

    /// The references that `[image]` makes.
    fn tags(&self) -> Result<Setting<Vec<String>>, SettingsError> {
        let section = &self.config.sections.image;
        let Some(name) = &section.name else {
            return Ok(Setting { value: Vec::new(), origin: Origin::Default });
        };
        let repository = self.fill(name)?;
        let mut references = Vec::new();
        let templates = section.tags.as_deref().unwrap_or_default();
        for template in templates {
            let mut tag = self.fill(template)?;
            if template.uses_git() {
                // A branch may hold what a tag may not, a slash most of all.
                tag = tag
                    .chars()
                    .map(|c| {
                        let allowed = c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
                        if allowed { c } else { '-' }
                    })
                    .collect();
                tag.push_str(self.dirty_suffix(template)?);
            }
            references.push(format!("{repository}:{tag}"));
        }
        if references.is_empty() {
            references.push(repository);
        }
        let origin = self.origin(templates.first().unwrap_or(name));
        Ok(Setting { value: references, origin })
    }

    /// What a git tag ends in.
    fn dirty_suffix(&self, template: &Template) -> Result<&'static str, SettingsError> {
        let policy = self.config.sections.image.dirty.as_ref().map(|dirty| dirty.value);
        let policy = policy.unwrap_or_default();
        if policy == Dirty::Allow {
            return Ok("");
        }
        let dirty = self.checkout().is_dirty().map_err(|error| self.git(template, &error))?;
        match (dirty, policy) {
            (true, Dirty::Suffix) => Ok("-dirty"),
            (true, _) => Err(self.wrong(
                template,
                Diagnostic::new(
                    "CHECKOUT_DIRTY",
                    Exit::Preflight,
                    "the checkout has changes that are not committed, and this tag names a commit",
                )
                .with_fix(
                    "commit or stash them, give a tag with `--tag`, or set `dirty = \"suffix\"` in \
                     `[image]`",
                ),
            )),
            (false, _) => Ok(""),
        }
    }

    fn git(&self, template: &Template, error: &GitError) -> SettingsError {
        let diagnostic = Diagnostic::new("GIT_FAILED", Exit::Usage, error.to_string())
            .with_sources(error)
            .with_fix(error.hint());
        self.wrong(template, diagnostic)
    }

    fn wrong(&self, template: &Template, diagnostic: Diagnostic) -> SettingsError {
        SettingsError(diagnostic.with_excerpt(self.config.excerpt(template.span())).into())
    }
}
