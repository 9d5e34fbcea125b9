//! Pushing and pulling with lent credentials: right ones, wrong ones, none.

use super::{Build, session};
use crate::bed;
use bk_sync::{
    buildkit::session::{Auth, random_id},
    credential::{Chain, DockerConfig, Given, RegistryHost, Secret},
    event::Events,
    pipeline::login::{Login, LoginFailure},
    proto::moby::buildkit::v1::Exporter,
    registry::{
        challenge,
        token::{TokenClient, TokenError},
    },
};
use std::collections::BTreeMap;
use tonic::Status;

/// The builders that push; a Docker with graphdrivers pushes through its own API only.
fn pushers() -> [&'static str; 2] {
    [bed::buildkitd(), bed::dockerd()]
}

fn tokens() -> TokenClient {
    // Another test may have been first.
    drop(rustls::crypto::ring::default_provider().install_default());
    TokenClient::new("bk-sync/test")
}

fn given(registry: &str, (username, password): (&str, &str)) -> Chain {
    let hosts = vec![RegistryHost::new(registry)];
    Chain::new().with(Given::new(hosts, username, Secret::new(password), "TEST"))
}

/// Pushes a small image to `registry`; returns what the builder said and what stood in the way.
async fn push(
    builder: &'static str,
    registry: &str,
    chain: Chain,
) -> (Result<BTreeMap<String, String>, Status>, Vec<LoginFailure>) {
    let login = Login::new(chain, tokens(), Events::discard());
    let repository = format!("{registry}/session/{}", random_id());
    let dockerfile = format!("FROM {}\nLABEL nonce={}\n", bed::base_multi(), random_id());
    let mut build = Build::new(builder, &dockerfile);
    let attributes = [("name", format!("{repository}:t").as_str()), ("push", "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    build.exporters =
        vec![Exporter { r#type: "image".to_owned(), attrs: BTreeMap::from(attributes) }];
    let answer = build.run(session().attach(Auth::new(login.clone()))).await;
    (answer, login.failures())
}

#[tokio::test]
async fn the_right_password_pushes_to_registries_with_tokens_and_with_basic_authentication() {
    for builder in pushers() {
        for registry in [bed::registry_token(), bed::registry_basic()] {
            let (answer, failures) = push(builder, registry, given(registry, bed::user())).await;
            let answer = answer.unwrap_or_else(|e| panic!("{builder} {registry}: {}", e.message()));
            assert!(answer["containerimage.digest"].starts_with("sha256:"));
            assert!(failures.is_empty(), "{failures:?}");
        }
    }
}

#[tokio::test]
async fn a_docker_config_pushes() {
    let (username, password) = bed::user();
    let registry = bed::registry_token();
    let config = serde_json::json!({"credsStore": "absent-here", "auths": {
        format!("http://{registry}/v2/"): {"username": username, "password": password}}});
    let config = DockerConfig::parse(config.to_string().as_bytes(), "/config.json", "").unwrap();
    let (answer, failures) = push(bed::buildkitd(), registry, Chain::new().with(config)).await;
    answer.unwrap_or_else(|error| panic!("{}", error.message()));
    assert!(matches!(failures[..], [LoginFailure::Source { .. }]), "a missing helper is only told");
}

/// `docker login` may leave a refresh token instead of a password.
#[tokio::test]
async fn an_identity_token_pushes() {
    let registry = bed::registry_token();
    let identity = identity_token(registry, bed::user()).await;
    let config = serde_json::json!({"auths": {registry: {"identitytoken": identity}}}).to_string();
    for builder in pushers() {
        let config = DockerConfig::parse(config.as_bytes(), "/config.json", "").unwrap();
        let (answer, failures) = push(builder, registry, Chain::new().with(config)).await;
        answer.unwrap_or_else(|error| panic!("{builder}: {} {failures:?}", error.message()));
    }
    let config = config.replace(&identity, "expired");
    let config = DockerConfig::parse(config.as_bytes(), "/config.json", "").unwrap();
    let (answer, failures) = push(bed::buildkitd(), registry, Chain::new().with(config)).await;
    answer.expect_err("the token is not known");
    assert!(
        matches!(failures[..], [LoginFailure::Token(TokenError::WrongCredentials { .. })]),
        "{failures:?}"
    );
}

/// What `docker login` keeps: a token to get tokens with, from the server that the registry names.
async fn identity_token(registry: &str, (username, password): (&str, &str)) -> String {
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let refused = http.get(format!("http://{registry}/v2/")).send().await.unwrap();
    let header = refused.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let challenges = challenge::parse(&header);
    let [challenge] = &challenges[..] else { panic!("{header}") };
    assert_eq!(challenge.scheme, "bearer");
    let mut url: url::Url = challenge.parameter("realm").unwrap().parse().unwrap();
    url.query_pairs_mut()
        .append_pair("service", challenge.parameter("service").unwrap())
        .append_pair("offline_token", "true");
    let answer = http.get(url).basic_auth(username, Some(password)).send().await.unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    answer["refresh_token"].as_str().expect("the bed's token server gives them").to_owned()
}

#[tokio::test]
async fn a_wrong_password_is_told_with_user_and_place() {
    let (username, _) = bed::user();
    for builder in pushers() {
        let registry = bed::registry_token();
        let chain = given(registry, (username, "wrong"));
        let (answer, failures) = push(builder, registry, chain).await;
        let error = answer.unwrap_err();
        assert!(
            error.message().contains(&format!("of `{username}` from `TEST`")),
            "our words come back in the builder's: {}",
            error.message()
        );
        assert!(
            matches!(failures[..], [LoginFailure::Token(TokenError::WrongCredentials { .. })]),
            "{failures:?}"
        );
        // With Basic authentication the builder alone sees the refusal.
        let registry = bed::registry_basic();
        let (answer, failures) =
            push(builder, registry, given(registry, (username, "wrong"))).await;
        let error = answer.unwrap_err();
        assert!(error.message().contains("401 Unauthorized"), "{}", error.message());
        assert!(failures.is_empty());
    }
}

#[tokio::test]
async fn no_password_is_told_apart_from_a_wrong_one() {
    for builder in pushers() {
        let registry = bed::registry_token();
        let (answer, failures) = push(builder, registry, Chain::new()).await;
        answer.expect_err("anonymous pushes are refused");
        let [failure] = &failures[..] else { panic!("{failures:?}") };
        assert!(failure.hint().contains("docker login"), "{}", failure.hint());
        let (answer, _) = push(builder, bed::registry_basic(), Chain::new()).await;
        answer.expect_err("anonymous pushes are refused");
    }
}

#[tokio::test]
async fn a_user_who_may_only_pull_is_told_which_scope_is_missing() {
    let registry = bed::registry_token();
    for builder in pushers() {
        let (answer, failures) =
            push(builder, registry, given(registry, bed::pull_only_user())).await;
        answer.expect_err("the push is refused");
        let [LoginFailure::ScopeRefused { scope, user, .. }] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert_eq!(user.as_deref(), Some(bed::pull_only_user().0));
        assert!(scope.actions.contains("push") && !scope.actions.contains("pull"), "{scope}");
        assert!(scope.name.starts_with("session/"), "{scope}");
    }
}

/// A password given for one registry is not shown to another.
#[tokio::test]
async fn credentials_go_to_their_own_registry_only() {
    let chain = given(bed::registry_basic(), bed::user());
    let (answer, _) = push(bed::buildkitd(), bed::registry_token(), chain).await;
    answer.expect_err("nothing was given for this registry");
}
