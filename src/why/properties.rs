//! What an op is, property by property: two ops of one step are compared by these, and what differs
//! is what a user reads. Inputs are no properties, because their digests change with every change
//! below them; and neither is what differs from session to session.

use crate::{llb::print::op_json, proto::pb};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};

/// The command of a `RUN`.
pub(super) const COMMAND: &str = "command";
/// The reference of an image.
pub(super) const IMAGE: &str = "image";
/// The digest of an image.
pub(super) const DIGEST: &str = "digest";
/// The address of what is fetched (`ADD`, a git context).
pub(super) const ADDRESS: &str = "address";
/// The name of a context.
pub(super) const CONTEXT: &str = "context";
/// Begins the names of variables.
pub(super) const VARIABLE: &str = "variable ";

/// Words in the names of variables whose values are not kept, only whether they changed.
const SECRET_WORDS: [&str; 8] =
    ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "APIKEY", "API_KEY", "CREDENTIAL", "PRIVATE"];

/// The properties of an op.
pub(super) fn of(op: &pb::Op) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    match &op.op {
        Some(pb::op::Op::Exec(exec)) => of_exec(exec, &mut found),
        Some(pb::op::Op::Source(source)) => of_source(source, &mut found),
        Some(pb::op::Op::File(file)) => of_file(file, &mut found),
        Some(_) => {
            // Which inputs are put together is in the inputs.
            let mut bare = op.clone();
            bare.inputs.clear();
            found.insert("operation".to_owned(), op_json(&bare.encode_to_vec()).to_string());
        }
        None => {}
    }
    found
}

fn of_exec(exec: &pb::ExecOp, found: &mut BTreeMap<String, String>) {
    let Some(meta) = &exec.meta else { return };
    found.insert(COMMAND.to_owned(), command(&meta.args));
    for variable in &meta.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        found.insert(format!("{VARIABLE}{name}"), kept(name, value));
    }
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            found.insert(name.to_owned(), value);
        }
    };
    put("working directory", meta.cwd.clone());
    put("user", meta.user.clone());
    put("host name", meta.hostname.clone());
    put(
        "network",
        if exec.network == 0 { String::new() } else { exec.network().as_str_name().to_lowercase() },
    );
    put(
        "security",
        if exec.security == 0 {
            String::new()
        } else {
            exec.security().as_str_name().to_lowercase()
        },
    );
    for host in &meta.extra_hosts {
        put(&format!("host {}", host.host), host.ip.clone());
    }
    for mount in &exec.mounts {
        if mount.dest == "/" {
            continue;
        }
        let mut bare = mount.clone();
        // Which input it is says nothing to anybody, and the session is another every time.
        bare.input = 0;
        let op = pb::Op {
            op: Some(pb::op::Op::Exec(pb::ExecOp { mounts: vec![bare], ..pb::ExecOp::default() })),
            ..pb::Op::default()
        };
        let text = op_json(&op.encode_to_vec())
            .pointer("/exec/mounts/0")
            .map(ToString::to_string)
            .unwrap_or_default();
        put(&format!("mount {}", mount.dest), text);
    }
    for secret in &exec.secretenv {
        put(&format!("secret {}", secret.name), secret.id.clone());
    }
    for device in &exec.cdi_devices {
        put(&format!("device {}", device.name), device.optional.to_string());
    }
}

/// A command as one would type it, without the shell around it.
fn command(args: &[String]) -> String {
    match args {
        [shell, flag, script] if flag == "-c" && shell.ends_with("sh") => script.clone(),
        args => args.join(" "),
    }
}

fn of_source(source: &pb::SourceOp, found: &mut BTreeMap<String, String>) {
    let identifier = source.identifier.as_str();
    if let Some(name) = identifier.strip_prefix("local://") {
        found.insert(CONTEXT.to_owned(), name.to_owned());
        return;
    }
    let image = ["docker-image://", "oci-layout://"]
        .iter()
        .find_map(|scheme| identifier.strip_prefix(scheme));
    if let Some(reference) = image {
        let (name, digest) = reference.split_once('@').unwrap_or((reference, ""));
        found.insert(IMAGE.to_owned(), name.to_owned());
        found.insert(DIGEST.to_owned(), digest.to_owned());
        return;
    }
    found.insert(ADDRESS.to_owned(), without_password(identifier));
    for (name, value) in &source.attrs {
        // Names of credentials, and what is another in every session.
        let is_ours = ["auth", "secret", "session", "mountsshsock"]
            .iter()
            .any(|word| name.to_lowercase().contains(word));
        if !is_ours {
            found.insert(format!("attribute {name}"), value.clone());
        }
    }
}

