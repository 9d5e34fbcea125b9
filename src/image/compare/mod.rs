//! Two images side by side: where they part, as far as their layers and documents tell it.

mod document;
mod layer;

pub use document::{FieldDifference, Layer, first_field, layers};
pub use layer::{Difference, DifferenceKind, LayerDifference, compare};
