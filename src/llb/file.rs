//! Changes to a file system that need no process: directories, files, links, copies, removals.

use std::collections::HashMap;

use super::error::Error;
use super::exec::NONE;
use super::metadata::Constraints;
use super::path;
use super::state::State;
use super::vertex::{Kind, Output};
use crate::proto::pb;

/// Who owns what is made: names are looked up in the file system that is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    user: Option<Identity>,
    group: Option<Identity>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    Id(u32),
    Name(String),
}

impl Owner {
    /// Ids of a user and a group.
    pub fn ids(uid: u32, gid: u32) -> Self {
        Self { user: Some(Identity::Id(uid)), group: Some(Identity::Id(gid)) }
    }

    /// `user[:group]`, each a name or a number.
    pub fn parse(text: &str) -> Self {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        Self { user: Some(Identity::parse(user)), group: group.map(Identity::parse) }
    }

    fn to_pb(&self, base: i64) -> pb::ChownOpt {
        let identity = |identity: &Identity| pb::UserOpt {
            user: Some(match identity {
                Identity::Id(id) => pb::user_opt::User::ById(*id),
                Identity::Name(name) => {
                    pb::user_opt::User::ByName(pb::NamedUserOpt { name: name.clone(), input: base })
                }
            }),
        };
        pb::ChownOpt {
            user: self.user.as_ref().map(identity),
            group: self.group.as_ref().map(identity),
        }
    }
}

impl Identity {
    fn parse(text: &str) -> Self {
        if text == "root" || text.is_empty() {
            // An empty name is written as id 0.
            return Self::Id(0);
        }
        match parse_id(text) {
            Some(id) => Self::Id(id),
            None => Self::Name(text.into()),
        }
    }
}

/// A signed 32-bit decimal, as Go reads one; a negative id wraps around on the wire.
fn parse_id(text: &str) -> Option<u32> {
    text.parse::<i32>().ok().map(i32::cast_unsigned)
}

/// Permissions of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All bits.
    Bits(u32),
    /// A change in chmod's words, as `u+x`.
    Symbolic(String),
}

/// How a copy is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Permissions instead of the source's.
    pub mode: Option<Mode>,
    /// Owner instead of the source's.
    pub owner: Option<Owner>,
    /// Copies what a link leads to where the source is one.
    pub follow_symlinks: bool,
    /// Copies the content of a directory, not the directory.
    pub dir_contents: bool,
    /// Unpacks archives as Docker's `ADD` does.
    pub unpack: bool,
    /// Makes the directories above the destination.
    pub create_dest_path: bool,
    /// The source is a pattern.
    pub wildcard: bool,
    /// A pattern may match nothing.
    pub empty_wildcard: bool,
    /// Only what matches.
    pub include: Vec<String>,
    /// Without what matches.
    pub exclude: Vec<String>,
    /// Paths that must be there.
    pub required: Vec<String>,
    /// Replaces what is in the way, even a directory by a file.
    pub replace: bool,
    /// Modification time, in nanoseconds since 1970.
    pub timestamp: Option<i64>,
}

/// One change. Relative paths start at the directory of the state that is changed, those of the
/// source of a copy at that state's own.
#[derive(Clone, Debug)]
pub struct FileAction {
    kind: ActionKind,
}

#[derive(Clone, Debug)]
enum ActionKind {
    Copy {
        source: Option<Output>,
        src: String,
        dest: String,
        options: Box<CopyOptions>,
    },
    MakeDir {
        path: String,
        mode: i32,
        parents: bool,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    },
    MakeFile {
        path: String,
        mode: i32,
        data: Vec<u8>,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    },
    Remove {
        path: String,
        allow_not_found: bool,
        wildcard: bool,
    },
    Symlink {
        old: String,
        new: String,
        owner: Option<Owner>,
        timestamp: Option<i64>,
    },
}

impl FileAction {
    /// Copies a path of a state.
    pub fn copy(source: &State, src: &str, dest: impl Into<String>) -> Self {
        Self::copy_with(source, src, dest, CopyOptions::default())
    }

    /// Copies a path of a state in a given manner.
    pub fn copy_with(
        source: &State,
        src: &str,
        dest: impl Into<String>,
        options: CopyOptions,
    ) -> Self {
        let cleaned = path::clean(src);
        let dir = if path::is_absolute(&cleaned) { "/" } else { source.working_dir() };
        let src = path::join([dir, &cleaned]);
        let source = source.output().cloned();
        let dest = dest.into();
        Self { kind: ActionKind::Copy { source, src, dest, options: Box::new(options) } }
    }

    /// Makes a directory, and those above it where `parents` is set.
    pub fn make_dir(path: impl Into<String>, mode: u32, parents: bool) -> Self {
        let mode = permissions(mode);
        let path = path.into();
        Self { kind: ActionKind::MakeDir { path, mode, parents, owner: None, timestamp: None } }
    }

