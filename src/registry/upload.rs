//! Uploads: opening one, asking how far it has come, sending more, closing it. One request each;
//! what is done when one fails is [`super::transfer`]'s matter.

use super::{
    error::{Kind, RegistryError},
    repository::Repository,
    server::{Payload, headers, value},
};
use http::{HeaderName, Method, StatusCode, header};
use url::Url;

/// An upload that a registry has opened for us.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    /// Where the next request goes. It holds the state of the upload, and is shown to nobody.
    pub(super) location: Url,
    /// Bytes that the registry has.
    pub(super) offset: u64,
}

/// What came of opening an upload.
#[derive(Debug)]
pub(super) enum Opened {
    /// The blob is here now: it was taken from another repository.
    Mounted,
    /// It is to be sent.
    Upload(Upload),
}

/// The digest of a blob and the repository that may have it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mount<'a> {
    pub(super) digest: &'a str,
    pub(super) from: &'a str,
}

impl Repository {
    /// Opens an upload, or has the blob mounted.
    pub(super) async fn open_upload(
        &self,
        mount: Option<Mount<'_>>,
    ) -> Result<Opened, RegistryError> {
        let mut url = self.url("blobs/uploads/").await?;
        let mut call_scopes = self.scopes();
        if let Some(Mount { digest, from }) = mount {
            url.query_pairs_mut().append_pair("mount", digest).append_pair("from", from);
            call_scopes.push(format!("repository:{from}:pull"));
        }
        let mut call = self.call(Method::POST, url, "open an upload");
        call.scopes = call_scopes;
        call.headers = headers([(header::CONTENT_LENGTH, "0")]);
        let answer = self.server().send(call).await?;
        if answer.status == StatusCode::CREATED {
            return Ok(Opened::Mounted);
        }
        let location = answer.header(header::LOCATION).map(str::to_owned);
        let Some(location) = location.filter(|_| answer.status == StatusCode::ACCEPTED) else {
            let words = format!("it answered {} without a location", answer.status);
            return Err(self.error("open an upload", Kind::Malformed, &words));
        };
        let location = self.server().location(&answer.url, &location).await?;
        Ok(Opened::Upload(Upload { location, offset: 0 }))
    }

    /// Asks how far an upload has come.
    pub(super) async fn ask_upload(&self, upload: &Upload) -> Result<Upload, RegistryError> {
        let call = self.call(Method::GET, upload.location.clone(), "ask for an upload");
        let answer = self.server().send(call).await.map_err(|mut error| {
            // Nothing was sent that could have been too large: what it holds is not what it told.
            if matches!(error.kind, Kind::RangeRefused) {
                error.kind = Kind::UploadLost;
            }
            lost(error)
        })?;
        let offset = answer.header(header::RANGE).map(offset);
        let Some(Some(offset)) = offset else {
            let words = "it does not say how far the upload has come";
            return Err(self.error("ask for an upload", Kind::UploadLost, &words));
        };
        let location = match answer.header(header::LOCATION).map(str::to_owned) {
            Some(text) => self.server().location(&answer.url, &text).await?,
            None => upload.location.clone(),
        };
        Ok(Upload { location, offset })
    }

    /// Sends a part of a blob, `length` bytes from the upload's offset on.
    pub(super) async fn send_part(
        &self,
        upload: &Upload,
        body: reqwest::Body,
        length: u64,
    ) -> Result<Upload, RegistryError> {
        let last = upload.offset.saturating_add(length).saturating_sub(1);
        let mut call = self.call(Method::PATCH, upload.location.clone(), "send a part of a blob");
        call.headers = headers([
            (header::CONTENT_TYPE, "application/octet-stream"),
            (header::CONTENT_LENGTH, &length.to_string()),
            (header::CONTENT_RANGE, &format!("{}-{last}", upload.offset)),
        ]);
        call.body = Payload::Once(body);
        let answer = self.server().send(call).await.map_err(lost)?;
        let reached = answer.header(header::RANGE).and_then(offset);
        let location = match answer.header(header::LOCATION).map(str::to_owned) {
            Some(text) => self.server().location(&answer.url, &text).await?,
            None => upload.location.clone(),
        };
        Ok(Upload { location, offset: reached.unwrap_or(last.saturating_add(1)) })
    }

    /// Sends what is left of a blob, none or all of it, and closes the upload.
    pub(super) async fn close_upload(
        &self,
        upload: &Upload,
        digest: &str,
        body: Option<(reqwest::Body, u64)>,
    ) -> Result<(), RegistryError> {
        let mut url = upload.location.clone();
        url.query_pairs_mut().append_pair("digest", digest);
        let mut call = self.call(Method::PUT, url, "send a blob");
        call.headers = headers([(header::CONTENT_TYPE, "application/octet-stream")]);
        let length = body.as_ref().map_or(0, |(_, length)| *length);
        if let Some(value) = value(&length.to_string()) {
            call.headers.insert(header::CONTENT_LENGTH, value);
        }
        if let Some((body, _)) = body {
            call.body = Payload::Once(body);
        }
        let answer = self.server().send(call).await.map_err(lost)?;
        let name = HeaderName::from_static("docker-content-digest");
        match answer.header(name) {
            Some(other) if other != digest => {
                let words = format!("it stored `{other}` for `{digest}`");
                Err(self.error("send a blob", Kind::DigestWrong, &words))
            }
            _ => Ok(()),
        }
    }

    /// Tells the registry to forget an upload. That it does not listen costs nothing: it forgets
    /// uploads by itself.
    pub(super) async fn cancel_upload(&self, upload: &Upload) {
        let call = self.call(Method::DELETE, upload.location.clone(), "cancel an upload");
        if let Err(error) = self.server().send(call).await {
            tracing::debug!(%error, "an upload is left behind");
        }
    }
}

/// Of an upload, "not found" means that the registry has forgotten it.
fn lost(mut error: RegistryError) -> RegistryError {
    if matches!(error.kind, Kind::NotFound) {
        error.kind = Kind::UploadLost;
    }
    error
}

/// The bytes that a registry has, by its `Range` header: `0-99`, or `bytes=0-99`. Nothing is
/// written `0-0`, which could be one byte, too; that byte is sent again.
fn offset(range: &str) -> Option<u64> {
    let range = range.trim();
    let range =
        range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches(['=', ' ']));
    let (first, last) = range.split_once('-')?;
    let last = last.split('/').next()?.trim();
    match (first.trim().parse::<u64>().ok()?, last) {
        (0, "" | "0" | "-1") => Some(0),
        (0, last) => last.parse::<u64>().ok()?.checked_add(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::offset;

    #[test]
    fn ranges_of_registries_are_read() {
        for (range, expected) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("0--1", Some(0)),
            ("0-", Some(0)),
            ("5-9", None),
            ("", None),
            ("0-x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(offset(range), expected, "{range}");
        }
    }
}
