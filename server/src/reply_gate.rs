//! Replies in order, each held until the log has reached the LSN it shows (design section 3). One gate per worker: its
//! connections hand over their output, [`ReplyGate::run`] writes the log once for all of them and sends what may be sent.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_storage::log::{AckPoint, Log};
use holdfast_words::Lsn;
use tokio::sync::Notify;

use crate::clients::ClientInfo;
use crate::platform::{OwnedWriteHalf, witness};

/// One connection's output: encoded replies and how far they may be sent.
#[derive(Default)]
pub struct Output {
    /// Encoded replies not yet sent.
    pub bytes: Vec<u8>,
    /// Bytes of `bytes` already sent.
    sent: usize,
    /// `(end, lsn)`: bytes below `end` (counted from the front of `bytes`) wait for `lsn`; ascending in both.
    gates: VecDeque<(usize, Lsn)>,
    /// The log was written up to here when the connection's turn began: what lies above it is written at once.
    written: Lsn,
    /// Bytes of `bytes` that no gate holds.
    open: usize,
    /// The socket took no more; the connection's task waits for it.
    pub blocked: bool,
    /// Sending failed, or the log can never reach a held reply's LSN: the connection ends.
    pub broken: bool,
    /// The connection's task wants to hear of every send.
    pub tell_when_sent: bool,
    /// The outlet stands in the gate's queue of held ones.
    held: bool,
}

impl Output {
    /// A connection's turn begins, with the log written up to here.
    pub fn begin_turn(&mut self, written: Lsn) {
        self.written = written;
    }

    /// What has been appended to `bytes` since the last call waits for `lsn`.
    pub fn gate(&mut self, lsn: Lsn) {
        let end = self.bytes.len();
        match self.gates.back_mut() {
            // An earlier reply on this connection waits for as much or more: order on a connection is kept. Or both show what
            // is not written yet: one write takes both, and they are released together.
            Some((last_end, last_lsn)) if *last_lsn >= lsn || *last_lsn > self.written => {
                *last_end = end;
                *last_lsn = lsn.max(*last_lsn);
            }
            _ => self.gates.push_back((end, lsn)),
        }
    }

    /// What has been appended since shows no slot's state: it waits only for what stands before it.
    pub fn gate_nothing(&mut self) {
        self.gate(Lsn::ZERO);
    }

    /// Takes back what was appended from `start` (of `bytes`) on: it is replaced or not wanted.
    pub fn withdraw(&mut self, start: usize) {
        self.bytes.truncate(start);
        if let Some((end, _)) = self.gates.back_mut() {
            *end = start.max(self.open).min(*end);
        }
    }

    /// Bytes not yet sent.
    pub fn pending(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The LSN that the first held reply waits for.
    fn waits_for(&self) -> Option<Lsn> {
        self.gates.front().map(|&(_, lsn)| lsn)
    }

    fn open_up_to(&mut self, reached: Lsn) {
        while let Some(&(end, lsn)) = self.gates.front()
            && lsn <= reached
        {
            self.open = end;
            self.gates.pop_front();
        }
    }

    /// Sends what is open, as far as the socket takes it; returns the bytes sent.
    fn send(&mut self, stream: &OwnedWriteHalf) -> usize {
        let before = self.sent;
        self.blocked = false;
        while self.sent < self.open {
            match stream.try_write(&self.bytes[self.sent..self.open]) {
                Ok(0) => {
                    self.broken = true;
                    break;
                }
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.broken = true;
                    break;
                }
            }
        }
        let count = self.sent - before;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            (self.sent, self.open) = (0, 0);
        }
        count
    }

    /// The memory of the output, when there is none to send: an idle connection keeps nothing.
    fn give_back(&mut self) -> Option<Vec<u8>> {
        (self.bytes.is_empty() && self.bytes.capacity() > 0).then(|| std::mem::take(&mut self.bytes))
    }
}

/// What the gate and the connection's task share.
pub struct Outlet {
    /// The socket.
    pub stream: OwnedWriteHalf,
    /// The client, for its counters and to wake its task.
    pub info: Arc<ClientInfo>,
    /// Replies on their way out.
    pub output: RefCell<Output>,
}

impl Outlet {
    /// Sends what may be sent now; wakes the connection's task when it has to act.
    fn send(&self) -> usize {
        let mut output = self.output.borrow_mut();
        let count = output.send(&self.stream);
        self.info.output_buffer_bytes.store(output.pending(), Ordering::Relaxed);
        if output.blocked || output.broken || (output.tell_when_sent && count > 0) {
            self.info.wake.call();
        }
        count
    }

    /// Sends on what is open, after the socket took no more; `true` when the connection is gone. Called by the
    /// connection's task.
    pub fn resume(&self) -> bool {
        self.send();
        self.output.borrow_mut().give_back();
        self.output.borrow().broken
    }

    fn break_off(&self) {
        self.output.borrow_mut().broken = true;
        self.info.wake.call();
    }

    /// The connection ends: what is still held is never sent.
    pub fn close(&self) {
        let mut output = self.output.borrow_mut();
        output.gates.clear();
        output.bytes.clear();
        (output.sent, output.open) = (0, 0);
    }
}

