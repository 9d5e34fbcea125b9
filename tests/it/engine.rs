//! The Docker Engine API against both kinds of store: load, name, inspect, push, exec.

use crate::bed;
use bk_sync::{
    credential::Secret,
    engine::{Client, Error, PushProgress, RegistryLogin},
    image::reference::Reference,
    transport::tls,
};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn engines() -> [Client; 2] {
    [bed::dockerd_host(), bed::dockerd_graphdriver_host()]
        .map(|host| Client::new(host.parse().unwrap(), &tls::Files::default()).unwrap())
}

/// A name in `registry` that no other test run has.
fn name(registry: &str, what: &str) -> Reference {
    let store = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos();
    Reference::parse(&format!("{registry}/engine-{what}-{store}:t1")).unwrap()
}

/// A Docker archive of an image with one file of random bytes, named `name`.
fn archive(name: &Reference) -> Vec<u8> {
    let tar_of = |files: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let noise: Vec<u8> = (0..300_000).map(|_| rand::random::<u8>()).collect();
    let layer = tar_of(&[("noise", &noise)]);
    let diff_id = hex(&Sha256::digest(&layer));
    let config = format!(
        r#"{{"architecture":"arm64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}},"history":[{{"created_by":"test"}}]}}"#
    );
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    tar_of(&[
        ("layer.tar", &layer),
        ("config.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ])
}

async fn load(engine: &Client, name: &Reference) -> Vec<String> {
    let chunks: Vec<_> =
        archive(name).chunks(10_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
    engine.load_images(futures::stream::iter(chunks)).await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// The digest that the open registry has for `name`.
fn digest_in_registry(name: &Reference) -> String {
    let mut stream = std::net::TcpStream::connect(name.domain()).unwrap();
    write!(
        stream,
        "HEAD /v2/{}/manifests/{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
         Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
         application/vnd.docker.distribution.manifest.v2+json\r\n\r\n",
        name.path(),
        name.tag().unwrap(),
        name.domain()
    )
    .unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    let line = head.lines().find(|line| line.to_lowercase().starts_with("docker-content-digest:"));
    line.unwrap().split_once(':').unwrap().1.trim().to_owned()
}

#[tokio::test]
async fn an_image_is_loaded_named_and_pushed() {
    for engine in engines() {
        let first = name(bed::registry(), "load");
        let loaded = load(&engine, &first).await;
        assert_eq!(loaded, [first.to_string()]);
        let second = name(bed::registry(), "tag");
        engine.tag_image(&first.to_string(), &second).await.unwrap();
        let seen = engine.inspect_image(&second.to_string()).await.unwrap();
        assert_eq!((seen.architecture.as_str(), seen.os.as_str()), ("arm64", "linux"));
        assert!(seen.repo_tags.contains(&first.to_string()), "{seen:?}");
        assert!(seen.repo_tags.contains(&second.to_string()), "{seen:?}");

        let mut progress: Vec<PushProgress> = Vec::new();
        let pushed = engine.push_image(&second, None, |one| progress.push(one)).await.unwrap();
        assert_eq!(pushed.tag, "t1");
        assert_eq!(pushed.digest, digest_in_registry(&second));
        assert!(progress.iter().any(|one| one.layer.is_some() && one.status == "Pushed"));

        engine.remove_image(&first).await.unwrap();
        engine.remove_image(&second).await.unwrap();
        let gone = engine.inspect_image(&second.to_string()).await.unwrap_err();
        assert_eq!(gone.status(), Some(404));
        assert!(gone.to_string().contains("No such image"), "{gone}");
    }
}

#[tokio::test]
async fn credentials_are_lent_for_one_push() {
    let (username, password) = bed::user();
    let login = |password: &str| RegistryLogin {
        username: username.to_owned(),
        password: Secret::new(password),
        identity_token: None,
    };
    for engine in engines() {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            let name = name(registry, "login");
            load(&engine, &name).await;
            let mut refused = vec![None];
            // With graphdrivers, a token that is refused is asked for again for most of a minute.
            if engine.info().await.unwrap().containerd_store || registry == bed::registry_basic() {
                refused.push(Some(login("no such password")));
            }
            for wrong in refused {
                let error = engine.push_image(&name, wrong.as_ref(), |_| {}).await.unwrap_err();
                assert!(matches!(error, Error::Image { .. }), "{error:?}");
                assert!(!error.to_string().contains("no such password"), "{error}");
            }
            let right = login(password);
            let pushed = engine.push_image(&name, Some(&right), |_| {}).await.unwrap();
            assert!(pushed.digest.starts_with("sha256:"));
            engine.remove_image(&name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_cannot_be_pushed_or_loaded() {
    for engine in engines() {
        let nothing = name(bed::registry(), "nothing");
        let error = engine.push_image(&nothing, None, |_| {}).await.unwrap_err();
        // One store refuses at once, the other in its report.
        assert!(error.to_string().contains("does not exist"), "{error}");

        let noise = futures::stream::iter([Ok(Bytes::from(vec![b'x'; 100_000]))]);
        let error = engine.load_images(noise).await.unwrap_err();
        assert!(
            matches!(error, Error::Refused { .. } | Error::Image { .. } | Error::Broken { .. }),
            "{error:?}"
        );
        let broken: [std::io::Result<Bytes>; 2] =
            [Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("the disk is gone"))];
        let error = engine.load_images(futures::stream::iter(broken)).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there() {
    // The other store goes on trying for most of a minute.
    let [engine, _] = engines();
    let nowhere = name("127.0.0.1:1", "nowhere");
    load(&engine, &nowhere).await;
    let error = engine.push_image(&nowhere, None, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("connection refused"), "{error}");
    engine.remove_image(&nowhere).await.unwrap();
}

#[tokio::test]
async fn a_command_in_a_container() {
    let [engine, _] = engines();
    let container = bed::docker_container().strip_prefix("docker-container://").unwrap();
    let (mut stream, voice) =
        engine.exec(container, &["sh", "-c", "cat; echo no >&2; exit 3"]).await.unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let writing = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (read, ()) = tokio::join!(reader.read_to_end(&mut back), writing);
    read.unwrap();
    assert_eq!(back.len(), sent.len());
    assert!(back == sent);
    let words = voice.tell().await.unwrap();
    assert!(words.ends_with("ended with exit code 3: no"), "{words}");
}

#[tokio::test]
async fn a_wrong_password_is_known_without_a_push() {
    let (user, password) = bed::user();
    for engine in engines() {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            for (password, expected) in [(password, true), ("wrong", false)] {
                let login = RegistryLogin {
                    username: user.to_owned(),
                    password: Secret::new(password),
                    identity_token: None,
                };
                let accepted = engine.accepts_login(&name(registry, "login"), &login).await;
                assert_eq!(accepted.unwrap(), expected, "{registry} {password}");
            }
        }
    }
}
