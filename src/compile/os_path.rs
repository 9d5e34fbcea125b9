//! Paths of `WORKDIR`, `COPY` and `ADD`, which on Windows have drive letters and backslashes.

use thiserror::Error;

use crate::llb::path;

/// A path that cannot be used on Windows.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    /// A drive and nothing else.
    #[error("No relative path specified in {0:?}")]
    DriveOnly(String),
    /// A path of the network.
    #[error("UNC paths are not supported")]
    Unc,
    /// A drive other than `C:`.
    #[error("The specified path is not on the system drive (C:)")]
    OtherDrive,
}

/// With slashes, where the system has backslashes.
pub(super) fn to_slash(text: &str, os: &str) -> String {
    if os == "windows" { text.replace('\\', "/") } else { text.into() }
}

fn from_slash(text: &str, os: &str) -> String {
    if os == "windows" { text.replace('/', "\\") } else { text.into() }
}

/// An absolute path with slashes and without a drive, starting at `parent` where it is relative.
pub(super) fn normalize(
    parent: &str,
    text: &str,
    os: &str,
    keep_slash: bool,
) -> Result<String, PathError> {
    let given = to_slash(text, os);
    let parent = to_slash(parent, os);
    let parent = without_drive(if parent.is_empty() { "/" } else { &parent }, os, keep_slash)?;
    let parent = if is_absolute(&parent, os) { parent } else { path::join(["/", parent.as_str()]) };
    let own = if given.is_empty() { parent.as_str() } else { given.as_str() };
    let mut result = without_drive(own, os, keep_slash)?;
    if !is_absolute(&result, os) {
        result = path::join([parent.as_str(), result.as_str()]);
    }
    if keep_slash {
        if given.ends_with('/') && !result.ends_with('/') {
            result.push('/');
        } else if given.ends_with("/.") {
            if result != "/" {
                result.push('/');
            }
            result.push('.');
        }
    }
    Ok(to_slash(&result, os))
}

/// The working directory after `WORKDIR dir`, in the system's own writing.
pub(super) fn workdir(current: &str, dir: &str, os: &str) -> Result<String, PathError> {
    Ok(from_slash(&normalize(current, dir, os, false)?, os))
}

/// Whether a path starts at the root, whatever the drive.
pub(super) fn is_absolute(text: &str, os: &str) -> bool {
    without_drive(text, os, false).is_ok_and(|text| path::is_absolute(&to_slash(&text, os)))
}

/// A path of Windows without its drive, cleaned; any other as it is.
pub(super) fn without_drive(text: &str, os: &str, keep_slash: bool) -> Result<String, PathError> {
    if os != "windows" {
        return Ok(text.into());
    }
    let mut chars = text.chars();
    if text.len() == 2 && text.ends_with(':') {
        return Err(PathError::DriveOnly(text.into()));
    }
    let is_separator = |c: Option<char>| matches!(c, Some('/' | '\\'));
    if is_separator(chars.next()) && is_separator(chars.next()) {
        return Err(PathError::Unc);
    }
    match text.split_once(':') {
        None => Ok(clean(text, keep_slash)),
        Some((drive, rest)) if drive.eq_ignore_ascii_case("c") => Ok(clean(rest, keep_slash)),
        Some(_) => Err(PathError::OtherDrive),
    }
}

fn clean(text: &str, keep_slash: bool) -> String {
    let slashed = text.replace('\\', "/");
    let mut cleaned = path::clean(&slashed);
    if keep_slash && cleaned.len() > 1 && slashed.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// A destination of `COPY`, from the root.
pub(super) fn destination(dir: &str, dest: &str, os: &str) -> Result<String, PathError> {
    let dest = without_drive(dest, os, true)?;
    if is_absolute(&dest, os) {
        return normalize("/", &dest, os, true);
    }
    // The present directory is a directory, and not a name in its parent.
    let dest = if dest == "." || dest.is_empty() { "./" } else { &dest };
    normalize(dir, dest, os, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_on_linux() {
        for (dest, expected) in [
            (".", "/w/"),
            ("", "/w/"),
            ("a", "/w/a"),
            ("a/", "/w/a/"),
            ("a/.", "/w/a/."),
            ("/x/../y/", "/x/../y/"),
            ("../up", "/up"),
        ] {
            assert_eq!(destination("/w", dest, "linux"), Ok(expected.into()), "{dest}");
        }
    }

    #[test]
    fn directories_on_windows() {
        assert_eq!(workdir("", "C:\\App", "windows"), Ok("\\App".into()));
        assert_eq!(workdir("\\App", "sub/dir", "windows"), Ok("\\App\\sub\\dir".into()));
        assert_eq!(workdir("", "d:\\x", "windows"), Err(PathError::OtherDrive));
        assert_eq!(workdir("", "\\\\host\\x", "windows"), Err(PathError::Unc));
        assert_eq!(destination("/App", "C:\\b\\", "windows"), Ok("/b/".into()));
    }
}
