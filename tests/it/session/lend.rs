//! Secrets, agents and archives, as build steps see them.

use super::{Build, builders, session};
use crate::{bed, command::alone};
use bk_sync::{
    buildkit::session::{Layouts, SecretContent, Secrets, SshAgents, Upload, random_id},
    credential::Secret,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, path::Path, process::Command};
use tracing_subscriber::fmt::MakeWriter;

fn digest(data: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(data).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn one_secret(id: &str, secret: &str) -> Secrets {
    let content = SecretContent::Held(Secret::new(secret));
    Secrets::new(BTreeMap::from([(id.to_owned(), content)])).unwrap()
}

#[tokio::test]
async fn secrets_reach_steps_byte_for_byte_and_stay_nowhere() {
    let canary = Canary::new();
    let mut bytes = canary.text.clone().into_bytes();
    bytes.extend([0, 0xff, b'\n']);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, &bytes).unwrap();
    for builder in builders() {
        let dockerfile = format!(
            "FROM {}\n\
             RUN --mount=type=secret,id=file --mount=type=secret,id=held,env=HELD \
             --mount=type=secret,id=missing,target=/missing \
             test \"$(sha256sum < /run/secrets/file)\" = \"{}  -\" && \
             test \"$(printf %s \"$HELD\" | sha256sum)\" = \"{}  -\" && \
             test ! -e /missing\n",
            bed::base_multi(),
            digest(&bytes),
            digest(canary.text.as_bytes()),
        );
        let secrets = Secrets::new(BTreeMap::from([
            ("file".to_owned(), SecretContent::File(file.clone())),
            ("held".to_owned(), SecretContent::Held(Secret::new(canary.text.as_str()))),
        ]));
        let built = Build::new(builder, &dockerfile).run(session().attach(secrets.unwrap())).await;
        built.unwrap_or_else(|error| panic!("{builder}: {}", error.message()));
    }
    directory.close().unwrap();
    canary.assert_nowhere();
}

/// A text that is nowhere else, to be looked for.
pub(super) struct Canary {
    /// The text.
    pub(super) text: String,
    /// As old as the text: what holds it was written since.
    born: tempfile::NamedTempFile,
}

impl Canary {
    pub(super) fn new() -> Self {
        let text = format!("canary-{}", random_id());
        Self { text, born: tempfile::NamedTempFile::new().unwrap() }
    }

    /// Searches what a build could have written to: the builders' and registries' state, their
    /// logs, temporary directories, and where this user's programs keep things.
    #[track_caller]
    pub(super) fn assert_nowhere(&self) {
        #[expect(clippy::disallowed_methods, reason = "a test that looks into the home directory")]
        let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
        let places = ["/tmp", "/var/tmp", "/run", "/var/lib/bk-sync-testbed"].map(str::to_owned);
        let own = [".docker", ".config", ".local", ".cache"].map(|name| format!("{home}/{name}"));
        let found = Command::new("find")
            .args(places.iter().chain(&own))
            .args(["-type", "f", "-newer"])
            .arg(self.born.path())
            .args(["-exec", "grep", "--files-with-matches", "--fixed-strings", "--"])
            .args([&self.text, "{}", "+"])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "the canary was written");
    }
}

#[test]
fn the_search_would_find_a_canary() {
    let canary = Canary::new();
    // Files are dated by the kernel's tick.
    std::thread::sleep(std::time::Duration::from_millis(50));
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("leak"), &canary.text).unwrap();
    let searched = std::panic::AssertUnwindSafe(|| canary.assert_nowhere());
    std::panic::catch_unwind(searched).expect_err("the leak is found");
}

#[tokio::test]
async fn a_required_secret_that_nobody_gave_fails_by_name() {
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=secret,id=absent,required=true echo {}\n",
        bed::base_multi(),
        random_id(),
    );
    let secrets = one_secret("other", "x");
    let failed = Build::new(bed::buildkitd(), &dockerfile).run(session().attach(secrets)).await;
    let error = failed.unwrap_err();
    assert!(error.message().contains("secret absent"), "{}", error.message());
    assert!(error.message().contains("not found"), "{}", error.message());
}

#[tokio::test]
async fn a_secret_whose_file_is_gone_is_told_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "x").unwrap();
    let content = SecretContent::File(file.clone());
    let secrets = Secrets::new(BTreeMap::from([("s".to_owned(), content)])).unwrap();
    std::fs::remove_file(&file).unwrap();
    // Optional, so that an absence would pass; this is none.
    let dockerfile =
        format!("FROM {}\nRUN --mount=type=secret,id=s echo {}\n", bed::base_multi(), random_id());
    let failed = Build::new(bed::buildkitd(), &dockerfile).run(session().attach(secrets)).await;
    let error = failed.unwrap_err();
    assert!(error.message().contains("secret `s`: cannot read"), "{}", error.message());
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// With every event of every crate on the way written out. In a process of its own: where one thread
/// comes to an event for the first time while another turns a log on, the event can be off for good.
#[tokio::test]
async fn no_secret_is_in_any_log_even_at_the_finest_level() {
    if !alone("session::lend::no_secret_is_in_any_log_even_at_the_finest_level", &[]) {
        return;
    }
    let canary = format!("canary-{}", random_id());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=secret,id=s test -s /run/secrets/s # {}\n",
        bed::base_multi(),
        random_id()
    );
    let session = session().attach(one_secret("s", &canary));
    Build::new(bed::buildkitd(), &dockerfile).run(session).await.unwrap();
    drop(guard);
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("secret lent to the builder"), "the log is on");
    assert!(log.contains("h2::"), "the transport logs too");
    let line = log.lines().find(|line| line.contains(&canary));
    assert_eq!(line, None);
}

