//! `doctor`: the traps that can be found before a deploy, each by the name that the runbook gives it.

use super::Project;
use crate::{bed, command::run};
use serde_json::Value;

/// A checkout shaped like the one that bk-sync was made for.
fn seed(config: &str) -> Project {
    let config = format!(
        "[build]\nbuilder = \"{}\"\nfile = \"packages/system-bus/Dockerfile\"\n{config}",
        bed::buildkitd()
    );
    Project::new(&[
        (
            "packages/system-bus/Dockerfile",
            "FROM node:22 AS deps\nWORKDIR /app\nCOPY packages/ packages/\nRUN pnpm install\n\
             FROM oven/bun:1.3.9\nWORKDIR /app\n\
             COPY --from=deps /app/packages/system-bus packages/system-bus\n\
             COPY --from=deps /app/packages/memory packages/memory\n",
        ),
        (
            "packages/system-bus/package.json",
            r#"{"name":"@joelclaw/system-bus","dependencies":{"inngest":"3.44.1","@joelclaw/memory":"workspace:*","@joelclaw/incident-latch":"workspace:*"}}"#,
        ),
        ("packages/memory/package.json", r#"{"name":"@joelclaw/memory"}"#),
        ("packages/incident-latch/package.json", r#"{"name":"@joelclaw/incident-latch"}"#),
        ("bk-sync.toml", &config),
    ])
}

/// What a check found: its state, its words and what mends it.
fn found<'j>(checks: &'j Value, area: &str, name: &str) -> &'j Value {
    let list = checks.as_array().unwrap_or_else(|| panic!("no checks: {checks}"));
    list.iter()
        .find(|check| check["area"] == area && check["name"] == name)
        .unwrap_or_else(|| panic!("no {area} {name} in {checks:#}"))
}

const IMAGE: &str =
    "platforms = [\"linux/arm64\"]\n[image]\nname = \"r.example/app\"\ntags = [\"{git.sha}\"]\n";

#[test]
fn gotcha_copied_too_few_workspace_packages() {
    let project = seed(IMAGE);
    let failed = project.json(&["doctor"], 17);
    assert_eq!(failed["error"]["code"], "DOCTOR_FOUND");
    let check = found(&failed["error"]["details"]["checks"], "image", "workspace");
    assert_eq!(check["state"], "failed");
    let finding = check["finding"].as_str().unwrap();
    assert!(finding.contains("@joelclaw/incident-latch"), "{finding}");
    assert!(!finding.contains("@joelclaw/memory"), "{finding}");
}

#[test]
fn gotcha_sdk_version_that_the_server_denies() {
    let failed = seed(IMAGE).json(&["doctor"], 17);
    let check = found(&failed["error"]["details"]["checks"], "inngest", "sdk");
    assert_eq!(check["state"], "failed");
    assert!(check["finding"].as_str().unwrap().contains("sdk_version_denied"), "{check}");
}

#[test]
fn gotcha_exec_format_error_because_no_platform_is_named() {
    let project = seed("[image]\nname = \"r.example/app\"\n");
    let failed = project.json(&["doctor"], 17);
    let check = found(&failed["error"]["details"]["checks"], "image", "platform");
    assert_eq!(check["state"], "warning");
    assert!(check["finding"].as_str().unwrap().contains("exec format error"), "{check}");
    let elsewhere = "platforms = [\"linux/s390x\"]\n[image]\nname = \"r.example/app\"\n";
    let failed = seed(elsewhere).json(&["doctor"], 17);
    let check = found(&failed["error"]["details"]["checks"], "builder", "platforms");
    assert_eq!(check["state"], "failed", "{check}");
}

#[test]
fn gotcha_launchd_path_lacks_the_programs_that_a_deploy_runs() {
    let config = format!(
        "{IMAGE}[record]\ncommand = [\"slog\", \"write\"]\n\
         [[hook]]\nstage = \"push\"\nwhen = \"before\"\ncommand = [\"trivy\"]\n"
    );
    let project = seed(&config);
    let failed = project.json(&["doctor"], 17);
    let checks = &failed["error"]["details"]["checks"];
    let check = found(checks, "config", "programs");
    assert_eq!(check["state"], "failed");
    for program in ["`trivy` (hook)", "`slog` (record)"] {
        assert!(check["finding"].as_str().unwrap().contains(program), "{check}");
    }
}

#[test]
fn gotcha_docker_credential_desktop_is_not_there() {
    let project = seed(IMAGE);
    let config = project.stranger.join(".docker/config.json");
    let text = r#"{"credsStore":"desktop"}"#;
    std::fs::write(&config, text).unwrap();
    let failed = project.json(&["doctor"], 17);
    let check = found(&failed["error"]["details"]["checks"], "registry", "credentials");
    assert_eq!(check["state"], "failed", "{check}");
    assert!(check["finding"].as_str().unwrap().contains("docker-credential-desktop"), "{check}");
    assert_eq!(std::fs::read_to_string(config).unwrap(), text, "it is never written");
}

#[test]
fn a_deploy_without_a_fault_ends_with_0_and_one_screen() {
    let config = format!(
        "[build]\nbuilder = \"{}\"\nplatforms = [\"linux/arm64\"]\n[image]\nname = \"{}/app\"\n",
        bed::buildkitd(),
        bed::registry()
    );
    let project = Project::new(&[("Dockerfile", "FROM scratch\n"), ("bk-sync.toml", &config)]);
    let healthy = run(&mut project.command(&["doctor"]));
    assert_eq!(healthy.code, 0, "{}{}", healthy.stdout, healthy.stderr);
    for area in ["config file", "checkout git", "builder answers", "builder disk"] {
        assert!(healthy.stdout.contains(area), "{area}: {}", healthy.stdout);
    }
    assert!(healthy.stdout.lines().count() < 24, "more than a screen: {}", healthy.stdout);
}
