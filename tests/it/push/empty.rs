//! Images without layers: a name for settings alone. BuildKit writes `null` where their layers would be.

use super::{result, skopeo};
use crate::{
    bed,
    command::{Stranger, succeed, unique, write_files},
};
use serde_json::{Value, json};
use std::process::Command;

/// A build of an image that has labels and nothing else.
fn build(stranger: &Stranger, builder: &str, mark: &str) -> Command {
    let dockerfile = format!("FROM scratch\nLABEL mark={mark}\n");
    write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile)]);
    let mut command = stranger.bk_sync();
    command.args(["build", "--builder", builder, "--provenance=false", "context"]);
    command
}

/// Insists on that the registry gives such an image, and that `push` told of it.
fn holds(stranger: &Stranger, reference: &str, mark: &str, told: &Value) {
    let raw = skopeo(stranger, reference, &["--raw"]);
    assert_eq!(raw["layers"].as_array().map_or(0, Vec::len), 0, "{raw}");
    let config = skopeo(stranger, reference, &["--config"]);
    assert_eq!(config["config"]["Labels"]["mark"], mark, "{config}");
    let digest = told["image"]["digest"].as_str().unwrap();
    let (name, _) = reference.rsplit_once(':').unwrap();
    assert_eq!(skopeo(stranger, &format!("{name}@{digest}"), &["--raw"]), raw, "{told}");
}

#[test]
fn it_is_pushed_by_every_builder_to_every_registry_also_the_second_time() {
    for builder in [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()] {
        for registry in [bed::registry(), bed::registry_second()] {
            let stranger = Stranger::new();
            let mark = unique("empty");
            let reference = format!("{registry}/push/{mark}:v1");
            for time in 0..2 {
                let pushed =
                    result(build(&stranger, builder, &mark).args(["--push", "-t", &reference]));
                holds(&stranger, &reference, &mark, &pushed);
                if builder == bed::dockerd_graphdriver() {
                    assert_eq!(pushed["push"]["via"], "engine", "{pushed}");
                    continue;
                }
                assert_eq!(pushed["push"]["via"], "client", "{builder} {pushed}");
                assert_eq!(pushed["push"]["blobs"]["uploaded"], 1 - time, "{builder} {pushed}");
                let manifest = &pushed["image"]["manifests"][0];
                assert_eq!(manifest["layers"], json!([]), "{builder} {pushed}");
                assert_eq!(manifest["digest"], pushed["image"]["digest"], "{builder} {pushed}");
            }
        }
    }
}

#[test]
fn it_is_pushed_out_of_a_layout_and_archives() {
    let stranger = Stranger::new();
    let mark = unique("empty");
    let outputs = ["type=oci,dest=image.tar", "type=docker,dest=saved.tar"];
    for output in outputs {
        result(build(&stranger, bed::buildkitd(), &mark).args(["-o", output]));
    }
    std::fs::create_dir(stranger.join("layout")).unwrap();
    succeed(stranger.command("tar").args(["-xf", "image.tar", "-C", "layout"]));
    // What Docker wrote before it wrote layouts too.
    let saved = stranger.join("listed");
    std::fs::create_dir(&saved).unwrap();
    succeed(stranger.command("tar").args(["-xf", "saved.tar", "-C", "listed"]));
    let list: Value =
        serde_json::from_slice(&std::fs::read(saved.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(list[0]["Layers"], Value::Null, "{list}");
    drop(std::fs::remove_file(saved.join("index.json")));
    succeed(stranger.command("tar").args(["-cf", "listed.tar", "-C", "listed", "."]));
    for source in ["layout", "image.tar", "saved.tar", "listed.tar"] {
        let reference = format!("{}/push/{mark}/{source}:v1", bed::registry());
        let pushed = result(stranger.bk_sync().args(["push", source, &reference]));
        holds(&stranger, &reference, &mark, &pushed);
    }
}
