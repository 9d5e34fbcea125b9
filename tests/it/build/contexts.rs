//! Where a build's files come from.

use super::{
    archive::file, arguments, build, build_from, builders, buildkitd, dockerd, program, unique,
};
use crate::{
    bed,
    cli::{Place, git},
};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
};

/// A Dockerfile that copies `f` and shows what is in the context.
fn dockerfile() -> String {
    format!("FROM {}\nCOPY . /context\nRUN cat /context/f >/seen\n", bed::base_arm64())
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What the build wrote to `/seen`, out of the archive `out.tar` in the place.
fn seen(place: &Place, path: &str) -> Option<String> {
    let bytes = fs::read(place.work().join("out.tar")).unwrap();
    file(&bytes, path).map(|content| String::from_utf8(content).unwrap())
}

const OUT: [&str; 2] = ["-o", "type=tar,dest=out.tar"];

#[test]
fn an_archive_on_stdin_is_a_context_plain_or_compressed() {
    for builder in builders() {
        for compressed in [false, true] {
            let mark = unique();
            let place = Place::new();
            let archive = tar(&[("Dockerfile", &dockerfile()), ("f", &mark)]);
            let sent = if compressed { gzip(&archive) } else { archive };
            build_from(&place, builder, &[OUT[0], OUT[1], "-"], &sent);
            assert_eq!(seen(&place, "seen").as_deref(), Some(mark.as_str()), "{builder:?}");
        }
    }
}

#[test]
fn a_dockerfile_on_stdin_has_no_files_or_those_of_the_directory() {
    for builder in builders() {
        let mark = unique();
        let place = Place::new();
        let bare = format!("FROM {}\nRUN echo -n {mark} >/seen\n", bed::base_arm64());
        build_from(&place, builder, &[OUT[0], OUT[1], "-"], bare.as_bytes());
        assert_eq!(seen(&place, "seen").as_deref(), Some(mark.as_str()), "{builder:?}");

        place.write("sub/f", &mark);
        build_from(&place, builder, &[OUT[0], OUT[1], "-f", "-", "sub"], dockerfile().as_bytes());
        assert_eq!(seen(&place, "seen").as_deref(), Some(mark.as_str()), "{builder:?}");
    }
}

#[test]
fn ignore_files_are_heeded_and_the_dockerfiles_own_wins() {
    let place = Place::new();
    place.write("sub/f", "f");
    place.write("sub/secret", "s");
    place.write("sub/other", "o");
    place.write("sub/Dockerfile", &dockerfile());
    place.write("sub/.dockerignore", "secret\n");
    place.write("elsewhere/F", &dockerfile());
    place.write("elsewhere/F.dockerignore", "*\n!f\n");
    for builder in [buildkitd(), dockerd()] {
        for frontend in ["native", "daemon"] {
            let front = ["--frontend", frontend];
            build(&place, builder, &[&OUT[..], &front, &["sub"]].concat());
            assert_eq!(seen(&place, "context/secret"), None, "{builder:?} {frontend}");
            assert_eq!(seen(&place, "context/other").as_deref(), Some("o"));
            build(&place, builder, &[&OUT[..], &front, &["-f", "elsewhere/F", "sub"]].concat());
            assert_eq!(seen(&place, "context/f").as_deref(), Some("f"), "{builder:?} {frontend}");
            assert_eq!(seen(&place, "context/other"), None);
        }
    }
}

#[test]
fn a_git_url_is_fetched_by_the_builder() {
    let mark = unique();
    let work = Place::new();
    work.write("sub/Dockerfile", &dockerfile());
    work.write("sub/f", &mark);
    work.write("Dockerfile", &dockerfile());
    work.write("f", &mark);
    git(&work.work(), &["init", "-q", "-b", "trunk"]);
    git(&work.work(), &["add", "."]);
    git(&work.work(), &["commit", "-q", "-m", "one"]);
    let bare = bed::git_root().join(format!("{mark}.git"));
    git(&work.work(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    for builder in builders() {
        for (frontend, fragment) in [
            ("native", ""),
            ("native", "#trunk:sub"),
            ("daemon", "#trunk"),
            ("daemon", "#trunk:sub"),
        ] {
            let place = Place::new();
            let url = format!("{}/{mark}.git{fragment}", bed::git());
            build(&place, builder, &["--frontend", frontend, OUT[0], OUT[1], &url]);
            assert_eq!(
                seen(&place, "seen").as_deref(),
                Some(mark.as_str()),
                "{builder:?} {frontend} {fragment}"
            );
        }
    }
    fs::remove_dir_all(bare).unwrap();
}

/// A web server that has `body` at every path, for as long as the tests run; its address.
fn web_server(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).unwrap_or(0);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()));
            if !head[..read].starts_with(b"HEAD") {
                drop(stream.write_all(&body));
            }
        }
    });
    address
}

#[test]
fn an_archive_behind_a_url_is_fetched_by_the_builder() {
    let mark = unique();
    let body = gzip(&tar(&[("Dockerfile", &dockerfile()), ("f", &mark)]));
    let url = format!("{}/{mark}.tar.gz", web_server(body));
    for builder in builders() {
        let place = Place::new();
        build(&place, builder, &[OUT[0], OUT[1], &url]);
        assert_eq!(seen(&place, "seen").as_deref(), Some(mark.as_str()), "{builder:?}");
    }
}

