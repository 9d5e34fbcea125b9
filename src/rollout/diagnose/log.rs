//! What the last lines of a container that ended say.

use crate::rollout::{code::Code, report::Diagnosis};

/// How the kernel's refusal reads wherever it is reported from.
const EXEC_FORMAT: &str = "exec format error";

/// Puts the log into the diagnosis, which may know more by it: a runtime that starts the process by
/// itself has nowhere else to say that the kernel refuses to run it.
pub fn refine(diagnosis: &mut Diagnosis, log: Vec<String>) {
    let refused = log.iter().rev().find(|line| line.to_lowercase().contains(EXEC_FORMAT));
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
