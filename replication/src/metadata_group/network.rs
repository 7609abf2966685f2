//! Raft's questions to other members, over the bus's metadata connections. One connection per target and task: it answers in
//! order, and one whose answer did not come is dropped.

use std::time::Duration;

use holdfast_words::{ClusterId, NodeId};
use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use super::progress::Progress;
use crate::links::book::AddressBook;
use crate::links::connect::{BusConnection, ConnectError, connect};
use crate::platform;
use crate::wire::body::{self, BodyError};
use crate::wire::frame::{FrameError, FrameKind};
use crate::wire::hello::Identity;
use crate::wire::metadata::{Answer, Member, Question, Request, TypeConfig, raft_id};

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody knows where it is: the question was not put.
    #[error("the address of node {0} is not known")]
    Unknown(NodeId),
    /// There is no connection: the question was not put.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection failed: whether the question arrived is not known.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The connection ended: whether the question arrived is not known.
    #[error("the connection ended before the answer")]
    Ended,
    /// What came is no answer.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// No answer in time: whether the question arrived is not known.
    #[error("no answer in time")]
    Slow,
    /// The answer is not one to this question, or says that it failed.
    #[error("{0}")]
    Refused(String),
}

/// Asks one member.
pub struct Asker {
    identity: Identity,
    book: AddressBook,
    cluster: ClusterId,
    target: NodeId,
    connection: Option<BusConnection>,
    pause: Duration,
    progress: Progress,
}

impl Asker {
    /// Asks `target`, as a member of the group of `cluster`.
    pub fn new(
        identity: Identity,
        book: AddressBook,
        cluster: ClusterId,
        target: NodeId,
        pause: Duration,
        progress: Progress,
    ) -> Self {
        Self { identity, book, cluster, target, connection: None, pause, progress }
    }

    /// Puts one question.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn ask(&mut self, question: Question, within: Duration) -> Result<Answer, AskError> {
        let within_ms = within.as_millis() as u64;
        platform::within_ms(within_ms, self.ask_patiently(question)).await.ok_or(AskError::Slow)?
    }

    async fn ask_patiently(&mut self, question: Question) -> Result<Answer, AskError> {
        // Taken out: one that fails, or is dropped because time is up, is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let address = self.book.bus_of(self.target).ok_or(AskError::Unknown(self.target))?;
                connect(&self.identity, address, FrameKind::Metadata, Some(self.target)).await?.0
            }
        };
        let request = body::encode(&Request { cluster: self.cluster, question })?;
        connection.writer.send(&request).await?;
        let answer = connection.reader.next().await?.ok_or(AskError::Ended)?;
        let answer = body::decode(&answer)?;
        self.connection = Some(connection);
        match answer {
            Answer::Failed(why) => Err(AskError::Refused(why)),
            Answer::OtherCluster => Err(AskError::Refused("it belongs to another cluster".into())),
            answer => Ok(answer),
        }
    }
}

fn wrong(answer: &Answer) -> AskError {
    AskError::Refused(format!("an answer to another question: {answer:?}"))
}

/// Whatever went wrong, Raft tries again after a pause.
fn unreachable(error: &AskError) -> Unreachable {
    Unreachable::new(error)
}

impl RaftNetwork<TypeConfig> for Asker {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        let (leader, before, committed) = (request.vote, request.prev_log_id, request.leader_commit);
        let last = request.entries.last().map(|entry| entry.log_id);
        match self.ask(Question::Append(request), option.hard_ttl()).await {
            Ok(Answer::Append(response)) => {
                let member = raft_id(self.target);
                if self.progress.answered(member, leader, before, last, &response) {
                    return Err(unreachable(&AskError::Refused("it has lost its log".into())).into());
                }
                if matches!(response, AppendEntriesResponse::Success) {
                    self.progress.knows(member, leader, committed);
                }
                Ok(response)
            }
            Ok(other) => Err(unreachable(&wrong(&other)).into()),
            Err(error) => Err(unreachable(&error).into()),
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RPCError<u64, Member, RaftError<u64, InstallSnapshotError>>>
    {
        let (leader, upto) = (request.vote, request.meta.last_log_id.filter(|_| request.done));
        match self.ask(Question::Snapshot(request), option.hard_ttl()).await {
            Ok(Answer::Snapshot(response)) => {
                if response.vote <= leader {
                    self.progress.has(raft_id(self.target), leader, upto);
                }
                Ok(response)
            }
            Ok(other) => Err(unreachable(&wrong(&other)).into()),
            Err(error) => Err(unreachable(&error).into()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Member, RaftError<u64>>> {
        match self.ask(Question::Vote(request), option.hard_ttl()).await {
            Ok(Answer::Vote(response)) => Ok(response),
            Ok(other) => Err(unreachable(&wrong(&other)).into()),
            Err(error) => Err(unreachable(&error).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        // A node that comes back hears of the leader before it would call an election of its own.
        Backoff::new(std::iter::repeat(self.pause))
    }
}

/// Makes [`Asker`]s.
#[derive(Clone)]
pub struct Askers {
    /// This node.
    pub identity: Identity,
    /// Where the members are.
    pub book: AddressBook,
    /// The group's cluster.
    pub cluster: ClusterId,
    /// Between two tries to reach a member that is away.
    pub pause: Duration,
    /// What members have.
    pub progress: Progress,
}

impl Askers {
    /// Asks this member.
    pub fn asker(&self, member: &Member) -> Asker {
        let Self { identity, book, cluster, pause, progress } = self.clone();
        Asker::new(identity, book, cluster, member.node(), pause, progress)
    }
}

impl RaftNetworkFactory<TypeConfig> for Askers {
    type Network = Asker;

    async fn new_client(&mut self, _: u64, member: &Member) -> Asker {
        self.asker(member)
    }
}
