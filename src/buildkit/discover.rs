//! Which builder to use: the one that was named, or the first that answers where builders are
//! usually found.

use super::{
    address::{Address, AddressError, Docker},
    dial::{Cause, ConnectError, Connection, Options, connect},
};
use crate::{
    engine::{ContextError, Endpoint, Origin, Reader, Settings},
    transport::{OpenError, tls},
};
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// How long a place that nobody named may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// All that decides which builder is used, as read from flags, environment and config.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--builder`.
    pub flag: Option<String>,
    /// `BK_SYNC_BUILDER`.
    pub bk_sync_builder: Option<String>,
    /// `BUILDKIT_HOST`.
    pub buildkit_host: Option<String>,
    /// The builder of the config file.
    pub config: Option<String>,
    /// What decides which Engine `docker` would speak to.
    pub docker: Settings,
    /// The home directory.
    pub home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Our user id: where there is no `XDG_RUNTIME_DIR`, sockets may be in `/run/user/UID`.
    pub uid: u32,
}

/// A builder that may be there.
#[derive(Debug)]
pub struct Candidate {
    /// Who says so.
    pub source: Source,
    /// Where it is, or why that cannot be said.
    pub target: Result<Target, BadTarget>,
}

/// Where a builder may be, and how to speak to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// The material for TLS that belongs to it; none where that of [`Options`] holds.
    pub tls: Option<tls::Files>,
}

/// Why a candidate has no address.
#[derive(Debug, Error)]
pub enum BadTarget {
    /// What was named is no address.
    #[error(transparent)]
    Address(AddressError),
    /// Docker's own settings name no Engine.
    #[error(transparent)]
    Context(ContextError),
}

/// Who named a builder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// The config file.
    Config,
    /// The current context of Docker's config file.
    CurrentContext,
    /// This environment variable.
    Environment(&'static str),
    /// `--builder`.
    Flag,
    /// Nobody: it is where this program usually listens.
    Usual(&'static str),
}

impl Source {
    /// Whether somebody decided on this builder: then no other is tried.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Config | Self::Environment(_) | Self::Flag)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => formatter.write_str("the config file"),
            Self::CurrentContext => formatter.write_str("the current Docker context"),
            Self::Environment(name) => write!(formatter, "`{name}`"),
            Self::Flag => formatter.write_str("`--builder`"),
            Self::Usual(program) => write!(formatter, "the usual place of {program}"),
        }
    }
}

/// The builders to try, in this order. Where somebody decided on one, it is the only one.
pub fn candidates(inputs: &Inputs, read: Reader<'_>) -> Vec<Candidate> {
    let named = [
        (Source::Flag, &inputs.flag),
        (Source::Environment("BK_SYNC_BUILDER"), &inputs.bk_sync_builder),
        (Source::Environment("BUILDKIT_HOST"), &inputs.buildkit_host),
        (Source::Config, &inputs.config),
    ];
    for (source, text) in named {
        if let Some(text) = text.as_deref().filter(|text| !text.trim().is_empty()) {
            let target = text.parse().map(|address| Target { address, tls: None });
            return vec![Candidate { source, target: target.map_err(BadTarget::Address) }];
        }
    }
    let mut found = Vec::new();
    if let Some(candidate) = of_docker(&inputs.docker, read) {
        let decided = candidate.source.is_final();
        found.push(candidate);
        if decided {
            return found;
        }
    }
    for (program, address) in usual(inputs) {
        let known = found.iter().any(|one: &Candidate| {
            one.target.as_ref().is_ok_and(|target| target.address == address)
        });
        if !known {
            let target = Ok(Target { address, tls: None });
            found.push(Candidate { source: Source::Usual(program), target });
        }
    }
    found
}

/// The Engine that `docker` would speak to, unless that is just its usual socket.
fn of_docker(settings: &Settings, read: Reader<'_>) -> Option<Candidate> {
    let is_set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    let source = if is_set(&settings.host) {
        Source::Environment("DOCKER_HOST")
    } else if is_set(&settings.context) {
        Source::Environment("DOCKER_CONTEXT")
    } else {
        Source::CurrentContext
    };
    let target = match settings.resolve(None, read) {
        Ok(target) if target.origin == Origin::Usual && !source.is_final() => return None,
        Ok(target) => {
            let address = Address::Docker(Docker::At(target.endpoint));
            Ok(Target { address, tls: Some(target.tls) })
        }
        Err(error) => Err(BadTarget::Context(error)),
    };
    Some(Candidate { source, target })
}

