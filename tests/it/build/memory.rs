//! A context's size never shows in the memory of the process that sends it.

use super::unique;
use crate::{bed, cli::Place};
use std::{fs, path::Path, process::Command};

/// The most resident memory that one process may ever hold, in KiB.
/// 64 MiB, less the 8 MiB that a release build holds before it does anything. In KiB.
const LIMIT: u64 = (64 - 8) * 1024;

/// Builds `context` and gives the peak of the process's resident memory in KiB, less what the same
/// binary holds before it does anything: the code of a build for tests is more than twice as large.
fn peak(place: &Place, context: &str) -> u64 {
    let base = format!("BASE={}", bed::base_arm64());
    let build = ["build", "--platform", "linux/arm64", "--build-arg", &base, "--progress", "plain"];
    let builder = ["--builder", bed::buildkitd()];
    let whole = resident(place, &[&builder[..], &build, &[context]].concat());
    whole.saturating_sub(resident(place, &["--version"]))
}

/// The peak of the resident memory of a run, in KiB.
fn resident(place: &Place, arguments: &[&str]) -> u64 {
    let report = place.work().join("peak");
    let ours = place.command(arguments);
    // GNU time reads the peak from the kernel when the child ends.
    let output = Command::new("/usr/bin/time")
        .args(["--format", "%M", "--output"])
        .arg(&report)
        .arg(ours.get_program())
        .args(ours.get_args())
        .current_dir(place.work())
        .env_clear()
        .envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(report).unwrap().trim().parse().unwrap()
}

#[test]
fn fifty_thousand_files_stay_under_64_mib() {
    let place = Place::new();
    let generator = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/generate.sh");
    let made = Command::new(generator).arg("tree").arg(place.work().join("tree")).status().unwrap();
    assert!(made.success());
    let peak = peak(&place, "tree");
    assert!(peak <= LIMIT, "peak of {} MiB", peak / 1024);
}

#[test]
fn one_file_of_two_gib_stays_under_64_mib() {
    let place = Place::new();
    // Only looked at, not copied: a layer of that size would fill the builder's disk once more.
    place.write(
        "one/Dockerfile",
        "ARG BASE\nFROM ${BASE}\nRUN --mount=type=bind,target=/context test -s /context/big\n",
    );
    place.write("one/big", &unique());
    let big = fs::File::options().write(true).open(place.work().join("one/big")).unwrap();
    big.set_len(2 << 30).unwrap();
    let peak = peak(&place, "one");
    assert!(peak <= LIMIT, "peak of {} MiB", peak / 1024);
}
