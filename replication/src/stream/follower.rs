//! At the replica: connects to the master, says what it has, takes what the master sends, tells how far it is; again and
//! again until it is told to stop.

use std::sync::Arc;

use bytes::Bytes;
use holdfast_storage::log::AppendError;
use holdfast_storage::store::{RebuildError, ReceiveError, Store, StoreError};
use holdfast_words::{Epoch, Lsn, NodeId, ShardId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::copy_in::{CopyIn, CopyInError};
use super::member::{Fenced, Member};
use crate::handle::{LinkState, MasterLink, Shared};
use crate::links::Me;
use crate::links::book::AddressBook;
use crate::links::connect::{BusConnection, BusReader, BusWriter, ConnectError, connect};
use crate::platform;
use crate::wire::body::BodyError;
use crate::wire::frame::{FrameError, FrameKind};
use crate::wire::log_stream::Message;

/// Between two tries to reach the master, at first and at most.
const PAUSE_MS: u64 = 50;
const PAUSE_MAX_MS: u64 = 1000;
/// Between two tries to write on a full disk.
const NO_SPACE_PAUSE_MS: u64 = 200;
/// A chunk up to this size is taken on the bus's thread; a larger one would keep gossip waiting.
const SMALL_BYTES: usize = 32 << 10;

/// Whom to follow, and under which epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The master.
    pub master: NodeId,
    /// The shard.
    pub shard: ShardId,
    /// The shard's epoch.
    pub epoch: Epoch,
}

/// What every follower of this node uses.
pub struct Context {
    /// This node.
    pub me: Me,
    /// This node as a member of its shard.
    pub member: Arc<Member>,
    /// Where the server sees how it goes.
    pub shared: Arc<Shared>,
    /// Where the master is.
    pub book: AddressBook,
    /// `cluster-node-timeout`
    pub node_timeout_ms: u64,
    /// Where this node's clients connect.
    pub data_port: u16,
    /// Woken when something became durable.
    durable: Arc<Notify>,
}

impl Context {
    /// For this node's data.
    pub fn new(
        me: Me,
        member: Arc<Member>,
        shared: Arc<Shared>,
        book: AddressBook,
        node_timeout_ms: u64,
        data_port: u16,
    ) -> Arc<Self> {
        let durable = Arc::new(Notify::new());
        let wake = durable.clone();
        member.store.log().positions().subscribe(move || wake.notify_one());
        Arc::new(Self { me, member, shared, book, node_timeout_ms, data_port, durable })
    }
}

