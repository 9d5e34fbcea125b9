use std::collections::BTreeMap;

use super::{Expander, Fault, NoVariables, Variables};

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn word(text: &str, pairs: &[(&str, &str)]) -> String {
    Expander::new('\\').word(text, &variables(pairs)).unwrap().text
}

#[test]
fn a_nested_substitution_empties_the_word_before_it() {
    let words = Expander::new('\\').words("abc${X:-d} e", &NoVariables).unwrap();
    assert_eq!(words, ["d", "e"]);
}

#[test]
fn a_byte_order_mark_at_the_start_is_dropped() {
    assert_eq!(word("\u{feff}a\u{feff}", &[]), "a\u{feff}");
}

#[test]
fn a_replacement_of_all_matches_is_a_template_and_of_one_is_not() {
    let pairs = [("V", "a.b.a")];
    // The escape characters stay, as in the patterns.
    assert_eq!(word(r"${V//a/<\$0>}", &pairs), r"<\a>.b.<\a>");
    assert_eq!(word(r"${V//a/'${0}$x$$$'}", &pairs), "a$$.b.a$$");
    assert_eq!(word(r"${V/a/<\$0>}", &pairs), r"<\$0>.b.a");
}

#[test]
fn angle_brackets_in_patterns_are_plain() {
    assert_eq!(word("${V#*<b}", &[("V", "a<b>c")]), ">c");
}

#[test]
fn an_empty_pattern_matches_between_all_characters() {
    assert_eq!(word("${V///-}", &[("V", "aü")]), "-a-ü-");
}

#[test]
fn names_are_told_even_where_the_word_is_wrong() {
    let error = Expander::new('\\').word("$A $B '", &variables(&[("A", "1")])).unwrap_err();
    assert!(error.names.matched.contains("A"));
    assert!(error.names.unmatched.contains("B"));
}

#[test]
fn nesting_has_an_end() {
    let deep = |levels: usize| format!("{}x{}", "${A:-".repeat(levels), "}".repeat(levels));
    assert_eq!(word(&deep(50), &[]), "x");
    let error = Expander::new('\\').word(&deep(100_000), &NoVariables).unwrap_err();
    assert_eq!(error.fault, Fault::TooDeep);
}

#[test]
fn results_have_an_end() {
    let big = "x".repeat(1 << 18);
    let pairs = variables(&[("A", &big)]);
    for text in ["$A".repeat(40), format!("\"{}\"", "$A".repeat(40)), "${A//x/$A}".to_owned()] {
        let error = Expander::new('\\').word(&text, &pairs).unwrap_err();
        assert_eq!(error.fault, Fault::TooLong, "{}", error.word.len());
    }
}

#[test]
fn patterns_have_a_budget() {
    let big = "x".repeat(1 << 18);
    let error =
        Expander::new('\\').word(&"${A##x*}".repeat(1000), &variables(&[("A", &big)])).unwrap_err();
    assert_eq!(error.fault, Fault::TooMuchWork);
}

#[test]
fn a_lookup_may_be_anything() {
    struct Lengths;
    impl Variables for Lengths {
        fn value(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
            Some(name.len().to_string().into())
        }
    }
    assert_eq!(Expander::new('\\').word("$a ${abc}", &Lengths).unwrap().text, "1 3");
}

#[test]
fn templates_with_braces_that_name_nothing_stay() {
    let pairs = [("V", "a")];
    assert_eq!(word("${V//a/'${}x'}", &pairs), "${}x");
    assert_eq!(word("${V//a/'${0'}", &pairs), "${0");
    assert_eq!(word("${V//a/'${a-b}'}", &pairs), "${a-b}");
}
