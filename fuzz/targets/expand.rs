//! Expanding words. The first byte chooses the rules; a line end parts the value from the word.

#![no_main]

use std::collections::BTreeMap;

use bk_sync_fuzz::dockerfile::expand::{Expander, MAX_GROWTH};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let Some((rules, value, word)) = cut(input) else { return };
    let mut expander = Expander::new(if rules & 16 == 0 { '\\' } else { '`' });
    if rules & 1 != 0 {
        expander = expander.keep_quotes();
    }
    if rules & 2 != 0 {
        expander = expander.keep_escapes();
    }
    if rules & 4 != 0 {
        expander = expander.ignore_quotes();
    }
    if rules & 8 != 0 {
        expander = expander.keep_unset();
    }
    let variables = BTreeMap::from([("A".to_owned(), value.to_owned())]);
    let words = expander.words(word, &variables);
    match expander.word(word, &variables) {
        Ok(expansion) => {
            assert!(words.is_ok());
            assert!(expansion.text.len() <= word.len() * 2 + MAX_GROWTH);
            assert!(!expansion.names.unmatched.contains("A"));
        }
        Err(error) => {
            let other = words.unwrap_err();
            assert_eq!((error.fault, error.names), (other.fault, other.names));
        }
    }
});

fn cut(input: &str) -> Option<(u8, &str, &str)> {
    let rules = *input.as_bytes().first().filter(|byte| byte.is_ascii())?;
    let (value, word) = input.get(1..)?.split_once('\n')?;
    Some((rules, value, word))
}
