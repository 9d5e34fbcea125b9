//! `RUN --mount`: what can be told at once, and what only once variables are expanded.

use crate::dockerfile::ast::{Mount, MountFlag, MountKind, Run, Sharing};
use crate::dockerfile::csv;
use crate::dockerfile::error::MountError;
use crate::dockerfile::place::Span;
use crate::dockerfile::scalar;
use crate::dockerfile::suggest::suggest;

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Reads what needs no variables: the fields and `from`.
pub(super) fn read(text: String, span: Span) -> Result<MountFlag, MountError> {
    let mut from = String::new();
    for field in csv::fields(&text)? {
        let Some((key, value)) = field.split_once('=') else { continue };
        if key.eq_ignore_ascii_case("from") {
            // A dollar at the very end is no variable.
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(MountError::FromVariable);
            }
            value.clone_into(&mut from);
        }
    }
    Ok(MountFlag { text, from, span })
}

impl Run {
    /// The mounts, their values expanded by `expand`, in order.
    ///
    /// # Errors
    /// The first error of `expand`, or the first thing that is wrong with a mount.
    pub fn resolve_mounts<E: From<MountError>>(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, E>,
    ) -> Result<Vec<Mount>, E> {
        self.mounts.iter().map(|flag| flag.resolve(expand)).collect()
    }
}

impl MountFlag {
    /// The mount, its values expanded by `expand`.
    ///
    /// # Errors
    /// The first error of `expand`, or the first thing that is wrong with the mount.
    pub fn resolve<E: From<MountError>>(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, E>,
    ) -> Result<Mount, E> {
        let mut mount = Mount::default();
        let mut readonly = None;
        for field in csv::fields(&self.text).map_err(MountError::from)? {
            match field.split_once('=') {
                None => set_switch(&mut mount, &mut readonly, &field)?,
                Some((key, value)) => {
                    let value = expand(value)?;
                    set(&mut mount, &mut readonly, &field, &key.to_lowercase(), value)?;
                }
            }
        }
        check(&mount)?;
        let usual = !matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.readonly = readonly.unwrap_or(usual);
        Ok(mount)
    }
}

/// A field without a value.
fn set_switch(
    mount: &mut Mount,
    readonly: &mut Option<bool>,
    field: &str,
) -> Result<(), MountError> {
    match field.to_lowercase().as_str() {
        "readonly" | "ro" => *readonly = Some(true),
        "readwrite" | "rw" => *readonly = Some(false),
        key @ "required" => {
            only_for_secrets(mount, key)?;
            mount.required = true;
        }
        _ => return Err(MountError::NotPair(field.to_owned())),
    }
    Ok(())
}

/// A field with a value.
fn set(
    mount: &mut Mount,
    readonly: &mut Option<bool>,
    field: &str,
    key: &str,
    value: String,
) -> Result<(), MountError> {
    let boolean = |value: &str| {
        scalar::boolean(value)
            .ok_or_else(|| MountError::Value { key: key.to_owned(), value: value.to_owned() })
    };
    match key {
        "type" => mount.kind = kind(&value)?,
        "from" => mount.from = value,
        "source" | "src" => mount.source = value,
        "target" | "dst" | "destination" => mount.target = value,
        "readonly" | "ro" => *readonly = Some(boolean(&value)?),
        "readwrite" | "rw" => *readonly = Some(!boolean(&value)?),
        "required" => {
            only_for_secrets(mount, key)?;
            mount.required = boolean(&value)?;
        }
        "size" if mount.kind == MountKind::Tmpfs => {
            let size = scalar::size(&value);
            mount.size = size.ok_or(MountError::Value { key: key.to_owned(), value })?;
        }
        "size" => return Err(key_for_kind(mount, key)),
        "id" => mount.id = value,
        "sharing" => mount.sharing = Some(sharing(&value)?),
        "mode" => mount.mode = Some(number("mode", value, 8)?),
        "uid" => mount.uid = Some(number("uid", value, 10)?),
        "gid" => mount.gid = Some(number("gid", value, 10)?),
        "env" => mount.env = Some(value),
        _ => {
            return Err(MountError::UnknownKey {
                key: key.to_owned(),
                field: field.to_owned(),
                suggestion: suggest(key, KEYS).map(str::to_owned),
            });
        }
    }
    Ok(())
}

fn only_for_secrets(mount: &Mount, key: &str) -> Result<(), MountError> {
    match mount.kind {
        MountKind::Secret | MountKind::Ssh => Ok(()),
        _ => Err(key_for_kind(mount, key)),
    }
}

fn key_for_kind(mount: &Mount, key: &str) -> MountError {
    MountError::KeyForKind { key: key.to_owned(), kind: mount.kind.as_str() }
}

