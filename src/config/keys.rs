//! Every key of `bk-sync.toml` with its kind and meaning, and the JSON Schema that editors read.
//! A test holds this table against the reader, key by key.

use serde_json::{Map, Value, json};

/// A key.
struct Key {
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
}

/// What a key's value is.
enum Kind {
    /// Anything.
    Any,
    /// True or false.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A command: the program and its arguments.
    Command,
    /// A list of ids, or `{ from = … }`.
    Functions,
    /// A secret's name, or a table with more.
    Lease,
    /// Tables by name.
    Named(&'static [Key]),
    /// A table of the first keys, or a list of tables of the second.
    OneOrSeveral(&'static [Key], &'static [Key]),
    /// A whole number in this range.
    Number(u16, u16),
    /// A table.
    Table(&'static [Key]),
    /// A list of tables.
    Tables(&'static [Key]),
    /// A string; placeholders may stand in it.
    Text,
    /// A table of strings.
    TextMap,
    /// A list of strings.
    Texts,
    /// A time with its unit.
    Time,
}

const fn key(name: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { name, kind, meaning }
}

const DEADLINES: &[Key] = &[
    key("preflight", Kind::Time, "How long the checks before anything changes may take."),
    key("build", Kind::Time, "How long the build may take."),
    key("push", Kind::Time, "How long the push may take."),
    key("rollout", Kind::Time, "How long the rollout may take, its rollback included."),
    key("verify", Kind::Time, "How long all checks may take."),
    key("record", Kind::Time, "How long telling of the deploy may take."),
];

const NAME: Key = key("name", Kind::Text, "The repository, such as `ghcr.io/me/app`.");
const TAGS: Key = key("tags", Kind::Texts, "Tags, such as `{git.sha}` and `latest`.");
const DIRTY: Key = key(
    "dirty",
    Kind::Choice(&["refuse", "suffix", "allow"]),
    "What becomes of changes that are not committed.",
);

const IMAGE: &[Key] = &[NAME, TAGS, DIRTY];

const IMAGES: &[Key] = &[
    key("id", Kind::Text, "What `--image` and `target:ID` call it [the last part of its name]."),
    NAME,
    TAGS,
    DIRTY,
    key("context", Kind::Text, "Its context, where it is not that of `[build]`."),
    key("file", Kind::Text, "Its Dockerfile, where it is not that of `[build]`."),
    key("platforms", Kind::Texts, "Its platforms, where they are not those of `[build]`."),
    key("target", Kind::Text, "Its stage."),
    key("args", Kind::TextMap, "Build arguments, over those of `[build]`."),
    key("contexts", Kind::TextMap, "Contexts beside it; `target:ID` is what another image makes."),
];

const KEYS: &[Key] = &[
    key(
        "build",
        Kind::Table(&[
            key("builder", Kind::Text, "The builder's address, as `--builder` takes it."),
            key("context", Kind::Text, "The context: a directory beside this file, or a URL."),
            key("file", Kind::Text, "The Dockerfile, relative to this file."),
            key("platforms", Kind::Texts, "Platforms, such as `linux/arm64`."),
            key("target", Kind::Text, "The stage to build; the last one where it is empty."),
            key("args", Kind::TextMap, "Build arguments."),
            key("contexts", Kind::TextMap, "Contexts beside it, as `--build-context` takes them."),
            key("base_keys", Kind::TextMap, "Keys that base images must be signed with, by image."),
            key(
                "cache",
                Kind::Table(&[
                    key("from", Kind::Texts, "Caches to read, as `--cache-from` takes them."),
                    key("to", Kind::Texts, "Caches to write, as `--cache-to` takes them."),
                    key(
                        "deadline",
                        Kind::Time,
                        "How long writing them may take, once the image is there.",
                    ),
                ]),
                "Caches beside the builder's own.",
            ),
        ]),
        "What is built, and where.",
    ),
    key("image", Kind::OneOrSeveral(IMAGE, IMAGES), "What the image is called; or several images."),
    key(
        "sign",
        Kind::Table(&[
            key("key", Kind::Text, "A private key in PEM, relative to this file."),
            key("key_env", Kind::Text, "The variable with the private key."),
            key("password_env", Kind::Text, "The variable with its password [COSIGN_PASSWORD]."),
            key("command", Kind::Command, "A command that signs stdin, or `{image}` by itself."),
            key("annotations", Kind::TextMap, "Words that are signed with the image's digest."),
        ]),
        "Who signs what is pushed.",
    ),
    key(
        "registry",
        Kind::Named(&[
            key("username", Kind::Text, "The user."),
            key("command", Kind::Command, "A command that prints the password or token."),
            key("secret_lease", Kind::Lease, "A secret of agent-secrets that is leased."),
            key("env", Kind::Text, "The variable with the password or token."),
            key("docker", Kind::Boolean, "Take the Docker config and its helpers."),
            key("revoke", Kind::Command, "A command that gives the lease back: `{lease_id}`."),
            key(
                "insecure",
                Kind::Boolean,
                "It may be spoken to without TLS, or with a certificate that nobody vouches for.",
            ),
            key("ca", Kind::Text, "A file of certificates of its authorities, in PEM."),
            key("mirrors", Kind::Texts, "Where to read before it is asked itself."),
        ]),
        "Who we are at each registry and how it is reached, by host.",
    ),
    key(
        "rollout",
        Kind::Table(&[
            key("context", Kind::Text, "The kubeconfig context."),
            key("namespace", Kind::Text, "The namespace."),
            key("workload", Kind::Text, "`KIND/NAME`, such as `deployment/app`."),
            key("container", Kind::Text, "The container whose image is set."),
            key("timeout", Kind::Time, "How long the new pods may take."),
            key(
                "on_failure",
                Kind::Choice(&["rollback", "keep"]),
                "What becomes of a rollout that fails.",
            ),
            key(
                "on_verify_failure",
                Kind::Choice(&["rollback", "keep"]),
                "What becomes of a rollout whose checks fail.",
            ),
        ]),
        "What runs the image.",
    ),
    key(
        "verify",
        Kind::Table(&[
            key(
                "http",
                Kind::Tables(&[
                    key("port", Kind::Number(1, u16::MAX), "The pod's port."),
                    key("path", Kind::Text, "The path."),
                    key(
                        "expect",
                        Kind::Table(&[
                            key("status", Kind::Number(100, 599), "The status."),
                            key("json", Kind::Any, "What the JSON must hold, by dotted path."),
                        ]),
                        "What the answer must be.",
                    ),
                    key("timeout", Kind::Time, "How long it may take to be so."),
                ]),
                "Requests to a new pod.",
            ),
            key(
                "exec",
                Kind::Tables(&[
                    key("command", Kind::Command, "What runs in the pod."),
                    key("container", Kind::Text, "The container."),
                    key(
                        "expect",
                        Kind::Table(&[
                            key("exit", Kind::Number(0, 255), "The exit code."),
                            key("stdout", Kind::Text, "What stdout must contain."),
                        ]),
                        "How it must end.",
                    ),
                    key("timeout", Kind::Time, "How long it may take."),
                ]),
                "Commands in a new pod.",
            ),
            key(
                "inngest",
                Kind::Table(&[
                    key("url", Kind::Text, "The Inngest server."),
                    key("app", Kind::Text, "The app's id."),
                    key(
                        "serve",
                        Kind::Table(&[
                            key("port", Kind::Number(1, u16::MAX), "The pod's port."),
                            key("path", Kind::Text, "The path."),
                        ]),
                        "Where the app serves its functions.",
                    ),
                    key("functions", Kind::Functions, "The functions that must be registered."),
                    key(
                        "stale_apps",
                        Kind::Choice(&["report", "delete"]),
                        "What becomes of apps that no pod serves any more.",
                    ),
                    key("stale_match", Kind::Texts, "Texts in the names or URLs of stale apps."),
                    key("sync", Kind::Choice(&["pod", "server"]), "Who is asked to register."),
                    key("signing_key_env", Kind::Text, "The variable with the signing key."),
                    key("indexes", Kind::Texts, "Source files (globs) that list functions."),
                    key("sources", Kind::Texts, "Source files (globs) that define functions."),
                    key(
                        "running",
                        Kind::Choice(&["report", "refuse"]),
                        "What becomes of a deploy while runs of the app go on.",
                    ),
                    key(
                        "cron_age",
                        Kind::Number(1, 1000),
                        "How old a cron's last completed run may be, in its cadences.",
                    ),
                    key("attempts", Kind::Number(1, 20), "How often registration is tried."),
                    key("timeout", Kind::Time, "How long all of it may take."),
                ]),
                "What an Inngest server must know.",
            ),
            key("timeout", Kind::Time, "How long a check may take that says nothing itself."),
        ]),
        "What must hold once the new pods run.",
    ),
    key(
        "record",
        Kind::Table(&[
            key("command", Kind::Command, "A command that is told of each deploy."),
            key(
                "http",
                Kind::Table(&[
                    key("url", Kind::Text, "The address."),
                    key("token_env", Kind::Text, "The variable with a bearer token."),
                ]),
                "An address that gets the receipt.",
            ),
            key("referrer", Kind::Boolean, "Push the receipt beside the image."),
            key("timeout", Kind::Time, "How long each of them may take."),
        ]),
        "Who is told of a deploy.",
    ),
    key(
        "deploy",
        Kind::Table(&[
            key("deadlines", Kind::Table(DEADLINES), "How long each stage may take."),
            key(
                "free_disk",
                Kind::Text,
                "What a builder on this machine must have free before a build, such as `2g`.",
            ),
        ]),
        "What holds for a deploy as a whole.",
    ),
    key(
        "hook",
        Kind::Tables(&[
            key(
                "stage",
                Kind::Choice(&["preflight", "build", "push", "rollout", "verify", "record"]),
                "The stage.",
            ),
            key("when", Kind::Choice(&["before", "after"]), "Before or after it."),
            key("command", Kind::Command, "What runs; the receipt so far is on its stdin."),
            key("timeout", Kind::Time, "How long it may take."),
        ]),
        "Commands before and after stages.",
    ),
];

/// The JSON Schema of `bk-sync.toml`, for editors.
pub fn json_schema() -> Value {
    let mut schema = table(KEYS);
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        schema.insert("title".to_owned(), json!("bk-sync.toml"));
    }
    schema
}

fn table(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = value(&key.kind);
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), json!(key.meaning));
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn value(kind: &Kind) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Any => json!({}),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::Command => json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        Kind::Functions => json!({ "oneOf": [
            texts(),
            {
                "type": "object",
                "additionalProperties": false,
                "properties": { "from": { "type": "string" } },
            },
        ] }),
        Kind::Lease => json!({ "oneOf": [
            { "type": "string" },
            {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": {
                    "name": { "type": "string" },
                    "ttl": { "type": "string" },
                    "client_id": { "type": "string" },
                    "socket": { "type": "string" },
                },
            },
        ] }),
        Kind::Named(keys) => json!({ "type": "object", "additionalProperties": table(keys) }),
        Kind::Number(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::OneOrSeveral(one, several) => json!({ "oneOf": [
            table(one),
            { "type": "array", "items": table(several) },
        ] }),
        Kind::Table(keys) => table(keys),
        Kind::Tables(keys) => json!({ "type": "array", "items": table(keys) }),
        Kind::Text => json!({ "type": "string" }),
        Kind::TextMap => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Kind::Texts => texts(),
        Kind::Time => json!({ "type": "string", "pattern": "^([0-9]+[smh])+$" }),
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS, Key, Kind, json_schema};
    use crate::config::{Config, ConfigError};
    use std::collections::BTreeSet;

    const UNKNOWN: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzz";

    /// The keys that the reader knows in a table: it lists them when it meets one that it does not.
    fn known(header: &str) -> BTreeSet<String> {
        let text = format!("{header}\n{UNKNOWN} = 1\n");
        let Err(ConfigError::Invalid { problems, .. }) = Config::parse("f".into(), text) else {
            panic!("{header}: the unknown key was taken");
        };
        let told = problems.iter().find(|problem| problem.message.contains(UNKNOWN));
        let hint = told.and_then(|problem| problem.hint.clone());
        let hint = hint.unwrap_or_else(|| panic!("{header}: {problems:?}"));
        let (_, list) = hint.rsplit_once(" are ").unwrap();
        list.split(", ").map(str::to_owned).collect()
    }

    fn compare(header: &str, path: &str, keys: &[Key]) {
        let listed: BTreeSet<String> = keys.iter().map(|key| key.name.to_owned()).collect();
        assert_eq!(
            known(header),
            listed,
            "`{header}`: the reader knows the left, the table the right"
        );
        for key in keys {
            let below =
                if path.is_empty() { key.name.to_owned() } else { format!("{path}.{}", key.name) };
            match key.kind {
                Kind::Table(keys) => compare(&format!("{}[{below}]", parent(header)), &below, keys),
                Kind::Tables(keys) => compare(&format!("[[{below}]]"), &below, keys),
                Kind::OneOrSeveral(one, several) => {
                    compare(&format!("[{below}]"), &below, one);
                    compare(&format!("[[{below}]]"), &below, several);
                }
                Kind::Named(keys) => {
                    compare(&format!("[{below}.\"h\"]"), &format!("{below}.\"h\""), keys);
                }
                _ => {}
            }
        }
    }

    /// What has to stand before a table inside an array's element.
    fn parent(header: &str) -> String {
        if header.starts_with("[[") { format!("{header}\n") } else { String::new() }
    }

    #[test]
    fn the_reader_knows_the_keys_of_the_table_and_no_other() {
        compare("", "", KEYS);
    }

    #[test]
    fn the_schema_in_the_repository_is_the_one_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/bk-sync.schema.json");
        let made = format!("{:#}\n", json_schema());
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        if made != kept {
            let fresh = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bk-sync.schema.json");
            std::fs::write(fresh, made).unwrap();
            panic!("`{path}` is not what the keys make: take over `{fresh}`");
        }
    }
}
