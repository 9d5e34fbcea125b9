//! Who turns the Dockerfile into a graph. The builder's own frontend is one answer; every other
//! one slots in behind the same trait.

use super::{
    attributes::{Attributes, CACHE_IMPORTS},
    caches::full_import_list,
    error::{PushFailure, Refusal},
    native::NativeFrontend,
};
use crate::{
    buildkit::{
        errors::{self, Code, Failure},
        gateway::{Gateway, Solve},
        solve::FrontendFailure,
    },
    compile::Build,
    dockerfile::directive,
    filesync::Source,
    plan::{FrontendChoice, Pinning},
    proto::moby::buildkit::v1::frontend::Result as BuildResult,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::{collections::BTreeMap, sync::Arc};

/// The build argument that names a frontend in place of the `# syntax` line.
const SYNTAX_ARGUMENT: &str = "BUILDKIT_SYNTAX";

/// The builder's built-in Dockerfile frontend.
const BUILT_IN: &str = "dockerfile.v0";

/// The builder's frontend that runs another one out of an image.
const FROM_IMAGE: &str = "gateway.v0";

/// The attribute with the whole `# syntax` line. The built-in frontend follows the line in the
/// Dockerfile only where this is absent.
const COMMAND_LINE: &str = "cmdline";

/// What a frontend works from.
#[derive(Clone, Debug, Default)]
pub struct FrontendInput {
    /// The plan and the sources, as attributes.
    pub attributes: Attributes,
    /// Where cached results may come from: kind and attributes.
    pub cache_imports: Vec<(String, BTreeMap<String, String>)>,
    /// The Dockerfile, where it is a file here.
    pub dockerfile: Option<LocalDockerfile>,
    /// The id of the session that serves the local sources.
    pub session_id: String,
    /// The directories that the session serves, by name.
    pub directories: BTreeMap<String, Source>,
    /// How far images are held by their digests.
    pub pinning: Pinning,
    /// What other builds of ours make that this one is made of, by name: what each works from. Their
    /// directories are served by sessions of their own.
    pub inputs: BTreeMap<String, Self>,
}

/// A Dockerfile on this machine.
#[derive(Clone, Debug, Default)]
pub struct LocalDockerfile {
    /// Its name, which is also the attribute `filename`.
    pub name: String,
    /// Its text.
    pub text: Bytes,
}

/// What a frontend made.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What is returned to the builder.
    pub result: BuildResult,
    /// Who made it: `native`, `daemon`, or the reference of a frontend image.
    pub frontend: String,
    /// The digest of the graph's last op, where it is known here and there is one platform.
    pub llb_digest: Option<String>,
    /// The digests of the graphs' last ops, where they are known here.
    pub heads: Vec<String>,
    /// The graphs, where they were made here.
    pub graphs: Option<Arc<Build>>,
}

/// Why a frontend made nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// The builder refused or failed something.
    #[error(transparent)]
    Builder(#[from] Failure),
    /// The Dockerfile is wrong.
    #[error("{message}")]
    Dockerfile {
        /// What is wrong.
        message: String,
        /// Where; nearest first.
        sources: Vec<errors::Source>,
        /// What to do about it, where that is more than the message says.
        fix: Option<String>,
    },
    /// A registry would not take the image.
    #[error("{message}", message = .0.message)]
    Preflight(Box<PushFailure>),
    /// The builder lacks something that was asked for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The image is not fit to leave, and only one that is may.
    #[error("{0}")]
    Unfit(Refusal),
    /// An image that the build starts from is not signed by whom it has to be.
    #[error("{0}")]
    Unverified(Refusal),
}

impl FrontendFailure for FrontendError {
    fn code(&self) -> Code {
        match self {
            Self::Builder(failure) => failure.code,
            Self::Dockerfile { .. } => Code::Unknown,
            Self::Preflight(_) => Code::PermissionDenied,
            Self::Unfit(_) | Self::Unverified(_) => Code::FailedPrecondition,
            Self::Refused(_) => Code::Unimplemented,
        }
    }

