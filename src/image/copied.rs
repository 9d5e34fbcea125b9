//! Which instruction brought a path into the image, and where it had it from: what to mend where
//! something next to it is missing.

use crate::dockerfile::ast::{Dockerfile, Kind};

/// A `COPY` of the final stage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Copied {
    /// The stage or image that it copies from; none for the build context.
    pub from: Option<String>,
    /// What it copies.
    pub sources: Vec<String>,
    /// Where to: an absolute path.
    pub destination: String,
    /// Where it stands in the Dockerfile, from 1.
    pub line: u32,
}

/// The copies that make up the image of `target` (the last stage where it is empty), those of the
/// stages that it is based on first. Paths with variables are left out: they are not known here.
pub fn copies(dockerfile: &Dockerfile, target: &str) -> Vec<Copied> {
    let stages = &dockerfile.stages;
    let named = |name: &str, before: usize| {
        let earlier = stages.get(..before).unwrap_or_default();
        earlier.iter().rposition(|stage| {
            stage.from.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
        })
    };
    let target = match target {
        "" => stages.len().checked_sub(1),
        name => named(name, stages.len()).or_else(|| name.parse().ok()),
    };
    let mut chain = Vec::new();
    let mut next = target;
    while let Some(at) = next {
        let Some(stage) = stages.get(at) else { break };
        chain.push(stage);
        next = named(&stage.from.base, at);
    }
    let mut copies = Vec::new();
    let mut workdir = "/".to_owned();
    for stage in chain.iter().rev() {
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Workdir(path) => workdir = rooted(&workdir, path),
                Kind::Copy(copy) if !copy.parents => {
                    let destination = rooted(&workdir, &copy.files.dest);
                    let words = copy.files.paths.iter().chain([&destination]);
                    if words.into_iter().any(|word| word.contains('$')) {
                        continue;
                    }
                    copies.push(Copied {
                        from: copy.from.clone(),
                        sources: copy.files.paths.clone(),
                        destination,
                        line: instruction.origin.lines.first,
                    });
                }
                _ => {}
            }
        }
    }
    copies
}

/// `path` from `base` where it is relative, without what means nothing.
fn rooted(base: &str, path: &str) -> String {
    let path = path.trim_matches('"');
    let from = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The copy that brought `path`, which is the last whose destination is it or above it.
pub fn bringer<'c>(copies: &'c [Copied], path: &str) -> Option<&'c Copied> {
    copies.iter().rev().find(|copied| below(&copied.destination, path).is_some())
}

/// What `path` is called below `directory`; empty for the directory itself.
fn below<'p>(directory: &str, path: &'p str) -> Option<&'p str> {
    let directory = directory.trim_end_matches('/');
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

impl Copied {
    /// Where `missing` would be on the side that is copied from: the same way from the source as
    /// it is from the destination. None where the two sides are not laid out alike.
    pub fn at_source(&self, missing: &str) -> Option<String> {
        let [source] = self.sources.as_slice() else { return None };
        let source = rooted("/", source);
        if let Some(rest) = below(&self.destination, missing) {
            return Some(format!("{}/{rest}", source.trim_end_matches('/')));
        }
        // What both ends have in common is laid out alike: only what is above it may differ.
        let (mut there, mut here) = (source.as_str(), self.destination.as_str());
        while let (Some((above_there, last_there)), Some((above_here, last_here))) =
            (there.rsplit_once('/'), here.rsplit_once('/'))
            && last_there == last_here
        {
            (there, here) = (above_there, above_here);
        }
        let rest = below(here, missing)?;
        Some(format!("{there}/{rest}"))
    }

    /// The instruction that would bring `missing` too.
    pub fn mend(&self, missing: &str) -> String {
        let from = self.from.as_ref().map(|from| format!("--from={from} ")).unwrap_or_default();
        match self.at_source(missing) {
            Some(source) => {
                let source = match self.from {
                    Some(_) => source,
                    None => source.trim_start_matches('/').to_owned(),
                };
                format!("COPY {from}{source} {missing}")
            }
            None => format!("COPY {from}… {missing}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{bringer, copies};
    use crate::dockerfile::{self, lint::Linter};

    const SEED: &str = "FROM node AS deps\nWORKDIR /app\nCOPY . .\n\
        FROM bun AS base\nWORKDIR /srv\n\
        FROM base\nWORKDIR /app\n\
        COPY --from=deps /app/packages/system-bus packages/system-bus\n\
        COPY --from=deps /app/node_modules/ ./node_modules\n\
        COPY --from=deps /build/out /srv/out\n\
        COPY config /etc/app\n\
        COPY $X /x\nWORKDIR packages/system-bus\n";

    fn seed() -> Vec<super::Copied> {
        let dockerfile = dockerfile::parse(SEED.as_bytes(), &mut Linter::default()).unwrap();
        copies(&dockerfile, "")
    }

    #[test]
    fn the_final_stages_copies_are_found_with_absolute_destinations() {
        let found = seed();
        let shown: Vec<_> =
            found.iter().map(|copied| (copied.destination.as_str(), copied.line)).collect();
        assert_eq!(
            shown,
            [
                ("/app/packages/system-bus", 8),
                ("/app/node_modules", 9),
                ("/srv/out", 10),
                ("/etc/app", 11)
            ]
        );
        let dockerfile = dockerfile::parse(SEED.as_bytes(), &mut Linter::default()).unwrap();
        assert_eq!(copies(&dockerfile, "deps").len(), 1);
        assert_eq!(copies(&dockerfile, "nowhere"), []);
    }

    #[test]
    fn the_mend_names_the_stage_and_the_path_there() {
        let copies = seed();
        let link = "/app/packages/system-bus/node_modules/@joelclaw/memory";
        let copied = bringer(&copies, link).unwrap();
        assert_eq!(
            copied.mend("/app/packages/memory"),
            "COPY --from=deps /app/packages/memory /app/packages/memory"
        );
        let copied = bringer(&copies, "/srv/out/a").unwrap();
        assert_eq!(copied.mend("/srv/out/b"), "COPY --from=deps /build/out/b /srv/out/b");
        assert_eq!(copied.mend("/srv/lib"), "COPY --from=deps /build/lib /srv/lib");
        assert_eq!(copied.mend("/var/x"), "COPY --from=deps … /var/x");
        let copied = bringer(&copies, "/etc/app").unwrap();
        assert_eq!(copied.mend("/etc/app/x"), "COPY config/x /etc/app/x");
        assert!(bringer(&copies, "/application").is_none());
    }
}
