//! The nodes of the graph and how they hold on to each other.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::definition::Definition;
use super::error::Error;
use super::exec::ExecOp;
use super::file::FileOp;
use super::merge::{DiffOp, MergeOp};
use super::metadata::Constraints;
use super::platform::Platform;
use super::source::SourceOp;

/// One result of an op.
#[derive(Clone, Debug)]
pub struct Output {
    pub(super) vertex: Arc<Vertex>,
    pub(super) index: i64,
}

#[derive(Debug)]
pub(super) struct Vertex {
    pub(super) kind: Kind,
    pub(super) constraints: Constraints,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A graph that was marshalled before; its ops are taken over as they are.
    Built(Arc<Definition>),
    Diff(DiffOp),
    Exec(ExecOp),
    File(FileOp),
    Later(OnceLock<Output>),
    Merge(MergeOp),
    Source(SourceOp),
}

impl Output {
    pub(super) fn of(kind: Kind, constraints: Constraints, index: i64) -> Self {
        Self { vertex: Arc::new(Vertex { kind, constraints }), index }
    }

    /// An output that is decided on later, such as a local source whose paths are known only when
    /// everything that uses it is.
    pub fn later() -> Later {
        Later { output: Self::of(Kind::Later(OnceLock::new()), Constraints::new(), 0) }
    }

    /// The output behind any that were decided on later.
    pub(super) fn settled(&self) -> Result<&Self, Error> {
        let mut output = self;
        while let Kind::Later(slot) = &output.vertex.kind {
            output = slot.get().ok_or(Error::Undecided)?;
        }
        Ok(output)
    }

    /// The platform that states built on this output have; files are the same on all.
    pub(super) fn platform(&self) -> Option<&Platform> {
        match self.vertex.kind {
            Kind::Exec(_) | Kind::Source(_) => self.vertex.constraints.platform.as_ref(),
            Kind::Built(_) | Kind::Diff(_) | Kind::File(_) | Kind::Later(_) | Kind::Merge(_) => {
                None
            }
        }
    }

    pub(super) fn source(&self) -> Option<(&str, &BTreeMap<String, String>)> {
        match &self.vertex.kind {
            Kind::Source(source) => Some((&source.identifier, &source.attrs)),
            _ => None,
        }
    }

    pub(super) fn made_of(&self) -> Vec<&Self> {
        self.vertex.inputs()
    }

    pub(super) fn id(&self) -> *const Vertex {
        Arc::as_ptr(&self.vertex)
    }
}

/// The handle that decides on an output.
#[derive(Clone, Debug)]
pub struct Later {
    output: Output,
}

impl Later {
    /// The output to build on.
    pub fn output(&self) -> Output {
        self.output.clone()
    }

    /// Decides on it; the first decision stands.
    pub fn decide(&self, output: Output) {
        if let Kind::Later(slot) = &self.output.vertex.kind {
            // A second decision is dropped, as documented.
            drop(slot.set(output));
        }
    }
}

impl Vertex {
    /// The outputs that this op is made of, in the order in which they are marshalled.
    pub(super) fn inputs(&self) -> Vec<&Output> {
        match &self.kind {
            Kind::Built(_) | Kind::Source(_) => Vec::new(),
            Kind::Later(slot) => slot.get().into_iter().collect(),
            Kind::Exec(op) => op.inputs(),
            Kind::File(op) => op.inputs(),
            Kind::Merge(op) => op.inputs.iter().collect(),
            Kind::Diff(op) => op.lower.iter().chain(&op.upper).collect(),
        }
    }
}

impl Kind {
    fn take_inputs(&mut self) -> Vec<Output> {
        match self {
            Self::Built(_) | Self::Source(_) => Vec::new(),
            Self::Later(slot) => slot.take().into_iter().collect(),
            Self::Exec(op) => op.take_inputs(),
            Self::File(op) => op.take_inputs(),
            Self::Merge(op) => std::mem::take(&mut op.inputs),
            Self::Diff(op) => op.lower.take().into_iter().chain(op.upper.take()).collect(),
        }
    }
}

/// A chain of a hundred thousand ops must not be dropped by as many nested calls.
impl Drop for Vertex {
    fn drop(&mut self) {
        let mut waiting = self.kind.take_inputs();
        while let Some(output) = waiting.pop() {
            if let Some(mut vertex) = Arc::into_inner(output.vertex) {
                waiting.extend(vertex.kind.take_inputs());
            }
        }
    }
}
