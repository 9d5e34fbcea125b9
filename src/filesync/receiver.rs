//! Our side of a transfer from a builder: a `local` output.

use super::{
    mode,
    order::{Order, OrderError, compare},
    sender::{finish, request},
};
use crate::proto::fsutil::types::{Packet, Stat, packet::PacketType};
use bytes::Bytes;
use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
};
use thiserror::Error;

/// How many files are asked for at a time: enough to keep a wire busy with small files through a
/// slow round trip.
const WINDOW: usize = 2048;

/// How many files may be half written at a time. A builder sends four or so at once.
const MOST_BEGUN: usize = 64;

/// The receiver's state: what has been announced, and what is still to come.
#[derive(Debug, Default)]
pub struct Receiver {
    order: Order,
    announced: u32,
    all_announced: bool,
    /// Files that have been asked for.
    coming: HashMap<u32, Coming>,
    /// How many of them are half written.
    begun: usize,
    /// Files still to be asked for, with their sizes.
    waiting: VecDeque<(u32, u64)>,
    /// Links wait for the files that they name.
    links: Vec<Stat>,
    finishing: bool,
    finished: bool,
}

#[derive(Debug)]
struct Coming {
    /// How many bytes are still to come.
    left: u64,
    begun: bool,
}

/// What to do on disk or on the wire, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a directory, symbolic link, pipe or device.
    Make(Box<Stat>),
    /// A file's content comes later.
    Expect(u32, Box<Stat>),
    /// The next bytes of an expected file.
    Write(u32, Bytes),
    /// An expected file is whole.
    Complete(u32),
    /// Make another name of a file that is whole: `linkname` is the first.
    Link(Stat),
    /// A link with this path comes later.
    Promise(String),
    /// Everything is there.
    Settle,
    /// Send this to the builder.
    Reply(Packet),
}

/// Why a transfer ends early.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ReceiverError {
    /// An entry's path or place is refused.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The builder gave up.
    #[error("the builder stopped the transfer: {0}")]
    Peer(String),
    /// Data that nobody asked for.
    #[error("the builder sent data for the id {0}, which was not asked for")]
    Id(u32),
    /// A link that leads out of the tree, or to what has not come.
    #[error("the builder sent the link {path:?} to {target:?}, which did not come before it")]
    Link {
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// A packet that has no place here.
    #[error("the builder sent an unexpected packet (type {0})")]
    Packet(i32),
    /// More files at once than any builder sends.
    #[error("the builder sent more than {MOST_BEGUN} files at once")]
    Interleaved,
    /// More or less data than announced.
    #[error("the builder sent a file (id {0}) of another size than announced")]
    Size(u32),
}

