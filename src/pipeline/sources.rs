//! The files that a build works from: which directories the session serves under which names, what
//! travels as a stream, and what the builder fetches by itself, as attributes tell it.

use super::{
    attributes::Attributes,
    error::{Error, Refusal},
    frontend::LocalDockerfile,
    web,
};
use crate::{
    buildkit::session::random_id,
    filesync::Source,
    llb::GitUrl,
    plan::{BuildPlan, Context, NamedContext},
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::{Component, Path, PathBuf},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The name of the main context among the session's directories.
const CONTEXT: &str = "context";

/// The name of the Dockerfile's directory among the session's directories.
const DOCKERFILE: &str = "dockerfile";

/// What a Dockerfile is called where nobody says otherwise.
const DEFAULT_NAME: &str = "Dockerfile";

/// Bytes looked at to tell an archive on stdin from a Dockerfile: one tar header.
const PEEK: usize = 512;

/// The largest Dockerfile that is taken from stdin or the web, in bytes.
const DOCKERFILE_LIMIT: u64 = 16 << 20;

/// A stream that stands in for stdin.
pub type Stdin = Box<dyn AsyncRead + Send + Unpin>;

/// The files of a build.
pub struct Sources {
    /// What a frontend is told of them.
    pub attributes: Attributes,
    /// The directories that the session serves, by name.
    pub directories: BTreeMap<String, Source>,
    /// The Dockerfile, where it is a file here.
    pub dockerfile: Option<LocalDockerfile>,
    /// An archive on stdin. The session offers it under a URL, which is then the context.
    pub upload: Option<Stdin>,
    /// OCI layouts that the session serves, by the name that the builder asks for.
    pub layouts: BTreeMap<String, PathBuf>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sources")
            .field("attributes", &self.attributes)
            .field("directories", &self.directories)
            .finish_non_exhaustive()
    }
}

/// Looks for the files of `plan` and decides how each travels. Relative paths start from `here`.
///
/// # Errors
/// Something named is not there or is no directory, stdin is asked for twice, or cannot be read.
pub async fn sources(
    plan: &BuildPlan,
    here: &Path,
    stdin: Option<Stdin>,
) -> Result<Sources, Error> {
    let mut made = Sources {
        attributes: Attributes::new(),
        directories: BTreeMap::new(),
        dockerfile: None,
        upload: None,
        layouts: BTreeMap::new(),
    };
    let mut capabilities = BTreeSet::new();
    let mut stdin = stdin;
    made.add_context(plan, here, &mut stdin, &mut capabilities).await?;
    for named in &plan.named_contexts {
        capabilities.insert("moby.buildkit.frontend.contexts+forward");
        made.add_named(named, &plan.linked, here, &mut capabilities)?;
    }
    if !capabilities.is_empty() {
        let list: Vec<&str> = capabilities.into_iter().collect();
        made.set("frontend.caps", list.join(","));
    }
    Ok(made)
}

impl Sources {
    fn set(&mut self, key: &str, value: impl Into<String>) {
        self.attributes.insert(key.to_owned(), value.into());
    }

    async fn add_context(
        &mut self,
        plan: &BuildPlan,
        here: &Path,
        stdin: &mut Option<Stdin>,
        capabilities: &mut BTreeSet<&'static str>,
    ) -> Result<(), Error> {
        let file = plan.file.as_deref();
        match &plan.context {
            Context::Directory(path) => {
                let directory = existing_directory(here, path, "the build context")?;
                self.serve(CONTEXT, Source::Directory(directory.clone()));
                match file {
                    Some("-") => self.add_piped_dockerfile(stdin).await?,
                    Some(file) if web::is_url(file) => self.add_fetched_dockerfile(file).await?,
                    Some(file) => self.add_dockerfile(&here.join(file))?,
                    None => self.add_dockerfile(&directory.join(DEFAULT_NAME))?,
                }
            }
            Context::Stdin => self.add_stdin(file, stdin).await?,
            Context::Git(url) | Context::Http(url) => {
                self.set("context", url.clone());
                if has_query(url) {
                    capabilities.insert("moby.buildkit.frontend.gitquerystring");
                }
                match file {
                    Some("-") => self.add_piped_dockerfile(stdin).await?,
                    Some(file) if web::is_url(file) => self.add_fetched_dockerfile(file).await?,
                    Some(file) if Path::new(file).is_absolute() => {
                        self.set("dockerfilekey", DOCKERFILE);
                        self.add_dockerfile(Path::new(file))?;
                    }
                    file => self.set("filename", file.unwrap_or(DEFAULT_NAME)),
                }
            }
        }
        Ok(())
    }

