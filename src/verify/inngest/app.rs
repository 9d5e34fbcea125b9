//! Apps as an Inngest server tells of them, over GraphQL or REST. Pure.

use serde::Deserialize;
use serde_json::{Value, json};

/// An app: a worker's registration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct App {
    /// The server's id of it.
    pub id: String,
    /// The app's own id, which the worker chose.
    pub name: String,
    /// Where the server reaches the worker.
    pub url: Option<String>,
    /// Whether it did when it last tried; unknown where the server does not say.
    pub connected: Option<bool>,
    /// Why it did not.
    pub error: Option<String>,
    /// The ids of its functions, as the worker calls them.
    pub functions: Vec<String>,
}

/// An answer that tells no apps.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppsError {
    /// The server refused the question.
    #[error("it answers: {0}")]
    Refused(String),
    /// The answer has another shape.
    #[error("its answer lists no apps")]
    Unreadable,
}

/// The question for all apps with their functions.
pub fn question() -> Value {
    json!({ "query": "{ apps { id name externalID url connected error functions { slug name } } }" })
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    apps: Option<Vec<RawApp>>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

#[derive(Deserialize)]
struct RawApp {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "externalID")]
    external_id: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    connected: Option<bool>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    functions: Option<Vec<RawFunction>>,
}

#[derive(Deserialize)]
struct RawFunction {
    #[serde(default, alias = "Slug")]
    slug: Option<String>,
    #[serde(default, alias = "Name")]
    name: Option<String>,
}

/// Reads the answer to [`question`].
///
/// # Errors
/// There are no apps in it.
pub fn read(body: &[u8]) -> Result<Vec<App>, AppsError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let apps = match (answer.data.and_then(|data| data.apps), answer.errors.first()) {
        (Some(apps), _) => apps,
        (None, Some(problem)) => return Err(AppsError::Refused(problem.message.clone())),
        (None, None) => return Err(AppsError::Unreadable),
    };
    Ok(apps.into_iter().map(App::from).collect())
}

/// Reads the functions of the app `name` as the REST API lists them.
///
/// # Errors
/// There is no list in it.
pub fn read_functions(name: &str, body: &[u8]) -> Result<Vec<String>, AppsError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum List {
        Bare(Vec<RawFunction>),
        Wrapped { data: Vec<RawFunction> },
    }
    let list = serde_json::from_slice(body).map_err(|_| AppsError::Unreadable)?;
    let (List::Bare(functions) | List::Wrapped { data: functions }) = list;
    Ok(functions.into_iter().filter_map(|function| own_id(name, function)).collect())
}

impl From<RawApp> for App {
    fn from(raw: RawApp) -> Self {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        // The name is what the user may have changed; the external id is the worker's.
        let name = filled(raw.external_id).or(filled(raw.name)).unwrap_or_default();
        let functions = raw.functions.unwrap_or_default().into_iter();
        Self {
            functions: functions.filter_map(|function| own_id(&name, function)).collect(),
            id: raw.id,
            url: filled(raw.url),
            connected: raw.connected,
            error: filled(raw.error),
            name,
        }
    }
}

/// The id that a worker gave its function: the server puts the app's in front.
fn own_id(app: &str, function: RawFunction) -> Option<String> {
    let slug = function.slug.or(function.name)?;
    let own = slug.strip_prefix(app).and_then(|rest| rest.strip_prefix('-'));
    Some(own.map_or(slug.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::{AppsError, read, read_functions};

    #[test]
    fn apps_are_read_with_their_functions_own_ids() {
        let body = br#"{"data":{"apps":[
            {"id":"1","name":"system-bus-cluster","externalID":"system-bus-cluster",
             "url":"http://w:3111/api/inngest","connected":true,"error":null,
             "functions":[{"slug":"system-bus-cluster-heartbeat","name":"Heartbeat"},{"slug":"other"}]},
            {"id":"2","name":"old","error":"unreachable","connected":false,"functions":null}]}}"#;
        let apps = read(body).unwrap();
        assert_eq!(apps[0].functions, ["heartbeat", "other"]);
        assert_eq!((apps[0].connected, apps[0].error.as_deref()), (Some(true), None));
        assert_eq!((apps[1].name.as_str(), apps[1].error.as_deref()), ("old", Some("unreachable")));
        assert!(apps[1].functions.is_empty());
    }

    #[test]
    fn refusals_and_other_shapes_are_no_apps() {
        let refused = br#"{"errors":[{"message":"cannot query field x"}],"data":null}"#;
        assert_eq!(read(refused), Err(AppsError::Refused("cannot query field x".to_owned())));
        for body in ["<html>", "{}", r#"{"data":{}}"#, "[]"] {
            assert_eq!(read(body.as_bytes()), Err(AppsError::Unreadable), "{body}");
        }
    }

    #[test]
    fn the_rest_list_is_read_bare_and_wrapped() {
        for body in
            [r#"[{"slug":"a-f1"},{"Slug":"a-f2"}]"#, r#"{"data":[{"slug":"a-f1"},{"name":"f2"}]}"#]
        {
            assert_eq!(read_functions("a", body.as_bytes()).unwrap(), ["f1", "f2"], "{body}");
        }
        assert_eq!(read_functions("a", b"{}"), Err(AppsError::Unreadable));
    }
}
