//! One image from several builders: each builds its platforms and pushes them by digest, side by
//! side; then one index that lists them all gets the tags.
//!
//! The index has the bytes that a builder gives it which builds all of the platforms: its entries in
//! the order of the platforms, attestations behind them.

use super::{
    Error, Inputs, build,
    builder::Builder,
    built::{BuildFacts, Built, Image, Pushed, PushedBlobs, PushedBytes, Timings},
    error::{PushFailure, Refusal},
    login::Login,
    outputs::{annotation_attributes, names},
    push::{PushSettings, Targets},
    sign::Signing,
};
use crate::{
    buildkit::dial::Connection,
    event::{Event, Events, Stage, Warning},
    image::document::{Document, MediaType},
    llb::Platform,
    plan::{Ability, BuildPlan, ListedBuilder, Output, OutputKind, Part, divide},
    registry::{RegistryError, Repository, digest},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// One builder's part of a build.
#[derive(Debug)]
pub struct Share {
    /// The platforms that it builds.
    pub platforms: Vec<String>,
    /// What its build needs, the builder among it.
    pub inputs: Inputs,
}

/// Divides the platforms of `plan` between the builders that are listed and `reached`, in the same
/// order: the plan with its platforms, and what each builder gets. `inputs` says what a build on one of
/// them needs.
///
/// # Errors
/// The plan asks for more than an image that is pushed, it is not said which platforms are meant, or
/// nobody builds one of them.
pub fn divided(
    plan: &BuildPlan,
    listed: &[ListedBuilder],
    reached: Vec<(Connection, Duration)>,
    inputs: impl Fn((Connection, Duration)) -> Inputs,
    events: &Events,
) -> Result<(BuildPlan, Vec<Share>), Refusal> {
    refuse(plan)?;
    let plan = BuildPlan { platforms: platforms(plan, listed)?, ..plan.clone() };
    let abilities = listed.iter().cloned().zip(reached.iter().map(|(one, _)| ability(one)));
    let parts = divide(&plan.platforms, &abilities.collect::<Vec<_>>()).map_err(|platform| {
        refused(&format!("none of the builders builds {platform}"))
            .with_fix(format!("name one that does: `{platform}=ADDRESS`"))
    })?;
    let mut reached: Vec<_> = reached.into_iter().map(Some).collect();
    let mut shares = Vec::new();
    for Part { builder, platforms, emulated } in parts {
        let Some(one) = reached.get_mut(builder).and_then(Option::take) else { continue };
        tell(&emulated, &one.0, events);
        shares.push(Share { platforms, inputs: inputs(one) });
    }
    Ok((plan, shares))
}

/// The platforms that are built: those asked for, else those that the list names.
///
/// # Errors
/// Neither says it.
pub fn platforms(plan: &BuildPlan, listed: &[ListedBuilder]) -> Result<Vec<String>, Refusal> {
    if !plan.platforms.is_empty() {
        return Ok(plan.platforms.clone());
    }
    let named: Option<Vec<String>> = listed.iter().map(|one| one.platform.clone()).collect();
    named.ok_or_else(|| {
        refused("several builders are listed, and it is not said for which platforms").with_fix(
            "add `--platform linux/arm64,linux/amd64`, or write `--builder PLATFORM=ADDRESS,…`",
        )
    })
}

fn ability(connection: &Connection) -> Ability {
    let builder = Builder::reached(connection);
    let mut platforms = builder.platforms.iter().map(|platform| platform.normalized().format());
    Ability { native: platforms.next(), others: platforms.collect() }
}

/// Says which platforms a builder has to emulate: several are listed so that none has to.
fn tell(emulated: &[String], connection: &Connection, events: &Events) {
    if emulated.is_empty() {
        return;
    }
    events.emit(Event::Warning(Warning {
        code: "PLATFORM_EMULATED",
        message: format!("{} is emulated on `{}`", emulated.join(", "), connection.address),
        hint: Some("list a builder of that platform, which is many times as fast".to_owned()),
    }));
}

fn refused(message: &str) -> Refusal {
    Refusal::new("SEVERAL_BUILDERS", message)
}

/// Builds `plan` on several builders at once and leaves what they make there: nobody knows the digest
/// of the whole before it is pushed. Where one fails, the others are ended.
///
/// # Errors
/// As [`build`] has them.
pub async fn build_apart(plan: &BuildPlan, shares: Vec<Share>) -> Result<Built, Error> {
    let began = Instant::now();
    let mut built = together(parts(plan, &Marks::of(plan), shares).await?);
    built.image = None;
    built.timings.total = Some(began.elapsed() + built.timings.connect.unwrap_or_default());
    Ok(built)
}

/// Builds `plan` on several builders at once, and pushes what they make as one image. Where one
/// fails, the others are ended.
///
/// # Errors
/// The plan asks for more than an image that is pushed, or as [`build`] has them.
pub async fn build_on_several(plan: &BuildPlan, shares: Vec<Share>) -> Result<Built, Error> {
    let began = Instant::now();
    let Some(first) = shares.first() else {
        return Err(Error::Builder { message: "none is listed".to_owned() });
    };
    let common = Common {
        login: first.inputs.login.clone(),
        settings: first.inputs.push.clone(),
        events: first.inputs.events.clone(),
        cancel: first.inputs.cancel.clone(),
    };
    let signing = Signing::load(plan, &first.inputs.directory, &first.inputs.variables)?;
    let marks = Marks::of(plan);
    let parts = parts(plan, &marks, shares).await?;
    let mut built = common.join(plan, &marks, signing.as_ref(), parts).await?;
    built.timings.total = Some(began.elapsed() + built.timings.connect.unwrap_or_default());
    built.write_files(plan)?;
    Ok(built)
}

/// What each builder makes of its share.
async fn parts(plan: &BuildPlan, marks: &Marks, shares: Vec<Share>) -> Result<Vec<Built>, Error> {
    let Some(cancel) = shares.first().map(|share| share.inputs.cancel.clone()) else {
        return Err(Error::Builder { message: "none is listed".to_owned() });
    };
    let others = cancel.child_token();
    let builds = shares.into_iter().map(|Share { platforms, mut inputs }| {
        let part = marks.part(plan, platforms);
        let others = others.clone();
        inputs.cancel = others.clone();
        async move {
            let built = build(&part, inputs).await;
            if built.is_err() {
                others.cancel();
            }
            built
        }
    });
    let mut parts = Vec::new();
    let mut failure = None;
    for built in join_all(builds).await {
        match built {
            Ok(built) => parts.push(built),
            // The others were ended because of this one.
            Err(Error::Interrupted) => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    if cancel.is_cancelled() || others.is_cancelled() {
        return Err(Error::Interrupted);
    }
    Ok(parts)
}

/// Refuses what several builders cannot make together.
///
/// # Errors
/// The plan asks for it.
pub fn refuse(plan: &BuildPlan) -> Result<(), Refusal> {
    let code = "SEVERAL_BUILDERS";
    let is_image = |output: &Output| output.kind == OutputKind::Image;
    if !plan.push || plan.load || !plan.outputs.iter().all(is_image) {
        let message = "several builders make one image in a registry, and nothing else";
        return Err(Refusal::new(code, message)
            .with_fix("give `--push` as the only output, or name one `--builder`"));
    }
    if plan.reads_stdin() {
        let message = "stdin can be read once, and each of the builders needs the context";
        return Err(
            Refusal::new(code, message).with_fix("name a directory or a URL, or one `--builder`")
        );
    }
    if let Some(export) = plan.cache_to.iter().find(|entry| entry.kind != "inline") {
        let message =
            format!("each of the builders would write over the other's `{}` cache", export.kind);
        return Err(Refusal::new(code, message)
            .with_fix("write `--cache-to type=inline`, or build for each platform by itself"));
    }
    Ok(())
}

/// Words about the image, by who carries them.
#[derive(Debug, Default)]
struct Marks {
    /// The attributes of each builder's exporter.
    parts: BTreeMap<String, String>,
    /// Annotations of the index.
    index: BTreeMap<String, String>,
    /// Annotations of entries of the index: of all, or of a platform's.
    entries: Vec<(Option<String>, String, String)>,
}

impl Marks {
    fn of(plan: &BuildPlan) -> Self {
        let mut marks = Self::default();
        for (attribute, value) in
            plan.annotations.iter().flat_map(|text| annotation_attributes(text))
        {
            let (level, key) = attribute.split_once('.').unwrap_or((&attribute, ""));
            let key = key.to_owned();
            if level == "annotation-index" {
                marks.index.insert(key, value);
            } else if let Some(rest) = level.strip_prefix("annotation-manifest-descriptor") {
                let platform = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                marks.entries.push((platform.map(str::to_owned), key, value));
            } else {
                marks.parts.insert(attribute, value);
            }
        }
        marks
    }

    /// What one builder is asked for.
    fn part(&self, plan: &BuildPlan, platforms: Vec<String>) -> BuildPlan {
        let mut outputs = plan.outputs.clone();
        if outputs.is_empty() {
            outputs.push(Output {
                kind: OutputKind::Image,
                attributes: BTreeMap::new(),
                target: None,
            });
        }
        for output in &mut outputs {
            output.attributes.extend(self.parts.clone());
            if plan.push {
                output.attributes.insert("push-by-digest".to_owned(), "true".to_owned());
            }
        }
        BuildPlan {
            platforms,
            outputs,
            annotations: Vec::new(),
            iid_file: None,
            metadata_file: None,
            signing: None,
            ..plan.clone()
        }
    }

    fn add_to(&self, entry: &mut Entry) {
        let platform = entry.platform.as_ref().map(EntryPlatform::format);
        for (of, key, value) in &self.entries {
            if of.is_none() || *of == platform {
                entry.annotations.insert(key.clone(), value.clone());
            }
        }
    }
}

/// What all builders share.
struct Common {
    login: Login,
    settings: PushSettings,
    events: Events,
    cancel: CancellationToken,
}

impl Common {
    /// Writes the index over what was built, and tells of all as of one build.
    async fn join(
        &self,
        plan: &BuildPlan,
        marks: &Marks,
        signing: Option<&Signing>,
        parts: Vec<Built>,
    ) -> Result<Built, Error> {
        let references = names(&plan.tags)?;
        let targets = Targets::new(&references, false, &self.login, &self.settings.reach);
        let shown: Vec<String> = references.iter().map(ToString::to_string).collect();
        let subject = shown.join(", ");
        self.events.emit(Event::StageStarted { stage: Stage::Push, subject: subject.clone() });
        let written = tokio::select! {
            written = self.write(plan, marks, &parts, &targets) => written,
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        };
        self.events.emit(Event::StageEnded { stage: Stage::Push, ok: written.is_ok() });
        let index = written?;
        let mut built = together(parts);
        if let (Some(signing), Some(pushed)) = (signing, &mut built.push) {
            let (settings, digest) = (&self.settings, &index.digest);
            let signed = signing.sign(&targets, digest, settings, &self.events, &self.cancel);
            pushed.signatures = signed.await?;
        }
        let size = u64::try_from(index.bytes.len()).unwrap_or_default();
        let descriptor = serde_json::json!({
            "mediaType": index.media_type.as_str(), "digest": index.digest, "size": size,
        });
        built.exporter_response = BTreeMap::from([
            ("containerimage.digest".to_owned(), index.digest.clone()),
            (
                "containerimage.descriptor".to_owned(),
                BASE64_STANDARD.encode(descriptor.to_string()),
            ),
            ("image.name".to_owned(), shown.join(",")),
        ]);
        built.image = Some(Image {
            name: references.first().map(crate::image::reference::Reference::name),
            digest: Some(index.digest),
            config_digest: None,
            manifests: in_order(built.image.take(), &plan.platforms),
            tags: shown,
        });
        Ok(built)
    }

    async fn write(
        &self,
        plan: &BuildPlan,
        marks: &Marks,
        parts: &[Built],
        targets: &Targets,
    ) -> Result<Document, Error> {
        let Some(first) = targets.0.first() else {
            return Err(Error::Builder { message: "the image has no name".to_owned() });
        };
        let mut entries = Vec::new();
        for part in parts {
            entries.extend(entries_of(part, &first.repository).await?);
        }
        for entry in &mut entries {
            marks.add_to(entry);
        }
        let index = document(&Index {
            schema_version: 2,
            media_type: MediaType::OciIndex.as_str(),
            manifests: sorted(entries, &plan.platforms),
            annotations: marks.index.clone(),
        })?;
        for target in &targets.0 {
            let mut tags: BTreeSet<&str> = target.tags.iter().map(String::as_str).collect();
            if tags.is_empty() {
                tags.insert(&index.digest);
            }
            for tag in tags {
                let written = target.repository.put_manifest(&index, tag).await;
                written.map_err(|error| failed(&target.repository, tag, &error))?;
            }
        }
        Ok(index)
    }
}

fn failed(repository: &Repository, tag: &str, error: &RegistryError) -> Error {
    let reference = format!("{repository}:{tag}");
    Error::Push(Box::new(PushFailure::of_registry(&reference, error)))
}

/// What the index lists of one builder's image.
async fn entries_of(part: &Built, repository: &Repository) -> Result<Vec<Entry>, Error> {
    let image = part.image.as_ref();
    let Some(root) = image.and_then(|image| image.digest.as_deref()) else {
        return Err(Error::Builder { message: "it exported no image".to_owned() });
    };
    let read = repository.manifest(root).await;
    let read = read.map_err(|error| failed(repository, root, &error))?.ok_or_else(|| {
        Error::Builder { message: format!("`{root}`, which it pushed, is not in `{repository}`") }
    })?;
    if read.media_type.is_index() {
        let index: ReadIndex = serde_json::from_slice(&read.bytes).map_err(|error| {
            Error::Builder { message: format!("the index `{root}` cannot be read: {error}") }
        })?;
        return Ok(index.manifests);
    }
    let platform = image.and_then(|image| image.manifests.first()?.platform.clone());
    Ok(vec![Entry {
        media_type: read.media_type.as_str().to_owned(),
        digest: root.to_owned(),
        size: u64::try_from(read.bytes.len()).unwrap_or_default(),
        annotations: BTreeMap::new(),
        platform: platform.as_deref().and_then(EntryPlatform::parse),
    }])
}

/// Images in the order of the platforms, then what is for none of them, as it came.
fn sorted(mut entries: Vec<Entry>, platforms: &[String]) -> Vec<Entry> {
    let place = |entry: &Entry| {
        let platform = entry.platform.as_ref().map(EntryPlatform::format);
        platforms.iter().position(|one| Some(one) == platform.as_ref()).unwrap_or(usize::MAX)
    };
    let images: Vec<String> = {
        let mut images: Vec<&Entry> = entries.iter().collect();
        images.sort_by_key(|entry| place(entry));
        images.into_iter().map(|entry| entry.digest.clone()).collect()
    };
    // An attestation follows in the order of the images that they are about.
    let about = |entry: &Entry| {
        let of = entry.annotations.get("vnd.docker.reference.digest");
        of.and_then(|of| images.iter().position(|digest| digest == of)).unwrap_or_default()
    };
    entries.sort_by_key(|entry| (place(entry), about(entry)));
    entries
}

/// The manifests of all parts, in the order of the platforms.
fn in_order(image: Option<Image>, platforms: &[String]) -> Vec<super::built::Manifest> {
    let mut manifests = image.map(|image| image.manifests).unwrap_or_default();
    manifests.sort_by_key(|manifest| {
        platforms.iter().position(|one| Some(one) == manifest.platform.as_ref())
    });
    manifests
}

/// Several builds as one: counts added up, times of the longest.
fn together(parts: Vec<Built>) -> Built {
    let mut whole = Built::default();
    for part in parts {
        let sum = |left: Option<u64>, right: Option<u64>| Some(left.unwrap_or(0) + right?);
        whole.build = BuildFacts {
            vertices: sum(whole.build.vertices, part.build.vertices),
            cached: sum(whole.build.cached, part.build.cached),
            frontend: whole.build.frontend.or(part.build.frontend),
            llb_digest: None,
            context: super::built::ContextFacts {
                files: sum(whole.build.context.files, part.build.context.files),
                bytes_sent: sum(whole.build.context.bytes_sent, part.build.context.bytes_sent),
            },
        };
        whole.bases.0.extend(part.bases.0);
        let longest = |left: Option<Duration>, right: Option<Duration>| left.max(right);
        let (a, b) = (whole.timings, part.timings);
        whole.timings = Timings {
            connect: longest(a.connect, b.connect),
            compile: longest(a.compile, b.compile),
            context: longest(a.context, b.context),
            solve: longest(a.solve, b.solve),
            export: longest(a.export, b.export),
            push: longest(a.push, b.push),
            cache: longest(a.cache, b.cache),
            total: None,
        };
        if let Some(pushed) = part.push {
            let known = whole.push.get_or_insert_with(|| Pushed {
                registry: pushed.registry.clone(),
                via: pushed.via,
                ..Pushed::default()
            });
            known.blobs = PushedBlobs {
                uploaded: sum(known.blobs.uploaded, pushed.blobs.uploaded),
                mounted: sum(known.blobs.mounted, pushed.blobs.mounted),
                existing: sum(known.blobs.existing, pushed.blobs.existing),
            };
            known.bytes = PushedBytes {
                uploaded: sum(known.bytes.uploaded, pushed.bytes.uploaded),
                total: sum(known.bytes.total, pushed.bytes.total),
            };
            known.requests = sum(known.requests, pushed.requests);
        }
        if let Some(image) = part.image {
            whole.image.get_or_insert_with(Image::default).manifests.extend(image.manifests);
        }
    }
    whole
}

/// An index as BuildKit writes it: indented, its fields in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct ReadIndex {
    manifests: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<EntryPlatform>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct EntryPlatform {
    architecture: String,
    os: String,
    #[serde(default, rename = "os.version", skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(default, rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
}

impl EntryPlatform {
    fn parse(text: &str) -> Option<Self> {
        let Platform { os, architecture, variant, .. } = Platform::parse(text).ok()?;
        let (os_version, os_features) = (String::new(), Vec::new());
        Some(Self { architecture, os, os_version, os_features, variant })
    }

    fn format(&self) -> String {
        let Self { os, architecture, variant, .. } = self.clone();
        Platform { os, architecture, variant, ..Platform::default() }.normalized().format()
    }
}

fn document(index: &Index) -> Result<Document, Error> {
    let unfit = || Error::Builder { message: "its images make no index".to_owned() };
    let bytes = serde_json::to_vec_pretty(index).map_err(|_| unfit())?;
    let digest = digest(&bytes);
    Document::read(&bytes, Some(MediaType::OciIndex.as_str()), &digest).ok_or_else(unfit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: &str, digest: &str, about: Option<&str>) -> Entry {
        let about = about.map(|of| ("vnd.docker.reference.digest".to_owned(), of.to_owned()));
        Entry {
            media_type: MediaType::OciManifest.as_str().to_owned(),
            digest: digest.to_owned(),
            size: 1,
            annotations: about.into_iter().collect(),
            platform: EntryPlatform::parse(platform),
        }
    }

    #[test]
    fn images_come_in_the_order_of_the_platforms_and_attestations_behind_them() {
        let unknown = || {
            Some(EntryPlatform {
                architecture: "unknown".to_owned(),
                os: "unknown".to_owned(),
                os_version: String::new(),
                os_features: Vec::new(),
                variant: String::new(),
            })
        };
        let attestation = |digest: &str, about| Entry {
            platform: unknown(),
            ..entry("linux/amd64", digest, Some(about))
        };
        let entries = vec![
            entry("linux/amd64", "a", None),
            attestation("pa", "a"),
            entry("linux/arm64", "b", None),
            attestation("pb", "b"),
        ];
        let platforms = ["linux/arm64".to_owned(), "linux/amd64".to_owned()];
        let digests: Vec<String> =
            sorted(entries, &platforms).into_iter().map(|entry| entry.digest).collect();
        assert_eq!(digests, ["b", "a", "pb", "pa"]);
    }

    #[test]
    fn an_index_has_its_fields_in_the_order_of_the_builders() {
        let index = Index {
            schema_version: 2,
            media_type: MediaType::OciIndex.as_str(),
            manifests: vec![entry("linux/arm/v7", "sha256:a", None)],
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        let text = String::from_utf8(document(&index).unwrap().bytes).unwrap();
        assert_eq!(
            text,
            "{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n  \
             \"manifests\": [\n    {\n      \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n      \
             \"digest\": \"sha256:a\",\n      \"size\": 1,\n      \"platform\": {\n        \
             \"architecture\": \"arm\",\n        \"os\": \"linux\",\n        \"variant\": \"v7\"\n      }\n    }\n  ],\n  \
             \"annotations\": {\n    \"k\": \"v\"\n  }\n}"
        );
    }

    #[test]
    fn annotations_go_to_who_carries_them() {
        let plan = BuildPlan {
            annotations: vec![
                "index,manifest:a=1".to_owned(),
                "manifest-descriptor[linux/arm64]:b.c=2".to_owned(),
                "d=3".to_owned(),
            ],
            push: true,
            ..BuildPlan::default()
        };
        let marks = Marks::of(&plan);
        assert_eq!(marks.index, BTreeMap::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(
            marks.entries,
            [(Some("linux/arm64".to_owned()), "b.c".to_owned(), "2".to_owned())]
        );
        let part = marks.part(&plan, vec!["linux/arm64".to_owned()]);
        let attributes: Vec<&str> = part.outputs[0].attributes.keys().map(String::as_str).collect();
        assert_eq!(attributes, ["annotation-manifest.a", "annotation.d", "push-by-digest"]);
        let (mut arm, mut amd) = (entry("linux/arm64", "a", None), entry("linux/amd64", "b", None));
        marks.add_to(&mut arm);
        marks.add_to(&mut amd);
        assert_eq!((arm.annotations.len(), amd.annotations.len()), (1, 0));
    }
}
