//! The conformance corpus, built by `docker buildx` and by us in turns, on every builder: what one
//! builds the other finds in its cache, and both make the same image config.
//!
//! All images that the corpus names are one that fits: its shell says of everything that it worked, and
//! the files that contexts and stages lack are made up from the graph. So every case that needs nothing
//! from the web is built, and [`APART`] says why any other is not.

mod case;
mod needs;

use crate::build::{Builder, builders, unique};
use case::{Case, Group, Made, corpus, obliging_image};
use std::{env, fs, thread};

/// Cases that cannot be built here, or not out of a cache.
const APART: &[(&str, &str)] = &[];

/// How many cases a call of buildx builds at once.
const GROUP: usize = 10;

/// Says what is not as it should be where one built first and the other second.
fn held(builder: Builder, case: &Case, first: &Made, second: &Made) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut add = |text: String| wrong.push(format!("{}: {}: {text}", case.name, builder.address));
    if !second.uncached().is_empty() {
        add(format!("built again: {:?}", second.uncached()));
    }
    if first.config != second.config || first.config.is_none() {
        add(format!("configs differ: {:?} {:?}", first.config, second.config));
    }
    if first.names() != second.names() {
        add(format!("other steps: {:?} {:?}", first.names(), second.names()));
    }
    wrong
}

/// Which way round a group is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Ours,
    Theirs,
}

fn one_way(builder: Builder, cases: &[&Case], first: First, image: &str) -> Vec<String> {
    let group = Group::new(cases, &unique(), image);
    let (before, after) = match first {
        First::Ours => (group.ours(builder), group.buildx(builder)),
        First::Theirs => (group.buildx(builder), group.ours(builder)),
    };
    let mut wrong: Vec<String> = cases
        .iter()
        .flat_map(|case| held(builder, case, &before[&*case.name], &after[&*case.name]))
        .collect();
    if before.values().all(|made| made.uncached().is_empty()) {
        wrong.push(format!("{}: {first:?}: nothing was built at first", builder.address));
    }
    wrong
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
    for (name, _) in APART {
        assert!(names.iter().any(|one| one == name), "there is no case `{name}`");
    }
    names.retain(|name| APART.iter().all(|(apart, _)| name != apart));
    names.iter().map(|name| Case::read(name).expect(name)).collect()
}

/// Each builder builds half of the groups first here and the other half first there, each builder other
/// halves; with `BK_SYNC_TEST_BOTH_WAYS` set, each builder builds all groups both ways.
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says how much")]
fn ways(builder: usize, group: usize) -> &'static [First] {
    if env::var_os("BK_SYNC_TEST_BOTH_WAYS").is_some() {
        return &[First::Ours, First::Theirs];
    }
    if (builder + group) % 2 == 0 { &[First::Ours] } else { &[First::Theirs] }
}

#[test]
fn the_corpus_shares_cache_with_buildx_both_ways_and_gives_equal_configs() {
    let cases = buildable();
    // What was built on one image is not in the cache for the other.
    let images = [First::Ours, First::Theirs].map(|first| {
        let mark = format!("{first:?}-{}", unique()).to_lowercase();
        obliging_image(&cases, &mark)
    });
    let all: Vec<&Case> = cases.iter().collect();
    let wrong: Vec<String> = thread::scope(|scope| {
        let running = (0..).zip(builders()).map(|(at, builder)| {
            let (all, images) = (&all, &images);
            scope.spawn(move || {
                let mut wrong = Vec::new();
                for (group, cases) in all.chunks(GROUP).enumerate() {
                    for first in ways(at, group) {
                        let image = &images[usize::from(*first == First::Theirs)];
                        wrong.extend(one_way(builder, cases, *first, image));
                    }
                }
                wrong
            })
        });
        let running: Vec<_> = running.collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} cases: {}", all.len(), wrong.join("\n"));
}
