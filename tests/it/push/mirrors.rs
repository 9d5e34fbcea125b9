//! What is read by its digest comes from a mirror first, and from the registry where no mirror helps.

use super::{
    image::layout,
    proxy::{Fault, Proxy},
    result,
};
use crate::bed;
use crate::command::{Stranger, unique};
use bk_sync::{
    credential::{Given, RegistryHost, Secret},
    registry::{Reach, Repository, Server, digest, token::TokenClient},
};
use futures::TryStreamExt as _;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[test]
fn mirrors_are_read_first_and_missed_by_nobody() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(rand::random::<u64>() >> 1, 300_000)]);
    let name = format!("push/{}", unique("mirrored"));
    for registry in [bed::registry(), bed::registry_second()] {
        result(stranger.bk_sync().args(["push", "image", &format!("{registry}/{name}:v1")]));
    }
    let is_ill = Arc::new(AtomicBool::new(false));
    let ill = is_ill.clone();
    let mirror = Proxy::start(bed::registry_second(), move |_| {
        ill.load(Ordering::Relaxed).then_some(Fault::Status(500, 0))
    });
    let registry = Proxy::start(bed::registry(), |_| None);
    let host = RegistryHost::new(&registry.address);
    let mut reach = Reach::default();
    // One that nobody listens at costs nothing but a try.
    let mirrors = vec!["127.0.0.1:1".to_owned(), mirror.address.clone()];
    reach.mirrors.insert(host.clone(), mirrors);
    let tokens = TokenClient::new("bk-sync/test");
    let nobody = Given::new(Vec::new(), "nobody", Secret::new("nothing"), "NOTHING");
    let server = Server::new(host, reach, Arc::new(nobody), &tokens, "bk-sync/test");
    let repository = Repository::new(server, name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (layer, size) = image.blobs.first().cloned().unwrap();
    let read = async || {
        let document = repository.manifest(&image.digest).await.unwrap().expect("the manifest");
        assert_eq!(document.digest, image.digest);
        let chunks = repository.read_blob(&layer, 0).await.unwrap();
        let chunks: Vec<_> = chunks.try_collect().await.unwrap();
        assert_eq!(digest(&chunks.concat()), layer);
        let rest = repository.read_blob(&layer, 100_000).await.unwrap();
        let rest: Vec<_> = rest.try_collect().await.unwrap();
        assert_eq!(rest.concat(), chunks.concat()[100_000..]);
        assert_eq!(chunks.concat().len() as u64, size);
    };
    runtime.block_on(async {
        read().await;
        assert_eq!(mirror.seen().len(), 3);
        assert!(registry.seen().iter().all(|one| one.path == "/v2/"), "{:?}", registry.seen());
        is_ill.store(true, Ordering::Relaxed);
        read().await;
        // A tag may be old in a mirror: it is asked of the registry alone.
        let before = mirror.seen().len();
        assert!(repository.manifest("v1").await.unwrap().is_some());
        assert_eq!(mirror.seen().len(), before);
    });
    let own: Vec<_> = registry.seen().into_iter().filter(|one| one.path != "/v2/").collect();
    assert_eq!(own.len(), 4, "{own:?}");
}