/// An address without the user and the password in it.
fn without_password(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let host = host.rsplit('@').next().unwrap_or(host);
    format!("{scheme}://{host}{path}")
}

fn of_file(file: &pb::FileOp, found: &mut BTreeMap<String, String>) {
    use pb::file_action::Action;
    for (at, action) in file.actions.iter().enumerate() {
        let Some(kind) = &action.action else { continue };
        let (word, text) = match kind {
            Action::Copy(copy) => {
                let mut text = format!("{} to {}", copy.src, copy.dest);
                owner(copy.owner.as_ref(), &mut text);
                if !copy.mode_str.is_empty() {
                    let _cannot_fail = write!(text, ", mode {}", copy.mode_str);
                } else if copy.mode != -1 {
                    let _cannot_fail = write!(text, ", mode {:o}", copy.mode);
                }
                for (name, list) in
                    [("only", &copy.include_patterns), ("without", &copy.exclude_patterns)]
                {
                    if !list.is_empty() {
                        let _cannot_fail = write!(text, ", {name} {}", list.join(" "));
                    }
                }
                if copy.timestamp != -1 {
                    let _cannot_fail = write!(text, ", time {}", copy.timestamp);
                }
                ("copy", text)
            }
            Action::Mkfile(made) => {
                let mut text = format!("{} {}", made.path, hash(&made.data));
                owner(made.owner.as_ref(), &mut text);
                ("file", text)
            }
            Action::Mkdir(made) => {
                let mut text = made.path.clone();
                owner(made.owner.as_ref(), &mut text);
                ("directory", text)
            }
            Action::Rm(gone) => ("removal", gone.path.clone()),
            Action::Symlink(link) => ("link", format!("{} to {}", link.newpath, link.oldpath)),
        };
        found.insert(format!("{word} {}", at + 1), text);
    }
}

fn owner(owner: Option<&pb::ChownOpt>, text: &mut String) {
    let Some(owner) = owner else { return };
    let name = |user: Option<&pb::UserOpt>| match user.and_then(|user| user.user.as_ref()) {
        Some(pb::user_opt::User::ByName(named)) => named.name.clone(),
        Some(pb::user_opt::User::ById(id)) => id.to_string(),
        None => String::new(),
    };
    let (user, group) = (name(owner.user.as_ref()), name(owner.group.as_ref()));
    let _cannot_fail = write!(text, ", owner {user}:{group}");
}

/// The value of a variable as it may be kept: where its name says that it may be a secret, only what
/// tells it from another.
pub fn kept(name: &str, value: &str) -> String {
    let name = name.to_uppercase();
    if SECRET_WORDS.iter().any(|word| name.contains(word)) {
        format!("(not kept; {})", hash(value.as_bytes()))
    } else {
        value.to_owned()
    }
}

fn hash(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes).iter().take(4) {
        let _cannot_fail = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::proto::pb;

    #[test]
    fn values_that_may_be_secrets_are_not_kept() {
        let meta = pb::Meta {
            args: ["/bin/sh", "-c", "make"].map(str::to_owned).to_vec(),
            env: ["NPM_TOKEN=canary", "MODE=fast"].map(str::to_owned).to_vec(),
            cwd: "/src".to_owned(),
            ..pb::Meta::default()
        };
        let exec = pb::ExecOp { meta: Some(meta), ..pb::ExecOp::default() };
        let op = pb::Op { op: Some(pb::op::Op::Exec(exec)), ..pb::Op::default() };
        let found = of(&op);
        assert_eq!(found["command"], "make");
        assert_eq!(found["variable MODE"], "fast");
        assert_eq!(found["working directory"], "/src");
        assert!(!format!("{found:?}").contains("canary"));
    }

    #[test]
    fn an_address_loses_its_password() {
        let source = pb::SourceOp {
            identifier: "https://me:canary@example.com/a.tar".to_owned(),
            ..pb::SourceOp::default()
        };
        let op = pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() };
        assert_eq!(of(&op)["address"], "https://example.com/a.tar");
    }
}
