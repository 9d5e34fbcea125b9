//! The rules. Their names, descriptions, addresses and messages are those of BuildKit v0.32: users
//! name them in `check` directives, and a check by us and one by a builder must read the same.

use crate::dockerfile::quote;

/// A rule. `M` is what makes its message of what is particular to a place.
#[derive(Debug, Clone, Copy)]
pub struct Rule<M> {
    /// What is common to all places.
    pub facts: &'static Facts,
    /// Makes the message.
    pub message: M,
}

/// What a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its name, as in `check=skip=NAME`.
    pub name: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// Where it is explained; empty where it is not.
    pub url: &'static str,
    /// Whether it speaks only when asked to.
    pub experimental: bool,
}

const fn facts(name: &'static str, url: &'static str, description: &'static str) -> Facts {
    Facts { name, description, url, experimental: false }
}

fn did_you_mean(sign: &str, suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(" (did you mean {sign}{name}?)"))
}

/// A stage's name has capitals.
pub const STAGE_NAME_CASING: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "StageNameCasing",
        "https://docs.docker.com/go/dockerfile/rule/stage-name-casing/",
        "Stage names should be lowercase",
    ),
    message: |stage| format!("Stage name '{stage}' should be lowercase"),
};

/// `FROM … as` or `from … AS`.
pub const FROM_AS_CASING: Rule<fn(&str, &str) -> String> = Rule {
    facts: &facts(
        "FromAsCasing",
        "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
        "The 'as' keyword should match the case of the 'from' keyword",
    ),
    message: |from, as_word| format!("'{as_word}' and '{from}' keywords' casing do not match"),
};

/// An empty line inside an instruction.
pub const NO_EMPTY_CONTINUATION: Rule<fn() -> String> = Rule {
    facts: &facts(
        "NoEmptyContinuation",
        "https://docs.docker.com/go/dockerfile/rule/no-empty-continuation/",
        "Empty continuation lines will become errors in a future release",
    ),
    message: || "Empty continuation line".to_owned(),
};

/// An instruction's word is not written as most are.
pub const CONSISTENT_INSTRUCTION_CASING: Rule<fn(&str, &str) -> String> = Rule {
    facts: &facts(
        "ConsistentInstructionCasing",
        "https://docs.docker.com/go/dockerfile/rule/consistent-instruction-casing/",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
    ),
    message: |word, casing| {
        format!("Command '{word}' should match the case of the command majority ({casing})")
    },
};

/// Two stages have one name.
pub const DUPLICATE_STAGE_NAME: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "DuplicateStageName",
        "https://docs.docker.com/go/dockerfile/rule/duplicate-stage-name/",
        "Stage names should be unique",
    ),
    message: |stage| format!("Duplicate stage name {}, stage names should be unique", quote(stage)),
};

/// A stage is called `scratch` or `context`.
pub const RESERVED_STAGE_NAME: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "ReservedStageName",
        "https://docs.docker.com/go/dockerfile/rule/reserved-stage-name/",
        "Reserved words should not be used as stage names",
    ),
    message: |stage| {
        format!("Stage name should not use the same name as reserved stage {}", quote(stage))
    },
};

/// `CMD` or `ENTRYPOINT` in shell form, without a `SHELL`.
pub const JSON_ARGS_RECOMMENDED: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "JSONArgsRecommended",
        "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    ),
    message: |word| {
        format!(
            "JSON arguments recommended for {word} to prevent unintended behavior related to OS signals"
        )
    },
};

