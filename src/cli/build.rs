//! `build`.

mod compression;
mod images;
mod lent;
mod reproducible;
mod signing;
mod variables;

pub(super) use reproducible::{path as lock_path, read as read_lock};
pub(super) use signing::SigningArguments;
pub(super) use variables::{cache_defaults, tell_checkout};

use self::{compression::CompressionArguments, lent::LentArguments};
use super::{arguments::GlobalArguments, environment::Environment, failure::usage, push};
use crate::{
    config::{
        BuildOverrides, BuildSettings, Config, Origin, Setting,
        values::{self, ValueError},
    },
    diagnostic::{Diagnostic, Exit},
    plan::{
        BuildPlan, Context, FrontendChoice, NamedContext, Network, Output, OutputKind,
        OutputTarget, Pinning, PushVia,
    },
};
use clap::{Args, ValueEnum, builder::BoolishValueParser};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) const EXAMPLES: &str = "Examples:
  bk-sync build .                                     build ./Dockerfile for the builder's platform
  bk-sync build -t ghcr.io/me/app:1 --push .          push it; stdout is ghcr.io/me/app:1@sha256:…
  bk-sync build --platform linux/amd64,linux/arm64 -t ghcr.io/me/app:1 --push .
  bk-sync build --secret id=npm,src=.npmrc --ssh default .
  bk-sync build -o type=oci,dest=app.tar .            write an OCI archive
  bk-sync build -o out .                              write the root file system to ./out
  bk-sync build https://github.com/me/app.git#main    let the builder fetch the context
  tar -c . | bk-sync build -                          send a context on stdin";

/// Build an image from a Dockerfile
///
/// The context is a directory, `-` (a tar archive or a bare Dockerfile on stdin), a git URL, or the
/// http(s) URL of an archive. Without one it is the context of bk-sync.toml, else `.`.
#[derive(Args, Clone, Debug)]
pub(super) struct BuildArguments {
    /// Where the files of the build come from
    #[arg(value_name = "CONTEXT")]
    context: Option<String>,
    /// The Dockerfile: a path, `-` for stdin, or an http(s) URL [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Of several images in bk-sync.toml the one with this id [default: all that have a name]
    #[arg(hide_short_help = true, long = "image", id = "image_id", value_name = "ID")]
    images: Vec<String>,
    /// A reference for the image: `[REGISTRY/]REPOSITORY[:TAG]`
    #[arg(short, long = "tag", value_name = "REF")]
    tags: Vec<String>,
    /// The stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Platforms to build for, comma-separated [default: the builder's]
    #[arg(long = "platform", value_name = "OS/ARCH")]
    platforms: Vec<String>,
    /// Set a build argument; without a value, from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Another context: a directory, a URL, `docker-image://…`, `oci-layout://…`
    #[arg(hide_short_help = true, long = "build-context", value_name = "NAME=VALUE")]
    build_contexts: Vec<String>,
    /// Set a label of the image
    #[arg(hide_short_help = true, long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Add an annotation to the image
    #[arg(hide_short_help = true, long = "annotation", value_name = "[LEVEL:]NAME=VALUE")]
    annotations: Vec<String>,
    #[command(flatten)]
    lent: LentArguments,

