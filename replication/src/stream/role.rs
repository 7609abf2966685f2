//! Master or replica, in the order in which the cluster core says so. One task carries the orders out one after the other,
//! since some of them wait for the disk, and says where the log stands when each is done.

use std::sync::Arc;

use holdfast_cluster::events::Role;
use holdfast_storage::log::AppendError;
use holdfast_storage::store::StoreError;
use holdfast_words::{Epoch, LogPoint, Lsn, NodeId, ShardId};
use tokio::sync::{mpsc, oneshot, watch};

use super::follower::{Context, Follower, Target};
use super::member::Member;
use super::replicas::{Replicas, Standing};
use super::sender::Mastership;
use crate::platform;
use crate::platform::sabotage::{self, Switch};

/// What the core orders; see [`holdfast_cluster::Event`] for the meaning.
#[derive(Debug)]
pub enum Order {
    /// An election is under way.
    Fence {
        /// The shard.
        shard: ShardId,
        /// The election's epoch.
        epoch: Epoch,
    },
    /// What this node is now.
    Role {
        /// Its shard.
        shard: ShardId,
        /// The shard's epoch.
        epoch: Epoch,
        /// Its role.
        role: Role,
    },
    /// Nothing is to be appended any more, for a handover.
    Pause {
        /// The handover's epoch.
        epoch: Epoch,
    },
    /// The handover is over.
    Resume,
    /// The node begins anew, with nothing (CLUSTER RESET).
    Reset {
        /// As this node.
        node: NodeId,
        /// With a shard of its own.
        shard: ShardId,
        /// When it is done.
        done: oneshot::Sender<Result<(), String>>,
    },
    /// The node stops.
    Stop {
        /// When it is done.
        done: oneshot::Sender<()>,
    },
}

/// Something was carried out.
#[derive(Debug)]
pub enum Done {
    /// The log stands still at this end.
    Paused {
        /// The handover's epoch.
        epoch: Epoch,
        /// The log's end.
        end: LogPoint,
    },
    /// A role or fence was carried out; the positions say so.
    Settled,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
enum RoleError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("this node's slot images are damaged: it leads nothing before it has copied them")]
    Damaged,
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

/// A node that could not begin to follow, since its log takes nothing, tries again after this time.
const FOLLOW_AGAIN_MS: u64 = 500;

/// Holds clients' writes back (true), or lets them go on.
pub type HoldWrites = Arc<dyn Fn(bool) + Send + Sync>;

/// Carries orders out.
pub struct RoleKeeper {
    context: Arc<Context>,
    replicas: Arc<Replicas>,
    mastership: watch::Sender<Option<Mastership>>,
    hold_writes: HoldWrites,
    follower: Option<Follower>,
    /// Whom to follow as soon as the log can be written again.
    unfollowed: Option<Target>,
    /// Where the log stood when it was paused for the handover at this epoch: whoever takes over then has all of it.
    handed_over: Option<(Epoch, LogPoint)>,
    done: mpsc::UnboundedSender<Done>,
}

impl RoleKeeper {
    /// Takes orders until told to stop. At the start no command may write.
    pub fn start(
        context: Arc<Context>,
        replicas: Arc<Replicas>,
        mastership: watch::Sender<Option<Mastership>>,
        hold_writes: HoldWrites,
    ) -> (mpsc::UnboundedSender<Order>, mpsc::UnboundedReceiver<Done>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let (done, dones) = mpsc::unbounded_channel();
        context.member.store.slots().close_to_commands();
        let keeper = Self {
            context,
            replicas,
            mastership,
            hold_writes,
            follower: None,
            unfollowed: None,
            handed_over: None,
            done,
        };
        platform::spawn(keeper.run(ordered));
        (orders, dones)
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = self.next_order(&mut orders).await {
            let what = format!("{order:?}");
            if let Order::Stop { done } = order {
                self.leave_role().await;
                // Whoever asked may have given up waiting.
                done.send(()).ok();
                return;
            }
            let is_repeated = self.unfollowed.is_some();
            if let Err(error) = self.carry_out(order).await
                && !(is_repeated && self.unfollowed.is_some())
            {
                // The positions do not say that it was done, so that nobody counts on this node.
                tracing::error!(%error, order = what, "what the cluster decided could not be carried out on this node");
            }
        }
        self.leave_role().await;
    }

    /// The next order; where the last one, to follow, was not carried out and nothing else is ordered, that one again.
    async fn next_order(&self, orders: &mut mpsc::UnboundedReceiver<Order>) -> Option<Order> {
        let Some(Target { master, shard, epoch }) = self.unfollowed else { return orders.recv().await };
        let again = Order::Role { shard, epoch, role: Role::Replica { master } };
        platform::within_ms(FOLLOW_AGAIN_MS, orders.recv()).await.unwrap_or(Some(again))
    }

