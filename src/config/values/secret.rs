//! `--secret` and `--ssh`.

use super::{ValueError, fields::pairs};
use crate::plan::{AgentForward, SecretSource, SecretSpec};
use std::path::PathBuf;

const EXAMPLE: &str = "id=npmrc,src=.npmrc";

/// A secret. Where it names neither file nor variable, it is the variable of its id if
/// `is_variable` knows one, and else the file of that name.
pub(crate) fn secret(
    text: &str,
    is_variable: impl Fn(&str) -> bool,
) -> Result<SecretSpec, ValueError> {
    let (mut kind, mut id, mut file, mut variable) = (None, None, None, None);
    for (key, value) in pairs(text, EXAMPLE)? {
        match key.as_str() {
            "type" if value == "env" || value == "file" => kind = Some(value),
            "type" => {
                return Err(ValueError::new(
                    format!("unknown secret type `{value}`"),
                    "the types are `env` and `file`",
                ));
            }
            "id" => id = Some(value),
            "src" | "source" => file = Some(value),
            "env" => variable = Some(value),
            _ => {
                return Err(ValueError::new(
                    format!("a secret has no field `{key}`"),
                    "the fields are `id`, `src`, `env` and `type`",
                ));
            }
        }
    }
    if kind.as_deref() == Some("env") && variable.is_none() {
        variable = file.take();
    }
    let Some(id) = id.filter(|id| !id.is_empty()) else {
        return Err(ValueError::new(
            "a secret has no id",
            format!("name what the Dockerfile mounts: `{EXAMPLE}`"),
        ));
    };
    let source = match (file, variable) {
        (Some(_), Some(_)) => {
            return Err(ValueError::new(
                format!("the secret `{id}` names both a file and a variable"),
                "give either `src=PATH` or `env=NAME`",
            ));
        }
        (Some(path), None) => SecretSource::File(PathBuf::from(path)),
        (None, Some(name)) => SecretSource::Env(name),
        (None, None) if kind.as_deref() != Some("file") && is_variable(&id) => {
            SecretSource::Env(id.clone())
        }
        (None, None) if kind.as_deref() == Some("env") => SecretSource::Env(id.clone()),
        (None, None) => SecretSource::File(PathBuf::from(&id)),
    };
    Ok(SecretSpec { id, source })
}

/// An agent or keys to forward: `default`, `ID` or `ID=PATH[,PATH]`.
pub(crate) fn agent_forward(text: &str) -> Result<AgentForward, ValueError> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, paths.split(',').map(PathBuf::from).collect()),
        None => (text, Vec::new()),
    };
    if paths.iter().any(|path: &PathBuf| path.as_os_str().is_empty()) {
        return Err(ValueError::new(
            format!("`{text}` has an empty path"),
            "write `default` for the agent of `SSH_AUTH_SOCK`, or `ID=PATH[,PATH]`",
        ));
    }
    let id = if id.is_empty() { "default" } else { id };
    Ok(AgentForward { id: id.to_owned(), paths })
}

#[cfg(test)]
mod tests {
    use super::{agent_forward, secret};

    #[test]
    fn secrets_name_a_file_or_a_variable() {
        let table = [
            ("id=a,src=f", r#"a File("f")"#),
            ("id=a,source=f", r#"a File("f")"#),
            ("id=a,env=V", r#"a Env("V")"#),
            ("type=env,id=a,src=V", r#"a Env("V")"#),
            ("type=env,id=a", r#"a Env("a")"#),
            ("type=file,id=KNOWN", r#"KNOWN File("KNOWN")"#),
            ("id=KNOWN", r#"KNOWN Env("KNOWN")"#),
            ("id=other", r#"other File("other")"#),
            (r#"id=a,"src=x,y""#, r#"a File("x,y")"#),
        ];
        for (text, expected) in table {
            let secret = secret(text, |name| name == "KNOWN").unwrap();
            assert_eq!(format!("{} {:?}", secret.id, secret.source), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_secret_is_refused_with_the_fix() {
        let table = [
            ("src=f", "a secret has no id"),
            ("a", "the field `a` is no `key=value` pair"),
            ("id=a,path=f", "a secret has no field `path`"),
            ("id=a,type=vault", "unknown secret type `vault`"),
            ("id=a,src=f,env=V", "the secret `a` names both a file and a variable"),
        ];
        for (text, expected) in table {
            assert_eq!(secret(text, |_| false).unwrap_err().problem, expected, "{text}");
        }
    }

    #[test]
    fn agents_have_an_id_and_maybe_paths() {
        let table = [
            ("default", "default []"),
            ("git", "git []"),
            ("git=/a,/b", r#"git ["/a", "/b"]"#),
            ("=/a", r#"default ["/a"]"#),
        ];
        for (text, expected) in table {
            let agent = agent_forward(text).unwrap();
            assert_eq!(format!("{} {:?}", agent.id, agent.paths), expected, "{text}");
        }
        assert!(agent_forward("git=").is_err());
    }
}
