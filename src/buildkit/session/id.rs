//! Names of sessions.

use rand::Rng as _;

/// As long as BuildKit's own ids: 25 base36 digits hold 129 bits.
const LENGTH: usize = 25;

/// A random session id: 25 lower-case base36 digits.
pub fn random_id() -> String {
    let mut source = rand::rng();
    (0..LENGTH).map(|_| char::from_digit(source.random_range(0..36), 36).unwrap_or('0')).collect()
}

#[cfg(test)]
mod tests {
    use super::random_id;

    #[test]
    fn ids_are_25_base36_digits_and_differ() {
        let (one, other) = (random_id(), random_id());
        assert_eq!(one.len(), 25);
        assert!(one.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()), "{one}");
        assert_ne!(one, other);
    }
}
