//! What is lent to steps: `--secret` and `--ssh`.

use super::{each, usage};
use crate::{
    cli::environment::Environment,
    config::values,
    diagnostic::Diagnostic,
    plan::{AgentForward, Context, SecretSource, SecretSpec},
};
use clap::Args;
use std::io;

/// The largest secret that builders take, in bytes.
const MAX_SECRET: u64 = 500 * 1024;

/// What steps may use while they run, as flags say it.
#[derive(Args, Clone, Debug)]
pub(super) struct LentArguments {
    /// Lend a secret to `RUN --mount=type=secret`: `id=ID[,src=PATH|,env=NAME]`
    #[arg(long = "secret", value_name = "SPEC")]
    secrets: Vec<String>,
    /// Forward an ssh agent or keys: `default` or `ID[=SOCKET|KEY[,KEY]]`
    #[arg(hide_short_help = true, long, value_name = "SPEC")]
    ssh: Vec<String>,
}

impl LentArguments {
    /// The secrets, each id once: the last of it counts.
    ///
    /// # Errors
    /// One is said in no known form, or cannot be read or lent.
    pub(super) fn secrets(
        &self,
        environment: &Environment,
    ) -> Result<Vec<SecretSpec>, Box<Diagnostic>> {
        let mut secrets: Vec<SecretSpec> = Vec::new();
        let is_variable = |name: &str| environment.raw(name).is_some();
        let read = |text: &str| values::secret(text, is_variable);
        for secret in each("--secret", &self.secrets, read)? {
            check_secret(&secret, environment)?;
            secrets.retain(|other| other.id != secret.id);
            secrets.push(secret);
        }
        Ok(secrets)
    }

    /// The agents, each id once: the last of it counts. A `context` that is fetched by ssh has the
    /// user's, where there is one.
    ///
    /// # Errors
    /// One is said in no known form, or is not there.
    pub(super) fn agents(
        &self,
        context: &Context,
        environment: &Environment,
    ) -> Result<Vec<AgentForward>, Box<Diagnostic>> {
        let agent = environment.path("SSH_AUTH_SOCK");
        let mut agents: Vec<AgentForward> = Vec::new();
        for forward in each("--ssh", &self.ssh, values::agent_forward)? {
            if forward.paths.is_empty() && agent.is_none() {
                return Err(usage(
                    format!("there is no agent for `--ssh {}`", forward.id),
                    "start one (`eval \"$(ssh-agent)\"; ssh-add`), or name a socket or a key: \
                     `--ssh ID=PATH`",
                ));
            }
            if let Some(missing) = forward.paths.iter().find(|path| !path.exists()) {
                return Err(usage(
                    format!("`{}` of `--ssh {}` does not exist", missing.display(), forward.id),
                    "name a socket or a key that exists",
                ));
            }
            agents.retain(|other| other.id != forward.id);
            agents.push(forward);
        }
        if agents.is_empty() && agent.is_some() && context.is_git_over_ssh() {
            // The builder fetches such a context with the user's agent.
            agents.push(AgentForward { id: "default".to_owned(), paths: Vec::new() });
        }
        Ok(agents)
    }
}

/// Refuses a secret that cannot be read, before anything is built.
fn check_secret(secret: &SecretSpec, environment: &Environment) -> Result<(), Box<Diagnostic>> {
    let id = &secret.id;
    match &secret.source {
        SecretSource::Env(name) if environment.raw(name).is_none() => Err(usage(
            format!("the variable `{name}` of the secret `{id}` is not set"),
            format!("set `{name}`, or name a file: `id={id},src=PATH`"),
        )),
        SecretSource::Env(_) => Ok(()),
        SecretSource::File(path) => {
            let shown = path.display();
            let fix = "name a file that can be read, or a variable: `env=NAME`";
            let metadata = std::fs::metadata(path).and_then(|metadata| {
                if metadata.is_dir() {
                    return Err(io::Error::from(io::ErrorKind::IsADirectory));
                }
                Ok(metadata)
            });
            match metadata {
                Err(error) => {
                    Err(usage(format!("cannot read `{shown}` of the secret `{id}`: {error}"), fix))
                }
                Ok(metadata) if metadata.len() > MAX_SECRET => Err(usage(
                    format!("`{shown}` of the secret `{id}` is larger than {MAX_SECRET} bytes"),
                    "lend a smaller file: builders take no larger secret",
                )),
                Ok(_) => Ok(()),
            }
        }
    }
}