#[test]
fn a_dockerfile_behind_a_url_is_fetched_for_files_that_lie_here() {
    let mark = unique();
    let url = format!("{}/Dockerfile.other", web_server(dockerfile().into_bytes()));
    let place = Place::new();
    place.write("sub/f", &mark);
    for builder in [buildkitd(), dockerd()] {
        for frontend in ["native", "daemon"] {
            let front = ["--frontend", frontend];
            build(&place, builder, &[&OUT[..], &front, &["-f", &url, "sub"]].concat());
            let back = seen(&place, "seen");
            assert_eq!(back.as_deref(), Some(mark.as_str()), "{builder:?} {frontend}");
        }
    }
    let nobody = ["-f", "http://127.0.0.1:1/Dockerfile", "--format", "json", "sub"];
    let ran = place.run(&arguments(buildkitd(), &nobody));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "DOCKERFILE_NOT_FETCHED");
}

/// A tool that trusts size and modification time alone ships the old bytes here (earthly#2317).
#[test]
fn content_that_changes_under_the_same_size_and_time_is_sent() {
    let place = Place::new();
    place.write("Dockerfile", "FROM scratch\nCOPY f /seen\n");
    for builder in builders() {
        let second = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
        for count in 0..3 {
            let mark = format!("{count}{}", unique());
            place.write("f", &mark[..20]);
            let file = fs::File::options().write(true).open(place.work().join("f")).unwrap();
            file.set_modified(second).unwrap();
            build(&place, builder, &[OUT[0], OUT[1], "."]);
            assert_eq!(seen(&place, "seen").as_deref(), Some(&mark[..20]), "{builder:?}");
        }
    }
}

#[test]
fn named_contexts_are_directories_images_and_layouts() {
    let mark = unique();
    let place = Place::new();
    place.write("more/f", &mark);
    place.write(
        "Dockerfile",
        "FROM base\nCOPY --from=more f /seen\nCOPY --from=layout /made /made\n",
    );
    place.write(
        "layout.Dockerfile",
        &format!("FROM {}\nRUN echo -n {mark} >/made\n", bed::base_arm64()),
    );
    let base = format!("base=docker-image://{}", bed::base_arm64());
    for builder in [buildkitd(), dockerd()] {
        let output = "type=oci,tar=false,dest=layout";
        build(&place, builder, &["-f", "layout.Dockerfile", "-t", "a:latest", "-o", output, "."]);
        let named = ["--build-context", &base, "--build-context", "more=more"];
        let layout = ["--build-context", "layout=oci-layout://layout"];
        build(&place, builder, &[&OUT[..], &named, &layout, &["."]].concat());
        assert_eq!(seen(&place, "seen").as_deref(), Some(mark.as_str()), "{builder:?}");
        assert_eq!(seen(&place, "made").as_deref(), Some(mark.as_str()), "{builder:?}");
        fs::remove_dir_all(place.work().join("layout")).unwrap();
    }
}

#[test]
fn secrets_and_arguments_reach_the_steps_and_only_arguments_stay() {
    let mark = unique();
    let place = Place::new();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {}\nARG GIVEN\nRUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B \
             cat /run/secrets/a | wc -c >/seen && echo -n $GIVEN$B | wc -c >>/seen\n",
            bed::base_arm64()
        ),
    );
    place.write("token", "12345");
    for builder in builders() {
        let more = [
            "--secret",
            "id=a,src=token",
            "--secret",
            "id=b,env=THE_SECRET",
            "--build-arg",
            &format!("GIVEN={mark}"),
            OUT[0],
            OUT[1],
            ".",
        ];
        let mut command = place.command(&arguments(builder, &more));
        let ran = place.ran(&command.env("THE_SECRET", "1234567").output().unwrap());
        assert_eq!(ran.code, Some(0), "{builder:?} {ran:?}");
        let lengths = format!("5\n{}\n", mark.len() + 7);
        assert_eq!(seen(&place, "seen"), Some(lengths), "{builder:?}");
    }
}

#[test]
fn an_image_is_loaded_into_a_docker_that_did_not_build_it() {
    for target in [dockerd(), super::graphdriver()] {
        let mark = unique();
        let place = Place::new();
        place.write("Dockerfile", &format!("FROM {}\nRUN echo {mark}\n", bed::base_arm64()));
        let host = target.docker_host.unwrap();
        let name = format!("solve-{mark}");
        let mut command = place.command(&arguments(buildkitd(), &["-t", &name, "--load", "."]));
        let ran = place.ran(&command.env("DOCKER_HOST", host).output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let format = ["image", "inspect", "--format", "{{.Architecture}}", &name];
        let asked = [&["--host", host][..], &format].concat();
        assert_eq!(program("docker", &asked).trim(), "arm64");
        program("docker", &["--host", host, "rmi", &name]);
    }
}

#[test]
fn a_docker_keeps_what_it_builds_under_the_name_that_was_given() {
    for builder in [dockerd(), super::graphdriver()] {
        let mark = unique();
        let place = Place::new();
        place.write("Dockerfile", &format!("FROM {}\nRUN echo {mark}\n", bed::base_arm64()));
        let name = format!("solve-{mark}");
        build(&place, builder, &["-t", &name, "."]);
        program("docker", &["--host", builder.docker_host.unwrap(), "rmi", &name]);
    }
}