/// `MAINTAINER`.
pub const MAINTAINER_DEPRECATED: Rule<fn() -> String> = Rule {
    facts: &facts(
        "MaintainerDeprecated",
        "https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    ),
    message: || "Maintainer instruction is deprecated in favor of using label".to_owned(),
};

/// A variable in `FROM` that no global `ARG` declares.
pub const UNDEFINED_ARG_IN_FROM: Rule<fn(&str, Option<&str>) -> String> = Rule {
    facts: &facts(
        "UndefinedArgInFrom",
        "https://docs.docker.com/go/dockerfile/rule/undefined-arg-in-from/",
        "FROM command must use declared ARGs",
    ),
    message: |name, suggestion| {
        format!("FROM argument '{name}' is not declared{}", did_you_mean("", suggestion))
    },
};

/// The first `WORKDIR` is relative.
pub const WORKDIR_RELATIVE_PATH: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "WorkdirRelativePath",
        "https://docs.docker.com/go/dockerfile/rule/workdir-relative-path/",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes",
    ),
    message: |path| {
        format!(
            "Relative workdir {} can have unexpected results if the base image changes",
            quote(path)
        )
    },
};

/// A variable that nothing defines.
pub const UNDEFINED_VAR: Rule<fn(&str, Option<&str>) -> String> = Rule {
    facts: &facts(
        "UndefinedVar",
        "https://docs.docker.com/go/dockerfile/rule/undefined-var/",
        "Variables should be defined before their use",
    ),
    message: |name, suggestion| {
        format!("Usage of undefined variable '${name}'{}", did_you_mean("$", suggestion))
    },
};

/// A second `CMD`, `ENTRYPOINT` or `HEALTHCHECK`.
pub const MULTIPLE_INSTRUCTIONS_DISALLOWED: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "MultipleInstructionsDisallowed",
        "https://docs.docker.com/go/dockerfile/rule/multiple-instructions-disallowed/",
        "Multiple instructions of the same type should not be used in the same stage",
    ),
    message: |word| {
        format!(
            "Multiple {word} instructions should not be used in the same stage because only the last one will be used"
        )
    },
};

/// `ENV key value` or `LABEL key value`.
pub const LEGACY_KEY_VALUE_FORMAT: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "LegacyKeyValueFormat",
        "https://docs.docker.com/go/dockerfile/rule/legacy-key-value-format/",
        "Legacy key/value format with whitespace separator should not be used",
    ),
    message: |word| {
        format!("\"{word} key=value\" should be used instead of legacy \"{word} key value\" format")
    },
};

/// A base image is for another platform.
pub const INVALID_BASE_IMAGE_PLATFORM: Rule<fn(&str, &str, &str) -> String> = Rule {
    facts: &facts(
        "InvalidBaseImagePlatform",
        "",
        "Base image platform does not match expected target platform",
    ),
    message: |image, expected, actual| {
        let (actual, expected) = (quote(actual), quote(expected));
        format!(
            "Base image {image} was pulled with platform {actual}, expected {expected} for current build"
        )
    },
};

/// `FROM --platform=$TARGETPLATFORM`.
pub const REDUNDANT_TARGET_PLATFORM: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "RedundantTargetPlatform",
        "https://docs.docker.com/go/dockerfile/rule/redundant-target-platform/",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    message: |platform| {
        format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        )
    },
};

/// A name in `ARG` or `ENV` sounds like a secret's.
pub const SECRETS_USED_IN_ARG_OR_ENV: Rule<fn(&str, &str) -> String> = Rule {
    facts: &facts(
        "SecretsUsedInArgOrEnv",
        "https://docs.docker.com/go/dockerfile/rule/secrets-used-in-arg-or-env/",
        "Sensitive data should not be used in the ARG or ENV commands",
    ),
    message: |instruction, key| {
        format!(
            "Do not use ARG or ENV instructions for sensitive data ({instruction} {})",
            quote(key)
        )
    },
};

/// With the defaults alone, a base image has no valid name.
pub const INVALID_DEFAULT_ARG_IN_FROM: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "InvalidDefaultArgInFrom",
        "https://docs.docker.com/go/dockerfile/rule/invalid-default-arg-in-from/",
        "Default value for global ARG results in an empty or invalid base image name",
    ),
    message: |base| {
        format!("Default value for ARG {base} results in empty or invalid base image name")
    },
};

