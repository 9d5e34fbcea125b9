//! Registries behind TLS: HTTP/2, an authority of one's own, one that nobody vouches for, and the token
//! server beside them.

use super::{
    image::{Reader, layout},
    json,
    proxy::Proxy,
    result,
};
use crate::bed;
use crate::command::{Stranger, run, unique};
use http::Version;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde_json::Value;
use std::sync::Arc;

/// An authority, and a server's certificate from it for this machine.
struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["0.0.0.0".to_owned()];
    let certificate =
        CertificateParams::new(names.to_vec()).unwrap().signed_by(&key, &issuer).unwrap();
    Authority { pem: issuer.pem(), certificate: certificate.into(), key: key.serialize_der() }
}

impl Authority {
    fn server(&self, protocols: &[&[u8]]) -> ServerConfig {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }
}

/// An address of this machine that is no loopback address, where nobody is believed without reason.
fn named(proxy: &Proxy) -> String {
    proxy.address.replace("127.0.0.1", "0.0.0.0")
}

#[test]
fn an_own_authority_is_believed_where_it_is_named_and_http2_is_spoken() {
    let authority = authority();
    for (registry, protocols, version) in [
        (bed::registry(), &[b"h2".as_slice(), b"http/1.1"][..], Version::HTTP_2),
        (bed::registry_second(), &[b"h2".as_slice(), b"http/1.1"][..], Version::HTTP_2),
        (bed::registry_second(), &[b"http/1.1".as_slice()][..], Version::HTTP_11),
    ] {
        let stranger = Stranger::new();
        let seed = rand::random::<u64>() >> 1;
        let image = layout(&stranger.join("image"), &[(seed, 9 << 20), (seed + 1, 1000)]);
        std::fs::write(stranger.join("ca.pem"), &authority.pem).unwrap();
        let proxy = Proxy::encrypted(registry, authority.server(protocols), |_| None);
        let name = unique("tls");
        let reference = format!("{}/push/{name}:v1", named(&proxy));
        let push = || {
            let mut command = stranger.bk_sync();
            command.args(["push", "image", &reference]);
            command
        };
        let pushed = result(push().env("BK_SYNC_REGISTRY_CA", stranger.join("ca.pem")));
        assert_eq!(pushed["push"]["blobs"]["uploaded"], 3, "{pushed}");
        Reader::new(registry).holds(&format!("push/{name}"), "v1", &image);
        let seen = proxy.seen();
        assert!(seen.iter().all(|one| one.version == version), "{seen:?}");
        assert_eq!(pushed["push"]["requests"], seen.len(), "{seen:?}");
    }
}

#[test]
fn who_is_not_vouched_for_is_refused_unless_that_is_wanted() {
    let (authority, other) = (authority(), authority());
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(rand::random::<u64>() >> 1, 1000)]);
    std::fs::write(stranger.join("other.pem"), &other.pem).unwrap();
    let proxy = Proxy::encrypted(bed::registry_second(), authority.server(&[b"h2"]), |_| None);
    let name = unique("untrusted");
    let reference = format!("{}/push/{name}:v1", named(&proxy));
    let push = || {
        let mut command = stranger.bk_sync();
        command.args(["push", "image", &reference]);
        command
    };
    let refused = |envelope: &Value| {
        assert_eq!(envelope["error"]["code"], "PUSH_UNTRUSTED", "{envelope}");
        let fix = envelope["fix"].as_str().unwrap();
        assert!(fix.contains("BK_SYNC_REGISTRY_CA") && fix.contains("ca.crt"), "{envelope}");
    };
    let (mut without, mut with_other) = (push(), push());
    with_other.env("BK_SYNC_REGISTRY_CA", stranger.join("other.pem"));
    for command in [&mut without, &mut with_other] {
        let said = run(command.args(["--format", "json"]));
        assert_eq!(said.code, 12, "{}", said.stdout);
        refused(&json(&said));
    }
    assert!(proxy.seen().is_empty(), "nothing was said to it: {:?}", proxy.seen());

    // A build learns it before any step runs.
    std::fs::create_dir(stranger.join("context")).unwrap();
    std::fs::write(stranger.join("context/Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n")
        .unwrap();
    let said = run(stranger
        .bk_sync()
        .args(["build", "--builder", bed::buildkitd(), "--push"])
        .args(["--push-via", "client", "-t", &reference, "context", "--format", "json"]));
    assert_eq!(said.code, 17, "{}\n{}", said.stdout, said.stderr);
    refused(&json(&said));

    let pushed = result(push().env("BK_SYNC_REGISTRY_INSECURE", named(&proxy)));
    assert_eq!(pushed["image"]["digest"], image.digest.as_str());
    Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
}
