//! This node's part in the metadata group: opened, founded, joined, asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast_cluster::{Change, NodeRecord, Outcome};
use holdfast_words::{BootId, ClusterId};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::GroupError;
use super::log_store::{Group, LogStore};
use super::proposals::NO_LEADER;
use super::published::Decided;
use super::run::{Run, Written, leader_of};
use super::settings::Settings;
use super::{answers, proposals};
use crate::links::book::AddressBook;
use crate::links::connect::BusConnection;
use crate::wire::hello::Identity;
use crate::wire::metadata::{LoggedChange, Member, raft_id};

/// A group of one has its leader at once; only a disk that hangs takes longer.
const ALONE_TIME: Duration = Duration::from_secs(10);

struct Shared {
    book: AddressBook,
    settings: Settings,
    decided: watch::Sender<Decided>,
    /// Held while the node leaves one group for another.
    store: tokio::sync::Mutex<LogStore>,
    run: Mutex<Option<Arc<Run>>>,
}

/// This node's part in the metadata group.
#[derive(Clone)]
pub struct MetadataGroup(Arc<Shared>);

impl MetadataGroup {
    /// Opens the group's log in `directory` and goes on as the member it was; in a fresh directory it waits for
    /// [`Self::found`] or [`Self::join`]. To be called within the bus's runtime.
    ///
    /// # Errors
    /// Damage, with its place.
    pub async fn open(
        directory: &Path,
        boot: BootId,
        identity: Identity,
        book: AddressBook,
        node_timeout_ms: u64,
    ) -> Result<Self, GroupError> {
        Self::open_with(directory, boot, identity, book, Settings::new(node_timeout_ms)).await
    }

    pub(super) async fn open_with(
        directory: &Path,
        boot: BootId,
        identity: Identity,
        book: AddressBook,
        settings: Settings,
    ) -> Result<Self, GroupError> {
        let store = LogStore::open(directory, boot)?;
        let group = going_on(&store);
        let shared = Shared {
            book,
            settings,
            decided: watch::Sender::default(),
            store: tokio::sync::Mutex::new(store.clone()),
            run: Mutex::default(),
        };
        let this = Self(Arc::new(shared));
        if let Some(group) = group {
            let run = this.start(store, group.cluster, identity).await?;
            if group.founder {
                // All it says may be in entries of which only their voters know that they are committed.
                let soon = Duration::from_millis(settings.lease_ms());
                let mut decided = this.watch();
                run.wait(soon, |_| decided.borrow_and_update().registry.is_founded()).await;
            }
        }
        Ok(this)
    }

    async fn start(
        &self,
        store: LogStore,
        cluster: ClusterId,
        identity: Identity,
    ) -> Result<Arc<Run>, GroupError> {
        let Shared { book, settings, decided, .. } = &*self.0;
        let run = Run::start(store, cluster, identity, book.clone(), decided.clone(), *settings).await?;
        let run = Arc::new(run);
        *self.0.run.lock() = Some(run.clone());
        Ok(run)
    }

    pub(super) fn run(&self) -> Option<Arc<Run>> {
        self.0.run.lock().clone()
    }

    /// Leaves the group it was in, if any, durably, and begins an empty log for this one.
    async fn begin(
        &self,
        store: &mut LogStore,
        group: Group,
        identity: Identity,
    ) -> Result<Arc<Run>, GroupError> {
        self.stop().await;
        store.begin(group).await?;
        self.start(store.clone(), group.cluster, identity).await
    }

    /// Whose group this is; `None` in a fresh directory, or when founding was cut short: then [`Self::found`] is called.
    pub fn cluster(&self) -> Option<ClusterId> {
        let run = self.run()?;
        going_on(&run.store).map(|group| group.cluster)
    }

    /// Leaves whatever group there was, begins one of its own as its only voter and founds the cluster. All of it is durable
    /// when this returns.
    ///
    /// # Errors
    /// When it could not be written; this node is in no group then.
    pub async fn found(
        &self,
        identity: Identity,
        cluster: ClusterId,
        node: NodeRecord,
    ) -> Result<(), GroupError> {
        let mut store = self.0.store.lock().await;
        let me = raft_id(identity.node);
        let member = Member::new(identity.node);
        let run = self.begin(&mut store, Group { cluster, founder: true }, identity).await?;
        run.raft
            .initialize([(me, member)].into_iter().collect::<std::collections::BTreeMap<_, _>>())
            .await
            .map_err(GroupError::raft)?;
        if !run.wait(ALONE_TIME, |metrics| leader_of(metrics).is_some()).await {
            return Err(GroupError::raft("no leader in a group of one"));
        }
        match run.write(LoggedChange(Change::Found { cluster, node })).await {
            Written::Done(outcome, _) => outcome.into_result().map(drop).map_err(GroupError::Raft),
            Written::NotLeader => Err(GroupError::raft("the leader of a group of one is gone")),
            Written::Unknown(why) => Err(GroupError::Raft(why)),
        }
    }

    /// Leaves its group durably and waits, as a member without anything, for the leader of `cluster`'s group.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn join(&self, identity: Identity, cluster: ClusterId) -> Result<(), GroupError> {
        let mut store = self.0.store.lock().await;
        self.begin(&mut store, Group { cluster, founder: false }, identity).await.map(drop)
    }

    /// What the group says, now and from now on.
    pub fn watch(&self) -> watch::Receiver<Decided> {
        self.0.decided.subscribe()
    }

    /// Commits a change by way of the leader, wherever that is. For a leader it waits for the node timeout at most, and as long
    /// again for the commit. When it returns, this node has usually applied the change, too.
    ///
    /// # Errors
    /// The text of the error reply: the refusal, or that there is no leader or no telling what came of it.
    pub async fn propose(&self, change: Change) -> Result<Outcome, String> {
        match self.run() {
            Some(run) => proposals::propose(&run, change).await,
            None => Err(NO_LEADER.into()),
        }
    }

    /// Answers a member's questions on a connection for [`crate::wire::frame::FrameKind::Metadata`] until it ends.
    pub async fn serve(&self, connection: BusConnection) {
        answers::serve(self, connection).await;
    }

    /// Stops Raft. (openraft 0.9 can hand the leadership to nobody: the others elect somebody after their lease.)
    pub async fn stop(&self) {
        let run = self.0.run.lock().take();
        if let Some(run) = run {
            run.stop().await;
        }
    }
}

/// The group this node is a member of: one it was let in, or one it founded to the end.
fn going_on(store: &LogStore) -> Option<Group> {
    store.group().filter(|group| !group.founder || store.is_founded())
}
