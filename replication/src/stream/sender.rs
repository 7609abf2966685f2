//! From the master: log and full copies to one replica. Reads the log's files (what was written just now is still in the
//! kernel's memory), so that a replica that is slow or away costs the master no memory but one chunk and the socket's buffer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::Discriminant;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use holdfast_storage::checkpoint::image_format::{ChunkHeader, Compression, ImageBuilder};
use holdfast_storage::log::{AppendError, Log, ReadError};
use holdfast_words::{Epoch, LogPoint, Lsn, NodeId, SLOT_COUNT, ShardId, SlotId};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::member::Member;
use super::rejoin::{LogSpan, Rejoin, rejoin};
use super::replicas::{Progress, Replicas};
use super::same_bytes::{self, Asker};
use crate::links::book::{AddressBook, Reached};
use crate::links::connect::{BusConnection, BusReader, BusWriter};
use crate::platform;
use crate::wire::body::BodyError;
use crate::wire::frame::FrameError;
use crate::wire::log_stream::{CopySoFar, Message};

/// Bytes of log in one message, about.
const CHUNK_BYTES: usize = 256 << 10;
/// Further behind than this, the log may have to come from the disk, which the bus's thread must not wait for.
const NEAR_BYTES: u64 = 1 << 20;

/// What this node is master of, if it is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mastership {
    /// The shard.
    pub shard: ShardId,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Why a replica is not served any longer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the replica hung up")]
    Ended,
    #[error("the replica has been silent for {0} ms")]
    Silent(u64),
    #[error("it is no replica of this shard any more, or it has a newer connection")]
    NotServed,
    #[error("it asked what this node leads, and was answered")]
    Answered,
    #[error("this node is not the master")]
    NotMaster,
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{fault}; the bytes cannot be had from another member ({why}): who needs them copies everything")]
    Damaged { fault: ReadError, why: String },
    #[error("the log was cut")]
    Cut,
    #[error("an image could not be made: {0}")]
    Image(String),
    #[error("it sent something out of turn: {0}")]
    OutOfTurn(&'static str),
    #[error("{0}")]
    Refused(String),
}

/// Serves replicas.
pub struct Sender {
    member: Arc<Member>,
    replicas: Arc<Replicas>,
    mastership: watch::Receiver<Option<Mastership>>,
    book: AddressBook,
    written: Arc<Notify>,
    node_timeout_ms: u64,
    /// Whom the log says to be refused, and why; it does not say it again with every try.
    told: Mutex<BTreeMap<NodeId, Discriminant<SendError>>>,
    /// Where the log gets back what damage took from it.
    asker: Arc<Asker>,
    /// Damage that could not be mended: who needs the log from below here gets a full copy.
    unreadable: Mutex<Option<Lsn>>,
}

impl Sender {
    /// Serves while `mastership` says so.
    pub fn new(
        member: Arc<Member>,
        replicas: Arc<Replicas>,
        book: AddressBook,
        mastership: watch::Receiver<Option<Mastership>>,
        asker: Arc<Asker>,
        node_timeout_ms: u64,
    ) -> Arc<Self> {
        let written = Arc::new(Notify::new());
        let wake = written.clone();
        member.store.log().positions().subscribe_written(move || wake.notify_waiters());
        let (told, unreadable) = (Mutex::default(), Mutex::default());
        Arc::new(Self {
            member,
            replicas,
            book,
            mastership,
            written,
            node_timeout_ms,
            told,
            asker,
            unreadable,
        })
    }

    /// Serves the replica at the other end until one side has enough.
    pub async fn serve(self: Arc<Self>, connection: BusConnection, from: SocketAddr) {
        let peer = connection.peer;
        let BusConnection { mut reader, mut writer, .. } = connection;
        let error = match self.serve_until_error((peer, from), &mut reader, &mut writer).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        match &error {
            SendError::Answered => return,
            SendError::Ended | SendError::Frame(_) => {
                tracing::info!(replica = %peer, %error, "a replica left")
            }
            _ if self.is_news(peer, &error) => {
                tracing::warn!(replica = %peer, %error, "the log stream to a replica ends")
            }
            _ => tracing::debug!(replica = %peer, %error, "the log stream to a replica ends"),
        }
        if let Ok(bytes) = (Message::Refused { reason: error.to_string() }).encode() {
            // It may be gone already; then there is nobody to tell.
            platform::within_ms(1000, writer.send(&bytes)).await.map(Result::ok);
        }
    }

