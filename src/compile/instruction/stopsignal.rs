//! `STOPSIGNAL`

use crate::compile::dispatch::Step;
use crate::compile::error::{CompileError, Fault};

/// The names of signals on Linux, without `SIG`; the real-time ones are counted from both ends.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

pub(in crate::compile) fn apply(
    step: &mut Step<'_, '_>,
    signal: String,
) -> Result<(), CompileError> {
    if !is_signal(&signal) {
        return Err(Fault::Signal(signal).into());
    }
    let text = format!("STOPSIGNAL {signal}");
    step.stage.image.config_mut().config.stop_signal = signal;
    step.commit(text);
    Ok(())
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |prefix: &str, most: u32| {
        name.strip_prefix(prefix).is_some_and(|rest| {
            rest.is_empty() || (1..=most).any(|number| number.to_string() == rest)
        })
    };
    let real_time = match name {
        "RTMIN" | "RTMAX" => true,
        _ => counted("RTMIN+", 15) || counted("RTMAX-", 14),
    };
    SIGNALS.contains(&name) || real_time && !name.ends_with(['+', '-'])
}

#[cfg(test)]
mod tests {
    use super::is_signal;

    #[test]
    fn signals_are_names_and_numbers() {
        for text in ["SIGTERM", "term", "9", "SIGRTMIN+3", "rtmax-14", "RTMAX", "-1"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["0", "", "SIGWHISTLE", "RTMIN+16", "RTMAX-15", "RTMIN+", "RTMIN+03"] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
