//! `HEALTHCHECK`

use crate::compile::dispatch::Step;
use crate::dockerfile::ast;
use crate::image::config::Healthcheck;

pub(in crate::compile) fn apply(step: &mut Step<'_, '_>, check: ast::Healthcheck) {
    let before = step.stage.once.healthcheck.replace(step.lines());
    step.warn_repeated(before);
    let check = Healthcheck {
        test: check.test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: i64::from(check.retries),
    };
    let text = format!(
        "HEALTHCHECK {{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        check.test.join(" "),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    );
    step.stage.image.config_mut().config.healthcheck = Some(check);
    step.commit(text);
}

/// Nanoseconds as Go writes a duration: `1h2m3.5s`, `250ms`, `0s`.
fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let value = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let digits = format!("{:0width$}", value % unit, width = unit.ilog10() as usize);
        match digits.trim_end_matches('0') {
            "" => format!("{}{name}", value / unit),
            rest if unit == 1 => format!("{rest}{name}"),
            rest => format!("{}.{rest}{name}", value / unit),
        }
    };
    let text = match value {
        0 => return "0s".into(),
        1..1_000 => format!("{value}ns"),
        1_000..1_000_000 => fraction(value, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(value, 1_000_000, "ms"),
        _ => {
            let seconds = fraction(value % 60_000_000_000, 1_000_000_000, "s");
            let minutes = value / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_001, "1h1m1.000000001s"),
            (-1_000_000_000, "-1s"),
        ] {
            assert_eq!(duration(nanoseconds), expected);
        }
    }
}