/// `FROM --platform=` with a platform written out.
pub const FROM_PLATFORM_FLAG_CONST_DISALLOWED: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "FromPlatformFlagConstDisallowed",
        "https://docs.docker.com/go/dockerfile/rule/from-platform-flag-const-disallowed/",
        "FROM --platform flag should not use a constant value",
    ),
    message: |platform| {
        format!("FROM --platform flag should not use constant value {}", quote(platform))
    },
};

/// A source that the ignore file leaves out.
pub const COPY_IGNORED_FILE: Rule<fn(&str, &str) -> String> = Rule {
    facts: &facts(
        "CopyIgnoredFile",
        "https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/",
        "Attempting to Copy file that is excluded by .dockerignore",
    ),
    message: |verb, file| {
        format!("Attempting to {verb} file {} that is excluded by .dockerignore", quote(file))
    },
};

/// The comment above a stage or `ARG` does not start with its name.
pub const INVALID_DEFINITION_DESCRIPTION: Rule<fn(&str, &str) -> String> = Rule {
    facts: &Facts {
        experimental: true,
        ..facts(
            "InvalidDefinitionDescription",
            "https://docs.docker.com/go/dockerfile/rule/invalid-definition-description/",
            "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.",
        )
    },
    message: |instruction, name| {
        format!("Comment for {instruction} should follow the format: `# {name} <description>`")
    },
};

/// `EXPOSE 80/TCP`.
pub const EXPOSE_PROTO_CASING: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "ExposeProtoCasing",
        "https://docs.docker.com/go/dockerfile/rule/expose-proto-casing/",
        "Protocol in EXPOSE instruction should be lowercase",
    ),
    message: |port| format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase"),
};

/// `EXPOSE` with an address or a host's port.
pub const EXPOSE_INVALID_FORMAT: Rule<fn(&str) -> String> = Rule {
    facts: &facts(
        "ExposeInvalidFormat",
        "https://docs.docker.com/go/dockerfile/rule/expose-invalid-format/",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release",
    ),
    message: |port| {
        format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        )
    },
};

/// All of them.
pub const ALL: [&Facts; 22] = [
    STAGE_NAME_CASING.facts,
    FROM_AS_CASING.facts,
    NO_EMPTY_CONTINUATION.facts,
    CONSISTENT_INSTRUCTION_CASING.facts,
    DUPLICATE_STAGE_NAME.facts,
    RESERVED_STAGE_NAME.facts,
    JSON_ARGS_RECOMMENDED.facts,
    MAINTAINER_DEPRECATED.facts,
    UNDEFINED_ARG_IN_FROM.facts,
    WORKDIR_RELATIVE_PATH.facts,
    UNDEFINED_VAR.facts,
    MULTIPLE_INSTRUCTIONS_DISALLOWED.facts,
    LEGACY_KEY_VALUE_FORMAT.facts,
    INVALID_BASE_IMAGE_PLATFORM.facts,
    REDUNDANT_TARGET_PLATFORM.facts,
    SECRETS_USED_IN_ARG_OR_ENV.facts,
    INVALID_DEFAULT_ARG_IN_FROM.facts,
    FROM_PLATFORM_FLAG_CONST_DISALLOWED.facts,
    COPY_IGNORED_FILE.facts,
    INVALID_DEFINITION_DESCRIPTION.facts,
    EXPOSE_PROTO_CASING.facts,
    EXPOSE_INVALID_FORMAT.facts,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_unique_and_addresses_belong_to_them() {
        let mut names: Vec<_> = ALL.iter().map(|facts| facts.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        for facts in ALL.iter().filter(|facts| !facts.url.is_empty()) {
            let slug = facts.url.trim_end_matches('/').rsplit('/').next().unwrap();
            assert_eq!(slug.replace('-', ""), facts.name.to_lowercase());
        }
    }
}