impl Receiver {
    /// Takes a packet of the builder.
    ///
    /// # Errors
    /// [`ReceiverError`] where the builder gives up or breaks the protocol; the transfer is over.
    pub fn receive(&mut self, packet: Packet) -> Result<Vec<Step>, ReceiverError> {
        let unexpected = ReceiverError::Packet(packet.r#type);
        if self.finished {
            return Err(unexpected);
        }
        let mut steps = Vec::new();
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::PacketStat) if !self.all_announced => match packet.stat {
                Some(stat) => self.entry(Box::new(stat), &mut steps)?,
                None => self.all_announced = true,
            },
            Ok(PacketType::PacketData) => self.data(packet.id, packet.data, &mut steps)?,
            Ok(PacketType::PacketErr) => {
                return Err(ReceiverError::Peer(
                    String::from_utf8_lossy(&packet.data).into_owned(),
                ));
            }
            Ok(PacketType::PacketFin) if self.finishing => self.finished = true,
            _ => return Err(unexpected),
        }
        while self.coming.len() < WINDOW
            && let Some((id, size)) = self.waiting.pop_front()
        {
            self.coming.insert(id, Coming { left: size, begun: false });
            steps.push(Step::Reply(request(id)));
        }
        if self.all_announced && self.coming.is_empty() && !self.finishing {
            self.finishing = true;
            steps.extend(self.links.drain(..).map(Step::Link));
            steps.push(Step::Settle);
            steps.push(Step::Reply(finish()));
        }
        Ok(steps)
    }

    /// Whether both sides have said that they are done.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn entry(&mut self, stat: Box<Stat>, steps: &mut Vec<Step>) -> Result<(), ReceiverError> {
        let id = self.announced;
        self.announced =
            id.checked_add(1).ok_or(ReceiverError::Packet(PacketType::PacketStat.into()))?;
        self.order.accept(&stat.path, mode::is_directory(stat.mode))?;
        if !mode::is_regular(stat.mode) {
            steps.push(Step::Make(stat));
        } else if stat.linkname.is_empty() {
            let size = u64::try_from(stat.size).map_err(|_| ReceiverError::Size(id))?;
            self.waiting.push_back((id, size));
            steps.push(Step::Expect(id, stat));
        } else {
            let came_before = compare(&stat.linkname, &stat.path) == Ordering::Less;
            // The same test as for an entry: a clean path that stays in the tree.
            let stays = Order::is_inside(&stat.linkname);
            if !came_before || !stays {
                return Err(ReceiverError::Link { path: stat.path, target: stat.linkname });
            }
            steps.push(Step::Promise(stat.path.clone()));
            self.links.push(*stat);
        }
        Ok(())
    }

    fn data(&mut self, id: u32, data: Bytes, steps: &mut Vec<Step>) -> Result<(), ReceiverError> {
        let file = self.coming.get_mut(&id).ok_or(ReceiverError::Id(id))?;
        if data.is_empty() {
            if file.left > 0 {
                return Err(ReceiverError::Size(id));
            }
            self.begun -= usize::from(file.begun);
            self.coming.remove(&id);
            steps.push(Step::Complete(id));
            return Ok(());
        }
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        file.left = file.left.checked_sub(length).ok_or(ReceiverError::Size(id))?;
        if !file.begun {
            file.begun = true;
            self.begun += 1;
            if self.begun > MOST_BEGUN {
                return Err(ReceiverError::Interleaved);
            }
        }
        steps.push(Step::Write(id, data));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_BEGUN, Receiver, ReceiverError, Step, WINDOW};
    use crate::{
        filesync::{
            mode,
            sender::{data, failure, finish, request},
        },
        proto::fsutil::types::{Packet, Stat},
    };
    use bytes::Bytes;
    use proptest::prelude::*;

    fn entry(path: &str, mode: u32, size: i64, linkname: &str) -> Packet {
        let stat = Stat {
            path: path.to_owned(),
            mode,
            size,
            linkname: linkname.to_owned(),
            ..Stat::default()
        };
        Packet { stat: Some(stat), ..Packet::default() }
    }

    fn end() -> Packet {
        Packet::default()
    }

    #[test]
    fn a_transfer_from_beginning_to_end() {
        let mut receiver = Receiver::default();
        let steps = receiver.receive(entry("d", mode::DIRECTORY, 0, "")).unwrap();
        assert!(matches!(steps.as_slice(), [Step::Make(_)]));
        let steps = receiver.receive(entry("d/f", 0, 3, "")).unwrap();
        assert!(matches!(&steps[0], Step::Expect(1, _)));
        assert_eq!(steps[1], Step::Reply(request(1)));
        let steps = receiver.receive(entry("l", 0, 3, "d/f")).unwrap();
        assert_eq!(steps, [Step::Promise("l".to_owned())], "links wait");
        assert_eq!(receiver.receive(end()).unwrap(), []);
        let steps = receiver.receive(data(1, Bytes::from_static(b"abc"))).unwrap();
        assert_eq!(steps, [Step::Write(1, Bytes::from_static(b"abc"))]);
        let steps = receiver.receive(data(1, Bytes::new())).unwrap();
        assert_eq!(steps[0], Step::Complete(1));
        assert!(matches!(&steps[1], Step::Link(stat) if stat.path == "l"));
        assert_eq!(steps[2..], [Step::Settle, Step::Reply(finish())]);
        assert_eq!(receiver.receive(finish()).unwrap(), []);
        assert!(receiver.is_finished());
        assert!(receiver.receive(finish()).is_err());
    }

    #[test]
    fn nothing_to_copy_ends_at_once() {
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(end()).unwrap(), [Step::Settle, Step::Reply(finish())]);
    }

    #[test]
    fn only_so_many_files_are_asked_for_at_once() {
        let mut receiver = Receiver::default();
        let mut asked = 0;
        for index in 0..2 * WINDOW {
            let steps = receiver.receive(entry(&format!("f{index:05}"), 0, 0, "")).unwrap();
            asked += steps.iter().filter(|step| matches!(step, Step::Reply(_))).count();
        }
        assert_eq!(asked, WINDOW);
        let steps = receiver.receive(data(0, Bytes::new())).unwrap();
        assert!(steps.contains(&Step::Reply(request(u32::try_from(WINDOW).unwrap()))));
    }

    #[test]
    fn only_so_many_files_may_be_half_written() {
        let mut receiver = Receiver::default();
        let files = u32::try_from(MOST_BEGUN).unwrap() + 1;
        for id in 0..files {
            receiver.receive(entry(&format!("f{id:05}"), 0, 2, "")).unwrap();
        }
        let byte = Bytes::from_static(b"x");
        for id in 0..files - 1 {
            receiver.receive(data(id, byte.clone())).unwrap();
        }
        let answer = receiver.receive(data(files - 1, byte));
        assert_eq!(answer, Err(ReceiverError::Interleaved));
    }

    #[test]
    fn what_could_lead_out_of_the_target_is_refused() {
        for (path, link) in [
            ("../x", ""),
            ("/etc/passwd", ""),
            ("a/../../x", ""),
            ("l", "../../etc/passwd"),
            ("l", "/etc/passwd"),
            ("l", "l"),
            ("l", "later/../a"),
            ("l", "m"),
        ] {
            assert!(Receiver::default().receive(entry(path, 0, 0, link)).is_err(), "{path} {link}");
        }
    }

    #[test]
    fn hostile_data_is_refused() {
        let start = || {
            let mut receiver = Receiver::default();
            receiver.receive(entry("f", 0, 2, "")).unwrap();
            receiver
        };
        let xyz = Bytes::from_static(b"xyz");
        assert_eq!(start().receive(data(0, xyz.clone())), Err(ReceiverError::Size(0)), "too much");
        assert_eq!(
            start().receive(data(0, Bytes::new())),
            Err(ReceiverError::Size(0)),
            "too little"
        );
        assert_eq!(start().receive(data(1, xyz.clone())), Err(ReceiverError::Id(1)));
        let mut receiver = start();
        receiver.receive(data(0, xyz.slice(..2))).unwrap();
        receiver.receive(data(0, Bytes::new())).unwrap();
        assert_eq!(receiver.receive(data(0, xyz)), Err(ReceiverError::Id(0)), "after the end");
        assert!(start().receive(finish()).is_err(), "before the end");
        assert!(start().receive(request(0)).is_err());
        assert!(Receiver::default().receive(entry("f", 0, -1, "")).is_err());
        let error = start().receive(failure("gone")).unwrap_err();
        assert_eq!(error.to_string(), "the builder stopped the transfer: gone");
    }

    proptest! {
        #[test]
        fn no_packet_panics(
            packets in prop::collection::vec((-1_i32..7, 0_u32..4, "[a-c/.]{0,4}", 0_usize..4), 0..30),
        ) {
            let mut receiver = Receiver::default();
            for (kind, id, path, length) in packets {
                let packet = Packet {
                    r#type: kind,
                    id,
                    stat: (kind == 0 && length > 0).then(|| Stat { path, size: 2, ..Stat::default() }),
                    data: Bytes::from(vec![0; length]),
                };
                if receiver.receive(packet).is_err() {
                    break;
                }
                prop_assert!(receiver.coming.len() <= WINDOW);
            }
        }
    }
}
