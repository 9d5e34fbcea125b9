//! What can go wrong on the way to a builder.

use super::Explanation;
use crate::diagnostic::Exit;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "BUILDER_ADDRESS_INVALID",
        exits: &[Exit::Usage],
        title: "the address of the builder is misspelled",
        meaning: "What names the builder is no address, or a Docker context that cannot be read.",
        reasons: &["A scheme that is not known.", "A Docker context that was removed."],
        remedies: &[
            "Write one of `unix://PATH`, `tcp://HOST:PORT`, `docker://`, `ssh://USER@HOST`, `docker-container://NAME`, `podman-container://NAME`, `kube-pod://NAME`.",
        ],
    },
    Explanation {
        code: "BUILDER_LOST",
        exits: &[Exit::NoBuilder],
        title: "the builder stopped answering in mid-build",
        meaning: "The connection was there, and then the builder did not answer any more, or not as a builder does.",
        reasons: &["It was stopped, or ran out of memory.", "The network was cut."],
        remedies: &[
            "See whether it still runs, and look at its log.",
            "Then build again: what was built is cached.",
        ],
    },
    Explanation {
        code: "BUILDER_UNREACHABLE",
        exits: &[Exit::NoBuilder],
        title: "no builder could be reached",
        meaning: "Every builder that was named, or all the usual places where nobody named one, were tried; the error lists each with its answer.",
        reasons: &[
            "No builder runs: neither Docker nor buildkitd.",
            "The socket belongs to a group that this user is not in.",
            "The address names another machine, and the network does not lead there.",
        ],
        remedies: &[
            "Start one: `docker info` says whether Docker runs; `buildkitd` is the other kind.",
            "Name one: `bk-sync --builder docker:// build`, or `BK_SYNC_BUILDER`.",
            "For a socket that denies: add this user to its group (`sudo usermod -aG docker $USER`), and log in anew.",
        ],
    },
];
