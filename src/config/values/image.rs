//! Flags about the image and its sources: `--platform`, `--build-arg`, `--label`, `--annotation`,
//! `--build-context`, `--allow`, `--network`.

use super::ValueError;
use crate::plan::{NamedContext, Network, normalize_platform};
use std::collections::BTreeMap;

/// The platforms of one flag, comma-separated, in their normal form.
pub(crate) fn platforms(text: &str) -> Result<Vec<String>, ValueError> {
    text.split(',')
        .map(|platform| {
            normalize_platform(platform).ok_or_else(|| {
                ValueError::new(
                    format!("`{platform}` is no platform"),
                    "write `OS/ARCH[/VARIANT]`, such as `linux/arm64`",
                )
            })
        })
        .collect()
}

/// `KEY=VALUE` flags by key; the last word on a key wins. A key without a value gets what
/// `default` knows for it, and is left out where it knows nothing.
pub(crate) fn key_values(
    texts: &[String],
    default: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, ValueError> {
    let mut values = BTreeMap::new();
    for text in texts {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), default(text)),
        };
        if key.is_empty() {
            return Err(ValueError::new(format!("`{text}` has no name"), "write `NAME=VALUE`"));
        }
        if let Some(value) = value {
            values.insert(key.to_owned(), value);
        }
    }
    Ok(values)
}

/// `[LEVEL[[PLATFORM]],…:]KEY=VALUE`, checked and kept as it is.
pub(crate) fn annotation(text: &str) -> Result<String, ValueError> {
    const EXAMPLE: &str = "write `KEY=VALUE`, or `LEVEL:KEY=VALUE` where LEVEL is `manifest`, \
        `index`, `manifest-descriptor` or `index-descriptor`, maybe with a platform in brackets";
    let wrong = |problem: String| Err(ValueError::new(problem, EXAMPLE));
    let Some((key, _)) = text.split_once('=') else {
        return wrong(format!("the annotation `{text}` has no value"));
    };
    let (levels, key) = match key.split_once(':') {
        Some((levels, key)) => (Some(levels), key),
        None => (None, key),
    };
    if key.is_empty() {
        return wrong(format!("the annotation `{text}` has no key"));
    }
    for level in levels.into_iter().flat_map(|levels| levels.split(',')) {
        let (name, platform) = match level.split_once('[') {
            Some((name, rest)) => (name, rest.strip_suffix(']').and_then(normalize_platform)),
            None => (level, Some(String::new())),
        };
        let known = ["manifest", "index", "manifest-descriptor", "index-descriptor"];
        if !known.contains(&name) || platform.is_none() {
            return wrong(format!("unknown annotation level `{level}`"));
        }
    }
    Ok(text.to_owned())
}

/// `NAME=VALUE`.
pub(crate) fn build_context(text: &str) -> Result<NamedContext, ValueError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            // The Dockerfile asks for `app` where the user names `app:latest`.
            let name = name.strip_suffix(":latest").unwrap_or(name);
            Ok(NamedContext { name: name.to_owned(), value: value.to_owned() })
        }
        _ => Err(ValueError::new(
            format!("`{text}` is no named context"),
            "write `NAME=VALUE`: a directory, a URL, `docker-image://…`, `oci-layout://…`",
        )),
    }
}

/// An entitlement that a builder can grant.
pub(crate) fn entitlement(text: &str) -> Result<String, ValueError> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, v)| (name, Some(v)));
    match (name, value) {
        ("network.host" | "security.insecure" | "device", None) | ("device", Some(_)) => {
            Ok(text.to_owned())
        }
        _ => Err(ValueError::new(
            format!("unknown entitlement `{text}`"),
            "the entitlements are `network.host`, `security.insecure` and `device[=NAME]`",
        )),
    }
}

/// The network of `RUN` steps.
pub(crate) fn network(text: &str) -> Result<Network, ValueError> {
    match text {
        "" | "default" => Ok(Network::Default),
        "host" => Ok(Network::Host),
        "none" => Ok(Network::None),
        _ => Err(ValueError::new(
            format!("unknown network `{text}`"),
            "the networks are `default`, `host` and `none`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::{annotation, build_context, entitlement, key_values, network, platforms};
    use crate::plan::Network;

    #[test]
    fn platforms_are_a_list_in_normal_form() {
        assert_eq!(platforms("linux/arm64,amd64").unwrap(), ["linux/arm64", "linux/amd64"]);
        assert_eq!(platforms("linux/aarch64").unwrap(), ["linux/arm64"]);
        assert_eq!(platforms("linux/arm64,").unwrap_err().problem, "`` is no platform");
    }

    #[test]
    fn arguments_without_a_value_come_from_the_environment_or_not_at_all() {
        let texts = ["A=1", "B", "C", "A=2", "D=x=y", "E="].map(str::to_owned);
        let values = key_values(&texts, |name| (name == "B").then(|| "b".to_owned())).unwrap();
        assert_eq!(format!("{values:?}"), r#"{"A": "2", "B": "b", "D": "x=y", "E": ""}"#);
        assert!(key_values(&["=1".to_owned()], |_| None).is_err());
    }

    #[test]
    fn annotations_have_a_key_and_maybe_levels() {
        for text in [
            "a=b",
            "index:a=b",
            "manifest[linux/arm64],index:org.opencontainers.image.title=x:y",
            "manifest-descriptor:a=",
        ] {
            assert_eq!(annotation(text).unwrap(), text);
        }
        for text in ["a", "=b", "index:=b", "layer:a=b", "manifest[]:a=b", "manifest[linux:a=b"] {
            assert!(annotation(text).is_err(), "{text}");
        }
    }

    #[test]
    fn named_contexts_lose_the_default_tag() {
        let context = build_context("alpine:latest=docker-image://alpine:3.22").unwrap();
        assert_eq!(
            (context.name.as_str(), context.value.as_str()),
            ("alpine", "docker-image://alpine:3.22")
        );
        for text in ["a", "a=", "=b", ""] {
            assert!(build_context(text).is_err(), "{text}");
        }
    }

    #[test]
    fn entitlements_and_networks_are_closed_lists() {
        for text in ["network.host", "security.insecure", "device", "device=vendor/gpu"] {
            assert_eq!(entitlement(text).unwrap(), text);
        }
        for text in ["", "network", "network.host=1", "buildx.local.delete"] {
            assert!(entitlement(text).is_err(), "{text}");
        }
        assert_eq!(network("host").unwrap(), Network::Host);
        assert!(network("bridge").is_err());
    }
}
