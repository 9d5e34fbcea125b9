//! Against OpenSSH's own tools: `ssh-keygen` makes keys, has the agent sign and checks it.

use super::frame::Frames;
use super::{Agent, Backend, KeyError, SshAgents, SshError};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};

fn keygen(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = directory.join(name);
    let output = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", "a comment", "-f"])
        .arg(&path)
        .args(arguments)
        .output()
        .expect("these tests need OpenSSH's client");
    assert!(output.status.success(), "{output:?}");
    path
}

/// Serves `agents`' default agent on a socket, as the builder does towards a step.
fn serve(agents: &SshAgents, socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let agents = agents.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let Ok(Agent::Keys(keyring)) = agents.find("") else { panic!("no keys") };
            let mut backend = Backend::Keys(keyring.clone());
            tokio::spawn(async move {
                let (mut frames, mut buffer) = (Frames::default(), [0; 4096]);
                while let Ok(read @ 1..) = connection.read(&mut buffer).await {
                    frames.extend(&buffer[..read]);
                    while let Some(question) = frames.next().unwrap() {
                        let answer = backend.answer(&question).await.unwrap();
                        connection.write_all(&answer).await.unwrap();
                    }
                }
            });
        }
    });
}

async fn ssh_add(socket: &Path, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new("ssh-add");
    command.env("SSH_AUTH_SOCK", socket).args(arguments).output().await.unwrap()
}

async fn works(name: &str, arguments: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let key = keygen(directory.path(), name, arguments);
    let socket = directory.path().join("agent");
    let agents = SshAgents::new().with("", std::slice::from_ref(&key), None).unwrap();
    serve(&agents, &socket);
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let listed = ssh_add(&socket, &["-L"]).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    let blob = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(blob(&listed), blob(&public), "ssh-add lists the public key");
    // The private file goes, so that OpenSSH has the agent alone to sign with.
    std::fs::remove_file(&key).unwrap();
    let document = directory.path().join("document");
    std::fs::write(&document, "to be signed").unwrap();
    let signed = tokio::process::Command::new("ssh-keygen")
        .env("SSH_AUTH_SOCK", &socket)
        .args(["-Y", "sign", "-n", "test", "-f"])
        .args([key.with_extension("pub"), document.clone()])
        .output()
        .await
        .unwrap();
    assert!(signed.status.success(), "the agent signs: {signed:?}");
    let checked = Command::new("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "test", "-s"])
        .arg(document.with_extension("sig"))
        .stdin(std::fs::File::open(&document).unwrap())
        .output()
        .unwrap();
    assert!(checked.status.success(), "the signature holds: {checked:?}");
    let removed = ssh_add(&socket, &["-D"]).await;
    assert!(!removed.status.success(), "nothing can be removed");
}

#[tokio::test]
async fn ed25519_keys_sign() {
    works("ed25519", &["-t", "ed25519"]).await;
}

#[tokio::test]
async fn ecdsa_keys_sign() {
    works("p256", &["-t", "ecdsa", "-b", "256"]).await;
    works("p384", &["-t", "ecdsa", "-b", "384"]).await;
}

#[tokio::test]
async fn rsa_keys_sign() {
    works("rsa", &["-t", "rsa", "-b", "2048"]).await;
    works("rsa3072", &["-t", "rsa", "-b", "3072"]).await;
    works("pkcs1", &["-t", "rsa", "-b", "2048", "-m", "PEM"]).await;
    works("pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]).await;
}

#[test]
fn keys_that_need_an_agent_say_so() {
    let directory = tempfile::tempdir().unwrap();
    let open = |path: &Path| match SshAgents::new().with("", &[path.to_owned()], None) {
        Err(SshError::Key { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    let locked = keygen(directory.path(), "locked", &["-t", "ed25519", "-N", "passphrase"]);
    assert_eq!(open(&locked), KeyError::Encrypted);
    let wide = keygen(directory.path(), "p521", &["-t", "ecdsa", "-b", "521"]);
    let kind = "ecdsa-sha2-nistp521".to_owned();
    assert_eq!(open(&wide), KeyError::Unsupported { kind });
    assert_eq!(open(&locked.with_extension("pub")), KeyError::NotAKey);
}

#[test]
fn agents_are_given_once_and_sockets_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let agents = SshAgents::new().with("a", &[], Some(&socket)).unwrap();
    assert!(agents.find("a").is_ok() && agents.find("default").is_err());
    let again = agents.with("a", std::slice::from_ref(&socket), None).unwrap_err();
    assert_eq!(again, SshError::SameId { id: "a".to_owned() });
    let both = SshAgents::new().with("", &[socket.clone(), socket.clone()], None).unwrap_err();
    assert_eq!(both, SshError::SocketAmongKeys { path: socket });
    let none = SshAgents::new().with("", &[], None).unwrap_err();
    assert_eq!(none, SshError::NoAgent { id: "default".to_owned() });
}

/// A step that goes around the rules reaches neither the agent nor a key.
#[tokio::test]
async fn an_agent_behind_a_socket_sees_allowed_messages_only() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut question = [0; 5];
        connection.read_exact(&mut question).await.unwrap();
        // In two parts, as a slow agent would.
        connection.write_all(&[0, 0, 0, 5, 12]).await.unwrap();
        tokio::task::yield_now().await;
        connection.write_all(&[0, 0, 0, 0]).await.unwrap();
        question
    });
    let connection = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let mut backend = Backend::Socket(connection, Frames::default());
    // 17 adds a key, 19 removes all, 22 locks, 27 is an extension.
    for forbidden in [17, 18, 19, 22, 23, 25, 27] {
        let answer = backend.answer(&[forbidden, 0]).await.unwrap();
        assert_eq!(answer.as_ref(), [0, 0, 0, 1, 5]);
    }
    assert_eq!(backend.answer(&[11]).await.unwrap().as_ref(), [0, 0, 0, 5, 12, 0, 0, 0, 0]);
    assert_eq!(seen.await.unwrap(), [0, 0, 0, 1, 11]);
}
