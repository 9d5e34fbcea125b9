//! The binary against real builders and registries, seen from outside only: what a user types, what
//! the registry then holds, what other tools say of it.

mod cache;
mod contexts;
mod failures;
mod interruption;
mod memory;
mod outputs;
mod push;

use crate::bed;
use crate::command::{Stranger, run, succeed};
use serde_json::Value;

/// What `skopeo` reads from a registry at `reference` (`host/name@digest` or `host/name:tag`).
fn skopeo_inspect(stranger: &Stranger, reference: &str, options: &[&str]) -> Value {
    let said = succeed(
        stranger
            .command(bed::program("skopeo"))
            .args(["inspect", "--tls-verify=false", "--authfile"])
            .arg(stranger.join(".docker/config.json"))
            .args(options)
            .arg(format!("docker://{reference}")),
    );
    serde_json::from_str(&said.stdout).expect("JSON from skopeo")
}

/// The image's configuration as a registry holds it.
fn remote_config(stranger: &Stranger, reference: &str) -> Value {
    skopeo_inspect(stranger, reference, &["--config", "--raw", "--override-arch", "arm64"])
}

/// Splits `NAME:TAG@sha256:…` into the part that names one image for good and the digest.
fn pinned(stdout: &str, name: &str) -> (String, String) {
    let line = stdout.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {stdout:?}"));
    assert!(!line.contains('\n'), "more than one line on stdout: {stdout:?}");
    let digest = line
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('@'))
        .unwrap_or_else(|| panic!("{line:?} is not {name}@…"));
    let hex = digest.strip_prefix("sha256:").unwrap_or_else(|| panic!("{digest:?}"));
    assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest:?}");
    let (repository, _) = name.rsplit_once(':').expect("a name with a tag");
    (format!("{repository}@{digest}"), digest.to_owned())
}

/// The Dockerfile's steps in a build's raw progress: name, and whether it came from the cache. Base images are not among
/// them: they are resolved each time, and some builders never call that cached.
fn steps(rawjson: &str) -> Vec<(String, bool)> {
    let mut steps = std::collections::BTreeMap::new();
    for line in rawjson.lines().filter(|line| line.starts_with('{')) {
        let status: Value = serde_json::from_str(line).expect("rawjson");
        for vertex in status["vertexes"].as_array().into_iter().flatten() {
            if vertex["completed"].is_string() {
                let name = vertex["name"].as_str().unwrap_or_default().to_owned();
                steps.insert(vertex["digest"].to_string(), (name, vertex["cached"] == true));
            }
        }
    }
    steps.into_values().filter(|(name, _)| numbered(name) && !name.contains("] FROM ")).collect()
}

/// Whether a vertex's name begins with its place, as in `[stage 2/7] RUN …`.
fn numbered(name: &str) -> bool {
    let place = name.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    place.is_some_and(|(place, _)| {
        place.split_once('/').is_some_and(|(_, total)| total.parse::<u32>().is_ok())
    })
}

#[test]
fn the_binary_says_its_version_on_stdout_only() {
    let said = run(Stranger::new().bk_sync().arg("--version"));
    assert_eq!(said.code, 0);
    assert_eq!(said.stdout, concat!("bk-sync ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(said.stderr, "");
}
