//! What can be found at the builder: whether it answers, what it runs, and how full it is.

use super::Check;
use crate::{
    buildkit::{
        address::{Address, Docker},
        control::Control,
        dial::{self, Connection, FreeDisk},
        discover::{self, discover},
    },
    engine::Endpoint,
    llb::Platform,
    pipeline::builder::Builder,
    plan::SyncPlan,
};
use std::path::Path;

/// Where builders on this machine keep their data.
const PLACES: [&str; 3] = ["/var/lib/docker", "/var/lib/buildkit", "/var/lib"];

/// Looks at the builder that a deploy would use.
pub async fn builder(
    plan: &SyncPlan,
    inputs: &discover::Inputs,
    options: &dial::Options,
) -> Vec<Check> {
    let found = match discover(inputs, options).await {
        Ok(found) => found,
        Err(miss) => {
            let words = miss.to_string().replace('\n', "; ");
            return vec![Check::failed("builder", "answers", words, miss.fix())];
        }
    };
    let connection = found.connection;
    let version = connection.workers.first().and_then(|worker| worker.buildkit_version.as_ref());
    let version = version.map(|version| format!(" ({})", version.version)).unwrap_or_default();
    let answers = format!("{}{version} answers, named by {}", connection.address, found.source);
    let mut checks = vec![Check::ok("builder", "answers", answers)];
    checks.push(platforms(plan, &connection));
    checks.push(disk(&connection, options, plan.free_disk).await);
    checks
}

fn platforms(plan: &SyncPlan, connection: &Connection) -> Check {
    let builder = Builder::new(&connection.workers);
    let known: Vec<String> = builder.platforms.iter().map(Platform::format).collect();
    let missing: Vec<&str> = plan
        .build
        .platforms
        .iter()
        .map(String::as_str)
        .filter(|wanted| {
            !known.iter().any(|one| one == wanted || one.starts_with(&format!("{wanted}/")))
        })
        .collect();
    if missing.is_empty() {
        return Check::ok("builder", "platforms", known.join(", "));
    }
    Check::failed(
        "builder",
        "platforms",
        format!(
            "it runs {}, and no {}: a `RUN` step would end with `exec format error`",
            known.join(", "),
            missing.join(", ")
        ),
        "register an emulator with the builder's kernel (binfmt_misc), or name a builder of that \
         platform",
    )
}

/// How full the builder's disk is, and how much of that is its cache.
async fn disk(connection: &Connection, options: &dial::Options, needed: u64) -> Check {
    let cache = Control::new(connection.channel.clone()).disk_usage(&[]).await;
    let cache = match cache {
        Ok(records) => {
            let bytes: i64 = records.iter().map(|record| record.size).sum();
            format!("its cache takes {} MB", bytes / 1_000_000)
        }
        Err(failure) => format!("its cache cannot be asked: {}", failure.message),
    };
    let Some(free) = free_disk(&connection.address, options).await else {
        let finding = format!("{cache}; how much is free there, nobody tells");
        return Check::skipped("builder", "disk", finding);
    };
    let finding = format!("{} MB are free at `{}`; {cache}", free.bytes / 1_000_000, free.place);
    if free.bytes < needed {
        let mend = "remove what is not in use: `bk-sync builder prune`, `docker system prune`";
        return Check::failed("builder", "disk", finding, mend);
    }
    Check::ok("builder", "disk", finding)
}

/// What is free where a builder keeps its data. None where it is elsewhere and nobody can be asked there
/// (`tcp://`, a Docker Engine of another machine), or no such place was found.
pub(in crate::pipeline) async fn free_disk(
    address: &Address,
    options: &dial::Options,
) -> Option<FreeDisk> {
    if !is_here(address) {
        return dial::free_disk(address, options).await;
    }
    let found = |place: &&str| Some(FreeDisk { place: (*place).to_owned(), bytes: free(place)? });
    PLACES.iter().find_map(found)
}

fn is_here(address: &Address) -> bool {
    matches!(address, Address::Unix(_) | Address::Docker(Docker::At(Endpoint::Unix(_))))
}

fn free(place: &str) -> Option<u64> {
    if !Path::new(place).exists() {
        return None;
    }
    let disk = rustix::fs::statvfs(place).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
