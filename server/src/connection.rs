//! One client's connection: bytes in, commands run, output handed to the worker's reply gate. Runs as a task of the worker
//! that accepted it and never leaves that worker.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use holdfast_storage::look_ahead::{MemberWords, Members, fetch_members};
use tokio::io::AsyncReadExt;

use crate::clients::ClientInfo;
use crate::command::errors::CommandError;
use crate::platform::{self, OwnedReadHalf, TcpStream};
use crate::reply_gate::{Outlet, Output};
use crate::resp::{Batch, ReplyWriter, RequestParser};
use crate::run::{self, Outcome, RunScratch};
use crate::session::Session;
use crate::worker::Worker;

/// Bytes asked of the socket at once, as Redis does (PROTO_IOBUF_LEN), where a request has begun that is not there as a whole.
const READ_BYTES: usize = 16 * 1024;
/// Bytes asked of the socket at once where none has.
const SHARED_BYTES: usize = 64 * 1024;
/// A connection with this much unsent output is not read from until some of it is gone.
const OUTPUT_PAUSE_BYTES: usize = 1 << 20;

/// Serves a client until it leaves, is killed or breaks the protocol.
pub async fn serve(worker: Rc<Worker>, stream: TcpStream, info: Arc<ClientInfo>) {
    let (input, output) = platform::split(stream);
    let outlet =
        Rc::new(Outlet { stream: output, info: info.clone(), output: RefCell::new(Output::default()) });
    let session = Session::new(info.clone(), !worker.node.password_required());
    let parser = RequestParser::default();
    let mut connection = Connection { worker, input, outlet, session, parser, unread: Vec::new() };
    if let Err(error) = connection.run().await
        && !matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    {
        tracing::debug!(client = info.id, %error, "client connection failed");
    }
    connection.outlet.close();
    run::forget_watches(&connection.worker.node, &mut connection.session);
    connection.worker.node.clients.disconnect(info.id);
}

struct Connection {
    worker: Rc<Worker>,
    input: OwnedReadHalf,
    outlet: Rc<Outlet>,
    session: Session,
    parser: RequestParser,
    /// Bytes read and not yet run; between turns they are the beginning of a request, and nearly always none. What is read
    /// where there are none goes to the worker's buffer first, so that an idle connection has no memory for it.
    unread: Vec<u8>,
}

