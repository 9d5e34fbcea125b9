//! What a context argument names: a directory, stdin, a git repository or a URL.

use super::Context;
use std::path::PathBuf;

impl Context {
    /// The context that `text` names, as buildx reads it: `-` is stdin, a directory here comes
    /// before every other reading (`is_directory` looks), then git URLs (`https://….git`,
    /// `git@host:path`, `ssh://…`, `git://…`, `github.com/…`; each with `#ref:dir` or a query),
    /// then http(s) URLs. None where it is none of these.
    pub fn classify(text: &str, is_directory: impl FnOnce(&str) -> bool) -> Option<Self> {
        if text == "-" {
            Some(Self::Stdin)
        } else if is_directory(text) {
            Some(Self::Directory(PathBuf::from(text)))
        } else if is_git(text) {
            Some(Self::Git(text.to_owned()))
        } else if is_http(text) {
            Some(Self::Http(text.to_owned()))
        } else {
            None
        }
    }

    /// Whether its files are fetched by the builder.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Git(_) | Self::Http(_))
    }

    /// Whether it is a git repository reached over ssh, so that the builder needs an agent.
    pub fn is_git_over_ssh(&self) -> bool {
        matches!(self, Self::Git(url) if url.starts_with("ssh://") || is_scp_form(url))
    }
}

fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Whether BuildKit fetches `text` with git. Over http(s) only a path that ends in `.git` is a
/// repository; everything else there is a file.
fn is_git(text: &str) -> bool {
    if text.starts_with("./") || text.starts_with("../") {
        return false;
    }
    match text.split_once("://") {
        Some(("http" | "https", rest)) => {
            let end = rest.find(['#', '?']).unwrap_or(rest.len());
            let location = rest.get(..end).unwrap_or(rest);
            location.contains('/') && location.strip_suffix(".git").is_some()
        }
        Some(("git" | "ssh", rest)) => !rest.is_empty(),
        Some(_) => false,
        None => text.starts_with("github.com/") || is_scp_form(text),
    }
}

/// `user@host:path`.
fn is_scp_form(text: &str) -> bool {
    let Some((user, rest)) = text.split_once('@') else { return false };
    let Some((host, _)) = rest.split_once(':') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !user.is_empty()
        && user.chars().all(|c| plain(c) || c == '_')
        && !host.is_empty()
        && host.chars().all(|c| plain(c) || c == '.')
}

#[cfg(test)]
mod tests {
    use super::Context;

    #[test]
    fn contexts_are_told_apart_as_buildx_does_it() {
        let table = [
            ("-", "Some(Stdin)"),
            (".", r#"Some(Directory("."))"#),
            ("app", r#"Some(Directory("app"))"#),
            ("https://github.com/a/b.git", r#"Some(Git("https://github.com/a/b.git"))"#),
            (
                "https://github.com/a/b.git#main:sub",
                r#"Some(Git("https://github.com/a/b.git#main:sub"))"#,
            ),
            (
                "https://github.com/a/b.git?ref=v1",
                r#"Some(Git("https://github.com/a/b.git?ref=v1"))"#,
            ),
            ("https://github.com/a/b", r#"Some(Http("https://github.com/a/b"))"#),
            ("https://example.com/app.tar.gz", r#"Some(Http("https://example.com/app.tar.gz"))"#),
            ("https://example.com/x#y.git", r#"Some(Http("https://example.com/x#y.git"))"#),
            ("git@github.com:a/b.git", r#"Some(Git("git@github.com:a/b.git"))"#),
            ("ssh://git@host/a/b", r#"Some(Git("ssh://git@host/a/b"))"#),
            ("git://host/a", r#"Some(Git("git://host/a"))"#),
            ("github.com/a/b", r#"Some(Git("github.com/a/b"))"#),
            ("../github.com/a", "None"),
            ("ftp://host/a.git", "None"),
            ("nowhere", "None"),
            ("", "None"),
        ];
        for (text, expected) in table {
            let context = Context::classify(text, |path| matches!(path, "." | "app"));
            assert_eq!(format!("{context:?}"), expected, "{text}");
        }
    }

    #[test]
    fn a_directory_comes_before_a_url_of_the_same_name() {
        let context = Context::classify("github.com/a/b", |_| true);
        assert_eq!(context, Some(Context::Directory("github.com/a/b".into())));
    }

    #[test]
    fn git_over_ssh_is_known() {
        let table = [
            ("git@github.com:a/b.git", true),
            ("ssh://git@host/a/b", true),
            ("https://github.com/a/b.git", false),
            ("git://host/a", false),
        ];
        for (text, expected) in table {
            let context = Context::classify(text, |_| false).unwrap();
            assert_eq!(context.is_git_over_ssh(), expected, "{text}");
        }
    }
}
