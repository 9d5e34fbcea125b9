//! What could stand at the cursor, by what the command line knows of itself. Pure.

use clap::{Arg, Command};
use std::collections::BTreeMap;

/// What the shell is to offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// These, each with what it is.
    Values(Vec<(String, String)>),
    /// Files.
    Files,
    /// Directories.
    Directories,
}

/// A value that is asked for, and what was typed before it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Asked<'a> {
    /// The command.
    pub(super) command: &'a str,
    /// The id of the argument.
    pub(super) argument: &'a str,
    /// The values before it, by the ids of their arguments; the last of several.
    pub(super) given: BTreeMap<String, String>,
}

/// What could stand in the place of the last of `words`. `values` knows what no flag declares: none
/// for an argument that it does not know.
pub(super) fn complete(
    program: &Command,
    words: &[String],
    values: impl Fn(&Asked<'_>) -> Option<Vec<(String, String)>>,
) -> Answer {
    let empty = String::new();
    let (current, before) = match words.split_last() {
        Some((current, before)) => (current, before),
        None => (&empty, words),
    };
    let place = Place::after(program, before);
    let ask = |argument: &Arg, typed: &str, head: &str| {
        let asked = Asked {
            command: place.command.get_name(),
            argument: argument.get_id().as_str(),
            given: place.given.clone(),
        };
        value(argument, typed, head, values(&asked))
    };
    if let Some(argument) = place.pending {
        return ask(argument, current, "");
    }
    if !place.only_positionals && current.starts_with('-') {
        if let Some((flag, typed)) = current.split_once('=')
            && let Some(argument) = place.long(flag.trim_start_matches("--"))
        {
            return ask(argument, typed, &format!("{flag}="));
        }
        return Answer::Values(place.flags(current));
    }
    let mut found: Vec<(String, String)> = Vec::new();
    if place.positionals == 0 && !place.only_positionals {
        let commands = place.command.get_subcommands().filter(|command| !command.is_hide_set());
        let commands = commands.filter(|command| command.get_name().starts_with(current.as_str()));
        found.extend(commands.map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            (command.get_name().to_owned(), first_line(&about))
        }));
    }
    let mut positionals = place.command.get_positionals();
    let Some(positional) = positionals.nth(place.positionals) else { return Answer::Values(found) };
    match ask(positional, current, "") {
        Answer::Values(values) => {
            found.extend(values);
            Answer::Values(found)
        }
        other if found.is_empty() => other,
        _ => Answer::Values(found),
    }
}

/// Where the cursor is.
struct Place<'a> {
    command: &'a Command,
    /// The option whose value is next.
    pending: Option<&'a Arg>,
    /// How many positional arguments stand before.
    positionals: usize,
    only_positionals: bool,
    given: BTreeMap<String, String>,
}

impl<'a> Place<'a> {
    fn after(program: &'a Command, words: &[String]) -> Self {
        let mut place = Self {
            command: program,
            pending: None,
            positionals: 0,
            only_positionals: false,
            given: BTreeMap::new(),
        };
        for word in words {
            place.pass(word);
        }
        place
    }

    fn pass(&mut self, word: &str) {
        if let Some(argument) = self.pending.take() {
            self.give(argument, word);
            return;
        }
        if self.only_positionals || !word.starts_with('-') || word == "-" {
            self.positional(word);
        } else if word == "--" {
            self.only_positionals = true;
        } else if let Some(flag) = word.strip_prefix("--") {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            match (self.long(name), value) {
                (Some(argument), Some(value)) => self.give(argument, value),
                (Some(argument), None) if takes_next(argument) => self.pending = Some(argument),
                _ => {}
            }
        } else {
            self.shorts(word);
        }
    }

    /// Short flags in one word; what follows one that takes a value is the value.
    fn shorts(&mut self, word: &str) {
        for (at, letter) in word.char_indices().skip(1) {
            let known = self.command.get_arguments().find(|arg| arg.get_short() == Some(letter));
            let Some(argument) = known.filter(|argument| takes_next(argument)) else { continue };
            let rest = word.get(at + letter.len_utf8()..).unwrap_or_default();
            if rest.is_empty() {
                self.pending = Some(argument);
            } else {
                self.give(argument, rest.strip_prefix('=').unwrap_or(rest));
            }
            return;
        }
    }

    fn positional(&mut self, word: &str) {
        let sub = self
            .command
            .find_subcommand(word)
            .filter(|_| self.positionals == 0 && !self.only_positionals);
        if let Some(command) = sub {
            self.command = command;
            return;
        }
        if let Some(argument) = self.command.get_positionals().nth(self.positionals) {
            self.give(argument, word);
        }
        self.positionals += 1;
    }

