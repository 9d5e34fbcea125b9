//! `init`.

use super::{cluster::ClusterArguments, environment::Environment};
use crate::{
    cluster::Cluster,
    config::{Config, Draft, FILE_NAME, FoundWorkload, Git},
    diagnostic::{Diagnostic, Exit, NextAction, Printer},
    pipeline::doctor,
    plan::normalize_platform,
};
use clap::Args;
use serde_json::json;
use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

const EXAMPLES: &str = "Examples:
  bk-sync init                              look around, write bk-sync.toml
  bk-sync init --platform linux/amd64       for a cluster that is not arm64
  bk-sync init --image ghcr.io/me/app       say where the image goes
  bk-sync init --stdout                     write to stdout, and no file";

/// Directories that hold no Dockerfile of the project's own.
const SKIPPED: [&str; 6] = ["node_modules", "target", "vendor", "dist", "build", "venv"];
/// How deep Dockerfiles are looked for, in directories below the first.
const DEPTH: usize = 5;
/// Dockerfiles that are listed.
const MOST: usize = 30;

/// Write a bk-sync.toml from what is found here
///
/// The git remote names the image, the Dockerfiles what is built, and the cluster's workloads what
/// runs it. What else was found stands in comments. A file that is there is never written over.
/// The platform is linux/arm64 unless told otherwise.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct InitArguments {
    /// Platforms to build for
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',', default_value = "linux/arm64")]
    platform: Vec<String>,
    /// The image's repository [default: from the workload that runs it, or the git remote]
    #[arg(long, value_name = "REPOSITORY")]
    image: Option<String>,
    /// The kubeconfig context whose workloads are looked at
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace that is looked at where not all can be [default: the context's]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Look at no cluster
    #[arg(long)]
    no_cluster: bool,
    /// Write to stdout, and no file
    #[arg(long)]
    stdout: bool,
}

impl InitArguments {
    /// Looks around, and writes the file.
    pub(super) fn run(
        self,
        explicit: Option<&Path>,
        environment: &Environment,
        printer: Printer,
    ) -> Result<Exit, Box<Diagnostic>> {
        let path = explicit.map_or_else(|| PathBuf::from(FILE_NAME), Path::to_owned);
        if !self.stdout && path.symlink_metadata().is_ok() {
            return Err(exists(&path));
        }
        let mut platforms = Vec::new();
        for platform in &self.platform {
            platforms.push(normalize_platform(platform).ok_or_else(|| {
                Diagnostic::new("USAGE", Exit::Usage, format!("`{platform}` is no platform"))
                    .with_fix("write `OS/ARCH[/VARIANT]`, such as `linux/arm64`")
            })?);
        }
        let (workloads, no_cluster) = if self.no_cluster {
            (Vec::new(), None)
        } else {
            match self.workloads(environment) {
                Ok(workloads) => (workloads, None),
                Err(reason) => (Vec::new(), Some(reason)),
            }
        };
        let draft = Draft {
            remote: Git::new(".").remote().ok(),
            dockerfiles: dockerfiles(Path::new(".")),
            workloads,
            no_cluster,
            platforms,
            image: self.image,
            context: self.context,
        };
        let drafted = draft.write();
        // What we write must be what we read.
        if let Err(error) = Config::parse(path.clone(), drafted.text.clone()) {
            let message = "the file that was made from what was found does not parse";
            let cause = Diagnostic::from(error).message;
            let diagnostic = Diagnostic::new("INTERNAL", Exit::Internal, message).with_note(cause);
            return Err(diagnostic.into());
        }
        if self.stdout {
            Printer::text(&drafted.text)
                .map_err(|error| Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))?;
            return Ok(Exit::Done);
        }
        write_new(&path, &drafted.text)?;
        let result = json!({
            "path": path.display().to_string(),
            "image": drafted.image,
            "file": drafted.file,
            "workload": drafted.workload,
            "platforms": draft.platforms,
        });
        let next = [NextAction {
            command: "bk-sync plan --dirty allow".to_owned(),
            description: "see what a sync would do, once `bk-sync.toml` is committed".to_owned(),
        }];
        printer
            .success("init", &path.display().to_string(), &result, &[], &next)
            .map_err(|error| Diagnostic::new("INTERNAL", Exit::Internal, error.to_string()))?;
        Ok(Exit::Done)
    }
}

impl InitArguments {
    /// What runs in the cluster, or why that is not known.
    fn workloads(&self, environment: &Environment) -> Result<Vec<FoundWorkload>, String> {
        let settings = ClusterArguments {
            context: self.context.clone(),
            namespace: self.namespace.clone(),
            ..ClusterArguments::default()
        };
        let settings = settings.settings(None, environment).map_err(|error| error.message)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let cluster = Cluster::connect(&settings).await.map_err(|error| error.to_string())?;
            doctor::workloads(&cluster).await
        })
    }
}

/// Writes a file that must not be there: not even one that came while we looked around.
fn write_new(path: &Path, text: &str) -> Result<(), Box<Diagnostic>> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => {
            let message = format!("cannot write `{}`: {error}", path.display());
            Err(Diagnostic::new("CONFIG_UNWRITABLE", Exit::Usage, message)
                .with_fix("work in a directory that can be written, or use `--stdout`")
                .into())
        }
    }
}

fn exists(path: &Path) -> Box<Diagnostic> {
    let message = format!("`{}` is there already, and is not written over", path.display());
    Diagnostic::new("CONFIG_EXISTS", Exit::Usage, message)
        .with_detail("path", path.display().to_string())
        .with_fix("see what would be written with `bk-sync init --stdout`")
        .into()
}

/// The Dockerfiles below a directory, by path, relative to it.
fn dockerfiles(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let Ok(entries) = fs::read_dir(top.join(&directory)) else { continue };
        for entry in entries.flatten() {
            let (Ok(kind), Some(name)) = (entry.file_type(), entry.file_name().into_string().ok())
            else {
                continue;
            };
            let path = directory.join(&name);
            if kind.is_dir() && depth < DEPTH {
                if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                    waiting.push((path, depth + 1));
                }
            } else if kind.is_file() && is_dockerfile(&name) {
                found.extend(path.to_str().map(str::to_owned));
            }
        }
    }
    found.sort();
    found.truncate(MOST);
    found
}

fn is_dockerfile(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let ignore = name.ends_with(".dockerignore");
    !ignore
        && (name == "dockerfile"
            || name == "containerfile"
            || name.starts_with("dockerfile.")
            || name.ends_with(".dockerfile"))
}

#[cfg(test)]
mod tests {
    use super::{dockerfiles, is_dockerfile};
    use std::fs;

    #[test]
    fn dockerfiles_are_found_and_those_of_others_are_not() {
        let top = tempfile::tempdir().unwrap();
        for path in
            ["Dockerfile", "a/b/Dockerfile.prod", "node_modules/x/Dockerfile", ".git/Dockerfile"]
        {
            let path = top.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "FROM scratch\n").unwrap();
        }
        assert_eq!(dockerfiles(top.path()), ["Dockerfile", "a/b/Dockerfile.prod"]);
        for (name, expected) in
            [("Dockerfile.dockerignore", false), ("api.Dockerfile", true), ("Dockerfiles", false)]
        {
            assert_eq!(is_dockerfile(name), expected, "{name}");
        }
    }
}