    fn is_news(&self, peer: NodeId, error: &SendError) -> bool {
        let kind = std::mem::discriminant(error);
        self.told.lock().insert(peer, kind) != Some(kind)
    }

    async fn serve_until_error(
        &self,
        (peer, address): (NodeId, SocketAddr),
        reader: &mut BusReader,
        writer: &mut BusWriter,
    ) -> Result<std::convert::Infallible, SendError> {
        let body = platform::within_ms(self.node_timeout_ms, reader.next()).await;
        let body = body.ok_or(SendError::Silent(self.node_timeout_ms))??.ok_or(SendError::Ended)?;
        let first_word = Message::decode(&body)?;
        if let Message::AskLead { .. } = first_word {
            let lead = *self.mastership.borrow();
            let Some(Mastership { shard, epoch }) = lead else { return Err(SendError::NotMaster) };
            let leads = Message::Leads { shard: shard.0.to_vec(), epoch: epoch.0 };
            writer.send(&leads.encode()?).await?;
            return Err(SendError::Answered);
        }
        if let Message::AskLog { .. } = first_word {
            return self.answer(peer, body.clone(), reader, writer).await;
        }
        let Message::Follow { shard, history, first_lsn, end_epoch, end_lsn, fence, copy, data_port } =
            first_word
        else {
            return Err(SendError::OutOfTurn("its first word is not Follow"));
        };
        let mastership = (*self.mastership.borrow())
            .filter(|mastership| mastership.shard.0 == *shard)
            .ok_or_else(|| SendError::Refused("this node is not the master of that shard".to_owned()))?;
        if mastership.epoch < Epoch(fence) {
            let (mine, theirs) = (mastership.epoch, fence);
            return Err(SendError::Refused(format!(
                "this node is the master of epoch {mine}, the replica knows {theirs}"
            )));
        }
        if self.book.of(peer).is_none() {
            // Without a cluster nobody but itself knows where it is.
            let data = SocketAddr::new(address.ip(), data_port);
            self.book.learn_at(peer, Reached { bus: address, data });
        }
        let theirs = LogSpan {
            history: history.into_iter().map(|(epoch, lsn)| (Epoch(epoch), Lsn(lsn))).collect(),
            first_lsn: Lsn(first_lsn),
            end: LogPoint { epoch: Epoch(end_epoch), lsn: Lsn(end_lsn) },
        };
        let stream = Stream { sender: self, peer, mastership, cuts: self.cuts() };
        let (connection, from) = stream.agree(&theirs, copy, writer).await?;
        self.told.lock().remove(&peer);
        let _shipping = Shipping::begin(self.member.store.log());
        let result = tokio::select! {
            result = stream.ship(connection, from, writer) => result,
            result = stream.listen(connection, reader) => result,
            result = stream.watch_over(connection) => result,
        };
        self.replicas.end(peer, connection);
        result
    }

    fn cuts(&self) -> u64 {
        self.member.store.log().positions().cuts()
    }

    /// Gives a member the bytes that damage took from its log, as far as this one has them.
    async fn answer(
        &self,
        peer: NodeId,
        mut question: Bytes,
        reader: &mut BusReader,
        writer: &mut BusWriter,
    ) -> Result<std::convert::Infallible, SendError> {
        loop {
            let member = self.member.clone();
            let work = move || Ok::<_, BodyError>(same_bytes::answer(&member, Message::decode(&question)?));
            let answer = platform::off_thread(work).await;
            let answer = answer.map_err(|error| SendError::Image(error.to_string()))??;
            match answer {
                Ok(bytes) => writer.send(&bytes.encode()?).await?,
                Err(error) => {
                    tracing::info!(member = %peer, %error, "a member lost bytes of its log, and this node has them not");
                    writer.send(&Message::Refused { reason: error.to_string() }.encode()?).await?;
                    return Err(SendError::Answered);
                }
            }
            let body = platform::within_ms(self.node_timeout_ms, reader.next()).await;
            match body.ok_or(SendError::Silent(self.node_timeout_ms))?? {
                Some(body) => question = body,
                None => return Err(SendError::Answered),
            }
        }
    }

