//! Signs what was pushed, in the form that cosign and podman check.

use super::{
    error::{Error, PushFailure, Refusal},
    push::{Artifact, PushSettings, Targets},
};
use crate::{
    credential::{PASSWORD_VARIABLE, Secret},
    event::{Event, Events, Stage},
    image::document::MediaType,
    plan::{BuildPlan, IMAGE, SecretSource, SignedBy},
    record::child,
    registry::{RegistryError, Repository, digest},
    signature::{Attached, Payload, Signer, SigningKeyError, attached_tag, manifest},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A private key is no larger, in bytes.
const MAX_KEY: u64 = 64 << 10;
/// No signature is larger, in bytes.
const MAX_SIGNATURE: usize = 8 << 10;
/// How long a command may take: it may ask somebody to touch a token.
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// Who signs what is pushed, ready to do so.
#[derive(Debug)]
pub(super) struct Signing {
    by: By,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug)]
enum By {
    Key(Box<Signer>),
    Command(Vec<String>),
}

impl Signing {
    /// What `plan` says, with its key read; none where nothing is signed. Relative paths start from
    /// `directory`, and `variables` has the values of those that the key or its password is in.
    ///
    /// # Errors
    /// The key cannot be read: better said now than after the build.
    pub(super) fn load(
        plan: &BuildPlan,
        directory: &Path,
        variables: &BTreeMap<String, Secret>,
    ) -> Result<Option<Self>, Refusal> {
        let Some(signing) = &plan.signing else { return Ok(None) };
        let annotations = signing.annotations.clone();
        let by = match &signing.by {
            SignedBy::Command(words) => By::Command(words.clone()),
            SignedBy::Key { source, password_env } => {
                let shown = signing.who();
                let text = read(source, directory, variables)
                    .map_err(|words| no_key(&shown, &words, "name a private key in PEM"))?;
                let password = variables.get(password_env).map(Secret::expose);
                let signer = Signer::parse(text.expose_str().unwrap_or_default(), password);
                By::Key(Box::new(signer.map_err(|error| unfit(&shown, error, password_env))?))
            }
        };
        Ok(Some(Self { by, annotations }))
    }

    /// Signs the image `digest` in every repository of `targets`, and returns the tags of the
    /// signatures. What the same key has signed already is left as it is.
    ///
    /// # Errors
    /// It is not signed everywhere, or the user wants no more of it. The image is pushed.
    pub(super) async fn sign(
        &self,
        targets: &Targets,
        digest: &str,
        settings: &PushSettings,
        events: &Events,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, Error> {
        let repositories = targets.repositories();
        let shown: Vec<String> = repositories.iter().map(|one| format!("{one}@{digest}")).collect();
        events.emit(Event::StageStarted { stage: Stage::Sign, subject: shown.join(", ") });
        let began = Instant::now();
        let work = async {
            let mut signed = Vec::new();
            for repository in &repositories {
                let done = self.one(repository, digest, settings).await;
                signed.extend(done.map_err(|failed| failed.told(repository, digest))?);
            }
            Ok(signed)
        };
        let signed = tokio::select! {
            signed = work => signed,
            () = cancel.cancelled() => Err(Error::Interrupted),
        };
        tracing::debug!(took = ?began.elapsed(), "signed");
        events.emit(Event::StageEnded { stage: Stage::Sign, ok: signed.is_ok() });
        signed
    }

    async fn one(
        &self,
        repository: &Repository,
        image: &str,
        settings: &PushSettings,
    ) -> Result<Option<String>, Failed> {
        if let By::Command(words) = &self.by
            && words.iter().any(|word| word.contains(IMAGE))
        {
            let image = format!("{repository}@{image}");
            let words: Vec<String> = words.iter().map(|word| word.replace(IMAGE, &image)).collect();
            run(&words, b"").await?;
            return Ok(None);
        }
        let payload = Payload::new(&repository.to_string(), image, &self.annotations).to_bytes();
        let tag = attached_tag(image);
        let held = repository.manifest(&tag).await?;
        let mut all = held.map(|held| Attached::of_manifest(&held.bytes)).unwrap_or_default();
        let name = digest(&payload);
        let place = Some(format!("{repository}:{tag}"));
        let signature = match &self.by {
            By::Key(signer) => {
                let trusted = signer.trusted();
                let is_ours = |one: &Attached| {
                    let signature = one.signature().filter(|_| one.digest == name);
                    signature.is_some_and(|signature| trusted.made(&payload, &signature))
                };
                if all.iter().any(is_ours) {
                    return Ok(place);
                }
                signer.sign(&payload).map_err(|error| Failed::Words(error.to_string()))?
            }
            By::Command(words) => signature(&run(words, &payload).await?)
                .ok_or_else(|| Failed::Words("the command wrote no signature".to_owned()))?,
        };
        let attached = Attached::new(&name, payload.len(), &signature);
        if !all.contains(&attached) {
            all.push(attached);
        }
        let (manifest, config) = manifest(&all, digest);
        let media_type = MediaType::OciManifest.as_str();
        let artifact = Artifact::new([payload, config], &manifest, media_type)
            .ok_or_else(|| Failed::Words("the signatures make no manifest".to_owned()))?;
        artifact.deliver(repository, Some(&tag), settings.budget).await?;
        Ok(place)
    }
}

/// Why an image is not signed.
enum Failed {
    Registry(RegistryError),
    Words(String),
}

impl From<RegistryError> for Failed {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(error) => error.fmt(formatter),
            Self::Words(words) => formatter.write_str(words),
        }
    }
}

