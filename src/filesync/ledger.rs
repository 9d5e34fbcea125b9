//! Why no stale file is ever built: what a directory's files looked like when they were last sent.
//!
//! A builder keeps its copy of a context from one build to the next. It compares what we announce
//! (size, mtime, mode, link) with that copy and asks only for files that differ. A file whose
//! content changed while its size and mtime stayed (an archive unpacked over it, `touch -r`, a tool
//! that pins times) would be built in its old state (earthly#2317). What the file system cannot hide
//! is that *something* happened: `ctime` moves with every change and cannot be set, and a file put
//! in another's place has another inode.
//!
//! So we remember, for each file, what it looked like and what we announced. A file that shows a new
//! ctime or inode under an mtime that is not newer than all before is read and hashed. If its content
//! is what was sent, nothing happens. If not, the mtime that we **announce** keeps its second but
//! gets nanoseconds that are drawn from the content's digest, so that the builder sees a difference
//! and asks. This keeps one rule, and staleness is impossible while it holds: **under one shared
//! key, a path, size and announced mtime stand for one content only.**
//!
//! What this costs elsewhere: nothing in the cache, because BuildKit's digest of a local source
//! leaves mtimes out; nothing in an image, because layers hold mtimes in whole seconds. Only a `RUN`
//! that looks at the nanoseconds of such a file can tell.
//!
//! The rule needs the memory to be complete. Therefore the **shared key**, which names the builder's
//! copy, is random and lives in the memory itself: a lost memory means a new key, and a builder that
//! starts from nothing. A process takes the memory away while it works with it (see
//! [`LedgerFile`](super::LedgerFile)), so that two builds at once, or one that was killed half way,
//! never go on under the same key with half of the truth. The other builds of a machine share
//! nothing with it, and other machines neither, however alike their directories look.
//!
//! Times of a file that is still being written are coarse: a second change within one clock tick
//! leaves ctime as it is. A file changed just before it was announced is therefore not trusted, but
//! hashed the next time.

use super::Facts;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// The start of a SHA-256 digest of a content.
pub type ContentDigest = [u8; 16];

/// A file changed less than this before it was announced may change again without a new ctime, in
/// nanoseconds. Kernels tick at 100 to 1000 Hz; ten ticks are safe.
const TICK: i64 = 100_000_000;
/// The same where times come in whole seconds (or two of them: FAT).
const COARSE_TICK: i64 = 2_100_000_000;
const SECOND: i64 = 1_000_000_000;

const MAGIC: &[u8; 8] = b"bksyncL1";
const ROW: usize = 16 + 8 * 7 + 16 + 4 + 1;
const HAS_DIGEST: u8 = 1;
const UNSETTLED: u8 = 2;

/// The memory of what was announced and sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Ledger {
    key: [u8; 16],
    rows: HashMap<PathKey, Row>,
}

/// A directory's name and a path in it, hashed: rows stay small whatever the paths.
pub type PathKey = [u8; 16];

#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    size: u64,
    mtime: i64,
    ctime: i64,
    inode: u64,
    device: u64,
    announced: i64,
    /// The newest mtime that was ever announced as it is.
    newest: i64,
    /// Of what was last sent, where it is known.
    digest: Option<ContentDigest>,
    /// Makes new nanoseconds of the same digest, where old ones turned out to stand for something
    /// else.
    salt: u32,
    /// Whether the file may have changed since without leaving a trace.
    unsettled: bool,
}

/// What to do with a file before it is announced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// Announce this mtime.
    Announce(i64),
    /// Hash the file and ask [`Ledger::settle`].
    Hash,
}

