//! Slash-separated paths, cleaned by Go's rules: what a path means on the builder, not here.

/// The shortest path that means the same: no `.`, no `..` that can be resolved, no doubled or
/// trailing slash. The empty path is `.`.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".into(),
        (false, false) => joined,
    }
}

/// Parts put behind each other, cleaned; empty ones are left out, and nothing at all is empty.
pub fn join<I, T>(parts: I) -> String
where
    I: IntoIterator<Item = T>,
    T: AsRef<str>,
{
    let filled: Vec<T> = parts.into_iter().filter(|part| !part.as_ref().is_empty()).collect();
    let filled: Vec<&str> = filled.iter().map(AsRef::as_ref).collect();
    if filled.is_empty() { String::new() } else { clean(&filled.join("/")) }
}

/// The last part; `.` of nothing, `/` of slashes alone.
pub fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() { "/" } else { trimmed.rsplit('/').next().unwrap_or(trimmed) }
}

/// Whether a path starts at the root.
pub fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_follows_go() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b/../c", "a/c"),
            ("../a", "../a"),
            ("../../a/../b", "../../b"),
            ("/../a", "/a"),
            ("a/..", "."),
            ("/a/../..", "/"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
        assert_eq!(join(["", ""]), "");
        assert_eq!(join(["/", "a", "../b"]), "/b");
        assert_eq!(base("/a/b/"), "b");
        assert_eq!(base("//"), "/");
        assert_eq!(base(""), ".");
    }
}
