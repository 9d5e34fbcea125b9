//! An image once more from its record, and where the two part.
//!
//! The image that is built lies in a directory of the caller's, the one that it is held against in
//! its registry. Documents are read first; of layers only the first pair that differs, and both as
//! streams.

mod compare;
mod recorded;
mod zstd;

pub use compare::{Layers, Part, Parting};
pub(super) use recorded::recorded;

use super::{
    Error, Inputs, build,
    login::Login,
    push::{ImageFiles, Targets},
};
use crate::{
    image::reference::Reference,
    plan::{BuildPlan, Output, OutputKind, OutputTarget, Pinning},
    record::BuildRecord,
    registry::{Reach, Repository},
};
use compare::{Side, compare};
use std::{collections::BTreeMap, path::Path};

/// Why it is not known whether an image can be built again.
#[derive(Debug, thiserror::Error)]
pub enum ReproduceError {
    /// The build came to nothing.
    #[error(transparent)]
    Build(#[from] Error),
    /// One of the two images cannot be read.
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// Which, and what of it.
        what: String,
        /// Why not.
        cause: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reproduced {
    /// The digest of the image that was built.
    pub digest: String,
    /// Where it and the recorded one part; none where they are the same.
    pub parting: Option<Parting>,
}

/// What an image is built again as: from its `record`, with these values for the arguments that the
/// record does not keep, for `platforms` where the record leaves them to the builder, into `layout`.
/// No result of an earlier build is used: what a cache has tells nothing.
pub fn plan(
    record: &BuildRecord,
    hidden: BTreeMap<String, String>,
    platforms: Vec<String>,
    layout: &Path,
) -> BuildPlan {
    let mut plan = BuildPlan { tags: Vec::new(), no_cache: true, ..record.plan.clone() };
    plan.args.extend(hidden);
    if plan.platforms.is_empty() {
        plan.platforms = platforms;
    }
    if plan.pinning == Pinning::Off && !record.bases.0.is_empty() {
        plan.pinning = Pinning::Held(record.bases.clone());
    }
    plan.no_cache_filter.clear();
    plan.outputs = vec![Output {
        kind: OutputKind::Oci,
        attributes: BTreeMap::from([("tar".to_owned(), "false".to_owned())]),
        target: Some(OutputTarget::Path(layout.to_owned())),
    }];
    plan
}

/// Builds `plan` into `layout`, and holds the image against the one of this digest in the
/// repository of `reference`.
///
/// # Errors
/// See [`ReproduceError`].
pub async fn reproduce(
    plan: &BuildPlan,
    inputs: Inputs,
    layout: &Path,
    (reference, digest): (&Reference, &str),
    reach: &Reach,
) -> Result<Reproduced, ReproduceError> {
    let (login, cancel) = (inputs.login.clone(), inputs.cancel.clone());
    Box::pin(build(plan, inputs)).await?;
    let files = ImageFiles::open(layout, &[]).map_err(|error| ReproduceError::Unreadable {
        what: "the image that was built".to_owned(),
        cause: error.to_string(),
    })?;
    let made = files.root.digest.clone();
    if made == digest {
        return Ok(Reproduced { digest: made, parting: None });
    }
    let repository = repository(reference, &login, reach)?;
    let (first, second) = (Side::Registry(repository), Side::Files(files.into()));
    let parting = tokio::select! {
        parting = compare((&first, digest), (&second, &made)) => parting?,
        () = cancel.cancelled() => return Err(Error::Interrupted.into()),
    };
    Ok(Reproduced { digest: made, parting: Some(parting) })
}

/// The repository that an image is read from.
fn repository(
    reference: &Reference,
    login: &Login,
    reach: &Reach,
) -> Result<Repository, ReproduceError> {
    let names = [reference.clone()];
    let target = Targets::new(&names, true, login, reach).repositories().into_iter().next();
    target.ok_or_else(|| ReproduceError::Unreadable {
        what: format!("`{reference}`"),
        cause: "it names no repository".to_owned(),
    })
}
