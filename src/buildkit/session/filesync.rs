//! `FileSync`: a builder fetches directories of ours.
//!
//! For each request the walk runs on one blocking thread and files are read on a few more. All of
//! them feed one short queue, so that a slow builder slows them down and a context of any size
//! passes through a few megabytes of memory.

use super::{Attachable, ContextMemory};
use crate::{
    filesync::{
        Asked, Content, Entry, FilterLists, Judgement, Request, Sender, SenderError, Source, Tree,
        TreeError, Walk, WalkError, alike,
        ledger::{self, ContentDigest},
        mode, sender,
    },
    proto::{
        fsutil::types::Packet,
        moby::filesync::v1::file_sync_server::{self, FileSyncServer},
    },
};
use bytes::Bytes;
use futures::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    metadata::{MetadataMap, MetadataValue},
    service::RoutesBuilder,
};

/// Packets travel through the queue in batches of this many, so that announcing 50,000 files does
/// not wake a task 50,000 times.
const BATCH: usize = 64;
/// How many batches wait for the wire. A batch holds at most one [`CHUNK`](crate::filesync::CHUNK)
/// of data.
const QUEUE: usize = 16;
/// How many files are read at a time. More does not help a single disk or wire.
const READERS: usize = 4;
/// A request's packets are small; a builder sends nothing larger.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Offers directories to a builder, each by its name (`context`, `dockerfile`, a named context).
#[derive(Debug)]
pub struct FileSync {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sources: BTreeMap<String, Source>,
    memory: ContextMemory,
    counts: ContextCounts,
    /// See [`FileSync::alike`].
    epoch: Option<i64>,
}

/// What has been sent so far, over all directories of a session. A handle: clones count on.
#[derive(Clone, Debug, Default)]
pub struct ContextCounts(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    announced: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl ContextCounts {
    /// Entries that the builder was told of (files, directories, links).
    pub fn announced(&self) -> u64 {
        self.0.announced.load(Ordering::Relaxed)
    }

    /// Files whose content the builder asked for and got.
    pub fn files(&self) -> u64 {
        self.0.files.load(Ordering::Relaxed)
    }

    /// Bytes of content sent.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

/// Why a transfer ended early, in the words that the builder is given.
#[derive(Debug, Error)]
enum TransferError {
    #[error(transparent)]
    Protocol(#[from] SenderError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// The builder hung up: there is nobody left to tell.
    #[error("the builder hung up")]
    Gone,
}

type Item = Result<Vec<Packet>, Status>;

impl FileSync {
    /// Offers `sources`. The session must have been given the [shared key](ContextMemory::shared_key)
    /// of `memory`, which should have been opened for the same sources.
    pub fn new(sources: BTreeMap<String, Source>, memory: ContextMemory) -> Self {
        let counts = ContextCounts::default();
        Self { shared: Arc::new(Shared { sources, memory, counts, epoch: None }) }
    }

    /// Announces every checkout of the same files alike, whoever made it: dated `epoch` (seconds
    /// since 1970), with the modes that git knows, and without what it does not know.
    #[must_use]
    pub fn alike(mut self, epoch: i64) -> Self {
        // Nobody else has a handle before a session serves it.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.epoch = Some(epoch);
        }
        self
    }

    /// A handle on what is sent.
    pub fn counts(&self) -> ContextCounts {
        self.shared.counts.clone()
    }
}

impl Attachable for FileSync {
    fn methods(&self) -> &'static [&'static str] {
        &["/moby.filesync.v1.FileSync/DiffCopy"]
    }

    fn register(self: Box<Self>, routes: &mut RoutesBuilder) {
        routes.add_service(FileSyncServer::new(*self).max_decoding_message_size(MESSAGE_LIMIT));
    }
}

#[tonic::async_trait]
impl file_sync_server::FileSync for FileSync {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: tonic::Request<Streaming<Packet>>,
    ) -> Result<tonic::Response<Self::DiffCopyStream>, Status> {
        let asked = Wanted::read(request.metadata())?;
        let Some(source) = self.shared.sources.get(&asked.name).cloned() else {
            return Err(Status::not_found(format!("no access allowed to dir {:?}", asked.name)));
        };
        let (queue, packets) = mpsc::channel(QUEUE);
        tokio::spawn(transfer(
            Arc::clone(&self.shared),
            asked,
            source,
            request.into_inner(),
            queue,
        ));
        Ok(tonic::Response::new(unbatch(packets).boxed()))
    }
}

