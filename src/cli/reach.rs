//! How registries are reached, by the environment, `[registry]` and what lies where Docker has it.

use super::{environment::Environment, failure::usage};
use crate::{
    config::{Config, Located},
    credential::RegistryHost,
    diagnostic::{Diagnostic, Exit},
    registry::Reach,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const INSECURE: &str = "BK_SYNC_REGISTRY_INSECURE";
const MIRRORS: &str = "BK_SYNC_REGISTRY_MIRRORS";
const AUTHORITIES: &str = "BK_SYNC_REGISTRY_CA";
/// Where certificates for registries lie, as Docker and containerd have it.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// How registries are reached, of which `hosts` are certainly spoken to. What the environment says is
/// added to what the config file says; only `insecure = false` takes something back.
///
/// # Errors
/// A file of certificates that cannot be read, or a variable that is not of its form.
pub(super) fn reach(
    hosts: BTreeSet<RegistryHost>,
    config: Option<&Config>,
    environment: &Environment,
) -> Result<Reach, Box<Diagnostic>> {
    let mut reach = of_environment(environment)?;
    if let Some(config) = config {
        of_config(&mut reach, config)?;
    }
    for host in hosts.into_iter().chain(certified()) {
        let certificates = certificates(&Path::new(CERTIFICATES).join(host.as_str()));
        reach.authorities.entry(host).or_default().extend(certificates);
    }
    Ok(reach)
}

fn of_environment(environment: &Environment) -> Result<Reach, Box<Diagnostic>> {
    let mut reach = Reach::default();
    let list = |name: &str| {
        let text = environment.non_empty(name).unwrap_or_default();
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    reach.insecure = list(INSECURE).iter().map(|host| RegistryHost::new(host)).collect();
    for word in list(MIRRORS) {
        let (registry, mirror) = word.split_once('=').ok_or_else(|| {
            usage(
                format!("`{MIRRORS}`: `{word}` is not REGISTRY=MIRROR"),
                "write it as `docker.io=mirror.example`",
            )
        })?;
        let mirrors = reach.mirrors.entry(RegistryHost::new(registry)).or_default();
        mirrors.push(mirror.to_owned());
    }
    if let Some(path) = environment.path(AUTHORITIES) {
        let pem = fs::read(&path).map_err(|error| {
            let message = format!("cannot read `{}`: {error}", path.display());
            usage(message, format!("name a file of certificates in `{AUTHORITIES}`"))
        })?;
        reach.common_authorities.push(pem);
    }
    Ok(reach)
}

/// What `[registry.HOST]` says.
fn of_config(reach: &mut Reach, config: &Config) -> Result<(), Box<Diagnostic>> {
    for (name, section) in &config.sections.registries {
        let host = RegistryHost::new(name);
        match section.reach.insecure {
            Some(Located { value: true, .. }) => _ = reach.insecure.insert(host.clone()),
            Some(Located { value: false, .. }) => _ = reach.insecure.remove(&host),
            None => {}
        }
        if let Some(ca) = &section.reach.ca {
            let path = config.directory().join(&ca.value);
            let pem = fs::read(&path).map_err(|error| {
                let message = format!("cannot read `{}`: {error}", path.display());
                Diagnostic::new("CONFIG_INVALID", Exit::Usage, message)
                    .with_excerpt(config.excerpt(ca.span.clone()))
                    .with_fix("name a file of certificates in PEM; the path is relative to the config file")
            })?;
            reach.authorities.entry(host.clone()).or_default().push(pem);
        }
        if !section.reach.mirrors.is_empty() {
            let mirrors = section.reach.mirrors.iter().map(|mirror| mirror.value.clone());
            reach.mirrors.entry(host).or_default().extend(mirrors);
        }
    }
    Ok(())
}

/// The registries that have a directory with certificates.
fn certified() -> impl Iterator<Item = RegistryHost> {
    let entries = fs::read_dir(CERTIFICATES).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(RegistryHost::new(entry.file_name().to_str()?)))
}

/// The authorities in a registry's directory. What cannot be read is not there.
fn certificates(directory: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "crt"));
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::reach;
    use crate::{cli::Environment, config::Config, credential::RegistryHost};
    use std::{collections::BTreeSet, fs};

    #[test]
    fn the_environment_says_how_registries_are_reached() {
        let of = |variables: &[(&str, &str)]| {
            reach(BTreeSet::new(), None, &Environment::fixed(variables.iter().copied()))
        };
        let made = of(&[
            ("BK_SYNC_REGISTRY_INSECURE", "r.lan:5000, other.lan"),
            ("BK_SYNC_REGISTRY_MIRRORS", "docker.io=m.example,docker.io=http://n"),
        ])
        .unwrap();
        assert!(made.insecure.contains(&RegistryHost::new("r.lan:5000")));
        let mirrors = &made.mirrors[&RegistryHost::new("index.docker.io")];
        assert_eq!(mirrors, &["m.example", "http://n"]);
        assert!(of(&[("BK_SYNC_REGISTRY_MIRRORS", "x")]).is_err());
        assert!(of(&[("BK_SYNC_REGISTRY_CA", "/nowhere/ca.pem")]).is_err());
    }

    #[test]
    fn the_config_file_says_it_too_and_the_environment_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "PEM").unwrap();
        let text = "[registry.\"r.lan:5000\"]\ninsecure = true\nca = \"ca.pem\"\n\
                    mirrors = [\"b.example\"]\n[registry.\"strict.lan\"]\ninsecure = false\n";
        let file = folder.path().join("bk-sync.toml");
        let config = Config::parse(file.clone(), text.to_owned()).unwrap();
        let environment = Environment::fixed([
            ("BK_SYNC_REGISTRY_MIRRORS", "r.lan:5000=a.example"),
            ("BK_SYNC_REGISTRY_INSECURE", "strict.lan,loose.lan"),
        ]);
        let made = reach(BTreeSet::new(), Some(&config), &environment).unwrap();
        let host = RegistryHost::new("r.lan:5000");
        assert_eq!(made.mirrors[&host], ["a.example", "b.example"]);
        assert_eq!(made.authorities[&host], [b"PEM"]);
        let insecure: Vec<&str> = made.insecure.iter().map(RegistryHost::as_str).collect();
        assert_eq!(insecure, ["loose.lan", "r.lan:5000"]);

        let missing = "[registry.\"r.lan\"]\nca = \"gone.pem\"\n".to_owned();
        let config = Config::parse(file, missing).unwrap();
        let error = reach(BTreeSet::new(), Some(&config), &environment).unwrap_err();
        assert!(error.message.contains("gone.pem") && !error.excerpts.is_empty(), "{error:?}");
    }
}
