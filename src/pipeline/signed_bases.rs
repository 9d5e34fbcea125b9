//! Whether the images that a build starts from are signed by whom the user trusts. Asked when the
//! graph is known and before anything of it runs.

use super::error::Refusal;
use crate::{
    compile,
    credential::RegistryHost,
    image::{document::Descriptor, reference::Reference},
    pipeline::login::Login,
    plan::{BaseKey, BuildPlan, FrontendChoice, PolicyAction, images_of_graph},
    registry::{Reach, RegistryError, Repository},
    signature::{
        Attached, BUNDLE_TYPE, NOTATION_TYPE, Trusted, Unproven, attached_tag, check_bundle,
        check_notation, check_simple,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::BTreeSet, path::Path};

/// A public key or a list of certificates is no larger, in bytes.
const MAX_KEY: u64 = 1 << 20;
/// Nothing that is signed is larger, in bytes.
const MAX_SIGNED: usize = 4 << 20;
/// Signatures of one image that are looked at; who puts more there wants to keep us busy.
const MOST: usize = 100;
/// Images that are asked about at a time.
const ABREAST: usize = 4;

/// By whom images have to be signed, with the keys read.
pub(super) struct SignedBases {
    rules: Vec<(BaseKey, Trusted)>,
    login: Login,
    reach: Reach,
}

impl SignedBases {
    /// What `plan` asks for; none where it asks for nothing. Relative paths start from `directory`.
    ///
    /// # Errors
    /// A key cannot be read, or the plan has the builder read other images than those that are known
    /// here.
    pub(super) fn load(
        plan: &BuildPlan,
        directory: &Path,
        login: &Login,
        reach: &Reach,
    ) -> Result<Option<Self>, Refusal> {
        if plan.base_keys.is_empty() {
            return Ok(None);
        }
        if plan.frontend == FrontendChoice::Daemon {
            return Err(unknown_here("the builder compiles the Dockerfile"));
        }
        let policy = plan.source_policy.iter().flat_map(|policy| &policy.rules);
        if policy.into_iter().any(|rule| rule.action == PolicyAction::Convert) {
            let message = "the source policy puts other images in the place of those whose \
                           signatures are checked";
            return Err(Refusal::new("BASE_KEY", message)
                .with_fix("take its `CONVERT` rules out, or name those images in the Dockerfile"));
        }
        let rules = plan.base_keys.iter().map(|rule| {
            let path = directory.join(&rule.key);
            let failed = |words: &str| {
                let message = format!("cannot check signatures with `{}`: {words}", path.display());
                Refusal::new("BASE_KEY", message)
                    .with_fix("name a file with a public key or a certificate in PEM")
            };
            let size = std::fs::metadata(&path).map_err(|error| failed(&error.to_string()))?.len();
            if size > MAX_KEY {
                return Err(failed(&format!("it is larger than {MAX_KEY} bytes")));
            }
            let text =
                std::fs::read_to_string(&path).map_err(|error| failed(&error.to_string()))?;
            let trusted = Trusted::parse(&text).map_err(|error| failed(&error.to_string()))?;
            Ok((rule.clone(), trusted))
        });
        let rules = rules.collect::<Result<_, Refusal>>()?;
        Ok(Some(Self { rules, login: login.clone(), reach: reach.clone() }))
    }

    /// Checks every image that the graphs read. Images that no rule holds for may be read.
    ///
    /// # Errors
    /// One is not signed by a key of a rule that holds for it, or nobody can tell.
    pub(super) async fn check(&self, graphs: Option<&compile::Build>) -> Result<(), Refusal> {
        let Some(graphs) = graphs else {
            return Err(unknown_here("a frontend on the builder compiles the Dockerfile"));
        };
        let ops = graphs.targets.iter().flat_map(|target| target.definition.ops());
        let images: BTreeSet<String> = images_of_graph(ops.map(|op| op.bytes.as_slice())).collect();
        let checks = images.iter().map(|image| self.image(image));
        stream::iter(checks).buffer_unordered(ABREAST).try_collect::<()>().await
    }

    async fn image(&self, image: &str) -> Result<(), Refusal> {
        let unverified = |words: &str| {
            Refusal::new("BASE_UNVERIFIED", format!("`{image}` is not verified: {words}"))
        };
        let reference = Reference::parse_exact(image)
            .map_err(|error| unverified(&error.to_string()).with_fix("mend its name"))?;
        let rules = self.rules.iter().filter(|(rule, _)| rule.holds_for(&reference.name()));
        let trusted = rules.map(|(_, trusted)| trusted.clone()).reduce(|all, one| all.and(&one));
        let Some(trusted) = trusted else { return Ok(()) };
        let Some(digest) = reference.digest() else {
            return Err(unverified("the graph does not hold it by a digest")
                .with_fix("name it with its digest in the Dockerfile"));
        };
        let server = self.login.server(RegistryHost::new(reference.domain()), self.reach.clone());
        let repository = Repository::new(server, reference.path()).only_read();
        let looked = Looked { repository: &repository, digest, trusted: &trusted };
        match looked.look().await {
            Ok(()) => Ok(()),
            Err(Missing::Registry(error)) => Err(unverified(&format!(
                "`{}` does not say what signatures it has: {error}",
                repository.server().host()
            ))
            .with_fix(error.fix())),
            Err(Missing::None) => Err(unverified("it has no signature").with_fix(
                "have it signed, use one that is, or name another key for it with `--base-key`",
            )),
            Err(Missing::Unproven(why)) => {
                let words: Vec<String> =
                    why.iter().map(|(place, why)| format!("{place}: {why}")).collect();
                Err(unverified(&words.join("; ")).with_fix(
                    "use an image that is signed by whom you trust, or name another key with \
                     `--base-key`",
                ))
            }
        }
    }
}

/// An image whose signatures are looked at.
struct Looked<'a> {
    repository: &'a Repository,
    digest: &'a str,
    trusted: &'a Trusted,
}

