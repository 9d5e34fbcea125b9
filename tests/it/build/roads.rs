//! The other roads to a builder, each with a build that reads its context over the session.

use super::unique;
use crate::{
    bed,
    cli::{Place, Ran},
};

/// Builds with `more` and `variables`, and sees that the context went there and came back.
fn arrives(more: &[&str], variables: &[(&str, &str)]) {
    let (place, mark) = (Place::new(), unique());
    let ran = taken(&place, &mark, more, variables);
    assert_eq!(ran.code, Some(0), "{more:?} {variables:?}: {ran:?}");
    assert_eq!(std::fs::read_to_string(place.work().join("out/mark")).unwrap(), mark);
}

fn taken(place: &Place, mark: &str, more: &[&str], variables: &[(&str, &str)]) -> Ran {
    place.write("Dockerfile", "FROM scratch\nCOPY mark /\n");
    place.write("mark", mark);
    let build = ["build", "-q", "--output", "out", "."];
    let mut command = place.command(&[more, &build].concat());
    command.envs(variables.iter().copied());
    place.ran(&command.output().unwrap())
}

#[test]
fn tcp_with_certificates() {
    let [ca, cert, key] = bed::buildkitd_tls_files().map(|path| path.to_str().unwrap());
    let address = ["--builder", bed::buildkitd_tls(), "--tlscacert", ca];
    arrives(&[&address[..], &["--tlscert", cert, "--tlskey", key]].concat(), &[]);
    let refused = taken(&Place::new(), "x", &address, &[]);
    assert_eq!(refused.code, Some(10), "{refused:?}");
}

#[test]
fn ssh() {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bed::ssh_path());
    arrives(&["--builder", bed::ssh()], &[("PATH", &path)]);
}

#[test]
fn a_container() {
    arrives(&["--builder", bed::docker_container()], &[("DOCKER_HOST", bed::dockerd_host())]);
}

#[test]
fn the_environment_names_the_builder() {
    arrives(&[], &[("BK_SYNC_BUILDER", bed::buildkitd())]);
    arrives(&[], &[("BUILDKIT_HOST", bed::buildkitd())]);
    arrives(&[], &[("DOCKER_HOST", bed::dockerd_host())]);
}

#[test]
fn a_builder_that_is_not_there_is_named() {
    let ran = taken(&Place::new(), "x", &["--builder", "unix:///nowhere/nobody.sock"], &[]);
    assert!(ran.code == Some(10) && ran.stderr.contains("nobody.sock"), "{ran:?}");
    assert_eq!(ran.stdout, "");
}

/// Podman needs its runtime's directories, so its PATH is the bed's directory before the usual ones.
#[test]
fn a_container_of_podman() {
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bed::podman_path());
    arrives(&["--builder", bed::podman_container()], &[("PATH", &path)]);
    let nobody = ["--builder", "podman-container://nobody"];
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\n");
    let mut command = place.command(&[&nobody[..], &["build", "-q", "."]].concat());
    let ran = place.ran(&command.env("PATH", &path).output().unwrap());
    assert_eq!(ran.code, Some(10), "{ran:?}");
    // What Podman itself says of it.
    assert!(ran.stderr.contains("no container with name or ID \"nobody\""), "{ran:?}");
}