    /// The log could not be read at `at`: it is mended there, or whoever needs it takes a full copy.
    async fn mend(&self, at: Lsn, fault: ReadError) -> Result<(), SendError> {
        tracing::error!(%fault, lsn = at.0, "the log cannot be read for a replica; its segment is verified and mended first");
        let (store, asker) = (self.member.store.clone(), self.asker.clone());
        let mended = platform::off_thread(move || store.mend_at(at, &mut asker.waiting())).await;
        match mended.map_err(|error| error.to_string()).flatten() {
            Ok(()) => Ok(()),
            Err(why) => {
                *self.unreadable.lock() = Some(at);
                Err(SendError::Damaged { fault, why })
            }
        }
    }

    /// Whether what stands in the log from here on is known to be damaged, and still is.
    fn is_unreadable(&self, from: Lsn) -> bool {
        let mut unreadable = self.unreadable.lock();
        let Some(at) = unreadable.filter(|at| from <= *at) else { return false };
        match self.member.store.log().read_chunk(at, CHUNK_BYTES, &mut Vec::new()) {
            Err(ReadError::File { .. }) => true,
            Ok(_) | Err(ReadError::TooOld { .. } | ReadError::Beyond { .. }) => {
                *unreadable = None;
                false
            }
        }
    }
}

/// One replica's stream under one epoch.
struct Stream<'a> {
    sender: &'a Sender,
    peer: NodeId,
    mastership: Mastership,
    cuts: u64,
}

/// Has the log written at once as long as it is there.
struct Shipping<'a>(&'a Log);

impl<'a> Shipping<'a> {
    fn begin(log: &'a Log) -> Self {
        log.positions().begin_shipping();
        Self(log)
    }
}

impl Drop for Shipping<'_> {
    fn drop(&mut self) {
        self.0.positions().end_shipping();
    }
}

/// How a replica goes on: the connection's number, and what is sent.
#[derive(Clone, Copy)]
enum From {
    Log(Lsn),
    Images { first_slot: u16, start_lsn: Lsn },
}

