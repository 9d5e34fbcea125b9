//! `SOURCE_DATE_EPOCH`: the one time that a reproducible build knows.

use super::context;
use super::error::{CompileError, Fault};
use super::git_ref::{GitRef, NoGitRef};
use super::named::NamedContext;
use super::question::{Answer, Question, SourceQuestion};
use super::target::{Stop, Target};
use crate::dockerfile::ast::{Add, ArgName, Instruction, Kind, Stage as StageAst};
use crate::image::reference;
use crate::llb::path;
use crate::llb::{Constraints, Env, Http, State, percent_decode};

/// The name of the argument.
pub(super) const NAME: &str = "SOURCE_DATE_EPOCH";

impl Target<'_> {
    /// Finds out the clock and lets the argument be a number, or nothing.
    pub(super) fn resolve_epoch(&mut self) -> Result<(), Stop> {
        let given = self.build_args.get(NAME).cloned();
        let global = || self.global_args.get(NAME).filter(|text| !text.is_empty());
        let Some(text) = given.or_else(|| global().map(str::to_owned)) else { return Ok(()) };
        self.epoch = self.epoch_of(&text)?;
        let number = self.epoch.map(|seconds| seconds.to_string());
        if self.build_args.contains_key(NAME) {
            match &number {
                Some(number) => self.build_args.insert(NAME.into(), number.clone()),
                None => self.build_args.remove(NAME),
            };
        }
        if self.global_args.get(NAME).is_some() {
            match &number {
                Some(number) => self.global_args.set(NAME, number),
                None => self.global_args.remove(NAME),
            }
        }
        Ok(())
    }

    fn epoch_of(&mut self, text: &str) -> Result<Option<i64>, Stop> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Ok(seconds) = text.parse::<i64>() {
            return Ok(Some(seconds));
        }
        if text == "context" {
            let question = self.input.context.source.clone().map(|source| SourceQuestion {
                log_name: "[internal] resolve main build context metadata".into(),
                ..source
            });
            return self.time_of(question);
        }
        if let Some(named) = self.named_context(text, None)? {
            let source = self.time_source(&named)?;
            let log_name = format!("[internal] resolve {NAME} named context {text}");
            return self.time_of(source.map(|source| SourceQuestion { log_name, ..source }));
        }
        let stages = &self.input.dockerfile.stages;
        let named = |stage: &&StageAst| {
            stage.from.name.as_deref().unwrap_or_default().eq_ignore_ascii_case(text)
        };
        let Some(stage) = stages.iter().find(named) else {
            return Err(CompileError::new(Fault::Epoch(text.into())).into());
        };
        let lines = Some(stage.origin.lines);
        let source = self.stage_source(stage).map_err(|error| error.at(lines))?;
        let name = stage.from.name.as_deref().unwrap_or_default();
        let log_name = format!("[internal] resolve {NAME} source stage {name}");
        self.time_of(Some(SourceQuestion { log_name, ..source }))
    }

    fn time_of(&mut self, question: Option<SourceQuestion>) -> Result<Option<i64>, Stop> {
        let Some(question) = question else { return Ok(None) };
        match self.ask(Question::SourceTime(question))? {
            Answer::Time(time) => Ok(time),
            Answer::File(_) | Answer::Image(_) | Answer::Input(_) => Ok(None),
        }
    }

    /// Only repositories and files of the web have a time; the rest is looked up all the same, so
    /// that what does not exist is an error here too.
    fn time_source(&mut self, named: &NamedContext) -> Result<Option<SourceQuestion>, Stop> {
        let loaded = self.load_context(named)?;
        Ok(context::source_question(&loaded.state))
    }

    /// The source that a stage consists of.
    fn stage_source(&self, stage: &StageAst) -> Result<SourceQuestion, CompileError> {
        let mut env = self.global_args.clone();
        env.remove(NAME);
        let base = self.expander.word(&stage.from.base, &env).map_err(Fault::from)?.text;
        if base != "scratch" {
            return Err(unfit("SOURCE_DATE_EPOCH stage must use FROM scratch"));
        }
        let one = "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD";
        let mut source = None;
        for Instruction { kind, .. } in &stage.instructions {
            match kind {
                Kind::Arg(arg) => self.stage_arguments(&arg.names, &mut env)?,
                Kind::Add(_) if source.is_some() => return Err(unfit(one)),
                Kind::Add(add) => source = Some(self.added_source(add, &env)?),
                other => {
                    return Err(CompileError::new(Fault::EpochStage(format!(
                        "SOURCE_DATE_EPOCH stage does not meet source-only requirements: \
                         unsupported {} instruction",
                        other.name()
                    ))));
                }
            }
        }
        source.ok_or_else(|| unfit(one))
    }

    fn stage_arguments(&self, names: &[ArgName], env: &mut Env) -> Result<(), CompileError> {
        for name in names {
            if let Some(value) = self.build_args.get(&name.key) {
                env.set(&name.key, value);
            } else if let Some(value) = &name.value {
                let value = self.expander.word(value, env).map_err(Fault::from)?.text;
                env.set(&name.key, &value);
            }
        }
        Ok(())
    }

    fn added_source(&self, add: &Add, env: &Env) -> Result<SourceQuestion, CompileError> {
        let [source] = add.files.paths.as_slice() else {
            return Err(unfit(
                "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source",
            ));
        };
        if !add.files.inline.is_empty() {
            return Err(unfit(
                "SOURCE_DATE_EPOCH stage must contain exactly one remote ADD source",
            ));
        }
        let word = |text: &str| -> Result<String, CompileError> {
            Ok(self.expander.word(text, env).map_err(Fault::from)?.text)
        };
        let text = word(source)?;
        let checksum = word(&add.checksum)?;
        let state = if is_of_the_web(&text) {
            if !checksum.is_empty() {
                reference::check_digest(&checksum).map_err(Fault::Reference)?;
            }
            Http::new(&text).filename(web_name(&text)).checksum(checksum).state(Constraints::new())
        } else {
            match GitRef::parse(&text) {
                Err(NoGitRef::Query(error)) => return Err(Fault::GitQuery(error).into()),
                Ok(git) if !git.like_a_path => git_state(&git, add.keep_git_dir, &checksum),
                Ok(_) | Err(NoGitRef::Other) => {
                    return Err(unfit(
                        "SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD",
                    ));
                }
            }
        };
        context::source_question(&state).ok_or_else(|| {
            unfit("SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD")
        })
    }
}