/// Why nothing vouches for an image.
enum Missing {
    /// It is not known what is there.
    Registry(RegistryError),
    /// Nothing is there.
    None,
    /// What is there vouches for nothing.
    Unproven(Vec<(String, Unproven)>),
}

impl From<RegistryError> for Missing {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl Looked<'_> {
    /// Looks until something vouches for the image.
    async fn look(&self) -> Result<(), Missing> {
        let mut why = Vec::new();
        if self.trusted.has_keys() {
            let tag = attached_tag(self.digest);
            let held = self.repository.manifest(&tag).await?;
            let attached = held.map(|held| Attached::of_manifest(&held.bytes)).unwrap_or_default();
            for one in attached.iter().take(MOST) {
                let Some(signature) = one.signature() else { continue };
                let payload = self.repository.small_blob(&one.digest, MAX_SIGNED).await?;
                match check_simple(&payload, &signature, self.digest, self.trusted) {
                    Ok(()) => return Ok(()),
                    Err(error) => why.push((format!("`{tag}`"), error)),
                }
            }
        }
        for one in self.repository.referrers(self.digest).await?.iter().take(MOST) {
            let Some(form) = Form::of(one, self.trusted) else { continue };
            let Some(held) = self.repository.manifest(&one.digest).await? else { continue };
            let layers = held.blobs().skip(usize::from(held.config().is_some()));
            for blob in layers.take(MOST) {
                let bytes = self.repository.small_blob(&blob.digest, MAX_SIGNED).await?;
                let judged = form.check((&blob.media_type, &bytes), self.digest, self.trusted);
                match judged {
                    Ok(()) => return Ok(()),
                    Err(error) => why.push((format!("`{}`", one.digest), error)),
                }
            }
        }
        Err(if why.is_empty() { Missing::None } else { Missing::Unproven(why) })
    }
}

/// The forms that referrers are in which sign an image.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Form {
    Bundle,
    Notation,
}

impl Form {
    /// The form of a referrer; none where it signs nothing, or nobody whom its form could vouch by is
    /// trusted.
    fn of(referrer: &Descriptor, trusted: &Trusted) -> Option<Self> {
        let kind = referrer.artifact_type.as_deref().unwrap_or_default();
        if kind.starts_with(BUNDLE_TYPE) && trusted.has_keys() {
            Some(Self::Bundle)
        } else if kind == NOTATION_TYPE && trusted.has_certificates() {
            Some(Self::Notation)
        } else {
            None
        }
    }

    fn check(self, signed: (&str, &[u8]), digest: &str, trusted: &Trusted) -> Result<(), Unproven> {
        match self {
            Self::Bundle => check_bundle(signed.1, digest, trusted),
            Self::Notation => {
                check_notation(signed, digest, trusted, jiff::Timestamp::now().as_second())
            }
        }
    }
}

fn unknown_here(who: &str) -> Refusal {
    let message = format!("{who}, so it is not known here which images it reads");
    Refusal::new("BASE_KEY", message)
        .with_fix("compile it here: leave `--frontend daemon` and a foreign `# syntax` line out")
}