    fn message(&self) -> String {
        self.to_string()
    }
}

/// Turns a Dockerfile into a result that the builder can compute and export.
pub trait Frontend: Send + Sync {
    /// Makes the result over the gateway of one build.
    fn compile<'a>(
        &'a self,
        gateway: &'a Gateway,
        input: &'a FrontendInput,
    ) -> BoxFuture<'a, Result<Compiled, FrontendError>>;
}

/// Who compiles where the user chose `choice`.
pub fn frontend(choice: FrontendChoice) -> Box<dyn Frontend> {
    match choice {
        FrontendChoice::Daemon => Box::new(DaemonFrontend::new(choice)),
        FrontendChoice::Auto | FrontendChoice::Native => Box::new(NativeFrontend::new(choice)),
    }
}

/// Lets the builder compile: with its built-in frontend, or with one out of an image where the
/// Dockerfile asks for it.
#[derive(Clone, Copy, Debug)]
pub struct DaemonFrontend {
    choice: FrontendChoice,
}

impl DaemonFrontend {
    /// `choice` decides about `# syntax` lines. `Daemon` lets the builder fetch what they name;
    /// otherwise the frontend that is built in stands for every version of the standard one, which
    /// needs no registry. With `Native` it stands for all others too: what is compiled here follows
    /// no such line either.
    pub fn new(choice: FrontendChoice) -> Self {
        Self { choice }
    }

    /// What the builder is asked to solve, and who answers.
    pub(super) fn solve(self, input: &FrontendInput) -> (Solve, String) {
        let mut solve = Solve {
            frontend: BUILT_IN.to_owned(),
            attributes: input.attributes.clone(),
            cache_imports: input.cache_imports.clone(),
            ..Solve::default()
        };
        if !input.cache_imports.is_empty() {
            // A frontend on the builder hands them on to the graphs that it makes.
            let list = full_import_list(&input.cache_imports);
            solve.attributes.insert(CACHE_IMPORTS.to_owned(), list);
        }
        if self.choice == FrontendChoice::Daemon {
            return (solve, "daemon".to_owned());
        }
        let Some(syntax) = syntax(input) else { return (solve, "daemon".to_owned()) };
        solve.attributes.insert(COMMAND_LINE.to_owned(), syntax.command_line);
        if syntax.is_standard || self.choice == FrontendChoice::Native {
            return (solve, "daemon".to_owned());
        }
        FROM_IMAGE.clone_into(&mut solve.frontend);
        solve.attributes.insert("source".to_owned(), syntax.reference.clone());
        (solve, syntax.reference)
    }
}

impl Frontend for DaemonFrontend {
    fn compile<'a>(
        &'a self,
        gateway: &'a Gateway,
        input: &'a FrontendInput,
    ) -> BoxFuture<'a, Result<Compiled, FrontendError>> {
        Box::pin(async move {
            if matches!(input.pinning, Pinning::Locked(_)) {
                return Err(Refusal::new(
                    "FRONTEND_NOT_REPRODUCIBLE",
                    "a frontend on the builder does not know what `bk-sync.lock` says",
                )
                .with_fix("leave `--frontend daemon` and the `# syntax` line out, or add `--frontend native`")
                .into());
            }
            if let Some(name) = input.inputs.keys().next() {
                return Err(Refusal::new(
                    "TARGET_UNSUPPORTED",
                    format!("a frontend on the builder does not know what `{name}` makes"),
                )
                .with_fix("leave `--frontend daemon` and the `# syntax` line out, or add `--frontend native`")
                .into());
            }
            let (solve, frontend) = self.solve(input);
            let result = gateway.solve(solve).await?;
            let (llb_digest, heads, graphs) = (None, Vec::new(), None);
            Ok(Compiled { result, frontend, llb_digest, heads, graphs })
        })
    }
}

/// The frontend that a Dockerfile asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Syntax {
    /// The image of the frontend.
    pub reference: String,
    /// The whole line, arguments to the frontend included.
    pub command_line: String,
    /// Whether it is the standard frontend, of any version and channel.
    pub is_standard: bool,
}

