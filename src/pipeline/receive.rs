//! Where the bytes go that exporters send here: files and stdout by themselves, and tasks for a
//! Docker that takes an image in and a layout that is unpacked.

use super::{
    error::{BuildFailure, Error},
    outputs::Receiver,
};
use crate::{buildkit::session::Destination, engine};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Chunks of an archive that wait for whoever takes them.
const QUEUE: usize = 8;

/// How long tasks may take to end when the build has failed.
const WIND_UP: Duration = Duration::from_secs(5);

/// The tasks that take archives.
#[derive(Debug, Default)]
pub(super) struct Takers(JoinSet<Result<(), Error>>);

/// Destinations for `receivers`, and the tasks behind some of them. Relative paths start from
/// `here`; `docker` takes images in.
pub(super) fn destinations(
    receivers: &BTreeMap<usize, Receiver>,
    here: &Path,
    docker: Option<&engine::Client>,
) -> (BTreeMap<usize, Destination>, Takers) {
    let mut takers = Takers::default();
    let destinations = receivers
        .iter()
        .map(|(id, receiver)| {
            let destination = match (receiver, docker) {
                (Receiver::File(path), _) => Destination::File(here.join(path)),
                (Receiver::Directory { path, delete }, _) => {
                    Destination::Directory { path: here.join(path), delete: *delete }
                }
                (Receiver::Docker, Some(docker)) => takers.load(docker.clone()),
                (Receiver::Unpack(path), _) => takers.unpack(here.join(path)),
                (Receiver::Stdout, _) | (Receiver::Docker, None) => Destination::Stdout,
            };
            (*id, destination)
        })
        .collect();
    (destinations, takers)
}

impl Takers {
    /// Waits until everything that was sent is where it belongs.
    ///
    /// # Errors
    /// Something could not be taken.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        while let Some(outcome) = self.0.join_next().await {
            // A task that panicked has said so; one that was aborted, nobody waits for.
            outcome.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Lets the tasks of a failed build end. Where one of them is why it failed, says so.
    pub(super) async fn wind_up(self) -> Option<Error> {
        timeout(WIND_UP, self.finish()).await.ok()?.err()
    }

    fn load(&mut self, docker: engine::Client) -> Destination {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.0.spawn(async move {
            let Some(archive) = Archive::begun(receiver).await else { return Ok(()) };
            let broken = archive.broken.clone();
            match docker.load_images(archive.chunks).await {
                Err(error) if !broken.load(Ordering::Relaxed) => {
                    Err(Error::Load { message: error.to_string() })
                }
                _ => Ok(()),
            }
        });
        Destination::Stream(sender)
    }

    fn unpack(&mut self, path: PathBuf) -> Destination {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.0.spawn(async move {
            let Some(archive) = Archive::begun(receiver).await else { return Ok(()) };
            let broken = archive.broken.clone();
            let reader = SyncIoBridge::new(StreamReader::new(archive.chunks));
            let target = path.clone();
            let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &target)).await;
            match unpacked {
                Ok(Err(error)) if !broken.load(Ordering::Relaxed) => {
                    Err(cannot_unpack(&path, &error))
                }
                _ => Ok(()),
            }
        });
        Destination::Stream(sender)
    }
}

/// An archive on its way.
struct Archive {
    chunks: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    /// Whether the builder broke it off, which it reports itself.
    broken: Arc<AtomicBool>,
}

impl Archive {
    /// The archive that comes, from its first bytes on; none where none comes.
    async fn begun(mut receiver: mpsc::Receiver<io::Result<Bytes>>) -> Option<Self> {
        let first = receiver.recv().await?;
        let broken = Arc::new(AtomicBool::new(false));
        let seen = broken.clone();
        let chunks = stream::iter([first])
            .chain(ReceiverStream::new(receiver))
            .inspect(move |chunk| seen.store(chunk.is_err(), Ordering::Relaxed));
        Some(Self { chunks: chunks.boxed(), broken })
    }
}

/// Unpacks an image layout. A directory that was made for it goes again where that fails.
fn unpack(mut reader: impl io::Read, path: &Path) -> io::Result<()> {
    let is_new = !path.exists();
    std::fs::create_dir_all(path)?;
    let unpacked = tar::Archive::new(&mut reader).unpack(path).and_then(|()| {
        // What pads an archive behind its end is still sent, and has to be taken.
        io::copy(&mut reader, &mut io::sink()).map(drop)
    });
    if unpacked.is_err() && is_new {
        std::fs::remove_dir_all(path)?;
    }
    unpacked
}

fn cannot_unpack(path: &Path, error: &io::Error) -> Error {
    output_failure(&format!("cannot write `{}`: {error}", path.display()))
}

/// An output that could not be written; `words` may end with a hint.
pub(super) fn output_failure(words: &str) -> Error {
    let (message, fix) = match words.split_once("; hint: ") {
        Some((message, fix)) => (message, Some(fix.to_owned())),
        None => (words, None),
    };
    Error::Build(Box::new(BuildFailure {
        code: "OUTPUT_FAILED",
        message: message.to_owned(),
        fix,
        ..BuildFailure::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o644);
        builder.append_data(&mut header, "blobs/index.json", &b"{}"[..]).expect("an entry");
        builder.into_inner().expect("an archive")
    }

    async fn sent(chunks: Vec<io::Result<Bytes>>, path: &Path) -> Result<(), Error> {
        let receivers = BTreeMap::from([(0, Receiver::Unpack("out".into()))]);
        let (mut destinations, takers) = destinations(&receivers, path, None);
        let Some(Destination::Stream(sender)) = destinations.remove(&0) else {
            panic!("no stream");
        };
        for chunk in chunks {
            drop(sender.send(chunk).await);
        }
        drop(sender);
        takers.finish().await
    }

    #[tokio::test]
    async fn a_layout_is_unpacked() {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = Bytes::from(layout());
        let halves = vec![Ok(archive.slice(..700)), Ok(archive.slice(700..))];
        sent(halves, directory.path()).await.expect("unpacked");
        let file = directory.path().join("out/blobs/index.json");
        assert_eq!(std::fs::read(file).expect("a file"), b"{}");
    }

    #[tokio::test]
    async fn what_breaks_off_leaves_nothing_and_is_told_by_who_broke_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = Bytes::from(layout());
        let broken = vec![Ok(archive.slice(..700)), Err(io::Error::other("builder"))];
        sent(broken, directory.path()).await.expect("the builder tells");
        sent(Vec::new(), directory.path()).await.expect("nothing came");
        assert!(!directory.path().join("out").exists());

        let garbage = vec![Ok(Bytes::from(vec![b'x'; 1024]))];
        let Err(Error::Build(failure)) = sent(garbage, directory.path()).await else {
            panic!("garbage was taken");
        };
        assert_eq!(failure.code, "OUTPUT_FAILED");
        assert!(!directory.path().join("out").exists());
    }
}
