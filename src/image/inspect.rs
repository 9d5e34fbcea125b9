//! What is wrong with an image before it leaves: an entrypoint for another processor, one that is
//! not there, and links that lead nowhere. All three start a container that dies at once.

use super::{
    config::ImageConfig,
    elf,
    tree::{Entry, Paths, Place, Tree, TreeError, join},
};
use futures::{StreamExt as _, stream};
use std::collections::BTreeSet;

/// Directories that are looked into, at most: an image can hold more than anybody will wait for.
const MAX_DIRECTORIES: usize = 5000;
/// Directories that are looked into at a time.
const ABREAST: usize = 16;
/// Bytes of a script that may hold its first line.
const FIRST_LINE: usize = 256;
/// Scripts whose interpreter is a script, in a row, as Linux runs them.
const MAX_INTERPRETERS: usize = 5;
/// What belongs to a distribution: links that lead nowhere are common there, and nobody's doing.
const SYSTEM: [&str; 14] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr", "/var",
];

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// What is wrong, in the order of the paths.
    pub findings: Vec<Finding>,
    /// Whether there were more directories than are looked into.
    pub incomplete: bool,
}

/// Something that is wrong.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Finding {
    /// What is run is not in the image.
    EntrypointMissing {
        /// The program, as the image names it.
        program: String,
        /// The script that wants it as its interpreter.
        script: Option<String>,
    },
    /// What is run is for another processor.
    WrongMachine {
        /// The executable.
        path: String,
        /// The script that wants it as its interpreter.
        script: Option<String>,
        /// What it is for.
        machine: String,
        /// What the image is for.
        architecture: String,
    },
    /// A link that leads nowhere.
    Dangling {
        /// The link.
        link: String,
        /// What it says.
        target: String,
        /// What does not exist: where it leads, without links.
        missing: String,
    },
}

/// Looks at the image of `config` whose files are `tree`.
///
/// # Errors
/// The tree cannot be looked into.
pub async fn inspect(config: &ImageConfig, tree: &dyn Tree) -> Result<Findings, TreeError> {
    if config.os != "linux" {
        return Ok(Findings::default());
    }
    let paths = Paths::new(tree);
    let inspection = Inspection { config, paths: &paths };
    let mut found = Findings::default();
    let run = &config.config;
    let words: Vec<&String> = run.entrypoint.iter().chain(&run.cmd).collect();
    let mut roots = BTreeSet::new();
    if let Some((program, arguments)) = words.split_first() {
        let mut finding = None;
        if let Some(path) = inspection.program(program, None, &mut finding).await? {
            roots.extend(parent(&path));
        }
        found.findings.extend(finding);
        for argument in arguments {
            roots.extend(inspection.named(argument).await?);
        }
    }
    if let Place::There { path, directory: true } = paths.resolve("/", inspection.workdir()).await?
    {
        roots.insert(path);
    }
    inspection.links(roots, &mut found).await?;
    found.findings.sort();
    Ok(found)
}

struct Inspection<'a> {
    config: &'a ImageConfig,
    paths: &'a Paths<'a>,
}

