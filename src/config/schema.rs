//! The whole of `bk-sync.toml`, as typed sections whose values know their place in the file.

use super::{Located, Problem, table::Table, template::Template};
use serde_json::Value as Json;
use std::{collections::BTreeMap, time::Duration};

/// What a config file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sections {
    /// `[build]`.
    pub build: BuildSection,
    /// `[image]`.
    pub image: ImageSection,
    /// `[registry.HOST]`, by host.
    pub registries: BTreeMap<String, RegistrySection>,
    /// `[rollout]`.
    pub rollout: Option<RolloutSection>,
    /// `[[verify.http]]`.
    pub verify_http: Vec<HttpCheck>,
    /// `[verify.inngest]`.
    pub verify_inngest: Option<InngestCheck>,
    /// `[record] command`.
    pub record: Option<Vec<Located<String>>>,
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
    /// `[build.cache] from`, as `--cache-from` takes it.
    pub cache_from: Option<Vec<Template>>,
    /// `[build.cache] to`, as `--cache-to` takes it.
    pub cache_to: Option<Vec<Template>>,
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

/// `[registry.HOST]`: who we are there.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistrySection {
    /// Where the section stands.
    pub span: std::ops::Range<usize>,
    /// The user's name.
    pub username: Option<Template>,
    /// Where the password or token comes from.
    pub source: CredentialSource,
    /// The command that gives a lease back.
    pub revoke: Option<Vec<Located<String>>>,
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
    /// A lease of this name.
    SecretLease(Located<String>),
}

/// `[rollout]`: what runs the image.
#[derive(Clone, Debug, PartialEq)]
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
}

/// What becomes of a rollout that fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFailure {
    /// It stays as it is.
    Keep,
    /// The image before it comes back.
    Rollback,
}

/// `[[verify.http]]`: a request to a new pod.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The pod's port.
    pub port: Located<u16>,
    /// The path.
    pub path: Option<Template>,
    /// The status that the answer must have.
    pub status: Option<Located<u16>>,
    /// What the answer's JSON must hold, by dotted path.
    pub json: Option<Located<Json>>,
}

/// `[verify.inngest]`: what an Inngest server must know of the new version.
#[derive(Clone, Debug, PartialEq)]
pub struct InngestCheck {
    /// The server.
    pub url: Option<Template>,
    /// The app's id.
    pub app: Option<Template>,
    /// Where the app serves its functions: port and path.
    pub serve: Option<(Located<u16>, Option<Template>)>,
    /// Which functions must be there.
    pub functions: Option<Functions>,
    /// What becomes of apps that no pod serves any more.
    pub stale_apps: Option<Located<StaleApps>>,
}

/// Which functions an Inngest server must know.
#[derive(Clone, Debug, PartialEq)]
pub enum Functions {
    /// Those that this names as their source.
    From(Located<String>),
    /// These ids.
    Ids(Vec<Located<String>>),
}

/// What becomes of apps that no pod serves any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StaleApps {
    /// They are deleted.
    Delete,
    /// They are reported.
    Report,
}

