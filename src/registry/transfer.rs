//! One blob on its way to one repository: looked for, mounted or sent, gone on with where the
//! registry says it stopped, and given up only when the budget is.

use super::{
    error::{Kind, RegistryError},
    repository::Repository,
    retry::{Patience, RetryBudget, Verdict},
    source::{BlobSource, Outgoing, Pulse, Track},
    upload::{Mount, Opened, Upload},
};
use crate::event::{Event, Events, PushAction, PushStatus, Warning};
use std::{
    future::Future,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A part is no larger than this where the registry takes no large ones, or keeps nothing of a body
/// that was cut.
const PART: u64 = 4 << 20;
/// Parts are made no smaller than this.
const SMALLEST_PART: u64 = 64 << 10;
/// How often somebody looks how far a body has come.
const TICK: Duration = Duration::from_millis(250);
/// What a registry has of a body that was cut is asked for this often, until it stands still.
const SETTLE_TICK: Duration = Duration::from_millis(100);
/// It stands still after this long where more than a part is missing, and else when two answers are the
/// same.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// A registry that has a whole body may take this long to store it.
const STORE_LIMIT: Duration = Duration::from_mins(5);
/// A connection is slow when it has been so for this long.
const SLOW_WINDOW: Duration = Duration::from_secs(10);
/// No connection with this rate is slow, in bytes a second.
const FAST_ENOUGH: u64 = 64 << 10;
/// A connection is slow beside one that was this many times as fast.
const SLOW_RATIO: u64 = 20;
/// So often a blob changes a slow connection for a new one; then it waits.
const SLOW_CHANGES: u32 = 3;
/// So often something that should not happen twice may happen to one blob.
const ODDITIES: u32 = 3;
/// So often an upload of one blob may be lost that has come no further than one before it.
const LOSSES: u32 = 8;

/// What became of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was there.
    Existing,
    /// It was taken from another repository.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// One blob on its way, by itself.
#[derive(Debug)]
pub struct Delivery {
    /// Where it goes.
    pub repository: Repository,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// Repositories of the same registry that may have it, the likeliest first.
    pub candidates: Vec<String>,
    /// What failures may cost.
    pub budget: RetryBudget,
    /// Who hears of the progress.
    pub events: Events,
}

impl Delivery {
    /// Brings the blob there, reading it out of `source` only where it has to be sent.
    ///
    /// # Errors
    /// It could not be brought there for good.
    pub async fn run(&self, source: &dyn BlobSource) -> Result<Outcome, RegistryError> {
        let transfer = Transfer {
            repository: &self.repository,
            source,
            digest: &self.digest,
            size: self.size,
            candidates: self.candidates.clone(),
            budget: self.budget,
            events: &self.events,
        };
        transfer.run().await
    }
}

/// A blob and where it goes.
pub(super) struct Transfer<'a> {
    pub(super) repository: &'a Repository,
    pub(super) source: &'a dyn BlobSource,
    pub(super) digest: &'a str,
    pub(super) size: u64,
    /// Repositories of the same registry that may have it, the likeliest first.
    pub(super) candidates: Vec<String>,
    pub(super) budget: RetryBudget,
    pub(super) events: &'a Events,
}

enum State {
    /// It is not known whether it is there.
    Look,
    /// It is not there.
    Open,
    /// The registry waits for the rest.
    Send(Upload),
    /// It is not known how much of it the registry has.
    Ask(Upload),
    Done(Outcome),
}

/// What lasts from one attempt to the next.
struct Course {
    track: Arc<Track>,
    candidates: Vec<String>,
    patience: Patience,
    began: Instant,
    /// The furthest that the registry has confirmed.
    reached: u64,
    /// Where the registry has answered before, to ask there if the next place leads astray.
    proven: Option<Upload>,
    /// Bytes of the last body that was to be sent.
    last_body: u64,
    /// How far the registry may have the blob after a last body that was cut.
    handed: u64,
    /// Whether it was the whole blob.
    last_whole: bool,
    /// The registry keeps nothing of a body that was cut.
    forgetful: bool,
    was_sent: bool,
    slow_changes: u32,
    oddities: u32,
    refusals: u32,
    losses: u32,
    /// The furthest that an upload had come which was lost.
    lost_at: u64,
}

