//! A look at the image before it leaves, through the builder's own eyes: nothing is unpacked here,
//! and where every step came from the cache nothing is looked at, since the same was looked at when
//! those steps ran.

use super::{
    error::Refusal,
    frontend::{Compiled, FrontendInput},
    journal::Journal,
    outputs::Outputs,
};
use crate::{
    buildkit::{errors::Code, gateway::Gateway},
    dockerfile::{self, lint::Linter},
    event::Warning,
    image::{
        config::ImageConfig,
        copied::{self, Copied},
        inspect::{Finding, Findings, inspect},
        tree::{Entry, Listing, Tree, TreeError},
    },
    proto::moby::buildkit::v1::frontend::{Ref, result::Result as Kind},
};
use futures::future::{BoxFuture, join_all, try_join_all};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The exporters whose result somebody runs.
const IMAGES: [&str; 4] = ["docker", "image", "moby", "oci"];
/// How long the status stream may lag behind the answer.
const LAG: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);
/// How long a look may take: it explains a failure that would come later, and must not be one.
const LIMIT: Duration = Duration::from_mins(1);
/// Links that are told one by one.
const MAX_TOLD: usize = 10;
/// Bits of Go's file mode.
const DIRECTORY: u32 = 1 << 31;
const LINK: u32 = 1 << 27;

