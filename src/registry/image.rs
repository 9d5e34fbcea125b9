//! An image on its way to repositories: what it is made of, what of it is there already, and the
//! order in which the rest goes: blobs, then manifests from the innermost out, then tags.

use super::{
    error::{Kind, RegistryError},
    manifest::MAX_MANIFEST,
    places::Places,
    repository::Repository,
    retry::{Patience, RetryBudget, Verdict},
    source::{self, BlobSource, SourceError},
    transfer::{Outcome, Transfer},
};
use crate::{
    event::{Event, Events, PushAction, PushStatus, Warning},
    image::document::{Descriptor, Document},
};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Documents nest no deeper than this.
const MAX_DEPTH: usize = 4;
/// Indexes of a registry whose manifests are read to learn what is there.
const GLANCES: usize = 8;
/// Blobs that are looked after at a time; how many are sent at a time is the registry's matter.
const BLOBS_AT_ONCE: usize = 32;
/// Repositories that are tried for a mount, for each blob.
const CANDIDATES: usize = 3;

/// All that an image is made of.
#[derive(Clone, Debug)]
pub struct Graph {
    /// Manifests and indexes; what one names comes before it, and the image itself is the last.
    documents: Vec<Document>,
    /// Configs and layers, each once.
    blobs: Vec<Descriptor>,
}

impl Graph {
    /// Reads the documents of the image `root` out of `source`.
    ///
    /// # Errors
    /// One of them is not there, or is not what its digest says.
    pub async fn load(root: &Descriptor, source: &dyn BlobSource) -> Result<Self, SourceError> {
        let mut graph = Self { documents: Vec::new(), blobs: Vec::new() };
        let mut stack = vec![(root.clone(), 0, false)];
        let mut read: BTreeMap<String, Document> = BTreeMap::new();
        while let Some((descriptor, depth, opened)) = stack.pop() {
            if opened {
                if let Some(document) = read.get(&descriptor.digest)
                    && !graph.documents.iter().any(|known| known.digest == document.digest)
                {
                    graph.documents.push(document.clone());
                }
                continue;
            }
            if depth > MAX_DEPTH {
                return Err(SourceError::new("indexes within indexes without end"));
            }
            if read.contains_key(&descriptor.digest) {
                continue;
            }
            let document = document(&descriptor, source).await?;
            stack.push((descriptor, depth, true));
            for child in document.manifests().into_iter().rev() {
                if child.is_document() {
                    stack.push((child, depth + 1, false));
                }
            }
            for blob in document.blobs() {
                if !blob.is_foreign() && !graph.blobs.iter().any(|one| one.digest == blob.digest) {
                    graph.blobs.push(blob.clone());
                }
            }
            read.insert(document.digest.clone(), document);
        }
        Ok(graph)
    }

    /// The image itself.
    pub fn root(&self) -> Option<&Document> {
        self.documents.last()
    }

    /// Manifests and indexes, the innermost first.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Configs and layers, each once.
    pub fn blobs(&self) -> &[Descriptor] {
        &self.blobs
    }

    /// Bytes of all of it.
    pub fn size(&self) -> u64 {
        let documents =
            self.documents.iter().map(|one| u64::try_from(one.bytes.len()).unwrap_or(0));
        self.blobs.iter().map(|blob| blob.size).chain(documents).sum()
    }
}

/// Reads a manifest or index whole, and checks it.
async fn document(
    descriptor: &Descriptor,
    source: &dyn BlobSource,
) -> Result<Document, SourceError> {
    let digest = &descriptor.digest;
    let bytes = read_whole(source, digest, MAX_MANIFEST).await?;
    let found = source::digest(&bytes);
    if digest.starts_with("sha256:") && found != *digest {
        return Err(SourceError::new(format!("`{digest}` has the digest {found}")));
    }
    Document::read(&bytes, Some(&descriptor.media_type), digest)
        .ok_or_else(|| SourceError::new(format!("`{digest}` is neither a manifest nor an index")))
}

