//! The main context and the Dockerfile's own source: where a build starts from.

use super::error::{CompileError, Fault};
use super::git_ref::{GitRef, NoGitRef};
use super::options::Options;
use super::question::{IgnoreFileQuestion, SourceQuestion};
use super::request::WebContext;
use crate::llb::path;
use crate::llb::{Constraints, CopyOptions, FileAction, Http, Local, State};

/// The name of the ignore file of a context.
pub(super) const IGNORE_FILE: &str = ".dockerignore";
/// The name of a Dockerfile that nobody named.
const DOCKERFILE: &str = "Dockerfile";
/// The name of the file that a remote context is fetched as.
const WEB_FILE: &str = "context";

/// The main context.
#[derive(Clone, Debug)]
pub(super) struct MainContext {
    /// A remote context; one of the client's has none, since it depends on what is used of it.
    pub(super) remote: Option<State>,
    /// What tells the time of a remote context.
    pub(super) source: Option<SourceQuestion>,
    /// What the Dockerfile is read from.
    pub(super) entry: Entry,
    session: String,
}

/// What holds the Dockerfile, and what to read from it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The source.
    pub state: State,
    /// The Dockerfile's name in it.
    pub filename: String,
    /// Another name that it may have instead.
    pub other_filename: Option<String>,
    /// The name of the ignore file that counts for this Dockerfile alone.
    pub ignore_file: String,
    /// Whether the context is the client's, so that its own ignore file counts where the
    /// Dockerfile has none.
    pub local_context: bool,
}

/// A context that is fetched from the web, before it is known what it holds.
#[derive(Clone, Debug)]
pub struct WebSource {
    /// The source.
    pub state: State,
    /// The name in it of the one file.
    pub filename: &'static str,
}

impl MainContext {
    pub(super) fn new(
        options: &Options,
        session: &str,
        web: WebContext,
    ) -> Result<Self, CompileError> {
        let given = &options.context;
        let commit_times =
            options.build_args.get("SOURCE_DATE_EPOCH").is_some_and(|v| !v.is_empty());
        let mut filename = options.filename.clone();
        let mut remote = None;
        match GitRef::parse(&given.address) {
            Ok(git) => {
                remote = Some(git.context(&given.address, given.keep_git_dir, commit_times));
            }
            Err(NoGitRef::Query(error)) => return Err(Fault::GitQuery(error).into()),
            Err(NoGitRef::Other) if is_web(&given.address) => {
                let file = web_file(&given.address);
                remote = Some(match web {
                    WebContext::Archive => unpacked(&file),
                    WebContext::Dockerfile => {
                        filename = WEB_FILE.into();
                        file
                    }
                });
            }
            Err(NoGitRef::Other) => {}
        }
        let source = remote.as_ref().and_then(source_question);
        let entry_state = match &remote {
            Some(state) if given.dockerfile_local.is_none() => state.clone(),
            _ => dockerfile_source(options, &filename, session),
        };
        let remote = remote.map(|state| match &given.subdir {
            Some(dir) => State::scratch().file(
                vec![FileAction::copy_with(
                    &state,
                    dir,
                    "/",
                    CopyOptions { dir_contents: true, ..CopyOptions::default() },
                )],
                Constraints::new(),
            ),
            None => state,
        });
        let entry = Entry {
            state: entry_state,
            other_filename: lower_case_name(&filename),
            ignore_file: format!("{filename}{IGNORE_FILE}"),
            local_context: remote.is_none(),
            filename,
        };
        Ok(Self { remote, source, entry, session: session.into() })
    }

    /// The context, limited to what is used of it.
    pub(super) fn state(
        &self,
        options: &Options,
        exclude: Vec<String>,
        follow: Vec<String>,
    ) -> State {
        if let Some(state) = &self.remote {
            return state.clone();
        }
        Local::new("context")
            .session(session_of(options, "context", &self.session))
            .exclude(exclude)
            .follow(follow)
            .shared_key("context")
            .state(Constraints::named("[internal] load build context"))
    }
}

/// The session that has a local source.
pub(super) fn session_of<'a>(options: &'a Options, local: &str, session: &'a str) -> &'a str {
    options.sessions.get(local).map_or(session, String::as_str)
}

fn dockerfile_source(options: &Options, filename: &str, session: &str) -> State {
    let local = options.context.dockerfile_local.as_deref().unwrap_or("dockerfile");
    let mut files = vec![filename.to_owned(), format!("{filename}{IGNORE_FILE}")];
    files.extend(lower_case_name(filename));
    Local::new(local)
        .session(session_of(options, local, session))
        .follow(files)
        .shared_key(local)
        .always_send()
        .state(Constraints::named(format!("[internal] load build definition from {filename}")))
}

/// `dockerfile` beside `Dockerfile`: both are found under the usual name.
fn lower_case_name(filename: &str) -> Option<String> {
    if path::base(filename) != DOCKERFILE {
        return None;
    }
    let dir = match filename.rfind('/') {
        Some(at) => path::clean(filename.get(..=at).unwrap_or_default()),
        None => ".".into(),
    };
    Some(path::join([dir.as_str(), "dockerfile"]))
}

/// The source of the ignore file of the client's main context.
pub(super) fn main_ignore_file(options: &Options, session: &str) -> State {
    ignore_file_source(
        "context",
        session_of(options, "context", session),
        &format!("context-{IGNORE_FILE}"),
        format!("[internal] load {IGNORE_FILE}"),
    )
}

/// The source of the ignore file of a named context.
pub(super) fn ignore_file_of(question: &IgnoreFileQuestion) -> State {
    ignore_file_source(
        &question.local,
        &question.session,
        &format!("context:{}-{IGNORE_FILE}", question.context),
        format!("[context {}] load {IGNORE_FILE}", question.context),
    )
}

fn ignore_file_source(local: &str, session: &str, shared_key: &str, name: String) -> State {
    Local::new(local)
        .session(session)
        .follow(vec![IGNORE_FILE.into()])
        .shared_key(shared_key)
        .always_send()
        .state(Constraints::named(name))
}

/// What to ask for the time of a state: it has one where it comes from git or the web alone.
pub(super) fn source_question(state: &State) -> Option<SourceQuestion> {
    let (identifier, attrs) = state.only_source()?;
    let timed = ["git://", "http://", "https://"];
    timed.iter().any(|kind| identifier.starts_with(kind)).then(|| SourceQuestion {
        identifier: identifier.into(),
        attrs: attrs.clone(),
        log_name: String::new(),
    })
}

/// What is fetched for a context of the web, where the context is one.
pub(super) fn web_source(options: &Options) -> Option<WebSource> {
    let address = &options.context.address;
    let is_file = matches!(GitRef::parse(address), Err(NoGitRef::Other)) && is_web(address);
    is_file.then(|| WebSource { state: web_file(address), filename: WEB_FILE })
}

fn web_file(address: &str) -> State {
    Http::new(address)
        .filename(WEB_FILE)
        .state(Constraints::named("[internal] load remote build context"))
}

fn is_web(address: &str) -> bool {
    address.starts_with("http://") || address.starts_with("https://")
}

fn unpacked(file: &State) -> State {
    let options = CopyOptions { unpack: true, ..CopyOptions::default() };
    let copy = FileAction::copy_with(file, &format!("/{WEB_FILE}"), "/", options);
    State::scratch().file(vec![copy], Constraints::new())
}
