//! What can be wrong with the arguments, the config file and this process.

use super::Explanation;
use crate::diagnostic::Exit;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "CONFIG_INVALID",
        exits: &[Exit::Usage],
        title: "a value in bk-sync.toml is wrong",
        meaning: "The file was found and read, and a key or a value in it is not what it has to be. The place is marked in the error.",
        reasons: &[
            "A key that does not exist: keys that are not known are errors, so that no typo is ignored.",
            "A value of another type or form than the key takes.",
        ],
        remedies: &["Mend the line that is marked."],
    },
    Explanation {
        code: "CONFIG_UNREADABLE",
        exits: &[Exit::Usage],
        title: "the config file cannot be read",
        meaning: "`--config` names a file, or a `bk-sync.toml` was found, that could not be read.",
        reasons: &["It does not exist, or its mode keeps this user out.", "It is not UTF-8."],
        remedies: &["Mend the path or the mode of the file."],
    },
    Explanation {
        code: "INTERNAL",
        exits: &[Exit::Internal],
        title: "something that cannot happen did: a bug",
        meaning: "The program found itself in a state that its authors held for impossible, or the system refused what it never refuses.",
        reasons: &["A bug.", "stdout cannot be written: a full disk."],
        remedies: &["Run again with `-vv` and report what it says."],
    },
    Explanation {
        code: "INTERRUPTED",
        exits: &[Exit::Interrupted, Exit::Terminated],
        title: "the command was stopped by a signal",
        meaning: "Ctrl-C or SIGTERM came. What ran on the builder was ended, and then this process.",
        reasons: &["Somebody pressed Ctrl-C, or a job ran into its time limit."],
        remedies: &["Run the command again: what was built is cached."],
    },
    Explanation {
        code: "STDOUT_FAILED",
        exits: &[Exit::Internal],
        title: "the work is done, and its result could not be written to stdout",
        meaning: "Only the output of the result failed.",
        reasons: &["stdout is a file on a full disk."],
        remedies: &["Make room, and run the command again: what was built is cached."],
    },
    Explanation {
        code: "TAG_INVALID",
        exits: &[Exit::Usage],
        title: "a tag is no image name",
        meaning: "`--tag` and `[image]` name an image as a registry knows it.",
        reasons: &["Capital letters in the repository, or a character that no tag has."],
        remedies: &["Write it as `[REGISTRY/]REPOSITORY[:TAG]`, in small letters but for the tag."],
    },
    Explanation {
        code: "TAG_MISSING",
        exits: &[Exit::Usage],
        title: "a push needs to know where to",
        meaning: "`--push` sends the image to the registries of its tags, and it has none.",
        reasons: &["Neither `--tag` nor `[image]` in `bk-sync.toml` names one."],
        remedies: &["Add one: `bk-sync build --push -t REGISTRY/REPOSITORY:TAG .`"],
    },
    Explanation {
        code: "USAGE",
        exits: &[Exit::Usage],
        title: "the arguments are wrong",
        meaning: "An argument does not exist, has a wrong value, or does not go together with another.",
        reasons: &["A misspelled flag or value."],
        remedies: &[
            "Do what the hint says.",
            "See `bk-sync --help`, and `bk-sync COMMAND --help`.",
        ],
    },
    Explanation {
        code: "BUILD_UNKNOWN",
        exits: &[Exit::Usage],
        title: "no build of this context is remembered",
        meaning: "`bk-sync why` reads what earlier builds left in the state directory (`$XDG_STATE_HOME/bk-sync`, else `~/.local/state/bk-sync`), and there is nothing of this context.",
        reasons: &[
            "Nothing was built from this directory yet, or by another user.",
            "The context of the build was another directory, stdin or a URL.",
            "The state directory was cleared.",
        ],
        remedies: &["Build first, then ask.", "Name the context: `bk-sync why --context DIR`"],
    },
    Explanation {
        code: "GRAPH_UNKNOWN",
        exits: &[Exit::Usage],
        title: "the graph of the last build is not known here",
        meaning: "The Dockerfile was compiled by another frontend than this program's, so what its steps were made of is not known.",
        reasons: &[
            "A `# syntax` line names another frontend, `--frontend daemon` was given, or an SBOM was asked for.",
        ],
        remedies: &["Build with `--frontend native`, then ask."],
    },
    Explanation {
        code: "STEP_UNKNOWN",
        exits: &[Exit::Usage],
        title: "the last build has no such step",
        meaning: "A step is meant by its number in its stage, a part of its name, or the line of its instruction.",
        reasons: &[
            "The name is misspelled, or the step belongs to a stage that the build did not need.",
        ],
        remedies: &["`bk-sync why` lists the steps that ran."],
    },
];
