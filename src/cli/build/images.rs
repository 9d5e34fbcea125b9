//! `[[image]]`: which of several images are meant, and what one is made of.

use super::{BuildArguments, Surroundings, usage};
use crate::{
    cli::arguments::GlobalArguments,
    config::{Config, ImageTarget, Template},
    diagnostic::Diagnostic,
    plan::BuildPlan,
};
use std::collections::BTreeMap;

/// What begins the value of a context that another image makes.
const TARGET: &str = "target:";

/// The file as it is for the one image that is meant; none where it does not have several.
///
/// # Errors
/// There is no such image, or it is not said which of several is meant.
pub(in crate::cli) fn one(
    wanted: &[String],
    config: Option<&Config>,
) -> Result<Option<Config>, Box<Diagnostic>> {
    let ids = several(wanted, config)?;
    match (ids.as_slice(), config) {
        ([], _) | (_, None) => Ok(None),
        ([id], Some(config)) => Ok(config.of_image(id)),
        (ids, Some(_)) => Err(usage(
            format!("bk-sync.toml has {} images, and this takes one", ids.len()),
            format!("name one with `--image`: {}", ids.join(", ")),
        )),
    }
}

/// The ids of the images that are meant: those that are named, else all that have a name in a
/// registry, else all. Empty where the file does not have several.
///
/// # Errors
/// There is no such image.
pub(in crate::cli) fn several(
    wanted: &[String],
    config: Option<&Config>,
) -> Result<Vec<String>, Box<Diagnostic>> {
    let images = config.map_or(&[][..], |config| &config.sections.images);
    let id = |image: &ImageTarget| image.id.value.clone();
    let known: Vec<String> = images.iter().map(id).collect();
    if let Some(other) = wanted.iter().find(|wanted| !known.contains(wanted)) {
        let fix = match known.as_slice() {
            [] => "bk-sync.toml has no `[[image]]`: leave `--image` out".to_owned(),
            known => format!("there are {}", known.join(", ")),
        };
        return Err(usage(format!("no `[[image]]` has the id `{other}`"), fix));
    }
    if !wanted.is_empty() {
        return Ok(super::deduplicated(wanted.to_vec()));
    }
    let named: Vec<String> =
        images.iter().filter(|image| image.image.name.is_some()).map(id).collect();
    Ok(if named.is_empty() { known } else { named })
}

/// Finds out what an image is made of.
#[derive(Clone, Copy)]
pub(super) struct Linking<'a> {
    /// The flags: what they say of all images holds for those too.
    pub(super) arguments: &'a BuildArguments,
    pub(super) global: &'a GlobalArguments,
    /// The whole file.
    pub(super) file: Option<&'a Config>,
    pub(super) surroundings: Surroundings<'a>,
}

impl Linking<'_> {
    /// The plans of the images that the image of `config` is made of, by id. The file has said that
    /// none is made of itself.
    pub(super) fn of(
        &self,
        config: Option<&Config>,
    ) -> Result<BTreeMap<String, BuildPlan>, Box<Diagnostic>> {
        let (Some(file), Some(config)) = (self.file, config) else { return Ok(BTreeMap::new()) };
        let mut linked = BTreeMap::new();
        let given = self.arguments.build_contexts.iter();
        let given = given.filter_map(|context| Some(context.split_once('=')?.1.to_owned()));
        let configured = config.sections.build.contexts.values().map(Template::source);
        for context in configured.chain(given) {
            let Some(id) = context.strip_prefix(TARGET) else { continue };
            let Some(other) = file.of_image(id) else { continue };
            // What is said of one image is not said of those that it is made of.
            let arguments = BuildArguments {
                context: None,
                file: None,
                target: None,
                tags: Vec::new(),
                build_contexts: Vec::new(),
                outputs: Vec::new(),
                push: false,
                load: false,
                annotations: Vec::new(),
                ..self.arguments.clone()
            };
            let mut other_file = other.clone();
            // It gets no name: nobody pushes it.
            other_file.sections.image.name = None;
            other_file.sections.image.tags = None;
            let request = arguments.of_one(self.global, Some(&other_file), self.surroundings)?;
            let bare = BuildArguments { build_contexts: Vec::new(), ..self.arguments.clone() };
            let linked_there = Linking { arguments: &bare, ..*self }.of(Some(&other))?;
            let plan = BuildPlan { linked: linked_there, ..request.plan };
            linked.insert(id.to_owned(), plan);
        }
        Ok(linked)
    }
}

impl BuildArguments {
    /// The ids of the images that are meant, where the file has several.
    ///
    /// # Errors
    /// There is no such image.
    pub(in crate::cli) fn images(
        &self,
        config: Option<&Config>,
    ) -> Result<Vec<String>, Box<Diagnostic>> {
        several(&self.images, config)
    }

    /// The file as it is for the one image that is meant; none where it does not have several.
    ///
    /// # Errors
    /// As [`one`].
    pub(in crate::cli) fn chosen(
        &self,
        config: &Config,
    ) -> Result<Option<Config>, Box<Diagnostic>> {
        one(&self.images, Some(config))
    }

    /// The same for one of several images.
    ///
    /// # Errors
    /// A flag says what cannot hold for several.
    pub(in crate::cli) fn for_each(&self, id: &str) -> Result<Self, Box<Diagnostic>> {
        let is_file = |spec: &String| spec.contains("dest=") || !spec.contains('=');
        let flag = match () {
            () if self.context.is_some() => "a context",
            () if self.file.is_some() => "`--file`",
            () if self.target.is_some() => "`--target`",
            () if !self.tags.is_empty() => "`--tag`",
            () if self.outputs.iter().any(is_file) => "`--output` to a file",
            () if self.iidfile.is_some() => "`--iidfile`",
            () if self.metadata_file.is_some() => "`--metadata-file`",
            () if self.why => "`--why`",
            () => return Ok(Self { images: vec![id.to_owned()], ..self.clone() }),
        };
        Err(usage(
            format!("{flag} cannot hold for several images"),
            "name one with `--image ID`, or say it in bk-sync.toml",
        ))
    }
}
