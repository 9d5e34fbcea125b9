//! "Did you mean": the option that is nearest to a word.

/// How far a suggestion may be: fewer than three letters changed, added or missing.
const NEAR: usize = 3;

/// The option nearest to `word`, if one is near enough; the first of several that are equally near.
/// A word that is itself an option gets no suggestion, since then something else is wrong.
pub fn suggest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best = None;
    let mut limit = NEAR;
    for option in options {
        if option == word {
            return None;
        }
        let distance = distance_below(word, option, limit);
        if let Some(distance) = distance {
            limit = distance;
            best = Some(option);
        }
    }
    best
}

/// As [`suggest`], without regard to case; the suggestion has the case of the word where that is all
/// lower or all upper, else lower case.
pub fn suggest_ignoring_case<T: AsRef<str>>(
    word: &str,
    options: impl IntoIterator<Item = T>,
) -> Option<String> {
    let lower = word.to_lowercase();
    let options: Vec<String> =
        options.into_iter().map(|option| option.as_ref().to_lowercase()).collect();
    let found = suggest(&lower, options.iter().map(String::as_str))?;
    let upper = word != lower && word == word.to_uppercase();
    Some(if upper { found.to_uppercase() } else { found.to_owned() })
}

/// The Levenshtein distance of two words by characters, if it is below `limit`.
fn distance_below(left: &str, right: &str, limit: usize) -> Option<usize> {
    // Lengths that differ by more can never be near: this also keeps long words cheap.
    if left.chars().count().abs_diff(right.chars().count()) >= limit {
        return None;
    }
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        let mut least = before;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, &to) in row.iter_mut().skip(1).zip(&right) {
            let substituted = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = substituted.min(before + 1).min(*cell + 1);
            least = least.min(before);
            *cell = before;
        }
        if least >= limit {
            return None;
        }
    }
    row.last().copied().filter(|&distance| distance < limit)
}

#[cfg(test)]
mod tests {
    use super::{suggest, suggest_ignoring_case};

    #[test]
    fn the_nearest_option_wins() {
        assert_eq!(suggest("chownn", ["chmod", "chown", "link"]), Some("chown"));
        assert_eq!(suggest("cahce", ["bind", "cache"]), Some("cache"));
    }

    #[test]
    fn what_is_far_or_equal_gives_none() {
        assert_eq!(suggest("abc", ["xyz"]), None);
        assert_eq!(suggest("link", ["link", "lint"]), None);
        assert_eq!(suggest("", ["ab", "abc"]), Some("ab"));
    }

    #[test]
    fn case_follows_the_word() {
        assert_eq!(suggest_ignoring_case("FRM", ["FROM"]).as_deref(), Some("FROM"));
        assert_eq!(suggest_ignoring_case("frm", ["FROM"]).as_deref(), Some("from"));
        assert_eq!(suggest_ignoring_case("Frm", ["FROM"]).as_deref(), Some("from"));
        assert_eq!(suggest_ignoring_case("From", ["FROM"]), None);
    }

    #[test]
    fn long_words_are_cheap() {
        let long = "a".repeat(1 << 20);
        assert_eq!(suggest(&long, ["chown"]), None);
    }
}
