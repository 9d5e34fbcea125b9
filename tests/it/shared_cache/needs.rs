//! What a case of the corpus needs to be built, read from its graph: images, paths of directories, paths
//! that its stages are expected to have made, secrets, agents. The corpus has none of them, since
//! compiling reads none.

use bk_sync::{
    compile::{Answer, Build, Builder, Compiler, ImageAnswer, Question, Request, Step, WebContext},
    llb::{Caps, Platform},
    proto::pb,
};
use prost::Message as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What is needed.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// The images that it asks for, in full.
    pub images: BTreeSet<String>,
    /// Paths of the client's directories, by the directory's name.
    pub directories: BTreeMap<String, BTreeSet<String>>,
    /// Paths that are read from a stage or an image.
    pub made: BTreeSet<String>,
    /// The ids of secrets.
    pub secrets: BTreeSet<String>,
    /// The ids of SSH agents.
    pub agents: BTreeSet<String>,
}

impl Needs {
    /// What this file needs with these attributes, where there are these images.
    ///
    /// # Errors
    /// It does not compile.
    pub fn of(
        dockerfile: Vec<u8>,
        attrs: BTreeMap<String, String>,
        images: &Value,
    ) -> Result<Self, String> {
        let mut needs = Self::default();
        let build = compile(dockerfile, attrs, images, &mut needs.images)?;
        for target in build.targets {
            let ops: BTreeMap<String, pb::Op> = target
                .definition
                .ops()
                .iter()
                .map(|op| (op.digest.clone(), pb::Op::decode(op.bytes.as_slice()).unwrap()))
                .collect();
            for op in ops.values() {
                needs.add(op, &ops);
            }
        }
        Ok(needs)
    }

    fn add(&mut self, op: &pb::Op, ops: &BTreeMap<String, pb::Op>) {
        let input = |at: i64| {
            let input = op.inputs.get(usize::try_from(at).ok()?)?;
            ops.get(&input.digest)
        };
        match &op.op {
            Some(pb::op::Op::File(file)) => {
                for action in &file.actions {
                    if let Some(pb::file_action::Action::Copy(copy)) = &action.action {
                        self.copied(input(action.secondary_input), copy);
                    }
                }
            }
            Some(pb::op::Op::Exec(exec)) => {
                for mount in exec.mounts.iter().filter(|mount| mount.dest != "/") {
                    match mount.mount_type() {
                        pb::MountType::Bind => self.path(input(mount.input), &mount.selector),
                        // It begins as what lies there, which is a directory.
                        pb::MountType::Cache if !mount.selector.is_empty() => {
                            self.path(input(mount.input), &format!("{}/kept", mount.selector));
                        }
                        _ => {}
                    }
                    self.secrets.extend(mount.secret_opt.iter().map(|secret| secret.id.clone()));
                    self.agents.extend(mount.ssh_opt.iter().map(|ssh| ssh.id.clone()));
                }
                self.secrets.extend(exec.secretenv.iter().map(|secret| secret.id.clone()));
            }
            _ => {}
        }
    }

    fn copied(&mut self, from: Option<&pb::Op>, copy: &pb::FileActionCopy) {
        let mut paths = vec![copy.src.clone()];
        if !copy.include_patterns.is_empty() {
            let parent = copy.src.trim_end_matches('/');
            paths = copy.include_patterns.iter().map(|path| format!("{parent}/{path}")).collect();
        }
        for path in paths {
            // What is left out of something is left out of a directory.
            let inside = if copy.exclude_patterns.is_empty() { "" } else { "/kept" };
            self.path(from, &format!("{path}{inside}"));
        }
    }

    fn path(&mut self, from: Option<&pb::Op>, pattern: &str) {
        let path = example(pattern);
        if path.is_empty() {
            return;
        }
        let local = match from.and_then(|op| op.op.as_ref()) {
            Some(pb::op::Op::Source(source)) => source.identifier.strip_prefix("local://"),
            // A text of the Dockerfile's own.
            Some(pb::op::Op::File(file)) if is_inline(file) => return,
            _ => None,
        };
        match local {
            Some(local) => self.directories.entry(local.to_owned()).or_default().insert(path),
            None => self.made.insert(path),
        };
    }
}

fn is_inline(file: &pb::FileOp) -> bool {
    matches!(
        file.actions.as_slice(),
        [pb::FileAction { action: Some(pb::file_action::Action::Mkfile(_)), .. }]
    )
}

/// A path that matches a pattern, without slashes at its ends; empty for the root.
fn example(pattern: &str) -> String {
    let mut path = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                while chars.next_if_eq(&'*').is_some() {}
                path.push('x');
            }
            '?' => path.push('x'),
            '[' => {
                path.extend(chars.next());
                while chars.next().is_some_and(|c| c != ']') {}
            }
            '\\' => path.extend(chars.next()),
            c => path.push(c),
        }
    }
    path.trim_matches('/').trim_end_matches("/.").to_owned()
}

fn compile(
    dockerfile: Vec<u8>,
    attrs: BTreeMap<String, String>,
    images: &Value,
    asked: &mut BTreeSet<String>,
) -> Result<Build, String> {
    let mut compiler = Compiler::new(Request {
        dockerfile,
        attrs,
        ignore_file: None,
        web_context: WebContext::default(),
        builder: Builder { caps: Caps::all(), platform: Platform::new("linux", "amd64") },
        session: "session".into(),
    });
    loop {
        match compiler.step() {
            Step::Done(build) => return Ok(*build),
            Step::Failed(error) => return Err(format!("{error:?}")),
            Step::Ask(questions) => {
                for question in questions {
                    let answer = match &question {
                        Question::Image(image) => {
                            asked.insert(image.reference.clone());
                            let config = &images[&image.reference]["platforms"]["linux/amd64"];
                            Answer::Image(ImageAnswer {
                                reference: None,
                                digest: format!("sha256:{}", "5".repeat(64)),
                                config: config.to_string().into_bytes(),
                            })
                        }
                        Question::IgnoreFile(_) => Answer::File(None),
                        Question::Input(_) | Question::SourceTime(_) => Answer::Time(None),
                    };
                    compiler.answer(question, Ok(answer));
                }
            }
        }
    }
}