    fn give(&mut self, argument: &Arg, value: &str) {
        self.given.insert(argument.get_id().as_str().to_owned(), value.to_owned());
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|argument| argument.get_long() == Some(name))
    }

    fn flags(&self, typed: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for argument in self.command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(long) = argument.get_long() else { continue };
            let flag = format!("--{long}");
            if flag.starts_with(typed) {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                found.push((flag, first_line(&help)));
            }
        }
        found
    }
}

/// Whether an option's value is the next word.
fn takes_next(argument: &Arg) -> bool {
    argument.get_action().takes_values() && !argument.is_require_equals_set()
}

/// The values that `argument` can have and that begin with `typed`; each behind `head`.
fn value(argument: &Arg, typed: &str, head: &str, known: Option<Vec<(String, String)>>) -> Answer {
    let declared = argument.get_possible_values();
    let declared = declared.iter().filter(|value| !value.is_hide_set()).map(|value| {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        (value.get_name().to_owned(), first_line(&help))
    });
    let all: Vec<(String, String)> = match known {
        Some(known) => known,
        None => declared.collect(),
    };
    if all.is_empty() {
        let name =
            argument.get_value_names().and_then(<[_]>::first).map(clap::builder::Str::as_str);
        return match name {
            Some("DIR") => Answer::Directories,
            Some("FILE" | "PATH" | "CONTEXT" | "SOURCE" | "SPEC" | "NAME=VALUE") => Answer::Files,
            _ => Answer::Values(Vec::new()),
        };
    }
    // Where several can be given behind each other, the last one is asked for.
    let (list, last) = match (argument.get_value_delimiter(), typed) {
        (Some(delimiter), typed) => match typed.rfind(delimiter) {
            Some(at) => typed.split_at_checked(at + delimiter.len_utf8()).unwrap_or(("", typed)),
            None => ("", typed),
        },
        (None, typed) => ("", typed),
    };
    let fitting = all.into_iter().filter(|(value, _)| value.starts_with(last));
    Answer::Values(fitting.map(|(value, help)| (format!("{head}{list}{value}"), help)).collect())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('\t', " ")
}

#[cfg(test)]
mod tests {
    use super::{Answer, Asked, complete};
    use crate::cli::arguments::Arguments;
    use clap::CommandFactory as _;

    fn answer(line: &str) -> Answer {
        let mut program = Arguments::command();
        program.build();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        complete(&program, &words, |asked: &Asked<'_>| {
            (asked.argument == "target" || asked.argument == "no_cache_filter").then(|| {
                let file = asked.given.get("file").cloned().unwrap_or_default();
                vec![("build".to_owned(), file), ("test".to_owned(), String::new())]
            })
        })
    }

    fn values(line: &str) -> Vec<String> {
        match answer(line) {
            Answer::Values(values) => values.into_iter().map(|(value, _)| value).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_flags_and_values_are_offered_where_they_fit() {
        assert_eq!(values("bu"), ["build", "builder"]);
        assert!(values("").contains(&"explain".to_owned()));
        assert!(!values("").contains(&"__complete".to_owned()));
        assert_eq!(values("build --targ"), ["--target"]);
        assert_eq!(values("build --progress t"), ["tty"]);
        assert_eq!(values("--progress=r"), ["--progress=rawjson"]);
        assert_eq!(values("build --target "), ["build", "test"]);
        assert_eq!(values("build --target=t"), ["--target=test"]);
        assert_eq!(values("build --no-cache-filter build,t"), ["build,test"]);
        assert_eq!(answer("build -f "), Answer::Files);
        assert_eq!(answer("build "), Answer::Files);
        assert_eq!(answer("-C "), Answer::Directories);
        assert_eq!(answer("build --push "), Answer::Files, "its value stands behind `=`");
        assert_eq!(values("build --format json -"), values("build -"));
        assert_eq!(values("build a b c"), Vec::<String>::new());
    }

    #[test]
    fn what_was_typed_before_is_known() {
        for line in [
            "build -f a.Dockerfile --target b",
            "build -fa.Dockerfile --target b",
            "build --file=a.Dockerfile . --target b",
        ] {
            let expected = vec![("build".to_owned(), "a.Dockerfile".to_owned())];
            assert_eq!(answer(line), Answer::Values(expected), "{line}");
        }
    }
}