    /// Push the image to the registries of its tags
    #[arg(long, help_heading = "Output options", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    push: bool,
    /// Load the image into Docker
    #[arg(long, help_heading = "Output options", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    load: bool,
    /// Where the result goes: `type=image|oci|docker|tar|local|registry|cacheonly[,dest=PATH][,…]`;
    /// `DIR` for `type=local`, `-` for a tar archive on stdout
    #[arg(short = 'o', long = "output", value_name = "SPEC", help_heading = "Output options")]
    outputs: Vec<String>,
    /// Who talks to the registry
    #[arg(
        hide_short_help = true,
        long,
        value_name = "WHO",
        default_value = "auto",
        help_heading = "Output options"
    )]
    push_via: PushViaChoice,
    /// Let no image leave that has links to nowhere or an entrypoint that cannot run; these are
    /// warnings else
    #[arg(long, help_heading = "Output options")]
    strict: bool,
    #[command(flatten)]
    compression: CompressionArguments,
    /// How long a blob is tried without getting further, such as `90s` or `10m`
    #[arg(hide_short_help = true, long, value_name = "DURATION", default_value = "5m", help_heading = "Output options",
        value_parser = push::duration)]
    retry_budget: Duration,
    /// Where an image that could not be pushed is held
    #[arg(
        hide_short_help = true,
        long,
        value_name = "WHERE",
        default_value = "builder",
        help_heading = "Output options"
    )]
    hold: push::Hold,
    /// Give the same digest for the same inputs, on any machine at any time; the image is dated EPOCH,
    /// in seconds since 1970 [default: `SOURCE_DATE_EPOCH`, else 0]
    #[arg(hide_short_help = true, long, value_name = "EPOCH", help_heading = "Output options", num_args = 0..=1, require_equals = true, default_missing_value = "", allow_hyphen_values = true)]
    reproducible: Option<String>,
    /// Write the build's metadata to FILE, as JSON
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Output options")]
    metadata_file: Option<PathBuf>,
    /// Write the image's digest to FILE
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Output options")]
    iidfile: Option<PathBuf>,
    /// Attach an attestation: `type=provenance|sbom[,…]`
    #[arg(
        hide_short_help = true,
        long = "attest",
        value_name = "SPEC",
        help_heading = "Output options"
    )]
    attest: Vec<String>,
    /// Short for `--attest type=provenance`
    #[arg(hide_short_help = true, long, value_name = "BOOL|SPEC", help_heading = "Output options", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    /// Short for `--attest type=sbom`
    #[arg(hide_short_help = true, long, value_name = "BOOL|SPEC", help_heading = "Output options", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,

    #[command(flatten)]
    signing: SigningArguments,

    /// Use no cache
    #[arg(long, help_heading = "Cache options", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    no_cache: bool,
    /// Use no cache for this stage
    #[arg(
        hide_short_help = true,
        long,
        value_name = "STAGE",
        value_delimiter = ',',
        help_heading = "Cache options"
    )]
    no_cache_filter: Vec<String>,
    /// Ask the registries for base images even where the builder has them
    #[arg(hide_short_help = true, long, help_heading = "Cache options", num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(), hide_possible_values = true, hide_default_value = true, value_name = "BOOL")]
    pull: bool,
    /// Read a cache: a reference, or `type=registry|local|gha|s3|…[,…]`
    #[arg(hide_short_help = true, long, value_name = "SPEC", help_heading = "Cache options")]
    cache_from: Vec<String>,
    /// Write a cache: a reference, or `type=registry|inline|local|gha|s3|…[,…]`
    #[arg(hide_short_help = true, long, value_name = "SPEC", help_heading = "Cache options")]
    cache_to: Vec<String>,
    /// How long writing caches may take once the image is there, such as `90s` [default: 5m]
    #[arg(hide_short_help = true, long, value_name = "TIME", help_heading = "Cache options", value_parser = crate::config::parse_time)]
    cache_deadline: Option<Duration>,

    /// Say afterwards why steps were not cached, as `bk-sync why` does
    #[arg(long, help_heading = "Cache options")]
    why: bool,

    /// Answer a question about the Dockerfile instead of building it
    #[arg(
        long,
        value_name = "QUESTION",
        default_value = "build",
        hide_default_value = true,
        help_heading = "Question options"
    )]
    call: Call,
    /// Short for `--call check`
    #[arg(long, help_heading = "Question options", conflicts_with = "call")]
    check: bool,

    /// Who compiles the Dockerfile
    #[arg(
        hide_short_help = true,
        long,
        value_name = "WHO",
        default_value = "auto",
        help_heading = "Step options"
    )]
    frontend: FrontendArgument,
    /// What may be read and what is read in its place: a JSON file, as buildctl reads it
    #[arg(hide_short_help = true, long, value_name = "FILE", help_heading = "Step options")]
    source_policy: Option<PathBuf>,
    /// Read only images that are signed with this public key or under this certificate; IMAGES is which,
    /// such as `ghcr.io/me/*` [default: all]
    #[arg(
        hide_short_help = true,
        long = "base-key",
        value_name = "[IMAGES=]FILE",
        help_heading = "Step options"
    )]
    base_keys: Vec<String>,
    /// Grant an entitlement: `network.host`, `security.insecure`, `device[=NAME]`
    #[arg(hide_short_help = true, long, value_name = "NAME", help_heading = "Step options")]
    allow: Vec<String>,
    /// Add a name to the hosts file of `RUN` steps
    #[arg(
        hide_short_help = true,
        long = "add-host",
        value_name = "HOST:IP",
        help_heading = "Step options"
    )]
    add_hosts: Vec<String>,
    /// The network of `RUN` steps: `default`, `host` or `none`
    #[arg(
        hide_short_help = true,
        long,
        value_name = "MODE",
        default_value = "default",
        hide_default_value = true,
        help_heading = "Step options"
    )]
    network: String,
    /// The size of `/dev/shm` in `RUN` steps, such as `64m`
    #[arg(hide_short_help = true, long, value_name = "SIZE", help_heading = "Step options")]
    shm_size: Option<String>,
    /// A limit for `RUN` steps, such as `nofile=1024:4096`
    #[arg(
        hide_short_help = true,
        long = "ulimit",
        value_name = "NAME=SOFT[:HARD]",
        help_heading = "Step options"
    )]
    ulimits: Vec<String>,
    /// The parent cgroup of `RUN` steps
    #[arg(hide_short_help = true, long, value_name = "PATH", help_heading = "Step options")]
    cgroup_parent: Option<String>,
}

