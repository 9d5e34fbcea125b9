//! Two layers side by side, as tar streams that are read a piece at a time; nothing is unpacked.

use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};
use tar::{Archive, Entry};

/// Bytes of a file that are compared at a time.
const PIECE: usize = 64 << 10;
/// What names an extended attribute among the records of an entry.
const ATTRIBUTE: &str = "SCHILY.xattr.";
/// Records that say what the reader of the archive tells anyway.
const KNOWN_RECORDS: [&str; 3] = ["linkpath", "path", "size"];
/// The field that a file's time is.
const TIME: &str = "mtime";

/// Where two layers part: the first difference, and behind one of times the first that is more.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LayerDifference {
    /// The first one.
    pub first: Difference,
    /// The first that is no file's time; none where the first is that already, or where only times
    /// are different.
    pub beyond_times: Option<Difference>,
}

/// One thing that two layers differ in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// The path; of the first layer, where both have another one there.
    pub path: String,
    /// What is different.
    #[serde(flatten)]
    pub kind: DifferenceKind,
}

/// What two layers differ in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum DifferenceKind {
    /// Only the first one has it.
    OnlyFirst,
    /// Only the second one has it.
    OnlySecond,
    /// They have other paths, or others first.
    Path {
        /// What the second one has there.
        second: String,
    },
    /// Something about it that is not its content.
    Field {
        /// What, such as `mtime` or `mode`.
        field: String,
        /// In the first one.
        first: String,
        /// In the second one.
        second: String,
    },
    /// Its content.
    Content {
        /// The first byte that is not the same, from 0.
        byte: u64,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            DifferenceKind::OnlyFirst => write!(formatter, "`{path}` is not made any more"),
            DifferenceKind::OnlySecond => write!(formatter, "`{path}` was not there"),
            DifferenceKind::Path { second } => {
                write!(formatter, "`{second}` stands where `{path}` was")
            }
            DifferenceKind::Field { field, first, second } => {
                write!(formatter, "`{path}`: its {field} was {first} and is {second}")
            }
            DifferenceKind::Content { byte } => {
                write!(formatter, "`{path}`: its content differs from byte {byte} on")
            }
        }
    }
}

/// The first difference between two layers, as tar streams that are not compressed. None where both
/// hold the same.
///
/// # Errors
/// One of them cannot be read, or is no tar stream.
pub fn compare(first: impl Read, second: impl Read) -> io::Result<Option<LayerDifference>> {
    let (mut first, mut second) = (Archive::new(first), Archive::new(second));
    let (mut left, mut right) = (first.entries()?, second.entries()?);
    let mut of_time = None;
    loop {
        let difference = match (left.next().transpose()?, right.next().transpose()?) {
            (None, None) => break,
            (Some(one), None) => only(&one, DifferenceKind::OnlyFirst),
            (None, Some(other)) => only(&other, DifferenceKind::OnlySecond),
            (Some(mut one), Some(mut other)) => match entries(&mut one, &mut other)? {
                (time, None) => {
                    of_time = of_time.or(time);
                    continue;
                }
                (time, Some(difference)) => {
                    of_time = of_time.or(time);
                    difference
                }
            },
        };
        return Ok(Some(match of_time {
            Some(first) => LayerDifference { first, beyond_times: Some(difference) },
            None => LayerDifference { first: difference, beyond_times: None },
        }));
    }
    Ok(of_time.map(|first| LayerDifference { first, beyond_times: None }))
}

fn only<R: Read>(entry: &Entry<'_, R>, kind: DifferenceKind) -> Difference {
    Difference { path: path(entry), kind }
}

fn path<R: Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).into_owned()
}

