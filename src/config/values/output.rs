//! `-o/--output`.

use super::{
    ValueError,
    fields::{fields, pairs},
};
use crate::plan::{Output, OutputKind, OutputTarget};
use std::{collections::BTreeMap, path::PathBuf};

const EXAMPLE: &str = "type=oci,dest=image.tar";

/// An output. `DIR` is short for `type=local,dest=DIR`, `-` for a tar archive on stdout, and
/// `type=registry` for an image with `push=true`.
pub(crate) fn output(text: &str) -> Result<Output, ValueError> {
    if text == "-" {
        return Ok(Output {
            kind: OutputKind::Tar,
            attributes: BTreeMap::new(),
            target: Some(OutputTarget::Stdout),
        });
    }
    let bare = fields(text)?;
    if let [only] = bare.as_slice()
        && only == text
        && !text.starts_with("type=")
        && !text.is_empty()
    {
        return Ok(Output {
            kind: OutputKind::Local,
            attributes: BTreeMap::new(),
            target: Some(OutputTarget::Path(PathBuf::from(text))),
        });
    }
    let mut attributes: BTreeMap<_, _> = pairs(text, EXAMPLE)?.into_iter().collect();
    let kind = match attributes.remove("type").unwrap_or_default().as_str() {
        "cacheonly" => OutputKind::CacheOnly,
        "docker" => OutputKind::Docker,
        "image" => OutputKind::Image,
        "local" => OutputKind::Local,
        "oci" => OutputKind::Oci,
        "registry" => {
            attributes.entry("push".to_owned()).or_insert_with(|| "true".to_owned());
            OutputKind::Image
        }
        "tar" => OutputKind::Tar,
        "" => {
            return Err(ValueError::new(
                format!("the output `{text}` has no type"),
                format!("write it like `{EXAMPLE}`"),
            ));
        }
        other => {
            return Err(ValueError::new(
                format!("unknown output type `{other}`"),
                "the types are `cacheonly`, `docker`, `image`, `local`, `oci`, `registry` and `tar`",
            ));
        }
    };
    let target = attributes.remove("dest").filter(|dest| !dest.is_empty()).map(|dest| {
        if dest == "-" { OutputTarget::Stdout } else { OutputTarget::Path(PathBuf::from(dest)) }
    });
    match (kind, &target) {
        (OutputKind::CacheOnly | OutputKind::Image, Some(_)) => Err(ValueError::new(
            format!("`{text}` writes nothing here, so it takes no `dest`"),
            "leave `dest` out, or choose `type=oci`, `docker`, `tar` or `local`",
        )),
        (OutputKind::Local | OutputKind::Oci | OutputKind::Tar, None) => Err(ValueError::new(
            format!("`{text}` does not say where to write"),
            "add `dest=PATH`, or `dest=-` for stdout (not for `local`)",
        )),
        (OutputKind::Local, Some(OutputTarget::Stdout)) => Err(ValueError::new(
            "a directory cannot go to stdout",
            "name a directory (`dest=DIR`), or choose `type=tar`",
        )),
        _ => Ok(Output { kind, attributes, target }),
    }
}

#[cfg(test)]
mod tests {
    use super::output;

    fn shown(text: &str) -> String {
        match output(text) {
            Ok(output) => {
                format!("{:?} {:?} {:?}", output.kind, output.attributes, output.target)
            }
            Err(error) => format!("{error}; {}", error.hint),
        }
    }

    #[test]
    fn outputs_as_buildx_spells_them() {
        let table = [
            ("out", r#"Local {} Some(Path("out"))"#),
            ("-", "Tar {} Some(Stdout)"),
            ("type=local,dest=out", r#"Local {} Some(Path("out"))"#),
            ("type=tar,dest=-", "Tar {} Some(Stdout)"),
            (
                "type=oci,dest=x.tar,Compression=zstd",
                r#"Oci {"compression": "zstd"} Some(Path("x.tar"))"#,
            ),
            ("type=oci,tar=false,dest=d", r#"Oci {"tar": "false"} Some(Path("d"))"#),
            ("type=docker", "Docker {} None"),
            ("type=image,name=a/b,push=true", r#"Image {"name": "a/b", "push": "true"} None"#),
            (r#"type=image,"name=a,b""#, r#"Image {"name": "a,b"} None"#),
            ("type=registry", r#"Image {"push": "true"} None"#),
            ("type=cacheonly", "CacheOnly {} None"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_fix() {
        let table = [
            ("", "the field `` is no `key=value` pair; write it like `type=oci,dest=image.tar`"),
            (
                "dest=a,b=c",
                "the output `dest=a,b=c` has no type; write it like `type=oci,dest=image.tar`",
            ),
            (
                "type=zip",
                "unknown output type `zip`; the types are `cacheonly`, `docker`, `image`, `local`, `oci`, `registry` and `tar`",
            ),
            (
                "type=oci",
                "`type=oci` does not say where to write; add `dest=PATH`, or `dest=-` for stdout (not for `local`)",
            ),
            (
                "type=local,dest=-",
                "a directory cannot go to stdout; name a directory (`dest=DIR`), or choose `type=tar`",
            ),
            (
                "type=image,dest=x",
                "`type=image,dest=x` writes nothing here, so it takes no `dest`; leave `dest` out, or choose `type=oci`, `docker`, `tar` or `local`",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
