//! Repositories that are not for everybody: a token over http, a key over ssh. What the builder needs
//! for them it is lent over the session.

use super::{Builder, buildkitd, dockerd, unique};
use crate::{
    bed,
    cli::{Place, git},
    command::succeed,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A bare repository in `place` with a Dockerfile that shows `mark`.
fn repository(place: &Place, mark: &str) -> PathBuf {
    place.write("origin/Dockerfile", &format!("FROM {}\nCOPY f /seen\n", bed::base_multi()));
    place.write("origin/f", mark);
    let origin = place.work().join("origin");
    git(&origin, &["init", "-q", "-b", "trunk"]);
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "-q", "-m", "one"]);
    let bare = place.work().join("served/private.git");
    git(&origin, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    bare
}

/// Builds `url`; the exit code, what it says, and what it made.
fn built(
    place: &Place,
    builder: Builder,
    more: &[&str],
    url: &str,
) -> (Option<i32>, String, Option<String>) {
    let head = ["--builder", builder.address, "build", "--progress", "plain", "-o", "out"];
    let mut command = place.command(&[&head[..], more, &[url]].concat());
    command.env("GIT_AUTH_TOKEN", TOKEN);
    let ran = place.ran(&command.output().unwrap());
    let out = place.work().join("out");
    let seen = fs::read_to_string(out.join("seen")).ok();
    drop(fs::remove_dir_all(out));
    (ran.code, ran.stderr, seen)
}

const TOKEN: &str = "a-token-that-is-lent";

#[test]
fn a_token_opens_a_repository_over_http() {
    let (place, mark) = (Place::new(), unique());
    let bare = repository(&place, &mark);
    let address = serve(bare.parent().unwrap());
    let url = format!("{address}/private.git#trunk");
    for builder in [buildkitd(), dockerd()] {
        for frontend in ["native", "daemon"] {
            let front = ["--frontend", frontend];
            let (code, text, _) = built(&place, builder, &front, &url);
            assert_eq!(code, Some(11), "{builder:?} {frontend} without the token: {text}");
            let lent = ["--secret", "id=GIT_AUTH_TOKEN"];
            let (code, text, seen) = built(&place, builder, &[&front[..], &lent].concat(), &url);
            assert_eq!(code, Some(0), "{builder:?} {frontend}: {text}");
            assert_eq!(seen.as_deref(), Some(mark.as_str()));
            assert!(!text.contains(TOKEN), "{text}");
        }
    }
}

/// Serves the repositories below `root` to whoever has the token, as git's own program for web servers
/// does it; the address.
fn serve(root: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let root = root.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let root = root.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &root));
        }
    });
    address
}

fn answer(mut stream: TcpStream, root: &Path) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(first) = lines.first() else { return };
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let header = |name: &str| -> String {
        let found = lines.iter().filter_map(|line| line.split_once(": "));
        let found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_owned()).next().unwrap_or_default()
    };
    let expected = BASE64_STANDARD.encode(format!("x-access-token:{TOKEN}"));
    if !header("authorization").to_ascii_lowercase().starts_with("basic ")
        || !header("authorization").ends_with(&expected)
    {
        let refused = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"git\"\r\n\
                       content-length: 0\r\nconnection: close\r\n\r\n";
        drop(stream.write_all(refused.as_bytes()));
        return;
    }
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_PROTOCOL", header("git-protocol"))
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    backend.stdin.take().unwrap().write_all(&body).unwrap();
    let said = backend.wait_with_output().unwrap().stdout;
    let status = match said.strip_prefix(b"Status: ") {
        Some(rest) => {
            String::from_utf8_lossy(rest.split(|byte| *byte == b'\r').next().unwrap()).into_owned()
        }
        None => "200 OK".to_owned(),
    };
    drop(stream.write_all(format!("HTTP/1.1 {status}\r\nconnection: close\r\n").as_bytes()));
    drop(stream.write_all(&said));
}

/// The bed's ssh server lets one user in, who gets at what is that user's.
#[test]
fn a_key_opens_a_repository_over_ssh() {
    let (place, mark) = (Place::new(), unique());
    let bare = repository(&place, &mark);
    let served = bed::git_root().join(format!("private-{mark}.git"));
    let address = bed::ssh();
    let user = address.strip_prefix("ssh://").and_then(|rest| rest.split_once('@')).unwrap().0;
    for arguments in [
        &["cp", "-r", bare.to_str().unwrap(), served.to_str().unwrap()][..],
        &["chown", "-R", user, served.to_str().unwrap()],
        &["chmod", "-R", "go=", served.to_str().unwrap()],
    ] {
        succeed(Command::new(arguments[0]).args(&arguments[1..]));
    }
    let url = format!("{address}{}#trunk", served.display());
    let key = Path::new(bed::ssh_path()).parent().unwrap().join("client_key");
    let key = format!("default={}", key.display());
    for builder in [buildkitd(), dockerd()] {
        for frontend in ["native", "daemon"] {
            let more = ["--frontend", frontend, "--ssh", &key];
            let (code, text, seen) = built(&place, builder, &more, &url);
            assert_eq!(code, Some(0), "{builder:?} {frontend}: {text}");
            assert_eq!(seen.as_deref(), Some(mark.as_str()), "{builder:?} {frontend}");
        }
    }
    let (code, text, _) = built(&place, buildkitd(), &["--no-cache"], &url);
    assert_ne!(code, Some(0), "without the key: {text}");
    fs::remove_dir_all(served).unwrap();
}