    async fn carry_out(&mut self, order: Order) -> Result<(), RoleError> {
        match order {
            Order::Fence { shard, epoch } => self.fence(shard, epoch).await,
            Order::Role { shard, epoch, role: Role::Master } => {
                self.unfollowed = None;
                self.lead(shard, epoch).await
            }
            Order::Role { shard, epoch, role: Role::Replica { master } } => {
                self.follow(Target { master, shard, epoch }).await
            }
            Order::Pause { epoch } => self.pause(epoch).await,
            Order::Resume => {
                self.handed_over = None;
                if self.mastership.borrow().is_some() {
                    self.context.member.store.slots().open_to_commands();
                }
                (self.hold_writes)(false);
                Ok(())
            }
            Order::Reset { node, shard, done } => {
                self.unfollowed = None;
                self.leave_role().await;
                let result = self.begin_anew(node, shard).await.map_err(|error| format!("ERR {error}"));
                done.send(result).ok();
                Ok(())
            }
            Order::Stop { .. } => Ok(()),
        }
    }

    /// Work that may wait for the disk.
    async fn off_the_bus<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Member) -> Result<R, RoleError> + Send + 'static,
    ) -> Result<R, RoleError> {
        let member = self.context.member.clone();
        platform::off_thread(move || work(&member)).await?
    }

    fn settled(&self) {
        self.done.send(Done::Settled).ok();
    }

    async fn leave_role(&mut self) {
        self.mastership.send_replace(None);
        self.replicas.stand(Standing::Undecided);
        if let Some(follower) = self.follower.take() {
            follower.stop().await;
        }
        let member = self.context.member.clone();
        let closed = platform::off_thread(move || member.store.slots().close_to_commands()).await;
        if let Err(error) = closed {
            tracing::error!(%error, "closing the slots ended badly");
        }
    }

    async fn fence(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), RoleError> {
        if shard != self.context.member.store.shard_id() {
            return Ok(());
        }
        let is_ignored = sabotage::is_on(Switch::FenceIgnored);
        if !is_ignored {
            self.replicas.stand(Standing::Undecided);
        }
        self.off_the_bus(move |member| {
            if !is_ignored {
                member.store.slots().close_to_commands();
            }
            member.raise_fence(shard, epoch);
            // Positions are told from here on; what is still in memory is not in them. A log that takes nothing keeps nobody else
            // from leading: that this node stopped is so all the same.
            if let Err(error) = member.settle() {
                tracing::warn!(%error, "the log cannot be written: the election goes by what was written before");
            }
            Ok(())
        })
        .await?;
        self.settled();
        Ok(())
    }

    async fn lead(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), RoleError> {
        self.leave_role().await;
        let me = self.context.me.identity().node;
        self.off_the_bus(move |member| {
            let store = &member.store;
            if store.shard_id() != shard {
                tracing::warn!(%shard, was = %store.shard_id(), "this node is the master of another shard now, and begins with nothing");
                store.become_empty(me, shard, Lsn::ZERO, Vec::new())?;
            }
            if store.is_damaged() {
                return Err(RoleError::Damaged);
            }
            if !store.is_whole() {
                if store.log().end().lsn > Lsn::ZERO {
                    tracing::error!("this node leads with data that a copy left incomplete");
                }
                store.set_whole()?;
            }
            member.raise_fence(shard, epoch);
            member.settle()?;
            if store.log().epoch() < epoch {
                store.log().start_epoch(epoch, me, platform::wall_clock_ms())?;
            }
            Ok(())
        })
        .await?;
        self.context.member.set_stream(true, 0);
        self.context.shared.set_master_link(None);
        self.context.member.set_trusted();
        self.replicas.stand(Standing::Master(me));
        self.mastership.send_replace(Some(Mastership { shard, epoch }));
        self.context.member.store.slots().open_to_commands();
        self.settled();
        Ok(())
    }

    async fn follow(&mut self, target: Target) -> Result<(), RoleError> {
        self.leave_role().await;
        self.unfollowed = Some(target);
        let log = self.context.member.store.log().clone();
        if self.handed_over.take() != Some((target.epoch, log.end())) {
            // What was logged here may not be in the new master's log.
            if !sabotage::is_on(Switch::HeldRepliesSent) {
                log.positions().take_back_replies();
            }
        }
        let me = self.context.me.identity().node;
        self.off_the_bus(move |member| {
            let store = &member.store;
            member.settle()?;
            if store.shard_id() != target.shard {
                store.become_empty(me, target.shard, Lsn::ZERO, Vec::new())?;
            }
            member.raise_fence(target.shard, target.epoch);
            Ok(())
        })
        .await?;
        self.replicas.stand(Standing::Replica);
        self.context.member.set_stream(false, platform::now_ms());
        self.follower = Some(Follower::start(self.context.clone(), target));
        self.unfollowed = None;
        self.settled();
        Ok(())
    }

    async fn pause(&mut self, epoch: Epoch) -> Result<(), RoleError> {
        (self.hold_writes)(true);
        let end = self
            .off_the_bus(|member| {
                member.store.slots().close_to_commands();
                Ok(member.settle()?)
            })
            .await?;
        self.handed_over = Some((epoch, end));
        self.done.send(Done::Paused { epoch, end }).ok();
        Ok(())
    }

    async fn begin_anew(&mut self, node: NodeId, shard: ShardId) -> Result<(), RoleError> {
        self.off_the_bus(move |member| {
            member.store.become_empty(node, shard, Lsn::ZERO, Vec::new())?;
            member.store.set_whole()?;
            member.raise_fence(shard, Epoch::ZERO);
            member.set_trusted();
            Ok(())
        })
        .await?;
        self.context.member.set_stream(true, 0);
        Ok(())
    }
}
