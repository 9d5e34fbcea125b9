//! Our side of a transfer to a builder: entries out, requests in, data out.

use super::mode;
use crate::proto::fsutil::types::{Packet, Stat, packet::PacketType};
use bytes::Bytes;
use thiserror::Error;

/// The sender's state: what has been announced, and what has been asked for.
///
/// It keeps a few bytes for each entry, so that a context of 50,000 files costs about a megabyte.
#[derive(Debug, Default)]
pub struct Sender {
    entries: Vec<Announced>,
    /// All names, one after the other.
    names: String,
    /// The directories that the last entry lies in, with how long their paths are.
    open: Vec<(usize, u32)>,
    all_announced: bool,
    finished: bool,
}

#[derive(Debug)]
struct Announced {
    parent: u32,
    name_start: u32,
    name_length: u32,
    availability: Availability,
    size: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Availability {
    /// Not a regular file.
    NoData,
    Ready,
    Taken,
}

/// No parent: the entry lies in the root.
const ROOT: u32 = u32::MAX;

/// What a packet of the builder asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Asked {
    /// The content of the file with this id (see [`Sender::file`]).
    File(u32),
    /// Nothing more: the builder has everything. [`finish`] is the answer, and the end.
    Finish,
}

/// A file whose content the builder wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The entry's place in the sequence of announcements.
    pub id: u32,
    /// Its path in the tree.
    pub path: String,
    /// The size that was announced, in bytes.
    pub size: u64,
}

/// Why a transfer ends early.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SenderError {
    /// The builder gave up.
    #[error("the builder stopped the transfer: {0}")]
    Peer(String),
    /// The builder asked for what it was not offered, or for the same file twice.
    #[error("the builder asked for the file with id {0}, which is not on offer")]
    Id(u32),
    /// The builder sent a packet that has no place here.
    #[error("the builder sent an unexpected packet (type {0})")]
    Packet(i32),
    /// There are more entries, or longer names, than ids can count.
    #[error("the context has too many files to be sent; hint: ignore some in .dockerignore")]
    TooMany,
}

impl Sender {
    /// Announces the next entry.
    ///
    /// # Errors
    /// [`SenderError::TooMany`] past what 32-bit ids can count.
    pub fn announce(&mut self, stat: Stat) -> Result<Packet, SenderError> {
        let too_many = |_| SenderError::TooMany;
        let id = u32::try_from(self.entries.len()).map_err(too_many)?;
        let (directory, name) = stat.path.rsplit_once('/').unwrap_or(("", &stat.path));
        while self.open.last().is_some_and(|(length, _)| *length > directory.len()) {
            self.open.pop();
        }
        // Entries come in order, so the innermost open directory that is no longer than ours is ours,
        // or a sibling of the same length that ours replaces when it is announced.
        let parent = self.open.last().filter(|(length, _)| *length == directory.len());
        let name_start = u32::try_from(self.names.len()).map_err(too_many)?;
        let (parent, name) = match parent {
            Some((_, parent)) => (*parent, name),
            None => (ROOT, stat.path.as_str()),
        };
        self.names.push_str(name);
        if mode::is_directory(stat.mode) {
            while self.open.last().is_some_and(|(length, _)| *length >= stat.path.len()) {
                self.open.pop();
            }
            self.open.push((stat.path.len(), id));
        }
        self.entries.push(Announced {
            parent,
            name_start,
            name_length: u32::try_from(name.len()).map_err(too_many)?,
            availability: if mode::is_regular(stat.mode) {
                Availability::Ready
            } else {
                Availability::NoData
            },
            size: u64::try_from(stat.size).unwrap_or_default(),
        });
        Ok(Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() })
    }

    /// Says that all entries have been announced.
    pub fn announce_end(&mut self) -> Packet {
        self.all_announced = true;
        Packet { r#type: PacketType::PacketStat.into(), ..Packet::default() }
    }

    /// Takes a packet of the builder.
    ///
    /// # Errors
    /// [`SenderError`] where the builder gives up or breaks the protocol; the transfer is over.
    pub fn receive(&mut self, packet: &Packet) -> Result<Asked, SenderError> {
        let unexpected = SenderError::Packet(packet.r#type);
        if self.finished {
            return Err(unexpected);
        }
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketReq) => self.take(packet.id).map(Asked::File),
            Ok(PacketType::PacketFin) if self.all_announced => {
                self.finished = true;
                Ok(Asked::Finish)
            }
            Ok(PacketType::PacketErr) => {
                Err(SenderError::Peer(String::from_utf8_lossy(&packet.data).into_owned()))
            }
            _ => Err(unexpected),
        }
    }

    /// Whether the builder has said that it has everything.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What is behind an id that has been asked for. Ids are small and wait in numbers; this is for
    /// when its turn has come.
    pub fn file(&self, id: u32) -> Request {
        let entry = usize::try_from(id).ok().and_then(|index| self.entries.get(index));
        Request { id, path: self.path(id), size: entry.map_or(0, |entry| entry.size) }
    }

    fn take(&mut self, id: u32) -> Result<u32, SenderError> {
        let entry = usize::try_from(id)
            .ok()
            .and_then(|index| self.entries.get_mut(index))
            .filter(|entry| entry.availability == Availability::Ready)
            .ok_or(SenderError::Id(id))?;
        entry.availability = Availability::Taken;
        Ok(id)
    }

    fn path(&self, id: u32) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while let Some(entry) = usize::try_from(at).ok().and_then(|index| self.entries.get(index)) {
            parts.push(self.name(entry));
            at = entry.parent;
        }
        parts.reverse();
        parts.join("/")
    }

    fn name(&self, entry: &Announced) -> &str {
        let start = usize::try_from(entry.name_start).unwrap_or(usize::MAX);
        let length = usize::try_from(entry.name_length).unwrap_or_default();
        self.names.get(start..start.saturating_add(length)).unwrap_or_default()
    }
}

