//! A Dockerfile that `--file` names by a URL. It is fetched here, so that its lines can be shown
//! where they are wrong, and so that it may lie where only this machine gets.

use super::error::{Error, Refusal};
use bytes::{Bytes, BytesMut};
use std::time::Duration;
use url::{Host, Url};

/// How long a server may take for a Dockerfile.
const LIMIT: Duration = Duration::from_mins(1);

/// How long it may take to be reached.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Whether `--file` names something on the web.
pub(super) fn is_url(file: &str) -> bool {
    file.starts_with("http://") || file.starts_with("https://")
}

/// The text behind `address`, of at most `limit` bytes.
///
/// # Errors
/// It cannot be had, or is larger.
pub(super) async fn fetch(address: &str, limit: usize) -> Result<Bytes, Error> {
    let refused = |problem: &str| {
        Error::from(
            Refusal::new(
                "DOCKERFILE_NOT_FETCHED",
                format!("cannot fetch `{}`: {problem}", shown(address)),
            )
            .with_fix("see whether the URL answers, or name a file with --file"),
        )
    };
    let url = Url::parse(address).map_err(|error| refused(&error.to_string()))?;
    let mut client = reqwest::Client::builder()
        .user_agent(concat!("bk-sync/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
        .timeout(LIMIT);
    if is_loopback(&url) {
        client = client.no_proxy();
    }
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let mut deepest: &dyn std::error::Error = &error;
        while let Some(cause) = deepest.source() {
            deepest = cause;
        }
        refused(&deepest.to_string())
    };
    let client = client.build().map_err(failed)?;
    let mut response = client.get(url).send().await.map_err(failed)?;
    if !response.status().is_success() {
        return Err(refused(&format!("the server answers {}", response.status())));
    }
    let mut text = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if text.len().saturating_add(chunk.len()) > limit {
            return Err(refused("it is too large for a Dockerfile"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text.freeze())
}

/// A URL as it may be shown: what stands before the host may be a password.
fn shown(address: &str) -> String {
    match Url::parse(address) {
        Ok(mut url) => {
            // Only a URL that has no host refuses, and that has no password either.
            let _: Result<(), ()> = url.set_password(None).and_then(|()| url.set_username(""));
            url.set_query(None);
            url.to_string()
        }
        Err(_) => "the URL".to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// Fetches from a server that gives `answer`.
    async fn fetched(answer: &'static str, limit: usize) -> Result<Bytes, String> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://me:hidden@{}/F", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = [0; 2048];
            let _read = stream.read(&mut head).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("an answer");
        });
        let text = fetch(&address, limit).await.map_err(|error| error.to_string());
        server.await.expect("the server ends");
        text
    }

    #[tokio::test]
    async fn a_dockerfile_comes_whole_or_not_at_all() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nFROM a";
        assert_eq!(fetched(answer, 100).await.as_deref(), Ok(&b"FROM a"[..]));
        let error = fetched(answer, 5).await.unwrap_err();
        assert!(error.contains("too large") && !error.contains("hidden"), "{error}");
        let none = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let error = fetched(none, 100).await.unwrap_err();
        assert!(error.contains("404") && !error.contains("hidden"), "{error}");
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 60\r\nconnection: close\r\n\r\nFROM a";
        assert!(fetched(cut, 100).await.is_err());
    }
}
