//! Contexts to real builders and outputs back from them.

use crate::bed;
use bk_sync::{
    buildkit::{
        dial::{Options, connect},
        session::{
            ContextMemory, Destination, FileSend, FileSync, OutputFailure, SessionBuilder,
            random_id,
        },
    },
    filesync::Source,
    proto::moby::buildkit::v1::{Exporter, SolveRequest, control_client::ControlClient},
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tonic::Status;

/// A context, and what is remembered of it between builds.
struct Project {
    context: TempDir,
    state: TempDir,
}

/// What a build sent and made.
#[derive(Debug)]
struct Outcome {
    files: u64,
    bytes: u64,
}

fn builders() -> [&'static str; 3] {
    [bed::buildkitd(), bed::dockerd(), bed::dockerd_graphdriver()]
}

impl Project {
    /// A project whose builds copy the whole context.
    fn new() -> Self {
        let project =
            Self { context: tempfile::tempdir().unwrap(), state: tempfile::tempdir().unwrap() };
        project.write("Dockerfile", "FROM scratch\nCOPY . /\n");
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.context.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Builds with the builder's own frontend.
    async fn build(
        &self,
        builder: &str,
        exporter: Exporter,
        destination: Destination,
    ) -> (Result<Outcome, Status>, OutputFailure) {
        let source = Source::Directory(self.context.path().to_owned());
        let sources =
            BTreeMap::from(["context", "dockerfile"].map(|name| (name.to_owned(), source.clone())));
        let memory = ContextMemory::open(Some(self.state.path()), &sources);
        let session = SessionBuilder::new(memory.shared_key());
        let files = FileSync::new(sources, memory);
        let counts = files.counts();
        let outputs = FileSend::new(BTreeMap::from([(0, destination)]));
        let failure = outputs.failure();
        let connection = connect(&builder.parse().unwrap(), &Options::default()).await.unwrap();
        let channel = connection.channel;
        let session = session.attach(files).attach(outputs).open(channel.clone()).await.unwrap();
        let request = SolveRequest {
            r#ref: random_id(),
            session: session.id().to_owned(),
            frontend: "dockerfile.v0".to_owned(),
            exporters: vec![exporter],
            ..Default::default()
        };
        let answer = ControlClient::new(channel).solve(request).await;
        session.close().await.unwrap();
        (answer.map(|_| Outcome { files: counts.files(), bytes: counts.bytes() }), failure)
    }

    /// Builds to a directory.
    async fn build_to(&self, builder: &str, out: &Path) -> Outcome {
        let destination = Destination::Directory { path: out.to_owned(), delete: false };
        let (outcome, failure) = self.build(builder, exporter("local", &[]), destination).await;
        let text = |error: Status| format!("{builder}: {} {:?}", error.message(), failure.get());
        outcome.map_err(text).unwrap()
    }

    /// What the Dockerfile and the missing `.dockerignore` cost in every build.
    fn dockerfile_bytes(&self) -> u64 {
        fs::metadata(self.path("Dockerfile")).unwrap().len()
    }
}

fn exporter(kind: &str, attributes: &[(&str, &str)]) -> Exporter {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Exporter { r#type: kind.to_owned(), attrs: attributes.iter().map(owned).collect() }
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// earthly#2317: the builder compares size and mtime, and would build the old file.
#[tokio::test]
async fn a_file_changed_behind_its_size_and_mtime_is_built_as_it_is_now() {
    for builder in builders() {
        let project = Project::new();
        let out = tempfile::tempdir().unwrap();
        project.write("other", "stays");
        for (turn, content) in ["one!", "two!", "six!", "two!"].into_iter().enumerate() {
            if turn == 2 {
                // Another file in its place, as an unpacked archive leaves it.
                project.write("beside", content);
                set_mtime(&project.path("beside"), 1_700_000_000, 5);
                fs::rename(project.path("beside"), project.path("f")).unwrap();
            } else {
                project.write("f", content);
                set_mtime(&project.path("f"), 1_700_000_000, 5);
            }
            let sent = project.build_to(builder, out.path()).await;
            let built = fs::read_to_string(out.path().join("f")).unwrap();
            assert_eq!(built, content, "{builder} turn {turn}");
            assert_eq!(fs::metadata(out.path().join("f")).unwrap().mtime(), 1_700_000_000);
            if turn > 0 {
                // Nothing but the file was sent, so the builder's copy was used.
                let expected = project.dockerfile_bytes() + 4;
                assert_eq!((sent.files, sent.bytes), (2, expected), "{builder} turn {turn}");
            }
        }
        let sent = project.build_to(builder, out.path()).await;
        assert_eq!((sent.files, sent.bytes), (1, project.dockerfile_bytes()), "{builder}: settled");
    }
}

#[tokio::test]
async fn only_what_changed_is_sent() {
    let project = Project::new();
    let out = tempfile::tempdir().unwrap();
    for index in 0..500 {
        project.write(&format!("src/{}/f{index}", index % 7), &format!("content {index:04}"));
    }
    let all = project.build_to(bed::buildkitd(), out.path()).await;
    // The Dockerfile goes twice: alone, and with the context.
    assert_eq!((all.files, all.bytes), (502, 500 * 12 + 2 * project.dockerfile_bytes()));
    // A busy builder may hold the copy of the build before for a moment longer.
    let mut none = project.build_to(bed::buildkitd(), out.path()).await;
    for _ in 0..3 {
        if none.files > 1 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            none = project.build_to(bed::buildkitd(), out.path()).await;
        }
    }
    assert_eq!((none.files, none.bytes), (1, project.dockerfile_bytes()));
    project.write("src/3/f3", "changed, and longer");
    fs::remove_file(project.path("src/4/f4")).unwrap();
    let one = project.build_to(bed::buildkitd(), out.path()).await;
    assert_eq!((one.files, one.bytes), (2, 19 + project.dockerfile_bytes()));
    assert_eq!(fs::read_to_string(out.path().join("src/3/f3")).unwrap(), "changed, and longer");
    // The same content under a new ctime is not sent again.
    let path = project.path("src/5/f5");
    let before = fs::metadata(&path).unwrap();
    fs::copy(&path, project.path("copy")).unwrap();
    set_mtime(&project.path("copy"), before.mtime(), before.mtime_nsec());
    fs::rename(project.path("copy"), &path).unwrap();
    let none = project.build_to(bed::buildkitd(), out.path()).await;
    assert_eq!((none.files, none.bytes), (1, project.dockerfile_bytes()));
}

/// Everything that a stat tells of a tree, but times of directories.
fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(root.join(&directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let full = root.join(&path);
            let stat = fs::symlink_metadata(&full).unwrap();
            let content = if stat.is_dir() {
                todo.push(path.clone());
                String::new()
            } else if stat.is_symlink() {
                format!("-> {}", fs::read_link(&full).unwrap().display())
            } else if stat.is_file() {
                let mut value = [0; 64];
                let length = rustix::fs::lgetxattr(&full, "user.note", &mut value[..]).unwrap_or(0);
                format!(
                    "{} names, {:?}, note {:?}, {:?}",
                    stat.nlink(),
                    (stat.mtime(), stat.mtime_nsec()),
                    String::from_utf8_lossy(&value[..length]),
                    fs::read(&full).unwrap(),
                )
            } else {
                String::new()
            };
            let owner = (stat.uid(), stat.gid());
            found.insert(path, format!("{:o} {owner:?} {content}", stat.mode()));
        }
    }
    found
}

#[tokio::test]
async fn every_kind_of_file_goes_there_and_back() {
    for builder in builders() {
        let project = Project::new();
        project.write("a/plain", "plain");
        project.write("a/run me", "#!/bin/sh\n");
        project.write("ünï/日本", "names");
        project.write("ünï/ignored.tmp", "not sent");
        project.write("deep/er/and/deep/er/f", "");
        project.write(".dockerignore", "# remark\nünï/*.tmp\n");
        fs::set_permissions(project.path("a/run me"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(project.path("deep"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::hard_link(project.path("a/plain"), project.path("a/same")).unwrap();
        symlink("../a/plain", project.path("deep/link")).unwrap();
        symlink("/nowhere", project.path("dangling")).unwrap();
        rustix::fs::mknodat(CWD, project.path("pipe"), FileType::Fifo, Mode::from(0o644), 0)
            .unwrap();
        rustix::fs::lsetxattr(project.path("a/plain"), "user.note", b"hi", XattrFlags::empty())
            .unwrap();
        for path in ["a/plain", "a/run me", "ünï/日本", "deep/er/and/deep/er/f"] {
            set_mtime(&project.path(path), 1_700_000_000, 0);
        }
        for path in ["Dockerfile", ".dockerignore"] {
            set_mtime(&project.path(path), 1_600_000_000, 0);
        }
        let out = tempfile::tempdir().unwrap();
        project.build_to(builder, out.path()).await;
        fs::remove_file(project.path("ünï/ignored.tmp")).unwrap();
        assert_eq!(describe(out.path()), describe(project.context.path()), "{builder}");
    }
}

/// Each file is a small packet or two in either direction, and an HTTP/2 connection is cut off for
/// some ten thousand small frames that lie unread.
#[tokio::test]
async fn tens_of_thousands_of_files_go_there_and_back() {
    let project = Project::new();
    for index in 0..24_000 {
        let path = project.path(&format!("d{}", index / 1_000));
        if index % 1_000 == 0 {
            fs::create_dir(&path).unwrap();
        }
        fs::write(path.join(format!("f{index}")), "x").unwrap();
    }
    let out = tempfile::tempdir().unwrap();
    let sent = project.build_to(bed::buildkitd(), out.path()).await;
    assert_eq!(sent.files, 24_002);
    let found = (0..24).map(|index| fs::read_dir(out.path().join(format!("d{index}"))).unwrap());
    assert_eq!(found.map(Iterator::count).sum::<usize>(), 24_000);
}

#[tokio::test]
async fn archives_come_back_whole() {
    for builder in builders() {
        let project = Project::new();
        project.write("f", &"0123456789".repeat(1_000_000));
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("rootfs.tar");
        let (outcome, _) =
            project.build(builder, exporter("tar", &[]), Destination::File(path.clone())).await;
        outcome.unwrap_or_else(|error| panic!("{builder}: {}", error.message()));
        let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
        let sizes: BTreeMap<String, u64> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.path().unwrap().display().to_string(), entry.size()))
            .collect();
        assert_eq!(sizes["f"], 10_000_000, "{builder}");
    }
}

#[tokio::test]
async fn outputs_mirror_only_where_that_was_asked_for() {
    let project = Project::new();
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("old")).unwrap();
    let directory = |delete| Destination::Directory { path: out.path().to_owned(), delete };
    let (kept, _) = project.build(bed::buildkitd(), exporter("local", &[]), directory(false)).await;
    kept.unwrap();
    assert!(out.path().join("old").exists());
    let delete = exporter("local", &[("mode", "delete")]);
    let (outcome, _) = project.build(bed::buildkitd(), delete, directory(true)).await;
    outcome.unwrap();
    let names: Vec<_> = fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["Dockerfile"]);
}

#[tokio::test]
async fn what_cannot_be_sent_or_written_is_named_with_the_fix() {
    let project = Project::new();
    fs::write(project.context.path().join(std::ffi::OsStr::from_bytes(b"bad\xff")), "").unwrap();
    let out = tempfile::tempdir().unwrap();
    for builder in builders() {
        let directory = Destination::Directory { path: out.path().to_owned(), delete: false };
        let (outcome, _) = project.build(builder, exporter("local", &[]), directory).await;
        let error = outcome.unwrap_err();
        assert!(
            error.message().contains("is not valid UTF-8 and cannot be sent"),
            "{builder}: {error}"
        );
    }
    project.write(".dockerignore", "bad*\n");
    let missing = out.path().join("no/such/place.tar");
    let (outcome, failure) =
        project.build(bed::buildkitd(), exporter("tar", &[]), Destination::File(missing)).await;
    outcome.unwrap_err();
    assert!(failure.get().unwrap().ends_with("hint: make the directory first"));
}
