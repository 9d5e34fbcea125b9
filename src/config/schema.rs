//! The whole of `bk-sync.toml`, as typed sections whose values know their place in the file.

use super::{
    DeploySection, HookSection, ImageTarget, Located, Problem, RecordSection, SignSection,
    VerifySection, images, table::Table, template::Template,
};
use std::{collections::BTreeMap, time::Duration};

/// What a config file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sections {
    /// `[build]`.
    pub build: BuildSection,
    /// `[image]`.
    pub image: ImageSection,
    /// `[[image]]`, in the order of the file, where there are several.
    pub images: Vec<ImageTarget>,
    /// `[sign]`.
    pub sign: Option<SignSection>,
    /// `[registry.HOST]`, by host.
    pub registries: BTreeMap<String, RegistrySection>,
    /// `[rollout]`.
    pub rollout: Option<RolloutSection>,
    /// `[verify]`.
    pub verify: VerifySection,
    /// `[record]`.
    pub record: RecordSection,
    /// `[deploy]`.
    pub deploy: DeploySection,
    /// `[[hook]]`, in the order of the file.
    pub hooks: Vec<HookSection>,
}

/// `[build]`: what is built, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BuildSection {
    /// The builder's address.
    pub builder: Option<Template>,
    /// The context: a directory relative to the config file, or a URL.
    pub context: Option<Template>,
    /// The Dockerfile, relative to the config file.
    pub file: Option<Template>,
    /// Platforms to build for.
    pub platforms: Option<Vec<Template>>,
    /// The stage; none where it is empty.
    pub target: Option<Template>,
    /// Build arguments.
    pub args: BTreeMap<String, Template>,
    /// Contexts beside the main one, as `--build-context` takes them.
    pub contexts: BTreeMap<String, Template>,
    /// `[build.base_keys]`: files of keys and certificates, by the images that they hold for.
    pub base_keys: BTreeMap<String, Template>,
    /// `[build.cache] from`, as `--cache-from` takes it.
    pub cache_from: Option<Vec<Template>>,
    /// `[build.cache] to`, as `--cache-to` takes it.
    pub cache_to: Option<Vec<Template>>,
    /// `[build.cache] deadline`, as `--cache-deadline` takes it.
    pub cache_deadline: Option<Located<Duration>>,
}

/// `[image]`: what the result is called.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageSection {
    /// The repository.
    pub name: Option<Template>,
    /// Tags in it.
    pub tags: Option<Vec<Template>>,
    /// What becomes of git tags when the checkout has changes that are not committed.
    pub dirty: Option<Located<Dirty>>,
}

/// What becomes of git tags when the checkout has changes that are not committed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dirty {
    /// They are used all the same.
    Allow,
    /// Nothing is built: the tag would claim a commit that this is not.
    #[default]
    Refuse,
    /// They end in `-dirty`.
    Suffix,
}

/// `[registry.HOST]`: who we are there, and how it is reached.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySection {
    /// Where the section stands.
    pub span: std::ops::Range<usize>,
    /// The user's name.
    pub username: Option<Template>,
    /// Where the password or token comes from; the Docker config where the section only says how
    /// the registry is reached.
    pub source: CredentialSource,
    /// The command that gives a lease back.
    pub revoke: Option<Vec<Located<String>>>,
    /// How it is reached.
    pub reach: ReachSection,
}

/// How a registry is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReachSection {
    /// It may be spoken to without TLS, or with a certificate that nobody vouches for.
    pub insecure: Option<Located<bool>>,
    /// A file of certificates of authorities, in PEM; relative to the config file.
    pub ca: Option<Located<String>>,
    /// Where to read before it is asked itself, the first first: `host[:port]` or a URL.
    pub mirrors: Vec<Located<String>>,
}

impl ReachSection {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the password or token for a registry comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum CredentialSource {
    /// A command's stdout.
    Command(Vec<Located<String>>),
    /// The Docker config and its helpers.
    Docker,
    /// A variable of the environment.
    Env(Located<String>),
    /// A lease of agent-secrets.
    SecretLease(LeaseSource),
}

/// A secret of agent-secrets, and how it is leased.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseSource {
    /// The secret's name.
    pub name: Located<String>,
    /// For how long, such as `20m`.
    pub ttl: Option<Located<String>>,
    /// Who we say we are.
    pub client_id: Option<Located<String>>,
    /// The daemon's socket.
    pub socket: Option<Located<String>>,
}

/// `[rollout]`: what runs the image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutSection {
    /// The kubeconfig context.
    pub context: Option<Template>,
    /// The namespace.
    pub namespace: Option<Template>,
    /// `KIND/NAME`.
    pub workload: Option<Located<String>>,
    /// The container whose image is set.
    pub container: Option<Template>,
    /// How long a rollout may take.
    pub timeout: Option<Located<Duration>>,
    /// What becomes of a rollout that fails.
    pub on_failure: Option<Located<OnFailure>>,
    /// What becomes of a rollout whose checks fail.
    pub on_verify_failure: Option<Located<OnFailure>>,
}

