//! The bytes that damage took from a log, asked of another member of the shard: members' logs are the same bytes. Whoever answers
//! reads them from its own log, verified, and gives none from beyond where the two logs part; whoever asked verifies them again
//! before they stand in its log ([`holdfast_storage::log::mend`]).

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use holdfast_cluster::shard_register::ShardRegister;
use holdfast_storage::log::mend::SameBytes;
use holdfast_storage::log::{ReadError, record_length};
use holdfast_words::{Epoch, LogPoint, Lsn, NodeId, ShardId};
use parking_lot::Mutex;

use super::member::Member;
use super::rejoin::{LogSpan, common_point};
use crate::links::Me;
use crate::links::book::AddressBook;
use crate::links::connect::{BusConnection, ConnectError, connect};
use crate::platform;
use crate::wire::body::BodyError;
use crate::wire::frame::{FrameError, FrameKind};
use crate::wire::hello::Identity;
use crate::wire::log_stream::Message;

/// Bytes of log in one answer, about.
const ANSWER_BYTES: usize = 256 << 10;
/// Who does not answer in this time is not asked any further.
const ANSWER_MS: u64 = 10_000;

/// A damaged log, as whoever has it knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its shard.
    pub shard: ShardId,
    /// What is known of it.
    pub span: LogSpan,
}

impl Claim {
    /// The log of this node.
    pub fn of(member: &Member) -> Self {
        let log = member.store.log();
        let span =
            LogSpan { history: log.epoch_history(), first_lsn: log.first_lsn(), end: member.written() };
        Self { shard: member.store.shard_id(), span }
    }

    /// The question for the records from an LSN on.
    fn question(&self, from: Lsn) -> Message<'static> {
        let LogSpan { history, first_lsn, end } = &self.span;
        Message::AskLog {
            shard: self.shard.0.to_vec(),
            history: history.iter().map(|(epoch, lsn)| (epoch.0, lsn.0)).collect(),
            first_lsn: first_lsn.0,
            end_epoch: end.epoch.0,
            end_lsn: end.lsn.0,
            from: from.0,
        }
    }

    /// Who asks, and from where on.
    fn read(question: Message) -> Option<(Self, Lsn)> {
        let Message::AskLog { shard, history, first_lsn, end_epoch, end_lsn, from } = question else {
            return None;
        };
        let span = LogSpan {
            history: history.into_iter().map(|(epoch, lsn)| (Epoch(epoch), Lsn(lsn))).collect(),
            first_lsn: Lsn(first_lsn),
            end: LogPoint { epoch: Epoch(end_epoch), lsn: Lsn(end_lsn) },
        };
        Some((Self { shard: ShardId(shard.try_into().ok()?), span }, Lsn(from)))
    }
}

/// Why a member has not the bytes.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No question.
    #[error("that is no question for a log's bytes")]
    NoQuestion,
    /// Of another shard.
    #[error("this node's log is of shard {0}")]
    OtherShard(ShardId),
    /// Another history's records stand there, or none yet.
    #[error("this node's log is the same only up to LSN {same}; {from} was asked for")]
    Parted {
        /// Up to where it is the same.
        same: Lsn,
        /// What was asked for.
        from: Lsn,
    },
    /// Gone, or damaged here as well.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It may not be the same log any more.
    #[error("this node's log was cut meanwhile")]
    Cut,
}

/// Answers a question out of this node's log. May wait for the disk.
///
/// # Errors
/// Why this node has not the bytes.
pub fn answer(member: &Member, question: Message<'_>) -> Result<Message<'static>, NoAnswer> {
    let (claim, from) = Claim::read(question).ok_or(NoAnswer::NoQuestion)?;
    let log = member.store.log();
    let cuts = log.positions().cuts();
    let mine = Claim::of(member);
    if mine.shard != claim.shard {
        return Err(NoAnswer::OtherShard(mine.shard));
    }
    let same = common_point(&mine.span, &claim.span).unwrap_or(Lsn::ZERO);
    if from >= same {
        return Err(NoAnswer::Parted { same, from });
    }
    let mut bytes = Vec::new();
    log.read_chunk(from, ANSWER_BYTES, &mut bytes)?;
    bytes.truncate(whole_records(&bytes, same.since(from)));
    if log.positions().cuts() != cuts || member.store.shard_id() != claim.shard {
        return Err(NoAnswer::Cut);
    }
    if bytes.is_empty() {
        Err(NoAnswer::Parted { same, from })
    } else {
        Ok(Message::LogBytes { at: from.0, bytes })
    }
}

/// Bytes of the whole records at the front that end within `max_bytes`.
fn whole_records(bytes: &[u8], max_bytes: u64) -> usize {
    let mut at = 0;
    while let Some(length) = record_length(&bytes[at..])
        && length > 0
        && at + length <= bytes.len()
        && (at + length) as u64 <= max_bytes
    {
        at += length;
    }
    at
}

/// Why a member did not give the bytes.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is not there.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It said what is no message.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// It hung up.
    #[error("it hung up")]
    Ended,
    /// It said nothing.
    #[error("it did not answer within {ANSWER_MS} ms")]
    Silent,
    /// It has not the bytes.
    #[error("it has not the bytes: {0}")]
    Refused(String),
    /// It answered something else.
    #[error("it answered something else")]
    OutOfTurn,
}