/// A piece of the file with this id; an empty one ends the file.
pub fn data(id: u32, data: Bytes) -> Packet {
    Packet { r#type: PacketType::PacketData.into(), id, data, ..Packet::default() }
}

/// The last packet of either side.
pub fn finish() -> Packet {
    Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() }
}

/// Tells the other side why the transfer ends here.
pub fn failure(message: &str) -> Packet {
    Packet {
        r#type: PacketType::PacketErr.into(),
        data: Bytes::copy_from_slice(message.as_bytes()),
        ..Packet::default()
    }
}

/// A packet that asks for a file.
pub fn request(id: u32) -> Packet {
    Packet { r#type: PacketType::PacketReq.into(), id, ..Packet::default() }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Request, Sender, SenderError, data, failure, finish, request};
    use crate::{
        filesync::mode,
        proto::fsutil::types::{Packet, Stat},
    };
    use bytes::Bytes;
    use proptest::prelude::*;

    fn stat(path: &str, mode: u32) -> Stat {
        Stat { path: path.to_owned(), mode, size: 7, ..Stat::default() }
    }

    fn sender(paths: &[(&str, u32)]) -> Sender {
        let mut sender = Sender::default();
        for (path, mode) in paths {
            sender.announce(stat(path, *mode)).unwrap();
        }
        sender
    }

    #[test]
    fn ids_count_all_entries_and_lead_back_to_paths() {
        let paths = [
            ("a", mode::DIRECTORY),
            ("a/b", mode::DIRECTORY),
            ("a/b/f", 0),
            ("a/g", 0),
            ("b", mode::DIRECTORY),
            ("b/h", 0),
            ("link", mode::SYMLINK),
            ("z", 0),
        ];
        let mut sender = sender(&paths);
        for (id, (path, mode)) in (0..).zip(paths) {
            let answer = sender.receive(&request(id));
            if mode == 0 {
                assert_eq!(answer, Ok(Asked::File(id)));
                let expected = Request { id, path: path.to_owned(), size: 7 };
                assert_eq!(sender.file(id), expected);
            } else {
                assert_eq!(answer, Err(SenderError::Id(id)), "{path} has no data");
            }
        }
    }

    #[test]
    fn a_file_is_given_once() {
        let mut sender = sender(&[("a", 0)]);
        assert!(sender.receive(&request(0)).is_ok());
        assert_eq!(sender.receive(&request(0)), Err(SenderError::Id(0)));
        assert_eq!(sender.receive(&request(1)), Err(SenderError::Id(1)));
        assert_eq!(sender.receive(&request(u32::MAX)), Err(SenderError::Id(u32::MAX)));
    }

    #[test]
    fn the_end_comes_after_all_entries_and_only_once() {
        let mut sender = sender(&[("a", 0)]);
        assert!(matches!(sender.receive(&finish()), Err(SenderError::Packet(_))));
        assert_eq!(sender.announce_end().stat, None);
        assert_eq!(sender.receive(&finish()), Ok(Asked::Finish));
        assert!(sender.is_finished());
        assert!(matches!(sender.receive(&request(0)), Err(SenderError::Packet(_))));
    }

    #[test]
    fn the_builders_reason_is_passed_on() {
        let error = sender(&[]).receive(&failure("disk full")).unwrap_err();
        assert_eq!(error.to_string(), "the builder stopped the transfer: disk full");
        let answer = sender(&[]).receive(&data(0, Bytes::from_static(b"x")));
        assert!(matches!(answer, Err(SenderError::Packet(2))));
    }

    proptest! {
        #[test]
        fn no_packet_panics(packets in prop::collection::vec((-1_i32..7, any::<u32>()), 0..20)) {
            let mut sender = sender(&[("a", 0), ("b", mode::DIRECTORY)]);
            for (kind, id) in packets {
                let packet = Packet { r#type: kind, id: id % 4, ..Packet::default() };
                if let Ok(Asked::File(id)) = sender.receive(&packet) {
                    prop_assert_eq!(sender.file(id).path, "a");
                }
            }
        }
    }
}
