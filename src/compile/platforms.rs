//! Which platform a build is for, and the arguments that say so.

use std::collections::BTreeMap;

use crate::image::config::ImageConfig;
use crate::llb::{Env, Platform};

/// The platforms of one compilation.
#[derive(Clone, Debug)]
pub(super) struct Platforms {
    /// What is built for.
    pub(super) target: Platform,
    /// What it is built on.
    pub(super) build: Platform,
    /// Whether nobody asked for the target: then the base image may decide.
    pub(super) implicit: bool,
}

impl Platforms {
    pub(super) fn new(target: Option<&Platform>, build: &Platform) -> Self {
        Self {
            target: target.unwrap_or(build).clone(),
            build: build.clone(),
            implicit: target.is_none(),
        }
    }

    /// The arguments that every Dockerfile has, unless build arguments say otherwise.
    pub(super) fn arguments(&self, overrides: &BTreeMap<String, String>, stage: &str) -> Env {
        let (build, target) = (&self.build, &self.target);
        let stage = if stage.is_empty() { "default" } else { stage };
        let mut env = Env::default();
        for (name, value) in [
            ("BUILDPLATFORM", build.format()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", build.os_version.clone()),
            ("BUILDARCH", build.architecture.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.format_all()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", target.os_version.clone()),
            ("TARGETARCH", target.architecture.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage.to_owned()),
        ] {
            env.set(name, overrides.get(name).unwrap_or(&value));
        }
        env
    }

    /// The platform of an image where nobody asked for one.
    pub(super) fn detected(&self, image: &ImageConfig, platform: &Platform) -> Platform {
        let same =
            |known: &Platform| known.os == image.os && known.architecture == image.architecture;
        if same(platform) || !same(&self.build) { platform.clone() } else { self.build.clone() }
    }

    /// Writes the target into the result's config, unless nobody asked for it.
    pub(super) fn stamp(&self, config: &mut ImageConfig) {
        if !self.implicit {
            let target = &self.target;
            let same = target.os == config.os && target.architecture == config.architecture;
            config.os.clone_from(&target.os);
            config.architecture.clone_from(&target.architecture);
            if !target.variant.is_empty() || !same {
                config.variant.clone_from(&target.variant);
            }
            if !target.os_version.is_empty() || !same {
                config.os_version.clone_from(&target.os_version);
            }
            if !target.os_features.is_empty() {
                config.os_features.clone_from(&target.os_features);
            }
        }
        let platform = config.platform().normalized();
        config.set_platform(&platform);
    }
}
