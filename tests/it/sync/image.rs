//! `sync` without a cluster: what ends with the push.

use super::{Project, repository};
use crate::{
    bed,
    command::{Said, run, unique},
};
use serde_json::Value;

/// A project whose image goes to `repository`, built for arm64 with a step that runs.
fn project(builder: &str, repository: &str, more: &str) -> Project {
    let base = bed::base_arm64();
    let dockerfile = format!("FROM {base}\nCOPY greeting /greeting\nRUN cat /greeting > /said\n");
    let config = format!(
        "[build]\nbuilder = \"{builder}\"\nplatforms = [\"linux/arm64\"]\n\
         [image]\nname = \"{repository}\"\ntags = [\"{{git.sha}}\", \"latest\"]\n{more}"
    );
    Project::new(&[
        ("Dockerfile", &dockerfile),
        ("greeting", &unique("hello")),
        ("bk-sync.toml", &config),
    ])
}

fn digest(receipt: &Value) -> &str {
    receipt["image"]["digest"].as_str().unwrap_or_else(|| panic!("no digest: {receipt}"))
}

fn tag(reference: &str) -> String {
    let said = run(std::process::Command::new(bed::program("skopeo"))
        .args([
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            "--override-arch",
            "arm64",
        ])
        .arg(format!("docker://{reference}")));
    said.stdout.trim().to_owned()
}

#[test]
fn one_sync_pushes_both_tags_the_second_does_nothing_and_a_change_is_pushed() {
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let repository = repository(bed::registry());
        let project = project(builder, &repository, "");
        let first = project.json(&["sync", "--reason", "because"], 0);
        let receipt = &first["result"];
        assert_eq!(receipt["outcome"], "done", "{first}");
        let commit = project.git(&["rev-parse", "HEAD"]);
        assert_eq!(receipt["git"]["commit"], commit.as_str());
        assert_eq!(receipt["git"]["tree"], project.git(&["rev-parse", "HEAD^{tree}"]).as_str());
        assert_eq!(receipt["reason"], "because");
        assert!(receipt["llb_digest"].as_str().unwrap().starts_with("sha256:"));
        assert!(receipt["dockerfile"]["digest"].as_str().unwrap().starts_with("sha256:"));
        for name in [commit.as_str(), "latest"] {
            assert_eq!(tag(&format!("{repository}:{name}")), digest(receipt), "{name}");
        }

        let second = project.run(&["sync"]);
        assert_eq!(second.code, 0, "{}", second.stderr);
        assert_eq!(
            second.stdout,
            format!("unchanged: {repository}@{} is pushed\n", digest(receipt))
        );
        assert_eq!(project.receipts().len(), 1, "nothing was done, so nothing is told");

        project.write("greeting", &unique("changed"));
        project.commit("change");
        let third = project.json(&["sync"], 0);
        assert_eq!(third["result"]["outcome"], "done");
        assert_ne!(digest(&third["result"]), digest(receipt));
        assert_eq!(third["result"]["reason"], "change");
        let receipts = project.receipts();
        assert_eq!(receipts.len(), 2);
        assert_eq!(digest(&receipts[0]), digest(&third["result"]));
    }
}