impl Failed {
    fn told(&self, repository: &Repository, digest: &str) -> Error {
        let reference = format!("{repository}@{digest}");
        let mend = "mend it and run the same again: the image is there, and is not sent twice";
        Error::Push(Box::new(PushFailure {
            code: "SIGN_FAILED",
            message: format!("{reference} is pushed and not signed"),
            cause: Some(self.to_string()),
            fix: Some(match self {
                Self::Registry(error) => format!("{}; then run the same again", error.fix()),
                Self::Words(_) => mend.to_owned(),
            }),
            reference: Some(reference),
            resume: None,
        }))
    }
}

/// Runs a command that signs; its stdout.
async fn run(words: &[String], input: &[u8]) -> Result<Vec<u8>, Failed> {
    let (code, said, out) = child(words, input, &[PASSWORD_VARIABLE.to_owned()], COMMAND_LIMIT)
        .await
        .map_err(|error| Failed::Words(error.to_string()))?;
    let program = words.first().map_or("", String::as_str);
    match code {
        Some(0) => Ok(out),
        Some(code) => Err(Failed::Words(format!("`{program}` ended with {code}: {said}"))),
        None => Err(Failed::Words(format!("`{program}` was killed: {said}"))),
    }
}

/// The signature that a command wrote: in Base64, or as it is.
fn signature(out: &[u8]) -> Option<Vec<u8>> {
    let is_sane = |bytes: &Vec<u8>| !bytes.is_empty() && bytes.len() <= MAX_SIGNATURE;
    let packed: Vec<u8> = out.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = BASE64_STANDARD.decode(&packed).ok();
    decoded.or_else(|| (!out.is_ascii()).then(|| out.to_vec())).filter(is_sane)
}

fn read(
    source: &SecretSource,
    directory: &Path,
    variables: &BTreeMap<String, Secret>,
) -> Result<Secret, String> {
    match source {
        SecretSource::Env(name) => {
            variables.get(name).cloned().ok_or_else(|| "the variable is not set".to_owned())
        }
        SecretSource::File(path) => {
            let path = directory.join(path);
            let size = std::fs::metadata(&path).map_err(|error| error.to_string())?.len();
            if size > MAX_KEY {
                return Err(format!("it is larger than {MAX_KEY} bytes"));
            }
            std::fs::read(&path).map(Secret::new).map_err(|error| error.to_string())
        }
    }
}

fn no_key(shown: &str, words: &str, fix: &str) -> Refusal {
    Refusal::new("SIGNING_KEY", format!("cannot sign with `{shown}`: {words}")).with_fix(fix)
}

fn unfit(shown: &str, error: SigningKeyError, password_env: &str) -> Refusal {
    let fix = match error {
        SigningKeyError::NoPassword => format!("set `{password_env}` to its password"),
        SigningKeyError::WrongPassword => format!("mend `{password_env}`"),
        SigningKeyError::Encrypted => {
            "import it: `cosign import-key-pair`, or write it without a password with `openssl pkcs8`"
                .to_owned()
        }
        SigningKeyError::Nothing | SigningKeyError::Unsupported => {
            "make one: `cosign generate-key-pair`, or `openssl genpkey -algorithm EC -pkeyopt \
             ec_paramgen_curve:P-256`"
                .to_owned()
        }
    };
    no_key(shown, &error.to_string(), &fix)
}

#[cfg(test)]
mod tests {
    use super::signature;

    #[test]
    fn a_command_writes_base64_or_bytes() {
        assert_eq!(signature(b"aGVs\nbG8=\n").unwrap(), b"hello");
        assert_eq!(signature(&[0x30, 0x80, 0xff]).unwrap(), [0x30, 0x80, 0xff]);
        for nothing in [&b""[..], b"\n", b"error: no key"] {
            assert_eq!(signature(nothing), None, "{nothing:?}");
        }
        assert_eq!(signature(&[0xff; 9000]), None);
    }
}
