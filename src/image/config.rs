//! The image config, as Docker extends OCI's: what a container of the image runs and how it came
//! about. Its JSON is that of Go's encoder, key for key, since the digest of an image depends on it.

use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};

use super::json::{self, nullable};
use crate::llb::Platform;

/// An image config. Keys that Docker and OCI do not define are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When it was made, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub author: String,
    /// The processor.
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// The operating system.
    #[serde(deserialize_with = "nullable")]
    pub os: String,
    /// The version of the operating system.
    #[serde(
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "nullable"
    )]
    pub os_version: String,
    /// What the operating system must have.
    #[serde(
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "nullable"
    )]
    pub os_features: Vec<String>,
    /// The variant of the processor.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub variant: String,
    /// The layers.
    pub rootfs: RootFs,
    /// What made the layers, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub history: Vec<History>,
    /// What a container runs.
    #[serde(deserialize_with = "nullable")]
    pub config: RunConfig,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type", deserialize_with = "nullable")]
    pub kind: String,
    /// Digests of the unpacked layers; `null` where nobody has counted them yet.
    pub diff_ids: Option<Vec<String>>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "time")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub author: String,
    /// With what.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub comment: String,
    /// Whether it made no layer.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "nullable")]
    pub empty_layer: bool,
}

/// What a container of the image runs, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// User and group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub user: String,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", with = "keys")]
    pub exposed_ports: BTreeSet<String>,
    /// The environment, as `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// What is run.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// Its arguments, or what is run where there is no entry point.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Paths that become volumes.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", with = "keys")]
    pub volumes: BTreeSet<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends a container.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Whether the command line is already escaped; of meaning on Windows.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "nullable")]
    pub args_escaped: bool,
    /// How a container's health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds on this image.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub on_build: Vec<String>,
    /// The shell of instructions in shell form.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub shell: Vec<String>,
}

/// How a container's health is checked; durations in nanoseconds, 0 where the default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub test: Vec<String>,
    /// Time between checks.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub interval: i64,
    /// Time that a check may take.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub timeout: i64,
    /// Time before failures count.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub start_period: i64,
    /// Time between checks while failures do not count.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub start_interval: i64,
    /// Failures in a row that make a container unhealthy.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nullable")]
    pub retries: i64,
}

/// A set, written as an object whose keys have the value `{}`.
mod keys {
    use serde::de::IgnoredAny;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::{BTreeSet, HashMap};

    /// The value of every key.
    #[derive(Serialize)]
    struct Empty {}

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Empty {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        #[expect(
            clippy::zero_sized_map_values,
            reason = "what the keys have for values is ignored"
        )]
        let map: Option<HashMap<String, IgnoredAny>> = Option::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

impl ImageConfig {
    /// A config without layers and without anything to run, for a platform.
    pub fn empty(platform: &Platform) -> Self {
        let mut config =
            Self { rootfs: RootFs { kind: "layers".into(), diff_ids: None }, ..Self::default() };
        config.set_platform(platform);
        config
    }

    /// Reads a config.
    ///
    /// # Errors
    /// What the JSON parser says.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes, as Go writes them.
    pub fn to_json(&self) -> String {
        json::to_string(self)
    }

    /// The platform.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// Sets the platform.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.os.clone_from(&platform.os);
        self.architecture.clone_from(&platform.architecture);
        self.variant.clone_from(&platform.variant);
        self.os_version.clone_from(&platform.os_version);
        self.os_features.clone_from(&platform.os_features);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A time, written as Go writes it again: no zeros at the end of a fraction, `Z` for no offset.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.map(|text| normal_time(&text)))
}

fn normal_time(text: &str) -> String {
    let offset_at = text.rfind(['Z', 'z', '+', '-']).filter(|at| *at > 10).unwrap_or(text.len());
    let (stamp, offset) = text.split_at(offset_at);
    let offset = if matches!(offset, "z" | "+00:00" | "-00:00") { "Z" } else { offset };
    match stamp.split_once('.') {
        None => format!("{stamp}{offset}"),
        Some((seconds, fraction)) => {
            let digits: String = fraction.chars().take(9).collect();
            match digits.trim_end_matches('0') {
                "" => format!("{seconds}{offset}"),
                fraction => format!("{seconds}.{fraction}{offset}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_the_order_of_gos_structs() {
        let config = ImageConfig {
            author: "a <b>".into(),
            os_version: "1".into(),
            history: vec![History { created_by: "RUN x".into(), ..History::default() }],
            config: RunConfig {
                cmd: vec!["sh".into()],
                exposed_ports: BTreeSet::from(["80/tcp".into()]),
                on_build: vec!["RUN y".into()],
                healthcheck: Some(Healthcheck { interval: 1, ..Healthcheck::default() }),
                ..RunConfig::default()
            },
            ..ImageConfig::empty(&Platform::new("linux", "arm64"))
        };
        assert_eq!(
            config.to_json(),
            concat!(
                r#"{"author":"a \u003cb\u003e","architecture":"arm64","os":"linux","#,
                r#""os.version":"1","rootfs":{"type":"layers","diff_ids":null},"history":[{"created_by":"RUN x"}],"#,
                r#""config":{"ExposedPorts":{"80/tcp":{}},"Cmd":["sh"],"#,
                r#""Healthcheck":{"Interval":1},"OnBuild":["RUN y"]}}"#
            )
        );
    }

    #[test]
    fn nulls_and_unknown_keys_are_read_past() {
        let config = ImageConfig::parse(
            br#"{"architecture":"arm64","os":"linux","container":"x","config":{"Cmd":null,
                "Labels":null,"Hostname":"h"},"history":null,"rootfs":{"type":"layers"}}"#,
        )
        .unwrap();
        assert_eq!(config.architecture, "arm64");
        assert!(config.config.cmd.is_empty());
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(normal_time("2024-01-02T03:04:05.120000000Z"), "2024-01-02T03:04:05.12Z");
        assert_eq!(normal_time("2024-01-02T03:04:05.000Z"), "2024-01-02T03:04:05Z");
        assert_eq!(normal_time("2024-01-02T03:04:05+00:00"), "2024-01-02T03:04:05Z");
        assert_eq!(normal_time("2024-01-02T03:04:05.5+02:00"), "2024-01-02T03:04:05.5+02:00");
    }
}
