//! Dockerfiles to be compiled on both sides, and the files of `tests/differential` that hold some.
//!
//! ```text
//! === its name
//! :build-arg:A=b
//! :!ignore=*.md
//! FROM %BASE%
//! ```
//! A line `=== NAME` starts a case. Lines behind it that start with a colon are attributes of the
//! frontend, or with `:!` one of these:
//! - `ignore=PATTERN`: a line of the ignore file,
//! - `crlf`: the lines end with CRLF; `unended`: the last line has no end,
//! - `json`: the text is one JSON string,
//! - `newer=WHY`: releases before ours make something else of it (a case of which they make the same
//!   fails),
//! - `own-words=WHY`: we say in words of our own what is wrong, at the same place (a case that says it
//!   in BuildKit's words fails).
//!
//! A colon alone ends them. `%BASE%`, `%ARM64%`, `%DEBIAN%`, `%GIT%` are the bed's, and `images` has
//! more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::images;
use crate::bed;
use crate::generated::Generated;

/// A Dockerfile and what it is compiled with.
#[derive(Clone, Debug, Default)]
pub struct Case {
    pub name: String,
    pub text: Vec<u8>,
    pub attrs: BTreeMap<String, String>,
    /// Its ignore file.
    pub ignore: Option<String>,
    /// Why older releases make something else of it, where they do.
    pub newer: Option<String>,
    /// Why we say in words of our own what is wrong, where we do.
    pub own_words: Option<String>,
}

impl Case {
    /// One made up at random, with options that differ from one to the next.
    pub fn made(made: &Generated, at: usize) -> Self {
        let mut attrs = BTreeMap::new();
        let mut add = |name: &str, value: &str| drop(attrs.insert(name.into(), value.into()));
        // The builder's own platform, one other, and several at once.
        let platform = ["", "linux/arm64", "linux/amd64,linux/arm64"][at % 3];
        if !platform.is_empty() {
            add("platform", platform);
        }
        if at % 4 == 3 {
            add("build-arg:VERSION", "9");
            add("no-cache", "");
        }
        let stage = (!made.stages.is_empty()).then(|| &*made.stages[at % made.stages.len()]);
        match (at % 13, stage) {
            (1, Some(stage)) => add("target", &stage.to_uppercase()),
            (2, Some(stage)) => add("no-cache", &format!("other,{stage}")),
            (3, Some(stage)) => add(&format!("context:{stage}"), "local:tidy"),
            (4, Some(stage)) => add(&format!("context:{stage}"), "https://example.test/r.git#b:d"),
            (5, _) => {
                add("add-hosts", "a.test=192.0.2.1,b.test=::1");
                add("ulimit", "nofile=1024:2048,core=-1");
                add("shm-size", "1048576");
                add("cgroup-parent", "build.slice");
                add("force-network-mode", "none");
                add("hostname", "maker");
            }
            (6, _) => {
                add("build-arg:SOURCE_DATE_EPOCH", "1735689600");
                add("build-arg:HTTPS_proxy", "http://proxy.test:3128");
                add("build-arg:BUILDKIT_CACHE_MOUNT_NS", "space");
                add("label:made.by", "a \"b\" c");
            }
            (7, _) => {
                add("build-arg:A", "given $B");
                add("build-arg:TARGETARCH", "riscv64");
                add("build-arg:BUILDKIT_MULTI_PLATFORM", "true");
            }
            (8, _) => add("build-arg:BUILDKIT_DOCKERFILE_CHECK", "experimental=all"),
            _ => {}
        }
        let text = made.text.clone().into_bytes();
        let ignore = (at % 5 == 4).then(|| "src\n*.go\ndir\n".to_owned());
        Self { name: format!("made up, {at}"), text, attrs, ignore, ..Self::default() }
    }

    fn option(&mut self, line: &str) {
        match line.strip_prefix('!') {
            Some("crlf") => {
                self.text = String::from_utf8_lossy(&self.text).replace('\n', "\r\n").into();
            }
            Some("unended") => drop(self.text.pop()),
            Some("json") => {
                let text: String = serde_json::from_slice(&self.text).unwrap();
                self.text = text.into_bytes();
            }
            Some(other) => match other.split_once('=') {
                Some(("newer", why)) if !why.is_empty() => self.newer = Some(why.to_owned()),
                Some(("own-words", why)) if !why.is_empty() => {
                    self.own_words = Some(why.to_owned());
                }
                Some(("ignore", pattern)) => {
                    let file = self.ignore.get_or_insert_default();
                    file.push_str(pattern);
                    file.push('\n');
                }
                _ => panic!("`:!{other}` is no option of a case, or lacks its reason"),
            },
            None => {
                let (name, value) = line.split_once('=').unwrap_or((line, ""));
                self.attrs.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// Where the files of cases are: `BK_SYNC_TEST_CASES` names another directory of such files.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests names the cases")]
fn directory() -> PathBuf {
    let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential");
    env::var_os("BK_SYNC_TEST_CASES").map_or_else(own, PathBuf::from)
}

/// All cases of the files, with the bed's addresses filled in.
pub fn read() -> Vec<Case> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "cases"))
        .collect();
    files.sort();
    files.iter().flat_map(|file| parse(&fs::read_to_string(file).unwrap())).collect()
}

fn parse(text: &str) -> Vec<Case> {
    let mut text = text
        .replace("%BASE%", bed::base_multi())
        .replace("%ARM64%", bed::base_arm64())
        .replace("%DEBIAN%", bed::base_debian_arm64())
        .replace("%GIT%", bed::git());
    for (placeholder, name) in images::names() {
        text = text.replace(placeholder, name);
    }
    let mut cases = Vec::new();
    for part in format!("\n{text}").split("\n=== ").skip(1) {
        let (name, mut rest) = part.split_once('\n').unwrap_or((part, ""));
        let mut options = Vec::new();
        while let Some(line) = rest.strip_prefix(':') {
            let (option, more) = line.split_once('\n').unwrap_or((line, ""));
            rest = more;
            if option.is_empty() {
                break;
            }
            options.push(option);
        }
        let mut text = rest.as_bytes().to_vec();
        text.push(b'\n');
        let mut case = Case { name: name.to_owned(), text, ..Case::default() };
        for option in options {
            case.option(option);
        }
        cases.push(case);
    }
    cases
}
