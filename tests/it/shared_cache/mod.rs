//! The conformance corpus, built by `docker buildx` and by us in turns, on every builder: what one
//! builds the other finds in its cache, and both make the same image config.
//!
//! The images that a case names are made for it: configured as the corpus says, with a shell that says of
//! everything that it worked, and with the files that its stages are expected to have made; the files
//! that its contexts lack are made up too. So every case is built that needs nothing from the web, and
//! [`APART`] says why any other is not.

mod case;
mod images;
mod needs;
mod sides;

use crate::build::{Builder, builders, graphdriver, unique};
use case::{Case, corpus, read_json};
use images::Images;
use sides::{Group, Made};
use std::{env, fs, thread};

const WEB: &str = "reads from a server of the web that nobody has";
const IGNORED: &str = "copies what its ignore file leaves out";
const PATTERN: &str = "copies a path that is no pattern, or is one of another file";

/// Cases that nobody can build here.
const APART: &[(&str, &str)] = &[
    ("add-git", WEB),
    ("add-http", WEB),
    ("add-unpack", WEB),
    ("context-git", WEB),
    ("context-local-stage", "runs a shell in a directory of the client's that has none"),
    ("context-remote-git", WEB),
    ("copy-from-kinds", "copies a file out of an empty image"),
    ("copy-ignored-by-context", WEB),
    ("copy-link", WEB),
    ("copy-link-user-name", "gives a file to a user by name where no user is known"),
    ("lint-copy-ignored", IGNORED),
    ("lint-copy-ignored-everything", IGNORED),
    ("mount-cache", "mounts a directory out of a cache that has none"),
    ("no-cache-filter", WEB),
    ("parse-bom-directive", PATTERN),
    ("parse-directives", "its `# syntax` is an image of the web"),
    ("parse-escape-backtick", PATTERN),
    ("parse-json-and-shell-forms", PATTERN),
    ("platform-windows", "no builder of the bed runs Windows"),
    ("run-network-security", "no builder of the bed allows `security.insecure`"),
    ("source-date-epoch-from-stage", WEB),
    ("vars-everywhere", WEB),
];

/// Cases that a Docker does not build, or its own frontend, which is of an older release than the one
/// that we follow, makes something else of; and whether that is so only where it has graphdrivers.
const LATER: &[(&str, bool, &str)] = &[
    ("context-oci-layout", true, "reads no layouts"),
    ("copy-parents", false, "has no `COPY --parents`"),
    ("heredoc-run-interpreter", false, "keeps the tabs of a script that names its interpreter"),
    ("mount-all-kinds", false, "has no `RUN --security`"),
    ("real-cpp-cmake", false, "has no `COPY --parents`"),
    ("real-java-maven", false, "has no `COPY --parents`"),
    ("source-date-epoch-from-local-context", false, "takes no context for the time"),
];

/// Whether `builder` builds `case`.
fn builds(builder: Builder, case: &Case) -> bool {
    let is_old = builder.address == graphdriver().address;
    builder.docker_host.is_none()
        || !LATER.iter().any(|(name, only_old, _)| case.name == *name && (is_old || !only_old))
}

/// How many cases a call of buildx builds at once.
const GROUP: usize = 10;

/// Says what is not as it should be where one built first and the other second.
fn held(builder: Builder, case: &Case, first: &Made, second: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut add = |text: String| wrong.push(format!("{}: {}: {text}", case.name, builder.address));
    if !second.uncached().is_empty() && !case.refuses_cache() {
        add(format!("built again: {:?}", second.uncached()));
    }
    // What runs twice is not the same twice, and an older release tells a health check's command with
    // other words in the history.
    let is_told_otherwise = builder.docker_host.is_some() && case.checks_health();
    let is_comparable = !case.refuses_cache() && !is_told_otherwise;
    if (first.config != second.config || first.config.is_none()) && is_comparable {
        add(format!("configs differ: {:?} {:?}", first.config, second.config));
    }
    if first.names() != second.names() {
        add(format!("other steps: {:?} {:?}", first.names(), second.names()));
    }
    if first.uncached().is_empty() && !first.steps.is_empty() && case.is_marked() {
        add("nothing was built at first".to_owned());
    }
    wrong
}

