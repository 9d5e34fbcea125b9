//! What a user is told when a registry says no, and that no password is told to anybody.

use super::lend::Canary;
use crate::{bed, cli::Place};
use bk_sync::buildkit::session::random_id;

struct Refused {
    json: serde_json::Value,
    stderr: String,
}

/// Builds and pushes a small image; the push must be refused.
fn push(builder: &str, registry: &str, login: Option<(&str, &str)>) -> Refused {
    let place = Place::new();
    let dockerfile = format!("FROM {}\nLABEL nonce={}\n", bed::base_multi(), random_id());
    place.write("Dockerfile", &dockerfile);
    let name = format!("{registry}/session/{}:t", random_id());
    let mut command = place.command(&["build", "-vvv", "--format", "json"]);
    command.args(["--builder", builder, "--push", "-t", &name, "."]);
    if let Some((username, password)) = login {
        command.env("BK_SYNC_REGISTRY_USERNAME", username);
        command.env("BK_SYNC_REGISTRY_PASSWORD", password);
    }
    let ran = place.ran(&command.output().unwrap());
    assert_eq!(ran.code, Some(17), "{ran:?}");
    Refused { json: ran.json(), stderr: ran.stderr }
}

impl Refused {
    fn text(&self, pointer: &str) -> &str {
        let value = self.json.pointer(pointer).and_then(serde_json::Value::as_str);
        value.unwrap_or_else(|| panic!("no {pointer} in {}", self.json))
    }
}

#[test]
fn a_wrong_password_is_told_by_user_and_place_and_stays_nowhere() {
    let canary = Canary::new();
    for builder in [bed::buildkitd(), bed::dockerd()] {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            let refused = push(builder, registry, Some((bed::user().0, canary.text.as_str())));
            assert_eq!(refused.text("/error/code"), "PUSH_DENIED");
            assert!(refused.text("/fix").contains("BK_SYNC_REGISTRY_PASSWORD"), "{}", refused.json);
            let all = format!("{} {}", refused.json, refused.stderr);
            assert!(!all.contains(&canary.text), "{all}");
            if registry == bed::registry_token() {
                let cause = refused.text("/error/details/causes/0");
                let user = bed::user().0;
                let expected = format!(
                    "`{registry}` does not accept the credentials of `{user}` from \
                     `BK_SYNC_REGISTRY_PASSWORD`"
                );
                assert!(cause.starts_with(&expected), "{cause}");
            }
        }
    }
    canary.assert_nowhere();
}

#[test]
fn no_password_and_too_little_a_right_are_told_apart() {
    let registry = bed::registry_token();
    let anonymous = push(bed::buildkitd(), registry, None);
    let cause = anonymous.text("/error/details/causes/0");
    assert!(cause.contains(":pull,push` to the anonymous: cannot open an upload"), "{cause}");
    assert!(anonymous.text("/fix").contains("docker login"), "{}", anonymous.json);
    let (user, password) = bed::pull_only_user();
    let reader = push(bed::buildkitd(), registry, Some((user, password)));
    let cause = reader.text("/error/details/causes/0");
    assert!(cause.contains(&format!(":push` to `{user}`")), "{cause}");
    assert!(reader.text("/fix").contains("write access"), "{}", reader.json);
}
