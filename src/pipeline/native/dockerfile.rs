//! Where the Dockerfile and its ignore file are read: here where they are the client's, else through
//! the builder, which fetches the context anyway.

use super::time::is_archive;
use crate::{
    buildkit::{
        errors::{Code, Failure},
        gateway::{Gateway, Solve, references},
    },
    compile::{Compiler, Entry, IgnoreFileText, WebContext},
    filesync::Source,
    llb::{Caps, Defaults, Platform, State},
    pipeline::{
        attributes::Attributes,
        frontend::{FrontendError, FrontendInput},
    },
};
use std::{io, path::Path};

/// The ignore file of a whole context.
pub(super) const IGNORE_FILE: &str = ".dockerignore";

/// What tells an archive from a Dockerfile: a header of tar and then some.
const HEAD: i64 = 1024;

/// A Dockerfile, with what goes with it.
#[derive(Clone, Debug)]
pub(super) struct Dockerfile {
    /// Its name.
    pub(super) filename: String,
    /// Its bytes.
    pub(super) text: Vec<u8>,
    /// The ignore file that counts.
    pub(super) ignore_file: Option<IgnoreFileText>,
    /// What a context of the web holds.
    pub(super) web_context: WebContext,
}

/// Reads the Dockerfile that `input` names.
pub(super) async fn read(
    gateway: &Gateway,
    input: &FrontendInput,
) -> Result<Dockerfile, FrontendError> {
    let web_context = web_context(gateway, &input.attributes).await?;
    let entry = Compiler::entry(&input.attributes, &input.session_id, web_context)
        .map_err(|error| options_error(&error))?;
    let (filename, text, own_ignore_file) = match &input.dockerfile {
        Some(local) => {
            let directory = directory(input, dockerfile_directory(&input.attributes));
            let ignore_file = read_local(directory, &entry.ignore_file).await?;
            (local.name.clone(), local.text.to_vec(), ignore_file)
        }
        None => read_remote(gateway, &entry).await?,
    };
    let mut ignore_file = own_ignore_file.map(|data| (entry.ignore_file.clone(), data));
    if ignore_file.is_none() && entry.local_context {
        let data = read_local(directory(input, "context"), IGNORE_FILE).await?;
        ignore_file = data.map(|data| (IGNORE_FILE.to_owned(), data));
    }
    let ignore_file = ignore_file.map(|(name, data)| IgnoreFileText { name, data });
    Ok(Dockerfile { filename, text, ignore_file, web_context })
}

/// The name of the directory with the Dockerfile.
fn dockerfile_directory(attributes: &Attributes) -> &str {
    attributes.get("dockerfilekey").map_or("dockerfile", String::as_str)
}

/// A directory of the session.
pub(super) fn directory<'a>(input: &'a FrontendInput, name: &str) -> Option<&'a Source> {
    input.directories.get(name)
}

/// A file of a directory here; none where there is no such file.
pub(super) async fn read_local(
    directory: Option<&Source>,
    name: &str,
) -> Result<Option<Vec<u8>>, FrontendError> {
    match directory {
        None => Ok(None),
        Some(Source::Memory(files)) => Ok(files.get(name).map(|data| data.to_vec())),
        Some(Source::Directory(path)) => read_file(&path.join(name)).await,
    }
}

async fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FrontendError> {
    match tokio::fs::read(path).await {
        Ok(data) => Ok(Some(data)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(FrontendError::Dockerfile {
            message: format!("cannot read `{}`: {error}", path.display()),
            sources: Vec::new(),
            fix: None,
        }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

/// The Dockerfile of a context that the builder has, and the ignore file of its own.
async fn read_remote(
    gateway: &Gateway,
    entry: &Entry,
) -> Result<(String, Vec<u8>, Option<Vec<u8>>), FrontendError> {
    let reference = load(gateway, &entry.state).await?;
    let text =
        match (gateway.read_file(&reference, &entry.filename, None).await, &entry.other_filename) {
            (Ok(text), _) => text,
            (Err(error), None) => return Err(unread(error).into()),
            (Err(error), Some(other)) => match gateway.read_file(&reference, other, None).await {
                Ok(text) => text,
                Err(_) => return Err(unread(error).into()),
            },
        };
    // That there is none is a failure without a code of its own.
    let ignore_file = gateway.read_file(&reference, &entry.ignore_file, None).await.ok();
    Ok((entry.filename.clone(), text, ignore_file))
}

fn unread(mut failure: Failure) -> Failure {
    failure.message = format!("failed to read dockerfile: {}", failure.message);
    failure
}

/// The result of a source, not yet run.
pub(super) async fn load(gateway: &Gateway, state: &State) -> Result<String, Failure> {
    let defaults = Defaults::new(Platform::host(), Some(Caps::all()));
    let definition = state
        .marshal(&defaults)
        .map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    let solve = Solve { definition: Some(definition.to_pb()), ..Solve::default() };
    let result = gateway.solve(solve).await?;
    Ok(references(&result).into_iter().next().unwrap_or_default())
}

async fn web_context(
    gateway: &Gateway,
    attributes: &Attributes,
) -> Result<WebContext, FrontendError> {
    let web = Compiler::web_context(attributes).map_err(|error| options_error(&error))?;
    let Some(web) = web else { return Ok(WebContext::default()) };
    let reference = load(gateway, &web.state).await?;
    let head = gateway.read_file(&reference, web.filename, Some((0, HEAD))).await?;
    Ok(if is_archive(&head) { WebContext::Archive } else { WebContext::Dockerfile })
}

fn options_error(error: &crate::compile::CompileError) -> FrontendError {
    FrontendError::Dockerfile { message: error.to_string(), sources: Vec::new(), fix: error.hint() }
}
