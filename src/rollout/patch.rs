//! The one change that a rollout makes: which containers get the image, and the patch that says so.
//! Pure.

use super::{
    request::{PinnedImage, Provenance},
    workload::{Kind, Workload, Writer, containers},
};
use crate::image::reference::Reference;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The name that the API server keeps beside every field that we set.
pub const FIELD_MANAGER: &str = "bk-sync";

/// The annotations that we write on a workload.
pub mod annotation {
    /// What kubectl shows in `rollout history`.
    pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
    /// The git commit that the image was built from.
    pub const COMMIT: &str = "bk-sync/commit";
    /// The containers whose image we set, separated by commas.
    pub const CONTAINERS: &str = "bk-sync/containers";
    /// The image that we set.
    pub const IMAGE: &str = "bk-sync/image";
    /// The images of these containers before, in the same order.
    pub const PREVIOUS_IMAGE: &str = "bk-sync/previous-image";
    /// The image's tag.
    pub const TAG: &str = "bk-sync/tag";
    /// Our version.
    pub const VERSION: &str = "bk-sync/version";
}

/// A container whose image is set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chosen {
    /// `containers` or `initContainers`.
    pub list: &'static str,
    /// Its name.
    pub name: String,
    /// The image that it has.
    pub image: String,
}

/// Why no container can be chosen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChooseError {
    /// There are several, and nothing says which is meant.
    #[error("{workload} has the containers {}, and none of them runs `{repository}`", words(known))]
    Ambiguous {
        /// The workload.
        workload: String,
        /// The repository of the image.
        repository: String,
        /// The containers that there are.
        known: Vec<String>,
    },
    /// There is none of that name.
    #[error("{workload} has no container `{name}`; it has {}", words(known))]
    Unknown {
        /// The workload.
        workload: String,
        /// The name that was asked for.
        name: String,
        /// The containers that there are.
        known: Vec<String>,
    },
}

fn words(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// The containers that get an image of `repository`: the one that is named, else those (init
/// containers and sidecars too) that run an image of that repository, else the only one.
///
/// # Errors
/// [`ChooseError`].
pub fn choose(
    workload: &Workload,
    name: Option<&str>,
    repository: &str,
) -> Result<Vec<Chosen>, ChooseError> {
    let all: Vec<Chosen> = containers(&workload.template)
        .filter_map(|(list, container)| {
            Some(Chosen {
                list,
                name: container.get("name")?.as_str()?.to_owned(),
                image: container
                    .get("image")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            })
        })
        .collect();
    let known = || all.iter().map(|container| container.name.clone()).collect();
    if let Some(name) = name {
        let chosen: Vec<Chosen> =
            all.iter().filter(|container| container.name == name).cloned().collect();
        if chosen.is_empty() {
            let (workload, name) = (workload.name.to_string(), name.to_owned());
            return Err(ChooseError::Unknown { workload, name, known: known() });
        }
        return Ok(chosen);
    }
    let of_repository: Vec<Chosen> = all
        .iter()
        .filter(|container| repository_of(&container.image).as_deref() == Some(repository))
        .cloned()
        .collect();
    if !of_repository.is_empty() {
        return Ok(of_repository);
    }
    let mut main = all.iter().filter(|container| container.list == "containers");
    match (main.next(), main.next()) {
        (Some(only), None) => Ok(vec![only.clone()]),
        _ => Err(ChooseError::Ambiguous {
            workload: workload.name.to_string(),
            repository: repository.to_owned(),
            known: known(),
        }),
    }
}

/// The containers that have a name in `images`, as far as they are there.
pub fn containers_named(workload: &Workload, images: &BTreeMap<String, String>) -> Vec<Chosen> {
    let names = images.keys();
    names.flat_map(|name| choose(workload, Some(name), "").unwrap_or_default()).collect()
}

fn repository_of(image: &str) -> Option<String> {
    let reference = Reference::parse(image).ok()?;
    Some(format!("{}/{}", reference.domain(), reference.path()))
}

/// Whether the container has the image already, by whatever tag it names it beside the digest.
pub fn has(container: &Chosen, image: &PinnedImage) -> bool {
    PinnedImage::parse(&container.image)
        .is_ok_and(|other| other.digest == image.digest && other.repository == image.repository)
}

/// A new image for a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewImage {
    /// The container.
    pub container: Chosen,
    /// The image that it gets.
    pub image: String,
}

/// What is written beside the new images.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remarks<'r> {
    /// Where the change comes from.
    pub provenance: &'r Provenance,
    /// In words, for `kubectl rollout history`.
    pub cause: String,
}