/// `--frontend`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FrontendArgument {
    /// As the Dockerfile's `# syntax` line asks
    Auto,
    /// The builder's own frontend
    Daemon,
    /// This process
    Native,
}

/// `--call`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Call {
    /// Build it
    Build,
    /// Look for mistakes; end with 2 where there are some
    Check,
    /// List the arguments, secrets and mounts that the target takes
    Outline,
    /// List the stages that can be built
    Targets,
}

/// `--push-via`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum PushViaChoice {
    /// As suits the builder
    Auto,
    /// The builder, with credentials lent to it
    Builder,
    /// This process
    Client,
}

/// What a `build` is asked to do, and where each setting came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Request {
    /// The build.
    pub(super) plan: BuildPlan,
    /// The builder's address, where one is named.
    pub(super) builder: Setting<Option<String>>,
    /// Whether an output goes to stdout, so that no result line can.
    pub(super) stdout_taken: bool,
    /// What the plan was made from.
    pub(super) settings: BuildSettings,
    /// How long a blob is tried without getting further.
    pub(super) retry_budget: Duration,
    /// Where an image that could not be pushed is held.
    pub(super) hold: push::Hold,
    /// Whether to say why steps were not cached.
    pub(super) why: bool,
}

/// The parts of the process that a plan depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'e> {
    /// The environment.
    pub(super) environment: &'e Environment,
    /// Whether stdout is a terminal, which no archive may go to.
    pub(super) stdout_is_terminal: bool,
    /// Whether stdout carries a JSON envelope, which no archive may go beside.
    pub(super) stdout_is_json: bool,
}

impl BuildArguments {
    /// Whether the builder's own frontend was asked for by name.
    pub(super) fn wants_builder_to_compile(&self) -> bool {
        matches!(self.frontend, FrontendArgument::Daemon)
    }

    /// What is asked in the place of a build.
    pub(super) fn call(&self) -> Call {
        if self.check { Call::Check } else { self.call }
    }

    /// The plan that the arguments, the config file and the environment make together; of one image,
    /// where the file has several.
    pub(super) fn request(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        surroundings: Surroundings<'_>,
    ) -> Result<Request, Box<Diagnostic>> {
        let chosen = images::one(&self.images, config)?;
        let linked = images::Linking { arguments: &self, global, file: config, surroundings };
        let linked = linked.of(chosen.as_ref().or(config))?;
        let mut request = self.of_one(global, chosen.as_ref().or(config), surroundings)?;
        request.plan.linked = linked;
        Ok(request)
    }

