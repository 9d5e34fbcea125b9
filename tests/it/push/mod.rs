//! Pushes by this process: what is sent, what is not, and what is left when something goes wrong.

mod alone;
mod builds;
mod empty;
mod encrypted;
mod faults;
mod image;
mod mirrors;
pub mod proxy;
mod registries;
mod resume;
pub mod secrecy;
mod trial;

use crate::bed;
use crate::command::{Said, Stranger, run};
use serde_json::Value;
use std::process::Command;

/// The result of a command that was asked for JSON, and has succeeded.
fn result(command: &mut Command) -> Value {
    let said = run(command.args(["--format", "json", "--progress", "plain"]));
    assert_eq!(said.code, 0, "{command:?}\n{}\n{}", said.stdout, said.stderr);
    let mut envelope = json(&said);
    envelope["result"].take()
}

fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}\n{}", said.stdout, said.stderr);
    })
}

/// What `skopeo` says of a reference in a registry of the bed; it reads the whole image.
fn skopeo(stranger: &Stranger, reference: &str, options: &[&str]) -> Value {
    let said = crate::command::succeed(
        stranger
            .command(bed::program("skopeo"))
            .args(["inspect", "--tls-verify=false", "--authfile"])
            .arg(stranger.join(".docker/config.json"))
            .args(options)
            .arg(format!("docker://{reference}")),
    );
    serde_json::from_str(&said.stdout).expect("JSON from skopeo")
}
