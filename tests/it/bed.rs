//! Addresses of the test bed, out of `target/services.env`, which `make services` writes.
//!
//! A missing part is a failure that says what to run, never a skipped test: a suite that passes
//! without its builders proves nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// A container of the containerd-store Docker ([`dockerd_host`]) that holds `buildctl`.
pub fn docker_container() -> &'static str {
    part("BK_SYNC_TEST_DOCKER_CONTAINER")
}

/// `podman-container://…`: a container of Podman that holds `buildctl` and leads to [`buildkitd`].
pub fn podman_container() -> &'static str {
    part("BK_SYNC_TEST_PODMAN_CONTAINER")
}

/// The directory of the `podman` that knows that container.
pub fn podman_path() -> &'static str {
    part("BK_SYNC_TEST_PODMAN_PATH")
}

/// The standalone buildkitd, on its Unix socket.
pub fn buildkitd() -> &'static str {
    part("BK_SYNC_TEST_BUILDKITD")
}

/// The same buildkitd on TCP, which asks for a client certificate.
pub fn buildkitd_tls() -> &'static str {
    part("BK_SYNC_TEST_BUILDKITD_TLS")
}

/// Paths of the authority, the client certificate and its key for [`buildkitd_tls`].
pub fn buildkitd_tls_files() -> [&'static Path; 3] {
    ["BK_SYNC_TEST_TLS_CA", "BK_SYNC_TEST_TLS_CERT", "BK_SYNC_TEST_TLS_KEY"]
        .map(|name| Path::new(part(name)))
}

/// The Docker with the containerd image store, as a `--builder` address.
pub fn dockerd() -> &'static str {
    part("BK_SYNC_TEST_DOCKERD")
}

/// The same Docker as a `DOCKER_HOST`.
pub fn dockerd_host() -> &'static str {
    part("BK_SYNC_TEST_DOCKERD_HOST")
}

/// The Docker with graphdrivers, as a `--builder` address.
pub fn dockerd_graphdriver() -> &'static str {
    part("BK_SYNC_TEST_DOCKERD_GRAPHDRIVER")
}

/// The same Docker as a `DOCKER_HOST`.
pub fn dockerd_graphdriver_host() -> &'static str {
    part("BK_SYNC_TEST_DOCKERD_GRAPHDRIVER_HOST")
}

/// An ssh server whose account runs `buildctl dial-stdio` against [`buildkitd`].
pub fn ssh() -> &'static str {
    part("BK_SYNC_TEST_SSH")
}

/// A directory to put first in `PATH`: its `ssh` knows the key for [`ssh`].
pub fn ssh_path() -> &'static str {
    part("BK_SYNC_TEST_SSH_PATH")
}

/// `host:port` of the registry that asks nobody who they are.
pub fn registry() -> &'static str {
    part("BK_SYNC_TEST_REGISTRY")
}

/// `host:port` of the registry that wants a token.
pub fn registry_token() -> &'static str {
    part("BK_SYNC_TEST_REGISTRY_TOKEN")
}

/// `host:port` of the registry that wants a name and a password.
pub fn registry_basic() -> &'static str {
    part("BK_SYNC_TEST_REGISTRY_BASIC")
}

/// `host:port` of an open registry of another make and version than [`registry`].
pub fn registry_second() -> &'static str {
    part("BK_SYNC_TEST_REGISTRY_SECOND")
}

/// The access log of [`registry`].
pub fn registry_log() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_REGISTRY_LOG"))
}

/// The access log of [`registry_second`].
pub fn registry_second_log() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_REGISTRY_SECOND_LOG"))
}

/// The kubeconfig of the cluster's administrator, with all that it needs inside.
pub fn kubeconfig() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_KUBECONFIG"))
}

/// The API server's audit log: a line of JSON for each request that was not the cluster's own.
pub fn kube_audit_log() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_KUBE_AUDIT_LOG"))
}

/// The cluster's node that runs containers: label and taint `bk-sync.test/node=real`. The others are kwok's.
pub fn real_node() -> &'static str {
    part("BK_SYNC_TEST_REAL_NODE")
}

/// A BuildKit in a pod of [`real_node`], as a `--builder` address.
pub fn kube_pod() -> &'static str {
    part("BK_SYNC_TEST_KUBE_POD")
}

/// What the token server of [`registry_token`] was asked: a line for each token.
pub fn token_server_log() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_TOKEN_SERVER_LOG"))
}

/// Name and password of the user who may push to [`registry_token`] and [`registry_basic`].
pub fn user() -> (&'static str, &'static str) {
    (part("BK_SYNC_TEST_USERNAME"), part("BK_SYNC_TEST_PASSWORD"))
}

