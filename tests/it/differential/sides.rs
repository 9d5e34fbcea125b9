//! One case, compiled by a builder's own frontend and by us.

use std::collections::BTreeMap;

use bk_sync::buildkit::errors::Failure as Refused;
use bk_sync::buildkit::gateway::{Gateway, Solve};
use bk_sync::compile::Build;
use bk_sync::compile::{
    Answer, Builder, CheckStep, Checked, CompileError, Compiler, Failure, IgnoreFileText,
    ImageAnswer, Question, Request, Step, WebContext,
};
use bk_sync::filesync::Source;
use bk_sync::llb::{Caps, Platform, ResolveMode};
use bk_sync::proto::moby::buildkit::v1::frontend::Result as BuildResult;
use bk_sync::proto::pb;
use serde_json::Value;

use super::case::Case;

/// The attributes of a case whose Dockerfile goes by this name.
fn attributes(case: &Case, filename: &str) -> BTreeMap<String, String> {
    let mut attrs = case.attrs.clone();
    attrs.entry("filename".to_owned()).or_insert_with(|| filename.to_owned());
    attrs
}

/// What the builder's frontend makes of it.
pub async fn there(gateway: &Gateway, case: &Case, filename: &str) -> Result<BuildResult, Refused> {
    solve(gateway, attributes(case, filename)).await
}

/// What the builder's frontend has to say of it, as the JSON that it answers with.
pub async fn check_there(gateway: &Gateway, case: &Case, filename: &str) -> Result<Value, Refused> {
    let mut attrs = attributes(case, filename);
    attrs.insert("requestid".to_owned(), "frontend.lint".to_owned());
    let result = solve(gateway, attrs).await?;
    Ok(serde_json::from_slice(&result.metadata["result.json"]).unwrap())
}

async fn solve(
    gateway: &Gateway,
    attributes: BTreeMap<String, String>,
) -> Result<BuildResult, Refused> {
    let frontend = "dockerfile.v0".to_owned();
    gateway.solve(Solve { frontend, attributes, ..Solve::default() }).await
}

/// Our side: a session of a builder that lends these directories.
pub struct Here<'a> {
    pub gateway: &'a Gateway,
    pub session: &'a str,
    pub directories: &'a BTreeMap<String, Source>,
}

impl Here<'_> {
    fn compiler(&self, case: &Case, filename: &str) -> Compiler {
        let capabilities = self.gateway.capabilities();
        let own = &capabilities.workers[0].platforms[0];
        let platform = Platform {
            os: own.os.clone(),
            architecture: own.architecture.clone(),
            variant: own.variant.clone(),
            os_version: own.os_version.clone(),
            os_features: own.os_features.clone(),
        };
        let name = format!("{filename}.dockerignore");
        Compiler::new(Request {
            dockerfile: case.text.clone(),
            attrs: attributes(case, filename),
            ignore_file: case
                .ignore
                .as_ref()
                .map(|text| IgnoreFileText { name, data: text.clone().into_bytes() }),
            web_context: WebContext::default(),
            builder: Builder { caps: Caps::of(capabilities.llb.iter().cloned()), platform },
            session: self.session.to_owned(),
        })
    }

    /// What we make of it.
    pub async fn compile(&self, case: &Case, filename: &str) -> Result<Box<Build>, Box<Failure>> {
        let mut compiler = self.compiler(case, filename);
        loop {
            match compiler.step() {
                Step::Done(build) => return Ok(build),
                Step::Failed(failure) => return Err(failure),
                Step::Ask(questions) => self.answer(&mut compiler, questions).await,
            }
        }
    }

    /// What we have to say of it.
    pub async fn check(&self, case: &Case, filename: &str) -> Box<Checked> {
        let mut compiler = self.compiler(case, filename);
        loop {
            match compiler.check() {
                CheckStep::Done(checked) => return checked,
                CheckStep::Ask(questions) => self.answer(&mut compiler, questions).await,
            }
        }
    }

    async fn answer(&self, compiler: &mut Compiler, questions: Vec<Question>) {
        assert!(!questions.is_empty());
        for question in questions {
            let answer = match &question {
                Question::Image(image) => {
                    assert!(image.layout.is_none(), "no case has an OCI layout");
                    let platform = image.platform.as_ref().map(Platform::to_pb);
                    let found = self
                        .gateway
                        .resolve_image(&image.reference, platform, image.mode, &image.log_name)
                        .await;
                    found.map(|found| {
                        let ours = format!("docker-image://{}", image.reference);
                        let changed = (found.identifier != ours).then(|| {
                            found.identifier.trim_start_matches("docker-image://").to_owned()
                        });
                        Answer::Image(ImageAnswer {
                            reference: changed,
                            digest: found.digest,
                            config: found.config,
                        })
                    })
                }
                Question::IgnoreFile(file) => {
                    let Some(Source::Memory(files)) = self.directories.get(&file.local) else {
                        panic!("`{}` is no directory of the cases", file.local)
                    };
                    Ok(Answer::File(files.get(".dockerignore").map(|data| data.to_vec())))
                }
                Question::Input(input) => panic!("no case has {input:?}"),
                Question::SourceTime(source) => {
                    let op = pb::SourceOp {
                        identifier: source.identifier.clone(),
                        attrs: source.attrs.clone(),
                    };
                    let mode = ResolveMode::default();
                    let found = self.gateway.resolve_source(op, None, mode, &source.log_name).await;
                    found.map(|found| Answer::Time(found.last_modified))
                }
            };
            let answer = answer.map_err(|failure| explained(&question, failure.message));
            compiler.answer(question, answer);
        }
    }
}

/// The message, with the image that was looked up, as the frontend tells it.
fn explained(question: &Question, message: String) -> String {
    let prefix = "failed to resolve source metadata for";
    match question {
        Question::Image(image) if !message.starts_with(prefix) => {
            format!("{prefix} {}: {message}", image.reference)
        }
        _ => message,
    }
}

/// What is wrong; of several mistakes the first, which is the one that BuildKit tells.
pub fn error_text(error: &CompileError) -> String {
    error.dockerfile_errors().map_or_else(|| error.to_string(), |errors| errors.first.to_string())
}