/// Why a connection to the master came to nothing or ended.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("its address is not known")]
    Unknown,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("it hung up")]
    Ended,
    #[error("it has been silent for {0} ms")]
    Silent(u64),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error(transparent)]
    Fenced(#[from] Fenced),
    #[error("it sent something out of turn: {0}")]
    OutOfTurn(&'static str),
    #[error("the log cannot be cut at LSN {0}, images go beyond: everything is copied")]
    CannotCut(Lsn),
    #[error("what it sent was not taken: {0}")]
    Append(AppendError),
    #[error("the data do not fit what it sent ({0}): everything is copied")]
    Misfit(String),
    #[error("the copy failed: {0}")]
    Copy(#[from] CopyInError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Follows one master until stopped.
pub struct Follower {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Begins to follow.
    pub fn start(context: Arc<Context>, target: Target) -> Self {
        let (stop, stopped) = watch::channel(false);
        let following = Following { context, target, stopped, copy: None, told: None };
        Self { stop, task: platform::spawn(following.run()) }
    }

    /// Stops; when this returns nothing of the master is taken any more.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "following the master ended badly");
        }
    }
}

struct Following {
    context: Arc<Context>,
    target: Target,
    stopped: watch::Receiver<bool>,
    copy: Option<CopyIn>,
    /// The error logged last: the same one is told once.
    told: Option<String>,
}

/// The connection is over, and not because of an error.
struct Stopped;

impl Following {
    async fn run(mut self) {
        let mut pause_ms = PAUSE_MS;
        loop {
            self.show(LinkState::Connecting);
            let began_ms = platform::now_ms();
            let error = match self.follow().await {
                Ok(Stopped) => break,
                Err(error) => error,
            };
            self.context.member.set_stream(false, platform::now_ms());
            if let Some(copy) = &mut self.copy {
                copy.interrupted();
            }
            self.note(&error);
            if platform::now_ms().saturating_sub(began_ms) > PAUSE_MAX_MS {
                pause_ms = PAUSE_MS;
            }
            tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => break,
                () = platform::sleep_ms(pause_ms + fastrand::u64(..PAUSE_MS)) => {}
            }
            pause_ms = (pause_ms * 2).min(PAUSE_MAX_MS);
        }
        self.context.member.set_stream(false, platform::now_ms());
    }

    fn note(&mut self, error: &FollowError) {
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            tracing::debug!(master = %self.target.master, error = text, "the master is not followed");
        } else {
            tracing::warn!(master = %self.target.master, error = text, "the master is not followed; tried again");
            self.told = Some(text);
        }
    }

    fn show(&self, state: LinkState) {
        let address = self.context.book.of(self.target.master).map(|reached| reached.data);
        let applied_lsn = self.context.member.written().lsn;
        let unknown = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        let link = MasterLink { address: address.unwrap_or(unknown), state, applied_lsn, last_io_ms: 0 };
        self.context.shared.set_master_link(Some(link));
    }

    fn store(&self) -> Arc<Store> {
        self.context.member.store.clone()
    }

    async fn follow(&mut self) -> Result<Stopped, FollowError> {
        if self.context.member.fence() > self.target.epoch {
            // Its time is over; whom to follow next is being decided.
            self.stopped.wait_for(|stopped| *stopped).await.ok();
            return Ok(Stopped);
        }
        self.have_something_to_begin_with().await?;
        let address = self.context.book.bus_of(self.target.master).ok_or(FollowError::Unknown)?;
        let identity = self.context.me.identity();
        let connection = tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => return Ok(Stopped),
            connected = connect(&identity, address, FrameKind::LogStream, Some(self.target.master)) => connected?.0,
        };
        let BusConnection { mut reader, mut writer, .. } = connection;
        writer.send(&self.first_word().encode()?).await?;
        self.take_everything(&mut reader, &mut writer).await
    }

    /// What a broken copy left is of no use under another master.
    async fn have_something_to_begin_with(&mut self) -> Result<(), FollowError> {
        if self.copy.as_ref().is_some_and(|copy| !copy.is_of(self.target.epoch)) {
            self.copy = None;
        }
        let store = self.store();
        // One whose images are damaged keeps its log until a master really sends the copy.
        let is_left_over = !store.is_whole() && !store.is_damaged() && self.copy.is_none();
        if is_left_over && store.log().end().lsn > Lsn::ZERO {
            self.start_over().await?;
        }
        Ok(())
    }

    /// Throws everything away: the master is to send all there is.
    async fn start_over(&mut self) -> Result<(), FollowError> {
        self.copy = None;
        let (member, target) = (self.context.member.clone(), self.target);
        let work = move || {
            member.obey(target.epoch, |store| {
                store.become_empty(store.node_id(), target.shard, Lsn::ZERO, Vec::new())
            })
        };
        platform::off_thread(work).await???;
        Ok(())
    }

    fn first_word(&self) -> Message<'static> {
        let store = &self.context.member.store;
        let log = store.log();
        let end = self.context.member.written();
        // Damaged images: no log that is sent can be built on, but a master that is behind this log is not to be copied.
        let first_lsn = if store.is_damaged() { Lsn(u64::MAX) } else { log.first_lsn() };
        Message::Follow {
            shard: self.target.shard.0.to_vec(),
            history: log.epoch_history().into_iter().map(|(epoch, lsn)| (epoch.0, lsn.0)).collect(),
            first_lsn: first_lsn.0,
            end_epoch: end.epoch.0,
            end_lsn: end.lsn.0,
            fence: self.context.member.fence().max(self.target.epoch).0,
            copy: self.copy.as_ref().and_then(CopyIn::so_far),
            data_port: self.context.data_port,
        }
    }

    async fn take_everything(
        &mut self,
        reader: &mut BusReader,
        writer: &mut BusWriter,
    ) -> Result<Stopped, FollowError> {
        let timeout_ms = self.context.node_timeout_ms;
        let heartbeat_ms = timeout_ms / 5 + 1;
        let mut heard_ms = platform::now_ms();
        let mut acknowledged = None;
        let mut told_ms = heard_ms;
        loop {
            let durable = self.context.durable.clone();
            let body = tokio::select! {
                _ = self.stopped.wait_for(|stopped| *stopped) => return Ok(Stopped),
                body = reader.next() => Some(body?.ok_or(FollowError::Ended)?),
                () = durable.notified() => None,
                () = platform::sleep_ms(heartbeat_ms) => None,
            };
            if let Some(body) = body {
                heard_ms = platform::now_ms();
                self.take(&body).await?;
            }
            let silent_ms = platform::now_ms().saturating_sub(heard_ms);
            if silent_ms > timeout_ms {
                return Err(FollowError::Silent(silent_ms));
            }
            let (ack, now_ms) = (self.ack(), platform::now_ms());
            // The same again is a sign of life.
            if acknowledged != Some(ack) || now_ms.saturating_sub(told_ms) >= heartbeat_ms {
                acknowledged = Some(ack);
                told_ms = now_ms;
                let [written, durable, applied] = ack;
                let message = Message::Ack { epoch: self.target.epoch.0, written, durable, applied };
                writer.send(&message.encode()?).await?;
            }
        }
    }

    /// While images come the log says nothing about the data: nothing is acknowledged.
    fn ack(&self) -> [u64; 3] {
        if self.copy.as_ref().is_some_and(|copy| copy.so_far().is_some()) {
            return [0; 3];
        }
        let positions = self.context.member.store.log().positions();
        let written = positions.written_lsn().0;
        [written, positions.durable_lsn().0.min(written), written]
    }

    async fn take(&mut self, body: &Bytes) -> Result<(), FollowError> {
        let message = Message::decode(body)?;
        if let Some(epoch) = message.epoch() {
            // Whatever it says under another epoch than the one it is followed under is not for this log.
            self.context.member.obey(Epoch(epoch), |_| ())?;
            if Epoch(epoch) != self.target.epoch {
                return Err(FollowError::OutOfTurn("it speaks under another epoch"));
            }
        }
        let needs_images = self.context.member.store.is_damaged();
        match message {
            Message::Heartbeat { .. } | Message::Chunk { .. } | Message::CutTo { .. } if needs_images => {
                Err(FollowError::OutOfTurn("log, where a copy of everything is needed"))
            }
            Message::Heartbeat { committed_lsn, .. } => {
                self.on_streaming().await?;
                self.trust_from(Lsn(committed_lsn));
                Ok(())
            }
            Message::Chunk { at, bytes, committed_lsn, .. } => {
                self.on_streaming().await?;
                // A decoded message has borrowed them.
                self.take_log(Lsn(at), body.slice_ref(&bytes)).await?;
                self.trust_from(Lsn(committed_lsn));
                Ok(())
            }
            Message::CutTo { lsn, .. } => self.cut_at(Lsn(lsn)).await,
            Message::CopyBegins { start_lsn, history, resume_slot, .. } => {
                self.begin_copy(Lsn(start_lsn), history, resume_slot).await
            }
            Message::Image { bytes, .. } => self.with_copy(move |copy, store| copy.take(store, &bytes)).await,
            Message::CopyEnds { .. } => {
                self.with_copy(|copy, store| copy.end_images(store)).await?;
                tracing::info!(master = %self.target.master, "all slots are copied; the log follows");
                self.complete_copy().await
            }
            Message::Refused { reason } => Err(FollowError::Refused(reason)),
            Message::Follow { .. }
            | Message::Ack { .. }
            | Message::AskLead { .. }
            | Message::AskLog { .. } => Err(FollowError::OutOfTurn("that is a replica's word")),
            Message::Leads { .. } | Message::LogBytes { .. } => {
                Err(FollowError::OutOfTurn("it answers what nobody asked"))
            }
        }
    }

    /// A log that has everything that was acknowledged to clients is as good as one that never lost anything.
    fn trust_from(&self, master_end: Lsn) {
        let member = &self.context.member;
        if !member.is_trusted() && member.store.is_whole() && member.written().lsn >= master_end {
            tracing::info!("this node's log is complete again");
            member.set_trusted();
        }
    }

    /// The master agreed to go on at the end of this log.
    async fn on_streaming(&mut self) -> Result<(), FollowError> {
        if self.copy.as_ref().is_some_and(|copy| copy.so_far().is_some()) {
            return Err(FollowError::OutOfTurn("log among the images"));
        }
        if self.copy.is_none() && !self.context.member.store.is_whole() {
            // Nothing had to be copied: the empty log is the beginning of the master's.
            let store = self.store();
            platform::off_thread(move || store.set_whole()).await??;
        }
        if self.copy.is_none() {
            self.told = None;
            self.context.member.set_stream(true, 0);
            self.show(LinkState::Streaming);
        }
        Ok(())
    }

    async fn take_log(&mut self, at: Lsn, bytes: Bytes) -> Result<(), FollowError> {
        loop {
            let (member, epoch) = (self.context.member.clone(), self.target.epoch);
            let outcome = if bytes.len() <= SMALL_BYTES {
                member.obey(epoch, |store| store.append_received(at, &bytes))?
            } else {
                let copy = bytes.clone();
                let work = move || member.obey(epoch, |store| store.append_received(at, &copy));
                platform::off_thread(work).await??
            };
            match outcome {
                Ok(_) => return self.complete_copy().await,
                Err(ReceiveError::Append(AppendError::NoSpace)) => self.wait_for_space().await?,
                Err(ReceiveError::Append(error)) => return Err(FollowError::Append(error)),
                Err(ReceiveError::Replay(error)) => {
                    tracing::error!(%error, "the data do not fit the log; they are thrown away and copied from the master");
                    self.start_over().await?;
                    return Err(FollowError::Misfit(error.to_string()));
                }
            }
        }
    }

    async fn wait_for_space(&mut self) -> Result<(), FollowError> {
        tokio::select! {
            _ = self.stopped.wait_for(|stopped| *stopped) => return Err(FollowError::Append(AppendError::NoSpace)),
            () = platform::sleep_ms(NO_SPACE_PAUSE_MS) => {}
        }
        let store = self.store();
        let work = move || store.log().write_up_to(store.log().end().lsn);
        match platform::off_thread(work).await? {
            Ok(()) | Err(AppendError::NoSpace) => Ok(()),
            Err(error) => Err(FollowError::Append(error)),
        }
    }

    async fn cut_at(&mut self, lsn: Lsn) -> Result<(), FollowError> {
        let (member, epoch) = (self.context.member.clone(), self.target.epoch);
        if !member.store.can_cut_at(lsn) {
            self.start_over().await?;
            return Err(FollowError::CannotCut(lsn));
        }
        let end = member.written();
        let cut = move || member.obey(epoch, |store| store.cut_at(lsn));
        match platform::off_thread(cut).await?? {
            Ok(kept) => {
                tracing::warn!(
                    cut_lsn = lsn.0,
                    end_lsn = end.lsn.0,
                    end_epoch = end.epoch.0,
                    kept = %kept.display(),
                    "this node's log went another way than the shard's: its tail was set aside"
                );
                Ok(())
            }
            Err(RebuildError::Append(error)) => Err(FollowError::Append(error)),
            Err(error) => {
                tracing::error!(%error, "the data could not be rebuilt after a cut; they are copied from the master");
                self.start_over().await?;
                Err(FollowError::Misfit(error.to_string()))
            }
        }
    }

    async fn begin_copy(
        &mut self,
        start_lsn: Lsn,
        history: Vec<(u64, u64)>,
        resume_slot: u16,
    ) -> Result<(), FollowError> {
        self.show(LinkState::Copying);
        if self.copy.as_ref().is_some_and(|copy| copy.is_continued_by(start_lsn, resume_slot)) {
            tracing::info!(master = %self.target.master, resume_slot, "the copy of the master's data goes on");
            return Ok(());
        }
        if resume_slot > 0 {
            self.copy = None;
            return Err(FollowError::OutOfTurn("it goes on with a copy that was never begun"));
        }
        tracing::info!(master = %self.target.master, start_lsn = start_lsn.0, "all of the master's data is copied");
        let (member, target) = (self.context.member.clone(), self.target);
        let history = history.into_iter().map(|(epoch, lsn)| (Epoch(epoch), Lsn(lsn))).collect();
        let work = move || {
            member.obey(target.epoch, |store| {
                CopyIn::begin(store, target.shard, target.epoch, start_lsn, history)
            })
        };
        self.copy = Some(platform::off_thread(work).await???);
        Ok(())
    }

    async fn with_copy(
        &mut self,
        work: impl FnOnce(&mut CopyIn, &Store) -> Result<(), CopyInError> + Send + 'static,
    ) -> Result<(), FollowError> {
        let Some(mut copy) = self.copy.take() else {
            return Err(FollowError::OutOfTurn("an image without a copy"));
        };
        let (member, epoch) = (self.context.member.clone(), self.target.epoch);
        let work = move || {
            let result = member.obey(epoch, |store| work(&mut copy, store));
            (copy, result)
        };
        let (copy, result) = platform::off_thread(work).await?;
        match result? {
            Ok(()) => {
                self.copy = Some(copy);
                Ok(())
            }
            // Begun anew: what came of it may be half.
            Err(error) => Err(error.into()),
        }
    }

    async fn complete_copy(&mut self) -> Result<(), FollowError> {
        let written = self.context.member.written().lsn;
        if !self.copy.as_ref().is_some_and(|copy| copy.is_complete_at(written)) {
            return Ok(());
        }
        let Some(copy) = self.copy.take() else { return Ok(()) };
        let store = self.store();
        platform::off_thread(move || copy.complete(&store)).await??;
        tracing::info!(master = %self.target.master, lsn = written.0, "the copy is complete");
        self.context.member.changed.notify_one();
        self.on_streaming().await
    }
}
