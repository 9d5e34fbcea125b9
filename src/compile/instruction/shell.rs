//! `SHELL`

use crate::compile::dispatch::Step;
use crate::dockerfile::Lines;
use crate::dockerfile::ast::CommandLine;
use crate::dockerfile::lint::rules;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, words: Vec<String>) {
    let text = format!("SHELL [{}]", words.join(" "));
    step.stage.image.config_mut().config.shell = words;
    step.commit(text);
}

impl Step<'_, '_> {
    /// A command line behind the stage's shell.
    pub(super) fn with_shell(&self, words: &[String]) -> Vec<String> {
        let config = self.stage.image.config();
        let mut args = if config.config.shell.is_empty() {
            let default: &[&str] =
                if config.os == "windows" { &["cmd", "/S", "/C"] } else { &["/bin/sh", "-c"] };
            default.iter().map(|word| (*word).to_owned()).collect()
        } else {
            config.config.shell.clone()
        };
        args.push(words.join(" "));
        args
    }

    /// The command line of `CMD` and `ENTRYPOINT`.
    pub(super) fn image_command(&mut self, command: &CommandLine) -> Vec<String> {
        if !command.shell {
            return command.words.clone();
        }
        if self.stage.image.config().config.shell.is_empty() {
            let rule = &rules::JSON_ARGS_RECOMMENDED;
            let message = (rule.message)(&self.origin.keyword);
            self.scope.report(rule, self.lines(), message);
        }
        self.with_shell(&command.words)
    }

    /// Warns of an instruction that this one makes useless.
    pub(super) fn warn_repeated(&mut self, before: Option<Lines>) {
        let Some(before) = before else { return };
        let rule = &rules::MULTIPLE_INSTRUCTIONS_DISALLOWED;
        let message = (rule.message)(&self.origin.keyword);
        self.scope.report(rule, before, message);
    }
}
