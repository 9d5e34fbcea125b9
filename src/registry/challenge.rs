//! What a registry wants of us: the `WWW-Authenticate` header (RFC 9110, section 11).

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// `bearer`, `basic`, … in lower case.
    pub scheme: String,
    /// Parameters in the order given; names in lower case.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The challenges of one header; a registry may send several headers, and several in one. What
/// cannot be read ends the list: what was read before it still holds.
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = separators(header);
    while let Some((word, after)) = token(rest) {
        let spaced = after.trim_start_matches([' ', '\t']);
        let parameter =
            spaced.strip_prefix('=').and_then(|text| value(text.trim_start_matches([' ', '\t'])));
        match (parameter, found.last_mut()) {
            (Some((value, after)), Some(challenge)) => {
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = separators(after);
            }
            (None, _) if !spaced.starts_with('=') => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                rest = separators(after);
            }
            _ => break,
        }
    }
    found
}

fn separators(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', ','])
}

/// A token of RFC 9110 at the start of `text`, and what follows it.
fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(word, _)| !word.is_empty())
}

/// A quoted string or a token at the start of `text`, and what follows it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Unquoted URLs are not allowed, and common.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return text.split_at_checked(end).map(|(word, rest)| (word.to_owned(), rest));
    };
    let mut plain = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((plain, characters.as_str())),
            '\\' => plain.push(characters.next()?),
            other => plain.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    fn shown(header: &str) -> String {
        let each = parse(header).into_iter().map(|challenge| {
            let parameters: Vec<_> =
                challenge.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}[{}]", challenge.scheme, parameters.join("|"))
        });
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn headers_of_real_registries() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#,
                "bearer[realm=https://auth.docker.io/token|service=registry.docker.io|scope=repository:library/x:pull,push]",
            ),
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io",error="insufficient_scope""#,
                "bearer[realm=https://ghcr.io/token|service=ghcr.io|error=insufficient_scope]",
            ),
            (r#"Basic realm="Registry Realm""#, "basic[realm=Registry Realm]"),
            (r#"BASIC realm="a", bearer Realm="b" , x=y"#, "basic[realm=a] bearer[realm=b|x=y]"),
            ("Negotiate, Basic", "negotiate[] basic[]"),
            (r#"Basic realm="say \"hi\"""#, r#"basic[realm=say "hi"]"#),
            ("Bearer realm=https://a/token,service=b", "bearer[realm=https://a/token|service=b]"),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_list() {
        assert_eq!(shown(""), "");
        assert_eq!(shown(r#"Bearer realm="open"#), "bearer[]");
        assert_eq!(shown("=x"), "");
        assert_eq!(shown("Basic realm=\"a\", ü"), "basic[realm=a]");
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_loop(header in ".{0,80}") {
            parse(&header);
        }
    }
}
