//! What the last lines of a container that ended say.

use crate::rollout::{code::Code, report::Diagnosis};

/// How the kernel's refusal reads wherever it is reported from.
const EXEC_FORMAT: &str = "exec format error";
/// How a shell says it that takes what the kernel refuses for a script, and reads a program's first
/// bytes as a command: busybox's does so.
const READ_AS_SCRIPT: [&str; 2] = [": line 1: ELF", "not found"];

/// Whether words, of whomever, say that the kernel refuses to run a program.
pub(super) fn is_refusal(words: &str) -> bool {
    words.to_ascii_lowercase().contains(EXEC_FORMAT)
        || READ_AS_SCRIPT.iter().all(|part| words.contains(part))
}

/// Puts the log into the diagnosis, which may know more by it: a runtime that starts the process by
/// itself has nowhere else to say that the kernel refuses to run it.
pub fn refine(diagnosis: &mut Diagnosis, log: Vec<String>) {
    let refused = log.iter().rev().find(|line| is_refusal(line));
    if let Some(line) = refused
        && matches!(diagnosis.code, Code::CrashLoop | Code::InitFailed)
    {
        diagnosis.code = Code::ExecFormatError;
        diagnosis.fatal = true;
        let container = diagnosis.container.as_deref().unwrap_or_default();
        diagnosis.message = format!(
            "the container `{container}` cannot run: the program is for another architecture than the node"
        );
        diagnosis.evidence.push(line.trim().to_owned());
        "build the image for the node's platform: `bk-sync build --platform`"
            .clone_into(&mut diagnosis.fix);
    }
    diagnosis.log = log;
}