struct Waiting {
    lsn: Lsn,
    outlet: Rc<Outlet>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.lsn == other.lsn
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lsn.cmp(&other.lsn)
    }
}

/// One worker's gate.
#[derive(Default)]
pub struct ReplyGate {
    submitted: RefCell<Vec<Rc<Outlet>>>,
    waiting: RefCell<BinaryHeap<Reverse<Waiting>>>,
    /// Woken by the worker's connections when they submit, and by the log when a position moves.
    wake: Arc<Notify>,
    /// [`Positions::cuts`](holdfast_storage::log::Positions::cuts) as of the held replies.
    cuts: Cell<u64>,
    /// Memory for output, lent to whoever has some.
    spares: RefCell<Vec<Vec<u8>>>,
}

/// Output buffers kept for the next turn, and the largest that is.
const SPARES_KEPT: usize = 64;
const SPARE_BYTES_MAX: usize = 64 * 1024;

impl ReplyGate {
    /// What wakes the gate; the log's positions are told of it.
    pub fn waker(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Replies are held for this log from now on.
    pub fn follow(&self, log: &Log) {
        self.cuts.set(log.positions().cuts());
    }

    /// Memory for a connection's output, unless it has some.
    pub fn lend(&self, output: &mut Output) {
        if output.bytes.capacity() == 0
            && let Some(spare) = self.spares.borrow_mut().pop()
        {
            output.bytes = spare;
        }
    }

    /// Takes back what was lent, unless there is output in it.
    pub fn take_back(&self, output: &mut Output) {
        if let Some(spare) = output.give_back() {
            let mut spares = self.spares.borrow_mut();
            if spares.len() < SPARES_KEPT && spare.capacity() <= SPARE_BYTES_MAX {
                spares.push(spare);
            }
        }
    }

    /// The connection has output. It is sent after the worker's other ready connections had their turn.
    pub fn submit(&self, outlet: &Rc<Outlet>) {
        let mut submitted = self.submitted.borrow_mut();
        if submitted.is_empty() {
            self.wake.notify_one();
        }
        submitted.push(outlet.clone());
    }

    /// One turn: writes the log up to what the submitted replies show, sends what has reached the configured point, keeps
    /// the rest. Returns the bytes sent.
    pub fn flush(&self, log: &Log, point: AckPoint) -> usize {
        let mut submitted = std::mem::take(&mut *self.submitted.borrow_mut());
        let newest = submitted
            .iter()
            .filter_map(|outlet| outlet.output.borrow().gates.back().map(|gate| gate.1))
            .max();
        if let Some(lsn) = newest
            && log.positions().written_lsn() < lsn
            && let Err(error) = log.submit(lsn)
        {
            // A full disk keeps what is pending and writes it when there is space: the replies wait. A poisoned log never
            // will: the connections are closed without an answer, so that nothing is acknowledged that may be lost.
            if error.is_final() {
                submitted.iter().for_each(|outlet| outlet.break_off());
            }
        }
        let reached = log.positions().reached(point);
        // Looked at after the position: one from behind the cut shows the cut.
        let cuts = log.positions().cuts();
        if self.cuts.replace(cuts) != cuts {
            // What the replies show was taken back: this node was not the master any more when it logged it.
            submitted.retain(|outlet| {
                let shows_data = outlet.output.borrow().gates.iter().any(|&(_, lsn)| lsn > Lsn::ZERO);
                if shows_data {
                    outlet.break_off();
                }
                !shows_data
            });
            self.break_off_held();
        }
        let mut waiting = self.waiting.borrow_mut();
        let mut sent = 0;
        for outlet in submitted.drain(..) {
            sent += self.release(&mut waiting, outlet, reached);
        }
        while waiting.peek().is_some_and(|Reverse(first)| first.lsn <= reached) {
            if let Some(Reverse(Waiting { outlet, .. })) = waiting.pop() {
                outlet.output.borrow_mut().held = false;
                sent += self.release(&mut waiting, outlet, reached);
            }
        }
        if self.submitted.borrow().is_empty() {
            *self.submitted.borrow_mut() = submitted;
        }
        sent
    }

    fn release(&self, waiting: &mut BinaryHeap<Reverse<Waiting>>, outlet: Rc<Outlet>, reached: Lsn) -> usize {
        let sent = {
            outlet.output.borrow_mut().open_up_to(reached);
            witness::released(outlet.info.id, reached);
            outlet.send()
        };
        let mut output = outlet.output.borrow_mut();
        self.take_back(&mut output);
        if let Some(lsn) = output.waits_for()
            && !output.held
            && !output.broken
        {
            output.held = true;
            drop(output);
            waiting.push(Reverse(Waiting { lsn, outlet }));
        }
        sent
    }

    /// The log can never reach what the held replies wait for: their connections end without an answer.
    pub fn break_off_held(&self) {
        for Reverse(Waiting { outlet, .. }) in self.waiting.borrow_mut().drain() {
            outlet.break_off();
        }
    }
}