    fn of_one(
        self,
        global: &GlobalArguments,
        config: Option<&Config>,
        surroundings: Surroundings<'_>,
    ) -> Result<Request, Box<Diagnostic>> {
        let environment = surroundings.environment;
        let variable = |name: &str| environment.text(name);
        let mut settings = BuildSettings::resolve(
            BuildOverrides {
                context: self.context.clone(),
                file: self.file.clone(),
                platforms: each("--platform", &self.platforms, values::platforms)?.concat(),
                target: self.target.clone().filter(|target| !target.is_empty()),
                args: values::key_values(&self.build_args, variable)
                    .map_err(|error| refused("--build-arg", error))?,
                tags: self.tags.clone(),
                cache_from: each("--cache-from", &self.cache_from, values::cache_entries)?.concat(),
                cache_to: each("--cache-to", &self.cache_to, values::cache_entries)?.concat(),
                cache_deadline: self.cache_deadline,
                base_keys: each("--base-key", &self.base_keys, values::base_key)?,
                signing: self.signing.given()?,
                builder: named_builder(global, environment),
            },
            config,
            variable,
        )?;

        if settings.platforms.value.is_empty()
            && let Some(text) = environment.non_empty("DOCKER_DEFAULT_PLATFORM")
        {
            settings.platforms.origin = Origin::Environment("DOCKER_DEFAULT_PLATFORM");
            settings.platforms.value = values::platforms(&text)
                .map_err(|error| refused("DOCKER_DEFAULT_PLATFORM", error))?;
        }
        variables::epoch(&mut settings.args, environment);
        let reproducible = reproducible::epoch(self.reproducible.as_deref(), &mut settings.args)?;
        let pinning = match reproducible {
            Some(_) => Pinning::Locked(reproducible::read(&reproducible::path(config))?),
            None => Pinning::Off,
        };
        let chosen = settings.clone();
        let context = Self::context(&settings.context)?;
        let outputs = self.outputs(surroundings)?;
        let network =
            values::network(&self.network).map_err(|error| refused("--network", error))?;
        let mut allow = each("--allow", &self.allow, values::entitlement)?;
        let needs_host =
            network == Network::Host && !allow.iter().any(|name| name == "network.host");
        if needs_host {
            allow.push("network.host".to_owned());
        }
        let (retry_budget, hold) = (self.retry_budget, self.hold);
        let stdout_taken = outputs.iter().any(|output| output.target == Some(OutputTarget::Stdout));
        let plan = BuildPlan {
            file: Self::dockerfile(&context, settings.file.value)?,
            target: settings.target.value,
            platforms: deduplicated(settings.platforms.value),
            args: settings.args.into_iter().map(|(name, setting)| (name, setting.value)).collect(),
            named_contexts: self.named_contexts(&settings.contexts)?,
            linked: BTreeMap::new(),
            labels: values::key_values(&self.labels, |_| Some(String::new()))
                .map_err(|error| refused("--label", error))?,
            annotations: each("--annotation", &self.annotations, values::annotation)?,
            tags: deduplicated(settings.tags.value),
            secrets: self.lent.secrets(environment)?,
            ssh: self.lent.agents(&context, environment)?,
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter,
            pull: self.pull,
            push: self.push,
            load: self.load,
            outputs,
            cache_from: settings.cache_from.value,
            cache_to: settings.cache_to.value,
            cache_deadline: settings.cache_deadline.value.as_secs(),
            attestations: values::attestations(
                &self.attest,
                self.provenance.as_deref(),
                self.sbom.as_deref(),
            )
            .map_err(|(flag, error)| refused(flag, error))?,
            allow,
            extra_hosts: each("--add-host", &self.add_hosts, values::extra_hosts)?.concat(),
            network,
            shm_size: self
                .shm_size
                .as_deref()
                .map(values::byte_size)
                .transpose()
                .map_err(|error| refused("--shm-size", error))?,
            ulimits: each("--ulimit", &self.ulimits, values::ulimit)?,
            cgroup_parent: self.cgroup_parent,
            frontend: match self.frontend {
                FrontendArgument::Auto => FrontendChoice::Auto,
                FrontendArgument::Daemon => FrontendChoice::Daemon,
                FrontendArgument::Native => FrontendChoice::Native,
            },
            strict: self.strict,
            push_via: match self.push_via {
                PushViaChoice::Auto => PushVia::Auto,
                PushViaChoice::Builder => PushVia::Builder,
                PushViaChoice::Client => PushVia::Client,
            },
            compression: self.compression.attributes()?,
            iid_file: self.iidfile,
            metadata_file: self.metadata_file,
            metadata: variables::metadata(environment)?,
            no_default_attestations: variables::switch(
                environment,
                "BUILDX_NO_DEFAULT_ATTESTATIONS",
                false,
            )?,
            source_policy: variables::source_policy(self.source_policy.as_deref(), environment)?,
            checkout: None,
            reproducible,
            pinning,
            signing: settings.signing.value,
            base_keys: settings.base_keys.value,
            context,
        };
        contradictions(&plan)?;
        let why = self.why;
        Ok(Request {
            plan,
            builder: settings.builder,
            stdout_taken,
            settings: chosen,
            retry_budget,
            hold,
            why,
        })
    }

