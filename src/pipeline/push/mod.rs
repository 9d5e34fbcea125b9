//! An image that this process brings to registries: out of the builder that made it, or from where
//! else it lies. What a failure would lose is noted before the first byte goes.

mod artifact;
mod builder;
mod files;
mod held;
mod keep;
mod offers;
mod pieces;
mod run;

pub use files::{ImageFiles, ImageFilesError};
pub(in crate::pipeline) use held::read_places;
pub use held::{Held, HeldError, HeldSource};
pub use run::{PushRequest, PushSettings, PushSource, PushedAlone, push};

pub(super) use artifact::Artifact;
pub(super) use builder::BuilderBlobs;
pub(super) use offers::{Offers, repositories_in};
pub(super) use run::{Job, Targets};
