//! Named contexts: what a build puts in the place of a stage, a base image or a name.

use super::context::session_of;
use super::error::{CompileError, Fault};
use super::git_ref::{GitRef, NoGitRef};
use super::question::{
    Answer, IgnoreFileQuestion, ImageQuestion, InputQuestion, LayoutStore, Question,
};
use super::target::{Stop, Target};
use crate::ignorefile::IgnoreFile;
use crate::image::config::ImageConfig;
use crate::image::reference::Reference;
use crate::llb::{
    Constraints, Definition, Http, Image, Later, Local, OciLayout, Output, Platform, State,
};
use crate::proto::pb;
use prost::Message as _;

/// What a build gave for a name.
#[derive(Clone, Debug)]
pub(super) struct NamedContext {
    name: String,
    /// The name as it was given, with a platform where it had one.
    given_name: String,
    value: String,
    platform: Option<Platform>,
}

/// A named context, looked up.
#[derive(Clone, Debug)]
pub(super) struct LoadedContext {
    pub(super) state: State,
    pub(super) config: Option<ImageConfig>,
    /// What is still to be decided: which files of a directory are used.
    pub(super) local: Option<LocalContext>,
}

/// A directory of the client whose paths are known only when everything that uses it is.
#[derive(Clone, Debug)]
pub(super) struct LocalContext {
    later: Later,
    local: String,
    given_name: String,
    session: String,
    shared_key: String,
    exclude: Vec<String>,
}

impl LocalContext {
    /// Decides on the paths that are sent; all without any.
    pub(super) fn decide(&self, follow: Vec<String>) {
        let state = Local::new(&self.local)
            .session(&self.session)
            .exclude(self.exclude.clone())
            .follow(follow)
            .shared_key(format!("context:{}-{}", self.given_name, self.shared_key))
            .state(Constraints::named(format!("[context {}] load from client", self.given_name)));
        if let Some(output) = state.output() {
            self.later.decide(output.clone());
        }
    }
}