/// A conversation with one member.
pub struct Asked {
    connection: BusConnection,
}

impl Asked {
    /// Connects to a member.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn dial(me: &Identity, node: NodeId, bus: SocketAddr) -> Result<Self, AskError> {
        let (connection, _) = connect(me, bus, FrameKind::LogStream, Some(node)).await?;
        Ok(Self { connection })
    }

    /// Records from `from` on, at least one.
    ///
    /// # Errors
    /// When it has none or does not answer.
    pub async fn records(&mut self, claim: &Claim, from: Lsn) -> Result<Vec<u8>, AskError> {
        self.connection.writer.send(&claim.question(from).encode()?).await?;
        let body = platform::within_ms(ANSWER_MS, self.connection.reader.next()).await;
        let body = body.ok_or(AskError::Silent)??.ok_or(AskError::Ended)?;
        match Message::decode(&body)? {
            Message::LogBytes { at, bytes } if Lsn(at) == from && !bytes.is_empty() => Ok(bytes),
            Message::Refused { reason } => Err(AskError::Refused(reason)),
            _ => Err(AskError::OutOfTurn),
        }
    }

    /// All bytes of a range. Where it ends, a record should end: who verifies them finds out.
    async fn range(&mut self, claim: &Claim, range: &Range<Lsn>) -> Result<Vec<u8>, AskError> {
        let wanted = range.end.since(range.start) as usize;
        let mut bytes = Vec::new();
        while bytes.len() < wanted {
            let from = range.start.advance(bytes.len() as u64);
            bytes.append(&mut self.records(claim, from).await?);
        }
        bytes.truncate(wanted);
        Ok(bytes)
    }
}

/// Whom a member asks, in this order: the master, then who is in sync, then the others.
pub fn whom_to_ask(register: &ShardRegister, me: NodeId) -> Vec<NodeId> {
    let mut others: Vec<NodeId> = register.members().filter(|member| *member != me).collect();
    others.sort_by_key(|member| (*member != register.master, !register.in_sync.contains(member)));
    others
}

/// Asks the other members of this node's shard.
pub struct Asker {
    me: Me,
    book: AddressBook,
    member: Arc<Member>,
    /// Whom to ask, in this order.
    others: Mutex<Vec<NodeId>>,
}

impl Asker {
    /// There is nobody yet.
    pub fn new(me: Me, book: AddressBook, member: Arc<Member>) -> Arc<Self> {
        Arc::new(Self { me, book, member, others: Mutex::default() })
    }

    /// The other members of this node's shard, in the order in which they are to be asked.
    pub fn set_others(&self, others: Vec<NodeId>) {
        *self.others.lock() = others;
    }

    async fn ask(&self, range: &Range<Lsn>) -> Result<Vec<u8>, String> {
        let claim = Claim::of(&self.member);
        let others = self.others.lock().clone();
        let mut refusals = Vec::new();
        for node in others {
            let Some(bus) = self.book.bus_of(node) else {
                refusals.push(format!("{node}: its address is not known"));
                continue;
            };
            let asked =
                async { Asked::dial(&self.me.identity(), node, bus).await?.range(&claim, range).await };
            match asked.await {
                Ok(bytes) => {
                    tracing::info!(member = %node, from_lsn = range.start.0, bytes = bytes.len(), "another member gave the bytes that damage took");
                    return Ok(bytes);
                }
                Err(error) => refusals.push(format!("{node}: {error}")),
            }
        }
        if refusals.is_empty() {
            return Err("there is no other member of the shard to get it from".into());
        }
        Err(refusals.join("; "))
    }

    /// For work that runs off the bus's thread and waits for the answer there.
    pub fn waiting(&self) -> impl SameBytes + '_ {
        |range: Range<Lsn>| {
            platform::wait_for(self.ask(&range))
                .unwrap_or_else(|error| Err(format!("nobody can be asked: {error}")))
        }
    }
}
