//! Sockets that are no builders, and TLS that does not fit: each must be told apart from the others
//! and come with the way out.

use crate::bed;
use bk_sync::{
    buildkit::{
        address::Address,
        dial::{Answered, Cause, ConnectError, Options, connect},
        discover::{Inputs, Miss, Outcome, Source, Tried, discover},
    },
    engine,
    transport::{OpenError, TlsError, tls},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring::default_provider,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

async fn miss_with(address: &str, options: &Options) -> ConnectError {
    let address: Address = address.parse().unwrap();
    match connect(&address, options).await {
        Ok(_) => panic!("{address} is a builder"),
        Err(error) => error,
    }
}

async fn miss(address: &str) -> ConnectError {
    miss_with(address, &Options::default()).await
}

/// A TCP server that does `serve` with each connection, and its address as a builder.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

#[tokio::test]
async fn no_socket_at_all() {
    let error = miss("unix:///no/such/buildkitd.sock").await;
    assert_eq!(
        error.to_string(),
        "the builder `unix:///no/such/buildkitd.sock` cannot be reached: there is no socket \
         `/no/such/buildkitd.sock`"
    );
    assert!(error.fix().unwrap().contains("`--builder`"));
    let error = miss("docker:///no/such/docker.sock").await;
    assert!(error.to_string().ends_with("there is no socket `/no/such/docker.sock`"), "{error}");
}

#[tokio::test]
async fn a_socket_whose_daemon_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.sock");
    drop(UnixListener::bind(&path).unwrap());
    let error = miss(&format!("unix://{}", path.display())).await;
    assert!(matches!(*error.cause, Cause::Open(OpenError::Refused { .. })), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = miss(&format!("tcp://{free}")).await;
    assert!(error.to_string().ends_with(&format!("nobody listens at `{free}`")), "{error}");
}

#[tokio::test]
async fn a_host_that_does_not_exist() {
    let error = miss("tcp://no-such-host.invalid:1234").await;
    assert!(matches!(*error.cause, Cause::Open(OpenError::Resolve { .. })), "{error}");
}

#[tokio::test]
async fn a_daemon_that_says_nothing() {
    let silent = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let began = Instant::now();
    let error = miss_with(&silent, &options).await;
    assert!(
        error.to_string().ends_with("it accepted the connection and said nothing within 0.3 s"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(30));

    let docker = silent.replace("tcp://", "docker://");
    let error = miss_with(&docker, &options).await;
    assert!(matches!(*error.cause, Cause::Silent { .. }), "{error}");
}

#[tokio::test]
async fn a_daemon_that_hangs_up() {
    let rude = server(|stream| async move { drop(stream) }).await;
    let error = miss(&rude).await;
    assert!(matches!(*error.cause, Cause::Closed), "{error}");
}

#[tokio::test]
async fn a_web_server() {
    let error = miss(&format!("tcp://{}", bed::registry())).await;
    assert!(
        error.to_string().contains("is an HTTP server, but no Docker Engine (`/_ping`: 404"),
        "{error}"
    );
    let error = miss(&format!("docker://{}", bed::registry())).await;
    assert!(error.to_string().contains("is an HTTP server, but no Docker Engine"), "{error}");
}

#[tokio::test]
async fn an_ssh_server() {
    let (_, place) = bed::ssh().rsplit_once('@').unwrap();
    let error = miss(&format!("tcp://{place}")).await;
    assert!(matches!(*error.cause, Cause::Other { answered: Answered::Ssh }), "{error}");
    assert!(error.fix().unwrap().contains("`ssh://user@host`"));
}

#[tokio::test]
async fn noise() {
    let noisy = server(|mut stream| async move {
        let mut head = [0; 24];
        let _read = stream.read_exact(&mut head).await;
        let _written = stream.write_all(b"* OK IMAP4 ready\r\n").await;
        let _read = stream.read(&mut head).await;
    })
    .await;
    let error = miss(&noisy).await;
    assert!(error.to_string().contains("* OK IMAP4 ready"), "{error}");
}

#[tokio::test]
async fn an_engine_that_is_too_old_and_podman() {
    for (extra, named, fix) in [
        (
            "Server: Docker/17.09 (linux)\r\n",
            "the Docker Engine `Docker/17.09 (linux)`",
            "use Docker 18.09",
        ),
        ("Libpod-Api-Version: 5.4.2\r\n", "Podman", "`podman-container://NAME`"),
    ] {
        let old = server(move |mut stream| async move {
            let mut head = vec![0; 4096];
            let count = stream.read(&mut head).await.unwrap_or(0);
            let (status, body) = if head[..count].starts_with(b"GET /_ping") {
                ("200 OK", "OK")
            } else {
                ("404 Not Found", "{\"message\":\"page not found\"}")
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nApi-Version: 1.30\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _written = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        for address in [old.clone(), old.replace("tcp://", "docker://")] {
            let error = miss(&address).await;
            let wanted = format!("{named} there has no BuildKit that can be reached from outside");
            assert!(error.to_string().contains(&wanted), "{error}");
            assert!(error.to_string().contains("page not found, status 404"), "{error}");
            assert!(error.fix().unwrap().contains(fix));
        }
    }
}

#[tokio::test]
async fn an_engine_whose_answers_never_end() {
    let endless = server(|mut stream| async move {
        let mut head = vec![0; 4096];
        let count = stream.read(&mut head).await.unwrap_or(0);
        if head[..count].starts_with(b"GET /_ping") {
            let _written = stream
                .write_all(b"HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 2\r\n\r\nOK")
                .await;
            return;
        }
        let _written = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        while stream.write_all(&[b'['; 8192]).await.is_ok() {}
    })
    .await;
    let endpoint = endless.parse().unwrap();
    let engine = engine::Client::new(endpoint, &tls::Files::default()).unwrap();
    let error = engine.info().await.unwrap_err();
    assert!(matches!(error, engine::Error::AnswerTooLong { .. }), "{error}");
}

/// The bed's material for TLS.
fn bed_tls() -> tls::Files {
    let [ca, cert, key] = bed::buildkitd_tls_files().map(|path| Some(path.to_owned()));
    tls::Files { ca, cert, key, server_name: None }
}

async fn tls_miss(address: &str, files: tls::Files) -> (TlsError, String) {
    let error = miss_with(address, &Options { tls: files, ..Options::default() }).await;
    let fix = error.fix().unwrap_or_default();
    match *error.cause {
        Cause::Open(OpenError::Tls(tls)) => (tls, fix),
        cause => panic!("{cause:?}"),
    }
}

/// An authority of our own, and a certificate for `names` that it signed.
struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    fn new(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        std::fs::write(folder.path().join("cert.pem"), cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[tokio::test]
async fn tls_that_does_not_fit() {
    let builder = bed::buildkitd_tls();
    let stranger = Pki::new(&["stranger"]);

    // In the clear.
    let error = miss(builder).await;
    assert!(matches!(*error.cause, Cause::Other { answered: Answered::Tls }), "{error}");
    assert!(error.fix().unwrap().contains("`--tlscacert`"));

    let without_certificate = tls::Files { cert: None, key: None, ..bed_tls() };
    let (error, fix) = tls_miss(builder, without_certificate).await;
    assert!(matches!(error, TlsError::Refused { .. }), "{error}");
    assert!(fix.contains("`--tlscert`"));

    let strangers = tls::Files {
        cert: Some(stranger.path("cert.pem")),
        key: Some(stranger.path("key.pem")),
        ..bed_tls()
    };
    let (error, _) = tls_miss(builder, strangers).await;
    assert!(matches!(error, TlsError::Refused { .. }), "{error}");

    let other_authority = tls::Files { ca: Some(stranger.path("ca.pem")), ..bed_tls() };
    let (error, fix) = tls_miss(builder, other_authority).await;
    assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");
    assert!(fix.contains("`--tlscacert`"));

    // The system's authorities have not signed it either.
    let (error, _) = tls_miss(builder, tls::Files { ca: None, ..bed_tls() }).await;
    assert!(matches!(error, TlsError::Untrusted { .. }), "{error}");

    let misnamed = tls::Files { server_name: Some("elsewhere".to_owned()), ..bed_tls() };
    let (error, fix) = tls_miss(builder, misnamed).await;
    assert!(matches!(&error, TlsError::WrongName { name, .. } if name == "elsewhere"), "{error}");
    assert!(fix.contains("`--tlsservername`"));

    let mixed = tls::Files { key: Some(stranger.path("key.pem")), ..bed_tls() };
    let (error, _) = tls_miss(builder, mixed).await;
    assert!(matches!(error, TlsError::Identity { .. }), "{error}");

    let registry = format!("tcp://{}", bed::registry());
    let (error, _) = tls_miss(&registry, bed_tls()).await;
    assert!(matches!(error, TlsError::NotTls { .. }), "{error}");
}

/// The bed's Docker behind TLS, as it is set up for remote use: it asks for a certificate.
async fn docker_with_tls(pki: &Pki) -> String {
    let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_file_iter(pki.path(name)).unwrap().map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificates("ca.pem").remove(0)).unwrap();
    let provider = Arc::new(default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            certificates("cert.pem"),
            PrivateKeyDer::from_pem_file(pki.path("key.pem")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let socket = bed::dockerd_host().strip_prefix("unix://").unwrap();
    server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut docker = UnixStream::connect(socket).await.unwrap();
                let _copied = copy_bidirectional(&mut stream, &mut docker).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn docker_over_tls() {
    let pki = Pki::new(&["127.0.0.1"]);
    let address = docker_with_tls(&pki).await;
    let files = tls::Files {
        ca: Some(pki.path("ca.pem")),
        cert: Some(pki.path("cert.pem")),
        key: Some(pki.path("key.pem")),
        server_name: None,
    };
    let options = Options { tls: files.clone(), ..Options::default() };
    // By its scheme, and found out by its answer.
    for address in [address.replace("tcp://", "docker://"), address.clone()] {
        let connection = connect(&address.parse().unwrap(), &options).await.unwrap();
        let info = connection.engine.as_ref().unwrap().info().await.unwrap();
        assert!(info.containerd_store);
    }
    // As `DOCKER_HOST` with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`.
    let inputs = Inputs {
        docker: engine::Settings {
            host: Some(address.clone()),
            tls_verify: true,
            cert_path: Some(pki.path("")),
            ..engine::Settings::default()
        },
        ..Inputs::default()
    };
    let found = discover(&inputs, &Options::default()).await.unwrap();
    assert_eq!(found.source, Source::Environment("DOCKER_HOST"));
    assert!(found.connection.engine.is_some());

    let without = tls::Files { cert: None, key: None, ..files };
    let error = miss_with(
        &address.replace("tcp://", "docker://"),
        &Options { tls: without, ..Options::default() },
    )
    .await;
    assert!(error.to_string().contains("refused us in the TLS handshake"), "{error}");
}

#[tokio::test]
async fn who_was_named_is_the_only_one_tried() {
    let inputs = Inputs {
        bk_sync_builder: Some("unix:///no/such.sock".to_owned()),
        buildkit_host: Some(bed::buildkitd().to_owned()),
        ..Inputs::default()
    };
    let miss = discover(&inputs, &Options::default()).await.unwrap_err();
    assert_eq!(
        miss.to_string(),
        "the builder `unix:///no/such.sock` cannot be reached: there is no socket `/no/such.sock` \
         (named by `BK_SYNC_BUILDER`)"
    );
    assert!(!miss.is_misnamed());

    let found = discover(&Inputs { bk_sync_builder: None, ..inputs }, &Options::default()).await;
    assert_eq!(found.unwrap().source, Source::Environment("BUILDKIT_HOST"));

    let inputs = Inputs { flag: Some("buildkitd".to_owned()), ..Inputs::default() };
    let miss = discover(&inputs, &Options::default()).await.unwrap_err();
    assert!(miss.is_misnamed());
    assert!(miss.fix().starts_with("write `unix:///path`"), "{}", miss.fix());
}

#[tokio::test]
async fn the_current_docker_context_is_found() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".docker");
    std::fs::create_dir(&config).unwrap();
    let docker = |words: &[&str]| {
        let status = std::process::Command::new(bed::program("docker"))
            .args(words)
            .env("DOCKER_CONFIG", &config)
            .env_remove("DOCKER_HOST")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    };
    docker(&["context", "create", "bed", "--docker", &format!("host={}", bed::dockerd_host())]);
    docker(&["context", "use", "bed"]);
    let inputs = Inputs {
        docker: engine::Settings { config_dir: Some(config), ..engine::Settings::default() },
        home: Some(home.path().to_owned()),
        ..Inputs::default()
    };
    let found = discover(&inputs, &Options::default()).await.unwrap();
    assert_eq!(found.source, Source::CurrentContext);
    assert!(found.connection.engine.unwrap().info().await.unwrap().containerd_store);
}

#[tokio::test]
async fn a_miss_lists_what_was_tried() {
    let tried = |source, path: &'static str| async move {
        let address = format!("unix://{path}");
        Tried { source, outcome: Outcome::NoAnswer(miss(&address).await) }
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.sock");
    drop(UnixListener::bind(&path).unwrap());
    let path: &'static str = path.display().to_string().leak();
    let all = Miss {
        tried: vec![
            tried(Source::Usual("Docker"), "/no/docker.sock").await,
            tried(Source::Usual("buildkitd"), path).await,
        ],
    };
    assert_eq!(
        all.to_string(),
        format!(
            "no builder was found; tried:\n  the usual place of Docker: nothing at \
             `unix:///no/docker.sock`\n  the usual place of buildkitd: the builder `unix://{path}` \
             cannot be reached: nobody listens at `{path}`"
        )
    );
    // The socket that is there is the one to mend.
    assert!(all.fix().starts_with("start the daemon that should listen there"), "{}", all.fix());
    assert!(Path::new(path).exists());
    let nothing = Miss { tried: vec![tried(Source::Usual("Docker"), "/no/docker.sock").await] };
    assert!(nothing.fix().contains("--builder ssh://user@host"), "{}", nothing.fix());
}