/// What two entries differ in: their times, and the first thing that is more.
fn entries<A: Read, B: Read>(
    one: &mut Entry<'_, A>,
    other: &mut Entry<'_, B>,
) -> io::Result<(Option<Difference>, Option<Difference>)> {
    let path = path(one);
    let different = |kind| Some(Difference { path: path.clone(), kind });
    let second = self::path(other);
    if path != second {
        return Ok((None, different(DifferenceKind::Path { second })));
    }
    let (left, right) = (fields(one)?, fields(other)?);
    let missing = || "not there".to_owned();
    let mut of_time = None;
    let mut more = None;
    for field in left.keys().chain(right.keys()) {
        let (first, second) = (left.get(field), right.get(field));
        if first == second {
            continue;
        }
        let kind = DifferenceKind::Field {
            field: field.clone(),
            first: first.cloned().unwrap_or_else(missing),
            second: second.cloned().unwrap_or_else(missing),
        };
        let place = if field == TIME { &mut of_time } else { &mut more };
        if place.is_none() {
            *place = different(kind);
        }
    }
    // Where sizes are different, where the content parts is still what tells more.
    let is_size = matches!(&more, Some(Difference { kind: DifferenceKind::Field { field, .. }, .. }) if field == "size");
    if (more.is_none() || is_size)
        && let Some(byte) = content(one, other)?
    {
        more = different(DifferenceKind::Content { byte });
    }
    Ok((of_time, more))
}

/// All about an entry but its path and content.
fn fields<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    let mut owner = (number(entry.header().uid()), number(entry.header().gid()));
    fields.insert(TIME.to_owned(), number(entry.header().mtime()));
    for record in entry.pax_extensions()?.into_iter().flatten() {
        let record = record?;
        let Ok(key) = record.key() else { continue };
        let value = String::from_utf8_lossy(record.value_bytes()).into_owned();
        match key {
            // What is too large or too fine for a header stands in a record.
            TIME => drop(fields.insert(TIME.to_owned(), value)),
            "uid" => owner.0 = value,
            "gid" => owner.1 = value,
            key if KNOWN_RECORDS.contains(&key) => {}
            key => {
                let name = match key.strip_prefix(ATTRIBUTE) {
                    Some(name) => format!("attribute {name}"),
                    None => format!("record {key}"),
                };
                fields.insert(name, format!("{value:?}"));
            }
        }
    }
    let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned());
    let header = entry.header();
    fields.insert("kind".to_owned(), format!("{:?}", header.entry_type()));
    fields.insert("mode".to_owned(), format!("{:o}", header.mode()?));
    fields.insert("owner".to_owned(), format!("{}:{}", owner.0, owner.1));
    fields.insert("size".to_owned(), format!("{} bytes", entry.size()));
    if let Some(link) = link {
        fields.insert("link".to_owned(), link);
    }
    let device = (header.device_major().ok().flatten(), header.device_minor().ok().flatten());
    if let (Some(major), Some(minor)) = device
        && (major, minor) != (0, 0)
    {
        fields.insert("device".to_owned(), format!("{major}:{minor}"));
    }
    Ok(fields)
}

/// A number of a header; one that is left empty, or stands in a record, is none.
fn number(read: io::Result<u64>) -> String {
    read.map_or_else(|_| "none".to_owned(), |number| number.to_string())
}

/// The first byte that is not the same.
fn content(one: &mut impl Read, other: &mut impl Read) -> io::Result<Option<u64>> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut at = 0_u64;
    loop {
        let (first, second) = (fill(one, &mut left)?, fill(other, &mut right)?);
        let place = first.iter().zip(second).position(|(left, right)| left != right);
        let shorter = first.len().min(second.len());
        if place.is_some() || first.len() != second.len() {
            let place = u64::try_from(place.unwrap_or(shorter)).unwrap_or_default();
            return Ok(Some(at + place));
        }
        if first.is_empty() {
            return Ok(None);
        }
        at += u64::try_from(first.len()).unwrap_or_default();
    }
}

