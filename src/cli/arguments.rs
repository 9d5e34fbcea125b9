//! The arguments as typed by the user: what clap parses, before anything is decided.

use super::{
    builder::BuilderArguments,
    check::CheckArguments,
    completion::{CompleteArguments, CompletionArguments},
    doctor::DoctorArguments,
    environment,
    explain::ExplainArguments,
    history::HistoryArguments,
    init::InitArguments,
    llb::LlbArguments,
    lock::LockArguments,
    push::PushArguments,
    reproduce::ReproduceArguments,
    rollback::RollbackArguments,
    rollout::{BuildCommand, RolloutArguments},
    status::StatusArguments,
    sync::{PlanArguments, SyncArguments},
    verify::VerifyArguments,
    why::WhyArguments,
};
use crate::diagnostic::{Format, Printer};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  bk-sync build                                      build what bk-sync.toml says, or `.`
  bk-sync build -t ghcr.io/me/app:1 --push .         build, push, print the reference
  bk-sync --builder docker:///run/docker.sock build  with a certain builder

Exit codes:
  0 done   1 internal error   2 wrong arguments, config or Dockerfile   10 no builder
  11 build failed   12 push failed   13/14 rollout failed, rolled back/not   15 check failed
  16 locked   17 refused before anything changed   130/143 interrupted
  `bk-sync explain CODE` says what an error means and what to do";

/// Build on BuildKit, push what the registry lacks
///
/// stdout carries the result and nothing else; stderr carries progress, warnings and errors.
#[derive(Debug, Parser)]
#[command(name = "bk-sync", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", environment::help()))]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Build(Box<BuildCommand>),
    Builder(BuilderArguments),
    Check(Box<CheckArguments>),
    Doctor(Box<DoctorArguments>),
    History(HistoryArguments),
    Init(InitArguments),
    Llb(Box<LlbArguments>),
    Lock(Box<LockArguments>),
    Plan(Box<PlanArguments>),
    Push(Box<PushArguments>),
    Reproduce(ReproduceArguments),
    Rollback(Box<RollbackArguments>),
    Rollout(Box<RolloutArguments>),
    Status(Box<StatusArguments>),
    Sync(Box<SyncArguments>),
    Verify(Box<VerifyArguments>),
    Explain(ExplainArguments),
    Why(WhyArguments),
    Completion(CompletionArguments),
    #[command(name = "__complete")]
    Complete(CompleteArguments),
}

impl Command {
    /// Whether it has a use for the config file. One that has none is no hostage of its mistakes.
    pub(super) fn reads_config(&self) -> bool {
        !matches!(self, Self::History(_) | Self::Init(_))
    }

    /// The name that envelopes carry.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Build(_) => "build",
            Self::Builder(_) => "builder",
            Self::Check(_) => "check",
            Self::Doctor(_) => "doctor",
            Self::History(_) => "history",
            Self::Init(_) => "init",
            Self::Llb(_) => "llb",
            Self::Lock(_) => "lock",
            Self::Rollback(_) => "rollback",
            Self::Rollout(_) => "rollout",
            Self::Status(_) => "status",
            Self::Plan(_) => "plan",
            Self::Sync(_) => "sync",
            Self::Verify(_) => "verify",
            Self::Push(_) => "push",
            Self::Reproduce(_) => "reproduce",
            Self::Explain(_) => "explain",
            Self::Why(_) => "why",
            Self::Completion(_) => "completion",
            Self::Complete(_) => "__complete",
        }
    }
}

/// The flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArguments {
    /// Work in DIR instead of the current directory
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Read FILE instead of the `bk-sync.toml` that is found upward
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The builder's address, such as `ssh://host`; several as `PLATFORM=URL,…`
    ///
    /// It is `unix://`, `tcp://`, `docker://`, `ssh://`, `docker-container://`,
    /// `podman-container://` or `kube-pod://`.
    #[arg(long, global = true, value_name = "URL")]
    pub(super) builder: Option<String>,
    /// How the result is written to stdout
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(super) format: FormatChoice,
    /// How progress is written to stderr [default: auto]
    #[arg(long, global = true, value_name = "MODE")]
    pub(super) progress: Option<ProgressChoice>,
    /// Log what is done to stderr; twice for more
    #[arg(hide_short_help = true, short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Write no progress: the same as `--progress quiet`
    #[arg(short, long, global = true, conflicts_with_all = ["progress", "verbose"])]
    pub(super) quiet: bool,
    /// Write when each step ran to FILE, for Perfetto or chrome://tracing
    #[arg(hide_short_help = true, long, global = true, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// The authority that signed a `tcp://` builder's certificate
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_name = "FILE",
        help_heading = "Builder TLS options"
    )]
    pub(super) tlscacert: Option<PathBuf>,
    /// Our certificate for a `tcp://` builder
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_name = "FILE",
        requires = "tlskey",
        help_heading = "Builder TLS options"
    )]
    pub(super) tlscert: Option<PathBuf>,
    /// The key of `--tlscert`
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_name = "FILE",
        requires = "tlscert",
        help_heading = "Builder TLS options"
    )]
    pub(super) tlskey: Option<PathBuf>,
    /// The name in a `tcp://` builder's certificate, where it is not the address
    #[arg(
        hide_short_help = true,
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Builder TLS options"
    )]
    pub(super) tlsservername: Option<String>,
    /// A directory with `ca.pem`, `cert.pem` and `key.pem` (or `ca.crt`, `tls.crt` and `tls.key`)
    #[arg(hide_short_help = true, long,
        global = true,
        value_name = "DIR",
        conflicts_with_all = ["tlscacert", "tlscert", "tlskey"],
        help_heading = "Builder TLS options"
    )]
    pub(super) tlsdir: Option<PathBuf>,
}

impl GlobalArguments {
    /// Who writes results and failures.
    pub(super) fn printer(&self) -> Printer {
        Printer::new(match self.format {
            FormatChoice::Text => Format::Text,
            FormatChoice::Json => Format::Json,
        })
    }
}

/// `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FormatChoice {
    /// One line
    Text,
    /// One JSON object, also on failure
    Json,
}

/// `--progress`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ProgressChoice {
    /// `tty` on a terminal, else `plain`
    Auto,
    /// A view that is redrawn
    Tty,
    /// Lines
    Plain,
    /// BuildKit's status, one JSON object a line
    Rawjson,
    /// Nothing but errors
    Quiet,
}
