//! Text that comes from a build, made fit for a screen; sizes and times in words.

use std::time::Duration;

/// A line of a command's output without what would steer the terminal. Colours stay, and end with
/// the line. Of a line that was redrawn with carriage returns the last state stays.
pub(super) fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches('\r');
    let last = text.rsplit('\r').next().unwrap_or_default();
    let mut shown = String::with_capacity(last.len());
    let mut coloured = false;
    let mut rest = last.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => {
                if let Some(colour) = escape(&mut rest) {
                    coloured = true;
                    shown.push_str("\u{1b}[");
                    shown.push_str(&colour);
                    shown.push('m');
                }
            }
            '\t' => shown.push('\t'),
            control if control.is_control() => {}
            other => shown.push(other),
        }
    }
    if coloured {
        shown.push_str("\u{1b}[0m");
    }
    shown
}

/// Reads an escape sequence whose ESC has been read; gives the parameters of one that sets colours.
fn escape(rest: &mut std::str::Chars<'_>) -> Option<String> {
    match rest.next()? {
        '[' => {
            let mut parameters = String::new();
            for character in rest.by_ref() {
                match character {
                    '0'..='?' => parameters.push(character),
                    ' '..='/' => {}
                    'm' => {
                        let plain =
                            parameters.chars().all(|c| c.is_ascii_digit() || ";:".contains(c));
                        return plain.then_some(parameters);
                    }
                    _ => return None,
                }
            }
            None
        }
        // An operating system command ends with BEL or ESC backslash.
        ']' | 'P' | '_' | '^' | 'X' => {
            let mut before = ' ';
            for character in rest.by_ref() {
                if character == '\u{7}' || (before == '\u{1b}' && character == '\\') {
                    break;
                }
                before = character;
            }
            None
        }
        _ => None,
    }
}

/// A line without colours either.
pub(super) fn plain(line: &str) -> String {
    anstream::adapter::strip_str(line).to_string()
}

/// A name on one line.
pub(super) fn one_line(name: &str) -> String {
    let words: Vec<&str> = name.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    plain(&printable(words.join(" ").as_bytes()))
}

/// A number of bytes in decimal units, as BuildKit writes it.
pub(super) fn bytes(count: i64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    if (-999..1000).contains(&count) {
        return format!("{count}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
    let mut value = count as f64;
    let mut shown = "";
    for unit in units {
        value /= 1000.0;
        shown = unit;
        if value.abs() < 999.995 {
            break;
        }
    }
    format!("{value:.2}{shown}")
}

/// A time in seconds, with one decimal.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::{bytes, one_line, printable};

    #[test]
    fn output_cannot_steer_the_terminal() {
        let table: &[(&[u8], &str)] = &[
            (b"plain", "plain"),
            (b"a\tb", "a\tb"),
            (b"crlf\r", "crlf"),
            (b"10%\r50%\r100%", "100%"),
            (b"\x1b[31mred\x1b[0m!", "\u{1b}[31mred\u{1b}[0m!\u{1b}[0m"),
            (b"\x1b[2J\x1b[Hcleared", "cleared"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link", "link"),
            (b"bell\x07 back\x08", "bell back"),
            (b"\x1b[?25lhidden", "hidden"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"\x1b[", ""),
            (b"\x1b", ""),
        ];
        for (line, expected) in table {
            assert_eq!(printable(line), *expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn sizes_have_decimal_units() {
        let table = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (2_100_000, "2.10MB"),
            (999_999, "1.00MB"),
            (28_230_000_000, "28.23GB"),
            (i64::MAX, "9223.37PB"),
        ];
        for (count, expected) in table {
            assert_eq!(bytes(count), expected);
        }
    }

    #[test]
    fn names_have_one_line() {
        assert_eq!(one_line("RUN <<EOF\n  a\n\n\x1b[31mb\nEOF"), "RUN <<EOF a b EOF");
    }
}
