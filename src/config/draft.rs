//! The first `bk-sync.toml` of a project, made from what was found. Pure.

/// What was found of a project.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Draft {
    /// The address of the git remote.
    pub remote: Option<String>,
    /// Dockerfiles, relative to where the file will be, with `/` between parts.
    pub dockerfiles: Vec<String>,
    /// What runs in the cluster.
    pub workloads: Vec<FoundWorkload>,
    /// Why the cluster could not be asked.
    pub no_cluster: Option<String>,
    /// The platforms to build for.
    pub platforms: Vec<String>,
    /// The image's repository, where the user names it.
    pub image: Option<String>,
    /// The kubeconfig context, where the user names it.
    pub context: Option<String>,
}

/// A workload of the cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FoundWorkload {
    /// Its namespace.
    pub namespace: String,
    /// Such as `deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its containers: name, and image as it stands in the workload.
    pub containers: Vec<(String, String)>,
}

/// What was chosen of what was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Drafted {
    /// The text of the file.
    pub text: String,
    /// The repository.
    pub image: Option<String>,
    /// The Dockerfile.
    pub file: Option<String>,
    /// `NAMESPACE/KIND/NAME`.
    pub workload: Option<String>,
}

impl Draft {
    /// Chooses, and writes the file. What could have been chosen instead stands in comments.
    pub fn write(&self) -> Drafted {
        let image = self.image.clone().or_else(|| self.running()).or_else(|| self.of_remote());
        let workload = self.workload(image.as_deref());
        let file = self.file(image.as_deref(), workload.map(|(workload, _)| workload));
        let mut text = String::from(
            "# How `bk-sync sync` deploys this project. Try `bk-sync plan` first: it touches nothing.\n\n",
        );
        self.write_build(&mut text, file);
        write_image(&mut text, image.as_deref());
        self.write_rollout(&mut text, workload);
        Drafted {
            text,
            file: file.map(str::to_owned),
            workload: workload.map(|(workload, _)| {
                format!("{}/{}/{}", workload.namespace, workload.kind, workload.name)
            }),
            image,
        }
    }

    fn write_build(&self, text: &mut String, file: Option<&str>) {
        text.push_str("[build]\ncontext = \".\"\n");
        if let Some(file) = file {
            line(text, format_args!("file = {}", quoted(file)));
        }
        for other in self.dockerfiles.iter().filter(|other| Some(other.as_str()) != file) {
            line(text, format_args!("# file = {}", quoted(other)));
        }
        let platforms: Vec<String> = self.platforms.iter().map(|one| quoted(one)).collect();
        line(text, format_args!("platforms = [{}]\n", platforms.join(", ")));
    }

    fn write_rollout(&self, text: &mut String, chosen: Option<(&FoundWorkload, &str)>) {
        if let Some(reason) = &self.no_cluster {
            let reason = reason.replace(['\n', '\r'], " ");
            line(
                text,
                format_args!("# The cluster could not be asked for its workloads: {reason}"),
            );
        }
        match chosen {
            Some((workload, container)) => {
                text.push_str("[rollout]\n");
                if let Some(context) = &self.context {
                    line(text, format_args!("context = {}", quoted(context)));
                }
                line(text, format_args!("namespace = {}", quoted(&workload.namespace)));
                let name = quoted(&format!("{}/{}", workload.kind, workload.name));
                line(text, format_args!("workload = {name}"));
                line(text, format_args!("container = {}", quoted(container)));
                text.push_str(
                    "timeout = \"240s\"\non_failure = \"rollback\"    # rollback | keep\n",
                );
            }
            None => text.push_str(
                "# Without this section a deploy ends with the push.\n# [rollout]\n\
                 # namespace = \"default\"\n# workload = \"deployment/NAME\"\n\
                 # on_failure = \"rollback\"\n",
            ),
        }
        let others: Vec<_> = self
            .workloads
            .iter()
            .filter(|one| chosen.is_none_or(|(chosen, _)| *one != chosen))
            .take(20)
            .collect();
        if !others.is_empty() {
            text.push_str("# Also in the cluster:\n");
            for FoundWorkload { namespace, kind, name, .. } in others {
                line(text, format_args!("#   {namespace}: {kind}/{name}"));
            }
        }
        text.push_str(
            "\n# What must hold once the new pods run:\n# [[verify.http]]\n# port = 8080\n\
             # path = \"/\"\n# expect = { status = 200 }\n",
        );
    }