/// A small blob, whole.
///
/// # Errors
/// It cannot be read, or is larger than `limit`.
pub async fn read_whole(
    source: &dyn BlobSource,
    digest: &str,
    limit: usize,
) -> Result<Vec<u8>, SourceError> {
    let mut stream = source.open(digest, 0).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(SourceError::new(format!("`{digest}` is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A repository, and the tags that the image gets there; without one it is there by digest.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where.
    pub repository: Repository,
    /// Under which names.
    pub tags: Vec<String>,
}

/// A push of one image.
pub struct ImagePush<'a> {
    /// What is pushed.
    pub graph: &'a Graph,
    /// Where its blobs are read.
    pub source: &'a dyn BlobSource,
    /// What became already of blobs of the first target.
    pub delivered: &'a BTreeMap<String, Outcome>,
    /// Repositories that the image's base images come from, by registry.
    pub bases: &'a BTreeMap<String, Vec<String>>,
    /// Where blobs were seen before.
    pub places: &'a Mutex<Places>,
    /// What failures may cost.
    pub budget: RetryBudget,
    /// Who hears of the progress.
    pub events: &'a Events,
}

/// What became of the blobs of a push, in all its repositories together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Sent.
    pub uploaded: u64,
    /// Taken from another repository.
    pub mounted: u64,
    /// There before.
    pub existing: u64,
}

/// A push that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the push to {reference} failed: {error}")]
pub struct ImagePushError {
    /// The repository, with the first tag.
    pub reference: String,
    /// Why.
    pub error: RegistryError,
}

impl ImagePush<'_> {
    /// Brings the image to all of `targets`. Registries are served side by side, repositories of
    /// one registry one after another, so that the later ones take from the first.
    ///
    /// # Errors
    /// The first that failed for good; the others are given up then.
    pub async fn run(&self, targets: &[Target]) -> Result<Tally, ImagePushError> {
        let tally = Mutex::new(Tally::default());
        let mut hosts: BTreeMap<&str, Vec<(usize, &Target)>> = BTreeMap::new();
        for (at, target) in targets.iter().enumerate() {
            let host = target.repository.server().host().as_str();
            hosts.entry(host).or_default().push((at, target));
        }
        let none = BTreeMap::new();
        let each = hosts.into_values().map(async |targets| {
            for (at, target) in targets {
                let delivered = if at == 0 { self.delivered } else { &none };
                let done = self.to_one(target, delivered, &tally).await;
                done.map_err(|error| ImagePushError { reference: shown(target), error })?;
            }
            Ok(())
        });
        future::try_join_all(each).await?;
        let tally = *tally.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(tally)
    }

    async fn to_one(
        &self,
        target: &Target,
        delivered: &BTreeMap<String, Outcome>,
        tally: &Mutex<Tally>,
    ) -> Result<(), RegistryError> {
        let Some(root) = self.graph.root() else { return Ok(()) };
        let repository = &target.repository;
        // One look at what the tag names now tells of most blobs at once.
        let held = match target.tags.first() {
            Some(tag) => self.persist(repository, async || repository.manifest(tag).await).await?,
            None => {
                self.persist(repository, async || repository.manifest(&root.digest).await).await?
            }
        };
        let there = self.learn(repository, held.as_ref()).await?;
        let (done, rest): (Vec<_>, Vec<_>) =
            self.graph.blobs.iter().partition(|blob| delivered.contains_key(&blob.digest));
        for blob in done {
            delivered.get(&blob.digest).iter().for_each(|outcome| count(tally, **outcome, 1));
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|blob| there.blobs.contains(&blob.digest));
        for blob in &known {
            self.tell_existing(blob);
        }
        count(tally, Outcome::Existing, known.len());
        self.send(target, unknown, tally).await?;

        let mut doubt = !known.is_empty();
        for document in &self.graph.documents {
            let is_root = document.digest == root.digest;
            let references: Vec<&str> = match (is_root, target.tags.as_slice()) {
                (true, []) | (false, _) => vec![document.digest.as_str()],
                (true, tags) => tags.iter().map(String::as_str).collect(),
            };
            for (at, reference) in references.into_iter().enumerate() {
                let first_tag = is_root && at == 0;
                if first_tag && held.as_ref().is_some_and(|held| held.digest == root.digest)
                    || !is_root && there.documents.contains(&document.digest)
                {
                    continue;
                }
                // Where the first tag was right, the others are likely to be.
                if is_root
                    && held.as_ref().is_some_and(|held| held.digest == root.digest)
                    && self
                        .persist(repository, async || repository.manifest_digest(reference).await)
                        .await?
                        == Some(root.digest.clone())
                {
                    continue;
                }
                let put = async || repository.put_manifest(document, reference).await;
                match self.persist(repository, put).await {
                    Err(error) if matches!(error.kind, Kind::BlobMissing) && doubt => {
                        // A registry that has lost blobs under its own manifests.
                        doubt = false;
                        self.send(target, self.graph.blobs.iter().collect(), &Mutex::default())
                            .await?;
                        self.persist(repository, put).await?;
                    }
                    put => put?,
                }
            }
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for blob in &self.graph.blobs {
            places.note(repository.server().host().as_str(), &blob.digest, repository.name());
        }
        Ok(())
    }

    /// Sends those of `blobs` that the repository lacks.
    async fn send(
        &self,
        target: &Target,
        mut blobs: Vec<&Descriptor>,
        tally: &Mutex<Tally>,
    ) -> Result<(), RegistryError> {
        // The largest first, so that none is left for the end alone.
        blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        let repository = &target.repository;
        stream::iter(blobs)
            .map(Ok)
            .try_for_each_concurrent(BLOBS_AT_ONCE, async |blob| {
                let candidates = self.candidates(repository, &blob.digest);
                let transfer = Transfer {
                    repository,
                    source: self.source,
                    digest: &blob.digest,
                    size: blob.size,
                    candidates,
                    budget: self.budget,
                    events: self.events,
                };
                let outcome = transfer.run().await?;
                count(tally, outcome, 1);
                Ok(())
            })
            .await
    }

    /// Repositories of the same registry that may have a blob: those where it was seen, else those
    /// of the base images.
    fn candidates(&self, repository: &Repository, digest: &str) -> Vec<String> {
        let host = repository.server().host().as_str();
        let seen = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.candidates(host, digest, repository.name(), CANDIDATES)
        };
        if !seen.is_empty() {
            return seen;
        }
        let bases = self.bases.get(host).into_iter().flatten();
        bases.filter(|base| base.as_str() != repository.name()).take(CANDIDATES).cloned().collect()
    }

    /// What a repository has for certain, by the document that it holds under a tag: a registry
    /// takes no manifest whose blobs it lacks.
    async fn learn(
        &self,
        repository: &Repository,
        held: Option<&Document>,
    ) -> Result<There, RegistryError> {
        let mut there = There::default();
        let Some(held) = held else { return Ok(there) };
        let mut unread = Vec::new();
        let mut listed = vec![held.clone()];
        while let Some(document) = listed.pop() {
            there.blobs.extend(document.blobs().map(|blob| blob.digest.clone()));
            there.documents.insert(document.digest.clone());
            for child in document.manifests() {
                match self.graph.documents.iter().find(|ours| ours.digest == child.digest) {
                    Some(ours) => listed.push(ours.clone()),
                    None if child.is_document() => unread.push(child.digest),
                    None => {}
                }
            }
        }
        // Others are asked for only if they can tell more than a question for each blob.
        let unknown = self.graph.blobs.iter().filter(|blob| !there.blobs.contains(&blob.digest));
        if unread.len() <= GLANCES && unknown.count() > unread.len() {
            let read = stream::iter(unread)
                .map(async |digest| {
                    self.persist(repository, async || repository.manifest(&digest).await).await
                })
                .buffer_unordered(GLANCES)
                .try_collect::<Vec<_>>()
                .await?;
            for document in read.into_iter().flatten() {
                there.blobs.extend(document.blobs().map(|blob| blob.digest.clone()));
            }
        }
        Ok(there)
    }

    /// Does a small request, again and again where that may help.
    async fn persist<T>(
        &self,
        repository: &Repository,
        request: impl AsyncFn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut patience = Patience::new(self.budget);
        let began = Instant::now();
        loop {
            let error = match request().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let renewed = matches!(error.kind, Kind::Unauthorized) && patience.failures() < 2;
            if !(error.is_transient() || renewed || error.is_away())
                || error.is_away() && patience.is_in_vain(repository.server().has_served())
            {
                return Err(error);
            }
            let chance = rand::random::<f64>();
            match patience.failed(began.elapsed(), error.retry_after, chance) {
                Verdict::GiveUp => return Err(error),
                Verdict::Again { pause, left } => {
                    self.events.emit(Event::Warning(Warning {
                        code: "PUSH_RETRY",
                        message: format!(
                            "{}; trying again in {:.1} s, with {} s of the retry budget left",
                            error.cause(),
                            pause.as_secs_f64(),
                            left.as_secs(),
                        ),
                        hint: None,
                    }));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn tell_existing(&self, blob: &Descriptor) {
        self.events.emit(Event::Push(PushStatus {
            id: blob.digest.clone(),
            action: PushAction::Existing,
            current: blob.size,
            total: Some(blob.size),
        }));
    }
}

#[derive(Default)]
struct There {
    blobs: BTreeSet<String>,
    documents: BTreeSet<String>,
}

fn count(tally: &Mutex<Tally>, outcome: Outcome, number: usize) {
    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    match outcome {
        Outcome::Existing => tally.existing += number,
        Outcome::Mounted => tally.mounted += number,
        Outcome::Uploaded => tally.uploaded += number,
    }
}

fn shown(target: &Target) -> String {
    match target.tags.first() {
        Some(tag) => format!("{}:{tag}", target.repository),
        None => target.repository.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Graph;
    use crate::{
        image::document::Descriptor,
        registry::source::{BlobSource, ByteStream, SourceError, digest, whole},
    };
    use bytes::Bytes;
    use futures::future::BoxFuture;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Held(BTreeMap<String, Bytes>);

    impl Held {
        fn add(&mut self, text: &str) -> Descriptor {
            let name = digest(text.as_bytes());
            self.0.insert(name.clone(), Bytes::copy_from_slice(text.as_bytes()));
            let size = u64::try_from(text.len()).unwrap();
            Descriptor { digest: name, size, ..Descriptor::default() }
        }
    }

    impl BlobSource for Held {
        fn open<'a>(
            &'a self,
            digest: &'a str,
            offset: u64,
        ) -> BoxFuture<'a, Result<ByteStream, SourceError>> {
            let found = self.0.get(digest).cloned();
            Box::pin(async move {
                found.map(|bytes| whole(&bytes, offset)).ok_or_else(|| SourceError::new("no blob"))
            })
        }
    }

    fn manifest(config: &str, layer: &str) -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "config":{{"digest":"{config}","size":1}},"layers":[{{"digest":"{layer}","size":2}}]}}"#
        )
    }

    #[tokio::test]
    async fn children_come_before_parents_and_blobs_once() {
        let mut held = Held::default();
        let one = held.add(&manifest("sha256:c1", "sha256:shared"));
        let two = held.add(&manifest("sha256:c2", "sha256:shared"));
        let entry = |of: &Descriptor| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}"}}"#,
                of.digest
            )
        };
        let index = held.add(&format!(r#"{{"manifests":[{},{}]}}"#, entry(&one), entry(&two)));
        let graph = Graph::load(&index, &held).await.unwrap();
        let order: Vec<_> = graph.documents().iter().map(|one| one.digest.clone()).collect();
        assert_eq!(order, [one.digest, two.digest, index.digest]);
        let blobs: Vec<_> = graph.blobs().iter().map(|blob| blob.digest.as_str()).collect();
        assert_eq!(blobs, ["sha256:c1", "sha256:shared", "sha256:c2"]);
    }

    #[tokio::test]
    async fn a_document_that_is_not_what_it_is_called_is_refused() {
        let mut held = Held::default();
        let one = held.add(&manifest("sha256:c1", "sha256:l"));
        let other = digest(b"other");
        let bytes = held.0.remove(&one.digest).unwrap();
        held.0.insert(other.clone(), bytes);
        let wrong = Descriptor { digest: other, ..Descriptor::default() };
        let error = Graph::load(&wrong, &held).await.unwrap_err();
        assert!(error.to_string().contains("has the digest"), "{error}");
    }
}
