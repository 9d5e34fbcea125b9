//! The cache is shared with `docker buildx build`, both ways and with either frontend.

use super::{Builder, buildx, dockerd, graphdriver, unique};
use crate::{bed, cli::Place};

fn place() -> Place {
    let mark = unique();
    let place = Place::new();
    place.write("src/a", &mark);
    place.write(
        "Dockerfile",
        &format!(
            "FROM {} AS build\nARG MODE=x\nCOPY src /src\nRUN --mount=type=cache,target=/c \
             cat /src/a >/built && echo {mark} $MODE\nFROM {}\nCOPY --from=build /built /built\n\
             COPY --link src/a /linked\nRUN ls /\nWORKDIR /w\n",
            bed::base_arm64(),
            bed::base_arm64()
        ),
    );
    place
}

/// The steps in a plain progress that ran and were not cached.
fn uncached(progress: &str) -> Vec<String> {
    let number = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let cached: Vec<String> =
        progress.lines().filter(|line| line.ends_with(" CACHED")).map(number).collect();
    progress
        .lines()
        .filter(|line| {
            let name = line.split_once(' ').map_or("", |(_, name)| name);
            // Steps are named `[stage n/m] INSTRUCTION`.
            let step = name.starts_with('[') && !name.starts_with("[internal]");
            let runs = name.contains("] RUN") || name.contains("] COPY") || name.contains("] WORK");
            step && runs && !cached.contains(&number(line))
        })
        .map(str::to_owned)
        .collect()
}

fn ours(place: &Place, builder: Builder, frontend: &str) -> String {
    let head = ["--builder", builder.address, "build", "--platform", "linux/arm64"];
    let more = ["--progress", "plain", "--frontend", frontend, "-o", "type=cacheonly", "."];
    let ran = place.run(&[&head[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{builder:?} {frontend}: {ran:?}");
    ran.stderr
}

#[test]
fn what_one_builds_the_other_finds_in_the_cache() {
    for builder in [dockerd(), graphdriver()] {
        for frontend in ["native", "daemon"] {
            let place = place();
            let first = ours(&place, builder, frontend);
            assert!(!uncached(&first).is_empty(), "nothing was built: {first}");
            let theirs = buildx(&place, builder, &["-o", "type=cacheonly", "."]);
            assert_eq!(uncached(&theirs), [""; 0], "{builder:?} {frontend}: {theirs}");

            let place = self::place();
            let first = buildx(&place, builder, &["-o", "type=cacheonly", "."]);
            assert!(!uncached(&first).is_empty(), "nothing was built: {first}");
            let ours = ours(&place, builder, frontend);
            assert_eq!(uncached(&ours), [""; 0], "{builder:?} {frontend}: {ours}");
        }
    }
}
