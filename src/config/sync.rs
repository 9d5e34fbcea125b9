//! What holds for one deploy: flags over the file over defaults, each value with who chose it.

use super::{
    BuildSettings, Config, CredentialSource, Dirty, Functions, HttpCheck, Located, OnFailure,
    Origin, SettingsError, StaleApps, Template, settings::Filler,
};
use crate::{
    diagnostic::{Diagnostic, Exit},
    image::reference::Reference,
    plan::{
        BuildPlan, CheckPlan, Choice, GitFacts, HookPlan, HttpSinkPlan, RecordPlan, RolloutPlan,
        SigningPlan, SyncPlan, SyncStage,
    },
};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// How long a rollout may take where nobody says.
const ROLLOUT_TIMEOUT: Duration = Duration::from_mins(4);
/// How long a hook may take where nobody says.
const HOOK_TIMEOUT: Duration = Duration::from_mins(1);
/// Less free disk than this makes builds fail, where nobody says. In bytes.
const FREE_DISK: u64 = 2 << 30;
/// How long one who is told of a deploy may take where nobody says.
const RECORD_TIMEOUT: Duration = Duration::from_secs(20);

/// What flags say of a deploy, before the file is asked.
#[derive(Clone, Debug, Default)]
pub struct SyncOverrides {
    /// `--context`.
    pub context: Option<String>,
    /// `--namespace`.
    pub namespace: Option<String>,
    /// `--workload`.
    pub workload: Option<String>,
    /// `--container`.
    pub container: Option<String>,
    /// `--timeout`.
    pub timeout: Option<Duration>,
    /// `--on-failure`.
    pub on_failure: Option<OnFailure>,
    /// `--on-verify-failure`.
    pub on_verify_failure: Option<OnFailure>,
    /// `--dirty`.
    pub dirty: Option<Dirty>,
    /// `--reason`.
    pub reason: Option<String>,
}