impl Inspection<'_> {
    fn workdir(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// Checks a program that is run, and returns where it is. A shell's own words are not read.
    async fn program(
        &self,
        name: &str,
        script: Option<&str>,
        finding: &mut Option<Finding>,
    ) -> Result<Option<String>, TreeError> {
        let (mut name, mut script) = (name.to_owned(), script.map(str::to_owned));
        let mut first = None;
        for _ in 0..MAX_INTERPRETERS {
            let Some(path) = self.find(&name).await? else {
                *finding = Some(Finding::EntrypointMissing { program: name, script });
                return Ok(first);
            };
            first = first.or_else(|| Some(path.clone()));
            let head = self.paths.read(&path, FIRST_LINE).await?;
            if let Some(machine) = elf::machine(&head) {
                let architecture = self.config.architecture.clone();
                if !elf::runs(&architecture, &machine) {
                    let wrong = Finding::WrongMachine { path, script, machine, architecture };
                    *finding = Some(wrong);
                }
                return Ok(first);
            }
            let Some((interpreter, argument)) = elf::interpreter(&head) else { return Ok(first) };
            script = Some(path);
            // `env` is there to look a name up.
            let looked_up = argument.as_deref().filter(|_| interpreter.ends_with("/env"));
            let looked_up = looked_up.and_then(|words| {
                words.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('='))
            });
            name = looked_up.map_or(interpreter, str::to_owned);
        }
        Ok(first)
    }

    /// A program, as the container's start looks for it.
    async fn find(&self, name: &str) -> Result<Option<String>, TreeError> {
        let file = |place| match place {
            Place::There { path, directory: false } => Some(path),
            _ => None,
        };
        if name.contains('/') {
            return Ok(file(self.paths.resolve(self.workdir(), name).await?));
        }
        let variables = self.config.config.env.iter();
        let path = variables.filter_map(|entry| entry.strip_prefix("PATH=")).next_back();
        for directory in path.unwrap_or(crate::llb::DEFAULT_PATH).split(':') {
            let candidate = join(directory, name);
            if let Some(path) = file(self.paths.resolve(self.workdir(), &candidate).await?) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The directory of a file that an argument names.
    async fn named(&self, argument: &str) -> Result<Option<String>, TreeError> {
        let is_path = argument.contains(['/', '.'])
            && !argument.starts_with('-')
            && !argument.contains([' ', ':', '=']);
        if !is_path {
            return Ok(None);
        }
        Ok(match self.paths.resolve(self.workdir(), argument).await? {
            Place::There { path, directory: false } => parent(&path),
            _ => None,
        })
    }

    /// Looks for links that lead nowhere below `roots`, level by level.
    async fn links(&self, roots: BTreeSet<String>, found: &mut Findings) -> Result<(), TreeError> {
        let mut waiting: Vec<String> = roots.into_iter().filter(|root| !is_system(root)).collect();
        let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
        while !waiting.is_empty() {
            let level = std::mem::take(&mut waiting);
            let mut looked = stream::iter(level.into_iter().map(|directory| self.look(directory)))
                .buffered(ABREAST);
            while let Some(looked) = looked.next().await {
                let (dangling, below) = looked?;
                found.findings.extend(dangling);
                for directory in below {
                    if seen.len() >= MAX_DIRECTORIES {
                        found.incomplete = true;
                    } else if !is_system(&directory) && seen.insert(directory.clone()) {
                        waiting.push(directory);
                    }
                }
            }
        }
        Ok(())
    }

    /// The links of one directory that lead nowhere, and the directories in it.
    async fn look(&self, directory: String) -> Result<(Vec<Finding>, Vec<String>), TreeError> {
        let (mut dangling, mut below) = (Vec::new(), Vec::new());
        let Some(listing) = self.paths.list(&directory).await? else {
            return Ok((dangling, below));
        };
        for (name, entry) in listing.iter() {
            match entry {
                Entry::Directory => below.push(join(&directory, name)),
                Entry::File => {}
                Entry::Link(target) => {
                    let link = join(&directory, name);
                    match self.paths.resolve(&directory, target).await? {
                        Place::There { .. } => {}
                        Place::Circle => dangling.push(Finding::Dangling {
                            missing: link.clone(),
                            link,
                            target: target.clone(),
                        }),
                        // What a running system makes is not in an image.
                        Place::Missing(missing) if is_made_at_run_time(&missing) => {}
                        Place::Missing(missing) => {
                            dangling.push(Finding::Dangling {
                                link,
                                target: target.clone(),
                                missing,
                            });
                        }
                    }
                }
            }
        }
        Ok((dangling, below))
    }
}

fn parent(path: &str) -> Option<String> {
    let (above, _) = path.rsplit_once('/')?;
    Some(if above.is_empty() { "/".to_owned() } else { above.to_owned() })
}

/// Whether a directory is a distribution's. The root itself is: it is above them all.
fn is_system(path: &str) -> bool {
    let top = path.get(1..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    top.is_empty() || SYSTEM.iter().any(|system| system.get(1..) == Some(top))
}

fn is_made_at_run_time(path: &str) -> bool {
    let below = |place: &&str| {
        path.strip_prefix(*place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run"].iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::{Finding, Findings, inspect};
    use crate::image::{config::ImageConfig, tree::memory::Memory};
    use futures::executor::block_on;
    use serde_json::json;

    const ARM: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0";
    const AMD: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0";

    fn config(entrypoint: &[&str], cmd: &[&str], workdir: &str) -> ImageConfig {
        serde_json::from_value(json!({
            "architecture": "arm64", "os": "linux",
            "config": {"Entrypoint": entrypoint, "Cmd": cmd, "WorkingDir": workdir,
                "Env": ["PATH=/usr/local/bin:/usr/bin"]}
        }))
        .unwrap()
    }

    fn found(config: &ImageConfig, files: &[(&str, &[u8])]) -> Vec<Finding> {
        let Findings { findings, incomplete } =
            block_on(inspect(config, &Memory::new(files))).unwrap();
        assert!(!incomplete);
        findings
    }

    fn wrong(path: &str, script: Option<&str>) -> Finding {
        Finding::WrongMachine {
            path: path.to_owned(),
            script: script.map(str::to_owned),
            machine: "amd64".to_owned(),
            architecture: "arm64".to_owned(),
        }
    }

    #[test]
    fn an_entrypoint_for_another_processor_is_found_however_it_is_named() {
        let files: [(&str, &[u8]); 5] = [
            ("/usr/bin/bun", AMD),
            ("/usr/bin/env", ARM),
            ("/app/run", b"-> ../usr/bin/bun"),
            ("/app/script", b"#!/usr/bin/env -S bun run\n"),
            ("/usr/local/bin/good", ARM),
        ];
        for (entrypoint, cmd) in [
            (&["bun"][..], &["x"][..]),
            (&[], &["bun"]),
            (&["/usr/bin/bun"], &[]),
            (&["./run"], &[]),
            (&["/app/run"], &[]),
        ] {
            let config = config(entrypoint, cmd, "/app");
            assert_eq!(found(&config, &files), [wrong("/usr/bin/bun", None)], "{entrypoint:?}");
        }
        let script = config(&["/app/script"], &[], "");
        assert_eq!(found(&script, &files), [wrong("/usr/bin/bun", Some("/app/script"))]);
        assert_eq!(found(&config(&["good"], &[], "/app"), &files), []);
        let windows = ImageConfig { os: "windows".to_owned(), ..config(&["bun"], &[], "/") };
        assert_eq!(found(&windows, &files), []);
    }

    #[test]
    fn an_entrypoint_that_is_not_there_is_found() {
        let files: [(&str, &[u8]); 2] = [("/app/x", b"#!/usr/bin/node\n"), ("/usr/bin/sh", ARM)];
        let missing = |program: &str, script: Option<&str>| Finding::EntrypointMissing {
            program: program.to_owned(),
            script: script.map(str::to_owned),
        };
        assert_eq!(found(&config(&["bun"], &[], "/app"), &files), [missing("bun", None)]);
        assert_eq!(
            found(&config(&["./x"], &[], "/app"), &files),
            [missing("/usr/bin/node", Some("/app/x"))]
        );
        assert_eq!(found(&config(&[], &[], "/app"), &files), []);
    }

    /// The seed's trap: pnpm links packages of the workspace, and the final stage copies too few.
    #[test]
    fn links_that_lead_nowhere_are_found_below_the_workdir_and_beside_what_is_run() {
        let files: [(&str, &[u8]); 9] = [
            ("/usr/bin/bun", ARM),
            ("/usr/share/doc", b"-> /nowhere"),
            ("/app/packages/bus/node_modules/@j/memory", b"-> ../../../memory"),
            ("/app/packages/bus/node_modules/@j/sdk", b"-> ../../../sdk"),
            ("/app/packages/sdk/index.ts", b"x"),
            ("/app/null", b"-> /dev/null"),
            ("/app/loop", b"-> loop"),
            ("/srv/other", b"-> gone"),
            ("/opt/tool/main.js", b"x"),
        ];
        let dangling = |link: &str, target: &str, missing: &str| Finding::Dangling {
            link: link.to_owned(),
            target: target.to_owned(),
            missing: missing.to_owned(),
        };
        let memory = dangling(
            "/app/packages/bus/node_modules/@j/memory",
            "../../../memory",
            "/app/packages/memory",
        );
        let circle = dangling("/app/loop", "loop", "/app/loop");
        let both = [circle, memory.clone()];
        assert_eq!(found(&config(&["bun"], &["run", "x.ts"], "/app"), &files), both);
        assert_eq!(found(&config(&["bun"], &[], "/app/packages/bus"), &files), [memory]);
        assert_eq!(found(&config(&["bun"], &[], "/"), &files), [], "the root is too much");
        let beside = config(&["bun"], &["/srv/../opt/tool/main.js"], "/");
        assert_eq!(found(&beside, &files), []);
        let mut more = files.to_vec();
        more.push(("/opt/tool/lib", b"-> ../lib"));
        assert_eq!(found(&beside, &more), [dangling("/opt/tool/lib", "../lib", "/opt/lib")]);
    }
}
