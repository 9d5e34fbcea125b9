//! `--cache-from` and `--cache-to`, with every backend that BuildKit has.

use super::{Builder, buildkitd, dockerd, graphdriver, unique};
use crate::{
    bed,
    cli::{Place, Ran},
    push::proxy::{Fault, Proxy},
};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A place whose step gives another result each time that it runs.
fn place(mark: &str) -> Place {
    let place = Place::new();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {}\nRUN echo {mark} && cat /proc/sys/kernel/random/uuid >/seen\n",
            bed::base_multi()
        ),
    );
    place
}

/// Builds with `more`; the number that the step drew.
fn drawn(place: &Place, builder: Builder, more: &[&str]) -> (String, Ran) {
    let head = ["--builder", builder.address, "build", "--progress", "plain", "-o", "out"];
    let ran = place.run(&[&head[..], more, &["."]].concat());
    assert_eq!(ran.code, Some(0), "{builder:?} {more:?}: {ran:?}");
    let text = std::fs::read_to_string(place.work().join("out/seen")).unwrap();
    (text, ran)
}

/// The step's result comes from the cache that `to` wrote, on a builder that never ran it.
fn travels(from: Builder, to: Builder, export: &[&str], import: &[&str]) {
    let place = place(&unique());
    let (first, _) = drawn(&place, from, export);
    let (again, ran) = drawn(&place, to, import);
    assert_eq!(again, first, "{from:?} {export:?} → {to:?} {import:?}: {}", ran.stderr);
}

#[test]
fn a_cache_in_a_registry_travels_to_another_builder() {
    for (from, to) in [(buildkitd(), dockerd()), (dockerd(), buildkitd())] {
        let name = format!("{}/caches/{}", bed::registry(), unique());
        let export = format!("type=registry,ref={name},mode=max");
        travels(from, to, &["--cache-to", &export], &["--cache-from", &name]);
    }
}

#[test]
fn a_cache_in_a_directory_travels_to_another_builder() {
    for (from, to) in [(buildkitd(), dockerd()), (dockerd(), buildkitd())] {
        for frontend in ["native", "daemon"] {
            let import = ["--cache-from", "type=local,src=kept", "--frontend", frontend];
            travels(from, to, &["--cache-to", "type=local,dest=kept,mode=max"], &import);
        }
    }
    // The first build of all finds none, and says so.
    let place = place(&unique());
    let (_, ran) = drawn(&place, buildkitd(), &["--cache-from", "type=local,src=kept"]);
    assert!(ran.stderr.contains("none yet"), "{}", ran.stderr);
    // Names in a directory.
    let export = ["--cache-to", "type=local,dest=kept,tag=one"];
    let (first, _) = drawn(&place, buildkitd(), &export);
    let (again, _) = drawn(&place, dockerd(), &["--cache-from", "type=local,src=kept,tag=one"]);
    assert_eq!(again, first);
}

#[test]
fn a_cache_inside_an_image_travels_to_another_builder() {
    for export in [&["--cache-to", "type=inline"][..], &["--build-arg", "BUILDKIT_INLINE_CACHE=1"]]
    {
        let place = place(&unique());
        let name = format!("{}/caches/{}", bed::registry(), unique());
        let push = ["-t", &name, "-o", "type=registry"];
        let (first, _) = drawn(&place, buildkitd(), &[export, &push].concat());
        let (again, _) = drawn(&place, dockerd(), &["--cache-from", &name]);
        assert_eq!(again, first);
        let (old, _) = drawn(&place, graphdriver(), &["--cache-from", &name]);
        assert_eq!(old, first);
    }
}

#[test]
fn a_docker_that_writes_no_cache_says_so() {
    let place = place(&unique());
    let more = ["--format", "json", "--cache-to", "type=local,dest=kept", "."];
    let ran =
        place.run(&[&["--builder", graphdriver().address, "build", "-q"][..], &more].concat());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.json()["error"]["code"], "CACHE_UNSUPPORTED");
}

