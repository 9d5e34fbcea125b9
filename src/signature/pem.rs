//! The first block of a PEM text.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// A block of a PEM text: its label, such as `PUBLIC KEY`, and what is in it.
pub(super) struct Block {
    pub(super) label: String,
    pub(super) content: Zeroizing<Vec<u8>>,
}

/// The blocks of `text` in their order, less what stands around them. What is begun and not ended, or
/// is no Base64, is left out. Headers inside of a block, as old OpenSSL writes them, make it no Base64.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = begun.split_once("-----") else { break };
        let Some((body, after)) = body.split_once(&format!("-----END {label}-----")) else { break };
        let packed: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|one| !one.is_ascii_whitespace()).collect());
        if let Ok(content) = BASE64_STANDARD.decode(packed.as_bytes()) {
            found.push(Block { label: label.to_owned(), content: Zeroizing::new(content) });
        }
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_are_found_between_words() {
        let text = "words\n-----BEGIN A B-----\naGVs\r\nbG8=\n-----END A B-----\nmore\n\
                    -----BEGIN C-----\n!\n-----END C-----\n-----BEGIN D-----\naGk=\n-----END D-----";
        let found: Vec<_> =
            blocks(text).iter().map(|one| (one.label.clone(), one.content.to_vec())).collect();
        assert_eq!(
            found,
            [("A B".to_owned(), b"hello".to_vec()), ("D".to_owned(), b"hi".to_vec())]
        );
        assert!(blocks("-----BEGIN A-----\naGk=").is_empty());
        assert!(blocks("-----BEGIN A").is_empty());
    }
}
