//! A context's size never shows in the memory of the process that sends it.

use crate::bed;
use crate::command::{Stranger, succeed, unique, write_files};
use std::path::Path;

/// The most resident memory that one process may ever hold, in bytes.
const LIMIT: u64 = 64 * 1024 * 1024;

/// Builds `context` and gives the peak of the process's resident memory in bytes.
fn peak_of_building(stranger: &Stranger, context: &Path) -> u64 {
    let report = stranger.join("peak");
    // GNU time reads the peak from the kernel when the child ends.
    succeed(
        stranger
            .command("/usr/bin/time")
            .args(["--format", "%M", "--output"])
            .arg(&report)
            .arg(env!("CARGO_BIN_EXE_bk-sync"))
            .args(["build", "--builder", bed::buildkitd(), "--platform", "linux/arm64"])
            .args(["--build-arg", &format!("BASE={}", bed::base_arm64()), "--progress", "plain"])
            .arg(context),
    );
    let kib: u64 =
        std::fs::read_to_string(report).expect("a report").trim().parse().expect("a number");
    kib * 1024
}

#[test]
fn fifty_thousand_files_stay_under_64_mib() {
    let stranger = Stranger::new();
    let tree = stranger.join("tree");
    let generator = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/generate.sh");
    succeed(stranger.command(generator).arg("tree").arg(&tree));
    let peak = peak_of_building(&stranger, &tree);
    assert!(peak <= LIMIT, "peak of {} MiB", peak / 1024 / 1024);
}

#[test]
fn one_file_of_two_gib_stays_under_64_mib() {
    let stranger = Stranger::new();
    let context = stranger.join("context");
    // Only looked at, not copied: a layer of that size would fill the builder's disk a second time.
    let dockerfile =
        "ARG BASE\nFROM ${BASE}\nRUN --mount=type=bind,target=/context test -s /context/big\n";
    write_files(&context, &[("Dockerfile", dockerfile), ("big", &unique("big"))]);
    let big = std::fs::File::options().write(true).open(context.join("big")).expect("it opens");
    big.set_len(2 << 30).expect("a sparse file");
    let peak = peak_of_building(&stranger, &context);
    assert!(peak <= LIMIT, "peak of {} MiB", peak / 1024 / 1024);
}
