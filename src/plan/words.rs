//! Words of a command with `{name}` in them. `{{` is a brace; braces around anything that is no
//! dotted word stand for themselves.

/// The text with every placeholder filled in by `fact`.
///
/// # Errors
/// The name of the first placeholder that `fact` does not know.
pub fn fill_words(text: &str, fact: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        if let Some(after) = after.strip_prefix('{') {
            filled.push('{');
            rest = after;
            continue;
        }
        if let Some((word, after)) = after.split_once('}').filter(|(word, _)| is_dotted_word(word))
        {
            filled.push_str(&fact(word).ok_or_else(|| word.to_owned())?);
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_dotted_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::fill_words;

    #[test]
    fn known_names_are_filled_once_and_unknown_ones_are_named() {
        let fact = |name: &str| match name {
            "image" => Some("r/a@sha256:1".to_owned()),
            "odd" => Some("{image}".to_owned()),
            _ => None,
        };
        let table = [
            ("", Ok("")),
            ("deployed {image}!", Ok("deployed r/a@sha256:1!")),
            ("{odd}", Ok("{image}")),
            ("{{image}", Ok("{image}")),
            ("{\"a\":1}", Ok("{\"a\":1}")),
            ("{", Ok("{")),
            ("{nope}", Err("nope")),
        ];
        for (text, expected) in table {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(fill_words(text, fact), expected, "{text}");
        }
    }
}