impl Ledger {
    /// An empty memory under a key that nobody has used before.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, rows: HashMap::new() }
    }

    /// The shared key of sessions that work with this memory.
    pub fn shared_key(&self) -> String {
        format!("bk-sync-{:032x}", u128::from_be_bytes(self.key))
    }

    /// The digest of what was last sent of a file, where it is known.
    pub fn digest(&self, path: &PathKey) -> Option<ContentDigest> {
        self.rows.get(path)?.digest
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it knows no file.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Judges a file that is about to be announced. `now` is the time of the walk, in nanoseconds
    /// since 1970.
    pub fn judge(&mut self, path: PathKey, facts: &Facts, now: i64) -> Judgement {
        let Some(row) = self.rows.get_mut(&path) else {
            self.rows.insert(path, Row::new(facts, now));
            return Judgement::Announce(facts.mtime);
        };
        if row.looks_like(facts) && !row.unsettled {
            return Judgement::Announce(row.announced);
        }
        if facts.mtime > row.newest {
            *row = Row { salt: row.salt, ..Row::new(facts, now) };
            return Judgement::Announce(facts.mtime);
        }
        Judgement::Hash
    }

    /// Says which mtime to announce for a file that had to be hashed.
    pub fn settle(&mut self, path: PathKey, facts: &Facts, digest: ContentDigest, now: i64) -> i64 {
        let row = self.rows.entry(path).or_insert_with(|| Row::new(facts, now));
        let known =
            row.size == facts.size && row.mtime == facts.mtime && row.digest == Some(digest);
        let announced = if known { row.announced } else { perturb(facts.mtime, &digest, row.salt) };
        *row = Row {
            announced,
            newest: row.newest,
            digest: Some(digest),
            salt: row.salt,
            ..Row::new(facts, now)
        };
        announced
    }

    /// Notes what was sent of a file, and what it looked like afterwards. Returns whether it had kept
    /// still since it was announced.
    pub fn sent(&mut self, path: PathKey, digest: ContentDigest, after: &Facts) -> bool {
        let Some(row) = self.rows.get_mut(&path) else { return true };
        if row.announced != row.mtime && row.digest != Some(digest) {
            // It changed after it was hashed: these nanoseconds stand for another content now.
            row.salt = row.salt.wrapping_add(1);
        }
        row.digest = Some(digest);
        let still = row.looks_like(after);
        row.unsettled |= !still;
        still
    }

    /// The bytes to keep on disk.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + 48 + self.rows.len() * ROW);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.key);
        for (path, row) in &self.rows {
            bytes.extend_from_slice(path);
            for number in [row.size, row.inode, row.device] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [row.mtime, row.ctime, row.announced, row.newest] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&row.digest.unwrap_or_default());
            bytes.extend_from_slice(&row.salt.to_le_bytes());
            let has_digest = if row.digest.is_some() { HAS_DIGEST } else { 0 };
            bytes.push(has_digest | if row.unsettled { UNSETTLED } else { 0 });
        }
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else, however slight the
    /// difference.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_last_chunk::<32>()?;
        if Sha256::digest(body).as_slice() != check {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let key = *take::<16>(&mut rest)?;
        if !rest.len().is_multiple_of(ROW) {
            return None;
        }
        let mut rows = HashMap::with_capacity(rest.len() / ROW);
        while !rest.is_empty() {
            let path = *take::<16>(&mut rest)?;
            let mut unsigned = || take::<8>(&mut rest).map(|bytes| u64::from_le_bytes(*bytes));
            let (size, inode, device) = (unsigned()?, unsigned()?, unsigned()?);
            let mut signed = || take::<8>(&mut rest).map(|bytes| i64::from_le_bytes(*bytes));
            let (mtime, ctime, announced, newest) = (signed()?, signed()?, signed()?, signed()?);
            let digest = *take::<16>(&mut rest)?;
            let salt = u32::from_le_bytes(*take::<4>(&mut rest)?);
            let [flags] = *take::<1>(&mut rest)?;
            let row = Row {
                size,
                mtime,
                ctime,
                inode,
                device,
                announced,
                newest,
                digest: (flags & HAS_DIGEST != 0).then_some(digest),
                salt,
                unsettled: flags & UNSETTLED != 0,
            };
            rows.insert(path, row);
        }
        Some(Self { key, rows })
    }
}

impl Row {
    fn new(facts: &Facts, now: i64) -> Self {
        let tick = if facts.ctime % SECOND == 0 { COARSE_TICK } else { TICK };
        Self {
            size: facts.size,
            mtime: facts.mtime,
            ctime: facts.ctime,
            inode: facts.inode,
            device: facts.device,
            announced: facts.mtime,
            newest: facts.mtime,
            digest: None,
            salt: 0,
            unsettled: now.saturating_sub(facts.ctime) < tick,
        }
    }

    fn looks_like(&self, facts: &Facts) -> bool {
        self.size == facts.size
            && self.mtime == facts.mtime
            && self.ctime == facts.ctime
            && self.inode == facts.inode
            && self.device == facts.device
    }
}

/// The key of a path in a named directory.
pub fn path_key(directory: &str, path: &str) -> PathKey {
    let digest = Sha256::new()
        .chain_update(directory.as_bytes())
        .chain_update([0])
        .chain_update(path.as_bytes())
        .finalize();
    short(&digest)
}

