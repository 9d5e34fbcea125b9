//! Registries behind TLS: HTTP/2, an authority of one's own, one that nobody vouches for, and the token
//! server beside them.

use super::{
    image::{Reader, layout},
    json,
    proxy::{Fault, Proxy},
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
    // The config file says the same for good.
    for (key, code) in [("insecure = true", 0), ("ca = \"other.pem\"", 12)] {
        let section = format!("[registry.{:?}]\n{key}\n", named(&proxy));
        std::fs::write(stranger.join("bk-sync.toml"), section).unwrap();
        let said = run(push().args(["--format", "json"]));
        assert_eq!(said.code, code, "{key}: {}\n{}", said.stdout, said.stderr);
    }
    Reader::new(bed::registry_second()).holds(&format!("push/{name}"), "v1", &image);
}

/// Both the registry and its token server have a certificate of an authority of their own, and the
/// config file names it.
#[test]
fn the_token_server_beside_it_is_believed_too() {
    let authority = authority();
    let stranger = Stranger::new();
    let image = layout(&stranger.join("image"), &[(rand::random::<u64>() >> 1, 100_000)]);
    std::fs::write(stranger.join("ca.pem"), &authority.pem).unwrap();
    let realm = realm(bed::registry_token());
    let tokens = Proxy::encrypted(
        realm.authority().unwrap().as_str(),
        authority.server(&[b"h2", b"http/1.1"]),
        |_| None,
    );
    let challenge = format!(
        "Bearer realm=\"https://{}{}\",service=\"bk-sync-testbed\"",
        named(&tokens),
        realm.path()
    );
    let proxy = Proxy::encrypted(bed::registry_token(), authority.server(&[b"h2"]), move |_| {
        Some(Fault::Header("www-authenticate", challenge.clone()))
    });
    let name = unique("token-tls");
    let (user, password) = bed::user();
    let push = || {
        let mut command = stranger.bk_sync();
        command.args(["push", "image", &format!("{}/push/{name}:v1", named(&proxy))]);
        command.env("BK_SYNC_REGISTRY_USERNAME", user).env("BK_SYNC_REGISTRY_PASSWORD", password);
        command
    };
    let said = run(push().args(["--format", "json"]));
    assert_eq!(json(&said)["error"]["code"], "PUSH_UNTRUSTED", "{}", said.stdout);
    assert!(tokens.seen().is_empty(), "the password went to nobody: {:?}", tokens.seen());

    let section = format!("[registry.{:?}]\nca = \"ca.pem\"\n", named(&proxy));
    std::fs::write(stranger.join("bk-sync.toml"), section).unwrap();
    let pushed = result(&mut push());
    assert_eq!(pushed["image"]["digest"], image.digest.as_str());
    let asked = tokens.seen();
    assert!(asked.iter().any(|one| one.authorized && one.status == Some(200)), "{asked:?}");
}

/// Where a registry sends for tokens, by its own challenge.
fn realm(registry: &str) -> http::Uri {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(registry).unwrap();
    write!(stream, "GET /v2/ HTTP/1.0\r\nHost: {registry}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let realm = answer.split_once("realm=\"").expect("a challenge").1;
    realm.split_once('"').unwrap().0.parse().unwrap()
}
