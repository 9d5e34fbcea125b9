//! `--add-host`, `--shm-size` and `--ulimit`.

use super::{ValueError, fields::fields};
use crate::{
    compile::ULIMITS,
    plan::{ExtraHost, Ulimit},
};
use std::net::IpAddr;

/// `HOST:IP` or `HOST=IP[,IP]`; several as one CSV record.
pub(crate) fn extra_hosts(text: &str) -> Result<Vec<ExtraHost>, ValueError> {
    let wrong = |entry: &str| {
        ValueError::new(
            format!("`{entry}` is no host with an address"),
            "write `HOST:IP`, such as `db:10.0.0.5`, `db=[::1]` or `host.docker.internal:host-gateway`",
        )
    };
    let mut hosts = Vec::new();
    for entry in fields(text)? {
        let (host, addresses) =
            entry.split_once('=').or_else(|| entry.split_once(':')).ok_or_else(|| wrong(&entry))?;
        if host.is_empty() {
            return Err(wrong(&entry));
        }
        for address in addresses.split(',') {
            let address = address
                .strip_prefix('[')
                .and_then(|inner| inner.strip_suffix(']'))
                .unwrap_or(address);
            if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
                return Err(wrong(&entry));
            }
            hosts.push(ExtraHost { host: host.to_owned(), ip: address.to_owned() });
        }
    }
    Ok(hosts)
}

/// A number of bytes such as `64m`, `1.5GiB` or `4096`; every unit is a power of 1024.
pub(crate) fn byte_size(text: &str) -> Result<u64, ValueError> {
    let wrong = || {
        ValueError::new(
            format!("`{text}` is no size"),
            "write a number with a unit `b`, `k`, `m`, `g` or `t`, such as `64m`",
        )
    };
    let trimmed = text.trim();
    let end = trimmed
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at_checked(end).ok_or_else(wrong)?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let fraction: f64 = format!("0.{fraction}").parse().map_err(|_| wrong())?;
    let unit = 1_u64 << shift;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction below one of at most 2^50, rounded down"
    )]
    let part = (fraction * unit as f64) as u64;
    whole.checked_mul(unit).and_then(|bytes| bytes.checked_add(part)).ok_or_else(wrong)
}

/// `NAME=SOFT[:HARD]`; -1 is no limit.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, ValueError> {
    let wrong = || {
        ValueError::new(
            format!("`{text}` is no limit"),
            "write `NAME=SOFT[:HARD]`, such as `nofile=1024:4096`",
        )
    };
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    if !ULIMITS.contains(&name) {
        let mut known = ULIMITS;
        known.sort_unstable();
        return Err(ValueError::new(
            format!("unknown limit `{name}`"),
            format!("the limits are {}", known.join(", ")),
        ));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let soft: i64 = soft.parse().map_err(|_| wrong())?;
    let hard: i64 = hard.parse().map_err(|_| wrong())?;
    if soft < -1 || hard < -1 {
        return Err(wrong());
    }
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(ValueError::new(
            format!("the soft limit of `{text}` is above the hard one"),
            "lower the first number or raise the second (-1 is no limit)",
        ));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::{byte_size, extra_hosts, ulimit};

    #[test]
    fn hosts_take_several_forms() {
        let table = [
            ("db:10.0.0.5", "db=10.0.0.5"),
            ("db=10.0.0.5", "db=10.0.0.5"),
            ("db:::1", "db=::1"),
            ("db=[::1]", "db=::1"),
            ("a:1.1.1.1,b:2.2.2.2", "a=1.1.1.1 b=2.2.2.2"),
            (r#""a=1.1.1.1,2.2.2.2""#, "a=1.1.1.1 a=2.2.2.2"),
            ("host.docker.internal:host-gateway", "host.docker.internal=host-gateway"),
        ];
        for (text, expected) in table {
            let hosts: Vec<_> = extra_hosts(text)
                .unwrap()
                .iter()
                .map(|host| format!("{}={}", host.host, host.ip))
                .collect();
            assert_eq!(hosts.join(" "), expected, "{text}");
        }
        for text in ["db", ":1.1.1.1", "db:", "db:1.1.1", "db:there"] {
            assert!(extra_hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let table = [
            ("4096", 4096),
            ("1b", 1),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("1.5GiB", 3 << 29),
            ("2 k", 2048),
            (" 1t ", 1 << 40),
        ];
        for (text, expected) in table {
            assert_eq!(byte_size(text).unwrap(), expected, "{text}");
        }
        for text in ["", "m", "-1", "1x", "1.2.3", "99999999999p", "1.m.", "٣m"] {
            assert!(byte_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_soft_and_hard() {
        let table = [
            ("nofile=1024", ("nofile", 1024, 1024)),
            ("nofile=1024:4096", ("nofile", 1024, 4096)),
            ("memlock=-1", ("memlock", -1, -1)),
            ("core=0:-1", ("core", 0, -1)),
        ];
        for (text, (name, soft, hard)) in table {
            let limit = ulimit(text).unwrap();
            assert_eq!((limit.name.as_str(), limit.soft, limit.hard), (name, soft, hard), "{text}");
        }
        for text in ["nofile", "files=1", "nofile=a", "nofile=2:1", "nofile=-1:5", "nofile=-2"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
    }
}
