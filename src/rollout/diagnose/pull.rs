//! What a node's words about a pull mean. Runtimes and registries have no codes for it, but they
//! have had the same words for years.

use crate::rollout::code::Code;

/// What a failed pull means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pull {
    pub(super) code: Code,
    pub(super) fatal: bool,
}

/// What the node's reason and words about a pull mean. `secret_missing` is whether the node also
/// said that it lacks a pull secret.
pub(super) fn read(reason: &str, words: &str, secret_missing: bool) -> Pull {
    let words = words.to_ascii_lowercase();
    let has = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    let fatal = |code| Pull { code, fatal: true };
    let patient = |code| Pull { code, fatal: false };
    match reason {
        "InvalidImageName" => return fatal(Code::ImageNameInvalid),
        "ErrImageNeverPull" => return fatal(Code::ImageNotFound),
        _ => {}
    }
    if has(&[
        "no match for platform",
        "does not match the specified platform",
        "no image found in image index for architecture",
    ]) {
        return fatal(Code::ArchMismatch);
    }
    if has(&["toomanyrequests", "too many requests", "rate limit"]) {
        return patient(Code::ImagePullRateLimited);
    }
    let denied = has(&[
        "unauthorized",
        "denied",
        "forbidden",
        "authentication required",
        "no basic auth credentials",
        "authorization failed",
        "insufficient_scope",
    ]);
    if denied {
        return fatal(if secret_missing { Code::PullSecretMissing } else { Code::ImagePullDenied });
    }
    if has(&["manifest unknown", "name unknown", "not found", "does not exist", "notfound"]) {
        return fatal(Code::ImageNotFound);
    }
    if has(&["server gave http response to https client", "x509:", "certificate"]) {
        return fatal(Code::ImagePullFailed);
    }
    if secret_missing && words.is_empty() {
        return fatal(Code::PullSecretMissing);
    }
    patient(Code::ImagePullFailed)
}

#[cfg(test)]
mod tests {
    use super::{Code, Pull, read};

    #[test]
    fn a_nodes_words_have_a_meaning() {
        let table = [
            (
                "failed to pull and unpack image \"r/a@sha256:0\": failed to resolve reference: r/a@sha256:0: not found",
                Code::ImageNotFound,
                true,
            ),
            ("manifest unknown: manifest unknown", Code::ImageNotFound, true),
            ("no match for platform in manifest: not found", Code::ArchMismatch, true),
            (
                "failed to authorize: failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized",
                Code::ImagePullDenied,
                true,
            ),
            (
                "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope",
                Code::ImagePullDenied,
                true,
            ),
            ("unexpected status code 403 Forbidden", Code::ImagePullDenied, true),
            ("429 Too Many Requests - toomanyrequests: limit", Code::ImagePullRateLimited, false),
            ("dial tcp: lookup r.example: no such host", Code::ImagePullFailed, false),
            ("dial tcp 10.0.0.1:443: i/o timeout", Code::ImagePullFailed, false),
            ("http: server gave HTTP response to HTTPS client", Code::ImagePullFailed, true),
            ("", Code::ImagePullFailed, false),
        ];
        for (words, code, fatal) in table {
            assert_eq!(read("ErrImagePull", words, false), Pull { code, fatal }, "{words}");
        }
        let missing = read("ErrImagePull", "401 Unauthorized", true);
        assert_eq!(missing, Pull { code: Code::PullSecretMissing, fatal: true });
        assert_eq!(read("InvalidImageName", "", false).code, Code::ImageNameInvalid);
    }
}
