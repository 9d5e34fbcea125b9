//! How much is free where a builder elsewhere keeps its data: asked of `df`, on the way that leads to it.

use super::{
    Options,
    route::{Opened, Route},
};
use crate::buildkit::address::Address;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// POSIX's `df`, for where buildkitd and Docker keep their data, and for what such places lie in. One that
/// is not there is left out.
const DF: [&str; 6] = ["df", "-P", "-k", "/var/lib/buildkit", "/var/lib/docker", "/var/lib"];
/// `df` reads what the kernel knows; a disk that does not answer is asked no longer.
const LIMIT: Duration = Duration::from_secs(5);
/// A few lines, with room for long names. In bytes.
const MAX_ANSWER: u64 = 16 << 10;

/// What is free at a place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FreeDisk {
    /// The directory that the disk is mounted at.
    pub place: String,
    /// Bytes for those who are not root.
    pub bytes: u64,
}

/// What is free where the builder at `address` keeps its data. None where no command can be run there
/// (`tcp://`, `docker://`), or `df` is not there or says nothing of use.
pub async fn free_disk(address: &Address, options: &Options) -> Option<FreeDisk> {
    let Ok(Route::Elsewhere(place)) = Route::to(address, options) else { return None };
    let answer = async {
        // Its voice is kept until the end: with it the command would go.
        let Opened { stream, voice: _voice } = place.run(&DF).await.ok()?;
        let mut said = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut said).await.ok()?;
        read(&String::from_utf8_lossy(&said))
    };
    tokio::time::timeout(LIMIT, answer).await.ok()?
}

/// The first of the disks that `df -P -k` lists: name, size, used, free, per cent, place.
fn read(table: &str) -> Option<FreeDisk> {
    let row = |line: &str| {
        let mut columns = line.split_whitespace().skip(3);
        let bytes = columns.next()?.parse::<u64>().ok()?.checked_mul(1024)?;
        let place = columns.skip(1).collect::<Vec<_>>().join(" ");
        place.starts_with('/').then_some(FreeDisk { place, bytes })
    };
    table.lines().skip(1).find_map(row)
}

#[cfg(test)]
mod tests {
    use super::{FreeDisk, read};

    #[test]
    fn the_first_disk_counts_and_nonsense_does_not() {
        let table = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n\
                     overlay            1000000   999000      1000     100% /var/lib/my disk\n\
                     /dev/vda         263174212 53000000  40000000      59% /\n";
        let place = "/var/lib/my disk".to_owned();
        assert_eq!(read(table), Some(FreeDisk { place, bytes: 1_024_000 }));
        for nonsense in
            ["", "df: not found", "a\nb c d e f g\n", "a\nb 1 2 99999999999999999999 5% /\n"]
        {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