/// Reads until `buffer` is full or the end is there; what was read.
fn fill<'b>(from: &mut impl Read, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match from.read(free)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, EntryType, Header};

    /// A layer of files: path, mode, mtime, content.
    fn layer(files: &[(&str, u32, u64, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (path, mode, mtime, content) in files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_mtime(*mtime);
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn compared(first: &[u8], second: &[u8]) -> Option<(String, Option<String>)> {
        let found = compare(first, second).unwrap()?;
        Some((found.first.to_string(), found.beyond_times.map(|more| more.to_string())))
    }

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        let big = vec![7; PIECE + 10];
        let mut other = big.clone();
        other[PIECE + 3] = 8;
        let base = layer(&[("a", 0o644, 1, b"one"), ("b", 0o644, 1, &big)]);
        assert_eq!(compared(&base, &base), None);
        for (second, expected) in [
            (layer(&[("a", 0o644, 1, b"one")]), "`b` is not made any more".to_owned()),
            (
                layer(&[("a", 0o644, 1, b"one"), ("b", 0o644, 1, &other)]),
                format!("`b`: its content differs from byte {} on", PIECE + 3),
            ),
            (layer(&[("a", 0o600, 1, b"one")]), "`a`: its mode was 644 and is 600".to_owned()),
            (
                layer(&[("a", 0o644, 1, b"on")]),
                "`a`: its content differs from byte 2 on".to_owned(),
            ),
            (layer(&[("c", 0o644, 1, b"one")]), "`c` stands where `a` was".to_owned()),
        ] {
            assert_eq!(compared(&base, &second), Some((expected, None)));
        }
        let more = layer(&[("a", 0o644, 1, b"one"), ("b", 0o644, 1, &big), ("c", 0o644, 1, b"")]);
        assert_eq!(compared(&base, &more), Some(("`c` was not there".to_owned(), None)));
    }

    #[test]
    fn behind_a_time_the_first_that_is_more_is_named_too() {
        let base = layer(&[("a", 0o644, 1, b"one"), ("b", 0o644, 1, b"two")]);
        let time = "`a`: its mtime was 1 and is 2".to_owned();
        for (second, more) in [
            (layer(&[("a", 0o644, 2, b"one"), ("b", 0o644, 9, b"two")]), None),
            (
                layer(&[("a", 0o644, 2, b"one"), ("b", 0o644, 9, b"twO")]),
                Some("`b`: its content differs from byte 2 on".to_owned()),
            ),
            (
                layer(&[("a", 0o644, 2, b"0ne"), ("b", 0o644, 9, b"two")]),
                Some("`a`: its content differs from byte 0 on".to_owned()),
            ),
        ] {
            assert_eq!(compared(&base, &second), Some((time.clone(), more)));
        }
    }

    #[test]
    fn records_of_an_entry_count() {
        let layer = |records: &[(&str, &[u8])]| {
            let mut builder = Builder::new(Vec::new());
            builder.append_pax_extensions(records.iter().copied()).unwrap();
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_mtime(1);
            header.set_size(1);
            builder.append_data(&mut header, "a", &b"x"[..]).unwrap();
            builder.into_inner().unwrap()
        };
        let fine = layer(&[("mtime", b"1.25")]);
        assert_eq!(compared(&fine, &fine), None);
        assert_eq!(
            compared(&fine, &layer(&[("mtime", b"1.5")])),
            Some(("`a`: its mtime was 1.25 and is 1.5".to_owned(), None))
        );
        let able = layer(&[("mtime", b"1.25"), ("SCHILY.xattr.user.a", b"b")]);
        assert_eq!(
            compared(&fine, &able),
            Some(("`a`: its attribute user.a was not there and is \"b\"".to_owned(), None))
        );
    }

    #[test]
    fn what_is_no_layer_is_an_error() {
        let layer = layer(&[("a", 0o644, 1, b"one")]);
        let broken = b"no tar stream, and longer than a header of one: 512 bytes".repeat(20);
        assert!(compare(&broken[..], &layer[..]).is_err());
    }
}
