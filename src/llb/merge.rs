//! Merging states, and what one state adds to another.

use super::caps;
use super::metadata::Constraints;
use super::state::State;
use super::vertex::{Kind, Output};

#[derive(Debug)]
pub(super) struct MergeOp {
    pub(super) inputs: Vec<Output>,
}

#[derive(Debug)]
pub(super) struct DiffOp {
    pub(super) lower: Option<Output>,
    pub(super) upper: Option<Output>,
}

impl State {
    /// All states on top of each other, later ones over earlier ones, without copying anything.
    ///
    /// Empty states are left out; of a single one there is nothing to merge, so that it is the
    /// result. Directory, user and environment are the first one's.
    pub fn merge(states: Vec<Self>, constraints: Constraints) -> Self {
        let mut filled: Vec<Self> =
            states.into_iter().filter(|state| state.output().is_some()).collect();
        if filled.len() < 2 {
            return filled.pop().unwrap_or_default();
        }
        let inputs = filled.iter().filter_map(|state| state.output().cloned()).collect();
        let output = Output::of(Kind::Merge(MergeOp { inputs }), constraints, 0);
        filled.swap_remove(0).with_output(Some(output))
    }

    /// What `upper` has that this state has not, to be merged elsewhere.
    #[must_use]
    pub fn diff(self, upper: &Self, constraints: Constraints) -> Self {
        if self.output().is_none() {
            return upper.clone();
        }
        let op = DiffOp { lower: self.output().cloned(), upper: upper.output().cloned() };
        let output = Output::of(Kind::Diff(op), constraints, 0);
        self.with_output(Some(output))
    }
}

pub(super) const MERGE_CAPS: [&str; 1] = [caps::MERGE];
pub(super) const DIFF_CAPS: [&str; 1] = [caps::DIFF];
