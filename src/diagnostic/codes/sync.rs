//! What can go wrong in the commands around a deploy: sync, plan, doctor, history, init.

use super::Explanation;
use crate::diagnostic::Exit;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "BUILD_ARG_NOT_KEPT",
        exits: &[Exit::Usage],
        title: "the receipt does not keep the value of a build argument",
        meaning: "`bk-sync reproduce` builds with the recorded arguments. Values that come from the environment, and those whose names say that they are secrets, are in no receipt.",
        reasons: &[
            "The argument was set from `{env.NAME}` in `bk-sync.toml`, or its name holds `TOKEN`, `SECRET` or the like.",
        ],
        remedies: &[
            "Give the value that it had: `--build-arg NAME=VALUE`, or `--build-arg NAME` to take it from the environment.",
            "Hand secrets to steps with `--secret`: an argument stays in the image's history.",
        ],
    },
    Explanation {
        code: "COMMIT_MISSING",
        exits: &[Exit::Usage],
        title: "the commit that was deployed is not in this repository",
        meaning: "`bk-sync reproduce` builds the commit that the receipt names, out of the repository that it runs in.",
        reasons: &[
            "The command runs in another repository, or outside of one.",
            "The commit was made elsewhere and was not fetched, or the clone is shallow.",
        ],
        remedies: &[
            "Run it in a checkout of the repository that was deployed.",
            "Fetch the commit: `git fetch origin COMMIT`, or `git fetch --unshallow`.",
        ],
    },
    Explanation {
        code: "CONFIG_EXISTS",
        exits: &[Exit::Usage],
        title: "there is a config file already",
        meaning: "`bk-sync init` overwrites nothing.",
        reasons: &["It was run before, here or in a directory above."],
        remedies: &["See what would be written with `bk-sync init --stdout`."],
    },
    Explanation {
        code: "CONFIG_UNWRITABLE",
        exits: &[Exit::Usage],
        title: "the config file cannot be written",
        meaning: "`bk-sync init` writes `bk-sync.toml` into the working directory.",
        reasons: &["The directory belongs to somebody else, or is read-only."],
        remedies: &["Work in a directory that can be written, or use `bk-sync init --stdout`."],
    },
    Explanation {
        code: "DIGEST_UNKNOWN",
        exits: &[Exit::Push],
        title: "nobody told the digest of what was pushed",
        meaning: "A rollout is pinned to a digest, and neither the builder nor the registry named one.",
        reasons: &["A Docker of an old version pushed."],
        remedies: &["Use a builder that tells digests, or a newer Docker."],
    },
    Explanation {
        code: "DOCTOR_FOUND",
        exits: &[Exit::Preflight],
        title: "`bk-sync doctor` found what a deploy would fail at",
        meaning: "Each finding has what mends it beside it. Nothing was changed.",
        reasons: &["A builder, a registry, a cluster or the config is not as a deploy needs it."],
        remedies: &["Do what stands beside `mend:`, then run it again."],
    },
    Explanation {
        code: "HISTORY_UNUSABLE",
        exits: &[Exit::Usage],
        title: "the receipts of deploys cannot be read or written",
        meaning: "A deploy goes on without them; `bk-sync history` cannot.",
        reasons: &["The state directory belongs to somebody else, or its disk is full."],
        remedies: &[
            "Mend the state directory: `$XDG_STATE_HOME/bk-sync`, else `~/.local/state/bk-sync`.",
        ],
    },
    Explanation {
        code: "HOOK_FAILED",
        exits: &[Exit::Build, Exit::Push, Exit::Rollout, Exit::Verify, Exit::Preflight],
        title: "a hook of the config failed",
        meaning: "A command of `[deploy.hooks]` ended with another code than 0, and the deploy stopped at its stage.",
        reasons: &["What the hook looks for is not as it should be."],
        remedies: &["Mend what the hook found, or the hook."],
    },
    Explanation {
        code: "IMAGE_DIFFERS",
        exits: &[Exit::Build],
        title: "building it again made another image",
        meaning: "`bk-sync reproduce` built what the receipt says and compared. The message names the first thing that differs: a layer with file and byte, a field of the config, or how a layer is compressed. Where the first difference is a file's time, the first that is more than that is named too.",
        reasons: &[
            "The image was deployed without `--reproducible`: then files and images carry the time of their build.",
            "A step writes the time, a random number or a host name, or fetches what changed since.",
            "A step's packages come from a repository that has moved on.",
            "Files that git ignores were in the context of the deploy.",
        ],
        remedies: &[
            "Deploy with `bk-sync sync --reproducible`, and hold base images with `bk-sync lock`.",
            "Mend the step that is named: pin versions, and take times from `SOURCE_DATE_EPOCH`.",
            "List in `.dockerignore` what git ignores.",
        ],
    },
    Explanation {
        code: "IMAGE_UNREADABLE",
        exits: &[Exit::Build],
        title: "an image that is to be compared cannot be read",
        meaning: "`bk-sync reproduce` reads the recorded image from the registry that it was pushed to.",
        reasons: &[
            "The image was deleted there, or its layers were collected.",
            "The registry cannot be reached, or refuses to let this user read.",
        ],
        remedies: &[
            "See whether the registry has it: `crane manifest REPO@DIGEST`.",
            "Give credentials that may read it, as for a deploy.",
        ],
    },
    Explanation {
        code: "RECEIPT_AMBIGUOUS",
        exits: &[Exit::Usage],
        title: "several receipts begin like that",
        meaning: "`bk-sync history ID` takes the beginning of an id, as long as it means one receipt.",
        reasons: &["Too few characters were given."],
        remedies: &["Give more of the id."],
    },
    Explanation {
        code: "RECEIPT_INCOMPLETE",
        exits: &[Exit::Usage],
        title: "the receipt does not say enough to build its image again",
        meaning: "An image is built again from a commit and from recorded options, and this receipt lacks one of them.",
        reasons: &[
            "The deploy was made with changes that no commit has (`dirty = \"allow\"` or `\"suffix\"`).",
            "The deploy was made outside of a git checkout, or takes files from outside of it.",
            "An older bk-sync made it, or it ended before there was an image.",
        ],
        remedies: &["Deploy a clean checkout once more, and name that deploy."],
    },
    Explanation {
        code: "RECEIPT_NOT_FOUND",
        exits: &[Exit::Usage],
        title: "there is no such receipt",
        meaning: "No deploy that was made from here has an id that begins so, or is of that image.",
        reasons: &["The id is misspelled, or of a deploy of another project or user."],
        remedies: &["See `bk-sync history`."],
    },
    Explanation {
        code: "RESUME_COMMIT_CHANGED",
        exits: &[Exit::Preflight],
        title: "another commit is checked out than the one to go on with",
        meaning: "`--resume` goes on with the last deploy, which was of another commit. Nothing was changed.",
        reasons: &["Something was committed, or another branch was checked out, since."],
        remedies: &["Deploy what is checked out: `bk-sync sync`, without `--resume`."],
    },
    Explanation {
        code: "STAGE_DEADLINE",
        exits: &[Exit::Build, Exit::Push, Exit::Rollout, Exit::Verify, Exit::Preflight],
        title: "a stage of the deploy took longer than it may",
        meaning: "The stage was ended at its deadline.",
        reasons: &["A builder, a registry or a cluster is slow, or hangs."],
        remedies: &["See what takes so long, or set another time in `[deploy.deadlines]`."],
    },
    Explanation {
        code: "STATE_MISSING",
        exits: &[Exit::Usage],
        title: "there is no state directory",
        meaning: "Receipts and records of builds lie in the state directory, and nothing names one.",
        reasons: &["Neither `XDG_STATE_HOME` nor `HOME` is set."],
        remedies: &["Set `XDG_STATE_HOME` or `HOME`."],
    },
];
