//! Files in pieces, each read into memory that is sent as it is and used again afterwards. Fresh memory
//! for each piece would cost more than reading the file: the system has to clear it first.

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
        let read = move || {
            let mut piece = Piece { memory: memory.take(), length: 0, home: memory.clone() };
            while let Some(room @ [_, ..]) = piece.memory.get_mut(piece.length..) {
                match rest.read(room) {
                    Ok(0) => break,
                    Ok(length) => piece.length += length,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((piece, rest, memory))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?;
        let (piece, rest, memory) = read?;
        let is_end = piece.length == 0;
        Ok((!is_end).then(|| (Bytes::from_owner(piece), (rest, memory))))
    })
}

#[cfg(test)]
mod tests {
    use super::{Memory, PIECE, pieces};
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
}
