//! The record of a build, made while its checkout is at hand.

use crate::{
    config::Git,
    plan::{BuildPlan, Context, ImageLock, SecretSource, SyncPlan},
    record::BuildRecord,
};
use std::path::{Path, PathBuf};

/// How the image of `plan`, whose paths start from `directory`, is built: enough to build it from
/// its commit again. None where that is not enough, because files come from outside of the checkout.
pub(in crate::pipeline) fn recorded(
    plan: &SyncPlan,
    bases: ImageLock,
    directory: &Path,
) -> Option<BuildRecord> {
    let build = match &plan.build.context {
        Context::Directory(_) => {
            plan.git.as_ref()?;
            let top = Git::new(directory).top().ok()?.canonicalize().ok()?;
            rebased(&plan.build, directory, &top)?
        }
        Context::Git(_) | Context::Http(_) => plan.build.clone(),
        Context::Stdin => return None,
    };
    let masked = plan.masked_args.keys().map(String::as_str).collect();
    Some(BuildRecord::new(build, bases, &masked))
}

/// The plan with its paths from the checkout's top on. Secrets and keys belong to no commit: theirs
/// are absolute.
fn rebased(plan: &BuildPlan, directory: &Path, top: &Path) -> Option<BuildPlan> {
    let inside = |path: &Path| -> Option<PathBuf> {
        let path = directory.join(path).canonicalize().ok()?;
        let path = path.strip_prefix(top).ok()?;
        Some(if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() })
    };
    let mut plan = plan.clone();
    if let Context::Directory(context) = &mut plan.context {
        *context = inside(context)?;
    }
    if let Some(file) = plan.file.as_mut().filter(|file| !file.contains("://")) {
        inside(Path::new(file))?.to_str()?.clone_into(file);
    }
    for context in &mut plan.named_contexts {
        let is_here = Context::classify(&context.value, |path| directory.join(path).is_dir());
        if let Some(Context::Directory(path)) = is_here {
            inside(&path)?.to_str()?.clone_into(&mut context.value);
        }
    }
    let absolute = |path: &mut PathBuf| {
        if let Ok(whole) = std::path::absolute(directory.join(&*path)) {
            *path = whole;
        }
    };
    for secret in &mut plan.secrets {
        if let SecretSource::File(path) = &mut secret.source {
            absolute(path);
        }
    }
    plan.ssh.iter_mut().flat_map(|forward| &mut forward.paths).for_each(absolute);
    Some(plan)
}

#[cfg(test)]
mod tests {
    use super::rebased;
    use crate::plan::{BuildPlan, Context, NamedContext, SecretSource, SecretSpec};
    use std::fs;

    #[test]
    fn paths_start_at_the_top_and_none_leads_out() {
        let outside = tempfile::tempdir().unwrap();
        let top = outside.path().canonicalize().unwrap().join("checkout");
        fs::create_dir_all(top.join("app/src")).unwrap();
        fs::create_dir_all(top.join("docker")).unwrap();
        fs::write(top.join("docker/Dockerfile"), "").unwrap();
        let context = |path: &str| BuildPlan {
            context: Context::Directory(path.into()),
            file: Some("../docker/Dockerfile".to_owned()),
            named_contexts: vec![
                NamedContext { name: "a".to_owned(), value: "src".to_owned() },
                NamedContext { name: "b".to_owned(), value: "docker-image://b".to_owned() },
            ],
            secrets: vec![SecretSpec {
                id: "s".to_owned(),
                source: SecretSource::File("key".into()),
            }],
            ..BuildPlan::default()
        };
        let made = rebased(&context("."), &top.join("app"), &top).unwrap();
        assert_eq!(made.context, Context::Directory("app".into()));
        assert_eq!(made.file.as_deref(), Some("docker/Dockerfile"));
        let values: Vec<_> = made.named_contexts.iter().map(|one| one.value.as_str()).collect();
        assert_eq!(values, ["app/src", "docker-image://b"]);
        assert_eq!(made.secrets[0].source, SecretSource::File(top.join("app/key")));
        let whole = rebased(&context(".."), &top.join("app"), &top).unwrap();
        assert_eq!(whole.context, Context::Directory(".".into()));
        assert_eq!(rebased(&context("../.."), &top.join("app"), &top), None);
    }
}