/// Which way round a group is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Ours,
    Theirs,
}

/// Builds cases one way round; says what is not as it should be, by the case's name.
fn one_way<'c>(
    builder: Builder,
    cases: &[&'c Case],
    first: First,
    images: &Images,
) -> Vec<(&'c str, String)> {
    let group = Group::new(cases, &unique(), images);
    let both = || {
        Ok(match first {
            First::Ours => (group.ours(builder)?, group.buildx(builder)?),
            First::Theirs => (group.buildx(builder)?, group.ours(builder)?),
        })
    };
    let (before, after) = match both() {
        Ok(both) => both,
        Err(error) => {
            let error: String = error;
            let text = format!("{}: {first:?} first: {error}", builder.address);
            return cases.iter().map(|case| (&*case.name, text.clone())).collect();
        }
    };
    let wrong = |case: &&'c Case| {
        let name: &'c str = &case.name;
        let texts = held(builder, case, &before[name], &after[name]);
        texts.into_iter().map(move |text| (name, text))
    };
    cases.iter().flat_map(wrong).collect()
}

/// The cases that can be built, which are all but those apart.
fn buildable() -> Vec<Case> {
    let mut names: Vec<String> = fs::read_dir(corpus())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("case.json").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("err-"))
        .collect();
    names.sort();
    let apart = APART.iter().map(|(name, _)| name);
    for listed in apart.chain(LATER.iter().map(|(name, ..)| name)) {
        assert!(names.iter().any(|one| one == listed), "there is no case `{listed}`");
    }
    names.retain(|name| APART.iter().all(|(apart, _)| name != apart));
    let known = read_json("images.json");
    names.iter().map(|name| Case::read(name, &known)).collect()
}

/// Each builder builds half of the groups first here and the other half first there, each builder other
/// halves; with `BK_SYNC_TEST_BOTH_WAYS` set, each builder builds all groups both ways.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how much")]
fn ways(builder: usize, group: usize) -> &'static [First] {
    if env::var_os("BK_SYNC_TEST_BOTH_WAYS").is_some() {
        return &[First::Ours, First::Theirs];
    }
    if (builder + group).is_multiple_of(2) { &[First::Ours] } else { &[First::Theirs] }
}

#[test]
fn the_corpus_shares_cache_with_buildx_both_ways_and_gives_equal_configs() {
    let cases = buildable();
    let known = read_json("images.json");
    // What was built on one image is not in the cache for the other.
    let images = ["ours", "theirs"]
        .map(|first| images::publish(&cases, &known, &format!("{first}-{}", unique())));
    let wrong: Vec<(&str, String)> = thread::scope(|scope| {
        let running = (0..).zip(builders()).map(|(at, builder)| {
            let (all, known, images) = (&cases, &known, &images);
            scope.spawn(move || {
                let own: Vec<&Case> = all.iter().filter(|case| builds(builder, case)).collect();
                let mut wrong = Vec::new();
                for (group, cases) in own.chunks(GROUP).enumerate() {
                    for first in ways(at, group) {
                        let images = &images[usize::from(*first == First::Theirs)];
                        let found = one_way(builder, cases, *first, images);
                        if found.is_empty() {
                            continue;
                        }
                        // A builder that is short of space, or is told to by another test, forgets what
                        // it built just now. What does not share its cache does not do so a second time.
                        let is_wrong =
                            |case: &&&Case| found.iter().any(|(name, _)| case.name == *name);
                        let again: Vec<&Case> = cases.iter().filter(is_wrong).copied().collect();
                        let anew = images::publish(all, known, &format!("again-{}", unique()));
                        wrong.extend(one_way(builder, &again, *first, &anew));
                    }
                }
                wrong
            })
        });
        let running: Vec<_> = running.collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let texts: Vec<&str> = wrong.iter().map(|(_, text)| text.as_str()).collect();
    assert!(texts.is_empty(), "of {} cases:\n{}", cases.len(), texts.join("\n"));
}