/// What is wrong with the images of `compiled`, as warnings; nothing where all came from the cache,
/// unless it must be good (`always`), and nothing where a step fails: the export says so better.
pub(super) async fn look(
    gateway: &Gateway,
    compiled: &Compiled,
    input: &FrontendInput,
    outputs: &Outputs,
    journal: &Mutex<Journal>,
    always: bool,
) -> Vec<Warning> {
    let leaves = |kind: &str| IMAGES.contains(&kind);
    if !outputs.exporters.iter().any(|exporter| leaves(&exporter.r#type)) {
        return Vec::new();
    }
    let images = images(compiled);
    let evaluations = images.iter().map(|image| gateway.evaluate(&image.reference));
    if images.is_empty() || try_join_all(evaluations).await.is_err() {
        return Vec::new();
    }
    if !always && !something_ran(compiled, journal).await {
        return Vec::new();
    }
    let looks = images.iter().map(async |image| {
        let tree = BuilderTree { gateway, reference: &image.reference };
        (image, inspect(&image.config, &tree).await)
    });
    let Ok(looked) = tokio::time::timeout(LIMIT, join_all(looks)).await else {
        return vec![skipped(&format!("it takes more than {} s", LIMIT.as_secs()))];
    };
    let copies = copies(input);
    let mut warnings = Vec::new();
    for (image, findings) in looked {
        match findings {
            Ok(findings) => warnings.extend(told(findings, &image.name, &copies)),
            Err(error) => warnings.push(skipped(&error.0)),
        }
    }
    warnings
}

/// Why an image with these `warnings` may not leave, where nothing less than a good one may.
pub(super) fn refusal(warnings: &[Warning]) -> Option<Refusal> {
    let first = warnings.first()?;
    let message = match warnings.len() {
        1 => first.message.clone(),
        2 => format!("{}; and one thing more is wrong", first.message),
        count => {
            format!("{}; and {} things more are wrong", first.message, count.saturating_sub(1))
        }
    };
    Some(Refusal { code: first.code, message, fix: first.hint.clone() })
}

struct Image {
    /// What to call it where there are several; empty where there is one.
    name: String,
    reference: String,
    config: ImageConfig,
}

fn images(compiled: &Compiled) -> Vec<Image> {
    let metadata = &compiled.result.metadata;
    let config = |key: &str| {
        let json = metadata.get(key)?;
        serde_json::from_slice::<ImageConfig>(json).ok()
    };
    let image = |name: &str, reference: &Ref, key: &str| {
        let (reference, config) = (reference.id.clone(), config(key)?);
        // An image without layers has no result.
        (!reference.is_empty()).then(|| Image { name: name.to_owned(), reference, config })
    };
    match &compiled.result.result {
        Some(Kind::Ref(reference)) => {
            image("", reference, "containerimage.config").into_iter().collect()
        }
        Some(Kind::Refs(map)) => map
            .refs
            .iter()
            .filter_map(|(id, reference)| {
                image(id, reference, &format!("containerimage.config/{id}"))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Whether a step of the Dockerfile ran, and did not come from the cache.
async fn something_ran(compiled: &Compiled, journal: &Mutex<Journal>) -> bool {
    let began = Instant::now();
    loop {
        let heard = {
            let journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            if journal.ran() {
                return true;
            }
            let ended =
                |digest: &String| journal.step(digest).is_some_and(|step| step.completed.is_some());
            !compiled.heads.is_empty() && compiled.heads.iter().all(ended)
        };
        // Who made the graph may not tell its last op: then there is no end to wait for.
        let lag = if compiled.heads.is_empty() { LAG / 10 } else { LAG };
        if heard || began.elapsed() > lag {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A result of the builder's, as a tree.
struct BuilderTree<'a> {
    gateway: &'a Gateway,
    reference: &'a str,
}

impl Tree for BuilderTree<'_> {
    fn list<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<Option<Listing>, TreeError>> {
        Box::pin(async move {
            let entries = match self.gateway.read_dir(self.reference, path, "").await {
                Ok(entries) => entries,
                Err(failure) if failure.code == Code::NotFound => return Ok(None),
                Err(failure) if failure.message.contains("no such file") => return Ok(None),
                Err(failure) => return Err(TreeError(failure.message)),
            };
            let entry = |mode: u32, target: String| match (mode & DIRECTORY, mode & LINK) {
                (0, 0) => Entry::File,
                (0, _) => Entry::Link(target),
                _ => Entry::Directory,
            };
            let named = entries.into_iter().map(|stat| {
                let name = stat.path.trim_matches('/');
                let name = name.rsplit('/').next().unwrap_or(name).to_owned();
                (name, entry(stat.mode, stat.linkname))
            });
            Ok(Some(named.collect()))
        })
    }

    fn read<'a>(
        &'a self,
        path: &'a str,
        length: usize,
    ) -> BoxFuture<'a, Result<Vec<u8>, TreeError>> {
        Box::pin(async move {
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            let read = self.gateway.read_file(self.reference, path, Some((0, length))).await;
            read.map_err(|failure| TreeError(failure.message))
        })
    }
}

/// The copies that the image is made of, as far as the Dockerfile is known here.
fn copies(input: &FrontendInput) -> Vec<Copied> {
    let Some(file) = &input.dockerfile else { return Vec::new() };
    let target = input.attributes.get("target").map(String::as_str).unwrap_or_default();
    dockerfile::parse(&file.text, &mut Linter::default())
        .map(|dockerfile| copied::copies(&dockerfile, target))
        .unwrap_or_default()
}

fn skipped(cause: &str) -> Warning {
    Warning {
        code: "INSPECTION_SKIPPED",
        message: format!("the image was not looked into before it left: {cause}"),
        hint: None,
    }
}

/// Findings in words. Links to the same place are told once.
fn told(found: Findings, image: &str, copies: &[Copied]) -> Vec<Warning> {
    let of = if image.is_empty() { String::new() } else { format!(" ({image})") };
    let by = |script: Option<String>| match script {
        Some(script) => format!(", which `{script}` wants,"),
        None => String::new(),
    };
    let mut warnings = Vec::new();
    let mut links: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for finding in found.findings {
        match finding {
            Finding::EntrypointMissing { program, script } => warnings.push(Warning {
                code: "ENTRYPOINT_MISSING",
                message: format!(
                    "`{program}`{} is not in the image{of}: no container of it will start",
                    by(script)
                ),
                hint: Some("copy it in, or mend ENTRYPOINT and CMD".to_owned()),
            }),
            Finding::WrongMachine { path, script, machine, architecture } => {
                warnings.push(Warning {
                    code: "ENTRYPOINT_WRONG_MACHINE",
                    message: format!(
                        "`{path}`{} is for {machine} and the image{of} for {architecture}: a \
                         container of it will end with `exec format error`",
                        by(script)
                    ),
                    hint: Some(format!(
                        "build or download it for {architecture}, as `TARGETARCH` says it in a \
                         stage with `FROM --platform=$BUILDPLATFORM`"
                    )),
                });
            }
            Finding::Dangling { link, missing, .. } => links.entry(missing).or_default().push(link),
        }
    }
    let more = links.len().saturating_sub(MAX_TOLD);
    for (missing, links) in links.into_iter().take(MAX_TOLD) {
        warnings.push(dangling(&missing, &links, &of, copies));
    }
    if more > 0 {
        warnings.push(Warning {
            code: "LINK_DANGLING",
            message: format!("links lead to {more} more places that are not in the image{of}"),
            hint: None,
        });
    }
    if found.incomplete {
        warnings.push(skipped("it holds too many directories to look into all"));
    }
    warnings
}

fn dangling(missing: &str, links: &[String], of: &str, copies: &[Copied]) -> Warning {
    let first = links.first().map(String::as_str).unwrap_or_default();
    let others = match links.len() {
        0 | 1 => String::new(),
        2 => " and another link".to_owned(),
        count => format!(" and {} other links", count.saturating_sub(1)),
    };
    let hint = copied::bringer(copies, first).map(|copied| {
        let side = match &copied.from {
            Some(from) => format!("the stage `{from}`"),
            None => "the build context".to_owned(),
        };
        let mend = copied.mend(missing);
        format!("line {} brought the link from {side}; add `{mend}`", copied.line)
    });
    let message = if first == missing {
        format!("`{first}`{others} leads around in a circle{of}")
    } else {
        let verb = if others.is_empty() { "leads" } else { "lead" };
        format!("`{first}`{others} {verb} to `{missing}`, which is not in the image{of}")
    };
    Warning { code: "LINK_DANGLING", message, hint }
}

#[cfg(test)]
mod tests {
    use super::{Finding, Findings, told};
    use crate::{
        dockerfile::{self, lint::Linter},
        image::copied::copies,
    };

    #[test]
    fn what_is_missing_is_told_once_with_the_stage_that_has_it() {
        let text = "FROM a AS deps\nFROM b\nCOPY --from=deps /app/bus /app/bus\n";
        let dockerfile = dockerfile::parse(text.as_bytes(), &mut Linter::default()).unwrap();
        let dangling = |link: &str| Finding::Dangling {
            link: link.to_owned(),
            target: "../../memory".to_owned(),
            missing: "/app/memory".to_owned(),
        };
        let findings =
            vec![dangling("/app/bus/node_modules/a"), dangling("/app/bus/node_modules/b")];
        let found = Findings { findings, incomplete: false };
        let [warning] = &told(found, "linux/arm64", &copies(&dockerfile, ""))[..] else {
            panic!("one warning")
        };
        assert_eq!(
            warning.message,
            "`/app/bus/node_modules/a` and another link lead to `/app/memory`, which is not in the \
             image (linux/arm64)"
        );
        assert_eq!(
            warning.hint.as_deref(),
            Some(
                "line 3 brought the link from the stage `deps`; add `COPY --from=deps /app/memory \
                 /app/memory`"
            )
        );
    }

    #[test]
    fn a_wrong_machine_is_told_with_what_would_happen() {
        let wrong = Finding::WrongMachine {
            path: "/usr/bin/bun".to_owned(),
            script: None,
            machine: "amd64".to_owned(),
            architecture: "arm64".to_owned(),
        };
        let found = Findings { findings: vec![wrong], incomplete: true };
        let warnings = told(found, "", &[]);
        let codes: Vec<_> = warnings.iter().map(|warning| warning.code).collect();
        assert_eq!(codes, ["ENTRYPOINT_WRONG_MACHINE", "INSPECTION_SKIPPED"]);
        assert_eq!(
            warnings[0].message,
            "`/usr/bin/bun` is for amd64 and the image for arm64: a container of it will end with \
             `exec format error`"
        );
    }
}