    /// Makes a file with a content.
    pub fn make_file(path: impl Into<String>, mode: u32, data: impl Into<Vec<u8>>) -> Self {
        let mode = permissions(mode);
        let (path, data) = (path.into(), data.into());
        Self { kind: ActionKind::MakeFile { path, mode, data, owner: None, timestamp: None } }
    }

    /// Removes a path, or what matches it as a pattern.
    pub fn remove(path: impl Into<String>, allow_not_found: bool, wildcard: bool) -> Self {
        Self { kind: ActionKind::Remove { path: path.into(), allow_not_found, wildcard } }
    }

    /// Makes a symbolic link at `new` that leads to `old`.
    pub fn symlink(old: impl Into<String>, new: impl Into<String>) -> Self {
        let (old, new) = (old.into(), new.into());
        Self { kind: ActionKind::Symlink { old, new, owner: None, timestamp: None } }
    }

    /// Sets the owner.
    #[must_use]
    pub fn owner(mut self, new: Owner) -> Self {
        match &mut self.kind {
            ActionKind::Copy { options, .. } => options.owner = Some(new),
            ActionKind::MakeDir { owner, .. }
            | ActionKind::MakeFile { owner, .. }
            | ActionKind::Symlink { owner, .. } => *owner = Some(new),
            ActionKind::Remove { .. } => {}
        }
        self
    }

    /// Sets the modification time, in nanoseconds since 1970.
    #[must_use]
    pub fn timestamp(mut self, nanoseconds: i64) -> Self {
        match &mut self.kind {
            ActionKind::Copy { options, .. } => options.timestamp = Some(nanoseconds),
            ActionKind::MakeDir { timestamp, .. }
            | ActionKind::MakeFile { timestamp, .. }
            | ActionKind::Symlink { timestamp, .. } => *timestamp = Some(nanoseconds),
            ActionKind::Remove { .. } => {}
        }
        self
    }
}

impl State {
    /// Makes changes in this state, in order, as one op.
    #[must_use]
    pub fn file(self, actions: Vec<FileAction>, constraints: Constraints) -> Self {
        let base = self.output().cloned();
        let op = FileOp { base, dir: self.working_dir().into(), actions };
        let output = Output::of(Kind::File(op), constraints, 0);
        self.with_output(Some(output))
    }
}

#[derive(Debug)]
pub(super) struct FileOp {
    base: Option<Output>,
    dir: String,
    actions: Vec<FileAction>,
}

impl FileOp {
    /// What it is made of: the base, then the sources of copies, the last copy's first.
    pub(super) fn inputs(&self) -> Vec<&Output> {
        let sources = self.actions.iter().rev().filter_map(|action| match &action.kind {
            ActionKind::Copy { source, .. } => source.as_ref(),
            _ => None,
        });
        self.base.iter().chain(sources).collect()
    }

    pub(super) fn take_inputs(&mut self) -> Vec<Output> {
        let sources = self.actions.iter_mut().filter_map(|action| match &mut action.kind {
            ActionKind::Copy { source, .. } => source.take(),
            _ => None,
        });
        self.base.take().into_iter().chain(sources).collect()
    }

    /// The op and its inputs as `resolve` names them.
    pub(super) fn to_pb(
        &self,
        mut resolve: impl FnMut(&Output) -> Result<pb::Input, Error>,
    ) -> Result<(pb::FileOp, Vec<pb::Input>), Error> {
        let mut inputs: Vec<pb::Input> = Vec::new();
        let mut known: HashMap<(String, i64), i64> = HashMap::new();
        let mut index = |output: &Option<Output>| -> Result<i64, Error> {
            let Some(output) = output else { return Ok(NONE) };
            let input = resolve(output)?;
            let next = i64::try_from(inputs.len()).unwrap_or(i64::MAX);
            Ok(*known.entry((input.digest.clone(), input.index)).or_insert_with(|| {
                inputs.push(input);
                next
            }))
        };
        let base = index(&self.base)?;
        let mut sources = Vec::with_capacity(self.actions.len());
        for action in &self.actions {
            sources.push(match &action.kind {
                ActionKind::Copy { source, .. } => index(source)?,
                _ => NONE,
            });
        }
        let inputs_len = i64::try_from(inputs.len()).unwrap_or(i64::MAX);
        let last = self.actions.len().saturating_sub(1);
        let actions = self
            .actions
            .iter()
            .zip(sources)
            .enumerate()
            .map(|(at, (action, secondary_input))| pb::FileAction {
                // A later action works on what the one before it made; such results are counted
                // on behind the inputs.
                input: match i64::try_from(at) {
                    Ok(at) if at > 0 => inputs_len + at - 1,
                    _ => base,
                },
                secondary_input,
                output: if at == last { 0 } else { NONE },
                action: Some(action.kind.to_pb(&self.dir, base)),
            })
            .collect();
        Ok((pb::FileOp { actions }, inputs))
    }
}