#[tokio::test]
async fn a_tar_on_stdin_is_a_context() {
    for builder in builders() {
        let nonce = random_id();
        let dockerfile = format!(
            "FROM {}\nCOPY big /big\nRUN test \"$(wc -c < /big)\" = 5000000 # {nonce}\n",
            bed::base_multi()
        );
        let mut tar = tar::Builder::new(Vec::new());
        let big = vec![7; 5_000_000];
        for (name, content) in [("Dockerfile", dockerfile.as_bytes()), ("big", &big)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content).unwrap();
        }
        // A pipe, as stdin is: it can be read once, and only as far as it was written.
        let (reader, mut writer) = tokio::io::duplex(4096);
        let archive = tar.into_inner().unwrap();
        let feeding = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut writer, &archive).await
        });
        let upload = Upload::new();
        let mut build = Build::new(builder, "");
        build.attributes.push(("context", upload.add(reader)));
        let built = build.run(session().attach(upload)).await;
        built.unwrap_or_else(|error| panic!("{builder}: {}", error.message()));
        feeding.await.unwrap().unwrap();
    }
}

/// OpenSSH's `ssh-add` with the libraries that it needs, as files of a context.
fn ssh_add() -> Vec<(String, Bytes)> {
    let program = "/usr/bin/ssh-add";
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    [program]
        .into_iter()
        .chain(libraries)
        .map(|path| {
            let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).expect("these tests need OpenSSH's client").into())
        })
        .collect()
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "bed", "-f"])
        .arg(path)
        .status()
        .expect("these tests need OpenSSH's client");
    assert!(made.success());
}

/// A step that lists the key, has it sign, and must not be able to remove it.
async fn use_agent(builder: &'static str, agents: SshAgents, public: &Path) {
    let files = ssh_add();
    let loader = files.iter().map(|(name, _)| name).find(|name| name.starts_with("ld-")).unwrap();
    let public = std::fs::read(public).unwrap();
    let dockerfile = format!(
        "FROM {}\nCOPY . /ssh/\n\
         RUN --mount=type=ssh,required=true set -ex; chmod +x /ssh/*; \
         add=\"/ssh/{loader} --library-path /ssh /ssh/ssh-add\"; \
         $add -L | cut -d' ' -f1,2 > /listed; cut -d' ' -f1,2 /ssh/key.pub | cmp - /listed; \
         $add -T /ssh/key.pub; \
         if $add -D; then exit 1; fi; \
         $add -T /ssh/key.pub # {}\n",
        bed::base_multi(),
        random_id(),
    );
    let mut build = Build::new(builder, &dockerfile);
    build.files = files.iter().map(|(name, file)| (name.as_str(), file.clone())).collect();
    build.files.push(("key.pub", public.into()));
    let built = build.run(session().attach(agents)).await;
    built.unwrap_or_else(|error| panic!("{builder}: {}", error.message()));
}

#[tokio::test]
async fn key_files_sign_for_steps_without_leaving() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    keygen(&key);
    for builder in builders() {
        let agents = SshAgents::new().with("default", std::slice::from_ref(&key), None).unwrap();
        use_agent(builder, agents, &key.with_extension("pub")).await;
    }
}

#[tokio::test]
async fn the_users_own_agent_signs_for_steps_and_cannot_be_changed_by_them() {
    let directory = tempfile::tempdir().unwrap();
    let (key, socket) = (directory.path().join("key"), directory.path().join("agent"));
    keygen(&key);
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a"])
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..100 {
        if socket.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let added =
        Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status().unwrap();
    assert!(added.success());
    let agents = SshAgents::new().with("", &[], Some(&socket)).unwrap();
    use_agent(bed::buildkitd(), agents, &key.with_extension("pub")).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[tokio::test]
async fn an_agent_that_nobody_gave_fails_by_name() {
    let dockerfile = format!(
        "FROM {}\nRUN --mount=type=ssh,id=absent,required=true echo {}\n",
        bed::base_multi(),
        random_id()
    );
    let session = session().attach(SshAgents::new());
    let failed = Build::new(bed::buildkitd(), &dockerfile).run(session).await.unwrap_err();
    assert!(failed.message().contains("absent"), "{}", failed.message());
}

#[tokio::test]
async fn an_oci_layout_is_a_base_image() {
    let directory = tempfile::tempdir().unwrap();
    let copied = Command::new(bed::program("skopeo"))
        .args(["copy", "--all", "--quiet", "--src-tls-verify=false"])
        .arg(format!("docker://{}", bed::base_multi()))
        .arg(format!("oci:{}:tag", directory.path().display()))
        .output()
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    let index = std::fs::read(directory.path().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    for builder in [bed::buildkitd(), bed::dockerd()] {
        let dockerfile = format!("FROM base\nRUN test -x /bin/busybox # {}\n", random_id());
        let store = random_id();
        let layouts =
            Layouts::new(BTreeMap::from([(store.clone(), directory.path().to_owned())]), []);
        let mut build = Build::new(builder, &dockerfile);
        build.attributes.push(("context:base", format!("oci-layout://{store}:tag@{digest}")));
        let built = build.run(session().attach(layouts)).await;
        built.unwrap_or_else(|error| panic!("{builder}: {}", error.message()));
    }
}