    /// `-` as the context: an archive, or a Dockerfile that needs no files.
    async fn add_stdin(
        &mut self,
        file: Option<&str>,
        stdin: &mut Option<Stdin>,
    ) -> Result<(), Error> {
        if file == Some("-") {
            return Err(Refusal::new(
                "STDIN_TWICE",
                "stdin cannot be both the context and the Dockerfile",
            )
            .with_fix("name a directory as the context")
            .into());
        }
        let mut stream = take(stdin)?;
        let head = peek(&mut stream).await.map_err(cannot_read_stdin)?;
        if is_archive(&head) {
            self.set("filename", file.unwrap_or(DEFAULT_NAME));
            self.upload = Some(Box::new(io::Cursor::new(head).chain(stream)));
            return Ok(());
        }
        if file.is_some() {
            return Err(Refusal::new(
                "STDIN_AMBIGUOUS",
                "stdin holds no archive, so it is a Dockerfile, and --file names another",
            )
            .with_fix("leave out --file, or send a tar archive")
            .into());
        }
        self.serve(CONTEXT, Source::Memory(BTreeMap::new()));
        let mut rest: Stdin = Box::new(io::Cursor::new(head).chain(stream));
        self.add_dockerfile_text(&mut rest).await
    }

    async fn add_piped_dockerfile(&mut self, stdin: &mut Option<Stdin>) -> Result<(), Error> {
        let mut stream = take(stdin)?;
        self.add_dockerfile_text(&mut stream).await
    }

    /// A Dockerfile out of a stream, alone in a directory.
    async fn add_dockerfile_text(&mut self, stream: &mut Stdin) -> Result<(), Error> {
        let mut text = Vec::new();
        let mut limited = stream.take(DOCKERFILE_LIMIT + 1);
        limited.read_to_end(&mut text).await.map_err(cannot_read_stdin)?;
        if text.len() as u64 > DOCKERFILE_LIMIT {
            return Err(Refusal::new(
                "DOCKERFILE_TOO_LARGE",
                "stdin is too large for a Dockerfile",
            )
            .with_fix("send a context as a tar archive")
            .into());
        }
        self.add_loose_dockerfile(Bytes::from(text));
        Ok(())
    }

    async fn add_fetched_dockerfile(&mut self, url: &str) -> Result<(), Error> {
        let limit = usize::try_from(DOCKERFILE_LIMIT).unwrap_or(usize::MAX);
        let text = web::fetch(url, limit).await?;
        self.add_loose_dockerfile(text);
        Ok(())
    }

    /// A Dockerfile that lies in no directory here gets one of its own.
    fn add_loose_dockerfile(&mut self, text: Bytes) {
        let files = BTreeMap::from([(DEFAULT_NAME.to_owned(), text.clone())]);
        self.set("dockerfilekey", DOCKERFILE);
        self.set("filename", DEFAULT_NAME);
        self.serve(DOCKERFILE, Source::Memory(files));
        self.dockerfile = Some(LocalDockerfile { name: DEFAULT_NAME.to_owned(), text });
    }

    fn add_dockerfile(&mut self, path: &Path) -> Result<(), Error> {
        let path = lower_case_name(path);
        let text = std::fs::read(&path).map_err(|cause| no_dockerfile(&path, cause))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = base_name(&path);
        self.set("filename", name.clone());
        self.serve(DOCKERFILE, Source::Directory(directory));
        self.dockerfile = Some(LocalDockerfile { name, text: text.into() });
        Ok(())
    }

    fn serve(&mut self, name: &str, source: Source) {
        self.directories.insert(name.to_owned(), source);
    }

