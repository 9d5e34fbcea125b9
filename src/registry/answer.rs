//! What servers say when they refuse, made fit to be shown.

use serde_json::Value;

/// Of a server's words, this much is shown.
const MAX_WORDS: usize = 300;

/// The message in the body of a refusal: the distribution API's `errors`, OAuth2's
/// `error_description`, or the `details` of Docker Hub. Empty where there is none; never markup.
pub(super) fn message(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let errors = json.get("errors").and_then(Value::as_array).into_iter().flatten();
    let listed: Vec<String> = errors
        .filter_map(|error| {
            let code = error.get("code").and_then(text);
            let words = error.get("message").and_then(text);
            match (code, words) {
                (Some(code), Some(words)) => Some(format!("{code}: {words}")),
                (one, other) => one.or(other),
            }
        })
        .collect();
    let words = if listed.is_empty() {
        ["error_description", "details", "message", "error"]
            .iter()
            .find_map(|key| json.get(key).and_then(text))
            .unwrap_or_default()
    } else {
        listed.join("; ")
    };
    words.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect()
}

/// The first code of a refusal, as the distribution API has them: `DENIED`, `BLOB_UPLOAD_UNKNOWN`.
pub(super) fn code(body: &[u8]) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let code = json.get("errors")?.as_array()?.first()?.get("code")?.as_str()?;
    let is_code = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!code.is_empty() && code.len() <= 64 && code.chars().all(is_code)).then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{code, message};

    #[test]
    fn codes_are_read_where_they_are_codes() {
        assert_eq!(code(br#"{"errors":[{"code":"DENIED"}]}"#).as_deref(), Some("DENIED"));
        for none in [r#"{"errors":[]}"#, r#"{"errors":[{"code":"a b"}]}"#, "<html>", "{}"] {
            assert_eq!(code(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn every_form_of_refusal_is_read() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no push"},{"code":"UNKNOWN"}]}"#,
                "DENIED: no push; UNKNOWN",
            ),
            (r#"{"error":"invalid_grant","error_description":"token expired"}"#, "token expired"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            (r#"{"error":"invalid_client"}"#, "invalid_client"),
            (r#"{"errors":[]}"#, ""),
            ("<html>", ""),
            ("{\"message\":\"a\\u001b[31m\"}", "a[31m"),
        ] {
            assert_eq!(message(body.as_bytes()), expected, "{body}");
        }
    }
}