/// What becomes of a rollout that fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFailure {
    /// It stays as it is.
    Keep,
    /// The image before it comes back.
    Rollback,
}

impl Sections {
    /// Reads every section, and reports every mistake to `problems`.
    pub(super) fn read(mut document: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut sections = Self::default();
        if let Some(table) = document.table("build", problems) {
            sections.build = build(table, problems);
        }
        if document.is_array("image") {
            for table in document.array("image", problems) {
                sections.images.extend(ImageTarget::read(table, problems));
            }
            images::check(&sections.images, problems);
        } else if let Some(table) = document.table("image", problems) {
            sections.image = image(table, problems);
        }
        if let Some(table) = document.table("sign", problems) {
            sections.sign = Some(SignSection::read(table, problems));
        }
        if let Some(table) = document.table("registry", problems) {
            for (host, table) in table.tables(problems) {
                if let Some(section) = registry(&host, table, problems) {
                    sections.registries.insert(host.value, section);
                }
            }
        }
        if let Some(table) = document.table("rollout", problems) {
            sections.rollout = Some(rollout(table, problems));
        }
        if let Some(table) = document.table("verify", problems) {
            sections.verify = VerifySection::read(table, problems);
        }
        if let Some(table) = document.table("record", problems) {
            sections.record = RecordSection::read(table, problems);
        }
        if let Some(table) = document.table("deploy", problems) {
            sections.deploy = DeploySection::read(table, problems);
        }
        for table in document.array("hook", problems) {
            sections.hooks.extend(HookSection::read(table, problems));
        }
        document.refuse_unknown_keys(problems);
        sections
    }
}