/// The first half of a SHA-256 digest.
pub fn short(digest: &[u8]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// `mtime` with its second and with nanoseconds drawn from a digest, and never `mtime` itself.
fn perturb(mtime: i64, digest: &ContentDigest, salt: u32) -> i64 {
    let drawn = Sha256::new().chain_update(digest).chain_update(salt.to_le_bytes()).finalize();
    let drawn = drawn.first_chunk().copied().map_or(0, u32::from_le_bytes);
    let start = mtime - mtime.rem_euclid(SECOND);
    let nanoseconds = i64::from(drawn) % (SECOND - 1);
    let own = mtime - start;
    // The file's own nanoseconds are left out of the draw.
    start + if nanoseconds >= own { nanoseconds + 1 } else { nanoseconds }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::{ContentDigest, Facts, Judgement, Ledger, SECOND, path_key, perturb, short};
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};
    use std::collections::HashMap;

    const LATER: i64 = 100 * SECOND;

    fn facts(mtime: i64, ctime: i64) -> Facts {
        Facts { size: 4, mtime, ctime, inode: 1, ..Facts::default() }
    }

    fn digest(text: &str) -> ContentDigest {
        short(&Sha256::digest(text))
    }

    #[test]
    fn a_new_content_under_old_times_is_announced_with_another_mtime() {
        let mut ledger = Ledger::new([1; 16]);
        let path = path_key("context", "a");
        assert_eq!(ledger.judge(path, &facts(7, 8), LATER), Judgement::Announce(7));
        assert!(ledger.sent(path, digest("old"), &facts(7, 8)));
        assert_eq!(ledger.judge(path, &facts(7, 8), LATER), Judgement::Announce(7));
        // Its ctime moved.
        let moved = facts(7, 9);
        assert_eq!(ledger.judge(path, &moved, LATER), Judgement::Hash);
        let announced = ledger.settle(path, &moved, digest("new"), LATER);
        assert_ne!(announced, 7);
        assert_eq!(announced.div_euclid(SECOND), 0, "the second stays");
        assert_eq!(ledger.judge(path, &moved, LATER), Judgement::Announce(announced));
    }

    #[test]
    fn a_touched_file_with_the_same_content_is_announced_as_before() {
        let mut ledger = Ledger::new([1; 16]);
        let path = path_key("context", "a");
        ledger.judge(path, &facts(7, 8), LATER);
        ledger.sent(path, digest("same"), &facts(7, 8));
        let copied = Facts { inode: 2, ..facts(7, 50) };
        assert_eq!(ledger.judge(path, &copied, LATER), Judgement::Hash);
        assert_eq!(ledger.settle(path, &copied, digest("same"), LATER), 7);
        assert_eq!(ledger.judge(path, &copied, LATER), Judgement::Announce(7));
    }

    #[test]
    fn a_file_changed_just_before_the_walk_is_hashed_the_next_time() {
        let mut ledger = Ledger::new([1; 16]);
        let path = path_key("context", "a");
        let fresh = facts(SECOND + 5, SECOND + 5);
        assert_eq!(ledger.judge(path, &fresh, SECOND + 6), Judgement::Announce(SECOND + 5));
        ledger.sent(path, digest("x"), &fresh);
        assert_eq!(ledger.judge(path, &fresh, LATER), Judgement::Hash);
        assert_eq!(ledger.settle(path, &fresh, digest("x"), LATER), SECOND + 5);
        assert_eq!(ledger.judge(path, &fresh, LATER), Judgement::Announce(SECOND + 5));
    }

    #[test]
    fn bytes_on_disk_come_back_or_are_refused() {
        let mut ledger = Ledger::new([7; 16]);
        for name in ["a", "b"] {
            ledger.judge(path_key("context", name), &facts(-5, 8), 8);
        }
        assert!(!ledger.sent(path_key("context", "a"), digest("a"), &facts(-5, 9)), "it changed");
        let bytes = ledger.encode();
        assert_eq!(Ledger::decode(&bytes), Some(ledger));
        for at in [0, 9, 30, bytes.len() - 1] {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert_eq!(Ledger::decode(&broken), None, "byte {at}");
        }
        assert_eq!(Ledger::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Ledger::decode(b""), None);
    }

    proptest! {
        #[test]
        fn perturbed_times_keep_their_second_and_differ(mtime in -4 * SECOND..4 * SECOND, salt in 0_u32..9) {
            let announced = perturb(mtime, &digest("x"), salt);
            prop_assert_ne!(announced, mtime);
            prop_assert_eq!(announced.div_euclid(SECOND), mtime.div_euclid(SECOND));
        }

        /// The rule: whatever happens to a file, one announced mtime stands for one content.
        #[test]
        fn an_announced_mtime_stands_for_one_content(
            steps in prop::collection::vec((0_i64..4, 0_u8..3, any::<bool>(), any::<bool>()), 1..40),
        ) {
            let mut ledger = Ledger::new([1; 16]);
            let path = path_key("context", "a");
            let mut builder: HashMap<i64, u8> = HashMap::new();
            let (mut content, mut mtime) = (0, 0);
            for (ctime, (new_mtime, new_content, touch, lose_request)) in (SECOND..).zip(steps) {
                if new_content != content || touch {
                    (content, mtime) = (new_content, new_mtime);
                } else if new_mtime != mtime {
                    mtime = new_mtime;
                }
                let facts = facts(mtime, ctime);
                let now = LATER;
                let hash = digest(&content.to_string());
                let announced = match ledger.judge(path, &facts, now) {
                    Judgement::Announce(announced) => announced,
                    Judgement::Hash => ledger.settle(path, &facts, hash, now),
                };
                let held = builder.get(&announced).copied();
                prop_assert!(held.is_none_or(|held| held == content), "stale");
                builder.insert(announced, content);
                // A builder that has it already does not ask.
                if held.is_none() && !lose_request {
                    ledger.sent(path, hash, &facts);
                }
            }
        }
    }
}