/// Where builders listen when nobody says otherwise.
fn usual(inputs: &Inputs) -> Vec<(&'static str, Address)> {
    let docker = |path: PathBuf| Address::Docker(Docker::At(Endpoint::Unix(path)));
    let runtime = inputs
        .runtime_dir
        .clone()
        .unwrap_or_else(|| Path::new("/run/user").join(inputs.uid.to_string()));
    let mut places = vec![("Docker", docker(PathBuf::from("/var/run/docker.sock")))];
    if let Some(home) = &inputs.home {
        for (program, path) in [
            ("Docker Desktop", ".docker/desktop/docker.sock"),
            ("Docker Desktop", ".docker/run/docker.sock"),
            ("Colima", ".colima/default/docker.sock"),
            ("Colima", ".config/colima/default/docker.sock"),
            ("Rancher Desktop", ".rd/docker.sock"),
            ("OrbStack", ".orbstack/run/docker.sock"),
        ] {
            places.push((program, docker(home.join(path))));
        }
    }
    places.push(("rootless Docker", docker(runtime.join("docker.sock"))));
    places.push(("buildkitd", Address::Unix(PathBuf::from("/run/buildkit/buildkitd.sock"))));
    places.push(("rootless buildkitd", Address::Unix(runtime.join("buildkit/buildkitd.sock"))));
    places
}

/// A builder that answered, and who named it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The builder.
    pub connection: Connection,
    /// Who named it.
    pub source: Source,
}

/// Connects to the builder that was named, or to the first one that answers.
///
/// # Errors
/// None does: the miss tells what was tried and how each answered.
pub async fn discover(inputs: &Inputs, options: &Options) -> Result<Found, Miss> {
    let mut tried = Vec::new();
    for Candidate { source, target } in candidates(inputs, &|path| std::fs::read(path)) {
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                tried.push(Tried { source, outcome: Outcome::NoAddress(error) });
                continue;
            }
        };
        let mut options = options.clone();
        options.docker = inputs.docker.clone();
        if let Some(tls) = target.tls {
            options.tls = tls;
        }
        if matches!(source, Source::Usual(_)) {
            options.timeout = options.timeout.min(PATIENCE);
        }
        match connect(&target.address, &options).await {
            Ok(connection) => return Ok(Found { connection, source }),
            Err(error) => tried.push(Tried { source, outcome: Outcome::NoAnswer(error) }),
        }
    }
    Err(Miss { tried })
}

/// No builder answered.
#[derive(Debug)]
pub struct Miss {
    /// What was tried, in this order.
    pub tried: Vec<Tried>,
}

/// A candidate that is no builder.
#[derive(Debug)]
pub struct Tried {
    /// Who named it.
    pub source: Source,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a candidate is no builder.
#[derive(Debug, Error)]
pub enum Outcome {
    /// It has no address.
    #[error(transparent)]
    NoAddress(BadTarget),
    /// Nobody answers there, or somebody else does.
    #[error(transparent)]
    NoAnswer(ConnectError),
}

impl Tried {
    /// Whether there is simply nothing.
    fn is_absent(&self) -> bool {
        let Outcome::NoAnswer(error) = &self.outcome else { return false };
        match error.cause.as_ref() {
            Cause::Open(open) | Cause::Engine(crate::engine::Error::Open(open)) => {
                matches!(open, OpenError::Missing { .. })
            }
            _ => false,
        }
    }

    fn fix(&self) -> Option<String> {
        match &self.outcome {
            Outcome::NoAddress(BadTarget::Address(error)) => Some(error.fix()),
            Outcome::NoAddress(BadTarget::Context(error)) => Some(error.fix()),
            Outcome::NoAnswer(error) => error.fix(),
        }
    }
}

impl Miss {
    /// Whether what was named cannot be an address: a mistake in the arguments or the config, and
    /// nobody was dialled.
    pub fn is_misnamed(&self) -> bool {
        matches!(
            self.tried.as_slice(),
            [Tried { outcome: Outcome::NoAddress(BadTarget::Address(_)), source }] if source.is_final()
        )
    }

