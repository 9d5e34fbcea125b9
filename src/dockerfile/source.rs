//! The bytes of a Dockerfile as lines.

/// The longest line, in bytes, without its line end: BuildKit reads no longer ones.
pub(super) const MAX_LINE: usize = 65_535;

/// Removes tabs, line ends, form feeds and blanks from the end.
pub(super) fn trim_ascii_blanks_end(text: &str) -> &str {
    text.trim_end_matches(['\t', '\n', '\u{0c}', '\r', ' '])
}
