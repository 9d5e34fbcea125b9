//! Signatures: ours, checked by cosign's libraries and OpenSSL; those of cosign's libraries and of
//! notation on base images, checked by us.

use super::{Builder, builders, buildkitd, dockerd, program, unique};
use crate::{
    bed,
    cli::{Place, Ran},
};
use serde_json::Value;
use std::{fs, process::Command};

/// A key pair that cosign's library sealed; `tests/signature` says how.
const SEALED: &str = include_str!("../../signature/cosign.key");
const PUBLIC: &str = include_str!("../../signature/cosign.pub");
const PASSWORD: &str = "correct horse";

/// A key pair of OpenSSL's, in the place: `NAME.key` and `NAME.pub`.
fn key_pair(place: &Place, name: &str, algorithm: &[&str]) {
    let (key, public) = (format!("{name}.key"), format!("{name}.pub"));
    for arguments in [
        [&["genpkey", "-out", &key], algorithm].concat(),
        vec!["pkey", "-in", &key, "-pubout", "-out", &public],
    ] {
        let done = Command::new("openssl").args(&arguments).current_dir(place.work()).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }
}

const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn place(text: &str) -> Place {
    let place = Place::new();
    place.write("Dockerfile", text);
    place
}

/// An image that is not the same twice.
fn own() -> Place {
    place(&format!("FROM {}\nLABEL mark={}\n", bed::base_arm64(), unique()))
}

fn run(place: &Place, builder: Builder, more: &[&str], variables: &[(&str, &str)]) -> Ran {
    let arguments = super::arguments(builder, &[&["--format", "json"], more, &["."]].concat());
    let output = place.command(&arguments).envs(variables.iter().copied()).output().unwrap();
    let ran = place.ran(&output);
    assert!(!ran.stdout.contains(PASSWORD) && !ran.stderr.contains(PASSWORD), "{ran:?}");
    ran
}

fn digest(ran: &Ran) -> String {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.json()["result"]["image"]["digest"].as_str().unwrap().to_owned()
}

/// Whether cosign's libraries find a signature of `image` by `key` that holds.
fn holds(place: &Place, image: &str, key: &str) -> bool {
    let (code, words) = cosignature(place, "verify", key, image);
    assert!(code == 0 || words.contains("invalid signature"), "{words}");
    code == 0
}

