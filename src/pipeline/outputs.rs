//! What is made of a build's result: which exporters the builder runs, where what they send is
//! put, and what is left to do when they are done. Decided from the kind of builder.

use super::{
    attributes::is_true,
    builder::{Builder, BuilderKind},
    error::Refusal,
};
use crate::{
    image::reference::Reference,
    plan::{BuildPlan, Output, OutputKind, OutputTarget, PushVia},
    proto::moby::buildkit::v1::Exporter,
};
use std::{collections::BTreeMap, path::PathBuf};

/// The outputs of a build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// What the builder runs; the place in the list is the exporter's id.
    pub exporters: Vec<Exporter>,
    /// Where what an exporter sends here goes, by the exporter's id.
    pub receivers: BTreeMap<usize, Receiver>,
    /// The image's names in full.
    pub names: Vec<Reference>,
    /// Who pushes them.
    pub push: Push,
    /// Whether they are pushed without their tags.
    pub by_digest: bool,
    /// Whether their registries may be spoken to without TLS.
    pub is_insecure: bool,
    /// Whether this process was to push, and the builder's Docker has to.
    pub is_left_to_docker: bool,
    /// Whether the result stays in the builder's cache only, and nobody asked for that.
    pub is_cache_only_by_default: bool,
}

/// Where the bytes of an exporter go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Receiver {
    /// Into a file.
    File(PathBuf),
    /// An archive, unpacked into a directory.
    Unpack(PathBuf),
    /// Onto stdout.
    Stdout,
    /// Files, into a directory.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Whether what the builder does not send is removed from it.
        delete: bool,
    },
    /// Into a Docker that is not the builder.
    Docker,
}

/// Who pushes the image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Push {
    /// Nobody.
    #[default]
    None,
    /// The exporter, while the build runs.
    Exporter,
    /// The Docker that built it, afterwards and asked by us.
    Docker,
    /// This process, out of the builder's store.
    Client,
}

/// Decides the outputs of `plan` on `builder`. `has_docker` says whether there is a Docker that
/// an image can be loaded into.
///
/// # Errors
/// A name is wrong, or outputs do not go together with each other or with the builder.
pub fn outputs(plan: &BuildPlan, builder: &Builder, has_docker: bool) -> Result<Outputs, Refusal> {
    let mut made = Outputs { names: names(&plan.tags)?, ..Outputs::default() };
    let mut wanted = wanted(plan);
    if wanted.is_empty() {
        if !builder.is_docker() {
            refuse_lost_annotations(plan, builder, &wanted)?;
            made.is_cache_only_by_default = true;
            return Ok(made);
        }
        wanted.push(image());
    }
    // In a Docker the image is loaded where it is built.
    if builder.is_docker() {
        let (loads, mut others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_load);
        if !loads.is_empty() && !others.iter().any(|output| output.kind == OutputKind::Image) {
            others.push(image());
        }
        wanted = others;
    }
    refuse_lost_annotations(plan, builder, &wanted)?;
    if plan.reproducible.is_some() && builder.kind == BuilderKind::DockerGraphdriver {
        return Err(Refusal::new(
            "REPRODUCIBLE_UNSUPPORTED",
            "this Docker dates its images itself",
        )
        .with_fix("turn on Docker's containerd image store, or use another --builder"));
    }
    for output in wanted {
        let id = made.exporters.len();
        match output.kind {
            OutputKind::CacheOnly => {}
            OutputKind::Image => made.add_image(plan, output, builder)?,
            OutputKind::Docker | OutputKind::Oci => {
                let receiver = archive(&output, builder, has_docker)?;
                made.receivers.insert(id, receiver);
                made.add_archive(plan, output);
            }
            OutputKind::Local => {
                let Some(OutputTarget::Path(path)) = output.target else {
                    return Err(Refusal::new("OUTPUT_TARGET_MISSING", "`local` needs a directory")
                        .with_fix("write -o type=local,dest=DIR"));
                };
                let delete = output.attributes.get("mode").is_some_and(|mode| mode == "delete");
                made.receivers.insert(id, Receiver::Directory { path, delete });
                made.add("local", output.attributes);
            }
            OutputKind::Tar => {
                made.receivers.insert(id, file_or_stdout(output.target));
                made.add("tar", output.attributes);
            }
        }
    }
    made.check()?;
    Ok(made)
}

