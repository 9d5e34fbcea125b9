//! What to go back to: the image that ran before, not what the template happened to say. Pure.
//!
//! A template may have named an image that never ran, with pods of an older revision still serving
//! beside it; and a tag may name another image by now. So the pods that were ready are asked.

use super::{
    observed::{Observed, Pod, digest_of},
    patch::Chosen,
    proof::Expected,
};
use crate::image::reference::Reference;
use std::collections::BTreeMap;

/// A way back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct WayBack {
    /// The image that ran before, by container.
    pub images: BTreeMap<String, String>,
    /// Digests that count as that image, by container.
    pub expected: Expected,
    /// What is not as it was, each in a sentence.
    pub remarks: Vec<String>,
}

/// The way back from a change of `chosen`; none where no pod ran that could come back.
pub fn way_back(before: &Observed, chosen: &[Chosen]) -> Option<WayBack> {
    let workload = before.workload.as_ref()?;
    if workload.replicas == 0 || !workload.name.kind.rolls() {
        // Nothing ran; the template is all that there is to restore.
        let images = chosen.iter().map(|one| (one.name.clone(), one.image.clone())).collect();
        return Some(WayBack { images, ..WayBack::default() });
    }
    let pods = running(before, chosen)?;
    let mut way = WayBack::default();
    for container in chosen {
        let seen = || pods.iter().filter_map(|pod| pod.container(&container.name));
        let image = seen().next().map(|seen| seen.image.clone())?;
        let mut ids: Vec<&str> = seen()
            .map(|seen| seen.image_id.as_str())
            .filter(|id| digest_of(id).is_some())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let (image, remark) = pinned(&image, &ids);
        way.remarks.extend(remark);
        let digests = ids.iter().filter_map(|id| digest_of(id)).map(str::to_owned);
        way.expected.insert(container.name.clone(), digests.collect());
        way.images.insert(container.name.clone(), image);
    }
    Some(way)
}

/// The ready pods of the revision that served: the template's own, else that with most ready pods.
fn running<'o>(before: &'o Observed, chosen: &[Chosen]) -> Option<Vec<&'o Pod>> {
    let serves = |pod: &&Pod| pod.ready && !pod.deleting;
    if let Some(target) = before.target() {
        let own: Vec<&Pod> = before.pods_of(&target).filter(serves).collect();
        if !own.is_empty() {
            return Some(own);
        }
    }
    let mut groups: BTreeMap<Vec<&str>, Vec<&Pod>> = BTreeMap::new();
    for pod in before.own_pods().filter(serves) {
        let images = chosen.iter().filter_map(|container| {
            pod.container(&container.name).map(|container| container.image.as_str())
        });
        groups.entry(images.collect()).or_default().push(pod);
    }
    groups.into_values().max_by_key(Vec::len)
}

/// The image with the digest that ran, where it was named by a tag: that may name another by now.
fn pinned(image: &str, ids: &[&str]) -> (String, Option<String>) {
    let Ok(reference) = Reference::parse(image) else { return (image.to_owned(), None) };
    if reference.digest().is_some() {
        return (image.to_owned(), None);
    }
    let repository = |text: &str| {
        let text = text.rsplit_once("://").map_or(text, |(_, text)| text);
        let reference = Reference::parse(text).ok()?;
        Some((reference.name(), reference.digest()?.to_owned()))
    };
    match ids {
        [id] => match repository(id) {
            Some((name, digest)) if name == reference.name() => {
                let remark = format!("`{image}` is pinned to the digest that ran, {digest}");
                (format!("{image}@{digest}"), Some(remark))
            }
            _ => (image.to_owned(), None),
        },
        _ => (image.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::{pinned, way_back};
    use crate::rollout::{
        observed::{Container, Observed, Pod, Revision},
        patch::choose,
        workload::{Kind, Workload},
    };
    use serde_json::{Value, json};

    fn template(image: &str) -> Value {
        json!({"spec": {"containers": [{"name": "app", "image": image}]}})
    }

    fn set(uid: &str, image: &str) -> Revision {
        Revision::read(&json!({
            "metadata": {"name": uid, "uid": uid, "ownerReferences": [{"uid": "w", "controller": true}]},
            "spec": {"template": template(image)},
        }))
    }

    fn pod(uid: &str, set: &str, image: &str, image_id: &str, ready: bool) -> Pod {
        Pod {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            owner: Some(set.to_owned()),
            ready,
            containers: vec![Container {
                name: "app".to_owned(),
                image: image.to_owned(),
                image_id: image_id.to_owned(),
                ..Container::default()
            }],
            ..Pod::default()
        }
    }

    fn before(image: &str, replicas: i64, sets: Vec<Revision>, pods: Vec<Pod>) -> Observed {
        let object = json!({"metadata": {"name": "web", "uid": "w"},
            "spec": {"replicas": replicas, "template": template(image)}});
        Observed {
            workload: Some(Workload::read(Kind::Deployment, &object).unwrap()),
            revisions: sets.into_iter().map(|set| (set.uid.clone(), set)).collect(),
            pods: pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect(),
            ..Observed::default()
        }
    }

    fn image_before(observed: &Observed) -> Option<String> {
        let chosen = choose(observed.workload.as_ref().unwrap(), Some("app"), "").unwrap();
        way_back(observed, &chosen).map(|way| way.images["app"].clone())
    }

    #[test]
    fn what_served_comes_back_not_what_the_template_said() {
        let sets = || vec![set("old", "a:1"), set("new", "a:2")];
        let served = pod("p1", "old", "a:1", "", true);
        let broken = pod("p2", "new", "a:2", "", false);
        let seen = before("a:2", 1, sets(), vec![served, broken]);
        assert_eq!(image_before(&seen).as_deref(), Some("a:1"));
        let well = pod("p2", "new", "a:2", "", true);
        let leaving = pod("p1", "old", "a:1", "", true);
        assert_eq!(
            image_before(&before("a:2", 1, sets(), vec![leaving, well])).as_deref(),
            Some("a:2")
        );
    }

    #[test]
    fn where_nothing_ran_there_is_no_way_back() {
        let broken = pod("p2", "new", "a:2", "", false);
        assert_eq!(image_before(&before("a:2", 1, vec![set("new", "a:2")], vec![broken])), None);
        assert_eq!(image_before(&before("a:2", 0, vec![], vec![])).as_deref(), Some("a:2"));
    }

    #[test]
    fn a_tag_is_pinned_to_what_ran() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let id = format!("r.example/a@{digest}");
        assert_eq!(pinned("r.example/a:1", &[&id]).0, format!("r.example/a:1@{digest}"));
        assert_eq!(pinned("r.example/b:1", &[&id]).0, "r.example/b:1");
        assert_eq!(pinned("r.example/a:1", &[]).0, "r.example/a:1");
        assert_eq!(pinned(&id, &[&id]), (id.clone(), None));
    }
}
