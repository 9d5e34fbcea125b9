//! What a build's session offers beside files: secrets and agents, as the plan names them.

use super::error::{Error, Refusal};
use crate::{
    buildkit::session::{SecretContent, SecretError, Secrets, SshAgents, SshError},
    credential::Secret,
    plan::{BuildPlan, SecretSource},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The plan's secrets; files are read when a step asks for them.
///
/// # Errors
/// A variable is not among `variables`, or a file cannot be read or is too big.
pub(super) fn secrets(
    plan: &BuildPlan,
    here: &Path,
    variables: &BTreeMap<String, Secret>,
) -> Result<Secrets, Error> {
    let mut contents = BTreeMap::new();
    for spec in &plan.secrets {
        let content = match &spec.source {
            SecretSource::File(path) => SecretContent::File(here.join(path)),
            SecretSource::Env(name) => match variables.get(name) {
                Some(value) => SecretContent::Held(value.clone()),
                None => return Err(unset(&spec.id, name)),
            },
        };
        contents.insert(spec.id.clone(), content);
    }
    Secrets::new(contents).map_err(|error| {
        let code = match &error {
            SecretError::TooBig { .. } => "SECRET_TOO_BIG",
            SecretError::Unreadable { .. } => "SECRET_UNREADABLE",
        };
        Refusal::new(code, error.to_string()).with_fix("mend the --secret").into()
    })
}

fn unset(id: &str, name: &str) -> Error {
    Refusal::new("SECRET_UNSET", format!("secret `{id}`: the variable `{name}` is not set"))
        .with_fix(format!("set `{name}`, or take the secret from a file with src=FILE"))
        .into()
}

/// The plan's SSH agents. `agent` is the socket of the user's own.
///
/// # Errors
/// A key cannot be used, there is no agent where one is meant, or two have one name.
pub(super) fn agents(
    plan: &BuildPlan,
    here: &Path,
    agent: Option<&Path>,
) -> Result<SshAgents, Error> {
    let mut agents = SshAgents::new();
    for forward in &plan.ssh {
        let paths: Vec<PathBuf> = forward.paths.iter().map(|path| here.join(path)).collect();
        agents = agents.with(&forward.id, &paths, agent).map_err(|error| {
            let (code, fix) = match &error {
                SshError::Key { .. } => {
                    ("SSH_KEY_UNUSABLE", "add the key to an agent and forward that")
                }
                SshError::NoAgent { .. } => {
                    ("SSH_AGENT_MISSING", "start ssh-agent, or name a key with --ssh ID=KEY")
                }
                SshError::SameId { .. } => ("SSH_AGENT_TWICE", "give each --ssh an id of its own"),
                SshError::SocketAmongKeys { .. } | SshError::Unreadable { .. } => {
                    ("SSH_AGENT_UNUSABLE", "mend the --ssh")
                }
            };
            Refusal::new(code, error.to_string()).with_fix(fix)
        })?;
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{AgentForward, SecretSpec};

    fn code<T>(result: Result<T, Error>) -> &'static str {
        match result {
            Err(Error::Refused(refusal)) => refusal.code,
            _ => panic!("not refused"),
        }
    }

    #[test]
    fn what_cannot_be_offered_is_refused_before_the_build() {
        let plan = |source| BuildPlan {
            secrets: vec![SecretSpec { id: "a".to_owned(), source }],
            ..BuildPlan::default()
        };
        let env = plan(SecretSource::Env("NAME".to_owned()));
        let nowhere = Path::new("/nowhere");
        assert_eq!(code(secrets(&env, nowhere, &BTreeMap::new())), "SECRET_UNSET");
        let known = BTreeMap::from([("NAME".to_owned(), Secret::new("x"))]);
        assert!(secrets(&env, nowhere, &known).is_ok());
        let file = plan(SecretSource::File("token".into()));
        assert_eq!(code(secrets(&file, nowhere, &known)), "SECRET_UNREADABLE");
        let ssh = BuildPlan {
            ssh: vec![AgentForward { id: "default".to_owned(), paths: Vec::new() }],
            ..BuildPlan::default()
        };
        assert_eq!(code(agents(&ssh, nowhere, None)), "SSH_AGENT_MISSING");
    }
}
