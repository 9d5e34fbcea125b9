//! Answers to what the compiler asks, fetched side by side.

use super::{
    dockerfile::{directory, read_local},
    time,
};
use crate::{
    buildkit::{
        errors::{Code, Failure},
        gateway::Gateway,
    },
    compile::{
        Answer, ImageAnswer, ImageQuestion, InputAnswer, InputQuestion, Question, SourceQuestion,
    },
    llb::{Platform, ResolveMode},
    pipeline::{
        error::Refusal,
        frontend::{FrontendError, FrontendInput},
    },
    plan::Pinning,
    proto::pb,
};
use futures::future::try_join_all;

/// Who answers.
pub(super) struct Answers<'a> {
    gateway: &'a Gateway,
    input: &'a FrontendInput,
}

/// An answer that the compiler can go on with: a failure to look something up is one, because it
/// may not need the answer, and knows the place if it does.
type Answered = (Question, Result<Answer, String>);

impl<'a> Answers<'a> {
    pub(super) fn new(gateway: &'a Gateway, input: &'a FrontendInput) -> Self {
        Self { gateway, input }
    }

    /// Answers all of `questions`.
    ///
    /// # Errors
    /// The connection broke, or a file here cannot be read.
    pub(super) async fn to(
        &mut self,
        questions: Vec<Question>,
    ) -> Result<Vec<Answered>, FrontendError> {
        try_join_all(questions.into_iter().map(|question| self.one(question))).await
    }

    async fn one(&self, question: Question) -> Result<Answered, FrontendError> {
        self.check(&question)?;
        let answer = match &question {
            Question::Image(image) => self.image(image).await.map(Answer::Image),
            Question::Input(input) => return Ok((question.clone(), Ok(self.input(input).await?))),
            Question::SourceTime(source) => self.time(source).await.map(Answer::Time),
            Question::IgnoreFile(file) => {
                let directory = directory(self.input, &file.local);
                Ok(Answer::File(read_local(directory, super::dockerfile::IGNORE_FILE).await?))
            }
        };
        match answer {
            Ok(answer) => Ok((question, Ok(answer))),
            Err(failure) if failure.connection || failure.is_cancelled() => Err(failure.into()),
            Err(failure) => {
                let message = explained(&question, failure.message);
                Ok((question, Err(message)))
            }
        }
    }

    /// What another build of ours makes for a platform: it is compiled like this one.
    async fn input(&self, question: &InputQuestion) -> Result<Answer, FrontendError> {
        let Some(input) = self.input.inputs.get(&question.name) else {
            let message = format!("`{}` is none of the inputs", question.name);
            return Err(Failure::new(Code::Internal, message).into());
        };
        let mut input = input.clone();
        if let Some(platform) = &question.platform {
            input.attributes.insert("platform".to_owned(), platform.normalized().format_all());
        }
        let build = Box::pin(super::compiled(self.gateway, &input)).await?;
        let Some(target) = build.targets.first() else {
            let message = format!("`{}` makes nothing", question.name);
            return Err(Failure::new(Code::Internal, message).into());
        };
        Ok(Answer::Input(InputAnswer {
            definition: target.definition.to_bytes(),
            config: target.config.to_json().into_bytes(),
        }))
    }

    async fn image(&self, question: &ImageQuestion) -> Result<ImageAnswer, Failure> {
        let ImageQuestion { reference, platform, mode, log_name, layout } = question;
        let platform = platform.as_ref().map(Platform::to_pb);
        let Some(layout) = layout else {
            let locked = self.locked(reference);
            let wanted = locked.as_ref().unwrap_or(reference);
            let found = self.gateway.resolve_image(wanted, platform, *mode, log_name).await?;
            if !matches!(self.input.pinning, Pinning::Off) {
                // Named by its digest, wherever the graph names it.
                let name = reference.split('@').next().unwrap_or(reference);
                return Ok(ImageAnswer {
                    reference: Some(format!("{name}@{}", found.digest)),
                    digest: found.digest,
                    config: found.config,
                });
            }
            let name = found.identifier.strip_prefix("docker-image://");
            return Ok(ImageAnswer {
                reference: name.filter(|name| name != reference).map(str::to_owned),
                digest: found.digest,
                config: found.config,
            });
        };
        let source = pb::SourceOp {
            identifier: format!("oci-layout://{reference}"),
            attrs: [
                ("oci.session".to_owned(), layout.session.clone()),
                ("oci.store".to_owned(), layout.store.clone()),
            ]
            .into(),
        };
        let found = self.gateway.resolve_source(source, platform, *mode, log_name).await?;
        let (digest, config) = found.image.unwrap_or_default();
        Ok(ImageAnswer { reference: None, digest, config })
    }

    /// The name of an image with the digest that it is held by.
    fn locked(&self, reference: &str) -> Option<String> {
        let (Pinning::Locked(lock) | Pinning::Held(lock)) = &self.input.pinning else {
            return None;
        };
        let digest = lock.0.get(reference)?;
        Some(format!("{reference}@{digest}"))
    }

    /// Refuses an image that a locked build does not know.
    fn check(&self, question: &Question) -> Result<(), Refusal> {
        let (Pinning::Locked(lock), Question::Image(image)) = (&self.input.pinning, question)
        else {
            return Ok(());
        };
        let name = &image.reference;
        if image.layout.is_some() || name.contains('@') || lock.0.contains_key(name) {
            return Ok(());
        }
        Err(Refusal::new("IMAGE_NOT_LOCKED", format!("`bk-sync.lock` does not hold `{name}`"))
            .with_fix(
                "run `bk-sync lock` with the same arguments, or name the image by its digest",
            ))
    }

    async fn time(&self, question: &SourceQuestion) -> Result<Option<i64>, Failure> {
        let source =
            pb::SourceOp { identifier: question.identifier.clone(), attrs: question.attrs.clone() };
        let mode = ResolveMode::default();
        let found =
            self.gateway.resolve_source(source.clone(), None, mode, &question.log_name).await?;
        if let Some(time) = time::of_commit(&found.commit).or(found.last_modified) {
            return Ok(Some(time));
        }
        time::of_archive(self.gateway, source).await
    }
}

/// The message, with the image that was looked up, as a frontend on the builder tells it.
fn explained(question: &Question, message: String) -> String {
    let prefix = "failed to resolve source metadata for";
    match question {
        Question::Image(image) if !message.starts_with(prefix) => {
            format!("{prefix} {}: {message}", image.reference)
        }
        _ => message,
    }
}