/// The patch (a strategic merge) that sets `images`. It holds for the very version of the object
/// that was read: a change that came in between is a conflict, and is looked at again.
pub fn patch(workload: &Workload, images: &[NewImage], remarks: &Remarks<'_>) -> Value {
    let mut spec = Map::new();
    for NewImage { container, image } in images {
        let list = spec.entry(container.list).or_insert_with(|| json!([]));
        if let Value::Array(list) = list {
            list.push(json!({"name": container.name, "image": image}));
        }
    }
    let mut body = json!({"spec": spec});
    for key in workload.name.kind.template().split('/').rev().filter(|key| !key.is_empty()) {
        body = json!({key: body});
    }
    let join = |text: &dyn Fn(&NewImage) -> String| -> String {
        let texts: Vec<String> = images.iter().map(text).collect();
        texts.join(",")
    };
    let set: Vec<&str> = images.iter().map(|new| new.image.as_str()).collect();
    let image = set.first().copied().unwrap_or_default();
    let Provenance { commit, tag } = remarks.provenance;
    let mut annotations = json!({
        annotation::CHANGE_CAUSE: remarks.cause,
        // Null takes away what an earlier change has left.
        annotation::COMMIT: commit,
        annotation::TAG: tag,
        annotation::CONTAINERS: join(&|new| new.container.name.clone()),
        annotation::PREVIOUS_IMAGE: join(&|new| new.container.image.clone()),
        annotation::VERSION: env!("CARGO_PKG_VERSION"),
    });
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(annotation::IMAGE.to_owned(), json!(image));
    }
    if let Some(body) = body.as_object_mut() {
        body.insert(
            "metadata".to_owned(),
            json!({
                "uid": workload.uid,
                "resourceVersion": workload.resource_version,
                "annotations": annotations,
            }),
        );
    }
    body
}

/// Another manager than us that says it keeps the image of `container`, and so may set it back.
/// kubectl's own names are people at work, not something that keeps at it.
pub fn keeper<'w>(workload: &'w Workload, container: &str) -> Option<&'w Writer> {
    workload.image_writers.get(container)?.iter().find(|writer| {
        writer.manager != FIELD_MANAGER
            && !writer.manager.starts_with("kubectl")
            && !writer.manager.is_empty()
    })
}

/// The images before the last change that we made, by container, out of the annotations.
pub fn recorded(workload: &Workload) -> Vec<(String, String)> {
    let list = |name: &str| {
        let text = workload.annotations.get(name).map(String::as_str).unwrap_or_default();
        text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    list(annotation::CONTAINERS).into_iter().zip(list(annotation::PREVIOUS_IMAGE)).collect()
}

/// Whether the kind of workload cannot get another image at all, and why.
pub fn immutable(kind: Kind) -> Option<&'static str> {
    (kind == Kind::Job).then_some("the pod template of a Job cannot change once it is made")
}

#[cfg(test)]
mod tests {
    use super::{ChooseError, NewImage, Remarks, annotation, choose, has, keeper, patch, recorded};
    use crate::rollout::{
        request::{PinnedImage, Provenance},
        workload::{Kind, Workload},
    };
    use serde_json::{Value, json};

    fn digest(of: &str) -> String {
        format!("sha256:{}", of.repeat(64))
    }

    fn workload(kind: Kind, containers: &Value, init: &Value) -> Workload {
        let template = json!({"spec": {"containers": containers, "initContainers": init}});
        let spec = match kind {
            Kind::CronJob => json!({"jobTemplate": {"spec": {"template": template}}}),
            _ => json!({"template": template}),
        };
        let object = json!({"metadata": {"name": "web", "uid": "u", "resourceVersion": "7"},
            "spec": spec});
        Workload::read(kind, &object).unwrap()
    }

    fn names(chosen: &[super::Chosen]) -> Vec<&str> {
        chosen.iter().map(|container| container.name.as_str()).collect()
    }

