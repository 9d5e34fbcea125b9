//! Output of running steps that is too long to be shown unasked, kept for the case that its step
//! fails: then all of it is shown.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write as _},
};

/// Keeps lines by the index of their step, in files without names that go with the process.
#[derive(Default)]
pub(super) struct Overflow {
    kept: HashMap<usize, Kept>,
}

struct Kept {
    /// None where no file could be made or written: then the lines are only counted.
    file: Option<BufWriter<File>>,
    lines: usize,
}

impl fmt::Debug for Overflow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Overflow").field("steps", &self.kept.len()).finish()
    }
}

impl Overflow {
    /// Keeps a line.
    pub(super) fn push(&mut self, step: usize, line: &str) {
        let kept = self.kept.entry(step).or_insert_with(|| Kept {
            file: tempfile::tempfile().ok().map(BufWriter::new),
            lines: 0,
        });
        kept.lines += 1;
        if let Some(file) = &mut kept.file
            && writeln!(file, "{line}").is_err()
        {
            kept.file = None;
        }
    }

    /// How many lines of a step are kept.
    pub(super) fn lines(&self, step: usize) -> usize {
        self.kept.get(&step).map_or(0, |kept| kept.lines)
    }

    /// Lets go of a step's lines.
    pub(super) fn forget(&mut self, step: usize) {
        self.kept.remove(&step);
    }

    /// Takes a step's lines out, one by one. Whether they were all there.
    pub(super) fn take(&mut self, step: usize, mut line: impl FnMut(&str)) -> bool {
        let Some(kept) = self.kept.remove(&step) else { return true };
        let Some(mut reader) = kept.file.and_then(|file| rewound(file).ok()) else { return false };
        let (mut text, mut read) = (String::new(), 0);
        while matches!(reader.read_line(&mut text), Ok(length) if length > 0) {
            line(text.trim_end_matches('\n'));
            text.clear();
            read += 1;
        }
        read == kept.lines
    }
}

fn rewound(file: BufWriter<File>) -> io::Result<BufReader<File>> {
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(BufReader::new(file))
}

#[cfg(test)]
mod tests {
    use super::Overflow;

    #[test]
    fn lines_come_back_whole_and_in_order() {
        let mut overflow = Overflow::default();
        for number in 0..10_000 {
            overflow.push(number % 2, &format!("line {number}"));
        }
        assert_eq!(overflow.lines(1), 5000);
        overflow.forget(0);
        let mut lines = Vec::new();
        assert!(overflow.take(1, |line| lines.push(line.to_owned())));
        assert_eq!(lines.len(), 5000);
        assert_eq!(lines.last().map(String::as_str), Some("line 9999"));
        assert!(overflow.take(0, |_| panic!("it was let go")));
    }
}
