//! Splitting at blanks while a text is read.

/// The words found so far at one level of nesting. The word being put together lies outside, since
/// all levels share it.
#[derive(Default)]
pub(super) struct Words {
    found: Vec<String>,
    inside: bool,
}

impl Words {
    /// A character that ends the word if it is a blank.
    pub(super) fn push(&mut self, pending: &mut String, c: char) {
        if !c.is_whitespace() {
            pending.push(c);
            self.inside = true;
        } else if self.inside && !pending.is_empty() {
            self.found.push(std::mem::take(pending));
            self.inside = false;
        }
    }

    /// A character that belongs to the word whatever it is.
    pub(super) fn push_raw_char(&mut self, pending: &mut String, c: char, split: bool) {
        if split {
            pending.push(c);
            self.inside = true;
        }
    }

    /// A text that belongs to the word whatever is in it.
    pub(super) fn push_raw(&mut self, pending: &mut String, text: &str) {
        pending.push_str(text);
        self.inside = true;
    }

    /// The words, the one being put together included.
    pub(super) fn finish(&mut self, pending: &mut String) -> Vec<String> {
        if !pending.is_empty() {
            self.found.push(std::mem::take(pending));
            self.inside = false;
        }
        std::mem::take(&mut self.found)
    }
}