    fn add_named(
        &mut self,
        named: &NamedContext,
        linked: &BTreeMap<String, BuildPlan>,
        here: &Path,
        capabilities: &mut BTreeSet<&'static str>,
    ) -> Result<(), Error> {
        let NamedContext { name, value } = named;
        let key = format!("context:{name}");
        if let Some(rest) = value.strip_prefix("oci-layout://") {
            let layout = Layout::parse(rest);
            let directory = existing_directory(
                here,
                Path::new(&layout.path),
                &format!("the context `{name}`"),
            )?;
            let store = random_id();
            self.set(&key, format!("oci-layout://{}", layout.in_store(&store, &directory)?));
            self.layouts.insert(store, directory);
            return Ok(());
        }
        if let Some(target) = value.strip_prefix("target:") {
            if !linked.contains_key(target) {
                return Err(Refusal::new(
                    "TARGET_UNKNOWN",
                    format!(
                        "the context `{name}` is the image `{target}`, which nobody builds here"
                    ),
                )
                .with_fix("name an `[[image]]` of bk-sync.toml by its `id`")
                .into());
            }
            self.set(&key, format!("input:{target}"));
            return Ok(());
        }
        if is_fetched(value) {
            self.set(&key, value.clone());
            if has_query(value) {
                capabilities.insert("moby.buildkit.frontend.gitquerystring+forward");
            }
            return Ok(());
        }
        let directory =
            existing_directory(here, Path::new(value), &format!("the context `{name}`"))?;
        // The names of the two main directories are taken.
        let local = match name.as_str() {
            CONTEXT | DOCKERFILE => format!("_{name}"),
            other => other.to_owned(),
        };
        self.set(&key, format!("local:{local}"));
        self.set(&format!("sharedkey:localdir:{name}"), base_name(&directory));
        self.serve(&local, Source::Directory(directory));
        Ok(())
    }
}

/// An `oci-layout://` context: where it lies and which image of it is meant.
struct Layout {
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Layout {
    fn parse(text: &str) -> Self {
        let (text, digest) = match text.split_once('@') {
            Some((path, digest)) => (path, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon in the last component is a tag's.
        let (path, tag) = match text.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.to_owned())),
            _ => (text, None),
        };
        Self { path: path.to_owned(), tag, digest }
    }

    /// The reference that the builder asks the store for, with the digest looked up.
    fn in_store(&self, store: &str, directory: &Path) -> Result<String, Error> {
        let digest = match &self.digest {
            Some(digest) => digest.clone(),
            None => indexed_digest(directory, self.tag.as_deref())?,
        };
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        Ok(format!("{store}{tag}@{digest}"))
    }
}

#[derive(serde::Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<IndexEntry>,
}

#[derive(serde::Deserialize)]
struct IndexEntry {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The digest that a layout's index has under `tag` (by default `latest`), or its only one.
fn indexed_digest(directory: &Path, tag: Option<&str>) -> Result<String, Error> {
    let path = directory.join("index.json");
    let text = std::fs::read(&path).map_err(|cause| Error::Io {
        action: "cannot read",
        path: path.clone(),
        cause,
    })?;
    let index: Index = serde_json::from_slice(&text).map_err(|cause| Error::Io {
        action: "cannot read",
        path: path.clone(),
        cause: cause.into(),
    })?;
    let wanted = tag.unwrap_or("latest");
    let is_wanted = |entry: &&IndexEntry| {
        let names = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
        names.iter().filter_map(|name| entry.annotations.get(*name)).any(|name| {
            name == wanted || name.rsplit_once(':').is_some_and(|(_, tag)| tag == wanted)
        })
    };
    let found = index.manifests.iter().find(is_wanted);
    match (found, index.manifests.as_slice()) {
        (Some(entry), _) => Ok(entry.digest.clone()),
        (None, [only]) if tag.is_none() => Ok(only.digest.clone()),
        _ => Err(Refusal::new(
            "OCI_LAYOUT_UNKNOWN_TAG",
            format!("`{}` has no image `{wanted}`", directory.display()),
        )
        .with_fix("write oci-layout://PATH:TAG or oci-layout://PATH@DIGEST")
        .into()),
    }
}

/// Whether the builder gets at a named context by itself.
fn is_fetched(value: &str) -> bool {
    ["docker-image://", "http://", "https://", "git://", "ssh://", "git@", "github.com/"]
        .iter()
        .any(|prefix| value.starts_with(prefix))
}

/// Whether a git URL has a query, which not every frontend reads.
fn has_query(url: &str) -> bool {
    url.contains('?') && GitUrl::parse(url).is_ok()
}

fn existing_directory(here: &Path, path: &Path, what: &str) -> Result<PathBuf, Error> {
    let full = here.join(path);
    let shown = path.display();
    match std::fs::metadata(&full) {
        Ok(found) if found.is_dir() => Ok(full),
        Ok(_) => {
            Err(Refusal::new("CONTEXT_NOT_DIRECTORY", format!("{what} `{shown}` is no directory"))
                .with_fix("name a directory, `-`, or a URL")
                .into())
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(Refusal::new("CONTEXT_NOT_FOUND", format!("{what} `{shown}` does not exist"))
                .with_fix("mend the path")
                .into())
        }
        Err(cause) => Err(Error::Io { action: "cannot read", path: full, cause }),
    }
}

fn no_dockerfile(path: &Path, cause: io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            Refusal::new("DOCKERFILE_NOT_FOUND", format!("there is no `{}`", path.display()))
                .with_fix("name the Dockerfile with --file")
                .into()
        }
        io::ErrorKind::IsADirectory => {
            Refusal::new("DOCKERFILE_NOT_FOUND", format!("`{}` is a directory", path.display()))
                .with_fix("name the Dockerfile with --file")
                .into()
        }
        _ => Error::Io { action: "cannot read", path: path.to_owned(), cause },
    }
}