    /// What the user can do.
    pub fn fix(&self) -> String {
        // A place where something is, and yet no builder answers, is what the user has in mind.
        let telling = self.tried.iter().find(|tried| tried.source.is_final() || !tried.is_absent());
        telling.and_then(Tried::fix).unwrap_or_else(|| {
            "start Docker or buildkitd, or name a builder with `--builder` (such as \
             `--builder ssh://user@host`)"
                .to_owned()
        })
    }
}

impl std::error::Error for Miss {}

impl fmt::Display for Miss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [Tried { source, outcome }] = self.tried.as_slice()
            && source.is_final()
        {
            return write!(formatter, "{outcome} (named by {source})");
        }
        formatter.write_str("no builder was found; tried:")?;
        for tried in &self.tried {
            write!(formatter, "\n  {}: ", tried.source)?;
            match &tried.outcome {
                Outcome::NoAnswer(error) if tried.is_absent() => {
                    write!(formatter, "nothing at `{}`", error.address)?;
                }
                outcome => write!(formatter, "{outcome}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BadTarget, Candidate, Inputs, Source, candidates};
    use crate::engine::Settings;
    use std::{
        io,
        path::{Path, PathBuf},
    };

    fn inputs() -> Inputs {
        Inputs {
            docker: Settings {
                config_dir: Some(PathBuf::from("/h/.docker")),
                ..Settings::default()
            },
            home: Some(PathBuf::from("/h")),
            uid: 1000,
            ..Inputs::default()
        }
    }

    /// A Docker config whose current context is `far`.
    fn far(path: &Path) -> io::Result<Vec<u8>> {
        let text = if path.ends_with("config.json") {
            r#"{"currentContext":"far"}"#
        } else if path.ends_with("meta.json") {
            r#"{"Endpoints":{"docker":{"Host":"ssh://ann@far"}}}"#
        } else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(text.into())
    }

    fn nothing(_: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        let one = |candidate: &Candidate| match &candidate.target {
            Ok(target) => format!("{} {}", candidate.source, target.address),
            Err(error) => format!("{} {error}", candidate.source),
        };
        candidates.iter().map(one).collect()
    }

    #[test]
    fn who_is_named_first_is_the_only_one() {
        let all = Inputs {
            flag: Some("tcp://flag:1".to_owned()),
            bk_sync_builder: Some("tcp://ours:1".to_owned()),
            buildkit_host: Some("tcp://buildkit:1".to_owned()),
            config: Some("tcp://config:1".to_owned()),
            docker: Settings {
                host: Some("tcp://docker:1".to_owned()),
                context: Some("far".to_owned()),
                ..inputs().docker
            },
            ..inputs()
        };
        let mut rest = all;
        let mut order = Vec::new();
        for _ in 0..6 {
            let found = candidates(&rest, &far);
            assert_eq!(found.len(), 1);
            assert!(found[0].source.is_final());
            order.extend(shown(&found));
            match found[0].source {
                Source::Flag => rest.flag = None,
                // An empty variable is as good as none.
                Source::Environment("BK_SYNC_BUILDER") => {
                    rest.bk_sync_builder = Some(String::new());
                }
                Source::Environment("BUILDKIT_HOST") => rest.buildkit_host = None,
                Source::Config => rest.config = None,
                Source::Environment("DOCKER_HOST") => rest.docker.host = Some(String::new()),
                _ => rest.docker.context = None,
            }
        }
        assert_eq!(
            order,
            [
                "`--builder` tcp://flag:1",
                "`BK_SYNC_BUILDER` tcp://ours:1",
                "`BUILDKIT_HOST` tcp://buildkit:1",
                "the config file tcp://config:1",
                "`DOCKER_HOST` docker://docker:1",
                "`DOCKER_CONTEXT` docker+ssh://ann@far",
            ]
        );
        let found = candidates(&rest, &far);
        assert_eq!(found[0].source, Source::CurrentContext);
        assert!(found.len() > 1, "a current context may be a leftover: others are tried too");
    }

    #[test]
    fn where_builders_are_usually_found() {
        assert_eq!(
            shown(&candidates(&inputs(), &nothing)),
            [
                "the usual place of Docker docker:///var/run/docker.sock",
                "the usual place of Docker Desktop docker:///h/.docker/desktop/docker.sock",
                "the usual place of Docker Desktop docker:///h/.docker/run/docker.sock",
                "the usual place of Colima docker:///h/.colima/default/docker.sock",
                "the usual place of Colima docker:///h/.config/colima/default/docker.sock",
                "the usual place of Rancher Desktop docker:///h/.rd/docker.sock",
                "the usual place of OrbStack docker:///h/.orbstack/run/docker.sock",
                "the usual place of rootless Docker docker:///run/user/1000/docker.sock",
                "the usual place of buildkitd unix:///run/buildkit/buildkitd.sock",
                "the usual place of rootless buildkitd unix:///run/user/1000/buildkit/buildkitd.sock",
            ]
        );
        let homeless =
            Inputs { home: None, runtime_dir: Some(PathBuf::from("/x")), ..Inputs::default() };
        assert_eq!(
            shown(&candidates(&homeless, &nothing)),
            [
                "the usual place of Docker docker:///var/run/docker.sock",
                "the usual place of rootless Docker docker:///x/docker.sock",
                "the usual place of buildkitd unix:///run/buildkit/buildkitd.sock",
                "the usual place of rootless buildkitd unix:///x/buildkit/buildkitd.sock",
            ]
        );
    }

    #[test]
    fn a_place_is_tried_once() {
        let usual = |path: &Path| {
            if path.ends_with("config.json") {
                return Ok(br#"{"currentContext":"desktop-linux"}"#.to_vec());
            }
            if path.ends_with("meta.json") {
                let host =
                    r#"{"Endpoints":{"docker":{"Host":"unix:///h/.docker/desktop/docker.sock"}}}"#;
                return Ok(host.into());
            }
            Err(io::ErrorKind::NotFound.into())
        };
        let found = shown(&candidates(&inputs(), &usual));
        assert_eq!(found[0], "the current Docker context docker:///h/.docker/desktop/docker.sock");
        assert_eq!(found.iter().filter(|one| one.contains("desktop/docker.sock")).count(), 1);
    }

    #[test]
    fn a_bad_name_is_kept_with_its_reason() {
        let named = Inputs { flag: Some("buildkitd".to_owned()), ..inputs() };
        let found = candidates(&named, &nothing);
        assert!(matches!(found[0].target, Err(BadTarget::Address(_))));
        let garbled = |_: &Path| Ok(b"{".to_vec());
        let found = candidates(&inputs(), &garbled);
        assert!(matches!(found[0].target, Err(BadTarget::Context(_))));
        assert!(found.len() > 1);
    }
}
