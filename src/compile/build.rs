//! What comes of a compilation, in the form in which a builder wants it back.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Fault;
use super::{CompileError, ranges};
use crate::dockerfile::lint::Warning;
use crate::image::config::ImageConfig;
use crate::image::json;
use crate::llb::{Definition, Platform, Position, SourceMap, print};

/// The graph and the config of one platform.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The platform.
    pub platform: Platform,
    /// The graph; without ops where the result is empty.
    pub definition: Definition,
    /// The image config, less what only the builder can know.
    pub config: ImageConfig,
    /// The config of the base image as it was.
    pub base_config: Option<ImageConfig>,
    /// The one time of a reproducible build, in seconds since 1970.
    pub epoch: Option<i64>,
}

/// A compiled Dockerfile.
#[derive(Clone, Debug)]
pub struct Build {
    /// One for each platform, in the order in which they were asked for.
    pub targets: Vec<Compiled>,
    /// What was found unwise, in the order in which it was found.
    pub warnings: Vec<Warning>,
    /// Whether the result is one of several platforms, even if it is one alone.
    pub multi_platform: bool,
    /// The Dockerfile, for who sends warnings; none where somebody else compiled, and then nobody
    /// knows the warnings.
    pub source_map: Option<Arc<SourceMap>>,
}

impl Compiled {
    /// The platform as the result is filed under, like `linux/arm64`.
    pub fn id(&self) -> String {
        self.platform.normalized().format_all()
    }

    /// `{"platform","head","ops","config","warnings"}`, for people and for comparisons; the
    /// warnings are `null` where they are not known.
    pub fn to_json(&self, warnings: Option<&[Warning]>) -> Value {
        json!({
            "platform": self.platform.normalized().format_all(),
            "head": self.definition.head(),
            "ops": print::ops_json(&self.definition),
            "config": serde_json::to_value(&self.config).unwrap_or_default(),
            "warnings": warnings.map(|list| list.iter().map(warning_json).collect::<Vec<_>>()),
        })
    }

    /// The platform that the exporter is told: on Windows with the version of the base image.
    fn export_platform(&self) -> Platform {
        let mut platform = self.platform.normalized();
        if platform.os == "windows" && self.config.os == platform.os {
            if platform.os_version.is_empty() {
                platform.os_version.clone_from(&self.config.os_version);
            }
            if platform.os_features.is_empty() {
                platform.os_features.clone_from(&self.config.os_features);
            }
            platform = platform.normalized();
        }
        platform
    }
}

impl Build {
    /// One platform's JSON, or a list of them where there are several.
    pub fn to_json(&self) -> Value {
        let mut targets: Vec<Value> = Vec::with_capacity(self.targets.len());
        for (at, target) in self.targets.iter().enumerate() {
            targets.push(target.to_json(self.warnings_at(at)));
        }
        match <[Value; 1]>::try_from(targets) {
            Ok([only]) => only,
            Err(several) => several.into(),
        }
    }

    /// The warnings that go with the platform at a place in the list: all with the first, since
    /// each is said once.
    pub fn warnings_at(&self, at: usize) -> Option<&[Warning]> {
        let warnings = if at == 0 { self.warnings.as_slice() } else { &[] };
        self.source_map.is_some().then_some(warnings)
    }

    /// The metadata of the result, by the keys that exporters know.
    pub fn metadata(&self) -> BTreeMap<String, Vec<u8>> {
        let mut metadata = BTreeMap::new();
        let mut platforms = Vec::with_capacity(self.targets.len());
        for target in &self.targets {
            let id = target.id();
            let key = |name: &str| {
                if self.multi_platform { format!("{name}/{id}") } else { name.to_owned() }
            };
            let config = target.config.to_json().into_bytes();
            metadata.insert(key("containerimage.config"), config);
            if let Some(base) = &target.base_config {
                metadata.insert(key("containerimage.base.config"), base.to_json().into_bytes());
            }
            if let Some(epoch) = target.epoch {
                metadata.insert(key("source.date.epoch"), epoch.to_string().into_bytes());
            }
            let platform = platform_json(&target.export_platform());
            platforms.push(json!({"ID": id, "Platform": platform}));
        }
        let platforms = json::to_string(&json!({"Platforms": platforms}));
        metadata.insert("refs.platforms".into(), platforms.into_bytes());
        metadata
    }
}

fn platform_json(platform: &Platform) -> Value {
    let mut object = Map::new();
    object.insert("architecture".into(), platform.architecture.clone().into());
    object.insert("os".into(), platform.os.clone().into());
    if !platform.os_version.is_empty() {
        object.insert("os.version".into(), platform.os_version.clone().into());
    }
    if !platform.os_features.is_empty() {
        object.insert("os.features".into(), platform.os_features.clone().into());
    }
    if !platform.variant.is_empty() {
        object.insert("variant".into(), platform.variant.clone().into());
    }
    object.into()
}

fn warning_json(warning: &Warning) -> Value {
    let text = |at: Position| format!("{}:{}", at.line, at.character);
    let ranges: Vec<String> = ranges(Some(warning.lines))
        .iter()
        .map(|range| format!("{}-{}", text(range.start), text(range.end)))
        .collect();
    json!({
        "rule": warning.rule,
        "message": warning.message,
        "line": warning.lines.first,
        "ranges": ranges,
        "url": warning.url,
        "description": warning.description,
    })
}

impl CompileError {
    /// All that is wrong with the text of the Dockerfile, where that is what is wrong.
    pub fn dockerfile_errors(&self) -> Option<&crate::dockerfile::Errors> {
        match &*self.fault {
            Fault::Dockerfile(errors) => Some(errors),
            _ => None,
        }
    }
}