/// Where to go on after a failure.
type Failed = (State, RegistryError);

impl Transfer<'_> {
    /// Brings the blob there.
    pub(super) async fn run(&self) -> Result<Outcome, RegistryError> {
        let mut course = Course {
            track: self.track(self.source.is_hashed_on_the_way()),
            candidates: self.candidates.clone(),
            patience: Patience::new(self.budget),
            began: Instant::now(),
            reached: 0,
            proven: None,
            last_body: 0,
            handed: 0,
            last_whole: false,
            forgetful: false,
            was_sent: false,
            slow_changes: 0,
            oddities: 0,
            refusals: 0,
            losses: 0,
            lost_at: 0,
        };
        let mut state = State::Look;
        loop {
            state = match self.step(state, &mut course).await {
                Ok(State::Done(outcome)) => {
                    self.tell(match outcome {
                        Outcome::Existing => PushAction::Existing,
                        Outcome::Mounted => PushAction::Mounted,
                        Outcome::Uploaded => PushAction::Uploaded,
                    });
                    return Ok(outcome);
                }
                Ok(next) => next,
                Err((resume, error)) => {
                    let error = self.understood(error, &resume, &course).await;
                    self.after(resume, error, &mut course).await?
                }
            };
        }
    }

    async fn step(&self, state: State, course: &mut Course) -> Result<State, Failed> {
        match state {
            State::Done(outcome) => Ok(State::Done(outcome)),
            State::Look => match self.repository.blob_size(self.digest).await {
                Ok(Some(_)) if course.was_sent => Ok(State::Done(Outcome::Uploaded)),
                Ok(Some(_)) => Ok(State::Done(Outcome::Existing)),
                Ok(None) => Ok(State::Open),
                Err(error) => Err((State::Look, error)),
            },
            State::Open => self.open(course).await,
            State::Ask(upload) => match self.ask(&upload, course).await {
                Ok(known) => {
                    // What was cut is gone, and may be cut again.
                    if known.offset == 0 && course.last_body > PART {
                        course.forgetful = true;
                    }
                    course.confirm(known.offset);
                    course.proven = Some(upload);
                    Ok(State::Send(known))
                }
                Err(error) => Err((State::Ask(upload), error)),
            },
            State::Send(upload) => self.send(upload, course).await,
        }
    }

    /// Asks how far an upload has come. A registry, or what stands before it, may be busy for a moment
    /// with what has arrived of a large body that was cut, and would say too little.
    async fn ask(&self, upload: &Upload, course: &Course) -> Result<Upload, RegistryError> {
        let mut known = self.repository.ask_upload(upload).await?;
        let began = Instant::now();
        let mut since = began;
        loop {
            let limit = match course.handed.saturating_sub(known.offset) {
                missing if missing == 0 || course.last_body <= PART => Duration::ZERO,
                missing if missing <= PART => SETTLE_TICK,
                _ => SETTLE_LIMIT,
            };
            if since.elapsed() >= limit || began.elapsed() >= self.budget.still {
                return Ok(known);
            }
            sleep(SETTLE_TICK).await;
            let next = self.repository.ask_upload(upload).await?;
            if next.offset > known.offset {
                since = Instant::now();
            }
            known = next;
        }
    }

    /// Opens an upload; on the way there, the blob may be found in another repository.
    async fn open(&self, course: &mut Course) -> Result<State, Failed> {
        while !course.candidates.is_empty() {
            let from = course.candidates.remove(0);
            let mount = Mount { digest: self.digest, from: &from };
            match self.repository.open_upload(Some(mount)).await {
                Ok(Opened::Mounted) => return Ok(State::Done(Outcome::Mounted)),
                Ok(Opened::Upload(upload)) if course.candidates.is_empty() => {
                    return Ok(State::Send(upload));
                }
                Ok(Opened::Upload(upload)) => self.repository.cancel_upload(&upload).await,
                // Whatever stands against a mount does not stand against the blob.
                Err(error) => tracing::debug!(%error, from, "no mount"),
            }
        }
        course.proven = None;
        match self.repository.open_upload(None).await {
            Ok(Opened::Upload(upload)) => Ok(State::Send(upload)),
            Ok(Opened::Mounted) => Ok(State::Done(Outcome::Mounted)),
            Err(error) => Err((State::Open, error)),
        }
    }

    async fn send(&self, upload: Upload, course: &mut Course) -> Result<State, Failed> {
        let Some(left) = self.size.checked_sub(upload.offset) else {
            // Not our blob, whatever it is.
            self.repository.cancel_upload(&upload).await;
            course.track = self.track(self.source.is_hashed_on_the_way());
            return Ok(State::Open);
        };
        if left == 0 {
            (course.last_body, course.handed) = (0, 0);
            let closed = self.repository.close_upload(&upload, self.digest, None).await;
            return match closed {
                Ok(()) => Ok(State::Done(Outcome::Uploaded)),
                Err(error) => Err((State::Ask(upload), error)),
            };
        }
        let server = self.repository.server();
        let turn = server.transfers.clone().acquire_owned().await.ok();
        let is_stray = !self.repository.contains(&upload.location).await.unwrap_or(true);
        let (whole, length) = self.form(&upload, left, is_stray, course);
        let stream = match self.source.open(self.digest, upload.offset).await {
            Ok(stream) => stream,
            Err(error) => {
                let error = self.repository.error("read a blob", Kind::Source, &error);
                return Err((State::Send(upload), error));
            }
        };
        let pulse = Arc::new(Pulse::default());
        let range = (upload.offset, length);
        let body = Outgoing::new(stream, course.track.clone(), range, pulse.clone(), turn);
        let body = reqwest::Body::wrap(body);
        course.last_body = length;
        course.was_sent = true;
        if whole {
            let closing = self.repository.close_upload(&upload, self.digest, Some((body, length)));
            let closed = self.watch(closing, &pulse, &upload, length, course).await;
            course.handed = handed(&upload, &pulse, &closed);
            return match closed {
                Ok(()) => Ok(State::Done(Outcome::Uploaded)),
                Err(error) => Err((State::Ask(upload), error)),
            };
        }
        let part = self.repository.send_part(&upload, body, length);
        let sent = self.watch(part, &pulse, &upload, length, course).await;
        course.handed = handed(&upload, &pulse, &sent);
        match sent {
            Ok(next) => {
                if is_stray {
                    let limits = server.limits.lock();
                    limits.unwrap_or_else(PoisonError::into_inner).strays = true;
                }
                course.confirm(next.offset);
                course.proven = Some(upload);
                Ok(State::Send(next))
            }
            Err(error) => {
                // It took the part, and says nonsense of where the next one goes.
                if matches!(error.kind, Kind::Malformed) {
                    course.proven = Some(upload.clone());
                }
                Err((State::Ask(upload), error))
            }
        }
    }

    /// Whether the blob goes in one request that also closes the upload, and how many bytes go.
    ///
    /// What is small goes whole. What is large goes as one part, since registries keep what arrived
    /// of a part that is cut, and forget all of an upload that is cut while it is closed. A
    /// registry that takes no large parts gets the blob whole, and one that has lost it that way
    /// gets small parts. Where an upload leads out of its repository, which may be a mistake, one part is
    /// tried before it gets the rest.
    fn form(&self, upload: &Upload, left: u64, is_stray: bool, course: &mut Course) -> (bool, u64) {
        let limits = self.repository.server().limits.lock();
        let limits = *limits.unwrap_or_else(PoisonError::into_inner);
        let part = limits.part.unwrap_or(left).min(left);
        let from_start = upload.offset == 0;
        let is_small = from_start && left <= PART.min(part);
        let is_careful = course.forgetful || (is_stray && !limits.strays);
        let only_whole = from_start && part < left && !limits.no_whole && !is_careful;
        let (whole, length) = match (is_small || only_whole, is_careful) {
            (true, _) => (true, left),
            (false, true) => (false, part.min(PART)),
            (false, false) => (false, part),
        };
        course.last_whole = whole;
        (whole, length)
    }

    /// Waits for a request whose body is on its way, and gives it up where nothing moves, or far
    /// less than elsewhere.
    async fn watch<T>(
        &self,
        request: impl Future<Output = Result<T, RegistryError>>,
        pulse: &Pulse,
        upload: &Upload,
        length: u64,
        course: &mut Course,
    ) -> Result<T, RegistryError> {
        let server = self.repository.server();
        let began = Instant::now();
        let (mut last, mut moved, mut told) = (0, began, u64::MAX);
        let mut window = (began, 0);
        let mut request = std::pin::pin!(request);
        loop {
            tokio::select! {
                done = request.as_mut() => {
                    let seconds = began.elapsed().as_millis().max(1);
                    let sent = u128::from(pulse.sent.load(Ordering::Relaxed));
                    if done.is_ok() && sent > u128::from(FAST_ENOUGH) {
                        let rate = u64::try_from(sent * 1000 / seconds).unwrap_or(u64::MAX);
                        server.best_rate.fetch_max(rate, Ordering::Relaxed);
                    }
                    return done;
                }
                () = sleep(TICK) => {}
            }
            let sent = pulse.sent.load(Ordering::Relaxed);
            if sent != told {
                told = sent;
                self.tell_progress(upload.offset.saturating_add(sent));
            }
            if sent != last {
                (last, moved) = (sent, Instant::now());
            }
            let limit = if sent == length { STORE_LIMIT } else { self.budget.still };
            if moved.elapsed() > limit {
                let words = format!("nothing moved for {} s", limit.as_secs());
                return Err(self.repository.error("send a blob", Kind::Stalled, &words));
            }
            if window.0.elapsed() >= SLOW_WINDOW {
                let seconds = window.0.elapsed().as_secs().max(1);
                let rate = sent.saturating_sub(window.1) / seconds;
                let best = server.best_rate.load(Ordering::Relaxed);
                let slow = sent < length && rate < FAST_ENOUGH && rate < best / SLOW_RATIO;
                if slow && course.slow_changes < SLOW_CHANGES {
                    course.slow_changes += 1;
                    let words = format!("{rate} bytes a second, where {best} were seen");
                    return Err(self.repository.error("send a blob", Kind::Stalled, &words));
                }
                window = (Instant::now(), sent);
            }
        }
    }

    /// What an error means, with what else is known.
    async fn understood(
        &self,
        mut error: RegistryError,
        resume: &State,
        course: &Course,
    ) -> RegistryError {
        // The connection breaks off, too, when there is nothing more to send.
        if let Some(words) = course.track.take_failure() {
            return self.repository.error("read a blob", Kind::Source, &words);
        }
        let (State::Send(upload) | State::Ask(upload)) = resume else { return error };
        let own = self.repository.server().is_own(&upload.location).await.unwrap_or(true);
        if !own && (!error.is_transient() || matches!(error.kind, Kind::Broken)) {
            error.kind = Kind::ForeignLocation;
        }
        error
    }

    /// Where to go on after `error`, or that there is no going on.
    async fn after(
        &self,
        resume: State,
        error: RegistryError,
        course: &mut Course,
    ) -> Result<State, RegistryError> {
        let is_astray = matches!(
            error.kind,
            Kind::ForeignLocation | Kind::Malformed | Kind::Refused | Kind::UploadLost
        );
        if is_astray && let Some(proven) = course.proven.take() {
            tracing::debug!(%error, "the upload is asked for where it was before");
            return Ok(State::Ask(proven));
        }
        let next = match &error.kind {
            // The token has ended; there is a new one now.
            Kind::Unauthorized if course.refusals < ODDITIES => {
                course.refusals += 1;
                return Ok(resume);
            }
            Kind::TooLarge | Kind::RangeRefused if course.last_body > SMALLEST_PART => {
                self.shrink(course);
                return Ok(resume);
            }
            Kind::UploadLost if course.lost() => {
                course.forgetful |= course.last_whole && course.last_body > PART;
                State::Look
            }
            Kind::DigestWrong | Kind::ForeignLocation | Kind::Refused | Kind::Malformed
                if course.odd() =>
            {
                if let State::Send(upload) | State::Ask(upload) = &resume
                    && matches!(error.kind, Kind::DigestWrong | Kind::Refused)
                {
                    self.repository.cancel_upload(upload).await;
                }
                // If it is the bytes that are wrong, the next attempt finds it.
                course.track = self.track(true);
                match resume {
                    State::Look => State::Look,
                    _ => State::Open,
                }
            }
            Kind::RangeRefused | Kind::Source if course.odd() => resume,
            _ if error.is_away()
                && course.patience.is_in_vain(self.repository.server().has_served()) =>
            {
                return Err(error);
            }
            _ if error.is_away() || error.is_transient() => resume,
            _ => return Err(error),
        };
        // What refuses large bodies does not always wait to say so: it may just hang up.
        if course.patience.failures() >= 2 && course.last_body > PART {
            course.forgetful = true;
        }
        // Who answers that it has forgotten can be told again at once.
        let at_once = matches!(error.kind, Kind::UploadLost) && course.losses <= 1;
        let chance = rand::random::<f64>();
        match course.patience.failed(course.began.elapsed(), error.retry_after, chance) {
            Verdict::GiveUp => Err(error),
            Verdict::Again { pause, left } => {
                let pause = if at_once { Duration::ZERO } else { pause };
                self.tell_retry(&error, pause, left, course);
                sleep(pause).await;
                Ok(next)
            }
        }
    }

    /// Learns from a body that was too large.
    fn shrink(&self, course: &Course) {
        let limits = self.repository.server().limits.lock();
        let mut limits = limits.unwrap_or_else(PoisonError::into_inner);
        if course.last_whole && course.last_body > PART {
            limits.no_whole = true;
        }
        let length = course.last_body;
        let smaller = if length > PART { PART } else { (length / 2).max(SMALLEST_PART) };
        limits.part = Some(limits.part.map_or(smaller, |known| known.min(smaller)));
    }

    fn track(&self, hashed: bool) -> Arc<Track> {
        Track::new(self.digest, self.size, hashed, self.repository.server().byte_count())
    }

    fn tell(&self, action: PushAction) {
        self.events.emit(Event::Push(PushStatus {
            id: self.digest.to_owned(),
            action,
            current: self.size,
            total: Some(self.size),
        }));
    }

    fn tell_progress(&self, current: u64) {
        self.events.emit(Event::Push(PushStatus {
            id: self.digest.to_owned(),
            action: PushAction::Uploading,
            current,
            total: Some(self.size),
        }));
    }

    fn tell_retry(&self, error: &RegistryError, pause: Duration, left: Duration, course: &Course) {
        let short: String = self.digest.chars().take(19).collect();
        let said = error.status.map(|status| format!(" ({status})")).unwrap_or_default();
        tracing::debug!(%error, "a blob is tried again");
        self.events.emit(Event::Warning(Warning {
            code: "PUSH_RETRY",
            message: format!(
                "{short}: {}{said}; going on at {} of {} bytes in {:.1} s, with {} s of the retry \
                 budget left",
                error.cause(),
                course.reached,
                self.size,
                pause.as_secs_f64(),
                left.as_secs(),
            ),
            hint: None,
        }));
    }
}

