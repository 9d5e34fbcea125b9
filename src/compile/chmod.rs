//! Modes as chmod writes them: only whether one can be read, since the builder applies it.

/// What is wrong with a symbolic mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModeFault {
    /// It starts like a number and is none.
    Number,
    /// It cannot be read.
    Syntax,
}

/// Checks a mode that is no octal number of 32 bits.
pub(super) fn check_symbolic(mode: &str) -> Result<(), ModeFault> {
    let bytes = mode.as_bytes();
    match bytes.first() {
        None => return Err(ModeFault::Syntax),
        Some(b'0'..=b'9') => return Err(ModeFault::Number),
        Some(_) => {}
    }
    let mut rest = bytes.iter().copied().peekable();
    loop {
        while rest.next_if(|byte| matches!(byte, b'a' | b'u' | b'g' | b'o')).is_some() {}
        // One or more changes follow, and then a comma or nothing.
        loop {
            match rest.next() {
                Some(b'+' | b'-' | b'=') => {}
                _ => return Err(ModeFault::Syntax),
            }
            let is_permission = |byte: &u8| {
                matches!(byte, b'r' | b's' | b't' | b'w' | b'X' | b'x' | b'u' | b'g' | b'o')
            };
            while rest.next_if(is_permission).is_some() {}
            match rest.peek() {
                None => return Ok(()),
                Some(b',') => break,
                Some(_) => {}
            }
        }
        rest.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chmods_words_are_read() {
        for mode in ["u+x", "a=rX", "go-w", "+x", "u=rw,g=r,o=", "u+rwx-x", "g=u", "u+s,+t"] {
            assert_eq!(check_symbolic(mode), Ok(()), "{mode}");
        }
    }

    #[test]
    fn others_are_not() {
        for mode in ["", "u", "u+x,", "x", "u+q", "u x", "u+x;g+x"] {
            assert_eq!(check_symbolic(mode), Err(ModeFault::Syntax), "{mode}");
        }
        assert_eq!(check_symbolic("99"), Err(ModeFault::Number));
    }
}