/// The frontend that `input` asks for, in the build argument or in the Dockerfile.
pub fn syntax(input: &FrontendInput) -> Option<Syntax> {
    let argument = input.attributes.get(&format!("build-arg:{SYNTAX_ARGUMENT}"));
    let (reference, command_line) = match argument.map(|value| value.trim()) {
        Some(value) if !value.is_empty() => {
            (value.split(' ').next().unwrap_or(value).to_owned(), value.to_owned())
        }
        _ => {
            let (reference, line) = directive::syntax(&input.dockerfile.as_ref()?.text)?;
            (reference, line.value)
        }
    };
    Some(Syntax { is_standard: is_standard(&reference), reference, command_line })
}

/// Whether a reference is the standard Dockerfile frontend.
fn is_standard(reference: &str) -> bool {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.split(['@', ':']).next().unwrap_or(name);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str, arguments: &[(&str, &str)]) -> FrontendInput {
        FrontendInput {
            attributes: arguments
                .iter()
                .map(|(name, value)| (format!("build-arg:{name}"), (*value).to_owned()))
                .collect(),
            dockerfile: Some(LocalDockerfile {
                name: "Dockerfile".to_owned(),
                text: Bytes::copy_from_slice(text.as_bytes()),
            }),
            ..FrontendInput::default()
        }
    }

    fn solved(
        choice: FrontendChoice,
        input: &FrontendInput,
    ) -> (String, Option<String>, Option<String>) {
        let (solve, _) = DaemonFrontend::new(choice).solve(input);
        let attribute = |key: &str| solve.attributes.get(key).cloned();
        (solve.frontend.clone(), attribute("source"), attribute("cmdline"))
    }

    #[test]
    fn a_plain_dockerfile_goes_to_the_built_in_frontend() {
        let plain = input("FROM scratch\n", &[]);
        assert_eq!(solved(FrontendChoice::Auto, &plain), ("dockerfile.v0".to_owned(), None, None));
    }

    #[test]
    fn the_standard_syntax_line_needs_no_registry() {
        let line = "docker/dockerfile:1.7-labs";
        let standard = input(&format!("# syntax={line}\nFROM scratch\n"), &[]);
        assert_eq!(
            solved(FrontendChoice::Auto, &standard),
            ("dockerfile.v0".to_owned(), None, Some(line.to_owned()))
        );
        assert_eq!(
            solved(FrontendChoice::Daemon, &standard),
            ("dockerfile.v0".to_owned(), None, None)
        );
    }

    #[test]
    fn a_foreign_syntax_line_goes_to_its_image() {
        let foreign = input("# syntax = example.com/front:2 --opt x\nFROM scratch\n", &[]);
        assert_eq!(
            solved(FrontendChoice::Auto, &foreign),
            (
                "gateway.v0".to_owned(),
                Some("example.com/front:2".to_owned()),
                Some("example.com/front:2 --opt x".to_owned())
            )
        );
    }

    #[test]
    fn the_build_argument_wins_over_the_line() {
        let both = input(
            "# syntax=docker/dockerfile:1\nFROM scratch\n",
            &[("BUILDKIT_SYNTAX", "example.com/front:3 a")],
        );
        let (frontend, source, _) = solved(FrontendChoice::Auto, &both);
        assert_eq!(
            (frontend.as_str(), source.as_deref()),
            ("gateway.v0", Some("example.com/front:3"))
        );
    }

    #[test]
    fn the_standard_frontend_is_known_by_all_its_names() {
        for name in [
            "docker/dockerfile",
            "docker.io/docker/dockerfile:1",
            "docker/dockerfile-upstream:master-labs",
            "docker/dockerfile@sha256:aa",
        ] {
            assert!(is_standard(name), "{name}");
        }
        for name in ["docker/dockerfile-x:1", "example.com/docker/dockerfile:1", "dockerfile"] {
            assert!(!is_standard(name), "{name}");
        }
    }
}