    #[test]
    fn a_container_is_found_by_name_by_repository_or_because_it_is_the_only_one() {
        let two = workload(
            Kind::Deployment,
            &json!([{"name": "app", "image": "r.example/app:1"},
                {"name": "proxy", "image": "envoy:1"}]),
            &json!([{"name": "migrate", "image": "r.example/app@sha256:00000000000000000000000000000000"}]),
        );
        assert_eq!(names(&choose(&two, Some("proxy"), "x").unwrap()), ["proxy"]);
        assert_eq!(names(&choose(&two, Some("migrate"), "x").unwrap()), ["migrate"]);
        let by_repository = choose(&two, None, "docker.io/library/envoy").unwrap();
        assert_eq!(names(&by_repository), ["proxy"]);
        let ambiguous = choose(&two, None, "r.example/other").unwrap_err();
        assert!(matches!(ambiguous, ChooseError::Ambiguous { .. }));
        let unknown = choose(&two, Some("nope"), "x").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "deployment/web has no container `nope`; it has `app`, `proxy`, `migrate`"
        );
        let one = workload(Kind::Deployment, &json!([{"name": "app", "image": "a:1"}]), &json!([]));
        assert_eq!(names(&choose(&one, None, "r.example/b").unwrap()), ["app"]);
    }

    #[test]
    fn init_containers_of_the_same_repository_go_along() {
        let pinned = format!("r.example/app@{}", digest("0"));
        let both = workload(
            Kind::StatefulSet,
            &json!([{"name": "app", "image": "r.example/app:1"}]),
            &json!([{"name": "migrate", "image": pinned}]),
        );
        assert_eq!(names(&choose(&both, None, "r.example/app").unwrap()), ["app", "migrate"]);
    }

    #[test]
    fn the_patch_names_only_what_changes() {
        let image = PinnedImage::parse(&format!("r.example/app:2@{}", digest("b"))).unwrap();
        let provenance = Provenance { commit: Some("c0ffee".to_owned()), tag: None };
        let remarks = Remarks { provenance: &provenance, cause: "because".to_owned() };
        let cron = workload(
            Kind::CronJob,
            &json!([{"name": "app", "image": "r.example/app:1"}]),
            &json!([{"name": "migrate", "image": "r.example/app:0"}]),
        );
        let images: Vec<NewImage> = choose(&cron, None, "r.example/app")
            .unwrap()
            .into_iter()
            .map(|container| NewImage { container, image: image.to_string() })
            .collect();
        let body = patch(&cron, &images, &remarks);
        let pinned = format!("r.example/app@{}", digest("b"));
        assert_eq!(
            body,
            json!({
                "metadata": {"uid": "u", "resourceVersion": "7", "annotations": {
                    "kubernetes.io/change-cause": "because",
                    "bk-sync/commit": "c0ffee", "bk-sync/tag": null,
                    "bk-sync/containers": "app,migrate", "bk-sync/image": pinned,
                    "bk-sync/previous-image": "r.example/app:1,r.example/app:0",
                    "bk-sync/version": env!("CARGO_PKG_VERSION"),
                }},
                "spec": {"jobTemplate": {"spec": {"template": {"spec": {
                    "containers": [{"name": "app", "image": pinned}],
                    "initContainers": [{"name": "migrate", "image": pinned}],
                }}}}},
            })
        );
    }

    #[test]
    fn the_same_digest_is_known_under_any_tag() {
        let image = PinnedImage::parse(&format!("r.example/app@{}", digest("b"))).unwrap();
        let with =
            |image: String| super::Chosen { list: "containers", name: "app".to_owned(), image };
        assert!(has(&with(format!("r.example/app:2@{}", digest("b"))), &image));
        assert!(!has(&with(format!("r.example/app@{}", digest("c"))), &image));
        assert!(!has(&with(format!("r.example/other@{}", digest("b"))), &image));
        assert!(!has(&with("r.example/app:2".to_owned()), &image));
    }

    #[test]
    fn the_record_is_read_back() {
        let mut web =
            workload(Kind::Deployment, &json!([{"name": "app", "image": "a:1"}]), &json!([]));
        assert_eq!(recorded(&web), []);
        web.annotations.insert(annotation::CONTAINERS.to_owned(), "app,migrate".to_owned());
        web.annotations.insert(annotation::PREVIOUS_IMAGE.to_owned(), "a:0,b:0".to_owned());
        let record =
            [("app".to_owned(), "a:0".to_owned()), ("migrate".to_owned(), "b:0".to_owned())];
        assert_eq!(recorded(&web), record);
    }

    #[test]
    fn a_controller_that_keeps_the_image_is_named() {
        let mut web =
            workload(Kind::Deployment, &json!([{"name": "app", "image": "a:1"}]), &json!([]));
        let writer =
            |manager: &str| super::Writer { manager: manager.to_owned(), time: String::new() };
        web.image_writers.insert(
            "app".to_owned(),
            vec![writer("kubectl-set"), writer("bk-sync"), writer("argocd-controller")],
        );
        assert_eq!(keeper(&web, "app").unwrap().manager, "argocd-controller");
        assert_eq!(keeper(&web, "other"), None);
    }
}
