//! The stream of JSON messages by which an Engine reports long work.

use super::Error;
use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::Deserialize;

/// How long one message may be: progress is a line, and an error a page.
const MESSAGE_LIMIT: usize = 1 << 20;

/// A message as it is on the wire; which fields are there says what it is.
#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Message {
    pub(super) id: Option<String>,
    pub(super) status: Option<String>,
    pub(super) stream: Option<String>,
    #[serde(rename = "progressDetail")]
    pub(super) progress: Option<Progress>,
    pub(super) aux: Option<serde_json::Value>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) current: Option<u64>,
    pub(super) total: Option<u64>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct ErrorDetail {
    code: Option<u16>,
    message: Option<String>,
}

impl Message {
    /// The message, unless it says that the work failed.
    fn checked(self) -> Result<Self, Error> {
        let (error, detail) = (self.error.clone(), &self.error_detail);
        let message = detail.as_ref().and_then(|detail| detail.message.clone()).or(error);
        match message {
            Some(message) => {
                let code = detail.as_ref().and_then(|detail| detail.code);
                Err(Error::Image { message, code })
            }
            None => Ok(self),
        }
    }
}

/// Cuts bytes, however they arrive, into messages.
#[derive(Debug, Default)]
struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. Engines put a line end between messages, or nothing at all.
    fn next(&mut self, path: &str) -> Result<Option<Message>, Error> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter();
        let value: Option<Result<Message, _>> = values.next();
        let used = values.byte_offset();
        match value {
            None => Ok(None),
            Some(Ok(message)) => {
                drop(self.buffer.split_to(used));
                message.checked().map(Some)
            }
            Some(Err(error)) if error.is_eof() => {
                if self.buffer.len() > MESSAGE_LIMIT {
                    let path = path.to_owned();
                    return Err(Error::AnswerTooLong { path, limit: MESSAGE_LIMIT });
                }
                Ok(None)
            }
            Some(Err(error)) => {
                Err(Error::Garbled { path: path.to_owned(), problem: error.to_string() })
            }
        }
    }
}

/// Reads all messages of `body`, and hands each to `each`.
///
/// # Errors
/// One of them is an error, or none of ours; or the stream broke.
pub(super) async fn read_all(
    path: &str,
    mut body: Incoming,
    mut each: impl FnMut(Message) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut splitter = Splitter::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| Error::Broken { path: path.to_owned(), source })?;
        if let Some(data) = frame.data_ref() {
            splitter.push(data);
            while let Some(message) = splitter.next(path)? {
                each(message)?;
            }
        }
    }
    if splitter.buffer.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    Err(Error::Garbled { path: path.to_owned(), problem: "it ends in mid-message".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Error, MESSAGE_LIMIT, Message, Splitter};
    use proptest::prelude::*;

    fn all(chunks: &[&[u8]]) -> Result<Vec<Message>, Error> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(message) = splitter.next("/x")? {
                found.push(message);
            }
        }
        Ok(found)
    }

    const REPORT: &[u8] = b"{\"status\":\"Pushing\",\"progressDetail\":{\"current\":5,\"total\":10},\"id\":\"abc\"}\r\n\
        {\"progressDetail\":{},\"aux\":{\"Tag\":\"t\",\"Digest\":\"sha256:1\",\"Size\":7}}\r\n{\"stream\":\"Loaded\"}";

    #[test]
    fn a_report_is_read_however_it_arrives() {
        let whole = all(&[REPORT]).unwrap();
        assert_eq!(whole.len(), 3);
        assert_eq!(whole[0].progress.as_ref().unwrap().current, Some(5));
        assert_eq!(whole[1].aux.as_ref().unwrap()["Digest"], "sha256:1");
        assert_eq!(whole[2].stream.as_deref(), Some("Loaded"));
        let bytes: Vec<&[u8]> = REPORT.chunks(1).collect();
        assert_eq!(all(&bytes).unwrap(), whole);
    }

    #[test]
    fn an_error_in_the_report_ends_it() {
        let denied = br#"{"status":"x"}{"errorDetail":{"code":401,"message":"denied: no"},"error":"denied: no"}"#;
        match all(&[denied]) {
            Err(Error::Image { message, code }) => {
                assert_eq!((message.as_str(), code), ("denied: no", Some(401)));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(all(&[br#"{"error":"plain"}"#]), Err(Error::Image { code: None, .. })));
    }

    #[test]
    fn a_message_that_never_ends_is_refused() {
        let mut endless = b"{\"status\":\"".to_vec();
        endless.resize(MESSAGE_LIMIT + 20, b'a');
        assert!(matches!(all(&[&endless]), Err(Error::AnswerTooLong { .. })));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _any = all(&[&bytes]);
        }
    }
}