impl ActionKind {
    fn to_pb(&self, dir: &str, base: i64) -> pb::file_action::Action {
        let own = |owner: &Option<Owner>| owner.as_ref().map(|owner| owner.to_pb(base));
        match self {
            Self::Copy { src, dest, options, .. } => {
                let (mode, mode_str) = match &options.mode {
                    None => (-1, String::new()),
                    Some(Mode::Bits(bits)) => (bits.cast_signed(), String::new()),
                    Some(Mode::Symbolic(text)) => (0, text.clone()),
                };
                pb::file_action::Action::Copy(pb::FileActionCopy {
                    src: src.clone(),
                    dest: absolute(dir, dest, true),
                    owner: own(&options.owner),
                    mode,
                    follow_symlink: options.follow_symlinks,
                    dir_copy_contents: options.dir_contents,
                    attempt_unpack_docker_compatibility: options.unpack,
                    create_dest_path: options.create_dest_path,
                    allow_wildcard: options.wildcard,
                    allow_empty_wildcard: options.empty_wildcard,
                    timestamp: options.timestamp.unwrap_or(NONE),
                    include_patterns: options.include.clone(),
                    exclude_patterns: options.exclude.clone(),
                    always_replace_existing_dest_paths: options.replace,
                    mode_str,
                    required_paths: options.required.clone(),
                })
            }
            Self::MakeDir { path, mode, parents, owner, timestamp } => {
                pb::file_action::Action::Mkdir(pb::FileActionMkDir {
                    path: absolute(dir, path, false),
                    mode: *mode,
                    make_parents: *parents,
                    owner: own(owner),
                    timestamp: timestamp.unwrap_or(NONE),
                })
            }
            Self::MakeFile { path, mode, data, owner, timestamp } => {
                pb::file_action::Action::Mkfile(pb::FileActionMkFile {
                    path: absolute(dir, path, false),
                    mode: *mode,
                    data: data.clone(),
                    owner: own(owner),
                    timestamp: timestamp.unwrap_or(NONE),
                })
            }
            Self::Remove { path, allow_not_found, wildcard } => {
                pb::file_action::Action::Rm(pb::FileActionRm {
                    path: absolute(dir, path, false),
                    allow_not_found: *allow_not_found,
                    allow_wildcard: *wildcard,
                })
            }
            Self::Symlink { old, new, owner, timestamp } => {
                pb::file_action::Action::Symlink(pb::FileActionSymlink {
                    oldpath: old.clone(),
                    newpath: new.clone(),
                    owner: own(owner),
                    timestamp: timestamp.unwrap_or(NONE),
                })
            }
        }
    }
}

/// A path from the root; what its end says about directories is kept where asked for.
fn absolute(dir: &str, given: &str, keep_slash: bool) -> String {
    let mut cleaned = path::clean(given);
    if !path::is_absolute(&cleaned) {
        cleaned = path::join(["/", dir, &cleaned]);
    }
    if keep_slash {
        if given.ends_with('/') && !cleaned.ends_with('/') {
            cleaned.push('/');
        } else if given.ends_with("/.") {
            if cleaned != "/" {
                cleaned.push('/');
            }
            cleaned.push('.');
        }
    }
    cleaned
}

fn permissions(mode: u32) -> i32 {
    (mode & 0o777).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_ids_where_they_can_be() {
        assert_eq!(Owner::parse("0:7"), Owner::ids(0, 7));
        assert_eq!(Owner::parse("root:root"), Owner::ids(0, 0));
        let owner = Owner::parse("keeper:+5");
        assert_eq!(owner.user, Some(Identity::Name("keeper".into())));
        assert_eq!(owner.group, Some(Identity::Id(5)));
        assert_eq!(Owner::parse("a").group, None);
    }

    #[test]
    fn destinations_keep_their_ending() {
        assert_eq!(absolute("/w", "a/", true), "/w/a/");
        assert_eq!(absolute("/w", "a/.", true), "/w/a/.");
        assert_eq!(absolute("/w", "/.", true), "/.");
        assert_eq!(absolute("/w", "/a/../b/", false), "/b");
    }

    #[test]
    fn chained_actions_count_behind_the_inputs() {
        let local = super::super::Local::new("context").state(Constraints::new());
        let state = State::scratch().file(
            vec![FileAction::copy(&local, "a", "/a"), FileAction::copy(&local, "b", "/b")],
            Constraints::new(),
        );
        let Some(Kind::File(op)) = state.output().map(|output| &output.vertex.kind) else {
            panic!("a file op")
        };
        let (op, inputs) =
            op.to_pb(|output| Ok(pb::Input { digest: "d".into(), index: output.index })).unwrap();
        assert_eq!(inputs.len(), 1);
        let seen: Vec<_> =
            op.actions.iter().map(|a| (a.input, a.secondary_input, a.output)).collect();
        assert_eq!(seen, [(-1, 0, -1), (1, 0, 0)]);
    }
}