impl Target<'_> {
    /// What the build gave for a name, where it gave something.
    pub(super) fn named_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Option<NamedContext>, CompileError> {
        if self.input.options.contexts.is_empty() && Reference::parse(name).is_ok() {
            return Ok(None);
        }
        let reference = Reference::parse(name)
            .map_err(|error| Fault::ContextName { name: name.into(), error })?;
        let familiar = reference.familiar();
        let short = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let own = platform.unwrap_or(&self.platforms.build);
        let with_platform = format!("{short}::{}", own.normalized().format_all());
        let contexts = &self.input.options.contexts;
        let found = [with_platform, short.to_owned()].into_iter().find_map(|given_name| {
            let value = contexts.get(&given_name)?.clone();
            let platform = platform.cloned();
            Some(NamedContext { name: short.to_owned(), given_name, value, platform })
        });
        Ok(found)
    }

    /// As [`Self::named_context`], for the name of a stage or an image.
    pub(super) fn stage_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Result<Option<NamedContext>, CompileError> {
        if name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return Ok(None);
        }
        // Where nobody named a platform, the builder's own is not named either.
        let target = (!self.platforms.implicit).then_some(&self.platforms.target);
        self.named_context(name, platform.or(target))
    }

    pub(super) fn load_context(&mut self, named: &NamedContext) -> Result<LoadedContext, Stop> {
        let value = named.value.as_str();
        let Some((kind, rest)) = value.split_once(':') else {
            let (name, value) = (named.given_name.clone(), value.to_owned());
            return Err(CompileError::new(Fault::ContextSpecifier { name, value }).into());
        };
        let kind = if kind.starts_with("git@") { "git" } else { kind };
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        match kind {
            "docker-image" => self.load_image(named, rest),
            "input" => self.load_input(named, rest),
            "oci-layout" => self.load_layout(named, rest),
            "local" => {
                let local = value.split_once(':').map_or("", |(_, local)| local);
                self.load_local(named, local)
            }
            "git" => match GitRef::parse(value) {
                Ok(git) => Ok(plain(git.context(value, false, false))),
                Err(NoGitRef::Query(error)) => Err(CompileError::new(error.into()).into()),
                Err(NoGitRef::Other) => {
                    Err(CompileError::new(Fault::GitContext(value.into())).into())
                }
            },
            "http" | "https" => match GitRef::parse(value) {
                Ok(git) => Ok(plain(git.context(value, false, false))),
                Err(NoGitRef::Query(error)) => Err(CompileError::new(error.into()).into()),
                Err(NoGitRef::Other) => {
                    let name = format!("[context {}] {value}", named.given_name);
                    let file = Http::new(value).filename("context");
                    Ok(plain(file.state(Constraints::named(name))))
                }
            },
            _ => {
                let (name, kind) = (named.given_name.clone(), kind.to_owned());
                Err(CompileError::new(Fault::ContextKind { name, kind }).into())
            }
        }
    }

    fn load_image(&mut self, named: &NamedContext, text: &str) -> Result<LoadedContext, Stop> {
        if text == "scratch" {
            return Ok(plain(State::scratch()));
        }
        let reference = Reference::parse(text).map_err(Fault::Reference)?.or_latest().to_string();
        let log_name = format!("[context {}] load metadata for {text}", named.given_name);
        let (answered, config) = self.look_up(ImageQuestion {
            reference: reference.clone(),
            platform: named.platform.clone(),
            mode: self.input.options.resolve_mode,
            log_name,
            layout: None,
        })?;
        let reference = answered.unwrap_or(reference);
        // What a user reads is the name as it was given; `docker build` shows the same.
        let constraints = named.constraints(&format!("[context {}] {text}", named.given_name));
        let state = Image::new(reference).state(constraints);
        Ok(with_config(state, config))
    }

    /// What another build makes, as its graph: the builder runs what is in both once.
    fn load_input(&mut self, named: &NamedContext, name: &str) -> Result<LoadedContext, Stop> {
        let platform = named.platform.clone().unwrap_or_else(|| self.platforms.target.clone());
        let question = InputQuestion { name: name.to_owned(), platform: Some(platform) };
        let Answer::Input(input) = self.ask(Question::Input(question))? else {
            return Err(CompileError::new(Fault::Lookup("the answer is no graph".into())).into());
        };
        let unreadable = |error: &dyn std::fmt::Display| Fault::Lookup(error.to_string());
        let graph = pb::Definition::decode(input.definition.as_slice())
            .map_err(|error| unreadable(&error))?;
        let graph = Definition::from_pb(graph).map_err(|error| unreadable(&error))?;
        let config = ImageConfig::parse(&input.config)
            .map_err(|error| Fault::ImageConfig(error.to_string()))?;
        Ok(with_config(State::from_definition(graph), config))
    }

    fn load_layout(&mut self, named: &NamedContext, text: &str) -> Result<LoadedContext, Stop> {
        let wrong = |problem: String| Fault::Layout { text: text.into(), problem };
        let layout = Reference::parse_exact(text).map_err(|error| wrong(error.to_string()))?;
        let digest = layout.digest().ok_or_else(|| wrong("has no digest".into()))?;
        // The store is what counts; the name is the one that a user knows.
        let shown = Reference::parse(&named.name)
            .and_then(|name| name.with_digest(digest))
            .map_err(Fault::Reference)?
            .to_string();
        let session = self.input.request.session.clone();
        let store = LayoutStore { session: session.clone(), store: layout.name() };
        let (_, config) = self.look_up(ImageQuestion {
            reference: shown.clone(),
            platform: named.platform.clone(),
            mode: self.input.options.resolve_mode,
            log_name: format!("[context {}] load metadata for {shown}", named.given_name),
            layout: Some(store),
        })?;
        let name = format!("[context {}] OCI load from client", named.given_name);
        let state =
            OciLayout::new(shown).store(session, layout.name()).state(named.constraints(&name));
        Ok(with_config(state, config))
    }

    fn load_local(&mut self, named: &NamedContext, local: &str) -> Result<LoadedContext, Stop> {
        let options = &self.input.options;
        let session = session_of(options, local, &self.input.request.session).to_owned();
        let shared_key = options.shared_keys.get(&named.given_name).cloned().unwrap_or_default();
        let question = IgnoreFileQuestion {
            local: local.into(),
            context: named.given_name.clone(),
            session: session.clone(),
        };
        let content = match self.ask(Question::IgnoreFile(question))? {
            Answer::File(content) => content.unwrap_or_default(),
            Answer::Image(_) | Answer::Input(_) | Answer::Time(_) => Vec::new(),
        };
        let exclude = IgnoreFile::parse(&content)
            .map_err(|error| Fault::IgnoreFile {
                name: super::context::IGNORE_FILE.into(),
                error: error.to_string(),
            })?
            .patterns();
        let later = Output::later();
        Ok(LoadedContext {
            state: State::from_output(later.output()),
            config: None,
            local: Some(LocalContext {
                later,
                local: local.into(),
                given_name: named.given_name.clone(),
                session,
                shared_key,
                exclude,
            }),
        })
    }

    /// Asks for an image: the name that it goes by in the end, and its config.
    fn look_up(&mut self, question: ImageQuestion) -> Result<(Option<String>, ImageConfig), Stop> {
        match self.ask(Question::Image(question))? {
            Answer::Image(image) => {
                let config = ImageConfig::parse(&image.config)
                    .map_err(|error| Fault::ImageConfig(error.to_string()))?;
                Ok((image.reference, config))
            }
            Answer::File(_) | Answer::Input(_) | Answer::Time(_) => {
                Err(CompileError::new(Fault::Lookup("the builder's answer is no image".into()))
                    .into())
            }
        }
    }
}

impl NamedContext {
    fn constraints(&self, name: &str) -> Constraints {
        let constraints = Constraints::named(name);
        match &self.platform {
            Some(platform) => constraints.platform(platform.clone()),
            None => constraints,
        }
    }
}

fn plain(state: State) -> LoadedContext {
    LoadedContext { state, config: None, local: None }
}

/// The state of an image: its environment, directory and platform hold for what is built on it.
fn with_config(mut state: State, config: ImageConfig) -> LoadedContext {
    for entry in &config.config.env {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if !name.is_empty() {
            state = state.env(name, value);
        }
    }
    state = state.dir(&config.config.working_dir);
    if !config.architecture.is_empty() && !config.os.is_empty() {
        state = state.platform(&config.platform());
    }
    LoadedContext { state, config: Some(config), local: None }
}
