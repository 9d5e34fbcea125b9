//! The shortest path that means the same, by Go's rules.

/// Tidies `path` without looking at a disk: no empty and no `.` parts, `..` resolved where there is
/// something to go up from, no slash at the end. The empty path is `.`.
///
/// This is what Go's `path.Clean` answers, on which pattern clean-up, link targets and follow paths
/// are built on the builder's side.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.last().is_some_and(|last| *last != "..") {
                    parts.pop();
                } else if !rooted {
                    parts.push("..");
                }
            }
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_tidied() {
        for (path, expected) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//", "/"),
            ("/..", "/"),
            ("a//b/", "a/b"),
            ("./a/../b", "b"),
            ("../x", "../x"),
            ("a/../..//b", "../b"),
            ("a/..", "."),
            ("/a/../../b", "/b"),
            ("../../x/..", "../.."),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }
}
