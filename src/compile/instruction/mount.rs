//! `RUN --mount`

use crate::compile::dispatch::{Source, Step};
use crate::compile::error::{CompileError, Fault};
use crate::dockerfile::ast::{self, MountKind};
use crate::llb::{
    Constraints, Exec, FileAction, FileOptions, Mount, Owner, Secret, Sharing, SshSocket, State,
    caps, path,
};

/// Where a secret is found unless its mount says otherwise.
const SECRETS: &str = "/run/secrets/";

impl Step<'_, '_> {
    pub(super) fn add_mounts(
        &mut self,
        mut exec: Exec,
        mounts: &[ast::Mount],
    ) -> Result<Exec, CompileError> {
        let sources = self.sources;
        for (at, mount) in mounts.iter().enumerate() {
            exec = match mount.kind {
                MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {
                    self.add_directory(exec, mount, sources.get(at))?
                }
                MountKind::Secret => {
                    used_source(mount, sources.get(at))?;
                    exec.secret(secret(mount)?)
                }
                MountKind::Ssh => {
                    used_source(mount, sources.get(at))?;
                    exec.ssh(socket(mount)?)
                }
            };
        }
        Ok(exec)
    }

    fn add_directory(
        &mut self,
        exec: Exec,
        mount: &ast::Mount,
        source: Option<&Source>,
    ) -> Result<Exec, CompileError> {
        let source = used_source(mount, source)?;
        let mut state = match source {
            Some(source) => source.state.clone(),
            None => self.shared.context.clone(),
        };
        if mount.kind == MountKind::Tmpfs {
            state = State::scratch();
        }
        let target = if path::is_absolute(&path::clean(&mount.target)) {
            mount.target.clone()
        } else {
            path::join(["/", self.stage.state.working_dir(), &mount.target])
        };
        if target == "/" {
            return Err(Fault::MountTarget(target).into());
        }
        let selected = path::join(["/", mount.source.as_str()]);
        let mut selector = String::new();
        if selected != "/" {
            selector = selected;
        } else if mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some() {
            state = with_owner(state, mount);
            selector = "/cache".into();
        }
        let mut made = match mount.kind {
            MountKind::Cache => {
                let id =
                    if mount.id.is_empty() { path::clean(&mount.target) } else { mount.id.clone() };
                let id = format!("{}/{id}", self.shared.input.options.cache_namespace);
                let sharing = match mount.sharing {
                    Some(ast::Sharing::Locked) => Sharing::Locked,
                    Some(ast::Sharing::Private) => Sharing::Private,
                    Some(ast::Sharing::Shared) | None => Sharing::Shared,
                };
                Mount::cache(target, &state, id, sharing)
            }
            MountKind::Tmpfs => Mount::memory(target, mount.size),
            _ => Mount::bind(target, &state),
        };
        made = made.selector(selector);
        let no_output = self.shared.input.request.builder.caps.supports(caps::MOUNT_BIND_NO_OUTPUT);
        if mount.readonly {
            made = made.readonly();
        } else if mount.kind == MountKind::Bind && no_output {
            made = made.no_output();
        }
        match source {
            Some(source) => self.use_source(source, &mount.source),
            None => self.use_context(&mount.source),
        }
        Ok(exec.mount(made))
    }
}

/// The stage that a mount names, which must be there already.
fn used_source<'s>(
    mount: &ast::Mount,
    source: Option<&'s Source>,
) -> Result<Option<&'s Source>, CompileError> {
    let names_one = !mount.from.is_empty() || mount.kind == MountKind::Cache;
    let Some(source) = source.filter(|_| names_one) else { return Ok(None) };
    if !source.dispatched {
        // A cache that names none starts from nothing.
        let from = if mount.from.is_empty() { "scratch" } else { mount.from.as_str() };
        let (from, target) = (from.to_owned(), mount.target.clone());
        return Err(Fault::MountFromLater { from, target }.into());
    }
    Ok(Some(source))
}

/// A cache that starts with a directory of the owner and mode that are asked for.
fn with_owner(state: State, mount: &ast::Mount) -> State {
    let owner = Owner::ids(mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default());
    let action = FileAction::make_dir("/cache", mount.mode.unwrap_or(0o755), false).owner(owner);
    state.file(vec![action], Constraints::named("[internal] setting cache mount permissions"))
}

fn secret(mount: &ast::Mount) -> Result<Secret, CompileError> {
    let mut id = if mount.source.is_empty() { mount.id.as_str() } else { mount.source.as_str() };
    if id.is_empty() {
        if mount.target.is_empty() {
            return Err(Fault::SecretName.into());
        }
        id = path::base(&mount.target);
    }
    let target = match (&mount.env, mount.target.is_empty()) {
        (_, false) => Some(mount.target.clone()),
        (Some(_), true) => None,
        (None, true) => Some(format!("{SECRETS}{}", path::base(id))),
    };
    Ok(Secret {
        id: id.into(),
        target,
        env: mount.env.clone(),
        file: file_options(mount, 0o400),
        optional: !mount.required,
    })
}

fn socket(mount: &ast::Mount) -> Result<SshSocket, CompileError> {
    if !mount.source.is_empty() {
        return Err(Fault::SshSource.into());
    }
    Ok(SshSocket {
        id: mount.id.clone(),
        target: mount.target.clone(),
        file: file_options(mount, 0o600),
        optional: !mount.required,
    })
}

fn file_options(mount: &ast::Mount, mode: u32) -> FileOptions {
    FileOptions {
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(mode),
    }
}
