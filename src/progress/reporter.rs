//! The one reader of events: a thread that keeps the state and writes the view to stderr.

use super::{
    closing::closing,
    pace::Pace,
    plain::Plain,
    rawjson,
    state::State,
    summary::Summary,
    synthetic::Synthesizer,
    timeline::Timeline,
    tty::{Look, Size, Tty},
};
use crate::event::{Event, Events};
use std::{
    fmt::Write as _,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How often a view may do something of its own accord.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of output that may wait for a slow stderr; what comes on top is dropped, and counted, so
/// that a paused terminal stops neither the build nor grows the process.
const MAX_WAITING: usize = 8 << 20;

/// How progress is written.
#[derive(Debug)]
pub enum Mode {
    /// Lines.
    Plain,
    /// Not at all.
    Quiet,
    /// BuildKit's status as JSON.
    RawJson,
    /// A view that is redrawn.
    Tty(Terminal),
}

/// The terminal of a view that is redrawn.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Its size now.
    pub size: fn() -> Size,
    /// What it can show.
    pub look: Look,
}

/// Reads events until it is told to finish.
#[derive(Debug)]
pub struct Reporter {
    messages: mpsc::Sender<Message>,
    thread: thread::JoinHandle<Summary>,
}

#[derive(Debug)]
enum Message {
    Event(Event),
    /// Whether all went well.
    Finish(bool),
}

impl Reporter {
    /// Starts to write to `out`, and gives the handle that stages emit through.
    pub fn start(mode: &Mode, out: Box<dyn Write + Send>) -> (Self, Events) {
        let (messages, received) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::new(AtomicUsize::new(0));
        let reader = Reader {
            started: SystemTime::now(),
            view: View::new(mode),
            out,
            synthesizer: Synthesizer::default(),
            state: State::default(),
            pace: Pace::default(),
            waiting: Arc::clone(&waiting),
            dropped: Arc::clone(&dropped),
        };
        let thread = thread::spawn(move || reader.run(&received));
        let sender = messages.clone();
        let events = Events::new(move |mut event| {
            let size = output_size(&event);
            if size > 0 && waiting.fetch_add(size, Ordering::Relaxed) > MAX_WAITING {
                waiting.fetch_sub(size, Ordering::Relaxed);
                dropped.fetch_add(size, Ordering::Relaxed);
                if let Event::Build(status) = &mut event {
                    status.logs.clear();
                }
            }
            // After the end nobody reads: what is said then is lost, as it should be.
            drop(sender.send(Message::Event(event)));
        });
        (Self { messages, thread }, events)
    }

    /// Writes what is left and, by whether all went `well`, how it ended; gives what a command's end
    /// needs.
    pub fn finish(self, well: bool) -> Summary {
        drop(self.messages.send(Message::Finish(well)));
        self.thread.join().unwrap_or_default()
    }
}

/// Bytes of output in an event.
fn output_size(event: &Event) -> usize {
    match event {
        Event::Build(status) => status.logs.iter().map(|log| log.data.len()).sum(),
        _ => 0,
    }
}

#[derive(Debug)]
enum View {
    Plain(Plain),
    Quiet,
    RawJson,
    Tty(Tty, Terminal),
}

impl View {
    fn new(mode: &Mode) -> Self {
        match *mode {
            Mode::Plain => Self::Plain(Plain::default()),
            Mode::Quiet => Self::Quiet,
            Mode::RawJson => Self::RawJson,
            Mode::Tty(terminal) => Self::Tty(Tty::new(SystemTime::now(), terminal.look), terminal),
        }
    }
}

struct Reader {
    started: SystemTime,
    view: View,
    out: Box<dyn Write + Send>,
    synthesizer: Synthesizer,
    state: State,
    pace: Pace,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Reader {
    fn run(mut self, received: &mpsc::Receiver<Message>) -> Summary {
        let well = loop {
            let mut text = String::new();
            match received.recv_timeout(TICK) {
                Ok(Message::Event(event)) => self.event(event, &mut text),
                Ok(Message::Finish(well)) => break well,
                Err(RecvTimeoutError::Disconnected) => break false,
                Err(RecvTimeoutError::Timeout) => {
                    if let View::Plain(plain) = &mut self.view {
                        plain.tick(&self.state, SystemTime::now(), &mut text);
                    }
                }
            }
            if let View::Tty(tty, terminal) = &mut self.view
                && self.pace.is_due(Instant::now())
            {
                text.push_str(&tty.draw(&self.state, SystemTime::now(), (terminal.size)()));
            }
            self.write(&text);
        };
        let (mut text, now) = (String::new(), SystemTime::now());
        match &mut self.view {
            View::Plain(plain) => {
                plain.end(&self.state, now, &mut text);
                for line in closing(&self.state, well, self.started, now) {
                    text.push_str(&line);
                    text.push('\n');
                }
            }
            View::Tty(tty, terminal) => text = tty.end(&self.state, well, now, (terminal.size)()),
            View::Quiet | View::RawJson => {}
        }
        self.write(&text);
        let timeline = Timeline::of(&self.state, well, self.started, now);
        let summary = Summary::of(&self.state, timeline);
        if !matches!(self.view, View::Quiet | View::RawJson) {
            let look = match self.view {
                View::Tty(_, terminal) => terminal.look,
                // Colours of lines are taken out on their way, where nobody wants them.
                _ => Look { colours: true, ..Look::default() },
            };
            let text = summary.lints.iter().map(|lint| lint.render(look));
            let text: String = text.collect();
            if !text.is_empty() {
                self.write(&format!("\n{text}"));
            }
        }
        summary
    }

    fn event(&mut self, event: Event, text: &mut String) {
        let now = SystemTime::now();
        self.waiting.fetch_sub(output_size(&event), Ordering::Relaxed);
        let Some(told) = self.synthesizer.tell(event, now) else { return };
        if let View::RawJson = self.view {
            text.push_str(&rawjson::line(&told));
        }
        let changes = self.state.apply(told);
        if let View::Tty(tty, terminal) = &mut self.view {
            tty.note(&self.state, &changes, now, (terminal.size)());
        }
        if let View::Plain(plain) = &mut self.view {
            plain.write(&self.state, &changes, now, text);
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let _cannot_fail =
                    writeln!(text, "… {dropped} bytes of output were dropped: stderr is too slow");
            }
        }
    }

    fn write(&mut self, text: &str) {
        if !text.is_empty() {
            // Where stderr is gone, the work goes on, and the exit code still tells.
            drop(self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()));
        }
    }
}
