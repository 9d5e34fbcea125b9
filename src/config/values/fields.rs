//! The `key=value,key=value` form of flags: one CSV record as RFC 4180 has it, where a field that
//! holds a comma or a quote is quoted (`"dest=a,b"`).

use super::ValueError;

/// The fields of one record.
pub(super) fn fields(text: &str) -> Result<Vec<String>, ValueError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            bare_field(rest)?
        };
        fields.push(field);
        match after {
            Some(after) => rest = after,
            None => return Ok(fields),
        }
    }
}

/// A field without quotes, and what follows its comma.
fn bare_field(text: &str) -> Result<(String, Option<&str>), ValueError> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err(ValueError::new(
            format!("a bare `\"` in the field `{field}`"),
            "quote the whole field and double its quotes: `\"key=a \"\"b\"\"\"`",
        ));
    }
    Ok((field.to_owned(), after))
}

/// A field whose opening quote has been read, and what follows its comma.
fn quoted_field(quoted: &str) -> Result<(String, Option<&str>), ValueError> {
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(ValueError::new(
                format!("the quote before `{quoted}` is never closed"),
                "end the field with `\"`",
            ));
        };
        field.push_str(part);
        if let Some(after) = after.strip_prefix('"') {
            field.push('"');
            rest = after;
        } else if after.is_empty() {
            return Ok((field, None));
        } else if let Some(after) = after.strip_prefix(',') {
            return Ok((field, Some(after)));
        } else {
            return Err(ValueError::new(
                format!("`{after}` follows a closing quote"),
                "put a comma between fields",
            ));
        }
    }
}

/// The pairs of one record, keys in lower case and trimmed as buildx does it.
pub(super) fn pairs(text: &str, example: &str) -> Result<Vec<(String, String)>, ValueError> {
    fields(text)?
        .into_iter()
        .map(|field| match field.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_ascii_lowercase(), value.to_owned())),
            None => Err(ValueError::new(
                format!("the field `{field}` is no `key=value` pair"),
                format!("write it like `{example}`"),
            )),
        })
        .collect()
}

/// Whether `text` means yes or no, in the spellings that Go's `strconv.ParseBool` takes.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{fields, pairs};

    #[test]
    fn a_record_splits_at_commas_outside_quotes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[""]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("a,", &["a", ""]),
            (r#""a,b",c"#, &["a,b", "c"]),
            (r#""say ""hi""",x"#, &[r#"say "hi""#, "x"]),
            (r#""","#, &["", ""]),
            ("type=local, dest=x", &["type=local", " dest=x"]),
            ("ключ=знач,b=ü", &["ключ=знач", "b=ü"]),
        ];
        for (text, expected) in table {
            assert_eq!(fields(text).unwrap(), *expected, "{text}");
        }
    }

    #[test]
    fn a_broken_record_names_the_place() {
        for text in [r#"a"b"#, r#""a"#, r#""a"b"#, r#"x,"a""#.trim_end_matches('"')] {
            assert!(fields(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_need_an_equals_sign_and_keep_the_value_as_it_is() {
        assert_eq!(
            pairs("Type=OCI, dest = a=b", "type=oci").unwrap(),
            [("type".to_owned(), "OCI".to_owned()), ("dest".to_owned(), " a=b".to_owned())]
        );
        assert_eq!(
            pairs("type=oci,tar", "type=oci,dest=out.tar").unwrap_err().hint,
            "write it like `type=oci,dest=out.tar`"
        );
    }
}
