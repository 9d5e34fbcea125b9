//! `builder ls|inspect|du|prune` on the builders of the bed.

use super::Project;
use crate::{bed, command::unique};

fn project() -> Project {
    Project::new(&[("Dockerfile", "FROM scratch\nCOPY f /f\n"), ("f", &unique("f"))])
}

#[test]
fn the_builder_in_use_is_marked_and_inspected() {
    let project = project();
    for (builder, kind) in [
        (bed::buildkitd(), "buildkitd"),
        (bed::dockerd(), "docker, containerd store"),
        (bed::dockerd_graphdriver(), "docker, graphdrivers"),
    ] {
        let list = project.json(&["builder", "ls", "--builder", builder], 0);
        let first = &list["result"]["builders"][0];
        assert_eq!((&first["in_use"], &first["kind"]), (&true.into(), &kind.into()), "{list}");
        let one = project.json(&["builder", "inspect", "--builder", builder], 0);
        let platforms = one["result"]["workers"][0]["platforms"].as_array().unwrap();
        assert!(platforms.iter().any(|platform| platform == "linux/arm64"), "{one}");
    }
}

#[test]
fn places_where_nobody_answers_are_listed_with_the_reason() {
    let project = project();
    let list = project.json(&["builder", "ls", "--builder", "unix:///no/such.sock"], 0);
    let only = &list["result"]["builders"][0];
    assert_eq!((&only["answers"], &only["in_use"]), (&false.into(), &false.into()));
    assert!(only["error"].as_str().unwrap().contains("/no/such.sock"), "{only}");
    let failed = project.json(&["builder", "du", "--builder", "unix:///no/such.sock"], 10);
    assert_eq!(failed["error"]["code"], "BUILDER_UNREACHABLE");
}

#[test]
fn what_a_build_left_is_counted_and_can_be_removed() {
    let project = project();
    let builder = ["--builder", bed::buildkitd()];
    let built = project.run(&[&["build", "."][..], &builder].concat());
    assert_eq!(built.code, 0, "{}", built.stderr);
    let usage = project.json(&[&["builder", "du", "--records"][..], &builder].concat(), 0);
    let records = usage["result"]["records"].as_array().unwrap();
    let own = |record: &&serde_json::Value| {
        record["description"].as_str().is_some_and(|text| text.contains("local source for context"))
    };
    let record = records.iter().find(own).unwrap_or_else(|| panic!("no context in {usage}"));
    let filter = format!("id=={}", record["id"].as_str().unwrap());
    let removed =
        project.json(&[&["builder", "prune", "--filter", &filter][..], &builder].concat(), 0);
    // Another build may be using it: then it stays, and nothing else is removed.
    assert!(removed["result"]["removed"]["records"].as_u64().unwrap() <= 1, "{removed}");
}
