//! What can be found at the Inngest server before a deploy: whether it answers, what it says of the
//! app, and which other apps look like leftovers.

use super::Check;
use crate::verify::inngest::{
    checks::InngestCheck,
    judge::{Rules, leftovers},
    server::Server,
};
use std::time::Duration;
use tokio::time::timeout;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks at the server of `[verify.inngest]`. Nothing is registered and nothing deleted.
pub async fn inngest(check: Option<&InngestCheck>) -> Vec<Check> {
    let Some(check) = check else { return Vec::new() };
    let mut checks: Vec<Check> = check
        .unindexed
        .iter()
        .map(|function| {
            let finding = format!(
                "`{}` in `{}` is in no index: no worker has it",
                function.id, function.path
            );
            Check::warning("inngest", "index", finding, "export it from the index of its role")
        })
        .collect();
    let server = match Server::new(&check.url, check.signing_key.clone()) {
        Ok(server) => server,
        Err(error) => {
            let mend = "mend `verify.inngest.url`";
            checks.push(Check::failed("inngest", "server", error.to_string(), mend));
            return checks;
        }
    };
    let mend =
        "see that the server runs and can be reached from here, or mend `verify.inngest.url`";
    let apps = match timeout(PATIENCE, server.apps(&check.app)).await {
        Ok(Ok(apps)) => apps,
        Ok(Err(error)) => {
            checks.push(Check::failed("inngest", "server", error.to_string(), mend));
            return checks;
        }
        Err(_) => {
            let finding = format!("`{}` did not answer within {} s", check.url, PATIENCE.as_secs());
            checks.push(Check::failed("inngest", "server", finding, mend));
            return checks;
        }
    };
    let count = apps.len();
    checks.push(Check::ok("inngest", "server", format!("it answers, and knows {count} apps")));
    checks.push(match apps.iter().find(|app| app.name == check.app) {
        None => Check::warning(
            "inngest",
            "registered",
            format!("the server knows no app `{}` yet", check.app),
            "nothing, where this is the first deploy; else mend `verify.inngest.app`",
        ),
        Some(app) => match (&app.error, app.connected) {
            (Some(error), _) => Check::warning(
                "inngest",
                "registered",
                format!("the server has trouble with `{}`: {error}", app.name),
                "see that the server reaches the worker's serve address",
            ),
            (None, Some(false)) => Check::warning(
                "inngest",
                "registered",
                format!("the server does not reach `{}`", app.name),
                "mend the address that the worker serves at (`INNGEST_SERVE_HOST`)",
            ),
            (None, _) => Check::ok(
                "inngest",
                "registered",
                format!("`{}` has {} functions", app.name, app.functions.len()),
            ),
        },
    });
    let rules = Rules {
        app: check.app.clone(),
        stale_match: check.stale_match.clone(),
        ..Rules::default()
    };
    checks.extend(leftovers(&rules, &apps).into_iter().map(|finding| {
        let mend = "delete it, or let a deploy do it with `stale_apps = \"delete\"`";
        Check::warning(
            "inngest",
            "stale",
            finding.message,
            finding.fix.unwrap_or_else(|| mend.to_owned()),
        )
    }));
    checks
}
