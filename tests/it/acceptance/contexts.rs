//! Where a context can come from, and that what is built is what lies there now.

use crate::bed;
use crate::command::{Stranger, said, succeed, unique, write_files};
use std::io::{Read as _, Write as _};
use std::process::Stdio;

const BUILDERS: [fn() -> &'static str; 3] =
    [bed::buildkitd, bed::dockerd, bed::dockerd_graphdriver];

/// `build ARGUMENTS -o type=local` with `stdin`; gives what the file `mark` holds afterwards.
fn build_with_stdin(
    stranger: &Stranger,
    builder: &str,
    arguments: &[&str],
    stdin: &[u8],
) -> String {
    let out = stranger.join(unique("out"));
    let mut child = stranger
        .bk_sync()
        .args(["build", "--builder", builder, "--output"])
        .arg(format!("type=local,dest={}", out.display()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A child that fails early closes its stdin; what it then says is the better message.
    drop(child.stdin.take().expect("a pipe").write_all(stdin));
    let said = said(&child.wait_with_output().expect("an end"));
    assert_eq!(said.code, 0, "{arguments:?} on {builder}: {}", said.stderr);
    std::fs::read_to_string(out.join("mark")).expect("the file `mark`")
}

#[test]
fn a_dockerfile_on_stdin() {
    for builder in BUILDERS {
        let mark = unique("stdin");
        let dockerfile = format!("FROM scratch\nCOPY <<mark /mark\n{mark}\nmark\n");
        let back = build_with_stdin(&Stranger::new(), builder(), &["-"], dockerfile.as_bytes());
        assert_eq!(back.trim_end(), mark);
    }
}

#[test]
fn a_tar_on_stdin() {
    for builder in BUILDERS {
        let stranger = Stranger::new();
        let mark = unique("tar");
        write_files(
            &stranger.join("context"),
            &[("Dockerfile", "FROM scratch\nCOPY mark /\n"), ("mark", &mark)],
        );
        for compression in ["--no-auto-compress", "--gzip"] {
            let tar = stranger
                .command("tar")
                .args(["-C", "context", "-c", compression, "."])
                .output()
                .expect("tar runs");
            assert_eq!(build_with_stdin(&stranger, builder(), &["-"], &tar.stdout), mark);
        }
    }
}

#[test]
fn a_dockerfile_on_stdin_beside_a_directory() {
    let stranger = Stranger::new();
    let mark = unique("beside");
    write_files(&stranger.join("context"), &[("mark", &mark)]);
    let back = build_with_stdin(
        &stranger,
        bed::buildkitd(),
        &["--file", "-", "context"],
        b"FROM scratch\nCOPY mark /\n",
    );
    assert_eq!(back, mark);
}

#[test]
fn a_git_repository() {
    let stranger = Stranger::new();
    let mark = unique("git");
    let work = stranger.join("work");
    write_files(
        &work,
        &[
            ("service/Dockerfile", "FROM scratch\nCOPY mark /\n"),
            ("service/mark", &mark),
            ("Dockerfile", "FROM scratch\nCOPY service/mark /\n"),
        ],
    );
    let git = |arguments: &[&str]| {
        succeed(
            stranger
                .command("git")
                .current_dir(&work)
                .args(["-c", "user.name=t", "-c", "user.email=t@example"])
                .args(arguments),
        )
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "one"]);
    let repository = bed::git_root().join(format!("{mark}.git"));
    let served = repository.to_str().expect("a path of text");
    git(&["clone", "--quiet", "--bare", ".", served]);
    let url = format!("{}/{mark}.git", bed::git());
    for builder in BUILDERS {
        for fragment in ["", "#main", "#main:service"] {
            let context = format!("{url}{fragment}");
            assert_eq!(build_with_stdin(&stranger, builder(), &[&context], b""), mark);
        }
    }
    std::fs::remove_dir_all(&repository).expect("the repository goes");
}

#[test]
fn an_archive_behind_a_url() {
    let stranger = Stranger::new();
    let mark = unique("archive");
    write_files(
        &stranger.join("context"),
        &[("Dockerfile", "FROM scratch\nCOPY mark /\n"), ("mark", &mark)],
    );
    let tar =
        stranger.command("tar").args(["-C", "context", "-cz", "."]).output().expect("tar runs");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/context.tar.gz", listener.local_addr().expect("an address"));
    // Serves for as long as the test process lives; the builders ask with HEAD and GET.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 4096];
            let length = stream.read(&mut request).expect("a request");
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                tar.stdout.len()
            );
            let body: &[u8] =
                if request[..length].starts_with(b"HEAD") { b"" } else { &tar.stdout };
            // A builder that has seen enough hangs up.
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
        }
    });
    for builder in BUILDERS {
        assert_eq!(build_with_stdin(&stranger, builder(), &[&url], b""), mark);
    }
}

#[test]
fn a_named_context_beside_the_main_one() {
    let stranger = Stranger::new();
    let mark = unique("named");
    write_files(
        &stranger.join("context"),
        &[("Dockerfile", "FROM scratch\nCOPY --from=other mark /\n")],
    );
    write_files(&stranger.join("elsewhere"), &[("mark", &mark)]);
    let arguments = ["--build-context", "other=elsewhere", "context"];
    assert_eq!(build_with_stdin(&stranger, bed::buildkitd(), &arguments, b""), mark);
}

/// A tool that trusts size and modification time alone ships the old bytes here (earthly#2317).
#[test]
fn content_that_changes_under_the_same_size_and_time_is_sent_earthly_2317() {
    for builder in BUILDERS {
        let stranger = Stranger::new();
        let file = stranger.join("context/mark");
        write_files(&stranger.join("context"), &[("Dockerfile", "FROM scratch\nCOPY mark /\n")]);
        let time =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        let (first, second) = (unique("stale"), unique("fresh"));
        assert_eq!(first.len(), second.len());
        for content in [&first, &second] {
            std::fs::write(&file, content).expect("a file");
            std::fs::File::options()
                .write(true)
                .open(&file)
                .expect("it opens")
                .set_modified(time)
                .expect("a date");
            assert_eq!(&build_with_stdin(&stranger, builder(), &["context"], b""), content);
        }
    }
}

#[test]
fn what_dockerignore_leaves_out_stays_here() {
    let stranger = Stranger::new();
    let mark = unique("ignored");
    write_files(
        &stranger.join("context"),
        &[
            ("Dockerfile", "FROM scratch\nCOPY . /\n"),
            ("mark", &mark),
            ("notes/private.txt", "private"),
            ("notes/public.txt", "public"),
            (".dockerignore", "notes/*\n!notes/public.txt\nDockerfile\n"),
        ],
    );
    let out = stranger.join("out");
    succeed(
        stranger
            .bk_sync()
            .args(["build", "--builder", bed::buildkitd(), "--output"])
            .arg(format!("type=local,dest={}", out.display()))
            .arg("context"),
    );
    assert_eq!(std::fs::read_to_string(out.join("mark")).expect("mark"), mark);
    assert!(out.join("notes/public.txt").exists());
    assert!(!out.join("notes/private.txt").exists());
    assert!(!out.join("Dockerfile").exists());
}
