//! Reading references of images.

#![no_main]

use bk_sync_fuzz::reference::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(Reference::parse_exact(text));
    let Ok(reference) = Reference::parse(text) else { return };
    let full = reference.to_string();
    assert_eq!(Reference::parse(&full).as_ref(), Ok(&reference), "{text:?} in full is {full:?}");
    let short = Reference::parse(&reference.familiar());
    assert_eq!(short.as_ref(), Ok(&reference), "{text:?} in short is {:?}", reference.familiar());
    assert!(reference.name().len() <= full.len());
});
