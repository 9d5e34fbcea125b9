//! Admission webhooks that refuse pods, or that do not answer.

use super::shop::{Kind, Shop, digest, new, old, workload};
use crate::command::{run, succeed, unique};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    sync::Arc,
};

/// A webhook of the cluster's for the pods of one namespace, taken out at the end.
struct Webhook<'s> {
    shop: &'s Shop,
    name: String,
}

impl<'s> Webhook<'s> {
    fn at(shop: &'s Shop, port: u16, authority: &str) -> Self {
        use base64::Engine as _;
        let name = unique("webhook");
        let bundle = base64::engine::general_purpose::STANDARD.encode(authority);
        shop.apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "pods.bk-sync.test",
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": bundle},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"]}],
                "namespaceSelector":
                    {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}},
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 2,
            }],
        }));
        // An API server takes a moment to heed it.
        shop.until("the webhook", |shop| {
            let image = format!("--image={}", new());
            run(&mut shop.kubectl(&["run", "probe", &image, "--dry-run=server"])).code != 0
        });
        Self { shop, name }
    }
}

impl Drop for Webhook<'_> {
    fn drop(&mut self) {
        let delete = ["delete", "validatingwebhookconfiguration", &self.name];
        drop(self.shop.kubectl(&delete).stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}

/// A server that takes no pods of the second image. Its port and its certificate.
fn policy() -> (u16, String) {
    let pair = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = cert.self_signed(&pair).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let config = Arc::clone(&config);
            std::thread::spawn(move || drop(serve(stream, config)));
        }
    });
    (port, cert.pem())
}

/// Answers the reviews of one connection.
fn serve(stream: TcpStream, config: Arc<ServerConfig>) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let review: Value = serde_json::from_slice(&body).map_err(std::io::Error::other)?;
        let request = &review["request"];
        let refused = request["object"]["spec"].to_string().contains(&digest('b'));
        let answer = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": request["uid"], "allowed": !refused,
                "status": {"message": "that image is not signed"}},
        })
        .to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.get_mut().write_all(format!("{head}{answer}").as_bytes())?;
        stream.get_mut().flush()?;
    }
}

#[test]
fn pods_that_a_webhook_refuses_are_diagnosed_with_its_words() {
    let (port, certificate) = policy();
    for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
        let shop = Shop::with(&workload(kind));
        let webhook = Webhook::at(&shop, port, &certificate);
        let name = format!("{}/web", kind.word());
        let rolled = shop.rollout(&name, &new(), &["--timeout", "120s"]);
        rolled.ended(13, "ADMISSION_REFUSED");
        let web = rolled.workload();
        let evidence = web["diagnoses"][0]["evidence"].to_string();
        assert!(evidence.contains("that image is not signed"), "{web:#}");
        assert_eq!(web["rollback"]["outcome"], "verified", "{web:#}");
        shop.runs(&old(), 2);
        drop(webhook);
        shop.rollout(&name, &new(), &["--timeout", "120s"]).ended(0, "");
    }
}

#[test]
fn a_webhook_that_does_not_answer_is_named_and_waited_for() {
    let shop = Shop::with(&workload(Kind::Deployment));
    let (_, certificate) = policy();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = Webhook::at(&shop, closed, &certificate);
    let rolled = shop.rollout("deployment/web", &new(), &["--timeout", "12s"]);
    rolled.ended(13, "WEBHOOK_UNREACHABLE");
    assert_eq!(rolled.workload()["outcome"], "timed_out");
    shop.runs(&old(), 2);
    drop(webhook);
    succeed(&mut shop.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]));
}

#[test]
fn a_quota_that_leaves_no_room_for_what_was_taken_down_is_told_with_the_way_back() {
    // These take a pod down first; the quota then has no room for it, whatever its image.
    for kind in [Kind::StatefulSet, Kind::DaemonSet] {
        let shop = Shop::with(&workload(kind));
        let name = format!("{}/web", kind.word());
        shop.apply(
            &json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "one"},
            "spec": {"hard": {"pods": "1"}}}),
        );
        shop.until("the quota's count", |shop| {
            shop.get("resourcequota/one")["status"]["used"]["pods"] == "2"
        });
        let rolled = shop.rollout(&name, &new(), &["--timeout", "12s"]);
        rolled.ended(14, "QUOTA_EXCEEDED");
        assert_eq!(rolled.workload()["rollback"]["outcome"], "failed");
        assert_eq!(shop.image(&name), old());
    }
}