fn git_state(git: &GitRef, keep: Option<bool>, checksum: &str) -> State {
    let checksum = if checksum.is_empty() { git.checksum.as_str() } else { checksum };
    let mut source = git.source().checksum(checksum);
    if keep == Some(true) || git.keep_git_dir == Some(true) {
        source = source.keep_git_dir();
    }
    source.state(Constraints::new())
}

fn unfit(text: &str) -> CompileError {
    CompileError::new(Fault::EpochStage(text.into()))
}

/// Whether a source is a file of the web, and no repository.
pub(super) fn is_of_the_web(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://")) && !GitRef::is_one(text)
}

/// The name that a file of the web has in the build: the end of its path.
pub(super) fn web_name(address: &str) -> String {
    let unnamed = || "__unnamed__".to_owned();
    let bare = address.split(['?', '#']).next().unwrap_or_default();
    let after_host = bare.split_once("://").map_or("", |(_, rest)| rest);
    let Some((_, raw_path)) = after_host.split_once('/') else { return unnamed() };
    let Some(decoded) = percent_decode(raw_path) else { return unnamed() };
    match path::base(&format!("/{decoded}")) {
        "." | "/" => unnamed(),
        name => name.to_owned(),
    }
}

/// Refuses a clock that the times of an image config cannot name.
pub(super) fn check_year(epoch: Option<i64>) -> Result<(), Fault> {
    // From the first second of the year 0 to the last of 9999.
    match epoch.filter(|seconds| !(-62_167_219_200..=253_402_300_799).contains(seconds)) {
        Some(seconds) => Err(Fault::EpochYear(seconds)),
        None => Ok(()),
    }
}

/// Seconds since 1970 as a date and time in UTC.
pub(super) fn rfc3339(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    // Civil date from days since 1970, by counting in eras of 400 years that start on 1 March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_have_four_digits() {
        for (seconds, text) in
            [(-62_167_219_200, "0000-01-01T00:00:00Z"), (253_402_300_799, "9999-12-31T23:59:59Z")]
        {
            assert_eq!(rfc3339(seconds), text);
            assert!(check_year(Some(seconds)).is_ok());
        }
        assert!(check_year(Some(-62_167_219_201)).is_err());
        assert!(check_year(Some(253_402_300_800)).is_err());
    }

    #[test]
    fn seconds_are_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_735_689_600), "2025-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn files_of_the_web_are_named_by_their_paths() {
        for (address, expected) in [
            ("https://e.test/a/b.tgz?x=/y#z", "b.tgz"),
            ("https://e.test/a%20b", "a b"),
            ("https://e.test/", "__unnamed__"),
            ("https://e.test", "__unnamed__"),
            ("https://e.test/a/", "a"),
        ] {
            assert_eq!(web_name(address), expected, "{address}");
        }
    }
}
