//! Executables of Linux: the head of an ELF file, as far as it says which processor it is for.

/// Bytes of a file that [`machine`] needs.
pub const HEAD: usize = 20;

const MAGIC: &[u8] = b"\x7fELF";
/// Where the class (32 or 64 bits), the byte order and the machine stand.
const CLASS: usize = 4;
const ORDER: usize = 5;
const MACHINE: usize = 18;

/// The processor that an executable is for, as Go and image configs name it; none where the bytes
/// are no head of an ELF file. A processor that we have no name for is its number.
pub fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(MAGIC) {
        return None;
    }
    let wide = *head.get(CLASS)? == 2;
    let big = *head.get(ORDER)? == 2;
    let field = [*head.get(MACHINE)?, *head.get(MACHINE.checked_add(1)?)?];
    let number = if big { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) };
    let name = match (number, wide, big) {
        (0x03, ..) => "386",
        (0x08, false, false) => "mipsle",
        (0x08, false, true) => "mips",
        (0x08, true, false) => "mips64le",
        (0x08, true, true) => "mips64",
        (0x15, _, false) => "ppc64le",
        (0x15, _, true) => "ppc64",
        (0x16, ..) => "s390x",
        (0x28, ..) => "arm",
        (0x3e, ..) => "amd64",
        (0xb7, ..) => "arm64",
        (0xf3, true, _) => "riscv64",
        (0x102, ..) => "loong64",
        _ => return Some(format!("ELF machine {number}")),
    };
    Some(name.to_owned())
}

/// Whether a processor of the architecture `host` runs executables for `guest` by itself.
pub fn runs(host: &str, guest: &str) -> bool {
    host == guest || (host, guest) == ("amd64", "386")
}

/// The interpreter that a script names in its first line, and that line's one argument.
pub fn interpreter(head: &[u8]) -> Option<(String, Option<String>)> {
    let line = head.strip_prefix(b"#!")?;
    let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
    let line = std::str::from_utf8(line.get(..end)?).ok()?.trim();
    match line.split_once([' ', '\t']) {
        None if line.is_empty() => None,
        None => Some((line.to_owned(), None)),
        Some((program, rest)) => Some((program.to_owned(), Some(rest.trim().to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::{interpreter, machine, runs};
    use proptest::prelude::*;

    fn head(class: u8, order: u8, machine: [u8; 2]) -> Vec<u8> {
        let mut head = b"\x7fELF".to_vec();
        head.extend([class, order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
        head.extend(machine);
        head
    }

    #[test]
    fn machines_have_the_names_of_image_configs() {
        for (bytes, expected) in [
            (head(2, 1, [0x3e, 0]), "amd64"),
            (head(2, 1, [0xb7, 0]), "arm64"),
            (head(1, 1, [0x28, 0]), "arm"),
            (head(1, 1, [0x03, 0]), "386"),
            (head(2, 1, [0xf3, 0]), "riscv64"),
            (head(2, 1, [0x15, 0]), "ppc64le"),
            (head(2, 2, [0, 0x16]), "s390x"),
            (head(2, 1, [0x02, 0x01]), "loong64"),
            (head(2, 2, [0, 0x08]), "mips64"),
            (head(2, 1, [0x99, 0]), "ELF machine 153"),
        ] {
            assert_eq!(machine(&bytes).as_deref(), Some(expected));
        }
        assert_eq!(machine(b"#!/bin/sh\n"), None);
        assert_eq!(machine(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn what_runs_where() {
        assert!(runs("arm64", "arm64") && runs("amd64", "386"));
        assert!(!runs("arm64", "amd64") && !runs("amd64", "arm64") && !runs("arm64", "arm"));
    }

    #[test]
    fn scripts_name_their_interpreter() {
        let some = |program: &str, argument: Option<&str>| {
            Some((program.to_owned(), argument.map(str::to_owned)))
        };
        assert_eq!(interpreter(b"#!/bin/sh\nexit\n"), some("/bin/sh", None));
        assert_eq!(interpreter(b"#! /bin/sh -e\n"), some("/bin/sh", Some("-e")));
        assert_eq!(interpreter(b"#!/usr/bin/env node"), some("/usr/bin/env", Some("node")));
        assert_eq!(interpreter(b"#!/a\r\n"), some("/a", None));
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            machine(&bytes);
            interpreter(&bytes);
        }
    }
}
