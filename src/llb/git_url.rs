//! Addresses of git repositories: URLs, and `user@host:path` as scp writes it.

use regex::Regex;
use std::sync::LazyLock;
use thiserror::Error;

use super::path;

/// How a repository is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `git://`, in the clear.
    Git,
    /// `http://`, in the clear.
    Http,
    /// `https://`.
    Https,
    /// `ssh://`, or scp's form.
    Ssh,
}

/// The parts of the address of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl {
    /// How it is reached.
    pub scheme: Scheme,
    /// Host, with a port where there is one.
    pub host: String,
    /// Path on the host.
    pub path: String,
    /// Names and values behind the `?`, decoded, in the order of the names; a name may repeat.
    pub query: Vec<(String, String)>,
    /// What is before the colon behind the `#`.
    pub reference: String,
    /// What is behind the colon behind the `#`.
    pub subdir: String,
    /// The address alone, for git itself.
    pub remote: String,
}

/// Why a text is no address of a repository.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GitUrlError {
    /// It has neither a protocol nor scp's form.
    #[error("unknown protocol")]
    UnknownProtocol,
    /// Its protocol is none of git's.
    #[error("{0}: invalid protocol")]
    InvalidProtocol(String),
    /// It cannot be read as a URL.
    #[error("parse {0:?}: invalid URL")]
    Malformed(String),
}

impl GitUrl {
    /// Parses an address.
    ///
    /// # Errors
    /// [`GitUrlError`], which says whether the text may be something else altogether.
    pub fn parse(text: &str) -> Result<Self, GitUrlError> {
        let protocol = text.split_once("://").map(|(protocol, _)| protocol).filter(|protocol| {
            !protocol.is_empty() && protocol.chars().all(|c| c.is_ascii_alphanumeric())
        });
        let Some(protocol) = protocol else { return Self::parse_scp(text) };
        let scheme = match protocol.to_ascii_lowercase().as_str() {
            "git" => Scheme::Git,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "ssh" => Scheme::Ssh,
            other => return Err(GitUrlError::InvalidProtocol(other.into())),
        };
        Self::parse_url(text, scheme).ok_or_else(|| GitUrlError::Malformed(text.into()))
    }

    fn parse_url(text: &str, scheme: Scheme) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control()) {
            return None;
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (protocol, rest) = rest.split_once("://")?;
        let (authority, raw_path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) || !port_fits(host) {
            return None;
        }
        let decoded = unescape(raw_path, false)?;
        let path_again =
            if is_encoded(raw_path) { raw_path.to_owned() } else { escape_path(&decoded) };
        let user = match user {
            Some(user) => format!("{}@", user_again(user)?),
            None => String::new(),
        };
        // A lone question mark at the end stays with the address.
        let mark = if query.is_empty() && has_empty_query(text) { "?" } else { "" };
        // Where nothing stands behind the slashes, Go leaves them out too; what git then makes of
        // `git:` is a host of that name.
        let slashes =
            if user.is_empty() && host.is_empty() && decoded.is_empty() { "" } else { "//" };
        let fragment = unescape(fragment, false)?;
        let (reference, subdir) = split_fragment(&fragment);
        Some(Self {
            scheme,
            host: host.into(),
            path: decoded,
            query: parse_query(query),
            reference,
            subdir,
            remote: format!(
                "{}:{slashes}{user}{host}{path_again}{mark}",
                protocol.to_ascii_lowercase()
            ),
        })
    }

    fn parse_scp(text: &str) -> Result<Self, GitUrlError> {
        static SCP: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r"^([a-zA-Z0-9_-]+)@([a-zA-Z0-9.-]+):(.*?)(?:\?(.*?))?(?:#(.*))?$").ok()
        });
        let captures = SCP
            .as_ref()
            .and_then(|pattern| pattern.captures(text))
            .ok_or(GitUrlError::UnknownProtocol)?;
        let group = |at: usize| captures.get(at).map_or("", |group| group.as_str());
        let (reference, subdir) = split_fragment(group(5));
        Ok(Self {
            scheme: Scheme::Ssh,
            host: group(2).into(),
            path: group(3).into(),
            query: parse_query(group(4)),
            reference,
            subdir,
            remote: format!("{}@{}:{}", group(1), group(2), group(3)),
        })
    }
}

