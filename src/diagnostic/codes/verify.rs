//! What can go wrong in the checks after a rollout.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
