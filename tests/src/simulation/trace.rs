//! What happened, in order, readable: the nodes' own log, faults, disks, clients. Byte for byte the same for the same seed.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// A trace in the making.
#[derive(Default)]
pub struct Trace {
    text: RefCell<String>,
    now_us: Cell<u64>,
}

static PANICKED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static TRACE: RefCell<Option<Rc<Trace>>> = const { RefCell::new(None) };
}

impl Trace {
    /// The trace of this thread, to which the nodes' logs and panics go from now on.
    pub fn start() -> Rc<Self> {
        let trace = Rc::new(Self::default());
        TRACE.with(|place| *place.borrow_mut() = Some(trace.clone()));
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::Relaxed);
            note(format_args!("PANIC {info}\n{}", std::backtrace::Backtrace::force_capture()));
            before(info);
        }));
        trace
    }

    /// The moment of what is noted next.
    pub fn set_now_us(&self, now_us: u64) {
        self.now_us.set(now_us);
    }

    /// The moment of what is noted next.
    pub fn now_us(&self) -> u64 {
        self.now_us.get()
    }

    /// One line.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let Ok(mut text) = self.text.try_borrow_mut() else { return };
        let now = self.now_us.get();
        let who = super::world::running().map_or("--".to_owned(), |node| format!("n{node}"));
        writeln!(text, "{:5}.{:06} {who:>2} {what}", now / 1_000_000, now % 1_000_000)
            .expect("a string takes everything");
    }

    /// How long the text is.
    pub fn length(&self) -> usize {
        self.text.borrow().len()
    }

    /// Whether what was noted after the first `length` bytes has this text in it.
    pub fn has_since(&self, length: usize, what: &str) -> bool {
        self.text.borrow()[length..].contains(what)
    }

    /// All lines so far.
    pub fn text(&self) -> String {
        self.text.borrow().clone()
    }
}

/// One line of this thread's trace, if it has one.
pub fn note(what: fmt::Arguments<'_>) {
    if let Ok(Some(trace)) = TRACE.try_with(|trace| trace.try_borrow().ok()?.clone()) {
        trace.note(what);
    }
}

/// Whether a node panicked.
pub fn has_panicked() -> bool {
    PANICKED.load(Ordering::Relaxed)
}

/// Writes the nodes' log lines to the trace.
pub struct NodeLog {
    level: Level,
}

impl NodeLog {
    /// Lines of this level and above.
    pub fn new(level: Level) -> Self {
        Self { level }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        }
        .expect("a string takes everything");
    }
}

impl Subscriber for NodeLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_raft = metadata.target().starts_with("openraft");
        let is_ours =
            metadata.target().starts_with("holdfast") || is_raft && *metadata.level() <= Level::ERROR;
        is_ours && !metadata.is_span() && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        // Raft says of every message to a node that is gone that it is gone, many times a second.
        if event.metadata().target().starts_with("openraft") && line.0.contains("Unreachable node") {
            return;
        }
        note(format_args!("{} {}", event.metadata().level(), line.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