pub(super) fn template(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Template> {
    let text = table.string(key, problems)?;
    Template::parse(text, problems)
}

pub(super) fn templates(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Template>> {
    let texts = table.strings(key, problems)?;
    Some(texts.into_iter().filter_map(|text| Template::parse(text, problems)).collect())
}

/// A command: the program and its arguments.
pub(super) fn command(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Located<String>>> {
    let words = table.strings(key, problems)?;
    if words.first().is_none_or(|program| program.value.is_empty()) {
        problems.push(Problem {
            message: format!("`{key}` names no program"),
            span: table.span(),
            hint: Some(format!(
                "write the program and its arguments: `{key} = [\"program\", \"argument\"]`"
            )),
        });
        return None;
    }
    Some(words)
}

fn build(mut table: Table<'_>, problems: &mut Vec<Problem>) -> BuildSection {
    let mut section = BuildSection {
        builder: template(&mut table, "builder", problems),
        context: template(&mut table, "context", problems),
        file: template(&mut table, "file", problems),
        platforms: templates(&mut table, "platforms", problems),
        target: template(&mut table, "target", problems).filter(|target| !target.is_empty()),
        args: BTreeMap::new(),
        contexts: BTreeMap::new(),
        base_keys: BTreeMap::new(),
        cache_from: None,
        cache_to: None,
        cache_deadline: None,
    };
    for (key, place) in [
        ("args", &mut section.args),
        ("contexts", &mut section.contexts),
        ("base_keys", &mut section.base_keys),
    ] {
        for (name, text) in table.string_map(key, problems) {
            if let Some(template) = Template::parse(text, problems) {
                place.insert(name, template);
            }
        }
    }
    if let Some(mut cache) = table.table("cache", problems) {
        section.cache_from = templates(&mut cache, "from", problems);
        section.cache_to = templates(&mut cache, "to", problems);
        section.cache_deadline = time(&mut cache, "deadline", problems);
        cache.refuse_unknown_keys(problems);
    }
    table.refuse_unknown_keys(problems);
    section
}

/// What an image is called; no key of the table is left.
pub(super) fn image(mut table: Table<'_>, problems: &mut Vec<Problem>) -> ImageSection {
    let known = [("refuse", Dirty::Refuse), ("suffix", Dirty::Suffix), ("allow", Dirty::Allow)];
    let section = ImageSection {
        name: template(&mut table, "name", problems),
        tags: templates(&mut table, "tags", problems),
        dirty: table.choice("dirty", &known, problems),
    };
    if let (None, Some(first)) =
        (&section.name, section.tags.as_ref().and_then(|tags| tags.first()))
    {
        problems.push(Problem {
            message: "`[image]` has tags and no name".to_owned(),
            span: first.span(),
            hint: Some("add `name = \"REGISTRY/REPOSITORY\"`".to_owned()),
        });
    }
    table.refuse_unknown_keys(problems);
    section
}

fn registry(
    host: &Located<String>,
    mut table: Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<RegistrySection> {
    let username = template(&mut table, "username", problems);
    let mut sources: Vec<CredentialSource> = Vec::new();
    sources.extend(command(&mut table, "command", problems).map(CredentialSource::Command));
    sources.extend(lease(&mut table, problems).map(CredentialSource::SecretLease));
    sources.extend(table.string("env", problems).map(CredentialSource::Env));
    if table.boolean("docker", problems).is_some_and(|docker| docker.value) {
        sources.push(CredentialSource::Docker);
    }
    let revoke = command(&mut table, "revoke", problems);
    let reach = ReachSection {
        insecure: table.boolean("insecure", problems),
        ca: table.string("ca", problems),
        mirrors: table.strings("mirrors", problems).unwrap_or_default(),
    };
    table.refuse_unknown_keys(problems);
    if sources.is_empty() && username.is_none() && revoke.is_none() && !reach.is_empty() {
        sources.push(CredentialSource::Docker);
    }
    let count = sources.len();
    if let (Some(source), 1) = (sources.pop(), count) {
        return Some(RegistrySection { span: host.span.clone(), username, source, revoke, reach });
    }
    problems.push(Problem {
        message: format!("`[registry.{:?}]` names {count} sources of credentials", host.value),
        span: host.span.clone(),
        hint: Some(
            "give exactly one of `command`, `secret_lease`, `env` and `docker = true`".to_owned(),
        ),
    });
    None
}

/// `secret_lease`: a name, or a table with more.
fn lease(table: &mut Table<'_>, problems: &mut Vec<Problem>) -> Option<LeaseSource> {
    if !table.is_table("secret_lease") {
        let name = table.string("secret_lease", problems)?;
        return Some(LeaseSource { name, ttl: None, client_id: None, socket: None });
    }
    let mut table = table.table("secret_lease", problems)?;
    let span = table.span();
    let name = table.string("name", problems);
    let ttl = table.string("ttl", problems);
    if let Some(ttl) = &ttl
        && duration(&ttl.value).is_none()
    {
        problems.push(Problem {
            message: format!("`secret_lease.ttl` cannot be `{}`", ttl.value),
            span: ttl.span.clone(),
            hint: Some("write a time with its unit, such as `20m`".to_owned()),
        });
    }
    let client_id = table.string("client_id", problems);
    let socket = table.string("socket", problems);
    table.refuse_unknown_keys(problems);
    if name.is_none() {
        problems.push(Problem {
            message: "`secret_lease` has no `name`".to_owned(),
            span,
            hint: Some("add the secret's name: `name = \"ghcr_pat\"`".to_owned()),
        });
    }
    Some(LeaseSource { name: name?, ttl, client_id, socket })
}

fn rollout(mut table: Table<'_>, problems: &mut Vec<Problem>) -> RolloutSection {
    let known = [("rollback", OnFailure::Rollback), ("keep", OnFailure::Keep)];
    let workload = table.string("workload", problems);
    if let Some(workload) = &workload
        && workload.value.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        problems.push(Problem {
            message: format!("`rollout.workload` cannot be `{}`", workload.value),
            span: workload.span.clone(),
            hint: Some("write `KIND/NAME`, such as `deployment/app`".to_owned()),
        });
    }
    let timeout = time(&mut table, "timeout", problems);
    let section = RolloutSection {
        context: template(&mut table, "context", problems),
        namespace: template(&mut table, "namespace", problems),
        workload,
        container: template(&mut table, "container", problems),
        timeout,
        on_failure: table.choice("on_failure", &known, problems),
        on_verify_failure: table.choice("on_verify_failure", &known, problems),
    };
    table.refuse_unknown_keys(problems);
    section
}

/// A time with its unit.
pub(super) fn time(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<Duration>> {
    let text = table.string(key, problems)?;
    let parsed = duration(&text.value);
    if parsed.is_none() {
        problems.push(Problem {
            message: format!("`{}` cannot be `{}`", table.path(key), text.value),
            span: text.span.clone(),
            hint: Some("write a time with its unit, such as `240s` or `4m`".to_owned()),
        });
    }
    Some(Located { value: parsed?, span: text.span })
}

/// A size with its unit.
pub(super) fn bytes(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Located<u64>> {
    let text = table.string(key, problems)?;
    match super::values::byte_size(&text.value) {
        Ok(value) => Some(Located { value, span: text.span }),
        Err(error) => {
            problems.push(Problem {
                message: format!("`{}` cannot be `{}`", table.path(key), text.value),
                span: text.span,
                hint: Some(error.hint),
            });
            None
        }
    }
}

/// A time such as `240s`, `4m` or `1h30m`, as flags take it.
///
/// # Errors
/// It is none.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "write a time with its unit, such as 240s or 4m".to_owned())
}

/// A time such as `240s`, `4m` or `1h30m`.
fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit)?;
        let number: u64 = number.parse().ok()?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = after;
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_have_units() {
        let table = [
            ("240s", Some(240)),
            ("4m", Some(240)),
            ("1h30m", Some(5400)),
            ("", None),
            ("0s", None),
            ("240", None),
            ("-1s", None),
            ("4 m", None),
            ("99999999999999999999h", None),
        ];
        for (text, seconds) in table {
            assert_eq!(duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