impl Stream<'_> {
    fn log(&self) -> &Log {
        self.sender.member.store.log()
    }

    /// Every message is of the epoch in which it is sent, and none is sent in another.
    fn still_master(&self) -> Result<(), SendError> {
        if *self.sender.mastership.borrow() != Some(self.mastership) {
            Err(SendError::NotMaster)
        } else if self.sender.cuts() != self.cuts {
            Err(SendError::Cut)
        } else {
            Ok(())
        }
    }

    async fn send(&self, writer: &mut BusWriter, message: &Message<'_>) -> Result<(), SendError> {
        self.still_master()?;
        writer.send_with(|out| Ok(message.encode_into(out)?)).await
    }

    fn span(&self) -> LogSpan {
        let log = self.log();
        LogSpan {
            history: log.epoch_history(),
            first_lsn: log.first_lsn(),
            end: self.sender.member.written(),
        }
    }

    /// Says how the replica goes on.
    async fn agree(
        &self,
        theirs: &LogSpan,
        copy: Option<CopySoFar>,
        writer: &mut BusWriter,
    ) -> Result<(u64, From), SendError> {
        let (peer, epoch) = (self.peer, self.mastership.epoch);
        let mine = self.span();
        if let Some(copy) = copy
            && copy.epoch == epoch.0
            && Lsn(copy.start_lsn) >= mine.first_lsn
            && copy.next_slot <= SLOT_COUNT
        {
            tracing::info!(replica = %peer, next_slot = copy.next_slot, "a full copy goes on");
            return self.begin_copy(copy.next_slot, Lsn(copy.start_lsn), writer).await;
        }
        let decision = match rejoin(&mine, theirs) {
            _ if copy.is_some() => Rejoin::FullCopy,
            Rejoin::Continue(from) | Rejoin::CutTo(from) if self.sender.is_unreadable(from) => {
                Rejoin::FullCopy
            }
            decision => decision,
        };
        match decision {
            Rejoin::Continue(from) => {
                tracing::info!(replica = %peer, from_lsn = from.0, end_lsn = mine.end.lsn.0, "a replica follows: partial catch-up");
                let connection = self.sender.replicas.begin_streaming(peer, from);
                self.heartbeat(writer).await?;
                Ok((connection, From::Log(from)))
            }
            Rejoin::CutTo(from) => {
                tracing::info!(replica = %peer, from_lsn = from.0, their_end = theirs.end.lsn.0, "a replica follows after it has cut its log");
                let connection = self.sender.replicas.begin_streaming(peer, from);
                self.send(writer, &Message::CutTo { epoch: epoch.0, lsn: from.0 }).await?;
                Ok((connection, From::Log(from)))
            }
            Rejoin::FullCopy => {
                tracing::info!(
                    replica = %peer, their_first = theirs.first_lsn.0, their_end = theirs.end.lsn.0, my_first = mine.first_lsn.0,
                    "a replica needs a full copy"
                );
                self.sender.replicas.count_full_copy(theirs.end.lsn);
                self.begin_copy(0, mine.end.lsn, writer).await
            }
            Rejoin::MasterBehind => Err(SendError::Refused(format!(
                "the replica's log (epoch {}, LSN {}) is ahead of its master's (epoch {}, LSN {})",
                theirs.end.epoch, theirs.end.lsn, mine.end.epoch, mine.end.lsn
            ))),
        }
    }

    async fn begin_copy(
        &self,
        first_slot: u16,
        start_lsn: Lsn,
        writer: &mut BusWriter,
    ) -> Result<(u64, From), SendError> {
        // Before the log is looked at: from here on it keeps what the copy needs.
        let connection = self.sender.replicas.begin_copying(self.peer, start_lsn);
        let history = self.log().epoch_history().into_iter().filter(|&(_, lsn)| lsn < start_lsn);
        let begins = Message::CopyBegins {
            epoch: self.mastership.epoch.0,
            start_lsn: start_lsn.0,
            history: history.map(|(epoch, lsn)| (epoch.0, lsn.0)).collect(),
            resume_slot: first_slot,
        };
        self.send(writer, &begins).await?;
        Ok((connection, From::Images { first_slot, start_lsn }))
    }

    async fn heartbeat(&self, writer: &mut BusWriter) -> Result<(), SendError> {
        let committed_lsn = self.log().positions().written_lsn().0;
        self.send(writer, &Message::Heartbeat { epoch: self.mastership.epoch.0, committed_lsn }).await
    }

    async fn ship(
        &self,
        _connection: u64,
        from: From,
        writer: &mut BusWriter,
    ) -> Result<std::convert::Infallible, SendError> {
        let mut at = match from {
            From::Log(at) => at,
            From::Images { first_slot, start_lsn } => {
                self.ship_images(first_slot, writer).await?;
                start_lsn
            }
        };
        let heartbeat_ms = self.sender.node_timeout_ms / 5;
        let mut mended = None;
        // Lent to one chunk after the other: memory of this size that is new each time has to be cleared by the kernel.
        let mut buffer = Vec::new();
        loop {
            // Asked for before it is looked whether there is anything: nothing written in between goes unnoticed.
            let more = self.sender.written.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            let written = self.log().positions().written_lsn();
            if at < written {
                let (next, bytes) = match self.read(at, written, std::mem::take(&mut buffer)).await {
                    // Once: what cannot be read after it was mended is another trouble.
                    Err(SendError::Read(fault @ ReadError::File { .. })) if mended != Some(at) => {
                        self.sender.mend(at, fault).await?;
                        mended = Some(at);
                        continue;
                    }
                    read => read?,
                };
                let committed_lsn = self.log().positions().written_lsn().0;
                let (epoch, log) = (self.mastership.epoch.0, Cow::Borrowed(bytes.as_slice()));
                self.send(writer, &Message::Chunk { epoch, at: at.0, committed_lsn, bytes: log }).await?;
                (at, buffer) = (next, bytes);
                buffer.clear();
                // A record can be as long as the longest command.
                buffer.shrink_to(CHUNK_BYTES);
            } else if platform::within_ms(heartbeat_ms, more).await.is_none() {
                self.heartbeat(writer).await?;
            }
        }
    }

    async fn read(&self, at: Lsn, written: Lsn, mut bytes: Vec<u8>) -> Result<(Lsn, Vec<u8>), SendError> {
        let store = self.sender.member.store.clone();
        let read = move || store.log().read_chunk(at, CHUNK_BYTES, &mut bytes).map(|next| (next, bytes));
        if written.since(at) <= NEAR_BYTES {
            return Ok(read()?);
        }
        let done = platform::off_thread(read).await;
        Ok(done.map_err(|error| SendError::Image(error.to_string()))??)
    }

    /// Slot by slot, each as of its own moment; the log from before the first one brings all to one state.
    async fn ship_images(&self, first_slot: u16, writer: &mut BusWriter) -> Result<(), SendError> {
        let epoch = self.mastership.epoch.0;
        let mut builder = ImageBuilder::new(Compression::Lz4);
        for slot in SlotId::all().skip(usize::from(first_slot)) {
            let store = self.sender.member.store.clone();
            if store.slots().with(slot, |slot| slot.sequence() == Default::default()) {
                continue;
            }
            let work = move || {
                store.image_of(slot, &mut builder)?;
                let image = builder.finish().1.to_vec();
                Ok::<_, AppendError>((builder, image))
            };
            let done = platform::off_thread(work).await;
            let made = done.map_err(|error| SendError::Image(error.to_string()))?;
            let (back, image) = made.map_err(|error| SendError::Image(error.to_string()))?;
            builder = back;
            let mut rest = image.as_slice();
            while !rest.is_empty() {
                let header =
                    ChunkHeader::decode(rest).map_err(|error| SendError::Image(error.to_string()))?;
                let (chunk, after) = rest.split_at(header.chunk_length() as usize);
                self.send(writer, &Message::Image { epoch, bytes: chunk.to_vec() }).await?;
                rest = after;
            }
        }
        self.send(writer, &Message::CopyEnds { epoch }).await
    }

    /// What the replica tells.
    async fn listen(
        &self,
        connection: u64,
        reader: &mut BusReader,
    ) -> Result<std::convert::Infallible, SendError> {
        let replicas = &self.sender.replicas;
        loop {
            let body = reader.next().await?.ok_or(SendError::Ended)?;
            match Message::decode(&body)? {
                Message::Ack { epoch, written, durable, applied } if epoch == self.mastership.epoch.0 => {
                    let progress =
                        Progress { written: Lsn(written), durable: Lsn(durable), applied: Lsn(applied) };
                    replicas.on_ack(self.peer, connection, progress);
                }
                // What it acknowledges under another epoch is not this one's.
                Message::Ack { .. } | Message::Heartbeat { .. } => {
                    replicas.on_heartbeat(self.peer, connection)
                }
                Message::Refused { reason } => return Err(SendError::Refused(reason)),
                _ => return Err(SendError::OutOfTurn("only acknowledgements are expected of a replica")),
            }
        }
    }

    /// Ends when this node is deposed or the replica is silent for too long.
    async fn watch_over(&self, connection: u64) -> Result<std::convert::Infallible, SendError> {
        let mut mastership = self.sender.mastership.clone();
        let timeout_ms = self.sender.node_timeout_ms;
        loop {
            self.still_master()?;
            let silent_ms = self.sender.replicas.silent_ms(self.peer, connection);
            let silent_ms = silent_ms.ok_or(SendError::NotServed)?;
            if silent_ms > timeout_ms {
                return Err(SendError::Silent(silent_ms));
            }
            let changed = platform::within_ms(timeout_ms / 5 + 1, mastership.changed()).await;
            if matches!(changed, Some(Err(_))) {
                return Err(SendError::NotMaster);
            }
        }
    }
}