impl Sections {
    /// Reads every section, and reports every mistake to `problems`.
    pub(super) fn read(mut document: Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut sections = Self::default();
        if let Some(table) = document.table("build", problems) {
            sections.build = build(table, problems);
        }
        if let Some(table) = document.table("image", problems) {
            sections.image = image(table, problems);
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
        if let Some(mut table) = document.table("verify", problems) {
            for check in table.array("http", problems) {
                sections.verify_http.extend(http(check, problems));
            }
            sections.verify_inngest =
                table.table("inngest", problems).map(|table| inngest(table, problems));
            table.refuse_unknown_keys(problems);
        }
        if let Some(mut table) = document.table("record", problems) {
            sections.record = command(&mut table, "command", problems);
            table.refuse_unknown_keys(problems);
        }
        document.refuse_unknown_keys(problems);
        sections
    }
}

fn template(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Template> {
    let text = table.string(key, problems)?;
    Template::parse(text, problems)
}

fn templates(
    table: &mut Table<'_>,
    key: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Template>> {
    let texts = table.strings(key, problems)?;
    Some(texts.into_iter().filter_map(|text| Template::parse(text, problems)).collect())
}

/// A command: the program and its arguments.
fn command(
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
        cache_from: None,
        cache_to: None,
    };
    for (name, text) in table.string_map("args", problems) {
        if let Some(template) = Template::parse(text, problems) {
            section.args.insert(name, template);
        }
    }
    if let Some(mut cache) = table.table("cache", problems) {
        section.cache_from = templates(&mut cache, "from", problems);
        section.cache_to = templates(&mut cache, "to", problems);
        cache.refuse_unknown_keys(problems);
    }
    table.refuse_unknown_keys(problems);
    section
}

fn image(mut table: Table<'_>, problems: &mut Vec<Problem>) -> ImageSection {
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
    sources.extend(table.string("secret_lease", problems).map(CredentialSource::SecretLease));
    sources.extend(table.string("env", problems).map(CredentialSource::Env));
    if table.boolean("docker", problems).is_some_and(|docker| docker.value) {
        sources.push(CredentialSource::Docker);
    }
    let revoke = command(&mut table, "revoke", problems);
    table.refuse_unknown_keys(problems);
    let count = sources.len();
    if let (Some(source), 1) = (sources.pop(), count) {
        return Some(RegistrySection { span: host.span.clone(), username, source, revoke });
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
    let timeout = table.string("timeout", problems).and_then(|text| {
        let parsed = duration(&text.value);
        if parsed.is_none() {
            problems.push(Problem {
                message: format!("`rollout.timeout` cannot be `{}`", text.value),
                span: text.span.clone(),
                hint: Some("write a time with its unit, such as `240s` or `4m`".to_owned()),
            });
        }
        Some(Located { value: parsed?, span: text.span })
    });
    let section = RolloutSection {
        context: template(&mut table, "context", problems),
        namespace: template(&mut table, "namespace", problems),
        workload,
        container: template(&mut table, "container", problems),
        timeout,
        on_failure: table.choice("on_failure", &known, problems),
    };
    table.refuse_unknown_keys(problems);
    section
}

fn http(mut table: Table<'_>, problems: &mut Vec<Problem>) -> Option<HttpCheck> {
    let port = required_port(&mut table, "[[verify.http]]", problems);
    let path = template(&mut table, "path", problems);
    let (mut status, mut json) = (None, None);
    if let Some(mut expect) = table.table("expect", problems) {
        status = expect.integer("status", 100..=599, problems);
        json = expect.json("json");
        expect.refuse_unknown_keys(problems);
    }
    table.refuse_unknown_keys(problems);
    Some(HttpCheck { port: port?, path, status, json })
}

fn inngest(mut table: Table<'_>, problems: &mut Vec<Problem>) -> InngestCheck {
    let known = [("report", StaleApps::Report), ("delete", StaleApps::Delete)];
    let serve = table.table("serve", problems).and_then(|mut serve| {
        let port = required_port(&mut serve, "verify.inngest.serve", problems);
        let path = template(&mut serve, "path", problems);
        serve.refuse_unknown_keys(problems);
        Some((port?, path))
    });
    let functions = if table.is_table("functions") {
        table.table("functions", problems).and_then(|mut functions| {
            let from = functions.string("from", problems);
            functions.refuse_unknown_keys(problems);
            from.map(Functions::From)
        })
    } else {
        table.strings("functions", problems).map(Functions::Ids)
    };
    let section = InngestCheck {
        url: template(&mut table, "url", problems),
        app: template(&mut table, "app", problems),
        serve,
        functions,
        stale_apps: table.choice("stale_apps", &known, problems),
    };
    table.refuse_unknown_keys(problems);
    section
}

fn required_port(
    table: &mut Table<'_>,
    place: &str,
    problems: &mut Vec<Problem>,
) -> Option<Located<u16>> {
    let before = problems.len();
    let port = table.integer("port", 1..=u16::MAX, problems);
    if port.is_none() && problems.len() == before {
        problems.push(Problem {
            message: format!("`{place}` has no `port`"),
            span: table.span(),
            hint: Some("add the pod's port: `port = 8080`".to_owned()),
        });
    }
    port
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