/// A server that knows nothing and remembers what it was asked: request lines with their headers.
fn listener() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, kept) = (stream.unwrap(), kept.clone());
            // Clients open connections that they may never use.
            std::thread::spawn(move || {
                let mut head = [0; 8192];
                let read = stream.read(&mut head).unwrap_or(0);
                kept.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
                let answer =
                    "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    (address, asked)
}

/// No package has these services, so what is seen is that the builder calls the one that was named,
/// with the credentials that it was lent.
#[test]
fn caches_in_clouds_are_asked_with_what_was_said_and_what_the_environment_has() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Vec<String>);
    let (address, asked) = listener();
    let mark = unique();
    let s3 = format!(
        "type=s3,region=eu,bucket=pail{mark},name=a,use_path_style=true,endpoint_url={address}"
    );
    let azblob = format!(
        "type=azblob,name=a,container=box{mark},account_url={address}/account,secret_access_key=aGlkZGVu"
    );
    let cases: [Case<'_>; 3] = [
        (
            &s3,
            &[("AWS_ACCESS_KEY_ID", "lent-id"), ("AWS_SECRET_ACCESS_KEY", "lent-secret")],
            vec![format!("/pail{mark}/"), "lent-id".to_owned()],
        ),
        (&azblob, &[], vec![format!("box{mark}")]),
        (
            "type=gha,scope=a",
            &[
                (
                    "ACTIONS_RUNTIME_TOKEN",
                    "eyJhbGciOiJub25lIn0.eyJhYyI6ICJbe1wiU2NvcGVcIjpcImFcIixcIlBlcm1pc3Npb25cIjozfV0iLCAiZXhwIjogNDEwMjQ0NDgwMCwgIm5iZiI6IDE2MDAwMDAwMDB9.",
                ),
                ("ACTIONS_RESULTS_URL", &address),
            ],
            vec!["CacheService".to_owned()],
        ),
    ];
    for (spec, variables, expected) in cases {
        for builder in [buildkitd(), dockerd()] {
            if builder.docker_host.is_some() && !spec.starts_with("type=gha") {
                for flag in ["--cache-from", "--cache-to"] {
                    let head = ["--builder", builder.address, "build", "-q", "--format", "json"];
                    let ran = place(&unique()).run(&[&head[..], &[flag, spec, "."]].concat());
                    assert_eq!(ran.json()["error"]["code"], "CACHE_UNSUPPORTED", "{ran:?}");
                }
                continue;
            }
            asked.lock().unwrap().clear();
            let place = place(&unique());
            for flag in ["--cache-from", "--cache-to"] {
                let more = ["build", "--progress", "plain", flag, spec, "."];
                let mut command =
                    place.command(&[&["--builder", builder.address][..], &more].concat());
                command.envs(variables.iter().copied());
                // The service knows nothing: reading from it is no failure, writing to it is one.
                let ran = place.ran(&command.output().unwrap());
                let heads = asked.lock().unwrap().join("\n");
                for word in &expected {
                    assert!(
                        heads.contains(word),
                        "{builder:?} {flag} {spec}: {word} is not in {heads:?} {ran:?}"
                    );
                }
                assert!(
                    !ran.stderr.contains("lent-secret") && !ran.stderr.contains("aGlkZGVu"),
                    "{ran:?}"
                );
            }
        }
    }
}

#[test]
fn outside_of_github_its_cache_is_left_out_with_a_warning() {
    let place = place(&unique());
    let (_, ran) = drawn(&place, buildkitd(), &["--cache-from", "type=gha"]);
    assert!(ran.stderr.contains("GitHub Actions is left out"), "{}", ran.stderr);
}

/// Builds and pushes with `more` flags.
fn pushed(place: &Place, builder: Builder, more: &[&str]) -> (String, Ran) {
    let name = format!("{}/caches/image-{}", bed::registry(), unique());
    let head = ["--builder", builder.address, "build", "--format", "json", "-q"];
    let ran = place.run(&[&head[..], &["-t", &name, "--push"], more, &["."]].concat());
    (name, ran)
}

/// The digest that a registry has under a name.
fn digest(name: &str) -> String {
    let reference = format!("docker://{name}");
    let format = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &reference];
    super::program("skopeo", &format).trim().to_owned()
}

#[test]
fn a_cache_that_cannot_be_written_costs_the_image_nothing_unless_it_is_to() {
    let refuses = Proxy::start(bed::registry(), |asked| {
        (asked.method != "GET" && asked.method != "HEAD").then_some(Fault::Status(403, 0))
    });
    for builder in [buildkitd(), dockerd()] {
        let place = place(&unique());
        let broken = format!("type=registry,ref={}/caches/{},mode=max", refuses.address, unique());
        let good = format!("{}/caches/{}", bed::registry(), unique());
        let export = ["--cache-to", &broken, "--cache-to", &good];
        let (name, ran) = pushed(&place, builder, &export);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let json = ran.json();
        assert_eq!(json["result"]["image"]["digest"], digest(&name).as_str());
        let warnings = json["warnings"].as_array().unwrap();
        let failed: Vec<&str> = warnings
            .iter()
            .filter(|warning| warning["code"] == "CACHE_EXPORT_FAILED")
            .filter_map(|warning| warning["message"].as_str())
            .collect();
        assert_eq!(failed.len(), 1, "{json:#}");
        assert!(failed[0].contains(&refuses.address), "{failed:?}");
        // The other one was written all the same.
        let (drawn_before, _) = drawn(&place, builder, &[]);
        let elsewhere = if builder.docker_host.is_some() { buildkitd() } else { dockerd() };
        assert_eq!(drawn(&place, elsewhere, &["--cache-from", &good]).0, drawn_before);

        let strict = format!("{broken},ignore-error=false");
        let (_, ran) = pushed(&place, builder, &["--cache-to", &strict]);
        assert_eq!(ran.code, Some(11), "{ran:?}");
    }
}

