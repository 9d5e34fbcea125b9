//! What two checkouts of one commit may differ in, taken out of what a builder is told: times, owners,
//! the umask's bits, extended attributes, and files that are hard links of one another.

use super::mode;
use crate::proto::fsutil::types::Stat;

const SECOND: i64 = 1_000_000_000;

/// Makes an entry what it would be in every other checkout, dated `epoch` (seconds since 1970).
///
/// Its time keeps nanoseconds, drawn from what it was: a builder tells by them that a file has
/// changed (see [`ledger`](super::ledger)), and layers, which hold whole seconds, lose them.
pub fn make(stat: &mut Stat, epoch: i64) {
    let permissions = stat.mode & 0o777;
    let is_executable = permissions & 0o100 != 0;
    let kind = stat.mode
        & (mode::DIRECTORY
            | mode::SYMLINK
            | mode::DEVICE
            | mode::FIFO
            | mode::CHARACTER
            | mode::IRREGULAR);
    let permissions = if kind & mode::SYMLINK != 0 {
        0o777
    } else if kind & mode::DIRECTORY != 0 || is_executable {
        0o755
    } else {
        0o644
    };
    stat.mode = kind | permissions;
    stat.uid = 0;
    stat.gid = 0;
    stat.xattrs.clear();
    if mode::is_regular(stat.mode) {
        stat.linkname.clear();
        stat.mod_time = epoch.saturating_mul(SECOND).saturating_add(nanoseconds(stat.mod_time));
    } else {
        stat.mod_time = epoch.saturating_mul(SECOND);
    }
}

/// Fewer than a second's, and hardly ever the same for two times.
fn nanoseconds(time: i64) -> i64 {
    // Multiplying by a large odd number spreads neighbours over all of the range.
    let spread = time.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 1;
    spread.cast_signed().rem_euclid(SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn stat(st_mode: u32, time: i64) -> Stat {
        Stat {
            mode: mode::from_unix(st_mode),
            mod_time: time,
            uid: 7,
            xattrs: BTreeMap::from([("user.a".to_owned(), vec![1])]),
            ..Stat::default()
        }
    }

    #[test]
    fn checkouts_under_any_umask_are_alike() {
        for (one, other, expected) in [
            (0o100_644, 0o100_600, 0o644),
            (0o100_755, 0o100_700, 0o755),
            (0o104_775, 0o100_711, 0o755),
            (0o042_775, 0o040_700, 0o755 | mode::DIRECTORY),
            (0o120_777, 0o120_755, 0o777 | mode::SYMLINK),
        ] {
            for st_mode in [one, other] {
                let mut stat = stat(st_mode, 5);
                make(&mut stat, 0);
                assert_eq!((stat.mode, stat.uid), (expected, 0), "{st_mode:o}");
                assert!(stat.xattrs.is_empty());
            }
        }
    }

    #[test]
    fn a_change_is_still_seen_in_the_nanoseconds_and_only_there() {
        let time = |mtime| {
            let mut stat = stat(0o100_644, mtime);
            make(&mut stat, 1_000);
            stat.mod_time
        };
        let times =
            [time(1), time(2), time(1_700_000_000_000_000_000), time(1_700_000_000_000_000_001)];
        assert!(times.iter().all(|time| time / SECOND == 1_000), "{times:?}");
        let distinct: std::collections::BTreeSet<_> = times.iter().collect();
        assert_eq!(distinct.len(), times.len());
    }
}