/// Does what `tests/bed/cosignature` can; its exit code, and what it says.
fn cosignature(place: &Place, action: &str, key: &str, image: &str) -> (i32, String) {
    let done = Command::new(bed::program("cosignature"))
        .env("COSIGN_PASSWORD", PASSWORD)
        .args([action, key, image])
        .current_dir(place.work())
        .output()
        .unwrap();
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// The layers of the signatures' manifest beside `repository@digest`.
fn attached(repository: &str, digest: &str) -> Vec<Value> {
    let tag = format!("docker://{repository}:{}.sig", digest.replace(':', "-"));
    let manifest = program("skopeo", &["inspect", "--tls-verify=false", "--raw", &tag]);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["layers"].as_array().unwrap().clone()
}

#[test]
fn what_every_builder_pushes_is_signed_as_cosign_checks_it() {
    for builder in builders() {
        let place = own();
        key_pair(&place, "ours", P256);
        key_pair(&place, "other", P256);
        let repository = format!("{}/solve/{}", bed::registry(), unique());
        let arguments = ["-t", &repository, "--push", "--sign-key", "ours.key"];
        let ran = run(&place, builder, &arguments, &[]);
        let digest = digest(&ran);
        let tag = format!("{repository}:{}.sig", digest.replace(':', "-"));
        assert_eq!(ran.json()["result"]["push"]["signatures"], serde_json::json!([tag]));
        let image = format!("{repository}@{digest}");
        assert!(holds(&place, &image, "ours.pub"), "{builder:?}");
        assert!(!holds(&place, &image, "other.pub"), "{builder:?}");

        // The same again adds nothing; another key adds its own.
        assert_eq!(run(&place, builder, &arguments, &[]).code, Some(0));
        assert_eq!(attached(&repository, &digest).len(), 1, "{builder:?}");
        let again = ["-t", &repository, "--push", "--sign-key", "other.key"];
        assert_eq!(run(&place, builder, &again, &[]).code, Some(0));
        assert_eq!(attached(&repository, &digest).len(), 2, "{builder:?}");
        assert!(holds(&place, &image, "ours.pub"), "{builder:?}");
        assert!(holds(&place, &image, "other.pub"), "{builder:?}");
    }
}

#[test]
fn every_kind_of_key_signs_and_its_password_is_asked_of_the_environment() {
    let place = own();
    place.write("sealed.key", SEALED);
    place.write("sealed.pub", PUBLIC);
    key_pair(&place, "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    key_pair(&place, "edwards", &["-algorithm", "ED25519"]);
    let password = [("COSIGN_PASSWORD", PASSWORD)];
    for key in ["sealed", "rsa", "edwards"] {
        let repository = format!("{}/solve/{}", bed::registry(), unique());
        let file = format!("{key}.key");
        let text = fs::read_to_string(place.work().join(&file)).unwrap();
        let variables = [password[0], ("SIGNER", &text)];
        for named in [file.as_str(), "env:SIGNER"] {
            let arguments = ["-t", &repository, "--push", "--sign-key", named];
            let digest = digest(&run(&place, buildkitd(), &arguments, &variables));
            let signature = attached(&repository, &digest).remove(0);
            let blob = signature["digest"].as_str().unwrap();
            let payload =
                program("crane", &["blob", "--insecure", &format!("{repository}@{blob}")]);
            let payload = payload.into_bytes();
            let text = signature["annotations"]["dev.cosignproject.cosign/signature"].clone();
            verify_with_openssl(&place, &payload, text.as_str().unwrap(), key);
            let payload: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(payload["critical"]["image"]["docker-manifest-digest"], digest.as_str());
            assert_eq!(payload["critical"]["identity"]["docker-reference"], repository.as_str());
        }
    }
    let repository = format!("{}/solve/{}", bed::registry(), unique());
    key_pair(&place, "p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    for (key, variables, words) in [
        ("sealed.key", &[][..], "it has a password"),
        ("sealed.key", &[("COSIGN_PASSWORD", "wrong")][..], "its password is another one"),
        ("sealed.pub", &[], "no private key"),
        ("p384.key", &[], "neither ECDSA on P-256"),
        ("gone.key", &[], "No such file"),
        ("env:UNSET", &[], "not set"),
    ] {
        let arguments = ["-t", &repository, "--push", "--sign-key", key];
        let ran = run(&place, buildkitd(), &arguments, variables);
        assert_eq!(ran.code, Some(2), "{key}: {ran:?}");
        let error = ran.json()["error"].take();
        assert_eq!(error["code"], "SIGNING_KEY", "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}

fn verify_with_openssl(place: &Place, payload: &[u8], signature: &str, key: &str) {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    fs::write(place.work().join("payload"), payload).unwrap();
    fs::write(place.work().join("signature"), BASE64_STANDARD.decode(signature).unwrap()).unwrap();
    let public = format!("{key}.pub");
    let arguments = if key == "edwards" {
        vec![
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            &public,
            "-rawin",
            "-in",
            "payload",
            "-sigfile",
            "signature",
        ]
    } else {
        vec!["dgst", "-sha256", "-verify", &public, "-signature", "signature", "payload"]
    };
    let done = Command::new("openssl").args(&arguments).current_dir(place.work()).output().unwrap();
    assert!(done.status.success(), "{key}: {done:?}");
}

#[test]
fn a_command_signs_what_it_reads_or_the_image_by_itself() {
    let place = own();
    key_pair(&place, "token", P256);
    let repository = format!("{}/solve/{}", bed::registry(), unique());
    let config = |command: &str| {
        place.write(
            "bk-sync.toml",
            &format!("[sign]\ncommand = {command}\nannotations = {{ team = \"a\" }}\n"),
        );
    };
    config(r#"["sh", "-c", "openssl dgst -sha256 -sign token.key | base64"]"#);
    let arguments = ["-t", &repository, "--push"];
    let digest = digest(&run(&place, buildkitd(), &arguments, &[]));
    let image = format!("{repository}@{digest}");
    assert!(holds(&place, &image, "token.pub"));

    config(r#"["sh", "-c", "echo \"$0\" >signed", "{image}"]"#);
    let ran = run(&place, buildkitd(), &arguments, &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.json()["result"]["push"]["signatures"], Value::Null);
    assert_eq!(fs::read_to_string(place.work().join("signed")).unwrap().trim(), image);

    for (command, words) in [
        (r#"["sh", "-c", "echo no token here >&2; exit 3"]"#, "no token here"),
        (r#"["true"]"#, "wrote no signature"),
        (r#"["no-such-program"]"#, "no-such-program"),
    ] {
        config(command);
        let ran = run(&place, buildkitd(), &arguments, &[]);
        assert_eq!(ran.code, Some(12), "{ran:?}");
        let failure = ran.json();
        assert_eq!(failure["error"]["code"], "SIGN_FAILED", "{failure}");
        assert!(ran.stdout.contains(words), "{failure}");
        assert!(failure["fix"].as_str().unwrap().contains("again"), "{failure}");
    }
    let ran = run(&place, buildkitd(), &["-t", &repository, "--push", "--no-sign"], &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn an_archive_and_a_joined_index_are_signed_too() {
    let place = own();
    key_pair(&place, "ours", P256);
    let ran = place.run(&super::arguments(buildkitd(), &["-o", "type=oci,dest=a.tar", "."]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let repository = format!("{}/solve/{}", bed::registry(), unique());
    let ran =
        place.run(&["push", "--format", "json", "a.tar", &repository, "--sign-key", "ours.key"]);
    let image = format!("{repository}@{}", digest(&ran));
    assert!(holds(&place, &image, "ours.pub"));

    let place = self::place(&format!("FROM {}\nLABEL mark={}\n", bed::base_multi(), unique()));
    key_pair(&place, "ours", P256);
    let list = format!("linux/arm64={},linux/amd64={}", buildkitd().address, dockerd().address);
    let ran = place.run(&[
        "--builder",
        &list,
        "build",
        "--format",
        "json",
        "-q",
        "-t",
        &repository,
        "--push",
        "--sign-key",
        "ours.key",
        ".",
    ]);
    let digest = digest(&ran);
    assert_eq!(attached(&repository, &digest).len(), 1);
    assert!(holds(&place, &format!("{repository}@{digest}"), "ours.pub"));
    let count = ran.json()["result"]["push"]["signatures"].as_array().unwrap().len();
    assert_eq!(count, 1, "the parts are signed by nobody: {ran:?}");
}

/// A base image in a registry, and where it was made.
struct Base {
    name: String,
    place: Place,
}

impl Base {
    /// One that nobody has signed.
    fn new() -> Self {
        let name = format!("{}/solve/{}", bed::registry(), unique());
        let place = own();
        place.write("sealed.key", SEALED);
        assert_eq!(run(&place, buildkitd(), &["-t", &name, "--push"], &[]).code, Some(0));
        Self { name, place }
    }

    /// The same with what cosign's libraries leave beside it for `action`.
    fn with(self, action: &str) -> Self {
        let (code, words) = cosignature(&self.place, action, "sealed.key", &self.name);
        assert_eq!(code, 0, "{words}");
        self
    }

    /// Signs it with notation, whose key and certificate are made for it: the certificate.
    fn notarised(&self, form: &str) -> String {
        let signer = unique();
        let notation = |words: &[&str]| {
            let done = Command::new(bed::program("notation"))
                .env_clear()
                .env("XDG_CONFIG_HOME", self.place.work())
                .env("HOME", self.place.work())
                .args(words)
                .output()
                .unwrap();
            assert!(done.status.success(), "{words:?}: {done:?}");
        };
        notation(&["cert", "generate-test", "--default", &signer]);
        let image = format!("{}:latest", self.name);
        notation(&["sign", "--signature-format", form, "--insecure-registry", &image]);
        let certificate = format!("notation/localkeys/{signer}.crt");
        fs::read_to_string(self.place.work().join(certificate)).unwrap()
    }
}

#[test]
fn a_base_image_is_read_only_if_it_is_signed_by_whom_it_must_be() {
    let (signed, bare) = (Base::new().with("sign"), Base::new());
    let refused = |ran: &Ran, words: &str| {
        assert_eq!(ran.code, Some(17), "{ran:?}");
        let error = ran.json()["error"].take();
        assert_eq!(error["code"], "BASE_UNVERIFIED", "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    };
    for builder in builders() {
        let mark = unique();
        let place = place(&format!("FROM {}\nRUN echo {mark} >/mark\n", signed.name));
        place.write("sealed.pub", PUBLIC);
        key_pair(&place, "other", P256);
        let with = |key: &str| run(&place, builder, &["--base-key", key], &[]);
        refused(&with("other.pub"), "it is by another key");
        let ran = with("sealed.pub");
        assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
        let cached = ran.json()["result"]["build"]["cached"].as_u64().unwrap();
        let vertices = ran.json()["result"]["build"]["vertices"].as_u64().unwrap();
        assert!(cached < vertices, "the step ran before the image was verified: {ran:?}");
        // Either key will do where both hold for it; one that does not hold says nothing.
        let both = ["--base-key", "sealed.pub", "--base-key", "other.pub"];
        assert_eq!(run(&place, builder, &both, &[]).code, Some(0));
        assert_eq!(with("ghcr.io/*=other.pub").code, Some(0));
        let own = format!("{}/*=other.pub", bed::registry());
        refused(&with(&own), "it is by another key");

        // Not only what `FROM` names.
        for text in [
            format!("FROM {}\n", bare.name),
            format!("FROM {}\nCOPY --from={} / /x\n", signed.name, bare.name),
            format!("FROM {}\nRUN --mount=from={},target=/x true\n", signed.name, bare.name),
        ] {
            place.write("Dockerfile", &text);
            refused(&with("sealed.pub"), "it has no signature");
        }
        place.write("Dockerfile", "FROM scratch\nCOPY --from=c / /x\n");
        let context = format!("c=docker-image://{}", bare.name);
        let arguments = ["--base-key", "sealed.pub", "--build-context", &context];
        refused(&run(&place, builder, &arguments, &[]), "it has no signature");
    }
}

#[test]
fn a_base_images_signature_is_asked_for_with_no_right_but_to_pull() {
    let (user, password) = bed::user();
    let variables = [("BK_SYNC_REGISTRY_USERNAME", user), ("BK_SYNC_REGISTRY_PASSWORD", password)];
    let name = unique();
    let base = format!("{}/solve/{name}", bed::registry_token());
    let pushed = run(&own(), buildkitd(), &["-t", &base, "--push"], &variables);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let place = place(&format!("FROM {base}\n"));
    place.write("sealed.pub", PUBLIC);
    let config = format!(
        "[registry.\"{}\"]\nenv = \"TOKEN\"\nusername = \"{user}\"\n",
        bed::registry_token()
    );
    place.write("bk-sync.toml", &config);
    let log = || fs::read_to_string(bed::token_server_log()).unwrap();
    let before = log().len();
    let ran = run(&place, buildkitd(), &["--base-key", "sealed.pub"], &[("TOKEN", password)]);
    assert_eq!(ran.json()["error"]["code"], "BASE_UNVERIFIED", "{ran:?}");
    assert!(ran.json()["error"]["message"].as_str().unwrap().contains("it has no signature"));
    let asked = log().split_off(before);
    let asked: Vec<&str> = asked.lines().filter(|line| line.contains(&name)).collect();
    assert!(!asked.is_empty(), "nobody asked for a token");
    let scope = format!("scope=[\"repository:solve/{name}:pull\"]");
    assert!(asked.iter().all(|line| line.contains(&scope)), "{asked:#?}");
}

#[test]
fn a_check_that_could_be_walked_around_is_refused() {
    let base = Base::new().with("sign");
    let place = place(&format!("FROM {}\n", base.name));
    place.write("sealed.pub", PUBLIC);
    place.write("sealed.key", SEALED);
    let policy = r#"{"rules": [{"action": "CONVERT", "selector": {"identifier": "*"}}]}"#;
    place.write("policy.json", policy);
    for (arguments, words) in [
        (&["--base-key", "sealed.pub", "--frontend", "daemon"][..], "not known here"),
        (&["--base-key", "sealed.pub", "--source-policy", "policy.json"], "source policy"),
        (&["--base-key", "gone.pub"], "No such file"),
        (&["--base-key", "sealed.key"], "private key"),
        (&["--base-key", "policy.json"], "neither"),
    ] {
        let ran = run(&place, buildkitd(), arguments, &[]);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let error = ran.json()["error"].take();
        assert_eq!(error["code"], "BASE_KEY", "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
    place.write(
        "Dockerfile",
        &format!("# syntax=docker/dockerfile-upstream:1\nFROM {}\n", base.name),
    );
    let arguments = ["--base-key", "sealed.pub", "--frontend", "native"];
    assert_eq!(run(&place, buildkitd(), &arguments, &[]).code, Some(0));

    place.write("Dockerfile", &format!("FROM {}\n", base.name));
    place.write("bk-sync.toml", "[build.base_keys]\n\"*\" = \"keys/a.pub\"\n");
    fs::create_dir_all(place.work().join("keys")).unwrap();
    place.write("keys/a.pub", PUBLIC);
    assert_eq!(run(&place, buildkitd(), &[], &[]).code, Some(0));
    place.write("Dockerfile", &format!("FROM {}\n", Base::new().name));
    assert_eq!(run(&place, buildkitd(), &[], &[]).code, Some(17));
}

#[test]
fn a_bundle_and_a_signature_of_notation_vouch_for_an_image_and_an_attestation_does_not() {
    let refused = |place: &Place, key: &str, words: &str| {
        let ran = run(place, buildkitd(), &["--base-key", key], &[]);
        assert_eq!(ran.code, Some(17), "{ran:?}");
        let message = ran.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "{message}");
    };
    let from = |base: &Base| {
        let place = place(&format!("FROM {}\nLABEL mark={}\n", base.name, unique()));
        place.write("sealed.pub", PUBLIC);
        key_pair(&place, "other", P256);
        place
    };
    let attested = Base::new().with("attest");
    refused(&from(&attested), "sealed.pub", "it cannot be read");
    let place = from(&attested.with("bundle"));
    assert_eq!(run(&place, buildkitd(), &["--base-key", "sealed.pub"], &[]).code, Some(0));
    refused(&place, "other.pub", "it is by another key");

    for form in ["jws", "cose"] {
        let notarised = Base::new();
        let (certificate, other) = (notarised.notarised(form), Base::new().notarised(form));
        let place = from(&notarised);
        place.write("signer.crt", &certificate);
        place.write("other.crt", &other);
        let ran = run(&place, buildkitd(), &["--base-key", "signer.crt"], &[]);
        assert_eq!(ran.code, Some(0), "{form}: {ran:?}");
        refused(&place, "other.crt", "its certificate does not lead");
        // A key is nobody's certificate.
        refused(&place, "sealed.pub", "it has no signature");
        // One who trusts both forms takes either.
        place.write("both.pem", &format!("{PUBLIC}{certificate}"));
        assert_eq!(run(&place, buildkitd(), &["--base-key", "both.pem"], &[]).code, Some(0));
    }
}