/// Name and password of a user of [`registry_token`] who may only pull.
pub fn pull_only_user() -> (&'static str, &'static str) {
    (part("BK_SYNC_TEST_PULL_USERNAME"), part("BK_SYNC_TEST_PULL_PASSWORD"))
}

/// Name and password of a user of [`registry_token`] whose tokens end after three seconds.
pub fn brief_user() -> (&'static str, &'static str) {
    (part("BK_SYNC_TEST_BRIEF_USERNAME"), part("BK_SYNC_TEST_BRIEF_PASSWORD"))
}

/// An arm64 busybox image in [`registry`].
pub fn base_arm64() -> &'static str {
    part("BK_SYNC_TEST_BASE_ARM64")
}

/// An index of the same busybox for arm64 and amd64, in [`registry`].
pub fn base_multi() -> &'static str {
    part("BK_SYNC_TEST_BASE_MULTI")
}

/// An arm64 Debian with glibc, bash and coreutils, in [`registry`].
pub fn base_debian_arm64() -> &'static str {
    part("BK_SYNC_TEST_BASE_DEBIAN_ARM64")
}

/// Node for arm64 on busybox, with the `inngest` package of `tests/bed/inngest` below `/opt/store`, in [`registry`].
pub fn base_node_arm64() -> &'static str {
    part("BK_SYNC_TEST_BASE_NODE_ARM64")
}

/// A git server's URL without a path; what lies in [`git_root`] is served below it.
pub fn git() -> &'static str {
    part("BK_SYNC_TEST_GIT")
}

/// The directory of bare repositories that [`git`] serves.
pub fn git_root() -> &'static Path {
    Path::new(part("BK_SYNC_TEST_GIT_ROOT"))
}

/// Path of one of the bed's programs: `docker`, `docker-buildx`, `buildctl`, `skopeo`, `crane`, `kubectl`, `strace`,
/// `zsh`, `fish`, `cosignature` (see `tests/bed`), `notation`, `faketime` (which takes libfaketime's `FAKETIME` first, such as `+3d`).
pub fn program(name: &str) -> String {
    let path = format!("{}/{name}", part("BK_SYNC_TEST_BIN"));
    assert!(Path::new(&path).exists(), "the test bed has no `{path}`: run `make services`");
    path
}

/// One line of `target/services.env`; panics, naming the part, where it is missing.
pub fn part(name: &str) -> &'static str {
    parts().get(name).unwrap_or_else(|| {
        panic!("`{name}` is not in `{FILE}`, so that part of the test bed does not run: run `make services`")
    })
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/services.env");

fn parts() -> &'static BTreeMap<String, String> {
    static PARTS: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    PARTS.get_or_init(|| match std::fs::read_to_string(FILE) {
        Ok(text) => parse(&text),
        Err(error) => {
            panic!("the test bed is not up, `{FILE}` cannot be read ({error}): run `make services`")
        }
    })
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn every_part_of_the_bed_is_there() {
    for address in
        [buildkitd(), dockerd(), dockerd_graphdriver(), dockerd_host(), dockerd_graphdriver_host()]
    {
        let (_, path) = address.split_once("://").expect("an address with a scheme");
        assert!(Path::new(path).exists(), "`{path}` is gone: run `make services`");
    }
    let tls = buildkitd_tls().strip_prefix("tcp://").expect("a TCP address");
    let (_, ssh) = ssh().rsplit_once('@').expect("a user and a host");
    for host in [registry(), registry_token(), registry_basic(), registry_second(), tls, ssh] {
        if let Err(error) = std::net::TcpStream::connect(host) {
            panic!("nobody listens at `{host}` ({error}): run `make services`");
        }
    }
    let paths = [Path::new(ssh_path()), Path::new(podman_path()), kubeconfig(), kube_audit_log()];
    for path in buildkitd_tls_files().into_iter().chain(paths) {
        assert!(path.exists(), "`{}` is gone: run `make services`", path.display());
    }
    for name in
        ["docker", "docker-buildx", "buildctl", "skopeo", "crane", "kubectl", "strace", "faketime"]
    {
        assert!(Path::new(&program(name)).is_file());
    }
    assert!(docker_container().starts_with("docker-container://"));
    assert!(podman_container().starts_with("podman-container://"));
    assert!(kube_pod().starts_with("kube-pod://") && !real_node().is_empty());
    for reference in [base_arm64(), base_multi(), base_debian_arm64(), base_node_arm64()] {
        assert!(reference.starts_with(registry()), "`{reference}` is not in the bed's registry");
    }
    assert!(git().starts_with("git://") && git_root().is_dir());
    let names = [user().0, pull_only_user().0, brief_user().0];
    assert!(names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len());
}