    /// The repository that a workload of this project's name runs already.
    fn running(&self) -> Option<String> {
        let project = self.of_remote()?;
        let (_, owned) = project.split_once('/')?;
        let images = self.workloads.iter().flat_map(|workload| &workload.containers);
        let mut repositories = images.map(|(_, image)| repository(image));
        let owner = owned.split('/').next()?;
        repositories
            .find(|repository| repository.ends_with(&format!("/{owned}")))
            .or_else(|| {
                let images = self.workloads.iter().flat_map(|workload| &workload.containers);
                let mut of_owner = images
                    .map(|(_, image)| repository(image))
                    .filter(|repository| repository.contains(&format!("/{owner}/")));
                of_owner.next().filter(|_| of_owner.next().is_none())
            })
            .map(str::to_owned)
    }

    /// The repository that goes with the git remote.
    fn of_remote(&self) -> Option<String> {
        let remote = self.remote.as_deref()?;
        let rest = remote.split_once("://").map_or(remote, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        let (host, path) = rest.split_once([':', '/'])?;
        let path = path.trim_start_matches(|c: char| c.is_ascii_digit());
        let path = path.trim_matches('/').trim_end_matches(".git").to_ascii_lowercase();
        let registry = match host {
            "github.com" => "ghcr.io",
            "gitlab.com" => "registry.gitlab.com",
            _ => return None,
        };
        let well_formed = path.split('/').count() >= 2
            && path
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
        well_formed.then(|| format!("{registry}/{path}"))
    }

    /// The workload that runs `image`, else the only one there is, with its container.
    fn workload(&self, image: Option<&str>) -> Option<(&FoundWorkload, &str)> {
        let runs = |workload: &'_ FoundWorkload| -> Option<usize> {
            workload.containers.iter().position(|(_, own)| Some(repository(own)) == image)
        };
        let found = self.workloads.iter().find_map(|workload| Some((workload, runs(workload)?)));
        let found = found.or(match self.workloads.as_slice() {
            [only] if only.containers.len() == 1 => Some((only, 0)),
            _ => None,
        });
        let (workload, at) = found?;
        Some((workload, workload.containers.get(at)?.0.as_str()))
    }

    /// The Dockerfile of the image or workload, by name; else the one nearest to the top.
    fn file(&self, image: Option<&str>, workload: Option<&FoundWorkload>) -> Option<&str> {
        let image = image.and_then(|image| image.rsplit('/').next());
        let names = [workload.map(|workload| workload.name.as_str()), image];
        let parts = |file: &str| file.split('/').map(str::to_owned).collect::<Vec<_>>();
        // `system-bus-worker` is built from `packages/system-bus`.
        let related = |file: &&String| {
            names.iter().flatten().any(|name| {
                parts(file)
                    .iter()
                    .rev()
                    .skip(1)
                    .any(|part| part == name || name.starts_with(&format!("{part}-")))
            })
        };
        let depth = |file: &&String| (file.matches('/').count(), file.len());
        let all = || self.dockerfiles.iter();
        let top = all().min_by_key(depth).filter(|file| !file.contains('/'));
        let by_name = all().filter(related).min_by_key(depth);
        by_name.or(top).or_else(|| all().min_by_key(depth)).map(String::as_str)
    }
}

