//! The names of steps: `[linux/arm64 stage 2/7] RUN make`.

use std::fmt::Write as _;

use crate::dockerfile::expand::{Expander, Variables};
use crate::llb::{Env, Platform};

/// Where a stage is in the counting of its steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    /// The name of the stage, empty where there is only one.
    pub(super) stage: String,
    /// The number of the last step.
    pub(super) done: usize,
    /// How many there will be.
    pub(super) total: usize,
    /// Whether the present step comes from a trigger.
    pub(super) on_build: bool,
    /// Whether names start with the platform.
    pub(super) with_platform: bool,
}

impl Steps {
    /// The name of the next step.
    pub(super) fn next(&mut self, text: &str, platform: Option<&Platform>, env: &Env) -> String {
        if self.total == 0 {
            return text.into();
        }
        let mut name = String::from("[");
        if self.with_platform
            && let Some(platform) = platform
        {
            name.push_str(&platform.format_all());
            name.push_str(&cross_target(platform, env));
            name.push(' ');
        }
        if !self.stage.is_empty() {
            name.push_str(&self.stage);
            name.push(' ');
        }
        self.done += 1;
        let total = self.total.to_string();
        // Writing to a string cannot fail.
        let _ = write!(name, "{:>width$}/{total}] ", self.done, width = total.len());
        if self.on_build {
            name.push_str("ONBUILD ");
        }
        name + text
    }

    /// The name that the last step would have had with this text.
    pub(super) fn again(&mut self, text: &str, platform: Option<&Platform>, env: &Env) -> String {
        self.done = self.done.saturating_sub(1);
        self.next(text, platform, env)
    }
}

/// `->arm64` where the variables of a stage say that it makes something for another platform.
fn cross_target(own: &Platform, env: &Env) -> String {
    let Some(mut target) = target_of(env) else { return String::new() };
    if target.os.is_empty() {
        target.os.clone_from(&own.os);
    }
    if target.architecture.is_empty() {
        target.architecture.clone_from(&own.architecture);
    }
    let target = target.normalized();
    if target.os != own.os {
        return format!("->{}", target.format_all());
    }
    if target.architecture == own.architecture {
        return String::new();
    }
    if target.variant.is_empty() {
        format!("->{}", target.architecture)
    } else {
        format!("->{}/{}", target.architecture, target.variant)
    }
}

fn target_of(env: &Env) -> Option<Platform> {
    if let Some(text) = env.get("TARGETPLATFORM")
        && let Ok(platform) = Platform::parse(text)
    {
        return Some(platform);
    }
    let (os, arch, variant) =
        (env.get("TARGETOS"), env.get("TARGETARCH"), env.get("TARGETVARIANT"));
    if os.is_none() && arch.is_none() && variant.is_none() {
        return None;
    }
    Some(Platform {
        os: os.unwrap_or_default().into(),
        architecture: arch.unwrap_or_default().into(),
        variant: variant.unwrap_or_default().into(),
        ..Platform::default()
    })
}

/// A name that is longer is nobody's reading; the graph holds one for each step, in bytes.
const MAX_SHOWN: usize = 64 << 10;

/// An instruction with its variables filled in and its first word in capitals; as it is where it
/// cannot be read, or comes out of all proportion.
pub(super) fn shown(expander: Expander, code: &str, variables: &dyn Variables) -> String {
    let text = match expander.word(code, variables) {
        Ok(expansion) if expansion.text.len() <= code.len().max(MAX_SHOWN) => expansion.text,
        Ok(_) | Err(_) => code.to_owned(),
    };
    match text.split_once(' ') {
        Some((word, rest)) => format!("{} {rest}", word.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// The first line of a heredoc, for the name of the step that runs it.
pub(super) fn summary(text: &str) -> String {
    let text = text.trim().replace("\r\n", "\n");
    match text.split_once('\n') {
        Some((first, _)) => format!("{first}..."),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_and_padded() {
        let mut steps = Steps { stage: "app".into(), total: 12, ..Steps::default() };
        let env = Env::default();
        assert_eq!(steps.next("RUN a", None, &env), "[app  1/12] RUN a");
        assert_eq!(steps.again("LINK a", None, &env), "[app  1/12] LINK a");
        steps.on_build = true;
        assert_eq!(steps.next("RUN b", None, &env), "[app  2/12] ONBUILD RUN b");
        assert_eq!(Steps::default().next("FROM x", None, &env), "FROM x");
    }

    #[test]
    fn cross_builds_say_what_they_are_for() {
        let mut steps = Steps { total: 1, with_platform: true, ..Steps::default() };
        let own = Platform::new("linux", "amd64");
        let mut env = Env::default();
        env.set("TARGETARCH", "arm");
        env.set("TARGETVARIANT", "v7");
        assert_eq!(steps.next("RUN", Some(&own), &env), "[linux/amd64->arm/v7 1/1] RUN");
        env.set("TARGETPLATFORM", "windows/amd64");
        assert_eq!(steps.again("RUN", Some(&own), &env), "[linux/amd64->windows/amd64 1/1] RUN");
        env.set("TARGETPLATFORM", "linux/amd64");
        assert_eq!(steps.again("RUN", Some(&own), &env), "[linux/amd64 1/1] RUN");
    }

    #[test]
    fn a_summary_is_the_first_line() {
        assert_eq!(summary("\n a\r\nb\n"), "a...");
        assert_eq!(summary("a\n"), "a");
    }
}
