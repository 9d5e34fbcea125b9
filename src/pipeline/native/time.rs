//! The time of a source, for reproducible builds: a commit's, or that of the newest file in an
//! archive whose server names none.

use super::dockerfile::load;
use crate::{
    buildkit::{errors::Failure, gateway::Gateway},
    llb::{Constraints, Http},
    proto::pb,
};
use bytes::{Buf as _, Bytes};
use flate2::read::MultiGzDecoder;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// The attribute with the name that a file of the web is stored under.
const FILENAME: &str = "http.filename";
/// The attribute with the digest that it must have.
const CHECKSUM: &str = "http.checksum";

/// How much of an archive is fetched at once, in bytes.
const PIECE: i64 = 1 << 20;

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0x00];

/// Whether a file that begins with `head` is an archive that BuildKit unpacks as a context: tar,
/// plain or compressed with gzip, bzip2 or xz.
pub(super) fn is_archive(head: &[u8]) -> bool {
    [GZIP, BZIP2, XZ].iter().any(|magic| head.starts_with(magic))
        || matches!(
            tar::Archive::new(head).entries().map(|mut entries| entries.next()),
            Ok(Some(Ok(_)))
        )
}

/// The committer's time in a commit as git stores it, in seconds since 1970.
pub(super) fn of_commit(object: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(object);
    let line = text.lines().take_while(|line| !line.is_empty());
    let committer = line.into_iter().find_map(|line| line.strip_prefix("committer "))?;
    // `NAME <EMAIL> SECONDS ZONE`, where a name may hold anything but an angle bracket.
    let (_, time) = committer.rsplit_once('>')?;
    time.split_whitespace().next()?.parse().ok()
}

/// The newest regular file of an archive on the web; none where it is no archive.
pub(super) async fn of_archive(
    gateway: &Gateway,
    source: pb::SourceOp,
) -> Result<Option<i64>, Failure> {
    let Some(filename) = source.attrs.get(FILENAME).filter(|name| !name.is_empty()).cloned() else {
        return Ok(None);
    };
    let checksum = source.attrs.get(CHECKSUM).cloned().unwrap_or_default();
    let file = Http::new(source.identifier).filename(&filename).checksum(checksum);
    let reference = load(gateway, &file.state(Constraints::new())).await?;

    let (sender, receiver) = mpsc::channel(1);
    let newest = tokio::task::spawn_blocking(move || newest(Pieces::new(receiver)));
    let mut offset = 0;
    loop {
        let range = Some((offset, PIECE));
        let piece = gateway.read_file(&reference, &filename, range).await?;
        offset += i64::try_from(piece.len()).unwrap_or(i64::MAX);
        // The reader hangs up where it has seen enough.
        if piece.is_empty() || sender.send(Bytes::from(piece)).await.is_err() {
            break;
        }
    }
    drop(sender);
    Ok(newest.await.ok().flatten())
}

/// The newest regular file in a tar archive, plain or gzipped; none where it cannot be read as one.
fn newest(mut archive: impl Read) -> Option<i64> {
    let mut head = [0; GZIP.len()];
    archive.read_exact(&mut head).ok()?;
    let whole = Read::chain(io::Cursor::new(head), archive);
    if head == GZIP { newest_in(MultiGzDecoder::new(whole)) } else { newest_in(whole) }
}

fn newest_in(archive: impl Read) -> Option<i64> {
    let mut archive = tar::Archive::new(archive);
    let mut newest = None;
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        if entry.header().entry_type().is_file() {
            let time = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok());
            newest = newest.max(time);
        }
    }
    newest
}

/// Pieces of a file as they come, as one reader.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Pieces {
    fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = self.piece.as_ref().read(buffer)?;
        self.piece.advance(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{is_archive, newest, of_commit};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, time, kind) in [
            ("a", 100, tar::EntryType::Regular),
            ("b", 300, tar::EntryType::Regular),
            ("c/", 900, tar::EntryType::Directory),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_mtime(time);
            header.set_cksum();
            builder.append_data(&mut header, path, &[][..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_newest_regular_file_counts() {
        assert_eq!(newest(archive().as_slice()), Some(300));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&archive()).unwrap();
        assert_eq!(newest(gzip.finish().unwrap().as_slice()), Some(300));
        assert_eq!(newest(&b"no archive at all"[..]), None);
        assert_eq!(newest(&b""[..]), None);
    }

    #[test]
    fn archives_are_told_from_dockerfiles() {
        assert!(is_archive(&archive()[..1024]));
        assert!(is_archive(&[0x1f, 0x8b, 8, 0]) && is_archive(b"BZh9"));
        assert!(!is_archive(b"FROM scratch\n") && !is_archive(b""));
    }

    #[test]
    fn a_commit_has_its_committers_time() {
        let commit =
            b"tree 1\nauthor A <a@b> 5 +0000\ncommitter C > D <c@d> 1700000000 +0100\n\nm\n";
        assert_eq!(of_commit(commit), Some(1_700_000_000));
        assert_eq!(of_commit(b"tree 1\n\ncommitter C <c@d> 1 +0000\n"), None);
    }
}
