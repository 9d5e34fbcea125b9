//! Images in an Engine's store: look at one, name it, load it, push it.

use super::{Client, Error, client, exec::json, messages};
use crate::{
    credential::Secret,
    image::{
        json::nullable,
        reference::{Reference, check_digest},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use bytes::Bytes;
use futures::Stream;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde::{Deserialize, Serialize};
use std::io;
use tokio_stream::StreamExt as _;
use zeroize::Zeroizing;

/// Who pushes.
#[derive(Clone, Debug, Default)]
pub struct RegistryLogin {
    /// The user's name.
    pub username: String,
    /// The password or token.
    pub password: Secret,
    /// A token that stands for both, where there is one.
    pub identity_token: Option<Secret>,
}

/// How a push goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PushProgress {
    /// The layer, by the short id that the Engine gives it; none for what is said of the whole.
    pub layer: Option<String>,
    /// What happens to it: `Pushing`, `Pushed`, `Layer already exists`, `Mounted from …`.
    pub status: String,
    /// Bytes done.
    pub current: Option<u64>,
    /// Bytes to do.
    pub total: Option<u64>,
}

/// What was pushed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct PushedImage {
    /// The tag.
    #[serde(default)]
    pub tag: String,
    /// The digest of the manifest.
    pub digest: String,
    /// The size of the manifest, in bytes.
    #[serde(default)]
    pub size: u64,
}

/// What an Engine knows of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "PascalCase")]
pub struct InspectedImage {
    /// Its id: the digest of the config, or of the manifest in a containerd store.
    pub id: String,
    /// Its names with tags.
    #[serde(default, deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// Its names with digests.
    #[serde(default, deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// Its processor architecture, as Go names it.
    #[serde(default)]
    pub architecture: String,
    /// Its operating system, as Go names it.
    #[serde(default)]
    pub os: String,
    /// Its size, in bytes.
    #[serde(default)]
    pub size: u64,
}

#[derive(Serialize)]
struct AuthHeader<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(rename = "identitytoken", skip_serializing_if = "str::is_empty")]
    identity_token: &'a str,
    #[serde(rename = "serveraddress")]
    server: &'a str,
}

impl Client {
    /// What the Engine knows of the image `name` (a reference or an id).
    ///
    /// # Errors
    /// There is none, or the Engine cannot be reached.
    pub async fn inspect_image(&self, name: &str) -> Result<InspectedImage, Error> {
        self.get(&format!("/images/{}/json", in_path(name))).await
    }