#[test]
fn a_cache_that_hangs_holds_a_build_up_for_its_deadline_and_what_is_cached_stays() {
    let hangs = Proxy::start(bed::registry(), |asked| {
        (asked.method != "GET" && asked.method != "HEAD").then_some(Fault::Hang)
    });
    let place = place(&unique());
    let export = format!("type=registry,ref={}/caches/{}", hangs.address, unique());
    let flags = ["--cache-to", &export, "--cache-deadline", "3s", "--no-cache"];
    let began = Instant::now();
    let name = format!("{}/caches/image-{}", bed::registry(), unique());
    let head = ["--builder", buildkitd().address, "build", "--format", "json", "-q"];
    let bare = place.command(&[&head[..], &["-t", &name, "--push"], &flags, &["."]].concat());
    // Without a deadline it would never end.
    let mut limited = std::process::Command::new("timeout");
    limited.arg("60").arg(bare.get_program()).args(bare.get_args()).current_dir(place.work());
    limited.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = place.ran(&limited.output().unwrap());
    let took = began.elapsed();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    assert_eq!(json["result"]["image"]["digest"], digest(&name).as_str());
    assert!(json["warnings"].to_string().contains("it took longer than 3 s"), "{json:#}");
    assert!(!hangs.seen().is_empty(), "nothing was asked of the cache's registry");
    assert!(took > Duration::from_secs(3) && took < Duration::from_mins(1), "{took:?}");
}

#[test]
fn a_build_reads_several_caches_and_each_step_comes_from_the_one_that_has_it() {
    let marks = [unique(), unique()];
    let step = |mark: &str| format!("RUN echo {mark} && cat /proc/sys/kernel/random/uuid >/seen\n");
    let base = bed::base_multi();
    let names = [(); 2].map(|()| format!("{}/caches/{}", bed::registry(), unique()));
    let place = Place::new();
    let mut before = Vec::new();
    for (mark, name) in marks.iter().zip(&names) {
        place.write("Dockerfile", &format!("FROM {base}\n{}", step(mark)));
        let export = format!("type=registry,ref={name},mode=max");
        before.push(drawn(&place, buildkitd(), &["--cache-to", &export]).0);
    }
    place.write(
        "Dockerfile",
        &format!(
            "FROM {base} AS a\n{}FROM {base} AS b\n{}FROM scratch\nCOPY --from=a /seen /a\n\
             COPY --from=b /seen /seen\n",
            step(&marks[0]),
            step(&marks[1])
        ),
    );
    let missing = format!("{}/caches/{}", bed::registry(), unique());
    let import = ["--cache-from", &missing, "--cache-from", &names[0], "--cache-from", &names[1]];
    let (second, _) = drawn(&place, dockerd(), &import);
    let first = std::fs::read_to_string(place.work().join("out/a")).unwrap();
    assert_eq!([first, second], before[..]);
}

#[test]
fn a_cache_serves_a_checkout_in_another_directory_at_another_time_and_with_pins_under_another_umask()
 {
    use std::os::unix::fs::PermissionsExt as _;
    let (mark, name) = (unique(), format!("{}/caches/{}", bed::registry(), unique()));
    let checkout = |mode: u32, time: &str| {
        let place = Place::new();
        let step = "RUN cat /src/f && cat /proc/sys/kernel/random/uuid >/seen";
        place.write("Dockerfile", &format!("FROM {}\nCOPY src /src\n{step}\n", bed::base_multi()));
        place.write("src/f", &mark);
        let file = place.work().join("src/f");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let touched = std::process::Command::new("touch").args(["-d", time]).arg(&file).status();
        assert!(touched.unwrap().success());
        place
    };
    let export = format!("type=registry,ref={name},mode=max");
    let (first, _) = drawn(&checkout(0o644, "@1000000000"), buildkitd(), &["--cache-to", &export]);
    let import = ["--cache-from", &name];
    assert_eq!(drawn(&checkout(0o644, "@1700000000"), dockerd(), &import).0, first);
    // The umask is a part of a file unless it is taken out; that a step ran for that is said.
    let other = checkout(0o664, "@1000000000");
    assert_ne!(drawn(&other, buildkitd(), &[]).0, first);
    let pinned = ["--reproducible"];
    let lock = ["--builder", buildkitd().address, "lock", "-q", "."];
    let drawn_pinned = |mode| {
        let place = checkout(mode, "@1000000000");
        assert_eq!(place.run(&lock).code, Some(0));
        drawn(&place, buildkitd(), &pinned).0
    };
    assert_eq!(drawn_pinned(0o600), drawn_pinned(0o664));
}