fn kind(text: &str) -> Result<MountKind, MountError> {
    let lower = text.to_lowercase();
    MountKind::ALL.into_iter().find(|kind| kind.as_str() == lower).ok_or_else(|| {
        let suggestion = suggest(text, MountKind::ALL.map(MountKind::as_str));
        MountError::Kind { kind: text.to_owned(), suggestion: suggestion.map(str::to_owned) }
    })
}

fn sharing(text: &str) -> Result<Sharing, MountError> {
    let lower = text.to_lowercase();
    Sharing::ALL.into_iter().find(|sharing| sharing.as_str() == lower).ok_or_else(|| {
        let suggestion = suggest(text, Sharing::ALL.map(Sharing::as_str));
        MountError::Sharing { sharing: text.to_owned(), suggestion: suggestion.map(str::to_owned) }
    })
}

/// Digits alone: a sign is no part of these numbers.
fn number(key: &'static str, value: String, radix: u32) -> Result<u32, MountError> {
    let number = u32::from_str_radix(&value, radix).ok().filter(|_| !value.starts_with('+'));
    number.ok_or(MountError::Number { key, value })
}

fn check(mount: &Mount) -> Result<(), MountError> {
    let kind = mount.kind.as_str();
    if matches!(mount.kind, MountKind::Bind | MountKind::Tmpfs) {
        let given = [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)]
            .into_iter()
            .find_map(|(key, value)| value.map(|_| key));
        if let Some(key) = given {
            return Err(MountError::OwnerForKind { key, kind });
        }
    }
    if mount.kind == MountKind::Secret {
        if !mount.from.is_empty() {
            return Err(MountError::SecretFrom);
        }
        if mount.sharing.is_some() {
            return Err(MountError::SecretSharing);
        }
        if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            return Err(MountError::SecretUnnamed);
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(MountError::SecretSourceAndId);
        }
    }
    if mount.sharing.is_some() && mount.kind != MountKind::Cache {
        return Err(MountError::SharingForKind(kind));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Mount, MountError, MountKind, Sharing, Span, read};

    fn mount(text: &str) -> Result<Mount, String> {
        let mut as_written = |word: &str| Ok::<_, MountError>(word.replace("$T", "tmpfs"));
        let flag = read(text.to_owned(), Span::default()).map_err(|error| error.to_string())?;
        flag.resolve(&mut as_written).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_usual_depends_on_the_type() {
        for (text, kind, readonly) in [
            ("target=/a", MountKind::Bind, true),
            ("target=/a,rw", MountKind::Bind, false),
            ("Type=Cache,target=/a", MountKind::Cache, false),
            ("type=cache,target=/a,readonly", MountKind::Cache, true),
            ("type=$T,dst=/a,size=1m", MountKind::Tmpfs, false),
            ("type=ssh,required", MountKind::Ssh, true),
            ("type=bind,readwrite=false", MountKind::Bind, true),
        ] {
            let mount = mount(text).unwrap();
            assert_eq!((mount.kind, mount.readonly), (kind, readonly), "{text}");
        }
    }

    #[test]
    fn all_keys_have_their_place() {
        let all = "type=cache,id=i,src=/s,target=/t,from=f,sharing=Locked,mode=0755,uid=1,gid=2";
        let expected = Mount {
            kind: MountKind::Cache,
            from: "f".into(),
            source: "/s".into(),
            target: "/t".into(),
            id: "i".into(),
            sharing: Some(Sharing::Locked),
            mode: Some(0o755),
            uid: Some(1),
            gid: Some(2),
            ..Mount::default()
        };
        assert_eq!(mount(all), Ok(expected));
        assert_eq!(mount("type=secret,id=a,env=").unwrap().env.as_deref(), Some(""));
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, message) in [
            ("", "failed to parse csv mounts: EOF"),
            ("from=$a", "'from' doesn't support variable expansion, define alias stage instead"),
            ("type=cahce", "unsupported mount type \"cahce\" (did you mean cache?)"),
            (
                "type=cache,sharing=lokced",
                "unsupported sharing value \"lokced\" (did you mean locked?)",
            ),
            ("nonsense", "invalid field 'nonsense' must be a key=value pair"),
            ("targte=/a", "unexpected key 'targte' in 'targte=/a' (did you mean target?)"),
            ("type=cache,size=1", "unexpected key 'size' for mount type 'cache'"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("type=tmpfs,size=x", "invalid value for size: x"),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("type=cache,uid=+1", "invalid value +1 for uid"),
            ("uid=1", "uid not allowed for \"bind\" type mounts"),
            ("type=secret,from=a,id=b", "secret mount should not have a from"),
            ("type=secret,sharing=shared,id=b", "secret mount should not define sharing"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,src=a,id=b", "both source and id can't be set"),
            ("sharing=shared", "invalid cache sharing set for bind mount"),
        ] {
            assert_eq!(mount(text), Err(message.to_owned()), "{text}");
        }
        assert!(mount("from=a$").is_ok());
        assert!(mount("type=secret,target=/a,env=B").is_ok());
    }
}