    /// Gives the image `source` (a reference or an id) the name `target` too.
    ///
    /// # Errors
    /// There is no such image, or the Engine cannot be reached.
    pub async fn tag_image(&self, source: &str, target: &Reference) -> Result<(), Error> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("repo", &target.name()).append_pair("tag", tag_of(target));
        let path = format!("/images/{}/tag?{}", in_path(source), query.finish());
        self.versioned(Method::POST, &path, &[], client::empty()).await?;
        Ok(())
    }

    /// Removes the name `name` from the Engine's store, and the image where it was the last one.
    ///
    /// # Errors
    /// There is no such image, it is in use, or the Engine cannot be reached.
    pub async fn remove_image(&self, name: &Reference) -> Result<(), Error> {
        let path = format!("/images/{}", in_path(&name.to_string()));
        self.versioned(Method::DELETE, &path, &[], client::empty()).await?;
        Ok(())
    }

    /// Whether the registry of `target` takes `login`, as the Engine sees it. A push with a wrong
    /// password is tried again and again for most of a minute; this is refused at once.
    ///
    /// # Errors
    /// The registry or the Engine cannot be reached, or the answer is neither yes nor no.
    pub async fn accepts_login(
        &self,
        target: &Reference,
        login: &RegistryLogin,
    ) -> Result<bool, Error> {
        let path = "/auth";
        let json = auth_json(path, login, target.domain())?;
        let headers = [("content-type", "application/json")];
        let body = client::full(json.to_vec());
        match self.versioned(Method::POST, path, &headers, body).await {
            Ok(_) => Ok(true),
            Err(Error::Refused { status: 401, .. }) => Ok(false),
            // Of registries with Basic authentication it passes the refusal on in words alone.
            Err(Error::Refused { message, .. }) if message.contains("401 Unauthorized") => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Has the Engine push the image that it holds under the name and tag of `target`, and answers
    /// with what the registry then has. Dropping the future ends the push.
    ///
    /// # Errors
    /// There is no such image, the registry refuses, or a connection breaks.
    pub async fn push_image(
        &self,
        target: &Reference,
        login: Option<&RegistryLogin>,
        mut each: impl FnMut(PushProgress),
    ) -> Result<PushedImage, Error> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("tag", tag_of(target));
        let path = format!("/images/{}/push?{}", in_path(&target.name()), query.finish());
        let auth = auth_header(&path, login, target.domain())?;
        let prefixed = format!("{}{path}", self.prefix().await?);
        let headers = [(client::AUTH_HEADER, auth.as_str())];
        let response =
            self.send_unhurried(Method::POST, &prefixed, &headers, client::empty()).await?;
        let response = client::check(&path, response).await?;
        let mut pushed: Option<PushedImage> = None;
        messages::read_all(&path, response.into_body(), |message| {
            if let Some(aux) = message.aux {
                // Newer Engines also tell which platforms they left out: that has no digest.
                if let Ok(image) = serde_json::from_value(aux) {
                    pushed = Some(image);
                }
            } else if let Some(status) = message.status {
                pushed = pushed.take().or_else(|| of_last_line(&status));
                let progress = message.progress.unwrap_or_default();
                each(PushProgress {
                    layer: message.id,
                    status,
                    current: progress.current,
                    total: progress.total,
                });
            }
            Ok(())
        })
        .await?;
        pushed.ok_or_else(|| Error::Garbled { path, problem: "no digest in it".to_owned() })
    }

    /// Loads the images of a Docker or OCI archive, which is sent as it comes, and answers with
    /// what the Engine says it loaded (names, or ids of images without one).
    ///
    /// # Errors
    /// The archive is refused, reading it fails, or the connection breaks.
    pub async fn load_images(
        &self,
        archive: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Vec<String>, Error> {
        let path = "/images/load?quiet=1";
        let frames = archive.map(|chunk| chunk.map(Frame::data).map_err(Into::into));
        let body = StreamBody::new(frames).boxed_unsync();
        let prefixed = format!("{}{path}", self.prefix().await?);
        let headers = [("content-type", "application/x-tar")];
        let response = self.send_unhurried(Method::POST, &prefixed, &headers, body).await?;
        let response = client::check(path, response).await?;
        let mut loaded = Vec::new();
        messages::read_all(path, response.into_body(), |message| {
            let line = message.stream.as_deref().unwrap_or_default().trim();
            let name = line
                .strip_prefix("Loaded image: ")
                .or_else(|| line.strip_prefix("Loaded image ID: "));
            loaded.extend(name.map(str::to_owned));
            Ok(())
        })
        .await?;
        Ok(loaded)
    }
}

/// What the report of an Engine with a containerd store ends with, as it has no typed message for
/// it: `TAG: digest: DIGEST size: SIZE`.
fn of_last_line(status: &str) -> Option<PushedImage> {
    let (tag, rest) = status.split_once(": digest: ")?;
    let (digest, size) = rest.split_once(" size: ")?;
    check_digest(digest).ok()?;
    Some(PushedImage {
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        size: size.trim().parse().ok()?,
    })
}

/// A push without a tag would push all tags.
fn tag_of(reference: &Reference) -> &str {
    reference.tag().unwrap_or("latest")
}

/// A name in a path: its own slashes and colons belong there, anything that would end the path does
/// not.
fn in_path(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+".contains(&byte);
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if plain(byte) {
            path.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
            path.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    path
}

/// The header by which the Engine is lent the credentials of a registry. It has to be there even
/// when there are none.
fn auth_header(
    path: &str,
    login: Option<&RegistryLogin>,
    server: &str,
) -> Result<Zeroizing<String>, Error> {
    let Some(login) = login else {
        return Ok(Zeroizing::new(URL_SAFE.encode("{}")));
    };
    Ok(Zeroizing::new(URL_SAFE.encode(&*auth_json(path, login, server)?)))
}

/// Credentials as the Engine reads them.
fn auth_json(path: &str, login: &RegistryLogin, server: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let not_text = || Error::Garbled {
        path: path.to_owned(),
        problem: format!("the password for `{server}` is not text"),
    };
    let text = |secret: &Secret| {
        secret.expose_str().map(|text| Zeroizing::new(text.to_owned())).ok_or_else(not_text)
    };
    let password = text(&login.password)?;
    let identity = login.identity_token.as_ref().map(text).transpose()?.unwrap_or_default();
    let header = AuthHeader {
        username: &login.username,
        password: &password,
        identity_token: &identity,
        server,
    };
    Ok(Zeroizing::new(json(path, &header)?))
}

#[cfg(test)]
mod tests {
    use super::{RegistryLogin, auth_header, in_path, of_last_line};
    use crate::credential::Secret;
    use base64::{Engine as _, engine::general_purpose::URL_SAFE};

    fn decoded(login: Option<&RegistryLogin>) -> String {
        let header = auth_header("/x", login, "registry:5000").unwrap();
        String::from_utf8(URL_SAFE.decode(header.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn credentials_are_lent_as_the_engine_reads_them() {
        assert_eq!(decoded(None), "{}");
        let login = RegistryLogin {
            username: "ann".to_owned(),
            password: Secret::new("p\"w"),
            identity_token: None,
        };
        assert_eq!(
            decoded(Some(&login)),
            r#"{"username":"ann","password":"p\"w","serveraddress":"registry:5000"}"#
        );
        let login = RegistryLogin { identity_token: Some(Secret::new("t")), ..Default::default() };
        assert_eq!(
            decoded(Some(&login)),
            r#"{"identitytoken":"t","serveraddress":"registry:5000"}"#
        );
        assert!(!format!("{login:?}").contains("\"t\""));
    }

    #[test]
    fn the_last_line_of_a_report_has_the_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let pushed = of_last_line(&format!("t1: digest: {digest} size: 421")).unwrap();
        assert_eq!((pushed.tag.as_str(), pushed.size), ("t1", 421));
        assert_eq!(pushed.digest, digest);
        for other in ["Pushed", "t1: digest: sha256:ab size: 1", "t1: digest: x", ""] {
            assert_eq!(of_last_line(other), None, "{other}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(in_path("127.0.0.1:5000/a/b:c@sha256:0"), "127.0.0.1:5000/a/b:c@sha256:0");
        assert_eq!(in_path("a?b#c d\r\n"), "a%3fb%23c%20d%0d%0a");
    }
}
