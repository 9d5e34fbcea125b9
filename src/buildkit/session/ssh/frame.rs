//! The SSH agent protocol's messages, as bytes in and bytes out (draft-ietf-sshm-ssh-agent).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// OpenSSH's own limit.
const MAX_FRAME: usize = 256 << 10;

/// The request for the list of keys.
pub(super) const REQUEST_IDENTITIES: u8 = 11;
/// The request for a signature.
pub(super) const SIGN_REQUEST: u8 = 13;
const FAILURE: u8 = 5;

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    unread: BytesMut,
}

/// A message that is longer than any can be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("an SSH agent message of {length} bytes")]
pub(super) struct TooLong {
    length: usize,
}

impl Frames {
    /// Takes in what came.
    pub(super) fn extend(&mut self, data: &[u8]) {
        self.unread.extend_from_slice(data);
    }

    /// The next whole message, less its length.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let Some(&length) = self.unread.first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(TooLong { length });
        }
        if self.unread.len() < length.saturating_add(4) {
            return Ok(None);
        }
        self.unread.advance(4);
        Ok(Some(self.unread.split_to(length).freeze()))
    }
}

/// A message with its length before it.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(4));
    put_string(&mut framed, message);
    framed.freeze()
}

/// The answer to all that is not allowed.
pub(super) fn failure() -> Bytes {
    framed(&[FAILURE])
}

/// Whether a build may ask this: the list of keys and signatures, and nothing that changes the
/// agent.
pub(super) fn allowed(message: &[u8]) -> bool {
    matches!(message.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST)))
}

/// Appends an SSH `string`: its length, then its bytes.
pub(super) fn put_string(buffer: &mut impl bytes::BufMut, value: &[u8]) {
    buffer.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
    buffer.put_slice(value);
}

/// Appends an SSH `mpint` that is not negative.
pub(super) fn put_mpint(buffer: &mut Vec<u8>, value: &[u8]) {
    let start = value.iter().position(|&byte| byte != 0).unwrap_or(value.len());
    let value = value.get(start..).unwrap_or_default();
    let pad = value.first().is_some_and(|&byte| byte >= 0x80);
    let length = value.len().saturating_add(usize::from(pad));
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    if pad {
        buffer.put_u8(0);
    }
    buffer.put_slice(value);
}

/// Reads SSH's data types from the start of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (&bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(bytes))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A number's bytes, most significant first, without leading zeros; none if it is negative.
    pub(super) fn mpint(&mut self) -> Option<&'a [u8]> {
        let number = self.string()?;
        if number.first().is_some_and(|&byte| byte >= 0x80) {
            return None;
        }
        let start = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
        number.get(start..)
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, Reader, allowed, framed, put_mpint};

    #[test]
    fn messages_come_out_whole_however_they_came_in() {
        let stream = [framed(b"\x0babc"), framed(b""), framed(b"\x0d")].concat();
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in stream {
            frames.extend(&[byte]);
            while let Some(message) = frames.next().unwrap() {
                seen.push(message);
            }
        }
        assert_eq!(seen, [b"\x0babc".as_slice(), b"", b"\x0d"]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_waited_for() {
        let mut frames = Frames::default();
        frames.extend(&[0xff; 4]);
        assert!(frames.next().is_err());
    }

    #[test]
    fn only_reading_is_allowed() {
        let allowed: Vec<u8> = (0..=255).filter(|&kind| allowed(&[kind, 0])).collect();
        assert_eq!(allowed, [11, 13]);
        assert!(!super::allowed(&[]));
    }

    #[test]
    fn numbers_are_written_as_ssh_writes_them() {
        for (value, expected) in [
            (&[][..], &[0, 0, 0, 0][..]),
            (&[0, 0], &[0, 0, 0, 0]),
            (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
            (&[0, 0x7f], &[0, 0, 0, 1, 0x7f]),
        ] {
            let mut written = Vec::new();
            put_mpint(&mut written, value);
            assert_eq!(written, expected);
        }
        assert_eq!(Reader(&[0, 0, 0, 2, 0, 0x80]).mpint(), Some(&[0x80][..]));
        assert_eq!(Reader(&[0, 0, 0, 1, 0x80]).mpint(), None);
        assert_eq!(Reader(&[0, 0, 0, 9, 1]).string(), None);
    }
}