/// Why the connection's task goes on.
enum Event {
    Read(usize),
    Woken,
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            match self.event().await? {
                Event::Read(0) => return Ok(()),
                Event::Read(count) => self.worker.node.stats.input_bytes.add(count as u64),
                Event::Woken => {
                    if self.session.info.killed.load(Ordering::Acquire) {
                        return Ok(());
                    }
                    self.drain_blocked().await?;
                    continue;
                }
            }
            if !self.run_unread().await? {
                return self.drain().await;
            }
            if self.outlet.output.borrow().pending() > OUTPUT_PAUSE_BYTES {
                self.drain_below(OUTPUT_PAUSE_BYTES).await?;
            }
        }
    }

    /// More input, which stands in `unread` or the worker's buffer and is to be run before anything is waited for; or somebody
    /// wants the task's attention.
    async fn event(&mut self) -> io::Result<Event> {
        let Self { worker, input, unread, session, .. } = self;
        poll_fn(|context| {
            let mut shared = worker.input.borrow_mut();
            let (buffer, room) = match unread.is_empty() {
                true => (&mut *shared, SHARED_BYTES),
                false => (&mut *unread, READ_BYTES),
            };
            if buffer.capacity() - buffer.len() < room {
                buffer.reserve(room);
            }
            if let Poll::Ready(read) = pin!(input.read_buf(buffer)).poll(context) {
                return Poll::Ready(read.map(Event::Read));
            }
            session.info.wake.poll_called(context).map(|()| Ok(Event::Woken))
        })
        .await
    }

    /// Runs every whole request of `unread`; `false` when the connection is to be closed once its output is sent.
    async fn run_unread(&mut self) -> io::Result<bool> {
        loop {
            match self.run_until_pause() {
                Pause::NeedInput => {
                    self.submit();
                    self.session.info.query_buffer_bytes.store(self.unread.len(), Ordering::Relaxed);
                    return Ok(self.is_within_query_buffer());
                }
                Pause::Close => {
                    self.submit();
                    return Ok(false);
                }
                Pause::Later(reply) => {
                    self.submit();
                    let Some(reply) = self.until_killed(reply).await else { return Ok(false) };
                    self.outlet.output.borrow_mut().bytes.extend_from_slice(&reply);
                    self.outlet.output.borrow_mut().gate_nothing();
                }
                Pause::Hold(released) => {
                    self.submit();
                    let Some(()) = self.until_killed(released).await else { return Ok(false) };
                }
            }
        }
    }

    /// A client that sends on and on without ending its command is let go, as Redis does.
    fn is_within_query_buffer(&self) -> bool {
        let limit = self.worker.node.config.snapshot().client_query_buffer_limit;
        let is_within = self.unread.len() <= limit;
        if !is_within {
            let (client, bytes) = (self.session.info.address, self.unread.len());
            tracing::warn!(%client, bytes, limit, "closing a client that reached client-query-buffer-limit");
        }
        is_within
    }

    fn run_until_pause(&mut self) -> Pause {
        let mut output = self.outlet.output.borrow_mut();
        let mut scratch = self.worker.scratch.borrow_mut();
        let mut shared = self.worker.input.borrow_mut();
        let bytes = if self.unread.is_empty() { &*shared } else { &self.unread };
        self.worker.gate.lend(&mut output);
        output.begin_turn(self.worker.node.store.log().positions().written_lsn());
        scratch.begin_turn();
        let limits = scratch.request_limits(&self.session);
        let mut consumed = 0;
        let mut batch = Batch::default();
        let pause = loop {
            if output.pending() > OUTPUT_PAUSE_BYTES * 16 {
                // A pipeline of large replies: send some before making more.
                break Pause::Hold(Box::pin(std::future::ready(())));
            }
            if batch.is_empty() && self.parser.batch(&bytes[consumed..], &mut batch, &limits) {
                look_ahead(&self.worker, &batch, &mut scratch);
            }
            let request;
            let (arguments, length) = match batch.next_request() {
                Some(next) => next,
                None => match self.parser.next(bytes, &mut consumed, &limits) {
                    Ok(None) => break Pause::NeedInput,
                    Ok(Some(found)) => {
                        request = found;
                        (request.arguments(), request.length())
                    }
                    Err(error) => {
                        let error = CommandError::Protocol(error);
                        ReplyWriter::new(&mut output.bytes, self.session.protocol).error(&error);
                        output.gate_nothing();
                        break Pause::Close;
                    }
                },
            };
            let outcome =
                run::request(&self.worker.node, &mut self.session, arguments, &mut output, &mut scratch);
            match outcome {
                Outcome::Done => consumed += length,
                Outcome::Close => {
                    consumed += length;
                    break Pause::Close;
                }
                Outcome::Later(reply) => {
                    consumed += length;
                    break Pause::Later(reply);
                }
                Outcome::Hold(released) => break Pause::Hold(released),
            }
        };
        drop(batch);
        scratch.end_turn(&self.worker.node, &self.session);
        drop(output);
        drop(scratch);
        if self.unread.is_empty() {
            self.unread.extend_from_slice(&shared[consumed..]);
            shared.clear();
        } else if consumed == self.unread.len() {
            self.unread = Vec::new();
        } else {
            self.unread.drain(..consumed);
        }
        pause
    }

    fn submit(&self) {
        let mut output = self.outlet.output.borrow_mut();
        if output.pending() > 0 {
            self.worker.gate.submit(&self.outlet);
        } else {
            self.worker.gate.take_back(&mut output);
        }
    }

    /// Waits for `work`, unless the client is killed or leaves first.
    async fn until_killed<T>(&mut self, mut work: Pin<Box<dyn Future<Output = T>>>) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.session.info.wake.called() => {
                    if self.session.info.killed.load(Ordering::Acquire) || self.outlet.resume() {
                        return None;
                    }
                }
            }
        }
    }

    async fn drain_blocked(&mut self) -> io::Result<()> {
        while self.outlet.output.borrow().blocked {
            self.outlet.stream.writable().await?;
            if self.outlet.resume() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        if self.outlet.output.borrow().broken { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    async fn drain_below(&mut self, limit: usize) -> io::Result<()> {
        self.outlet.output.borrow_mut().tell_when_sent = true;
        while self.outlet.output.borrow().pending() > limit {
            self.session.info.wake.called().await;
            if self.session.info.killed.load(Ordering::Acquire) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.drain_blocked().await?;
        }
        self.outlet.output.borrow_mut().tell_when_sent = false;
        Ok(())
    }

    /// Sends everything, then lets the connection end.
    async fn drain(&mut self) -> io::Result<()> {
        self.drain_below(0).await
    }
}

/// Has the memory fetched that a batch of requests needs.
fn look_ahead(worker: &Worker, batch: &Batch<'_>, scratch: &mut RunScratch) {
    if batch.all().len() < 2 {
        return;
    }
    let slots = worker.node.store.slots();
    let (mut last_key, mut is_one_key, mut members) = (None, true, Members::new());
    for words in batch.all() {
        // Most commands have their (first) key here.
        let [_, key, arguments @ ..] = words else { continue };
        if last_key != Some(*key) {
            is_one_key &= last_key.is_none();
            scratch.ahead.add(key);
            last_key = Some(*key);
        }
        if let [next, ..] = arguments
            && is_one_key
        {
            members.push(MemberWords { next, last: words[words.len() - 1] });
        }
    }
    scratch.ahead.fetch(slots);
    if let Some(key) = last_key
        && is_one_key
        && members.len() > 1
    {
        fetch_members(slots, key, &members);
    }
}

/// Why a run of requests stopped.
enum Pause {
    /// No whole request is left.
    NeedInput,
    /// The client leaves or is thrown out.
    Close,
    /// The last request's reply comes later.
    Later(Pin<Box<dyn Future<Output = Vec<u8>>>>),
    /// The next request may not run before this (CLIENT PAUSE, a handover).
    Hold(Pin<Box<dyn Future<Output = ()>>>),
}
