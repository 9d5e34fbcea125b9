//! Files in pieces, each read into memory that is sent as it is and used again afterwards. Fresh memory
//! for each piece would cost more than reading the file: the system has to clear it first. What the
//! system holds of a file is read on the spot, and only a disk is waited for on a thread: to hand a piece
//! from one thread to another costs as much as to copy it.

use bytes::Bytes;
use futures::{Stream, stream};
use std::{
    fs::File,
    io::{self, Read},
    mem,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Pieces whose memory is kept for later.
const SPARE: usize = 16;

/// Memory that is used again.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Vec<Vec<u8>>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| vec![0; PIECE])
    }

    fn give_back(&self, memory: Vec<u8>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(memory);
        }
    }
}

/// A piece of a file on its way.
struct Piece {
    memory: Vec<u8>,
    length: usize,
    home: Memory,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.home.give_back(mem::take(&mut self.memory));
    }
}

/// What is left of a file.
pub(super) fn pieces(
    rest: io::Take<File>,
    memory: Memory,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((rest, memory), async |(mut rest, memory)| {
        let mut piece = Piece { memory: memory.take(), length: 0, home: memory.clone() };
        piece.length = read_present(&mut rest, &mut piece.memory);
        if piece.length == 0 {
            let read = move || {
                piece.length = read_full(&mut rest, &mut piece.memory)?;
                Ok::<_, io::Error>((piece, rest))
            };
            let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
            (piece, rest) = read?;
        }
        let is_end = piece.length == 0;
        Ok((!is_end).then(|| (Bytes::from_owner(piece), (rest, memory))))
    })
}

/// Reads until `room` is full or the file ends.
fn read_full(rest: &mut io::Take<File>, room: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(room @ [_, ..]) = room.get_mut(length..) {
        match rest.read(room) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Reads what can be had without waiting: nothing where a disk has to be asked, at the end, or where the
/// file system cannot tell (preadv2(2), `RWF_NOWAIT`).
#[cfg(target_os = "linux")]
fn read_present(rest: &mut io::Take<File>, room: &mut [u8]) -> usize {
    use rustix::io::{ReadWriteFlags, preadv2};
    /// The file's own position, which moves on.
    const HERE: u64 = u64::MAX;
    let mut length = 0_usize;
    loop {
        let most = usize::try_from(rest.limit()).unwrap_or(usize::MAX);
        let end = room.len().min(length.saturating_add(most));
        let Some(room @ [_, ..]) = room.get_mut(length..end) else { return length };
        let mut room = [io::IoSliceMut::new(room)];
        match preadv2(rest.get_ref(), &mut room, HERE, ReadWriteFlags::NOWAIT) {
            Ok(more @ 1..) => {
                length += more;
                rest.set_limit(rest.limit().saturating_sub(u64::try_from(more).unwrap_or(0)));
            }
            Ok(0) | Err(_) => return length,
        }
    }
}

/// Other systems cannot be asked.
#[cfg(not(target_os = "linux"))]
fn read_present(_: &mut io::Take<File>, _: &mut [u8]) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::{Memory, PIECE, pieces, read_full, read_present};
    use futures::TryStreamExt as _;
    use std::io::{Read as _, Seek as _, Write as _};

    #[tokio::test]
    async fn a_file_comes_whole_and_its_memory_is_used_again() {
        let content: Vec<u8> =
            (0..PIECE * 2 + 7).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        file.rewind().unwrap();
        let memory = Memory::default();
        let mut stream = Box::pin(pieces(file.take(u64::MAX), memory.clone()));
        let mut read = Vec::new();
        let mut places = Vec::new();
        while let Some(piece) = stream.try_next().await.unwrap() {
            places.push(piece.as_ptr());
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, content);
        assert_eq!(places, [places[0]; 3], "each piece was sent before the next was read");
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn what_is_present_and_what_is_waited_for_follow_each_other() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one two three and what is behind").unwrap();
        file.rewind().unwrap();
        let mut rest = file.take(13);
        let mut room = [0; 4];
        let mut read = Vec::new();
        for at in 0.. {
            let length = match at % 2 {
                0 => read_present(&mut rest, &mut room),
                _ => read_full(&mut rest, &mut room).unwrap(),
            };
            read.extend_from_slice(&room[..length]);
            if at % 2 == 1 && length == 0 {
                break;
            }
        }
        assert_eq!(read, b"one two three", "no more than was asked for, and nothing twice");
        assert_eq!(read_present(&mut rest, &mut room), 0);
    }
}