#[test]
fn a_deploy_is_a_page_with_its_steps_and_layers_and_why_speaks_of_its_build() {
    let repository = repository(bed::registry());
    let project = project(bed::buildkitd(), &repository, "");
    let receipt = project.json(&["sync"], 0)["result"].take();
    let layers = receipt["image"]["manifests"][0]["layers"].as_array().unwrap();
    assert!(layers.len() >= 3, "the base's, and two of our own: {receipt}");

    // The push solves the same graph once more, all of it cached: that is no build to speak of.
    let why = project.json(&["why"], 0);
    let steps = why["result"]["steps"].as_array().unwrap();
    let is_run = |step: &&Value| step["name"].as_str().is_some_and(|name| name.contains("RUN cat"));
    let run = steps.iter().find(is_run).unwrap_or_else(|| panic!("no such step: {why:#}"));
    assert_eq!(run["state"], "ran", "{why:#}");

    let page = project.path().join("deploy.html");
    let id = receipt["id"].as_str().unwrap();
    let said = project.run(&["history", id, "--html", page.to_str().unwrap()]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let html = std::fs::read_to_string(&page).unwrap();
    for expected in [
        "COPY greeting /greeting",
        "RUN cat /greeting &gt; /said",
        digest(&receipt),
        layers.last().unwrap()["digest"].as_str().unwrap(),
        "<code>push</code>",
        project.git(&["rev-parse", "HEAD"]).as_str(),
    ] {
        assert!(html.contains(expected), "the page has no `{expected}`: {html}");
    }
    let said = project.run(&["history", id, "--html", "/nowhere/page.html"]);
    assert_eq!(said.code, 2, "{}", said.stderr);
}

#[test]
fn hooks_and_records_are_told_without_secrets_and_a_broken_one_fails_nothing() {
    let repository = repository(bed::registry_token());
    let (user, password) = bed::user();
    let more = format!(
        "[registry.\"{}\"]\nusername = \"{user}\"\nenv = \"REGISTRY_TOKEN\"\n\
         [record]\ncommand = [\"sh\", \"-c\", \"cat > $0; env >> $0; exit 3\", \"{{{{out\", \"{{image}}\"]\n\
         [[hook]]\nstage = \"push\"\nwhen = \"before\"\ncommand = [\"sh\", \"-c\", \"env > hook-env\"]\n",
        bed::registry_token()
    );
    let project = project(bed::buildkitd(), &repository, &more);
    project.write(".gitignore", "hook-env\n{out\n");
    project.commit("ignore");
    let said = run(project
        .command(&["sync", "--format", "json"])
        .env("REGISTRY_TOKEN", password)
        .env("BK_SYNC_REGISTRY_USERNAME", user)
        .env("BK_SYNC_REGISTRY_PASSWORD", password));
    assert_eq!(said.code, 0, "{}", said.stderr);
    let envelope: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(envelope["warnings"][0]["code"], "RECORD_FAILED", "{envelope}");
    let told = std::fs::read_to_string(project.path().join("{out")).unwrap();
    assert!(told.contains(digest(&envelope["result"])));
    let hook = std::fs::read_to_string(project.path().join("hook-env")).unwrap();
    assert!(hook.contains("HOME="), "{hook}");
    for (place, text) in
        [("record", &told), ("hook", &hook), ("stdout", &said.stdout), ("stderr", &said.stderr)]
    {
        assert!(!text.contains(password), "the password is in what {place} got");
    }
    for (path, content) in super::snapshot(project.stranger.path()) {
        assert!(
            !content.contains(
                &format!("{:?}", password.as_bytes()).trim_matches(['[', ']']).to_owned()
            ),
            "the password is in {}",
            path.display()
        );
    }
}

#[test]
fn what_a_deploy_pushes_is_signed_with_a_key_that_no_hook_sees() {
    let repository = repository(bed::registry());
    let more = "[sign]\nkey_env = \"SIGNER\"\nannotations = { commit = \"{git.sha}\" }\n\
                [[hook]]\nstage = \"push\"\nwhen = \"after\"\ncommand = [\"sh\", \"-c\", \"env > hook-env\"]\n";
    let project = project(bed::buildkitd(), &repository, more);
    project.write(".gitignore", "hook-env\n");
    project.commit("ignore");
    let key = include_str!("../../signature/cosign.key");
    let sync = |password: &str| {
        run(project
            .command(&["sync", "--format", "json"])
            .env("SIGNER", key)
            .env("COSIGN_PASSWORD", password))
    };
    let refused = sync("wrong");
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    let said = sync("correct horse");
    assert_eq!(said.code, 0, "{}\n{}", said.stdout, said.stderr);
    let envelope: Value = serde_json::from_str(&said.stdout).unwrap();
    let receipt = &envelope["result"];
    assert_eq!(receipt["push"]["signatures"].as_array().map(Vec::len), Some(1), "{receipt}");
    let hook = std::fs::read_to_string(project.path().join("hook-env")).unwrap();
    assert!(
        hook.contains("HOME=") && !hook.contains("SIGNER") && !hook.contains("horse"),
        "{hook}"
    );
    let public = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/signature/cosign.pub");
    let image = format!("{repository}@{}", digest(receipt));
    let verified =
        run(std::process::Command::new(bed::program("cosignature"))
            .args(["verify", public, &image]));
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let commit = project.git(&["rev-parse", "HEAD"]);
    assert!(verified.stdout.contains(&commit), "{}", verified.stdout);
    for text in [&said.stdout, &said.stderr, &receipt.to_string()] {
        assert!(!text.contains("correct horse") && !text.contains("ENCRYPTED"), "{text}");
    }
}

#[test]
fn a_refused_push_ends_with_17_and_the_receipt_says_so() {
    let repository = repository(bed::registry_token());
    let project = project(bed::buildkitd(), &repository, "");
    let failed = project.json(&["sync"], 17);
    let receipt = &failed["error"]["details"]["receipt"];
    assert_eq!(receipt["failure"]["stage"], "preflight", "{failed}");
    assert!(receipt["stages"]["build"].is_null(), "nothing was built: {failed}");
    assert_eq!(project.receipts()[0]["outcome"], "failed");
    let (user, password) = bed::user();
    let resumed = run(project
        .command(&["sync", "--resume"])
        .env("BK_SYNC_REGISTRY_USERNAME", user)
        .env("BK_SYNC_REGISTRY_PASSWORD", password));
    assert_eq!(resumed.code, 0, "{}", resumed.stderr);
}

#[test]
fn a_stage_that_takes_longer_than_its_deadline_is_ended_on_the_builder() {
    let repository = repository(bed::registry());
    let project = project(bed::buildkitd(), &repository, "[deploy.deadlines]\nbuild = \"3s\"\n");
    let base = bed::base_arm64();
    let slow = format!("FROM {base}\nRUN echo {} && sleep 600\n", unique("slow"));
    project.write("Dockerfile", &slow);
    project.commit("slow");
    let failed = project.json(&["sync"], 11);
    assert_eq!(failed["error"]["code"], "STAGE_DEADLINE", "{failed}");
    assert_eq!(failed["error"]["details"]["receipt"]["failure"]["stage"], "build");
}

#[test]
fn history_prints_one_receipt_by_the_begin_of_its_id() {
    let repository = repository(bed::registry());
    let project = project(bed::buildkitd(), &repository, "");
    project.json(&["sync"], 0);
    let receipts = project.receipts();
    let id = receipts[0]["id"].as_str().unwrap();
    let one: Said = project.run(&["history", &id[..12]]);
    let receipt: Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(receipt["id"], id);
    let none = project.json(&["history", "nope"], 2);
    assert_eq!(none["error"]["code"], "RECEIPT_NOT_FOUND");
    let list = project.run(&["history"]);
    assert!(list.stdout.starts_with(id) && list.stdout.contains("done"), "{}", list.stdout);
}

#[test]
fn several_builders_make_the_image_of_a_deploy() {
    let repository = repository(bed::registry());
    let list = format!("linux/arm64={},linux/amd64={}", bed::buildkitd(), bed::dockerd());
    let config = |more: &str| {
        format!("[build]\nbuilder = \"{list}\"\n{more}[image]\nname = \"{repository}\"\n")
    };
    let dockerfile =
        format!("FROM {}\nCOPY greeting /greeting\nRUN cat /greeting\n", bed::base_multi());
    let project = Project::new(&[
        ("Dockerfile", &dockerfile),
        ("greeting", &unique("hello")),
        ("bk-sync.toml", &config("")),
    ]);
    let first = project.json(&["sync"], 0);
    let receipt = &first["result"];
    assert_eq!(receipt["outcome"], "done", "{first}");
    let manifests = receipt["image"]["manifests"].as_array().unwrap();
    let platforms: Vec<&Value> = manifests.iter().map(|one| &one["platform"]).collect();
    assert_eq!(platforms, ["linux/arm64", "linux/amd64"], "{first}");
    let raw = run(std::process::Command::new(bed::program("skopeo")).args([
        "inspect",
        "--tls-verify=false",
        "--raw",
        &format!("docker://{repository}"),
    ]));
    assert!(raw.stdout.contains("vnd.oci.image.index.v1+json"), "{}", raw.stdout);
    assert_eq!(bk_sync::registry::digest(raw.stdout.as_bytes()), digest(receipt));
    let emulated = |json: &Value| {
        let warnings = json["warnings"].as_array().unwrap();
        warnings.iter().filter(|one| one["code"] == "PLATFORM_EMULATED").count()
    };
    assert_eq!(emulated(&first), 1, "both are amd64 machines, and it is said once: {first}");
    let again = project.json(&["sync"], 0);
    assert_eq!(again["result"]["outcome"], "unchanged", "{again}");

    // What they cannot do together is said before anything is asked.
    project
        .write("bk-sync.toml", &config("cache = { to = [\"type=registry,ref=r.example/c\"] }\n"));
    for command in ["plan", "sync"] {
        let refused = project.json(&[command, "--dirty", "allow"], 2);
        assert_eq!(refused["error"]["code"], "SEVERAL_BUILDERS", "{refused}");
    }
}