/// How far the registry may have a blob of which a body has `ended`. At the most: some of what was sent may
/// have got no further than this machine. A registry that refused the body has nothing of it.
fn handed<T>(upload: &Upload, pulse: &Pulse, ended: &Result<T, RegistryError>) -> u64 {
    let is_refused =
        |error: &RegistryError| error.status.is_some_and(|status| (400..500).contains(&status));
    let sent = match ended {
        Err(error) if is_refused(error) => 0,
        _ => pulse.sent.load(Ordering::Relaxed),
    };
    upload.offset.saturating_add(sent)
}

impl Course {
    /// The registry has this much.
    fn confirm(&mut self, offset: u64) {
        if offset > self.reached {
            self.reached = offset;
            self.patience.progress();
            self.refusals = 0;
        }
    }

    /// Counts something that should not happen; whether it may once more.
    fn odd(&mut self) -> bool {
        self.oddities += 1;
        self.oddities <= ODDITIES
    }

    /// Counts an upload that the registry has forgotten; whether another may begin. That happens to every
    /// registry, and as long as each one gets further than those before, nothing is wrong.
    fn lost(&mut self) -> bool {
        if self.reached <= self.lost_at {
            self.losses += 1;
        }
        self.lost_at = self.lost_at.max(self.reached);
        self.reached = 0;
        self.losses <= LOSSES
    }
}
