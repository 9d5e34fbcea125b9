//! A stage on its way from `FROM` to a state and an image.

use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use super::image::Image;
use super::named::{LocalContext, NamedContext};
use super::naming::Steps;
use crate::dockerfile::Lines;
use crate::dockerfile::ast::Instruction;
use crate::image::config::ImageConfig;
use crate::llb::{Platform, State};

/// A stage, or an image or context that stands behind the stages because one of them uses it.
#[derive(Debug, Default)]
pub(super) struct Stage<'a> {
    /// The name behind `AS`.
    pub(super) name: Option<String>,
    /// What it starts from, with its variables filled in.
    pub(super) base_name: String,
    /// The instruction that starts it.
    pub(super) code: &'a str,
    /// Where that is.
    pub(super) lines: Option<Lines>,
    /// The instructions of the file.
    pub(super) instructions: &'a [Instruction],
    /// The stage that it starts from.
    pub(super) base: Option<usize>,
    /// What the build put in its place.
    pub(super) context: Option<NamedContext>,
    pub(super) platform: Option<Platform>,
    pub(super) state: State,
    pub(super) image: Image,
    /// The config of the base image as it was.
    pub(super) base_config: Option<Arc<ImageConfig>>,
    /// Its state is the final one.
    pub(super) dispatched: bool,
    /// Its base image is known.
    pub(super) resolved: bool,
    /// The triggers of its base stage have been read.
    pub(super) triggered: bool,
    /// It is no stage of the file.
    pub(super) hidden: bool,
    pub(super) ignore_cache: bool,
    pub(super) steps: Steps,
    pub(super) commands: Vec<Command<'a>>,
    /// The stages that it uses, each once, and where it used them last.
    pub(super) uses: Uses,
    pub(super) build_args: Arc<BuildArgs>,
    /// The paths of the main context that it uses.
    pub(super) context_paths: BTreeSet<String>,
    /// The paths of its own file system that others use.
    pub(super) paths: BTreeSet<String>,
    /// The stage that keeps those paths.
    pub(super) paths_root: usize,
    /// Directories whose paths are decided on in the end.
    pub(super) locals: Vec<LocalContext>,
    pub(super) workdir_set: bool,
    /// The environment of the state ends with that of the image, in the same order.
    pub(super) env_in_order: bool,
    /// Every variable of the image is in the state, though perhaps with another value or at another place.
    pub(super) env_known: bool,
    pub(super) once: Once,
}

/// The stages that a stage uses.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    list: Vec<Use>,
    index: HashMap<usize, usize>,
}

/// The use of a stage by another one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) stage: usize,
    pub(super) lines: Option<Lines>,
}

impl Uses {
    pub(super) fn note(&mut self, used: Use) {
        if let Some(known) = self.index.get(&used.stage).and_then(|at| self.list.get_mut(*at)) {
            known.lines = used.lines;
        } else {
            self.index.insert(used.stage, self.list.len());
            self.list.push(used);
        }
    }

    pub(super) fn get(&self, at: usize) -> Option<Use> {
        self.list.get(at).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Use> {
        self.list.iter()
    }
}

/// Instructions of which only the last one counts, and where the last one was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Once {
    pub(super) cmd: Option<Lines>,
    pub(super) entrypoint: Option<Lines>,
    pub(super) healthcheck: Option<Lines>,
}

/// An instruction and the stages that it uses.
#[derive(Clone, Debug)]
pub(super) struct Command<'a> {
    pub(super) instruction: Held<'a>,
    pub(super) sources: Vec<usize>,
    pub(super) on_build: bool,
}

/// An instruction of the file, or one read from a trigger.
#[derive(Clone, Debug)]
pub(super) enum Held<'a> {
    File(&'a Instruction),
    Trigger(Arc<Instruction>),
}

impl Deref for Held<'_> {
    type Target = Instruction;

    fn deref(&self) -> &Instruction {
        match self {
            Self::File(instruction) => instruction,
            Self::Trigger(instruction) => instruction,
        }
    }
}

/// The arguments that a stage declared, in the order of their first mention, with their last value.
#[derive(Clone, Debug, Default)]
pub(super) struct BuildArgs {
    list: Vec<(String, Option<String>)>,
    index: HashMap<String, usize>,
}

impl BuildArgs {
    pub(super) fn push(&mut self, name: &str, value: Option<String>) {
        if let Some((_, known)) = self.index.get(name).and_then(|at| self.list.get_mut(*at)) {
            *known = value;
        } else {
            self.index.insert(name.into(), self.list.len());
            self.list.push((name.into(), value));
        }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&str>)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}