fn write_image(text: &mut String, image: Option<&str>) {
    text.push_str("[image]\n");
    match image {
        Some(image) => line(text, format_args!("name = {}", quoted(image))),
        None => text.push_str(
            "# No git remote and no workload named a repository: say where the image goes.\n\
             # name = \"ghcr.io/OWNER/NAME\"\n",
        ),
    }
    let comment = if image.is_some() { "" } else { "# " };
    line(text, format_args!("{comment}tags = [\"{{git.sha}}\", \"latest\"]"));
    text.push_str("dirty = \"refuse\"            # refuse | suffix | allow\n\n");
    let host = image.and_then(|image| image.split_once('/')).map(|(host, _)| host);
    if let Some(host) = host {
        line(
            text,
            format_args!(
                "# Without this section the Docker config and its helpers are asked.\n\
                 # [registry.{}]\n# username = \"NAME\"\n# env = \"TOKEN\"\n",
                quoted(host)
            ),
        );
    }
}

/// An image without its tag and digest.
fn repository(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    }
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.push_str(&arguments.to_string());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{Draft, FoundWorkload, repository};
    use crate::config::Config;

    fn seed() -> Draft {
        let workload = |name: &str, image: &str| FoundWorkload {
            namespace: "joelclaw".to_owned(),
            kind: "deployment".to_owned(),
            name: name.to_owned(),
            containers: vec![(name.to_owned(), image.to_owned())],
        };
        Draft {
            remote: Some("git@github.com:joelhooks/joelclaw.git".to_owned()),
            dockerfiles: ["apps/docs-api", "k8s/inngest", "packages/system-bus"]
                .map(|path| format!("{path}/Dockerfile"))
                .to_vec(),
            workloads: vec![
                workload("inngest", "inngest/inngest:v1"),
                workload("system-bus-worker", "ghcr.io/joelhooks/system-bus-worker:2026"),
            ],
            platforms: vec!["linux/arm64".to_owned()],
            ..Draft::default()
        }
    }

    #[test]
    fn the_seed_is_recognised() {
        let drafted = seed().write();
        assert_eq!(drafted.image.as_deref(), Some("ghcr.io/joelhooks/system-bus-worker"));
        assert_eq!(drafted.file.as_deref(), Some("packages/system-bus/Dockerfile"));
        assert_eq!(drafted.workload.as_deref(), Some("joelclaw/deployment/system-bus-worker"));
        let config = Config::parse("bk-sync.toml".into(), drafted.text).unwrap();
        let rollout = config.sections.rollout.unwrap();
        assert_eq!(rollout.workload.unwrap().value, "deployment/system-bus-worker");
        assert_eq!(config.sections.build.platforms.unwrap().len(), 1);
    }

    #[test]
    fn whatever_is_found_makes_a_file_that_parses() {
        let odd = "a \"quoted\"\\ name";
        let drafts = [
            Draft::default(),
            Draft {
                workloads: Vec::new(),
                no_cluster: Some("no\nkubeconfig".to_owned()),
                ..seed()
            },
            Draft {
                dockerfiles: vec![odd.to_owned()],
                image: Some("r:5000/a".to_owned()),
                ..seed()
            },
            Draft { remote: Some(odd.to_owned()), context: Some(odd.to_owned()), ..seed() },
        ];
        for draft in drafts {
            let text = draft.write().text;
            Config::parse("f".into(), text.clone())
                .unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        }
    }

    #[test]
    fn remotes_name_repositories() {
        let table = [
            ("git@github.com:Me/App.git", Some("ghcr.io/me/app")),
            ("https://github.com/me/app", Some("ghcr.io/me/app")),
            ("https://token@github.com/me/app.git", Some("ghcr.io/me/app")),
            ("ssh://git@github.com:22/me/app.git", Some("ghcr.io/me/app")),
            ("https://gitlab.com/g/s/app.git", Some("registry.gitlab.com/g/s/app")),
            ("https://example.com/me/app.git", None),
            ("/srv/git/app.git", None),
        ];
        for (remote, expected) in table {
            let draft = Draft { remote: Some(remote.to_owned()), ..Draft::default() };
            assert_eq!(draft.of_remote().as_deref(), expected, "{remote}");
        }
        assert_eq!(repository("r:5000/a@sha256:1"), "r:5000/a");
        assert_eq!(repository("r:5000/a:1"), "r:5000/a");
    }
}