fn unbatch(packets: mpsc::Receiver<Item>) -> impl Stream<Item = Result<Packet, Status>> {
    ReceiverStream::new(packets).flat_map(|item| match item {
        Ok(batch) => stream::iter(batch).map(Ok).left_stream(),
        Err(status) => stream::iter([Err(status)]).right_stream(),
    })
}

/// What a request's headers ask for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    name: String,
    lists: FilterLists,
}

impl Wanted {
    fn read(headers: &MetadataMap) -> Result<Self, Status> {
        Ok(Self {
            name: header(headers, "dir-name")?.into_iter().next().unwrap_or_default(),
            lists: FilterLists {
                include: header(headers, "include-patterns")?,
                exclude: header(headers, "exclude-patterns")?,
                follow: header(headers, "followpaths")?,
            },
        })
    }
}

/// All values of a header. Where one of them is not ASCII, all are encoded as in a query string,
/// and a second header says so.
fn header(headers: &MetadataMap, name: &'static str) -> Result<Vec<String>, Status> {
    let encoded = headers.get(format!("{name}-encoded")).is_some_and(|flag| {
        matches!(flag.as_bytes(), b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True")
    });
    let text = |value: &MetadataValue<_>| {
        let bytes = value.as_bytes();
        let bytes = if encoded { decode(bytes) } else { Some(bytes.to_vec()) };
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Status::invalid_argument(format!("the header {name} is not text")))
    };
    headers.get_all(name).iter().map(text).collect()
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

/// Runs one transfer to its end.
async fn transfer(
    shared: Arc<Shared>,
    asked: Wanted,
    source: Source,
    incoming: Streaming<Packet>,
    queue: mpsc::Sender<Item>,
) {
    let name = asked.name.clone();
    shared.memory.begin();
    let outcome = run(&shared, asked, source, incoming, &queue).await;
    if outcome.is_ok() {
        shared.memory.end();
    }
    // What waits for the memory to be put back waits for this.
    drop(shared);
    match outcome {
        Ok(()) => tracing::debug!(dir = name, "directory sent"),
        Err(TransferError::Gone) => tracing::debug!(dir = name, "the builder hung up"),
        Err(error) => {
            let text = error.to_string();
            tracing::debug!(dir = name, text, "directory not sent");
            // The packet gives the builder our words; the status ends the call. If the queue is
            // closed, the builder has left and does not want them.
            if queue.send(Ok(vec![sender::failure(&text)])).await.is_ok() {
                queue.send(Err(Status::aborted(text))).await.ok();
            }
        }
    }
}

async fn run(
    shared: &Arc<Shared>,
    asked: Wanted,
    source: Source,
    mut incoming: Streaming<Packet>,
    queue: &mpsc::Sender<Item>,
) -> Result<(), TransferError> {
    let opened = spawn_blocking(move || Tree::open(&source)).await;
    let tree = Arc::new(opened.map_err(|_| TransferError::Gone)??);
    let sender = Arc::new(Mutex::new(Sender::default()));
    // Each file can be asked for once, and an id is four bytes: the queue needs no bound. It must have
    // none, because packets that we leave unread count against the connection, which is cut off for
    // some ten thousand of them.
    let (requests, waiting) = mpsc::unbounded_channel();
    let waiting = Arc::new(Mutex::new(waiting));

    let mut threads = JoinSet::new();
    let walker = Walker {
        shared: Arc::clone(shared),
        directory: asked.name.clone(),
        tree: Arc::clone(&tree),
        sender: Arc::clone(&sender),
        queue: queue.clone(),
    };
    let lists = asked.lists;
    threads.spawn_blocking(move || walker.run(&lists));
    let mut readers = 0;
    loop {
        let packet = tokio::select! {
            packet = incoming.message() => packet,
            Some(ended) = threads.join_next(), if !threads.is_empty() => {
                ended.map_err(|_| TransferError::Gone)??;
                continue;
            }
            () = queue.closed() => return Err(TransferError::Gone),
        };
        // A stream that breaks or ends before it is finished is a builder that left.
        let Ok(Some(packet)) = packet else { return Err(TransferError::Gone) };
        let wanted = lock(&sender).receive(&packet)?;
        match wanted {
            Asked::File(id) => {
                if readers < READERS {
                    readers += 1;
                    let reader = Reader {
                        shared: Arc::clone(shared),
                        directory: asked.name.clone(),
                        tree: Arc::clone(&tree),
                        sender: Arc::clone(&sender),
                        waiting: Arc::clone(&waiting),
                        queue: queue.clone(),
                    };
                    threads.spawn_blocking(move || reader.run());
                }
                requests.send(id).map_err(|_| TransferError::Gone)?;
            }
            Asked::Finish => break,
        }
    }
    drop(requests);
    while let Some(ended) = threads.join_next().await {
        ended.map_err(|_| TransferError::Gone)??;
    }
    queue.send(Ok(vec![sender::finish()])).await.map_err(|_| TransferError::Gone)
}

/// Announces a tree, on a blocking thread.
struct Walker {
    shared: Arc<Shared>,
    directory: String,
    tree: Arc<Tree>,
    sender: Arc<Mutex<Sender>>,
    queue: mpsc::Sender<Item>,
}

impl Walker {
    fn run(self, lists: &FilterLists) -> Result<(), TransferError> {
        let now = nanoseconds_now();
        let mut walk = Walk::new(&self.tree, lists)?;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(mut entry) = walk.next_entry()? {
            let Some(mtime) = self.mtime(&entry, now)? else { continue };
            entry.stat.mod_time = mtime;
            if let Some(epoch) = self.shared.epoch {
                alike::make(&mut entry.stat, epoch);
            }
            // The entry has an id from here on, but cannot be asked for before it is sent.
            batch.push(lock(&self.sender).announce(entry.stat)?);
            self.shared.counts.0.announced.fetch_add(1, Ordering::Relaxed);
            if batch.len() == BATCH {
                send(&self.queue, std::mem::replace(&mut batch, Vec::with_capacity(BATCH)))?;
            }
        }
        batch.push(lock(&self.sender).announce_end());
        send(&self.queue, batch)
    }

    /// The mtime to announce, so that no content is taken for another (see [`ledger`]); `None` where
    /// the file has gone.
    fn mtime(&self, entry: &Entry, now: i64) -> Result<Option<i64>, TransferError> {
        let (stat, facts) = (&entry.stat, &entry.facts);
        if !mode::is_regular(stat.mode) || facts.size == 0 || !self.tree.is_on_disk() {
            return Ok(Some(stat.mod_time));
        }
        // Another name of a file has the times of the first.
        let first = if stat.linkname.is_empty() { &stat.path } else { &stat.linkname };
        let key = ledger::path_key(&self.directory, first);
        match self.shared.memory.lock().judge(key, facts, now) {
            Judgement::Announce(mtime) => return Ok(Some(mtime)),
            Judgement::Hash => {}
        }
        let mut hash = Sha256::new();
        let mut content = match self.tree.content(first, facts.size) {
            Ok(content) => content,
            Err(TreeError::Vanished(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        loop {
            let piece = content.next_piece(first)?;
            if piece.is_empty() {
                break;
            }
            hash.update(&piece);
        }
        let digest = ledger::short(&hash.finalize());
        Ok(Some(self.shared.memory.lock().settle(key, facts, digest, now)))
    }
}

fn nanoseconds_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Reads files one after the other, on a blocking thread.
struct Reader {
    shared: Arc<Shared>,
    directory: String,
    tree: Arc<Tree>,
    sender: Arc<Mutex<Sender>>,
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<u32>>>,
    queue: mpsc::Sender<Item>,
}

impl Reader {
    fn run(self) -> Result<(), TransferError> {
        loop {
            // Whoever waits here holds the lock; the others wait for the lock instead.
            let Some(id) = lock(&self.waiting).blocking_recv() else { return Ok(()) };
            let request = lock(&self.sender).file(id);
            self.send_file(&request)?;
        }
    }

    fn send_file(&self, request: &Request) -> Result<(), TransferError> {
        let counts = &self.shared.counts.0;
        let mut hash = Sha256::new();
        let mut content = self.tree.content(&request.path, request.size)?;
        loop {
            let piece = content.next_piece(&request.path)?;
            hash.update(&piece);
            let length = u64::try_from(piece.len()).unwrap_or_default();
            counts.bytes.fetch_add(length, Ordering::Relaxed);
            let done = length == 0 || content.left() == 0;
            let mut batch = vec![sender::data(request.id, piece)];
            if done {
                // Before the builder can say that it has everything.
                self.note(request, &content, &ledger::short(&hash.finalize()));
                counts.files.fetch_add(1, Ordering::Relaxed);
                if length != 0 {
                    batch.push(sender::data(request.id, Bytes::new()));
                }
                return send(&self.queue, batch);
            }
            send(&self.queue, batch)?;
        }
    }

    /// Notes what was sent, and says so where the file changed meanwhile: the builder then has a
    /// mixture, and the next build sends it anew.
    fn note(&self, request: &Request, content: &Content, digest: &ContentDigest) {
        let Some(after) = content.facts() else { return };
        let key = ledger::path_key(&self.directory, &request.path);
        let still = self.shared.memory.lock().sent(key, *digest, &after);
        if !still || content.left() > 0 {
            tracing::warn!(path = request.path, "the file changed while it was being sent");
        }
    }
}

fn send(queue: &mpsc::Sender<Item>, batch: Vec<Packet>) -> Result<(), TransferError> {
    queue.blocking_send(Ok(batch)).map_err(|_| TransferError::Gone)
}

/// Locks what only ever holds whole states: a thread that died in between left none half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Wanted, decode};
    use tonic::metadata::{MetadataMap, MetadataValue};

    #[test]
    fn headers_are_read_plain_and_encoded() {
        let mut headers = MetadataMap::new();
        let mut add = |name: &'static str, value: &'static str| {
            headers.append(name, MetadataValue::from_static(value));
        };
        add("dir-name", "context");
        add("exclude-patterns", "%C3%BCn%C3%AF%2A.md");
        add("exclude-patterns", "%21secret%2Fkeep+it");
        add("exclude-patterns-encoded", "1");
        add("followpaths", "a+b%20");
        let asked = Wanted::read(&headers).unwrap();
        assert_eq!(asked.name, "context");
        assert_eq!(asked.lists.exclude, ["ünï*.md", "!secret/keep it"]);
        assert_eq!(asked.lists.follow, ["a+b%20"]);
        assert!(asked.lists.include.is_empty());
    }

    #[test]
    fn broken_encodings_are_refused() {
        assert_eq!(decode(b"%4"), None);
        assert_eq!(decode(b"%zz"), None);
        let mut headers = MetadataMap::new();
        headers.append("dir-name", MetadataValue::from_static("%ff"));
        headers.append("dir-name-encoded", MetadataValue::from_static("1"));
        assert!(Wanted::read(&headers).is_err());
    }
}