/// `dockerfile` for `Dockerfile` where only that is there: both names have always worked.
fn lower_case_name(path: &Path) -> PathBuf {
    if path.file_name().is_some_and(|name| name == DEFAULT_NAME) && !path.exists() {
        let lower = path.with_file_name(DEFAULT_NAME.to_ascii_lowercase());
        if lower.exists() {
            return lower;
        }
    }
    path.to_owned()
}

/// The last component of a path; for `.` and `..`, of what they stand for.
fn base_name(path: &Path) -> String {
    let named = match path.components().next_back() {
        Some(Component::Normal(_)) => path.to_owned(),
        _ => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    named.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn take(stdin: &mut Option<Stdin>) -> Result<Stdin, Error> {
    stdin.take().ok_or_else(|| Refusal::new("STDIN_CLOSED", "there is nothing on stdin").into())
}

fn cannot_read_stdin(cause: io::Error) -> Error {
    Error::Io { action: "cannot read", path: PathBuf::from("stdin"), cause }
}

/// The first bytes of a stream: up to a tar header's worth.
async fn peek(stream: &mut Stdin) -> io::Result<BytesMut> {
    let mut head = BytesMut::with_capacity(PEEK);
    while head.len() < PEEK {
        if stream.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// Whether these first bytes are an archive's: a compressed one, or a tar header.
fn is_archive(head: &[u8]) -> bool {
    const MAGIC: [&[u8]; 4] = [b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"];
    if MAGIC.iter().any(|magic| head.starts_with(magic)) {
        return true;
    }
    let Some(block) = head.get(..PEEK) else { return false };
    if block.iter().all(|byte| *byte == 0) {
        // An empty archive begins with its end.
        return true;
    }
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    header.cksum().is_ok_and(|stated| stated == sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn pipe(bytes: impl Into<Vec<u8>>) -> Stdin {
        Box::new(io::Cursor::new(bytes.into()))
    }

    async fn made(plan: &BuildPlan, directory: &Path, stdin: Option<Stdin>) -> Sources {
        sources(plan, directory, stdin).await.expect("sources")
    }

    async fn code(plan: &BuildPlan, directory: &Path, stdin: Option<Stdin>) -> &'static str {
        match sources(plan, directory, stdin).await {
            Err(Error::Refused(refusal)) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    fn shown(sources: &Sources) -> Vec<String> {
        sources.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    fn directory(sources: &Sources, name: &str) -> PathBuf {
        match sources.directories.get(name) {
            Some(Source::Directory(path)) => path.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn tree() -> TempDir {
        let tree = TempDir::new().expect("a directory");
        fs::create_dir_all(tree.path().join("app/docker")).expect("directories");
        fs::write(tree.path().join("app/dockerfile"), "FROM a").expect("a file");
        fs::write(tree.path().join("app/docker/F"), "FROM b").expect("a file");
        tree
    }

    fn tar_archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(6);
        header.set_mode(0o644);
        builder.append_data(&mut header, "Dockerfile", &b"FROM a"[..]).expect("an entry");
        builder.into_inner().expect("an archive")
    }

    #[tokio::test]
    async fn a_directory_is_served_with_its_dockerfile_of_either_case() {
        let tree = tree();
        let plan = BuildPlan { context: Context::Directory("app".into()), ..BuildPlan::default() };
        let sources = made(&plan, tree.path(), None).await;
        assert_eq!(shown(&sources), ["filename=dockerfile"]);
        assert_eq!(directory(&sources, "dockerfile"), tree.path().join("app"));
        assert_eq!(sources.dockerfile.expect("a Dockerfile").text.as_ref(), b"FROM a");
    }

    #[tokio::test]
    async fn a_dockerfile_elsewhere_has_its_own_directory() {
        let tree = tree();
        let plan = BuildPlan {
            context: Context::Directory("app".into()),
            file: Some("app/docker/F".to_owned()),
            ..BuildPlan::default()
        };
        let sources = made(&plan, tree.path(), None).await;
        assert_eq!(shown(&sources), ["filename=F"]);
        assert_eq!(directory(&sources, "dockerfile"), tree.path().join("app/docker"));
    }

    #[tokio::test]
    async fn stdin_is_an_archive_or_a_dockerfile() {
        let tree = tree();
        let plan = BuildPlan { context: Context::Stdin, ..BuildPlan::default() };

        let archive = tar_archive();
        let sources = made(&plan, tree.path(), Some(pipe(archive.clone()))).await;
        let mut stream = sources.upload.expect("an upload");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("bytes");
        assert_eq!(bytes, archive);

        let sources = made(&plan, tree.path(), Some(pipe("FROM scratch\n"))).await;
        assert!(sources.upload.is_none());
        assert_eq!(shown(&sources), ["dockerfilekey=dockerfile", "filename=Dockerfile"]);
        assert!(
            matches!(sources.directories.get("context"), Some(Source::Memory(files)) if files.is_empty())
        );

        let both = BuildPlan { file: Some("-".to_owned()), ..plan.clone() };
        assert_eq!(code(&both, tree.path(), Some(pipe("FROM a"))).await, "STDIN_TWICE");
        let named = BuildPlan { file: Some("F".to_owned()), ..plan };
        assert_eq!(code(&named, tree.path(), Some(pipe("FROM a"))).await, "STDIN_AMBIGUOUS");
    }

    #[tokio::test]
    async fn remote_contexts_are_for_the_builder_to_fetch() {
        let tree = tree();
        let url = "https://example.com/a.git?ref=v1";
        let plan = BuildPlan {
            context: Context::Git(url.to_owned()),
            file: Some("build/F".to_owned()),
            named_contexts: vec![
                NamedContext { name: "base".to_owned(), value: "docker-image://a".to_owned() },
                NamedContext { name: "context".to_owned(), value: "app".to_owned() },
            ],
            ..BuildPlan::default()
        };
        let sources = made(&plan, tree.path(), None).await;
        assert_eq!(
            shown(&sources),
            [
                &format!("context={url}"),
                "context:base=docker-image://a",
                "context:context=local:_context",
                "filename=build/F",
                "frontend.caps=moby.buildkit.frontend.contexts+forward,moby.buildkit.frontend.gitquerystring",
                "sharedkey:localdir:context=app",
            ]
        );
        assert_eq!(sources.directories.keys().collect::<Vec<_>>(), ["_context"]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_refused_before_anything_is_dialled() {
        let tree = tree();
        let directory = |path: &str| BuildPlan {
            context: Context::Directory(path.into()),
            ..BuildPlan::default()
        };
        assert_eq!(code(&directory("none"), tree.path(), None).await, "CONTEXT_NOT_FOUND");
        assert_eq!(
            code(&directory("app/docker/F"), tree.path(), None).await,
            "CONTEXT_NOT_DIRECTORY"
        );
        assert_eq!(code(&directory("app/docker"), tree.path(), None).await, "DOCKERFILE_NOT_FOUND");
    }

    #[test]
    fn archives_are_told_by_their_first_bytes() {
        assert!(is_archive(&tar_archive()));
        assert!(is_archive(b"\x1f\x8b\x08\x00"));
        assert!(is_archive(&[0; 1024]));
        assert!(!is_archive(b"FROM scratch\n"));
        assert!(!is_archive(&[b'#'; 512]));
        assert!(!is_archive(b""));
    }

    #[test]
    fn a_layout_is_looked_up_by_tag_or_alone() {
        let layout = TempDir::new().expect("a directory");
        let write = |text: &str| fs::write(layout.path().join("index.json"), text).expect("a file");
        let digest = |tag| indexed_digest(layout.path(), tag).map_err(|error| error.to_string());
        write(r#"{"manifests":[{"digest":"sha256:a"}]}"#);
        assert_eq!(digest(None), Ok("sha256:a".to_owned()));
        assert!(digest(Some("v1")).is_err());
        write(
            r#"{"manifests":[{"digest":"sha256:a","annotations":{"org.opencontainers.image.ref.name":"v1"}},
               {"digest":"sha256:b","annotations":{"io.containerd.image.name":"r/x:latest"}}]}"#,
        );
        assert_eq!(digest(Some("v1")), Ok("sha256:a".to_owned()));
        assert_eq!(digest(None), Ok("sha256:b".to_owned()));
        let layout = Layout::parse("dir/l:v1@sha256:a");
        assert_eq!((layout.path.as_str(), layout.tag.as_deref()), ("dir/l", Some("v1")));
    }
}
