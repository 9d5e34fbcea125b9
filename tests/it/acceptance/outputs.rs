//! `-o local`, `tar`, `oci`, `docker`: the same content as `docker buildx build` makes on the same daemon.

use crate::bed;
use crate::command::{Stranger, succeed, unique, write_files};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// A context with what gets lost easily: links, modes, owners, empty directories, odd names, extended attributes.
fn context(stranger: &Stranger, mark: &str) {
    let dockerfile = format!(
        "FROM {} AS made\n\
         RUN mkdir -p /out/empty /out/sticky && chmod 1777 /out/sticky && echo {mark} >/out/plain && \\\n    \
             echo x >/out/tool && chmod 4755 /out/tool && ln /out/plain /out/hard && ln -s plain /out/soft && \\\n    \
             ln -s /no/such /out/dangling && chown 1000:1000 /out/plain && mkfifo /out/pipe && \\\n    \
             echo y >'/out/sp ace' && echo z >/out/größe && touch -d @1234567890 /out/tool\n\
         FROM scratch\n\
         COPY --from=made /out/ /\n\
         COPY --chmod=0640 --chown=12:34 greeting /deep/er/greeting\n\
         ENV A=b\n\
         LABEL mark={mark}\n\
         ENTRYPOINT [\"/tool\"]\n",
        bed::base_arm64()
    );
    write_files(&stranger.join("context"), &[("Dockerfile", &dockerfile), ("greeting", "hello\n")]);
}

/// Builds the context with both tools on `dockerd` and gives the two destinations.
fn both(kind: &str) -> (Stranger, [std::path::PathBuf; 2]) {
    let (stranger, mark) = (Stranger::new(), unique("output"));
    context(&stranger, &mark);
    let theirs = stranger.join("theirs");
    let ours = stranger.join("ours");
    let output = |dest: &Path| format!("type={kind},dest={}", dest.display());
    succeed(
        stranger
            .command(bed::program("docker-buildx"))
            .env("DOCKER_HOST", bed::dockerd_host())
            .args([
                "build",
                "--platform",
                "linux/arm64",
                "--provenance=false",
                "--output",
                &output(&theirs),
                "context",
            ]),
    );
    succeed(
        stranger
            .bk_sync()
            .args(["build", "--builder", bed::dockerd(), "--platform", "linux/arm64"])
            .args(["--output", &output(&ours), "context"]),
    );
    (stranger, [ours, theirs])
}

/// Path → everything that `find` and `sha256sum` can say of it.
fn tree(stranger: &Stranger, root: &Path) -> BTreeMap<String, String> {
    let list = succeed(
        stranger.command("find").arg(root).args(["-printf", "%P\t%y %m %U:%G %n %l %T@\n"]),
    );
    list.stdout
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(path, facts)| {
            let whole = root.join(path);
            let regular = whole.symlink_metadata().is_ok_and(|data| data.is_file());
            let content =
                if regular { std::fs::read(&whole).expect("content") } else { Vec::new() };
            // The root is the directory that each tool made itself.
            let facts = if path.is_empty() { "root" } else { facts };
            (path.to_owned(), format!("{facts} {content:?}"))
        })
        .collect()
}

#[test]
fn local_is_the_same_tree() {
    let (stranger, [ours, theirs]) = both("local");
    let (ours, theirs) = (tree(&stranger, &ours), tree(&stranger, &theirs));
    assert!(theirs.contains_key("deep/er/greeting") && theirs.contains_key("soft"), "{theirs:?}");
    assert_eq!(ours, theirs);
}

#[test]
fn tar_is_the_same_archive() {
    let (stranger, archives) = both("tar");
    let [ours, theirs] = archives.map(|archive| {
        let said = succeed(
            stranger.command("tar").args(["--numeric-owner", "--full-time", "-tvf"]).arg(archive),
        );
        let mut lines: Vec<_> = said.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    });
    assert!(theirs.len() > 8, "{theirs:?}");
    assert_eq!(ours, theirs);
}

/// The configuration of the one image in an unpacked archive, and the digests of its layers.
fn image(stranger: &Stranger, archive: &Path, transport: &str) -> (Value, Value) {
    let inspect = |options: &[&str]| -> Value {
        let said = succeed(
            stranger
                .command(bed::program("skopeo"))
                .args(["inspect", "--override-arch", "arm64"])
                .args(options)
                .arg(format!("{transport}:{}", archive.display())),
        );
        serde_json::from_str(&said.stdout).expect("JSON from skopeo")
    };
    let config = inspect(&["--config", "--raw"]);
    let layers = inspect(&[])["Layers"].clone();
    (config, layers)
}

#[test]
fn oci_is_the_same_image() {
    let (stranger, archives) = both("oci");
    let [ours, theirs] = archives.map(|archive| image(&stranger, &archive, "oci-archive"));
    assert_eq!(theirs.0["config"]["Entrypoint"], serde_json::json!(["/tool"]));
    assert_eq!(ours, theirs);
}

#[test]
fn docker_is_the_same_image() {
    let (stranger, archives) = both("docker");
    let [ours, theirs] = archives.map(|archive| image(&stranger, &archive, "docker-archive"));
    assert_eq!(theirs.0["config"]["Entrypoint"], serde_json::json!(["/tool"]));
    assert_eq!(ours, theirs);
}

#[test]
fn load_puts_the_image_into_docker() {
    for (builder, host) in [
        (bed::dockerd(), bed::dockerd_host()),
        (bed::dockerd_graphdriver(), bed::dockerd_graphdriver_host()),
    ] {
        let (stranger, mark) = (Stranger::new(), unique("load"));
        context(&stranger, &mark);
        let name = format!("acceptance/{mark}:v1");
        succeed(stranger.bk_sync().args([
            "build",
            "--builder",
            builder,
            "--platform",
            "linux/arm64",
            "--tag",
            &name,
            "--load",
            "context",
        ]));
        let docker = || {
            let mut command = stranger.command(bed::program("docker"));
            command.env("DOCKER_HOST", host);
            command
        };
        let label = succeed(docker().args([
            "image",
            "inspect",
            "--format",
            "{{.Config.Labels.mark}}",
            &name,
        ]));
        assert_eq!(label.stdout.trim_end(), mark);
        succeed(docker().args(["image", "rm", &name]));
    }
}

#[test]
fn the_metadata_and_image_id_files_say_what_stdout_says() {
    let (stranger, mark) = (Stranger::new(), unique("files"));
    context(&stranger, &mark);
    let name = format!("{}/acceptance/{mark}:v1", bed::registry());
    let said = succeed(
        stranger
            .bk_sync()
            .args([
                "build",
                "--builder",
                bed::buildkitd(),
                "--platform",
                "linux/arm64",
                "--tag",
                &name,
                "--push",
            ])
            .args(["--metadata-file", "metadata.json", "--iidfile", "id", "context"]),
    );
    let (_, digest) = super::pinned(&said.stdout, &name);
    let metadata =
        std::fs::read_to_string(stranger.join("metadata.json")).expect("a metadata file");
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    assert_eq!(metadata["containerimage.digest"], digest.as_str());
    let id = std::fs::read_to_string(stranger.join("id")).expect("an image id file");
    assert!(id.starts_with("sha256:") && !id.contains('\n'), "{id:?}");
}