    fn context(setting: &Setting<String>) -> Result<Context, Box<Diagnostic>> {
        let text = &setting.value;
        Context::classify(text, |path| Path::new(path).is_dir()).ok_or_else(|| {
            let message = match Path::new(text).symlink_metadata() {
                Ok(_) => format!("the context `{text}` is not a directory"),
                Err(_) => format!("the context `{text}` does not exist"),
            };
            let mut diagnostic = Diagnostic::new("CONTEXT_NOT_FOUND", Exit::Usage, message)
                .with_detail("context", text.as_str())
                .with_fix(
                    "name a directory, `-` for stdin, a git URL or the http(s) URL of an archive",
                );
            if setting.origin != Origin::Flag("CONTEXT") {
                diagnostic = diagnostic.with_note(format!("it comes from {}", setting.origin));
            }
            diagnostic.into()
        })
    }

    /// The Dockerfile, where one is named and can be what it is.
    fn dockerfile(
        context: &Context,
        file: Option<String>,
    ) -> Result<Option<String>, Box<Diagnostic>> {
        match (context, file.as_deref()) {
            (Context::Stdin, Some("-")) => Err(usage(
                "the context and the Dockerfile cannot both come from stdin",
                "give one of them as a path",
            )),
            (Context::Directory(_), Some(path))
                if path != "-" && !path.contains("://") && !Path::new(path).exists() =>
            {
                Err(Diagnostic::new(
                    "DOCKERFILE_NOT_FOUND",
                    Exit::Usage,
                    format!("the Dockerfile `{path}` does not exist"),
                )
                .with_detail("file", path)
                .with_fix("`--file` is a path from the working directory, not from the context")
                .into())
            }
            _ => Ok(file),
        }
    }

    fn named_contexts(
        &self,
        configured: &BTreeMap<String, Setting<String>>,
    ) -> Result<Vec<NamedContext>, Box<Diagnostic>> {
        let mut contexts: Vec<NamedContext> = Vec::new();
        let configured = configured.iter().map(|(name, setting)| NamedContext {
            name: name.clone(),
            value: setting.value.clone(),
        });
        let given = each("--build-context", &self.build_contexts, values::build_context)?;
        for context in configured.chain(given) {
            let is_url = context.value.contains("://") || context.value.starts_with("target:");
            let known = is_url
                || Context::classify(&context.value, |path| Path::new(path).is_dir())
                    .is_some_and(|context| context != Context::Stdin);
            if !known {
                return Err(usage(
                    format!(
                        "the directory `{}` of the context `{}` does not exist",
                        context.value, context.name
                    ),
                    "name a directory, a URL, `docker-image://…` or `oci-layout://…`",
                ));
            }
            contexts.retain(|other| other.name != context.name);
            contexts.push(context);
        }
        Ok(contexts)
    }

