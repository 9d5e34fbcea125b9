//! Several builders for one build, and which of them builds which platform.

use super::normalize_platform;

/// A builder of a list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedBuilder {
    /// Its address.
    pub address: String,
    /// The platform that it is for; none where it is for what it can do best.
    pub platform: Option<String>,
}

/// What a builder runs, as `OS/ARCH[/VARIANT]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ability {
    /// Its own platform; none where it does not say.
    pub native: Option<String>,
    /// What it runs besides, some of it by emulation.
    pub others: Vec<String>,
}

/// What one builder has to build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// The builder, by its place in the list.
    pub builder: usize,
    /// The platforms.
    pub platforms: Vec<String>,
    /// Those of them that are not of the builder's own kind of processor.
    pub emulated: Vec<String>,
}

/// Reads `[PLATFORM=]ADDRESS,…`. None where it is one address and nothing more.
///
/// # Errors
/// What stands where a platform belongs is none.
pub fn listed_builders(text: &str) -> Result<Option<Vec<ListedBuilder>>, String> {
    let mut builders = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        // An address may have `=` behind its scheme.
        let named = entry.split_once('=').filter(|(left, _)| !left.contains("://"));
        builders.push(match named {
            Some((platform, address)) => ListedBuilder {
                address: address.to_owned(),
                platform: Some(normalize_platform(platform).ok_or_else(|| platform.to_owned())?),
            },
            None => ListedBuilder { address: entry.to_owned(), platform: None },
        });
    }
    let is_plain = builders.len() < 2 && builders.iter().all(|one| one.platform.is_none());
    Ok((!is_plain).then_some(builders))
}

/// Gives each platform to a builder: to the one that is listed for it, else to one of that kind,
/// else to one that emulates it. Builders that get nothing are left out.
///
/// # Errors
/// The platform that nobody can build.
pub fn divide(
    platforms: &[String],
    builders: &[(ListedBuilder, Ability)],
) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Part> = Vec::new();
    for platform in platforms {
        let free = |(listed, _): &(ListedBuilder, Ability)| listed.platform.is_none();
        let chosen = builders
            .iter()
            .position(|(listed, _)| listed.platform.as_ref() == Some(platform))
            .or_else(|| {
                builders.iter().position(|one| {
                    free(one) && one.1.native.as_deref().is_some_and(|own| is_kin(own, platform))
                })
            })
            .or_else(|| {
                builders.iter().position(|one| free(one) && one.1.others.contains(platform))
            })
            .ok_or_else(|| platform.clone())?;
        let native = builders.get(chosen).and_then(|(_, ability)| ability.native.as_deref());
        let is_emulated = native.is_some_and(|own| !is_kin(own, platform));
        let known = parts.iter_mut().position(|part| part.builder == chosen);
        let place = known.unwrap_or_else(|| {
            parts.push(Part { builder: chosen, platforms: Vec::new(), emulated: Vec::new() });
            parts.len() - 1
        });
        if let Some(part) = parts.get_mut(place) {
            part.platforms.push(platform.clone());
            part.emulated.extend(is_emulated.then(|| platform.clone()));
        }
    }
    Ok(parts)
}

/// Whether both are of one system and architecture.
fn is_kin(left: &str, right: &str) -> bool {
    let kind = |text: &str| text.split('/').take(2).map(str::to_owned).collect::<Vec<_>>();
    kind(left) == kind(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: Option<&str>, address: &str) -> ListedBuilder {
        ListedBuilder { address: address.to_owned(), platform: platform.map(ToOwned::to_owned) }
    }

    #[test]
    fn a_list_has_commas_or_platforms_and_one_address_is_none() {
        for plain in ["unix:///run/a.sock", "kube-pod://a?namespace=b", "docker://", ""] {
            assert_eq!(listed_builders(plain), Ok(None), "{plain}");
        }
        assert_eq!(
            listed_builders("linux/aarch64=ssh://a, unix:///b"),
            Ok(Some(vec![entry(Some("linux/arm64"), "ssh://a"), entry(None, "unix:///b")]))
        );
        assert_eq!(
            listed_builders("linux/amd64=kube-pod://a?namespace=b"),
            Ok(Some(vec![entry(Some("linux/amd64"), "kube-pod://a?namespace=b")]))
        );
        assert_eq!(listed_builders("a b=unix:///c"), Err("a b".to_owned()));
    }

    #[test]
    fn a_platform_goes_to_who_is_named_then_to_kin_then_to_an_emulator() {
        let ability = |native: &str, others: &[&str]| Ability {
            native: Some(native.to_owned()),
            others: others.iter().map(|one| (*one).to_owned()).collect(),
        };
        let amd64 = (entry(None, "x"), ability("linux/amd64", &["linux/arm64", "linux/s390x"]));
        let arm64 = (entry(None, "y"), ability("linux/arm64", &["linux/amd64"]));
        let platforms =
            |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let both = platforms(&["linux/arm64", "linux/amd64", "linux/s390x"]);
        let part = |builder, list: &[&str], emulated: &[&str]| Part {
            builder,
            platforms: platforms(list),
            emulated: platforms(emulated),
        };
        assert_eq!(
            divide(&both, &[amd64, arm64.clone()]),
            Ok(vec![
                part(1, &["linux/arm64"], &[]),
                part(0, &["linux/amd64", "linux/s390x"], &["linux/s390x"])
            ])
        );
        let named = (entry(Some("linux/arm64"), "z"), ability("linux/amd64", &[]));
        assert_eq!(
            divide(&both[..1], &[arm64.clone(), named.clone()]),
            Ok(vec![part(1, &["linux/arm64"], &["linux/arm64"])])
        );
        assert_eq!(divide(&both, &[named, arm64]), Err("linux/s390x".to_owned()));
    }
}
