//! Who we are at which registry, from the environment, `[registry]` and the Docker config.

use super::{environment::Environment, execute::state};
use crate::{
    config::{Config, CredentialSource, Fact, Located, RegistrySection, Template},
    credential::{
        AgentLease, Chain, DockerConfig, Given, Leased, LendingCommand, PASSWORD_VARIABLE,
        RegistryHost, Source,
    },
    diagnostic::{Diagnostic, Exit},
    event::Warning,
    image::reference::Reference,
    plan::BuildPlan,
    record::LoanNotes,
};
use std::{collections::BTreeSet, ffi::OsString, sync::Arc, time::Duration};

const USERNAME: &str = "BK_SYNC_REGISTRY_USERNAME";
/// Where agent-secrets listens unless it is told otherwise, below the home directory.
const AGENT_SOCKET: &str = ".agent-secrets/agent-secrets.sock";
/// How long a lease is asked for: more than a build and its push take, less than a day's work.
const LEASE_TTL: &str = "20m";
/// `gh` reads a file or a keychain.
const GH_LIMIT: Duration = Duration::from_secs(10);

/// The sources of credentials for a build, the strongest first, and what the user should know of
/// them.
///
/// # Errors
/// Where credentials that this build needs cannot be had.
pub(super) fn chain(
    plan: &BuildPlan,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<(Chain, Vec<Warning>), Box<Diagnostic>> {
    let (chain, warnings) =
        lasting(of_environment(plan, environment)?, &needed_hosts(plan), config, environment)?;
    Ok((with_github(chain, plan, config, environment), warnings))
}

/// The sources of credentials for reading from `registry` alone, and what the user should know of
/// them. What cannot be had is done without.
///
/// # Errors
/// Only half of a user is in the environment.
pub(super) fn reading(
    registry: &RegistryHost,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<(Chain, Vec<Warning>), Box<Diagnostic>> {
    let given = given(vec![registry.clone()], environment)?;
    lasting(given, &BTreeSet::new(), config, environment)
}

/// The user of the environment, then what the config file and the Docker config know.
fn lasting(
    given: Option<Given>,
    needed: &BTreeSet<RegistryHost>,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<(Chain, Vec<Warning>), Box<Diagnostic>> {
    let mut chain = Chain::new();
    let mut warnings = Vec::new();
    if let Some(given) = given {
        chain = chain.with(given);
    }
    if let Some(config) = config {
        for (name, section) in &config.sections.registries {
            let host = RegistryHost::new(name);
            match of_section(&host, section, config, environment) {
                Ok(Some(source)) => chain = chain.with_boxed(source),
                Ok(None) => {}
                Err(diagnostic) if needed.contains(&host) => return Err(diagnostic),
                Err(diagnostic) => warnings.push(Warning {
                    code: "CREDENTIALS_UNUSED",
                    message: diagnostic.message,
                    hint: diagnostic.fix,
                }),
            }
        }
    }
    let directory = environment
        .path("DOCKER_CONFIG")
        .or_else(|| environment.home().map(|home| home.join(".docker")));
    if let Some(directory) = directory {
        match DockerConfig::load(&directory, search(environment)) {
            Ok(docker) => chain = chain.with(docker),
            // A build that needs no credentials does without; one that does is refused by the
            // registry, and this says why.
            Err(error) => warnings.push(Warning {
                code: "DOCKER_CONFIG",
                message: error.to_string(),
                hint: Some("mend the file: its credentials are not used now".to_owned()),
            }),
        }
    }
    Ok((chain, warnings))
}

/// With GitHub's own tool as the last resort.
fn with_github(
    chain: Chain,
    plan: &BuildPlan,
    config: Option<&Config>,
    environment: &Environment,
) -> Chain {
    match of_github(plan, config, environment) {
        Some(github) => chain.with(github),
        None => chain,
    }
}

/// The user of the variables, for the registries that are pushed to and for no other.
fn of_environment(
    plan: &BuildPlan,
    environment: &Environment,
) -> Result<Option<Given>, Box<Diagnostic>> {
    given(pushed_hosts(plan).into_iter().collect(), environment)
}

/// The user of the variables, for `hosts`.
fn given(
    hosts: Vec<RegistryHost>,
    environment: &Environment,
) -> Result<Option<Given>, Box<Diagnostic>> {
    match (environment.non_empty(USERNAME), environment.secret(PASSWORD_VARIABLE)) {
        (Some(username), Some(password)) => {
            Ok(Some(Given::new(hosts, username, password, PASSWORD_VARIABLE)))
        }
        (None, None) => Ok(None),
        (given, _) => {
            let (set, missing) = if given.is_some() {
                (USERNAME, PASSWORD_VARIABLE)
            } else {
                (PASSWORD_VARIABLE, USERNAME)
            };
            let message = format!("`{set}` is set and `{missing}` is not");
            Err(Diagnostic::new("CREDENTIALS_INCOMPLETE", Exit::Usage, message)
                .with_fix("set both, or neither")
                .into())
        }
    }
}

/// The source that a `[registry]` section names; nothing where it leaves it to the Docker config.
fn of_section(
    host: &RegistryHost,
    section: &RegistrySection,
    config: &Config,
    environment: &Environment,
) -> Result<Option<Box<dyn Source>>, Box<Diagnostic>> {
    let refuse = |span, message: String, fix: &str| {
        Diagnostic::new("CREDENTIALS_UNAVAILABLE", Exit::Usage, message)
            .with_excerpt(config.excerpt(span))
            .with_fix(fix)
            .into()
    };
    let username = || {
        let template = section.username.as_ref();
        let filled = template.and_then(|username| {
            let text = |name: &str| environment.text(name).ok_or(());
            let filled = username.fill(|fact| match fact {
                Fact::Env(name) => text(name),
                Fact::GitBranch | Fact::GitSha | Fact::GitShort => Err(()),
            });
            filled.ok()
        });
        filled.ok_or_else(|| {
            refuse(
                template.map_or(section.span.clone(), Template::span),
                format!("the user for `{host}` is not known"),
                "add `username = \"NAME\"`",
            )
        })
    };
    let hosts = vec![host.clone()];
    let source: Box<dyn Source> = match &section.source {
        CredentialSource::Docker => return Ok(None),
        CredentialSource::Env(name) => {
            let Some(secret) = environment.secret(&name.value) else {
                return Err(refuse(
                    name.span.clone(),
                    format!(
                        "the variable `{}` with the password for `{host}` is not set",
                        name.value
                    ),
                    "set it, or use `docker = true`",
                ));
            };
            Box::new(Given::new(hosts, username()?, secret, name.value.clone()))
        }
        CredentialSource::Command(words) => {
            let plain = |words: &[Located<String>]| -> Vec<String> {
                words.iter().map(|word| word.value.clone()).collect()
            };
            let command = LendingCommand::new(plain(words), search(environment))
                .with_revoke(section.revoke.as_deref().map(plain))
                .hiding(secret_variables(config));
            let leased = Leased::new(hosts, username()?, command);
            // What nobody takes back is no loan.
            Box::new(if section.revoke.is_some() { noted(leased, environment) } else { leased })
        }
        CredentialSource::SecretLease(lease) => {
            let socket = match &lease.socket {
                Some(path) => Some(config.directory().join(&path.value)),
                None => environment.home().map(|home| home.join(AGENT_SOCKET)),
            };
            let Some(socket) = socket else {
                return Err(refuse(
                    lease.name.span.clone(),
                    "without `HOME` it is not known where agent-secrets listens".to_owned(),
                    "name its socket: `secret_lease = { name = \"NAME\", socket = \"PATH\" }`",
                ));
            };
            let text = |given: &Option<Located<String>>, default: &str| {
                given.as_ref().map_or_else(|| default.to_owned(), |given| given.value.clone())
            };
            let lease = AgentLease {
                socket,
                name: lease.name.value.clone(),
                ttl: text(&lease.ttl, LEASE_TTL),
                client_id: text(&lease.client_id, "bk-sync"),
            };
            Box::new(noted(Leased::new(hosts, username()?, lease), environment))
        }
    };
    Ok(Some(source))
}

/// With its loans noted in the state directory, where there is one.
fn noted(leased: Leased, environment: &Environment) -> Leased {
    match state(environment) {
        Some(state) => leased.noting(Arc::new(LoanNotes::new(&state))),
        None => leased,
    }
}

/// `gh auth token`, where `gh` is there, as the last resort for a push to GitHub's registry. For
/// pushes alone: a token without the scope for packages is refused where the anonymous may read.
fn of_github(
    plan: &BuildPlan,
    config: Option<&Config>,
    environment: &Environment,
) -> Option<Leased> {
    let host = RegistryHost::new("ghcr.io");
    pushed_hosts(plan).get(&host)?;
    let words = ["gh", "auth", "token", "--hostname", "github.com"].map(str::to_owned).to_vec();
    let command = LendingCommand::new(words, search(environment))
        .hiding(config.map(secret_variables).unwrap_or_default())
        .with_limit(GH_LIMIT);
    // The registry looks at the token alone; the name only must not be empty.
    command.is_there().then(|| Leased::new(vec![host], "x-access-token", command).quiet())
}

fn search(environment: &Environment) -> OsString {
    environment.raw("PATH").unwrap_or_default()
}

/// The variables that hold registries' passwords, which no command needs to see.
fn secret_variables(config: &Config) -> Vec<String> {
    let sections = config.sections.registries.values();
    sections
        .filter_map(|section| match &section.source {
            CredentialSource::Env(name) => Some(name.value.clone()),
            _ => None,
        })
        .collect()
}

/// The registries of the image's names, where it is pushed.
fn pushed_hosts(plan: &BuildPlan) -> BTreeSet<RegistryHost> {
    let pushes = |value: &String| value == "true" || value == "1";
    let outputs = plan
        .outputs
        .iter()
        .filter(|output| output.attributes.get("push").is_some_and(pushes))
        .filter_map(|output| output.attributes.get("name"))
        .flat_map(|names| names.split(','));
    let pushed = plan.push
        || plan.outputs.iter().any(|output| output.attributes.get("push").is_some_and(pushes));
    let tags = plan.tags.iter().map(String::as_str).filter(|_| pushed);
    tags.chain(outputs).filter_map(host).collect()
}

/// The registries that this build certainly speaks to: those of its names and of its caches.
fn needed_hosts(plan: &BuildPlan) -> BTreeSet<RegistryHost> {
    let caches = plan.cache_from.iter().chain(&plan.cache_to);
    let caches = caches.filter_map(|cache| cache.attributes.get("ref"));
    let mut hosts = pushed_hosts(plan);
    hosts.extend(caches.filter_map(|reference| host(reference)));
    hosts
}

fn host(reference: &str) -> Option<RegistryHost> {
    Some(RegistryHost::new(Reference::parse(reference).ok()?.domain()))
}

#[cfg(test)]
mod tests {
    use super::chain;
    use crate::{
        cli::Environment,
        config::Config,
        credential::RegistryHost,
        plan::{BuildPlan, CacheEntry},
    };

    fn plan() -> BuildPlan {
        let reference = ("ref".to_owned(), "cache.example/c".to_owned());
        BuildPlan {
            tags: vec!["ghcr.io/o/app:1".to_owned()],
            push: true,
            cache_to: vec![CacheEntry {
                kind: "registry".to_owned(),
                attributes: [reference].into(),
            }],
            ..BuildPlan::default()
        }
    }

    fn config(text: &str) -> Config {
        Config::parse("bk-sync.toml".into(), text.to_owned()).unwrap()
    }

    /// Who is known at a registry.
    async fn user(
        text: &str,
        variables: &[(&str, &str)],
        registry: &str,
    ) -> Result<Option<String>, String> {
        let environment = Environment::fixed(variables.iter().copied());
        let (chain, _) =
            chain(&plan(), Some(&config(text)), &environment).map_err(|error| error.message)?;
        let lookup = chain.lookup(&RegistryHost::new(registry)).await;
        Ok(lookup.credentials.map(|credentials| credentials.username))
    }

    #[tokio::test]
    async fn the_variables_are_for_the_registry_that_is_pushed_to_alone() {
        let variables = [("BK_SYNC_REGISTRY_USERNAME", "u"), ("BK_SYNC_REGISTRY_PASSWORD", "p")];
        assert_eq!(user("", &variables, "ghcr.io").await, Ok(Some("u".to_owned())));
        assert_eq!(user("", &variables, "docker.io").await, Ok(None));
        assert_eq!(
            user("", &variables[..1], "ghcr.io").await,
            Err("`BK_SYNC_REGISTRY_USERNAME` is set and `BK_SYNC_REGISTRY_PASSWORD` is not"
                .to_owned())
        );
    }

    #[tokio::test]
    async fn a_section_names_a_variable() {
        let text = "[registry.\"ghcr.io\"]\nusername = \"o\"\nenv = \"TOKEN\"\n";
        assert_eq!(user(text, &[("TOKEN", "t")], "ghcr.io").await, Ok(Some("o".to_owned())));
        assert_eq!(
            user(text, &[], "ghcr.io").await,
            Err("the variable `TOKEN` with the password for `ghcr.io` is not set".to_owned())
        );
    }

    #[tokio::test]
    async fn a_source_that_is_not_there_is_refused_where_it_is_needed_and_told_elsewhere() {
        let section = |host| format!("[registry.\"{host}\"]\nusername = \"o\"\nenv = \"T\"\n");
        for needed in ["ghcr.io", "cache.example"] {
            let refused = user(&section(needed), &[], needed).await.unwrap_err();
            assert!(refused.contains("is not set"), "{refused}");
        }
        let environment = Environment::fixed::<&str, &str>([]);
        let config = config(&section("other.example"));
        let (_, warnings) = chain(&plan(), Some(&config), &environment).unwrap();
        assert_eq!(warnings.first().unwrap().code, "CREDENTIALS_UNUSED");
    }

    #[tokio::test]
    async fn a_section_names_a_command_that_does_not_see_other_passwords() {
        let text = "[registry.\"ghcr.io\"]\nusername = \"o\"\n\
            command = [\"/bin/sh\", \"-c\", \"[ -z \\\"$OTHER\\\" ] && echo $0\", \"t\"]\n\
            [registry.\"other.example\"]\nusername = \"o\"\nenv = \"OTHER\"\n";
        let variables = [("OTHER", "secret"), ("PATH", "/usr/bin:/bin")];
        assert_eq!(user(text, &variables, "ghcr.io").await, Ok(Some("o".to_owned())));
        let nameless = text.replacen("username = \"o\"\n", "", 1);
        assert_eq!(
            user(&nameless, &variables, "ghcr.io").await,
            Err("the user for `ghcr.io` is not known".to_owned())
        );
    }

    #[tokio::test]
    async fn a_lease_without_a_daemon_is_a_problem_with_its_mend() {
        let text = "[registry.\"ghcr.io\"]\nusername = \"o\"\nsecret_lease = { name = \"pat\", \
            socket = \"no/such.sock\", ttl = \"5m\" }\n";
        let environment = Environment::fixed::<&str, &str>([]);
        let (chain, _) = chain(&plan(), Some(&config(text)), &environment).unwrap();
        let lookup = chain.lookup(&RegistryHost::new("ghcr.io")).await;
        let problem = lookup.problems.first().unwrap();
        assert!(problem.to_string().contains("no/such.sock"), "{problem}");
        assert!(problem.hint().contains("secrets serve"), "{}", problem.hint());
    }

    #[tokio::test]
    async fn a_broken_docker_config_is_told() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        std::fs::write(home.path().join(".docker/config.json"), "{").unwrap();
        let environment = Environment::fixed([("HOME", home.path())]);
        let (_, warnings) = chain(&plan(), None, &environment).unwrap();
        assert_eq!(warnings.first().unwrap().code, "DOCKER_CONFIG");
    }
}