fn split_fragment(fragment: &str) -> (String, String) {
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    let subdir = path::join(["/", subdir]);
    (reference.into(), subdir.trim_start_matches('/').into())
}

fn has_empty_query(text: &str) -> bool {
    let address = text.split('#').next().unwrap_or_default();
    address.ends_with('?') && address.matches('?').count() == 1
}

/// Name and password, decoded and written anew; nothing where they hold what they may not.
fn user_again(user: &str) -> Option<String> {
    let may_stand = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
    if !user.chars().all(may_stand) {
        return None;
    }
    let again = |text: &str| -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~$&+,;=".contains(&byte);
        Some(escape(&unescape(text, false)?, plain))
    };
    match user.split_once(':') {
        Some((name, password)) => Some(format!("{}:{}", again(name)?, again(password)?)),
        None => again(user),
    }
}

fn port_fits(host: &str) -> bool {
    let port = match host.rsplit_once(']') {
        Some((_, "")) => return true,
        Some((_, rest)) => match rest.strip_prefix(':') {
            Some(port) => port,
            None => return false,
        },
        None => match host.split_once(':') {
            Some((_, port)) => port,
            None => return true,
        },
    };
    port.chars().all(|c| c.is_ascii_digit())
}

/// Whether a path is written as a path may be, so that it need not be written anew.
fn is_encoded(path: &str) -> bool {
    path.bytes().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'_'
                    | b'.'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
                    | b'['
                    | b']'
                    | b'/'
                    | b'%'
            )
    })
}

fn escape_path(path: &str) -> String {
    escape(path, |byte| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte))
}

/// The text with `%XX` for every byte that cannot stand as it is.
fn escape(text: &str, is_plain: impl Fn(u8) -> bool) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Undoes `%XX`; nothing where a `%` is followed by something else.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    unescape(text, false)
}

/// Undoes `%XX`, and `+` for a blank where `plus` is set.
fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                decoded.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if plus => decoded.push(b' '),
            _ => decoded.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

/// Names and values, sorted by name; what cannot be read is left out, as Go leaves it out.
fn parse_query(query: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.contains(';'))
        .filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name, true)?, unescape(value, true)?))
        })
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url =
            GitUrl::parse("https://git.example.test:8443/a/b.git?ref=v1&subdir=x#main:c/../d")
                .unwrap();
        assert_eq!(url.host, "git.example.test:8443");
        assert_eq!(url.path, "/a/b.git");
        assert_eq!((url.reference.as_str(), url.subdir.as_str()), ("main", "d"));
        assert_eq!(url.remote, "https://git.example.test:8443/a/b.git");
        assert_eq!(url.query.len(), 2);
    }

    #[test]
    fn names_and_passwords_are_written_anew() {
        let remote = |text: &str| GitUrl::parse(text).map(|url| url.remote);
        for (text, expected) in [
            ("https://a:b@h/r.git#x", "https://a:b@h/r.git"),
            ("https://a%40:%62!@h/r.git", "https://a%40:b%21@h/r.git"),
            ("https://a:@h/r.git", "https://a:@h/r.git"),
            ("https://h/r.git?#x", "https://h/r.git?"),
            ("https://h/r.git??", "https://h/r.git"),
            ("git://", "git:"),
            ("git://#main:a", "git:"),
            ("git://@", "git://@"),
            ("git:///r", "git:///r"),
        ] {
            assert_eq!(remote(text), Ok(expected.into()), "{text}");
        }
        assert!(remote("https://a b@h/r.git").is_err());
    }

    #[test]
    fn scp_form_is_ssh() {
        let url = GitUrl::parse("git@git.example.test:team/repo.git#v2").unwrap();
        assert_eq!(url.scheme, Scheme::Ssh);
        assert_eq!(url.path, "team/repo.git");
        assert_eq!(url.reference, "v2");
        assert_eq!(url.remote, "git@git.example.test:team/repo.git");
    }

    #[test]
    fn other_texts_are_told_apart() {
        assert_eq!(GitUrl::parse("a/b"), Err(GitUrlError::UnknownProtocol));
        assert_eq!(GitUrl::parse("ftp://a/b"), Err(GitUrlError::InvalidProtocol("ftp".into())));
        assert!(matches!(GitUrl::parse("https://a/%zz"), Err(GitUrlError::Malformed(_))));
    }
}
