//! What a Dockerfile says, as typed instructions. Values stand as they were written: variables,
//! quotes and escapes are still in them, and `compile` expands them in the order and with the
//! variables that count at that point.

use std::collections::BTreeSet;

use super::directive::Directive;
use super::place::{Lines, Span};

/// A whole Dockerfile: never without a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character: `\`, or the backtick where the `escape` directive says so.
    pub escape: char,
    /// The directives at the head, in order.
    pub directives: Vec<Directive>,
    /// The `ARG` instructions before the first `FROM`.
    pub global_args: Vec<GlobalArg>,
    /// The stages, in order. At least one.
    pub stages: Vec<Stage>,
}

/// An `ARG` before the first `FROM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobalArg {
    /// Where it stands and how it was written.
    pub origin: Origin,
    /// What it declares.
    pub arg: Arg,
}

/// A stage: its `FROM` and what follows up to the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Where the `FROM` stands and how it was written.
    pub origin: Origin,
    /// The `FROM` itself.
    pub from: From,
    /// The instructions of the stage, in order.
    pub instructions: Vec<Instruction>,
}

/// `FROM [--platform=P] BASE [AS NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct From {
    /// The image or stage that it starts from.
    pub base: String,
    /// The name of the stage, in lower case.
    pub name: Option<String>,
    /// The value of `--platform`; an empty value counts as none.
    pub platform: Option<String>,
    /// What the comment above says of the stage: its text after the stage's name.
    pub doc_comment: Option<String>,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands and how it was written.
    pub origin: Origin,
    /// What it says.
    pub kind: Kind,
}

/// Where an instruction stands and how it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The instruction's word as it was written (`RUN`, `run`, `Run`).
    pub keyword: String,
    /// The whole instruction on one line, continuations joined and blanks around it removed, without
    /// the bodies of heredocs: what vertex names and the command metadata of an op show.
    pub code: String,
    /// The lines it takes, heredocs included.
    pub lines: Lines,
    /// The bytes it takes: from its word to the end of its last line, heredocs included.
    pub span: Span,
    /// The comments right above it, each without its `#`; an empty comment line starts anew.
    pub comments: Vec<String>,
}

/// What an instruction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `ADD`
    Add(Add),
    /// `ARG`
    Arg(Arg),
    /// `CMD`
    Cmd(CommandLine),
    /// `COPY`
    Copy(Copy),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`: ports in byte order, each still to be split into words.
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the instruction that it keeps, as text, with its heredocs.
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`: the words of the shell.
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    StopSignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// `ADD`: like `COPY`, and archives, URLs and git repositories too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Add {
    /// What is added, and where to.
    pub files: Files,
    /// `--chown`; empty means not given.
    pub chown: String,
    /// `--chmod`; empty means not given.
    pub chmod: String,
    /// `--checksum`; empty means not given.
    pub checksum: String,
    /// `--link`
    pub link: bool,
    /// `--exclude`, once for each; never expanded.
    pub exclude: Vec<String>,
    /// `--keep-git-dir`, where given.
    pub keep_git_dir: Option<bool>,
    /// `--unpack`, where given.
    pub unpack: Option<bool>,
}

/// `COPY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// What is copied, and where to.
    pub files: Files,
    /// `--from`: a stage, its number, a named context or an image. An empty value counts as none.
    pub from: Option<String>,
    /// `--chown`; empty means not given.
    pub chown: String,
    /// `--chmod`; empty means not given.
    pub chmod: String,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`, once for each; never expanded.
    pub exclude: Vec<String>,
}

/// Sources and destination of `COPY` and `ADD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The sources that are paths or addresses, in order.
    pub paths: Vec<String>,
    /// The sources that are heredocs, in order.
    pub inline: Vec<InlineSource>,
    /// The destination.
    pub dest: String,
}

/// A file whose content stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineSource {
    /// Its name: the heredoc's.
    pub name: String,
    /// Its content, leading tabs already removed where `<<-` asks for it. Bytes, since a heredoc
    /// may hold what is not UTF-8.
    pub data: Vec<u8>,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// `ARG`: one or more names, each with or without a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arg {
    /// The names, in order.
    pub names: Vec<ArgName>,
}

/// One name that an `ARG` declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgName {
    /// The name.
    pub key: String,
    /// Its default, where there is one.
    pub value: Option<String>,
    /// What the comment above says of it: its text after the name.
    pub doc_comment: Option<String>,
}

/// A name and its value in `ENV` or `LABEL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Written in the old form, with a blank in the place of `=`.
    pub legacy: bool,
}

/// The words of `RUN`, `CMD` or `ENTRYPOINT`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// In JSON form its strings. Else one text, or nothing where the instruction has no arguments.
    pub words: Vec<String>,
    /// Shell form: the words go to the stage's shell.
    pub shell: bool,
    /// The heredocs of a `RUN`, in order.
    pub heredocs: Vec<InlineScript>,
}

/// A heredoc of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineScript {
    /// The word that ends it.
    pub name: String,
    /// Its content as it stands, leading tabs included.
    pub data: String,
    /// `<<-`: leading tabs are removed before it is used by itself.
    pub chomp: bool,
}

/// `RUN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// What is run.
    pub command: CommandLine,
    /// `--mount`, once for each, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Network,
    /// `--security`
    pub security: Security,
    /// `--device`, once for each, in order.
    pub devices: Vec<Device>,
    /// The names of the flags that were given, without their dashes.
    pub flags: BTreeSet<String>,
}

