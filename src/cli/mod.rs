//! The command line: argv to typed arguments, one file per subcommand, no decisions beyond them.
//!
//! This is the outermost room: it alone knows the environment, the pipeline and, with the
//! [`Printer`], where results and failures go.

mod arguments;
mod build;
mod builder;
mod check;
mod cluster;
mod completion;
mod credentials;
mod doctor;
mod environment;
mod execute;
mod explain;
mod failure;
mod history;
mod images;
mod imagined;
mod init;
mod llb;
mod lock;
mod push;
mod question;
mod reach;
mod reproduce;
mod rollback;
mod rollout;
mod screen;
mod several;
mod signal;
mod status;
mod sync;
mod tls;
mod trace;
mod verify;
mod why;

pub use environment::{Environment, VARIABLES};

use crate::{
    config::Config,
    diagnostic::{Diagnostic, Exit, Format, Printer},
};
use arguments::{Arguments, Command, GlobalArguments};
use clap::{Parser, error::ErrorKind};
use std::{ffi::OsString, path::Path, process::ExitCode};

/// Runs a command line, the program's name first, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>, environment: &Environment) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return unparsed(&error, &arguments),
    };
    let printer = parsed.global.printer();
    screen::log(&parsed.global, environment);
    let command = parsed.command.name();
    let global = &parsed.global;
    // A config that is wrong keeps nobody from reading why, and no shell from completing.
    let of_itself = match &parsed.command {
        Command::Explain(explain) => Some(explain.run(printer)),
        Command::Completion(completion) => Some(completion.run(printer)),
        Command::Complete(complete) => Some(complete.run(environment)),
        _ => None,
    };
    if let Some(outcome) = of_itself {
        return ended(outcome, printer, command);
    }
    let reads_config = parsed.command.reads_config();
    let outcome = prepare(global, reads_config).and_then(|config| match parsed.command {
        Command::Builder(builder) => builder.run(global, config.as_ref(), environment, printer),
        Command::Init(init) => init.run(global.config.as_deref(), environment, printer),
        Command::Build(build) if build.call() != build::Call::Build => {
            question::answer(build.into_build(), global, config.as_ref(), environment, printer)
        }
        Command::Build(build) => {
            let config = config.as_ref();
            build.run(execute::Surroundings { global, config, environment, printer })
        }
        Command::Check(check) => check.run(global, config.as_ref(), environment, printer),
        Command::Doctor(doctor) => {
            doctor.run(sync::Surroundings { global, config: config.as_ref(), environment, printer })
        }
        Command::History(history) => history.run(environment, printer),
        Command::Push(push) => push.run(global, config.as_ref(), environment, printer),
        Command::Llb(llb) => llb.run(global, config.as_ref(), environment, printer),
        Command::Lock(lock) => lock.run(global, config.as_ref(), environment, printer),
        Command::Reproduce(reproduce) => {
            let config = config.as_ref();
            reproduce.run(execute::Surroundings { global, config, environment, printer })
        }
        Command::Rollback(back) => back.run(global, config.as_ref(), environment, printer),
        Command::Rollout(rollout) => rollout.run(global, config.as_ref(), environment, printer),
        Command::Status(status) => status.run(global, config.as_ref(), environment, printer),
        Command::Verify(verify) => verify.run(global, config.as_ref(), environment, printer),
        Command::Plan(plan) => {
            plan.run(sync::Surroundings { global, config: config.as_ref(), environment, printer })
        }
        Command::Sync(sync) => {
            sync.run(sync::Surroundings { global, config: config.as_ref(), environment, printer })
        }
        Command::Complete(complete) => complete.run(environment),
        Command::Completion(completion) => completion.run(printer),
        Command::Explain(explain) => explain.run(printer),
        Command::Why(why) => why.run(config.as_ref(), environment, printer),
    });
    ended(outcome, printer, command)
}

fn ended(outcome: Result<Exit, Box<Diagnostic>>, printer: Printer, command: &str) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(diagnostic) => failed(printer, Some(command), &diagnostic),
    }
}

/// Goes where the user wants to work, and reads the config that holds there.
fn prepare(
    global: &GlobalArguments,
    reads_config: bool,
) -> Result<Option<Config>, Box<Diagnostic>> {
    if let Some(directory) = &global.directory {
        std::env::set_current_dir(directory).map_err(|error| {
            let message = format!("cannot work in `{}`: {error}", directory.display());
            Diagnostic::new("USAGE", Exit::Usage, message)
                .with_fix("name a directory that exists with `--directory`")
        })?;
    }
    if !reads_config {
        return Ok(None);
    }
    let start = std::env::current_dir().unwrap_or_else(|_| Path::new(".").to_owned());
    let mut config = Config::find(&start, global.config.as_deref())?;
    if let Some(config) = &mut config
        && let Ok(relative) = config.path.strip_prefix(&start)
    {
        // Paths are shown, and handed to the builder, as the user would type them.
        config.path = relative.to_owned();
    }
    Ok(config)
}

/// The end of a command line that clap did not take: help, the version, or an error.
fn unparsed(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let shown = Printer::text(&error.render().ansi().to_string());
        return if shown.is_ok() { Exit::Done } else { Exit::Internal }.into();
    }
    let words: Vec<&str> = arguments.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let json = words.windows(2).any(|pair| matches!(pair, ["--format", "json"]))
        || words.contains(&"--format=json");
    let command = words.iter().copied().find(|word| {
        <Arguments as clap::CommandFactory>::command().find_subcommand(word).is_some()
    });
    let printer = Printer::new(if json { Format::Json } else { Format::Text });
    failed(printer, command, &usage_error(error))
}

/// An error of clap as ours.
fn usage_error(error: &clap::Error) -> Diagnostic {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Diagnostic::new("USAGE", Exit::Usage, "no command is given")
            .with_fix("run `bk-sync build`, or see `bk-sync --help`");
    }
    let rendered = error.render().to_string();
    let (mut message, mut tips) = (Vec::new(), Vec::new());
    for line in rendered.lines().map(str::trim) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            tips.push(tip.to_owned());
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else if !line.is_empty() {
            message.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    let message = message.join(" ").replace('\'', "`");
    let fix = match tips.as_slice() {
        [] => "see `bk-sync --help`".to_owned(),
        tips => tips.join("; ").replace('\'', "`"),
    };
    Diagnostic::new("USAGE", Exit::Usage, message).with_fix(fix)
}

fn failed(printer: Printer, command: Option<&str>, diagnostic: &Diagnostic) -> ExitCode {
    match printer.failure(command, diagnostic) {
        Ok(()) => diagnostic.exit.into(),
        Err(_) => Exit::Internal.into(),
    }
}
