//! An agent in this process: private keys from files, which never leave it.

use super::{
    KeyError, SshError,
    frame::{REQUEST_IDENTITIES, Reader, SIGN_REQUEST, failure, framed, put_string},
    key::PrivateKey,
};
use bytes::{BufMut as _, Bytes};
use std::{fs::File, io::Read as _, path::Path};
use zeroize::Zeroizing;

const IDENTITIES_ANSWER: u8 = 12;
const SIGN_RESPONSE: u8 = 14;
/// No key file is this big.
const MAX_FILE: u64 = 100 << 10;

/// The keys, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Keyring {
    keys: Vec<PrivateKey>,
}

impl Keyring {
    /// Adds the private key in the file at `path`.
    pub(super) fn add(&mut self, path: &Path) -> Result<(), SshError> {
        let unreadable = |error: std::io::Error| SshError::Unreadable {
            path: path.to_owned(),
            cause: error.to_string(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(16 << 10));
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
        let comment = path.display().to_string();
        let key = PrivateKey::parse(&text, &comment);
        self.keys
            .push(key.map_err(|cause: KeyError| SshError::Key { path: path.to_owned(), cause })?);
        Ok(())
    }

    /// The answer to one message of the agent protocol, with its length before it.
    pub(super) fn answer(&self, question: &[u8]) -> Bytes {
        let mut fields = Reader(question);
        match fields.byte() {
            Some(REQUEST_IDENTITIES) => self.identities(),
            Some(SIGN_REQUEST) => self.signature(&mut fields).unwrap_or_else(failure),
            _ => failure(),
        }
    }

    fn identities(&self) -> Bytes {
        let mut answer = vec![IDENTITIES_ANSWER];
        answer.put_u32(u32::try_from(self.keys.len()).unwrap_or_default());
        for key in &self.keys {
            put_string(&mut answer, &key.public);
            put_string(&mut answer, key.comment.as_bytes());
        }
        framed(&answer)
    }

    fn signature(&self, fields: &mut Reader<'_>) -> Option<Bytes> {
        let (public, data, flags) = (fields.string()?, fields.string()?, fields.u32()?);
        let key = self.keys.iter().find(|key| key.public == public)?;
        let mut answer = vec![SIGN_RESPONSE];
        put_string(&mut answer, &key.sign(data, flags)?);
        Some(framed(&answer))
    }
}
