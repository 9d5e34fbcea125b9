//! `sync`, `plan`, `verify`, `history` and `doctor`.

use super::{Scene, canary, transcript};
use crate::{
    bed,
    rollout::shop::{Kind, Shop, workload},
    verify::stand_in::Inngest,
};

/// A checkout whose image is for a deployment of its own; the config goes on with `more`.
fn scene(arguments: &[&str], platform: &str, dockerfile: &str, more: &str) -> Scene {
    let canary = canary();
    let mut object = workload(Kind::Deployment);
    object["spec"]["replicas"] = 1.into();
    let shop = Shop::with(&object);
    let namespace = shop.namespace.clone();
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"{platform}\"]\n\
         [image]\nname = \"{}/transcripts/{canary}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n\
         [rollout]\nnamespace = \"{namespace}\"\nworkload = \"deployment/web\"\n{more}",
        bed::buildkitd(),
        bed::registry(),
    );
    let dockerfile = dockerfile.replace("BASE", bed::base_multi()).replace("CANARY", &canary);
    Scene::new(arguments)
        .variable("KUBECONFIG", bed::part("BK_SYNC_TEST_KUBECONFIG"))
        .variable("USER", "ann")
        .named(&namespace, "NAMESPACE")
        .named(&canary, "CANARY")
        .file("bk-sync.toml", &config)
        .file("Dockerfile", &dockerfile)
        .prepared("git", &["init", "-q", "-b", "trunk"])
        .prepared("git", &["add", "."])
        .prepared("git", &COMMIT)
        .keeping(shop)
}

const COMMIT: [&str; 7] =
    ["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qam", "one"];
const ARM64: &str = "linux/arm64";
const WORKS: &str = "FROM BASE\nRUN echo CANARY\n";
/// A step alone: several that are cached are told in one line, and which those are, differs.
const ALONE: &str = "# CANARY\nFROM scratch\nCOPY Dockerfile /\n";

/// A scene whose Inngest server knows the worker's app by an address, which it reaches or not.
fn with_inngest(arguments: &[&str], is_reached: bool) -> Scene {
    let url = "http://worker:3111/api/inngest".to_owned();
    let apps = vec![("shop".to_owned(), url, is_reached, vec!["a".to_owned()])];
    let (inngest, port) = Inngest { apps, ..Inngest::default() }.listen();
    let address = format!("127.0.0.1:{port}");
    let more = format!(
        "[verify.inngest]\nurl = \"http://{address}\"\napp = \"shop\"\nfunctions = [\"a\"]\n\
         attempts = 1\n"
    );
    scene(arguments, ARM64, WORKS, &more).named(&address, "INNGEST").keeping(inngest)
}

#[test]
fn sync_done() {
    transcript("sync_done", || scene(&["sync"], ARM64, WORKS, ""));
}

#[test]
fn sync_unchanged_history_and_doctor() {
    transcript("sync_unchanged", || scene(&["sync"], ARM64, ALONE, "").after(&["sync", "-q"]));
    transcript("history_done", || scene(&["history"], ARM64, WORKS, "").after(&["sync", "-q"]));
    transcript("doctor_done", || scene(&["doctor"], ARM64, WORKS, ""));
}

#[test]
fn plan_done_and_sync_refused() {
    transcript("plan_done", || scene(&["plan"], ARM64, WORKS, ""));
    transcript("sync_wrong_architecture", || scene(&["sync"], "linux/amd64", WORKS, ""));
    transcript("sync_checkout_dirty", || {
        scene(&["sync"], ARM64, WORKS, "").file("Dockerfile", "FROM scratch\n")
    });
}

#[test]
fn verify_done_and_failed() {
    transcript("verify_done", || with_inngest(&["verify"], true).after(&["sync", "-q"]));
    transcript("sync_verify_failed", || with_inngest(&["sync"], false));
}

#[test]
fn reproduce_done_and_unknown() {
    transcript("reproduce_done", || {
        scene(&["reproduce", "2"], ARM64, WORKS, "")
            .after(&["lock", "--builder", bed::buildkitd(), "--platform", ARM64])
            .prepared("git", &["add", "."])
            .prepared("git", &COMMIT)
            .after(&["sync", "-q", "--reproducible"])
    });
    transcript("reproduce_unknown", || Scene::new(&["reproduce", "2026"]));
}