impl Outputs {
    fn add(&mut self, kind: &str, attrs: BTreeMap<String, String>) {
        self.exporters.push(Exporter { r#type: kind.to_owned(), attrs });
    }

    fn add_image(
        &mut self,
        plan: &BuildPlan,
        output: Output,
        builder: &Builder,
    ) -> Result<(), Refusal> {
        let mut attributes = self.named(plan, output.attributes)?;
        let pushes = attributes.get("push").is_some_and(|value| is_true(value));
        if pushes && !attributes.contains_key("name") {
            return Err(Refusal::new("TAG_MISSING", "a push needs to know where to")
                .with_fix("name the image with -t REGISTRY/REPOSITORY:TAG"));
        }
        if builder.kind == BuilderKind::DockerGraphdriver {
            // It has no exporter that pushes, and none that makes manifests.
            for key in ["push", "unpack", "oci-mediatypes"] {
                attributes.remove(key);
            }
            if let Some(key) = attributes.keys().find(|key| key.as_str() != "name") {
                return Err(Refusal::new(
                    "OUTPUT_UNSUPPORTED",
                    format!("this Docker's images take no `{key}`"),
                )
                .with_fix("leave it out, turn on Docker's containerd image store, or use another --builder"));
            }
            if pushes {
                self.push = Push::Docker;
                self.is_left_to_docker = plan.push_via == PushVia::Client;
            }
            self.add("moby", attributes);
            return Ok(());
        }
        oci_media_types(&mut attributes);
        let by_client = match plan.push_via {
            PushVia::Client => true,
            PushVia::Builder => false,
            PushVia::Auto => !builder.is_remote,
        };
        if pushes && by_client {
            self.add_client_push(plan, attributes, builder);
            return Ok(());
        }
        if pushes {
            self.push = Push::Exporter;
        }
        if let Some(epoch) = plan.reproducible {
            make_alike(&mut attributes, epoch);
            // A layer that is unpacked cannot get other times, and Docker's own exporter unpacks.
            attributes.insert("unpack".to_owned(), "false".to_owned());
            self.add("image", attributes);
        } else if builder.is_docker() {
            self.add("moby", attributes);
        } else {
            if pushes {
                // Nobody runs the image where it was built.
                attributes.entry("unpack".to_owned()).or_insert_with(|| "false".to_owned());
            }
            self.add("image", attributes);
        }
        Ok(())
    }

    /// A push by this process: the image is exported to us, who take note of its blobs.
    fn add_client_push(
        &mut self,
        plan: &BuildPlan,
        mut attributes: BTreeMap<String, String>,
        builder: &Builder,
    ) {
        self.push = Push::Client;
        let is_set = |value: Option<String>| value.is_some_and(|value| is_true(&value));
        attributes.remove("push");
        self.by_digest = is_set(attributes.remove("push-by-digest"));
        self.is_insecure = is_set(attributes.remove("registry.insecure"));
        if plan.load && builder.is_docker() {
            // A Docker is loaded where it builds.
            self.add("moby", attributes.clone());
        }
        // What is left of these would be taken for facts about the image.
        for key in
            ["store", "unpack", "name-canonical", "dangling-name-prefix", "danging-name-empty-only"]
        {
            attributes.remove(key);
        }
        let is_of_index = |key: &String| {
            key.starts_with("annotation-index") || key.starts_with("annotation-manifest-descriptor")
        };
        if attributes.keys().any(is_of_index) {
            // Only the default provenance makes an index of one platform, and an exporter of files
            // leaves that out. Without need we do too: it is another one after every build.
            attributes.insert("attestation-inline".to_owned(), "true".to_owned());
        }
        if let Some(epoch) = plan.reproducible {
            make_alike(&mut attributes, epoch);
        }
        attributes.insert("tar".to_owned(), "false".to_owned());
        self.add("oci", attributes);
    }

    fn add_archive(&mut self, plan: &BuildPlan, output: Output) {
        let kind = if output.kind == OutputKind::Oci { "oci" } else { "docker" };
        let unnamed = output.attributes.clone();
        let mut attributes = self.named(plan, output.attributes).unwrap_or(unnamed);
        attributes.remove("tar");
        if kind == "oci" {
            oci_media_types(&mut attributes);
        }
        if let Some(epoch) = plan.reproducible {
            make_alike(&mut attributes, epoch);
        }
        self.add(kind, attributes);
    }

    /// The attributes with the image's names and annotations. Names are in full, or Docker would
    /// not find them again.
    fn named(
        &mut self,
        plan: &BuildPlan,
        mut attributes: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        if self.names.is_empty()
            && let Some(given) = attributes.get("name").filter(|name| name.as_str() != "*")
        {
            let given: Vec<String> = given.split(',').map(str::to_owned).collect();
            self.names = names(&given)?;
        }
        if !self.names.is_empty() {
            let list: Vec<String> = self.names.iter().map(Reference::to_string).collect();
            attributes.insert("name".to_owned(), list.join(","));
        }
        for (key, value) in &plan.compression {
            attributes.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for annotation in &plan.annotations {
            attributes.extend(annotation_attributes(annotation));
        }
        Ok(attributes)
    }

    fn check(&self) -> Result<(), Refusal> {
        let to_stdout = self.receivers.values().filter(|to| **to == Receiver::Stdout).count();
        if to_stdout > 1 {
            return Err(Refusal::new("OUTPUTS_COLLIDE", "several outputs go to stdout")
                .with_fix("give all but one a dest=FILE"));
        }
        Ok(())
    }
}

/// Refuses annotations that nothing would carry.
fn refuse_lost_annotations(
    plan: &BuildPlan,
    builder: &Builder,
    wanted: &[Output],
) -> Result<(), Refusal> {
    if plan.annotations.is_empty() {
        return Ok(());
    }
    if builder.kind == BuilderKind::DockerGraphdriver {
        return Err(Refusal::new(
            "ANNOTATIONS_UNSUPPORTED",
            "this Docker's images carry no annotations",
        )
        .with_fix(
            "use --label, turn on Docker's containerd image store, or use another --builder",
        ));
    }
    let carries = |output: &Output| {
        matches!(output.kind, OutputKind::Image | OutputKind::Docker | OutputKind::Oci)
    };
    if wanted.iter().any(carries) {
        return Ok(());
    }
    Err(Refusal::new(
        "ANNOTATIONS_LOST",
        "no output is an image, so nothing carries the annotations",
    )
    .with_fix("leave out --annotation, or add --push or -o type=image|oci|docker"))
}

/// The outputs that a plan asks for, with `--push` and `--load` spelled out.
fn wanted(plan: &BuildPlan) -> Vec<Output> {
    let mut wanted = plan.outputs.clone();
    if plan.push {
        let push = ("push".to_owned(), "true".to_owned());
        let mut images = wanted.iter_mut().filter(|output| output.kind == OutputKind::Image);
        if let Some(first) = images.next() {
            first.attributes.extend([push.clone()]);
            images.for_each(|other| other.attributes.extend([push.clone()]));
        } else {
            let mut output = image();
            output.attributes.extend([push]);
            wanted.push(output);
        }
    }
    if plan.load && !wanted.iter().any(is_load) {
        let attributes = BTreeMap::new();
        wanted.push(Output { kind: OutputKind::Docker, attributes, target: None });
    }
    wanted
}

fn image() -> Output {
    Output { kind: OutputKind::Image, attributes: BTreeMap::new(), target: None }
}

fn is_load(output: &Output) -> bool {
    output.kind == OutputKind::Docker && output.target.is_none()
}

pub(super) fn names(tags: &[String]) -> Result<Vec<Reference>, Refusal> {
    let mut names = Vec::new();
    for tag in tags {
        let name = Reference::parse(tag.trim()).map_err(|error| {
            Refusal::new("TAG_INVALID", format!("`{tag}` is no image name: {error}"))
                .with_fix("write it as [REGISTRY/]REPOSITORY[:TAG]")
        })?;
        let name = name.or_latest();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Builders disagree on the default, so that it is always said.
fn oci_media_types(attributes: &mut BTreeMap<String, String>) {
    attributes.entry("oci-mediatypes".to_owned()).or_insert_with(|| "true".to_owned());
}

/// Pins what builders and days differ in. Layers are not compressed, because no two builds of a
/// compressor make the same bytes; who asks for a compression gets it, on one kind of builder.
fn make_alike(attributes: &mut BTreeMap<String, String>, epoch: i64) {
    attributes.insert("source-date-epoch".to_owned(), epoch.to_string());
    attributes.insert("rewrite-timestamp".to_owned(), "true".to_owned());
    attributes.insert("force-compression".to_owned(), "true".to_owned());
    attributes.entry("compression".to_owned()).or_insert_with(|| "uncompressed".to_owned());
}

/// Where an archive of an image goes.
fn archive(output: &Output, builder: &Builder, has_docker: bool) -> Result<Receiver, Refusal> {
    if builder.kind == BuilderKind::DockerGraphdriver {
        let kind = if output.kind == OutputKind::Oci { "oci" } else { "docker" };
        return Err(Refusal::new(
            "OUTPUT_UNSUPPORTED",
            format!("this Docker cannot export an image as `{kind}`"),
        )
        .with_fix("use -o type=tar or type=local, turn on Docker's containerd image store, or use another --builder"));
    }
    let as_directory = output.attributes.get("tar").is_some_and(|tar| !is_true(tar));
    match &output.target {
        None if output.kind == OutputKind::Docker => {
            if has_docker {
                Ok(Receiver::Docker)
            } else {
                Err(Refusal::new("DOCKER_UNREACHABLE", "there is no Docker to load the image into")
                    .with_fix("start Docker or set DOCKER_HOST, or write a file with -o type=docker,dest=FILE"))
            }
        }
        Some(OutputTarget::Path(path)) if as_directory => Ok(Receiver::Unpack(path.clone())),
        _ if as_directory => {
            Err(Refusal::new("OUTPUT_TARGET_MISSING", "`tar=false` needs a directory")
                .with_fix("add dest=DIR"))
        }
        target => Ok(file_or_stdout(target.clone())),
    }
}

fn file_or_stdout(target: Option<OutputTarget>) -> Receiver {
    match target {
        Some(OutputTarget::Path(path)) => Receiver::File(path),
        Some(OutputTarget::Stdout) | None => Receiver::Stdout,
    }
}

/// `[LEVEL[PLATFORM],…:]KEY=VALUE` as the exporters read it.
pub(super) fn annotation_attributes(annotation: &str) -> Vec<(String, String)> {
    let (left, value) = annotation.split_once('=').unwrap_or((annotation, ""));
    let Some((levels, key)) = left.split_once(':') else {
        return vec![(format!("annotation.{left}"), value.to_owned())];
    };
    levels.split(',').map(|level| (format!("annotation-{level}.{key}"), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(kind: BuilderKind) -> Builder {
        Builder { kind, ..Builder::default() }
    }

    fn plan(tags: &[&str]) -> BuildPlan {
        BuildPlan {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..BuildPlan::default()
        }
    }

    fn output(kind: OutputKind, attributes: &[(&str, &str)], path: Option<&str>) -> Output {
        Output {
            kind,
            attributes: attributes
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            target: path.map(|path| match path {
                "-" => OutputTarget::Stdout,
                path => OutputTarget::Path(PathBuf::from(path)),
            }),
        }
    }

    fn shown(plan: &BuildPlan, kind: BuilderKind) -> Vec<String> {
        let made = outputs(plan, &builder(kind), true).expect("outputs");
        made.exporters
            .iter()
            .map(|exporter| {
                let attrs: Vec<String> =
                    exporter.attrs.iter().map(|(k, v)| format!("{k}={v}")).collect();
                format!("{} {}", exporter.r#type, attrs.join(" "))
            })
            .collect()
    }

    #[test]
    fn this_process_pushes_where_it_is_asked_to_or_the_builder_is_near() {
        let push = |via| BuildPlan { push: true, push_via: via, ..plan(&["r.example/a"]) };
        let by = |via, is_remote, kind| {
            let builder = Builder { is_remote, ..builder(kind) };
            outputs(&push(via), &builder, false).map(|made| made.push)
        };
        let standalone = BuilderKind::Standalone;
        assert_eq!(by(PushVia::Auto, false, standalone), Ok(Push::Client));
        assert_eq!(by(PushVia::Auto, true, standalone), Ok(Push::Exporter));
        assert_eq!(by(PushVia::Client, true, standalone), Ok(Push::Client));
        assert_eq!(by(PushVia::Builder, false, standalone), Ok(Push::Exporter));
        assert_eq!(by(PushVia::Client, false, BuilderKind::DockerGraphdriver), Ok(Push::Docker));
        assert_eq!(
            shown(&push(PushVia::Client), standalone),
            ["oci name=r.example/a:latest oci-mediatypes=true tar=false"]
        );
        let insecure = output(
            OutputKind::Image,
            &[("push", "true"), ("registry.insecure", "true"), ("compression", "zstd")],
            None,
        );
        let wanted = BuildPlan { outputs: vec![insecure], ..push(PushVia::Client) };
        let made = outputs(&wanted, &builder(standalone), false).expect("outputs");
        assert!(made.is_insecure && !made.by_digest);
        assert_eq!(made.exporters[0].attrs.get("compression").map(String::as_str), Some("zstd"));
        assert!(!made.exporters[0].attrs.contains_key("registry.insecure"));
    }

    #[test]
    fn a_push_is_what_each_builder_can_do() {
        let push =
            BuildPlan { push: true, push_via: PushVia::Builder, ..plan(&["r.example/a:1", "b"]) };
        let name = "name=r.example/a:1,docker.io/library/b:latest";
        assert_eq!(
            shown(&push, BuilderKind::Standalone),
            [format!("image {name} oci-mediatypes=true push=true unpack=false")]
        );
        assert_eq!(
            shown(&push, BuilderKind::DockerContainerd),
            [format!("moby {name} oci-mediatypes=true push=true")]
        );
        assert_eq!(shown(&push, BuilderKind::DockerGraphdriver), [format!("moby {name}")]);
        let by = |kind| outputs(&push, &builder(kind), true).map(|made| made.push);
        assert_eq!(by(BuilderKind::Standalone), Ok(Push::Exporter));
        assert_eq!(by(BuilderKind::DockerGraphdriver), Ok(Push::Docker));
    }

    #[test]
    fn without_an_output_a_docker_keeps_the_image_and_a_buildkitd_its_cache() {
        let plain = plan(&["a"]);
        assert_eq!(
            shown(&plain, BuilderKind::DockerContainerd),
            ["moby name=docker.io/library/a:latest oci-mediatypes=true"]
        );
        let made = outputs(&plain, &builder(BuilderKind::Standalone), true).expect("outputs");
        assert!(made.exporters.is_empty() && made.is_cache_only_by_default);
        let cache = BuildPlan { outputs: vec![output(OutputKind::CacheOnly, &[], None)], ..plain };
        let made = outputs(&cache, &builder(BuilderKind::DockerContainerd), true).expect("outputs");
        assert!(made.exporters.is_empty() && !made.is_cache_only_by_default);
    }

    #[test]
    fn a_load_is_an_archive_for_a_foreign_docker_and_nothing_more_for_its_own() {
        let by_builder = PushVia::Builder;
        let both =
            BuildPlan { push: true, load: true, push_via: by_builder, ..plan(&["r.example/a"]) };
        assert_eq!(shown(&both, BuilderKind::DockerContainerd).len(), 1);
        let made = outputs(&both, &builder(BuilderKind::Standalone), true).expect("outputs");
        assert_eq!(made.exporters.len(), 2);
        assert_eq!(made.receivers.get(&1), Some(&Receiver::Docker));
        let none = outputs(&both, &builder(BuilderKind::Standalone), false);
        assert_eq!(none.map_err(|refusal| refusal.code), Err("DOCKER_UNREACHABLE"));
    }

    #[test]
    fn archives_and_directories_have_their_receivers() {
        let many = BuildPlan {
            outputs: vec![
                output(OutputKind::Oci, &[], Some("a.tar")),
                output(OutputKind::Oci, &[("tar", "false")], Some("layout")),
                output(OutputKind::Docker, &[], Some("-")),
                output(OutputKind::Local, &[("mode", "delete")], Some("out")),
                output(OutputKind::Tar, &[], Some("root.tar")),
            ],
            annotations: vec!["index,manifest[linux/arm64]:k=v=w".to_owned(), "p=q".to_owned()],
            ..plan(&["a"])
        };
        let made = outputs(&many, &builder(BuilderKind::Standalone), false).expect("outputs");
        let receivers: Vec<&Receiver> = made.receivers.values().collect();
        assert_eq!(
            receivers,
            [
                &Receiver::File("a.tar".into()),
                &Receiver::Unpack("layout".into()),
                &Receiver::Stdout,
                &Receiver::Directory { path: "out".into(), delete: true },
                &Receiver::File("root.tar".into()),
            ]
        );
        let first = made.exporters.first().expect("an exporter");
        for (key, value) in [
            ("annotation-index.k", "v=w"),
            ("annotation-manifest[linux/arm64].k", "v=w"),
            ("annotation.p", "q"),
        ] {
            assert_eq!(first.attrs.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(!made.exporters.iter().any(|exporter| exporter.attrs.contains_key("tar")));
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let code = |plan: &BuildPlan, kind| {
            outputs(plan, &builder(kind), true).map(|made| made.exporters.len()).map_err(|r| r.code)
        };
        let push = BuildPlan { push: true, ..plan(&[]) };
        assert_eq!(code(&push, BuilderKind::Standalone), Err("TAG_MISSING"));
        assert_eq!(code(&plan(&["A:b:c"]), BuilderKind::Standalone), Err("TAG_INVALID"));
        let tar = || output(OutputKind::Tar, &[], Some("-"));
        let twice = BuildPlan { outputs: vec![tar(), tar()], ..plan(&[]) };
        assert_eq!(code(&twice, BuilderKind::Standalone), Err("OUTPUTS_COLLIDE"));
        let oci = BuildPlan { outputs: vec![output(OutputKind::Oci, &[], Some("x"))], ..plan(&[]) };
        assert_eq!(code(&oci, BuilderKind::DockerGraphdriver), Err("OUTPUT_UNSUPPORTED"));
        let zstd = output(OutputKind::Image, &[("compression", "zstd")], None);
        let zstd = BuildPlan { outputs: vec![zstd], ..plan(&["a"]) };
        assert_eq!(code(&zstd, BuilderKind::DockerGraphdriver), Err("OUTPUT_UNSUPPORTED"));
        let annotations = vec!["a=b".to_owned()];
        let noted = BuildPlan { annotations, push: true, ..plan(&["a"]) };
        assert_eq!(code(&noted, BuilderKind::Standalone), Ok(1));
        assert_eq!(code(&noted, BuilderKind::DockerGraphdriver), Err("ANNOTATIONS_UNSUPPORTED"));
        let files = BuildPlan { push: false, outputs: vec![tar()], ..noted };
        assert_eq!(code(&files, BuilderKind::Standalone), Err("ANNOTATIONS_LOST"));
    }
}