/// The deploy that `config` and `overrides` make together. `build` is its build, and `settings` say
/// where that came from.
///
/// # Errors
/// A value cannot be filled in, or the checkout may not be deployed as it is.
pub fn sync_plan(
    config: &Config,
    settings: &BuildSettings,
    build: BuildPlan,
    overrides: SyncOverrides,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<SyncPlan, SettingsError> {
    let filler = Filler { config, variable };
    let mut resolving = Resolving { filler: &filler, choices: Vec::new() };
    resolving.build(settings);
    let dirty = resolving.dirty(overrides.dirty);
    let git = resolving.git(dirty)?;
    resolving.registries();
    let rollout = resolving.rollout(&overrides)?;
    let checks = resolving.checks()?;
    let record = resolving.record()?;
    let hooks = resolving.hooks();
    let deadlines = resolving.deadlines();
    let free_disk = resolving.free_disk();
    let masked_args = config
        .sections
        .build
        .args
        .iter()
        .filter(|(name, template)| {
            let is_files =
                |setting: &super::Setting<String>| matches!(setting.origin, Origin::File { .. });
            template.uses_environment() && settings.args.get(*name).is_some_and(is_files)
        })
        .map(|(name, template)| (name.clone(), template.source()))
        .collect();
    let repository = build.tags.first().and_then(|tag| Reference::parse(tag).ok());
    let project = match (&rollout, repository) {
        (Some(rollout), _) => rollout.place(),
        (None, Some(reference)) => reference.name(),
        (None, None) => "build".to_owned(),
    };
    let reason = overrides.reason.unwrap_or_else(|| match &git {
        Some(git) if !git.subject.is_empty() => git.subject.clone(),
        _ => "bk-sync sync".to_owned(),
    });
    Ok(SyncPlan {
        project,
        git,
        reason,
        builder: settings.builder.value.clone(),
        build,
        rollout,
        checks,
        record,
        hooks,
        deadlines,
        free_disk,
        settings: resolving.choices,
        masked_args,
    })
}

struct Resolving<'f, 'c, V> {
    filler: &'f Filler<'c, V>,
    choices: Vec<Choice>,
}

impl<V: Fn(&str) -> Option<String>> Resolving<'_, '_, V> {
    fn choose(&mut self, key: impl Into<String>, value: impl Into<Value>, origin: &Origin) {
        let (key, value, origin) = (key.into(), value.into(), origin.to_string());
        self.choices.push(Choice { key, value, origin });
    }

    fn at<T>(&self, located: &Located<T>) -> Origin {
        self.filler.place(&located.span)
    }

    /// A value of flag or file, filled in; none where neither says anything.
    fn text(
        &mut self,
        key: &str,
        flag: Option<(&str, &'static str)>,
        template: Option<&Template>,
    ) -> Result<Option<String>, SettingsError> {
        let (value, origin) = match (flag, template) {
            (Some((value, flag)), _) => (value.to_owned(), Origin::Flag(flag)),
            (None, Some(template)) => (self.filler.fill(template)?, self.filler.origin(template)),
            (None, None) => return Ok(None),
        };
        self.choose(key, value.clone(), &origin);
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    fn build(&mut self, settings: &BuildSettings) {
        let entries = |entries: &[crate::plan::CacheEntry]| -> Value {
            let entry = |entry: &crate::plan::CacheEntry| {
                let attributes =
                    entry.attributes.iter().map(|(key, value)| format!(",{key}={value}"));
                format!("type={}{}", entry.kind, attributes.collect::<String>())
            };
            entries.iter().map(entry).collect()
        };
        let nothing = |value: &Option<String>| value.clone().map_or(Value::Null, Value::from);
        self.choose("build.builder", nothing(&settings.builder.value), &settings.builder.origin);
        self.choose("build.context", settings.context.value.clone(), &settings.context.origin);
        self.choose("build.file", nothing(&settings.file.value), &settings.file.origin);
        let platforms = &settings.platforms;
        self.choose("build.platforms", platforms.value.clone(), &platforms.origin);
        self.choose("build.target", nothing(&settings.target.value), &settings.target.origin);
        for (name, arg) in &settings.args {
            let template = self.filler.config.sections.build.args.get(name);
            let hidden = template.filter(|template| {
                template.uses_environment() && matches!(arg.origin, Origin::File { .. })
            });
            let value = hidden.map_or_else(|| arg.value.clone(), Template::source);
            self.choose(format!("build.args.{name}"), value, &arg.origin);
        }
        for (name, context) in &settings.contexts {
            self.choose(format!("build.contexts.{name}"), context.value.clone(), &context.origin);
        }
        let keys = settings.base_keys.value.iter();
        let keys: Value = keys.map(|key| format!("{}={}", key.images, key.key.display())).collect();
        self.choose("build.base_keys", keys, &settings.base_keys.origin);
        self.choose(
            "build.cache.from",
            entries(&settings.cache_from.value),
            &settings.cache_from.origin,
        );
        self.choose("build.cache.to", entries(&settings.cache_to.value), &settings.cache_to.origin);
        let deadline = &settings.cache_deadline;
        let shown = format!("{}s", deadline.value.as_secs());
        self.choose("build.cache.deadline", shown, &deadline.origin);
        self.choose("image.tags", settings.tags.value.clone(), &settings.tags.origin);
        let signing = settings.signing.value.as_ref().map(SigningPlan::who);
        self.choose("sign", nothing(&signing), &settings.signing.origin);
    }

    fn dirty(&mut self, flag: Option<Dirty>) -> Dirty {
        let file = &self.filler.config.sections.image.dirty;
        let (dirty, origin) = match (flag, file) {
            (Some(dirty), _) => (dirty, Origin::Flag("--dirty")),
            (None, Some(dirty)) => (dirty.value, self.at(dirty)),
            (None, None) => (Dirty::default(), Origin::Default),
        };
        let name = match dirty {
            Dirty::Allow => "allow",
            Dirty::Refuse => "refuse",
            Dirty::Suffix => "suffix",
        };
        self.choose("image.dirty", name, &origin);
        dirty
    }

    /// The commit; none outside a checkout, unless a tag needs one (and then the tags have said so).
    fn git(&self, dirty: Dirty) -> Result<Option<GitFacts>, SettingsError> {
        let Ok(facts) = self.filler.config.checkout().facts() else { return Ok(None) };
        if facts.dirty && dirty == Dirty::Refuse {
            let message = "the checkout has changes that are not committed, and the receipt names \
                           a commit";
            return Err(SettingsError::new(
                Diagnostic::new("CHECKOUT_DIRTY", Exit::Preflight, message).with_fix(
                    "commit or stash them, or deploy them as they are with `--dirty suffix`",
                ),
            ));
        }
        Ok(Some(facts))
    }

    fn registries(&mut self) {
        for (host, section) in &self.filler.config.sections.registries {
            let source = match &section.source {
                CredentialSource::Command(words) => {
                    let program = words.first().map(|word| word.value.as_str());
                    format!("command {}", program.unwrap_or_default())
                }
                CredentialSource::Docker => "the Docker config".to_owned(),
                CredentialSource::Env(name) => format!("${}", name.value),
                CredentialSource::SecretLease(lease) => format!("lease {}", lease.name.value),
            };
            let origin = self.filler.place(&section.span);
            self.choose(format!("registry.{host:?}"), source, &origin);
        }
    }

    fn rollout(&mut self, overrides: &SyncOverrides) -> Result<Option<RolloutPlan>, SettingsError> {
        let section = self.filler.config.sections.rollout.clone();
        let section = section.unwrap_or_default();
        let workload = match (&overrides.workload, &section.workload) {
            (Some(workload), _) => (workload.clone(), Origin::Flag("--workload")),
            (None, Some(workload)) => (workload.value.clone(), self.at(workload)),
            (None, None) if self.filler.config.sections.rollout.is_some() => {
                return Err(SettingsError::new(
                    Diagnostic::new(
                        "CONFIG_INVALID",
                        Exit::Usage,
                        "`[rollout]` names no `workload`",
                    )
                    .with_fix("add `workload = \"deployment/NAME\"`, or give `--workload`"),
                ));
            }
            (None, None) => return Ok(None),
        };
        let parts = workload
            .0
            .split_once('/')
            .filter(|(kind, name)| !kind.is_empty() && !name.is_empty() && !name.contains('/'));
        let Some((kind, name)) = parts else {
            return Err(SettingsError::new(
                Diagnostic::new(
                    "USAGE",
                    Exit::Usage,
                    format!("`--workload` cannot be `{}`", workload.0),
                )
                .with_fix("write `KIND/NAME`, such as `deployment/app`"),
            ));
        };
        self.choose("rollout.workload", workload.0.clone(), &workload.1);
        let flag = |value: &'_ Option<String>, name| value.clone().map(|value| (value, name));
        let context = flag(&overrides.context, "--context");
        let namespace = flag(&overrides.namespace, "--namespace");
        let container = flag(&overrides.container, "--container");
        let timeout = match (overrides.timeout, &section.timeout) {
            (Some(timeout), _) => (timeout, Origin::Flag("--timeout")),
            (None, Some(timeout)) => (timeout.value, self.at(timeout)),
            (None, None) => (ROLLOUT_TIMEOUT, Origin::Default),
        };
        let plan = RolloutPlan {
            context: self.text(
                "rollout.context",
                context.as_ref().map(|(value, name)| (value.as_str(), *name)),
                section.context.as_ref(),
            )?,
            namespace: self.text(
                "rollout.namespace",
                namespace.as_ref().map(|(value, name)| (value.as_str(), *name)),
                section.namespace.as_ref(),
            )?,
            kind: kind.to_ascii_lowercase(),
            name: name.to_owned(),
            container: self.text(
                "rollout.container",
                container.as_ref().map(|(value, name)| (value.as_str(), *name)),
                section.container.as_ref(),
            )?,
            timeout_seconds: timeout.0.as_secs(),
            rollback_on_failure: self.rolls_back(
                "rollout.on_failure",
                (overrides.on_failure, "--on-failure"),
                section.on_failure.as_ref(),
                OnFailure::Rollback,
            ),
            rollback_on_verify_failure: self.rolls_back(
                "rollout.on_verify_failure",
                (overrides.on_verify_failure, "--on-verify-failure"),
                section.on_verify_failure.as_ref(),
                OnFailure::Keep,
            ),
        };
        self.choose("rollout.timeout", format!("{}s", timeout.0.as_secs()), &timeout.1);
        Ok(Some(plan))
    }

    fn rolls_back(
        &mut self,
        key: &str,
        (flag, name): (Option<OnFailure>, &'static str),
        file: Option<&Located<OnFailure>>,
        default: OnFailure,
    ) -> bool {
        let (value, origin) = match (flag, file) {
            (Some(value), _) => (value, Origin::Flag(name)),
            (None, Some(value)) => (value.value, self.at(value)),
            (None, None) => (default, Origin::Default),
        };
        let rolls_back = value == OnFailure::Rollback;
        self.choose(key, if rolls_back { "rollback" } else { "keep" }, &origin);
        rolls_back
    }

    fn checks(&mut self) -> Result<Vec<CheckPlan>, SettingsError> {
        let section = &self.filler.config.sections.verify;
        let mut checks = Vec::new();
        for check in &section.http {
            let subject = self.http(check)?;
            self.choose("verify.http", subject.clone(), &self.at(&check.port));
            checks.push(CheckPlan { kind: "http", subject });
        }
        for check in &section.exec {
            let words: Vec<_> = check.command.iter().map(|word| word.value.as_str()).collect();
            let exit = check.exit.as_ref().map_or(0, |exit| exit.value);
            let mut subject = format!("`{}` in a new pod ends with {exit}", words.join(" "));
            if let Some(text) = &check.stdout {
                subject = format!("{subject} and prints `{}`", text.value);
            }
            if let Some(first) = check.command.first() {
                let origin = self.at(first);
                self.choose("verify.exec", subject.clone(), &origin);
            }
            checks.push(CheckPlan { kind: "exec", subject });
        }
        if let Some(check) = &section.inngest {
            let fill = |template: &Option<Template>| {
                template.as_ref().map(|template| self.filler.fill(template)).transpose()
            };
            let url = fill(&check.url)?.unwrap_or_default();
            let app = fill(&check.app)?.unwrap_or_default();
            let functions = match &check.functions {
                Some(Functions::Ids(ids)) => format!("{} listed functions", ids.len()),
                Some(Functions::From(_)) | None => "every function of the new pod".to_owned(),
            };
            let stale = match check.stale_apps.as_ref().map(|stale| stale.value) {
                Some(StaleApps::Delete) => {
                    let texts: Vec<_> =
                        check.stale_match.iter().map(|text| text.value.as_str()).collect();
                    format!("stale apps that match `{}` are deleted", texts.join("`, `"))
                }
                Some(StaleApps::Report) | None => "stale apps are reported".to_owned(),
            };
            let subject = format!("{url} knows {functions} for the app `{app}`; {stale}");
            let origin = self.filler.place(&check.span);
            self.choose("verify.inngest", subject.clone(), &origin);
            checks.push(CheckPlan { kind: "inngest", subject });
        }
        Ok(checks)
    }

    fn http(&self, check: &HttpCheck) -> Result<String, SettingsError> {
        let path = check.path.as_ref().map(|path| self.filler.fill(path)).transpose()?;
        let path = path.unwrap_or_else(|| "/".to_owned());
        let status = check.status.as_ref().map_or(200, |status| status.value);
        let mut subject = format!("GET :{}{path} of a new pod answers {status}", check.port.value);
        if let Some(json) = &check.json {
            subject = format!("{subject} with {}", json.value);
        }
        Ok(subject)
    }

    fn record(&mut self) -> Result<RecordPlan, SettingsError> {
        let section = &self.filler.config.sections.record;
        let words = |words: &Vec<Located<String>>| -> Vec<String> {
            words.iter().map(|word| word.value.clone()).collect()
        };
        let command = section.command.as_ref().map(words);
        if let (Some(command), Some(first)) = (&command, section.command.iter().flatten().next()) {
            self.choose("record.command", command.clone(), &self.at(first));
        }
        let http = match &section.http {
            Some(http) => {
                let url = self.text("record.http.url", None, Some(&http.url))?;
                let token_env = http.token_env.as_ref().map(|name| name.value.clone());
                url.map(|url| HttpSinkPlan { url, token_env })
            }
            None => None,
        };
        let referrer = section.referrer.as_ref();
        if let Some(referrer) = referrer {
            self.choose("record.referrer", referrer.value, &self.at(referrer));
        }
        let timeout = section.timeout.as_ref().map_or(RECORD_TIMEOUT, |timeout| timeout.value);
        Ok(RecordPlan {
            command,
            http,
            referrer: referrer.is_some_and(|referrer| referrer.value),
            timeout_seconds: timeout.as_secs(),
        })
    }

    fn hooks(&mut self) -> Vec<HookPlan> {
        let mut hooks = Vec::new();
        for hook in &self.filler.config.sections.hooks {
            let command: Vec<_> = hook.command.iter().map(|word| word.value.clone()).collect();
            let key = format!("hook.{}.{}", hook.when.value.name(), hook.stage.value.name());
            self.choose(key, command.clone(), &self.at(&hook.stage));
            let timeout = hook.timeout.as_ref().map_or(HOOK_TIMEOUT, |timeout| timeout.value);
            hooks.push(HookPlan {
                stage: hook.stage.value,
                when: hook.when.value,
                command,
                timeout_seconds: timeout.as_secs(),
            });
        }
        hooks
    }

    fn free_disk(&mut self) -> u64 {
        let given = &self.filler.config.sections.deploy.free_disk;
        let (bytes, origin) = match given {
            Some(bytes) => (bytes.value, self.at(bytes)),
            None => (FREE_DISK, Origin::Default),
        };
        self.choose("deploy.free_disk", bytes, &origin);
        bytes
    }

    fn deadlines(&mut self) -> BTreeMap<SyncStage, u64> {
        let given = &self.filler.config.sections.deploy.deadlines;
        let mut deadlines = BTreeMap::new();
        for (stage, usual) in USUAL_DEADLINES {
            let (time, origin) = match given.get(&stage) {
                Some(time) => (time.value, self.at(time)),
                None => (usual, Origin::Default),
            };
            deadlines.insert(stage, time.as_secs());
            self.choose(
                format!("deploy.deadlines.{}", stage.name()),
                format!("{}s", time.as_secs()),
                &origin,
            );
        }
        deadlines
    }
}

/// How long each stage may take where nobody says. The rollout's own timeout is `rollout.timeout`;
/// its deadline leaves room for a rollback that is verified.
const USUAL_DEADLINES: [(SyncStage, Duration); 6] = [
    (SyncStage::Preflight, Duration::from_mins(2)),
    (SyncStage::Build, Duration::from_hours(1)),
    (SyncStage::Push, Duration::from_mins(30)),
    (SyncStage::Rollout, Duration::from_mins(30)),
    (SyncStage::Verify, Duration::from_mins(10)),
    (SyncStage::Record, Duration::from_mins(2)),
];
