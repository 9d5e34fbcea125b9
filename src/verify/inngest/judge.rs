//! Whether a server knows of a worker what it should: the rules, over what both said. Pure.

use super::{app::App, worker::repeated};
use crate::verify::report::Finding;
use std::collections::BTreeSet;

/// What should be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// The app, by the id that the worker chose. No other app is ever touched for it.
    pub app: String,
    /// The functions that must be registered for it.
    pub expected: Vec<String>,
    /// Ids that the worker says several of its functions have.
    pub duplicates: Vec<String>,
    /// Apps with one of these texts in their name or address are stale.
    pub stale_match: Vec<String>,
    /// Whether apps that are stale by that rule are deleted.
    pub delete: bool,
}

/// What is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// What is wrong, and what is worth knowing.
    pub findings: Vec<Finding>,
    /// The server's ids of the apps to delete, with their names.
    pub delete: Vec<(String, String)>,
}

/// Judges `apps` by `rules`.
pub fn judge(rules: &Rules, apps: &[App]) -> Verdict {
    let mut verdict = Verdict::default();
    if !rules.duplicates.is_empty() {
        verdict.findings.push(
            Finding::fatal(
                "INNGEST_DUPLICATES",
                format!("the worker has several functions called {}", list(&rules.duplicates)),
            )
            .with_fix("give each function an id of its own: one of them never runs"),
        );
    }
    if let Some(app) = apps.iter().find(|app| app.name == rules.app) {
        registered(rules, app, apps, &mut verdict);
    } else {
        let known: Vec<String> = apps.iter().map(|app| app.name.clone()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { list(&known) };
        verdict.findings.push(
            Finding::fatal(
                "INNGEST_APP_MISSING",
                format!("the server knows no app `{}`; it knows {known}", rules.app),
            )
            .with_fix("mend `verify.inngest.app`, or see why the worker does not register"),
        );
    }
    for app in apps.iter().filter(|app| app.name != rules.app) {
        stale(rules, app, &mut verdict);
    }
    verdict
}

/// What looks like a leftover of an app that nobody serves any more. Nothing is deleted by it.
pub fn leftovers(rules: &Rules, apps: &[App]) -> Vec<Finding> {
    let rules = Rules { delete: false, ..rules.clone() };
    let mut verdict = Verdict::default();
    for app in apps.iter().filter(|app| app.name != rules.app) {
        stale(&rules, app, &mut verdict);
    }
    verdict.findings
}

/// The app itself.
fn registered(rules: &Rules, app: &App, apps: &[App], verdict: &mut Verdict) {
    let url = app.url.as_deref().unwrap_or("an unknown address");
    if let Some(error) = &app.error {
        verdict.findings.push(
            Finding::fatal(
                "INNGEST_APP_ERROR",
                format!("the server has trouble with `{}` at {url}: {error}", app.name),
            )
            .with_fix("see that the server reaches the worker's serve address"),
        );
    } else if app.connected == Some(false) {
        verdict.findings.push(
            Finding::fatal(
                "INNGEST_UNREACHABLE",
                format!("the server does not reach `{}` at {url}", app.name),
            )
            .with_fix("mend the address that the worker serves at (`INNGEST_SERVE_HOST`)"),
        );
    }
    let twice = repeated(&app.functions);
    if !twice.is_empty() {
        verdict.findings.push(Finding::fatal(
            "INNGEST_DUPLICATES",
            format!("the server has {} more than once for `{}`", list(&twice), app.name),
        ));
    }
    if rules.expected.is_empty() {
        verdict.findings.push(Finding::fatal(
            "INNGEST_NOTHING_EXPECTED",
            "the worker lists no functions, so that there is nothing to be registered",
        ));
    }
    let there: BTreeSet<&String> = app.functions.iter().collect();
    let missing: Vec<String> =
        rules.expected.iter().filter(|id| !there.contains(id)).cloned().collect();
    if !missing.is_empty() {
        let elsewhere: BTreeSet<&str> = apps
            .iter()
            .filter(|other| other.name != app.name)
            .filter(|other| missing.iter().any(|id| other.functions.contains(id)))
            .map(|other| other.name.as_str())
            .collect();
        let mut message = format!("not registered for `{}`: {}", app.name, list(&missing));
        for other in elsewhere {
            message = format!("{message}; some are for `{other}`");
        }
        verdict.findings.push(
            Finding::fatal("INNGEST_FUNCTIONS_MISSING", message)
                .with_fix("see that the index of this role exports them, and register again"),
        );
    }
}

/// An app that is not ours: it is told where it looks like a leftover, and deleted where a rule
/// names it.
fn stale(rules: &Rules, app: &App, verdict: &mut Verdict) {
    let url = app.url.as_deref().unwrap_or("no address");
    let named = rules.stale_match.iter().filter(|text| !text.is_empty()).any(|text| {
        app.name.contains(text) || app.url.as_ref().is_some_and(|url| url.contains(text))
    });
    if named && rules.delete {
        verdict.delete.push((app.id.clone(), app.name.clone()));
        return;
    }
    let broken = app.error.is_some() || app.connected == Some(false);
    let ours = app.functions.iter().filter(|id| rules.expected.contains(id)).count();
    let suspect = broken && ours > 0;
    if !named && !suspect {
        return;
    }
    verdict.findings.push(
        Finding::told(
            "INNGEST_STALE_APP",
            format!(
                "the app `{}` at {url} looks like a leftover; {ours} of its functions are ours",
                app.name
            ),
        )
        .with_fix("name it in `verify.inngest.stale_match` and set `stale_apps = \"delete\"`"),
    );
}

/// Names in a row, each marked; the first ten.
fn list(names: &[String]) -> String {
    const MAX: usize = 10;
    let shown: Vec<String> = names.iter().take(MAX).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{App, Rules, judge};

    fn ids(list: &[&str]) -> Vec<String> {
        list.iter().map(|&id| id.to_owned()).collect()
    }

    fn app(name: &str, url: &str, functions: &[&str]) -> App {
        App {
            id: format!("id-{name}"),
            name: name.to_owned(),
            url: Some(url.to_owned()),
            connected: Some(true),
            error: None,
            functions: ids(functions),
        }
    }

    fn rules() -> Rules {
        Rules { app: "cluster".to_owned(), expected: ids(&["a", "b"]), ..Rules::default() }
    }

    fn codes(rules: &Rules, apps: &[App]) -> Vec<&'static str> {
        judge(rules, apps).findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn more_than_expected_is_fine() {
        let apps =
            [app("host", "http://h/", &["x"]), app("cluster", "http://w/", &["a", "b", "c"])];
        assert_eq!(codes(&rules(), &apps), [""; 0]);
    }

    /// The seed looked at `apps[0]`, whoever that was.
    #[test]
    fn functions_of_another_app_do_not_count() {
        let apps = [app("host", "http://h/", &["a", "b"]), app("cluster", "http://w/", &["a"])];
        let verdict = judge(&rules(), &apps);
        assert_eq!(verdict.findings.len(), 1);
        assert_eq!(
            verdict.findings[0].message,
            "not registered for `cluster`: `b`; some are for `host`"
        );
        assert_eq!(codes(&rules(), &apps[..1]), ["INNGEST_APP_MISSING"]);
        assert!(verdict.delete.is_empty());
    }

    #[test]
    fn a_worker_that_is_not_reached_is_told() {
        let unreachable =
            App { connected: Some(false), ..app("cluster", "http://w/", &["a", "b"]) };
        assert_eq!(codes(&rules(), std::slice::from_ref(&unreachable)), ["INNGEST_UNREACHABLE"]);
        let error = Some("unable to reach SDK URL".to_owned());
        assert_eq!(codes(&rules(), &[App { error, ..unreachable }]), ["INNGEST_APP_ERROR"]);
    }

    #[test]
    fn duplicates_and_empty_lists_are_told() {
        let twice = Rules { duplicates: ids(&["a"]), ..rules() };
        let good = app("cluster", "http://w/", &["a", "b"]);
        assert_eq!(codes(&twice, std::slice::from_ref(&good)), ["INNGEST_DUPLICATES"]);
        let server_twice = app("cluster", "http://w/", &["a", "b", "b"]);
        assert_eq!(codes(&rules(), &[server_twice]), ["INNGEST_DUPLICATES"]);
        let nothing = Rules { expected: Vec::new(), ..rules() };
        assert_eq!(codes(&nothing, &[good]), ["INNGEST_NOTHING_EXPECTED"]);
    }

    #[test]
    fn leftovers_are_told_and_only_a_rule_deletes_them() {
        let old = app("old", "http://host.k3d.internal:3111/api/inngest", &["a"]);
        let ours = app("cluster", "http://w/", &["a", "b"]);
        let host = app("host", "http://host/", &["a"]);
        let apps = [host, old.clone(), ours.clone()];
        assert_eq!(codes(&rules(), &apps), [""; 0], "one that works is nobody's leftover");
        let broken = App { connected: Some(false), ..old };
        assert_eq!(codes(&rules(), &[broken, ours.clone()]), ["INNGEST_STALE_APP"]);

        let by_host = Rules { stale_match: ids(&["host.k3d.internal"]), ..rules() };
        assert_eq!(codes(&by_host, &apps), ["INNGEST_STALE_APP"]);
        assert!(judge(&by_host, &apps).delete.is_empty());
        let told = Rules { delete: true, ..by_host };
        let verdict = judge(&told, &apps);
        assert_eq!(verdict.delete, [("id-old".to_owned(), "old".to_owned())]);
        assert!(verdict.findings.is_empty());

        // Not even a rule deletes the app itself.
        let itself = Rules { stale_match: ids(&["cluster"]), delete: true, ..rules() };
        assert!(judge(&itself, &[ours]).delete.is_empty());
    }
}
