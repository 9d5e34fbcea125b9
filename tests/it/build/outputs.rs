//! What is written here, held against what `docker buildx build` writes of the same inputs on the
//! same daemon.

use super::{
    archive::{describe, describe_directory, image},
    build, buildkitd, buildx, dockerd, graphdriver, unique,
};
use crate::{bed, cli::Place};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// A project with every kind of file, and steps that make some more.
fn project() -> Place {
    let place = Place::new();
    place.write("tree/plain", "plain");
    place.write("tree/run", "#!/bin/sh");
    place.write("tree/deep/er/ünï cödé", "name");
    place.write("tree/empty", "");
    let tree = place.work().join("tree");
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::fs::symlink("../plain", tree.join("deep/link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", tree.join("dangling")).unwrap();
    fs::hard_link(tree.join("plain"), tree.join("hard")).unwrap();
    let attribute = rustix::fs::setxattr(
        tree.join("plain"),
        "user.note",
        b"kept",
        rustix::fs::XattrFlags::CREATE,
    );
    attribute.unwrap();
    place.write(
        "Dockerfile",
        &format!(
            "FROM {} AS base\nENV A=b\nLABEL mark={}\nWORKDIR /w\nCOPY tree /tree\n\
             COPY --chown=12:34 --chmod=0640 tree/plain /owned\n\
             RUN mkfifo /fifo && ln /tree/run /tree/again && mkdir -m 1777 /sticky\n\
             EXPOSE 80/tcp\nUSER 7\nCMD [\"/bin/sh\"]\n",
            bed::base_arm64(),
            unique()
        ),
    );
    place
}

#[test]
fn a_root_file_system_is_what_buildx_writes() {
    for builder in [dockerd(), graphdriver()] {
        let place = project();
        for frontend in ["native", "daemon"] {
            let front = ["--frontend", frontend];
            build(&place, builder, &[&front[..], &["-o", "type=tar,dest=ours.tar", "."]].concat());
            build(&place, builder, &[&front[..], &["-o", "type=local,dest=ours", "."]].concat());
            buildx(&place, builder, &["-o", "type=tar,dest=theirs.tar", "."]);
            buildx(&place, builder, &["-o", "type=local,dest=theirs", "."]);
            let archive = |name: &str| describe(&fs::read(place.work().join(name)).unwrap(), true);
            let (ours, theirs) = (archive("ours.tar"), archive("theirs.tar"));
            assert!(ours.contains_key("tree/deep/er/ünï cödé"), "{:?}", ours.keys());
            assert!(ours["tree/plain"].contains("user.note"), "{}", ours["tree/plain"]);
            assert_eq!(ours, theirs, "{builder:?} {frontend}");
            let directory = |name: &str| describe_directory(&place.work().join(name));
            assert_eq!(directory("ours"), directory("theirs"), "{builder:?} {frontend}");
            for name in ["ours", "theirs"] {
                fs::remove_dir_all(place.work().join(name)).unwrap();
            }
        }
    }
}

#[test]
fn an_image_archive_is_what_buildx_writes() {
    let place = project();
    for frontend in ["native", "daemon"] {
        for kind in ["oci", "docker"] {
            let (ours, theirs) =
                (format!("type={kind},dest=ours.tar"), format!("type={kind},dest=theirs.tar"));
            build(&place, dockerd(), &["--frontend", frontend, "-t", "a", "-o", &ours, "."]);
            buildx(&place, dockerd(), &["-t", "a", "-o", &theirs, "."]);
            let image = |name: &str| image(&fs::read(place.work().join(name)).unwrap());
            let ours = image("ours.tar");
            assert_eq!(ours.0["architecture"], "arm64");
            assert_eq!(ours, image("theirs.tar"), "{frontend} {kind}");
        }
    }
}

#[test]
fn a_layout_directory_is_its_archive_unpacked() {
    let place = project();
    for builder in [buildkitd(), dockerd()] {
        let more = ["-o", "type=oci,dest=a.tar", "-o", "type=oci,tar=false,dest=layout", "."];
        if builder.docker_host.is_some() {
            build(&place, builder, &more[2..]);
            build(&place, builder, &["-o", "type=oci,dest=a.tar", "."]);
        } else {
            build(&place, builder, &more);
        }
        let archive = describe(&fs::read(place.work().join("a.tar")).unwrap(), false);
        let layers = |paths: &mut dyn Iterator<Item = &String>| -> Vec<String> {
            paths.filter(|path| path.starts_with("blobs/sha256/")).cloned().collect()
        };
        let layout = describe_directory(&place.work().join("layout"));
        assert!(layout.contains_key("oci-layout") && layout.contains_key("index.json"));
        assert_eq!(layers(&mut archive.keys()).len(), layers(&mut layout.keys()).len());
        fs::remove_dir_all(place.work().join("layout")).unwrap();
    }
}

#[test]
fn an_archive_on_stdout_is_alone_there() {
    let place = project();
    let output = place
        .command(&super::arguments(buildkitd(), &["-o", "type=tar,dest=-", "."]))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(describe(&output.stdout, false).contains_key("tree/plain"));
}

#[test]
fn a_failed_output_is_named_and_leaves_nothing() {
    let place = project();
    place.write("file", "in the way");
    let more = ["--format", "json", "-o", "type=tar,dest=file/out.tar", "."];
    let ran = place.run(&super::arguments(buildkitd(), &more));
    assert_eq!(ran.code, Some(11), "{ran:?}");
    let error = ran.json()["error"].take();
    assert_eq!(error["code"], "OUTPUT_FAILED", "{error}");
    assert!(error["message"].as_str().unwrap().contains("file/out.tar"), "{error}");

    place.write("Dockerfile", &format!("FROM {}\nRUN false\n", bed::base_arm64()));
    let ran = place.run(&super::arguments(buildkitd(), &["-o", "type=tar,dest=new.tar", "."]));
    assert_eq!(ran.code, Some(11), "{ran:?}");
    assert!(!place.work().join("new.tar").exists());
}
