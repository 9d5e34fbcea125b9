//! Fields with commas between them, as `--mount` and `--device` write them; a field may be in
//! double quotes.

/// Why fields cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// There is nothing to read.
    #[error("EOF")]
    Empty,
    /// A quote inside a field that does not start with one.
    #[error("parse error on line 1, column {column}: bare \" in non-quoted-field")]
    BareQuote {
        /// The byte, counted from 1.
        column: usize,
    },
    /// A quoted field is never closed, or goes on after its closing quote.
    #[error("parse error on line 1, column {column}: extraneous or missing \" in quoted-field")]
    Quote {
        /// The byte, counted from 1.
        column: usize,
    },
}

/// The fields.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let text = match text.strip_suffix('\n') {
        Some(line) => line.strip_suffix('\r').unwrap_or(line),
        None => text,
    };
    if text.is_empty() {
        return Err(CsvError::Empty);
    }
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let column = |rest: &str| text.len() - rest.len() + 1;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut inside = quoted;
            let after = loop {
                let Some((part, after)) = inside.split_once('"') else {
                    return Err(CsvError::Quote { column: column(inside) });
                };
                field.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        inside = more;
                    }
                    None => break after,
                }
            };
            fields.push(field);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(fields),
                None => return Err(CsvError::Quote { column: column(after) - 1 }),
            }
            continue;
        }
        let (field, next) = match rest.split_once(',') {
            Some((field, next)) => (field, Some(next)),
            None => (rest, None),
        };
        if let Some(at) = field.find('"') {
            return Err(CsvError::BareQuote { column: column(rest) + at });
        }
        fields.push(field.to_owned());
        match next {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CsvError, fields};

    #[test]
    fn plain_and_quoted_fields() {
        assert_eq!(fields("a,b=c,").unwrap(), ["a", "b=c", ""]);
        assert_eq!(fields("\"a,b\",\"c\"\"d\"").unwrap(), ["a,b", "c\"d"]);
        assert_eq!(fields(",").unwrap(), ["", ""]);
        assert_eq!(fields("a\r\n").unwrap(), ["a"]);
    }

    #[test]
    fn quotes_out_of_place() {
        assert_eq!(fields(""), Err(CsvError::Empty));
        assert_eq!(fields("a,b\"c"), Err(CsvError::BareQuote { column: 4 }));
        assert_eq!(fields("\"a"), Err(CsvError::Quote { column: 2 }));
        assert_eq!(fields("\"a\"b"), Err(CsvError::Quote { column: 3 }));
    }
}
