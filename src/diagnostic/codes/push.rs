//! What can go wrong with a registry.

use super::Explanation;
use crate::diagnostic::Exit;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "CREDENTIALS_INCOMPLETE",
        exits: &[Exit::Usage],
        title: "half of the credentials are given",
        meaning: "`BK_SYNC_REGISTRY_USERNAME` and `BK_SYNC_REGISTRY_PASSWORD` go together, and one of them is not set.",
        reasons: &["One of the two is not exported, or empty."],
        remedies: &["Set both, or neither."],
    },
    Explanation {
        code: "CREDENTIALS_UNAVAILABLE",
        exits: &[Exit::Usage],
        title: "the credentials that the config names cannot be had",
        meaning: "A section `[registry.\"HOST\"]` says where the password comes from, and it does not come.",
        reasons: &["The variable is not set, the command fails, or the helper is not installed."],
        remedies: &["Mend what the message names."],
    },
    Explanation {
        code: "PUSH_DENIED",
        exits: &[Exit::Push],
        title: "the registry refused the push",
        meaning: "The registry was reached and says that this user may not push to that repository. The image is built.",
        reasons: &[
            "The password is wrong or expired, or there was none: then the push was tried as nobody.",
            "The account may pull and not push: a token without the scope for writing.",
            "The repository belongs to somebody else, or is not linked to the token (GHCR).",
        ],
        remedies: &[
            "Log in with an account that may push: `docker login REGISTRY`",
            "Or set `BK_SYNC_REGISTRY_USERNAME` and `BK_SYNC_REGISTRY_PASSWORD`.",
            "On GHCR give the token `write:packages`, and the package access for the repository.",
        ],
    },
    Explanation {
        code: "PUSH_FAILED",
        exits: &[Exit::Push],
        title: "the push failed, for a reason that has no code of its own",
        meaning: "The registry's or the builder's own words are in the error. The image is built.",
        reasons: &["The registry has trouble of its own."],
        remedies: &["Build again: what was built is cached, and only what is missing is sent."],
    },
    Explanation {
        code: "PUSH_NAME_UNKNOWN",
        exits: &[Exit::Push],
        title: "the registry knows no such repository",
        meaning: "The registry does not make repositories by itself, and this one is not there.",
        reasons: &[
            "The name is misspelled.",
            "The registry wants repositories to be made first (ECR, some Harbor projects).",
        ],
        remedies: &["Make the repository first, or mend the name."],
    },
    Explanation {
        code: "PUSH_UNREACHABLE",
        exits: &[Exit::Push],
        title: "the registry could not be reached",
        meaning: "The image is built, and the registry of its tag does not answer.",
        reasons: &[
            "The name of the registry is wrong, or it is down.",
            "The builder pushes, and the builder does not get there, though this machine might.",
            "The registry speaks plain http, and https was tried.",
        ],
        remedies: &[
            "See whether that address can be reached from the builder.",
            "Build again when it can: what was built is cached.",
        ],
    },
    Explanation {
        code: "PUSH_VIA_UNSUPPORTED",
        exits: &[Exit::Usage],
        title: "this way to push is not there",
        meaning: "`--push-via` names who talks to the registry.",
        reasons: &["`client` was asked for and is not available in this case."],
        remedies: &["Leave out `--push-via`."],
    },
];
