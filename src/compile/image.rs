//! The image in the making: the config of a stage, cheap to hand on to the stages built on it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::image::config::{History, ImageConfig};
use crate::llb::{DEFAULT_PATH, Platform};

/// What the history of every image built here says it was made with.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A config whose environment and history are kept apart: both grow with every instruction, and
/// every stage starts with those of its base.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    config: Arc<ImageConfig>,
    env: Arc<ImageEnv>,
    last: Option<usize>,
}

/// The environment of an image: in the order of its first mention, unlike that of a state.
#[derive(Clone, Debug, Default)]
struct ImageEnv {
    list: Vec<String>,
    index: HashMap<String, usize>,
}

/// The histories of all stages; each entry knows the one before it.
#[derive(Debug, Default)]
pub(super) struct Histories {
    entries: Vec<(Option<usize>, History)>,
}

impl Image {
    /// The image of `FROM scratch`.
    pub(super) fn empty(platform: &Platform) -> Self {
        let mut config = ImageConfig::empty(platform);
        config.config.working_dir = "/".into();
        if platform.os != "windows" {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        Self::of(config, &mut Histories::default())
    }

    /// An image that starts from a config.
    pub(super) fn of(mut config: ImageConfig, histories: &mut Histories) -> Self {
        config.created = None;
        let mut env = ImageEnv::default();
        for entry in std::mem::take(&mut config.config.env) {
            let name = entry.split('=').next().unwrap_or_default().to_owned();
            env.index.entry(name).or_insert(env.list.len());
            env.list.push(entry);
        }
        let mut image = Self { config: Arc::default(), env: Arc::new(env), last: None };
        for entry in std::mem::take(&mut config.history) {
            image.last = Some(histories.push(image.last, entry));
        }
        image.config = Arc::new(config);
        image
    }

    pub(super) fn config(&self) -> &ImageConfig {
        &self.config
    }

    pub(super) fn config_mut(&mut self) -> &mut ImageConfig {
        Arc::make_mut(&mut self.config)
    }

    pub(super) fn env(&self) -> &[String] {
        &self.env.list
    }

    /// The place of a variable in the list, and its value.
    pub(super) fn env_entry(&self, name: &str) -> Option<(usize, &str)> {
        let at = *self.env.index.get(name)?;
        let entry = self.env.list.get(at)?;
        Some((at, entry.split_once('=').map_or("", |(_, value)| value)))
    }

    /// Whether the list has a name twice.
    pub(super) fn repeats_env(&self) -> bool {
        self.env.list.len() != self.env.index.len()
    }

    pub(super) fn has_env(&self, name: &str) -> bool {
        self.env.index.contains_key(name)
    }

    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let env = Arc::make_mut(&mut self.env);
        let entry = format!("{name}={value}");
        let at = env.index.get(name).copied();
        if let Some(slot) = at.and_then(|at| env.list.get_mut(at)) {
            *slot = entry;
        } else {
            env.index.insert(name.into(), env.list.len());
            env.list.push(entry);
        }
    }

    /// Writes an instruction down.
    pub(super) fn commit(
        &mut self,
        histories: &mut Histories,
        instruction: String,
        layer: bool,
        epoch: Option<i64>,
    ) {
        let entry = History {
            created: epoch.map(super::epoch::rfc3339),
            created_by: instruction,
            comment: COMMENT.into(),
            empty_layer: !layer,
            ..History::default()
        };
        self.last = Some(histories.push(self.last, entry));
    }

    /// The whole config.
    pub(super) fn to_config(&self, histories: &Histories) -> ImageConfig {
        let mut config = ImageConfig::clone(&self.config);
        config.config.env.clone_from(&self.env.list);
        config.history = histories.up_to(self.last);
        config
    }
}

impl Histories {
    fn push(&mut self, before: Option<usize>, entry: History) -> usize {
        self.entries.push((before, entry));
        self.entries.len() - 1
    }

    fn up_to(&self, last: Option<usize>) -> Vec<History> {
        let mut history = Vec::new();
        let mut at = last;
        while let Some((before, entry)) = at.and_then(|at| self.entries.get(at)) {
            history.push(entry.clone());
            at = *before;
        }
        history.reverse();
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place_and_stages_share_their_past() {
        let mut histories = Histories::default();
        let mut base = Image::empty(&Platform::new("linux", "arm64"));
        base.set_env("A", "1");
        base.commit(&mut histories, "ENV A=1".into(), false, None);
        let mut child = base.clone();
        child.set_env("PATH", "/x");
        child.commit(&mut histories, "RUN x".into(), true, Some(1_735_689_600));
        assert_eq!(child.env(), ["PATH=/x", "A=1"]);
        assert!(base.env()[0].starts_with("PATH=/usr/local"));
        let history = child.to_config(&histories).history;
        assert_eq!(history.len(), 2);
        assert_eq!(history[1].created.as_deref(), Some("2025-01-01T00:00:00Z"));
        assert_eq!(base.to_config(&histories).history.len(), 1);
    }
}