/// A `--mount` as it was written. Its values may hold variables, so what it means is known only
/// once they are expanded: [`MountFlag::resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The value of the flag.
    pub text: String,
    /// The value of its `from` key as written (variables are not allowed there); empty without.
    pub from: String,
    /// Where the flag stands.
    pub span: Span,
}

/// A `--mount` with its variables expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountKind,
    /// `from`: a stage, a named context or an image; empty without.
    pub from: String,
    /// `source`; empty without.
    pub source: String,
    /// `target`; empty without.
    pub target: String,
    /// Whether nothing may be written: as said, or as is usual for the type.
    pub readonly: bool,
    /// `size` of a tmpfs, in bytes; 0 without.
    pub size: i64,
    /// `id`; empty without.
    pub id: String,
    /// `sharing` of a cache, where given.
    pub sharing: Option<Sharing>,
    /// `required`, of a secret or an agent.
    pub required: bool,
    /// `env`: the variable that carries a secret. Empty means the usual name.
    pub env: Option<String>,
    /// `mode`, as permission bits.
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

/// The type of a mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// Files of the build context, a stage or an image.
    #[default]
    Bind,
    /// A directory that the builder keeps.
    Cache,
    /// A file system in memory.
    Tmpfs,
    /// A secret as a file.
    Secret,
    /// An SSH agent's socket.
    Ssh,
}

impl MountKind {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 5] = [Self::Bind, Self::Cache, Self::Secret, Self::Ssh, Self::Tmpfs];

    /// Its word in a Dockerfile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Anyone, at once.
    Shared,
    /// Each its own copy.
    Private,
    /// One after the other.
    Locked,
}

impl Sharing {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 3] = [Self::Locked, Self::Private, Self::Shared];

    /// Its word in a Dockerfile.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

/// The network that a `RUN` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Network {
    /// What the build as a whole has.
    #[default]
    Default,
    /// None at all.
    None,
    /// The builder's own.
    Host,
}

/// How a `RUN` is confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Security {
    /// In the sandbox.
    #[default]
    Sandbox,
    /// With all rights; the builder must be told to allow it.
    Insecure,
}

/// A device that a `RUN` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name in the builder's device interface; empty where the flag names none.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
}

/// `HEALTHCHECK`: as the image config has it, times in nanoseconds, 0 for not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    pub test: Vec<String>,
    /// `--interval`
    pub interval: i64,
    /// `--timeout`
    pub timeout: i64,
    /// `--start-period`
    pub start_period: i64,
    /// `--start-interval`
    pub start_interval: i64,
    /// `--retries`
    pub retries: i32,
}

impl Kind {
    /// The instruction's word in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }

    /// Replaces each word that variables may stand in by what `expand` makes of it, in the order in
    /// which BuildKit does, and stops at the first error.
    ///
    /// Left alone, because they follow rules of their own: the mounts of `RUN`
    /// ([`Run::resolve_mounts`]), the ports of `EXPOSE` (which split into words), inline files
    /// ([`Files::expand_inline`]), and `ARG`, whose default may go unused: the caller expands the
    /// values that count.
    ///
    /// # Errors
    /// The first error of `expand`.
    pub fn expand<E>(
        &mut self,
        expand: &mut dyn FnMut(&str) -> Result<String, E>,
    ) -> Result<(), E> {
        match self {
            Self::Add(add) => {
                add.chown = expand(&add.chown)?;
                add.chmod = expand(&add.chmod)?;
                add.checksum = expand(&add.checksum)?;
                add.files.expand(expand)
            }
            Self::Copy(copy) => {
                copy.chown = expand(&copy.chown)?;
                copy.chmod = expand(&copy.chmod)?;
                copy.files.expand(expand)
            }
            Self::Env(pairs) | Self::Label(pairs) => {
                for pair in pairs {
                    pair.key = expand(&pair.key)?;
                    pair.value = expand(&pair.value)?;
                }
                Ok(())
            }
            Self::StopSignal(word) | Self::User(word) | Self::Workdir(word) => {
                *word = expand(word)?;
                Ok(())
            }
            Self::Volume(words) => expand_each(words, expand),
            Self::Arg(_)
            | Self::Cmd(_)
            | Self::Entrypoint(_)
            | Self::Expose(_)
            | Self::Healthcheck(_)
            | Self::Maintainer(_)
            | Self::Onbuild(_)
            | Self::Run(_)
            | Self::Shell(_) => Ok(()),
        }
    }
}

impl Files {
    fn expand<E>(&mut self, expand: &mut dyn FnMut(&str) -> Result<String, E>) -> Result<(), E> {
        expand_each(&mut self.paths, expand)?;
        self.dest = expand(&self.dest)?;
        Ok(())
    }

    /// Replaces the content of each inline file that asks for it by what `expand` makes of it.
    /// Bytes that are not UTF-8 become U+FFFD there, as in BuildKit.
    ///
    /// # Errors
    /// The first error of `expand`.
    pub fn expand_inline<E>(
        &mut self,
        expand: &mut dyn FnMut(&str) -> Result<String, E>,
    ) -> Result<(), E> {
        for source in self.inline.iter_mut().filter(|source| source.expand) {
            source.data = expand(&String::from_utf8_lossy(&source.data))?.into_bytes();
        }
        Ok(())
    }
}

fn expand_each<E>(
    words: &mut [String],
    expand: &mut dyn FnMut(&str) -> Result<String, E>,
) -> Result<(), E> {
    for word in words {
        *word = expand(word)?;
    }
    Ok(())
}