    fn outputs(&self, surroundings: Surroundings<'_>) -> Result<Vec<Output>, Box<Diagnostic>> {
        let outputs = each("--output", &self.outputs, values::output)?;
        let to_stdout =
            outputs.iter().filter(|output| output.target == Some(OutputTarget::Stdout)).count();
        if to_stdout > 1 {
            return Err(usage("only one output can go to stdout", "give the others `dest=PATH`"));
        }
        if to_stdout == 1 && surroundings.stdout_is_json {
            return Err(usage(
                "an archive and JSON cannot both go to stdout",
                "give the output `dest=PATH`, or leave `--format json` out",
            ));
        }
        if to_stdout == 1 && surroundings.stdout_is_terminal {
            return Err(usage(
                "an archive would go to the terminal",
                "redirect stdout, or give the output `dest=PATH`",
            ));
        }
        Ok(outputs)
    }
}

/// The builder that a flag or a variable names.
pub(super) fn named_builder(
    global: &GlobalArguments,
    environment: &Environment,
) -> Option<Setting<String>> {
    if let Some(builder) = &global.builder {
        return Some(Setting { value: builder.clone(), origin: Origin::Flag("--builder") });
    }
    ["BK_SYNC_BUILDER", "BUILDKIT_HOST"].into_iter().find_map(|name| {
        let value = environment.non_empty(name)?;
        Some(Setting { value, origin: Origin::Environment(name) })
    })
}

/// Refuses what cannot be done together.
fn contradictions(plan: &BuildPlan) -> Result<(), Box<Diagnostic>> {
    let pushes = plan.push
        || plan.outputs.iter().any(|output| {
            output.attributes.get("push").is_some_and(|push| push == "true" || push == "1")
        });
    let named = !plan.tags.is_empty()
        || plan.outputs.iter().any(|output| output.attributes.contains_key("name"));
    if pushes && !named {
        return Err(usage(
            "there is nothing to push to: the image has no tag",
            "add `--tag REGISTRY/REPOSITORY[:TAG]`, or `[image]` in bk-sync.toml",
        ));
    }
    let image_only = |output: &Output| {
        matches!(output.kind, OutputKind::Local | OutputKind::Tar | OutputKind::CacheOnly)
    };
    if plan.push && !plan.outputs.is_empty() && plan.outputs.iter().all(image_only) {
        return Err(usage(
            "`--push` needs an image, and no output is one",
            "leave `--push` out, or add `--output type=image`",
        ));
    }
    let wants_bill = plan.attestations.get("sbom").is_some_and(Option::is_some);
    if wants_bill && plan.frontend == FrontendChoice::Native {
        return Err(usage(
            "only a frontend on the builder can scan the stages for `--sbom`",
            "leave `--frontend native` out",
        ));
    }
    if plan.push && plan.load && plan.outputs.is_empty() {
        return Err(usage(
            "`--push` and `--load` are two outputs",
            "name both: `--output type=registry --output type=docker`",
        ));
    }
    Ok(())
}

/// Every value of a flag, read by `read`.
fn each<T>(
    flag: &'static str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Vec<T>, Box<Diagnostic>> {
    texts.iter().map(|text| read(text).map_err(|error| refused(flag, error))).collect()
}

fn refused(flag: &'static str, error: ValueError) -> Box<Diagnostic> {
    usage(format!("`{flag}`: {}", error.problem), error.hint).with_detail("flag", flag).into()
}

/// A file that a flag or a variable names and that cannot be read.
fn refused_file(name: &str, path: &Path, error: &dyn std::error::Error) -> Box<Diagnostic> {
    let message = format!("`{name}`: cannot read `{}`: {error}", path.display());
    usage(message, "name a file of the right form").with_detail("flag", name).into()
}

/// The values in their order, each once.
fn deduplicated(values: Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values.into_iter().filter(|value| seen.insert(value.clone())).collect()
}

#[cfg(test)]
mod tests;
