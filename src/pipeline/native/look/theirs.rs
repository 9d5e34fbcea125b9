//! What the builder's own frontend makes of the Dockerfile, unexecuted.

use crate::{
    buildkit::{
        errors::{Code, Failure},
        gateway::Gateway,
    },
    compile::{self, Build},
    image::config::ImageConfig,
    llb::{Definition, Platform},
    pipeline::frontend::{DaemonFrontend, FrontendError, FrontendInput},
    plan::FrontendChoice,
    proto::moby::buildkit::v1::frontend::{Ref, Result as BuildResult, result::Result as Kind},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The graphs that the builder's frontend makes. `choice` is whose word a `# syntax` line is.
pub(super) async fn graphs(
    gateway: &Gateway,
    input: &FrontendInput,
    choice: FrontendChoice,
) -> Result<Build, FrontendError> {
    let (solve, _) = DaemonFrontend::new(choice).solve(input);
    let result = gateway.solve(solve).await?;
    read(result).map_err(|problem| {
        let message =
            format!("the builder's frontend made a result that cannot be read: {problem}");
        FrontendError::Builder(Failure::new(Code::Internal, message))
    })
}

/// What a result says of its platforms.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Platforms {
    platforms: Vec<ListedPlatform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListedPlatform {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Platform")]
    platform: OciPlatform,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OciPlatform {
    architecture: String,
    os: String,
    #[serde(rename = "os.version")]
    os_version: String,
    #[serde(rename = "os.features")]
    os_features: Vec<String>,
    variant: String,
}

/// The graphs and configs of a result; what is wrong with it where they are not there.
fn read(result: BuildResult) -> Result<Build, String> {
    let metadata = result.metadata;
    let (refs, multi_platform): (BTreeMap<String, Ref>, bool) = match result.result {
        // An empty image has no graph.
        None => (BTreeMap::new(), false),
        Some(Kind::Ref(reference)) => (BTreeMap::from([(String::new(), reference)]), false),
        Some(Kind::Refs(refs)) => (refs.refs.into_iter().collect(), true),
        Some(Kind::RefDeprecated(_) | Kind::RefsDeprecated(_)) => {
            return Err("it names no graph".to_owned());
        }
    };
    let platforms = metadata.get("refs.platforms").map_or(&b"{}"[..], Vec::as_slice);
    let platforms: Platforms =
        serde_json::from_slice(platforms).map_err(|error| format!("`refs.platforms`: {error}"))?;
    let config = |name: &str, id: &str| -> Result<Option<ImageConfig>, String> {
        let key = if multi_platform { format!("{name}/{id}") } else { name.to_owned() };
        let json = metadata.get(&key);
        json.map(|json| serde_json::from_slice(json).map_err(|error| format!("`{key}`: {error}")))
            .transpose()
    };
    let mut targets = Vec::with_capacity(platforms.platforms.len());
    for ListedPlatform { id, platform } in platforms.platforms {
        let reference = refs.get(if multi_platform { id.as_str() } else { "" });
        let definition = match reference {
            Some(Ref { id, def: None }) if !id.is_empty() => {
                return Err("it names no graph".to_owned());
            }
            other => other.and_then(|reference| reference.def.clone()).unwrap_or_default(),
        };
        let epoch = if multi_platform {
            metadata.get(&format!("source.date.epoch/{id}"))
        } else {
            metadata.get("source.date.epoch")
        };
        targets.push(compile::Compiled {
            platform: Platform {
                os: platform.os,
                architecture: platform.architecture,
                variant: platform.variant,
                os_version: platform.os_version,
                os_features: platform.os_features,
            },
            definition: Definition::from_pb(definition).map_err(|error| error.to_string())?,
            config: config("containerimage.config", &id)?.unwrap_or_default(),
            base_config: config("containerimage.base.config", &id)?,
            epoch: epoch.and_then(|text| String::from_utf8_lossy(text).parse().ok()),
        });
    }
    if targets.is_empty() {
        return Err("it names no platform".to_owned());
    }
    Ok(Build { targets, warnings: Vec::new(), multi_platform, source_map: None })
}
