//! Masters and replicas of one shard over real sockets on free ports of 127.0.0.1, ordered about by the test in place of the
//! cluster core.

#[path = "mending_tests.rs"]
mod mending_tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use holdfast_cluster::WriteAck;
use holdfast_cluster::change::{NodeAddress, NodeRecord};
use holdfast_cluster::events::Role;
use holdfast_cluster::registry::Registry;
use holdfast_cluster::view::View;
use holdfast_storage::log::{FsyncPolicy, LogConfig};
use holdfast_storage::mutation::{Expiry, Mutation};
use holdfast_storage::slots::Scratch;
use holdfast_storage::store::{Store, StoreConfig};
use holdfast_words::{Epoch, Incarnation, Lsn, NodeId, ShardId, SlotId, Zone};
use tokio::sync::{mpsc, watch};

use super::follower::Context;
use super::member::Member;
use super::replicas::{Progress, Replicas, Standing};
use super::role::{Done, Order, RoleKeeper};
use super::same_bytes::Asker;
use super::sender::Sender;
use crate::handle::{LinkState, Shared};
use crate::links::book::AddressBook;
use crate::links::connect::{BusConnection, connect};
use crate::links::{Links, Me, News};
use crate::platform::{self, TcpListener};
use crate::wire::frame::FrameKind;
use crate::wire::hello::Identity;
use crate::wire::log_stream::Message;

const NODE_TIMEOUT_MS: u64 = 1000;
const SHARD: ShardId = ShardId([77; 20]);

/// Small segments, and as little log kept for replicas as the test wants.
fn store_at(path: &Path, retain_bytes: u64) -> Arc<Store> {
    let log = LogConfig {
        segment_size: 64 << 10,
        fsync: FsyncPolicy::No,
        spare_segments: 1,
        ..LogConfig::default()
    };
    Store::open(path, StoreConfig { log, load_threads: 1, checkpoint_log_size: 0, retain_bytes }).unwrap().0
}

struct Node {
    id: NodeId,
    record: NodeRecord,
    me: Me,
    store: Arc<Store>,
    member: Arc<Member>,
    shared: Arc<Shared>,
    book: AddressBook,
    replicas: Arc<Replicas>,
    asker: Arc<Asker>,
    orders: mpsc::UnboundedSender<Order>,
    done: mpsc::UnboundedReceiver<Done>,
    _links: Links,
    _directory: tempfile::TempDir,
}

async fn node(number: u8, retain_bytes: u64) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let store = store_at(directory.path(), retain_bytes);
    let id = NodeId([number; 20]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bus_port = listener.local_addr().unwrap().port();
    let me = Me::new(Identity { node: id, secret: b"secret".to_vec() });
    let (to_news, mut news) = mpsc::channel(100);
    let links = Links::open(me.clone(), vec![listener], to_news);
    let book = AddressBook::default();
    let shared = Shared::new(Arc::new(View::initial(id, &Arc::new(Registry::default()))));
    let member = Member::new(store.clone(), platform::now_ms());
    let replicas = Replicas::new(store.clone(), shared.clone(), book.clone());
    let context = Context::new(me.clone(), member.clone(), shared.clone(), book.clone(), NODE_TIMEOUT_MS, 1);
    let (mastership, seen) = watch::channel(None);
    let asker = Asker::new(me.clone(), book.clone(), member.clone());
    let sender =
        Sender::new(member.clone(), replicas.clone(), book.clone(), seen, asker.clone(), NODE_TIMEOUT_MS);
    let (orders, done) = RoleKeeper::start(context, replicas.clone(), mastership, Arc::new(|_| ()));
    tokio::spawn(async move {
        while let Some(news) = news.recv().await {
            if let News::Connected { connection, from, .. } = news {
                tokio::spawn(sender.clone().serve(*connection, from));
            }
        }
    });
    let address = NodeAddress { ip: "127.0.0.1".into(), hostname: String::new(), port: 1, bus_port };
    let (zone, incarnation) = (Zone::default(), Incarnation(1));
    let record = NodeRecord { id, address, zone, shard: SHARD, incarnation, no_failover: false };
    Node {
        id,
        record,
        me,
        store,
        member,
        shared,
        book,
        replicas,
        asker,
        orders,
        done,
        _links: links,
        _directory: directory,
    }
}

impl Node {
    async fn is_ordered(&mut self, order: Order) {
        self.orders.send(order).unwrap();
        platform::within_ms(5000, self.done.recv()).await.expect("the order is carried out").unwrap();
    }

    async fn leads(&mut self, epoch: u64) {
        self.is_ordered(Order::Role { shard: SHARD, epoch: Epoch(epoch), role: Role::Master }).await;
    }

    async fn follows(&mut self, master: &Node, epoch: u64) {
        self.book.learn([&master.record, &self.record]);
        master.book.learn([&master.record, &self.record]);
        let role = Role::Replica { master: master.id };
        self.is_ordered(Order::Role { shard: SHARD, epoch: Epoch(epoch), role }).await;
    }

    fn set(&self, key: &str, value: &str) {
        let mut scratch = Scratch::default();
        let mut slots = self.store.lock(&[SlotId::of_key(key.as_bytes())], 1, &mut scratch);
        assert!(slots.may_change(), "this node is not the master");
        let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
        slots.mutate(&Mutation::SetString { key, value, expiry: Expiry::Clear });
        let lsn = slots.commit().unwrap();
        self.store.log().write_up_to(lsn).unwrap();
    }

    fn fill(&self, keys: std::ops::Range<u32>) {
        keys.for_each(|number| self.set(&format!("key{number}"), &format!("{number:0200}")));
    }

    fn end(&self) -> Lsn {
        self.store.log().end().lsn
    }

    fn link(&self) -> Option<LinkState> {
        crate::Handle::new(self.shared.clone(), mpsc::unbounded_channel().0)
            .master_link()
            .map(|link| link.state)
    }

    /// Waits until it holds what the master holds, and the master knows.
    async fn catches_up_with(&self, master: &Node) {
        let handle = crate::Handle::new(master.shared.clone(), mpsc::unbounded_channel().0);
        let caught_up = async {
            loop {
                let at_end = self.end() == master.end() && self.store.is_whole();
                let known = handle
                    .replicas()
                    .iter()
                    .any(|r| r.node == self.id && r.online && r.written_lsn == master.end());
                if at_end && known && self.link() == Some(LinkState::Streaming) {
                    return;
                }
                platform::sleep_ms(5).await;
            }
        };
        platform::within_ms(10_000, caught_up).await.expect("the replica catches up");
        assert_eq!(self.store.digest(), master.store.digest());
    }

    /// Somebody who speaks for itself instead of a node.
    async fn stranger_at(&self, master: &Node) -> BusConnection {
        let identity = self.me.identity();
        let address = master.book.bus_of(master.id).unwrap();
        connect(&identity, address, FrameKind::LogStream, Some(master.id)).await.unwrap().0
    }
}

async fn next(connection: &mut BusConnection) -> Option<Message<'static>> {
    let body = platform::within_ms(5000, connection.reader.next()).await.expect("a word in time").unwrap();
    // Leaked, so that a test can keep what borrows from it.
    body.map(|body| Message::decode(body.to_vec().leak()).unwrap())
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_gets_what_was_there_and_what_comes() {
    let (mut master, mut replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    master.leads(1).await;
    master.fill(0..200);
    replica.follows(&master, 1).await;
    replica.catches_up_with(&master).await;
    master.fill(100..300);
    replica.catches_up_with(&master).await;
    assert_eq!(replica.store.log().epoch(), Epoch(1));
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_that_was_away_within_retention_gets_only_the_rest() {
    let (mut master, mut replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    master.leads(1).await;
    master.replicas.expect([replica.id].into(), [master.id].into());
    master.fill(0..100);
    replica.follows(&master, 1).await;
    replica.catches_up_with(&master).await;
    let first = replica.store.log().first_lsn();
    replica.is_ordered(Order::Fence { shard: SHARD, epoch: Epoch(2) }).await;
    master.fill(100..2000);
    master.store.checkpoint().unwrap();
    replica.follows(&master, 2).await;
    master.leads(2).await;
    replica.catches_up_with(&master).await;
    assert_eq!(replica.store.log().first_lsn(), first, "the log was not begun anew");
}

#[tokio::test(flavor = "current_thread")]
async fn a_replica_that_was_away_past_retention_copies_everything_while_writes_go_on() {
    let (mut master, mut replica) = (node(1, 0).await, node(2, 0).await);
    master.leads(1).await;
    master.fill(0..3000);
    master.store.checkpoint().unwrap();
    assert!(master.store.log().first_lsn() > Lsn::ZERO, "the log's beginning is gone");
    replica.follows(&master, 1).await;
    for round in 0..20 {
        master.fill(round * 10..round * 10 + 50);
        platform::sleep_ms(2).await;
    }
    replica.catches_up_with(&master).await;
    assert!(replica.store.log().first_lsn() > Lsn::ZERO);
    drop(replica.orders);
}

#[tokio::test(flavor = "current_thread")]
async fn a_deposed_masters_tail_is_cut_and_kept_when_it_follows() {
    let (mut old, mut new) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    old.leads(1).await;
    old.fill(0..50);
    new.follows(&old, 1).await;
    new.catches_up_with(&old).await;
    new.leads(2).await;
    new.fill(50..60);
    // Alone and not knowing: nobody got this.
    old.set("lost", "tail");
    old.follows(&new, 2).await;
    old.catches_up_with(&new).await;
    assert_eq!(old.store.set_aside_count().unwrap(), 1);
    assert!(
        old.store.slots().with(SlotId::of_key(b"lost"), |slot| slot.keyspace().get(b"lost", 1).is_none())
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_master_of_an_older_epoch_is_not_listened_to_and_serves_nobody_who_knows_better() {
    let (mut master, mut replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    master.leads(1).await;
    master.fill(0..10);
    replica.follows(&master, 1).await;
    replica.catches_up_with(&master).await;
    replica.is_ordered(Order::Fence { shard: SHARD, epoch: Epoch(2) }).await;
    let end = replica.end();
    master.fill(10..20);
    platform::sleep_ms(300).await;
    assert_eq!(replica.end(), end, "a frame of an older epoch was taken");
    assert_eq!(replica.member.positions(platform::now_ms()).fence, Epoch(2));
    let mut connection = replica.stranger_at(&master).await;
    let follow = Message::Follow {
        shard: SHARD.0.to_vec(),
        history: vec![],
        first_lsn: 0,
        end_epoch: 0,
        end_lsn: 0,
        fence: 2,
        copy: None,
        data_port: 1,
    };
    connection.writer.send(&follow.encode().unwrap()).await.unwrap();
    let answer = next(&mut connection).await;
    assert!(matches!(&answer, Some(Message::Refused { reason }) if reason.contains("epoch")), "{answer:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn acknowledgements_of_another_epoch_count_for_nothing() {
    let (mut master, replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    master.leads(3).await;
    master.book.learn([&master.record, &replica.record]);
    let mut connection = replica.stranger_at(&master).await;
    let (shard, history) = (SHARD.0.to_vec(), vec![]);
    let follow = Message::Follow {
        shard,
        history,
        first_lsn: 0,
        end_epoch: 0,
        end_lsn: 0,
        fence: 3,
        copy: None,
        data_port: 1,
    };
    connection.writer.send(&follow.encode().unwrap()).await.unwrap();
    assert!(matches!(next(&mut connection).await, Some(Message::Heartbeat { epoch: 3, .. })));
    let handle = crate::Handle::new(master.shared.clone(), mpsc::unbounded_channel().0);
    for (epoch, counted) in [(2, 0), (4, 0), (3, 900)] {
        let ack = Message::Ack { epoch, written: 900, durable: 900, applied: 900 };
        connection.writer.send(&ack.encode().unwrap()).await.unwrap();
        platform::sleep_ms(100).await;
        assert_eq!(handle.replicas()[0].written_lsn, Lsn(counted), "acknowledged under epoch {epoch}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_copy_that_broke_off_goes_on_where_it_was() {
    let (mut master, replica) = (node(1, 0).await, node(2, 0).await);
    master.leads(1).await;
    master.fill(0..3000);
    master.store.checkpoint().unwrap();
    master.book.learn([&master.record, &replica.record]);
    let follow = |copy| Message::Follow {
        shard: SHARD.0.to_vec(),
        history: vec![],
        first_lsn: 0,
        end_epoch: 0,
        end_lsn: 0,
        fence: 1,
        copy,
        data_port: 1,
    };
    let mut connection = replica.stranger_at(&master).await;
    connection.writer.send(&follow(None).encode().unwrap()).await.unwrap();
    let Some(Message::CopyBegins { start_lsn, resume_slot: 0, .. }) = next(&mut connection).await else {
        panic!("a copy from the first slot")
    };
    drop(connection);
    let so_far = crate::wire::log_stream::CopySoFar { epoch: 1, start_lsn, next_slot: 16000 };
    let mut connection = replica.stranger_at(&master).await;
    connection.writer.send(&follow(Some(so_far)).encode().unwrap()).await.unwrap();
    let begins = next(&mut connection).await;
    let goes_on = matches!(begins, Some(Message::CopyBegins { start_lsn: lsn, resume_slot: 16000, .. }) if lsn == start_lsn);
    assert!(goes_on, "{begins:?}");
    while let Some(message) = next(&mut connection).await {
        match message {
            Message::Image { bytes, .. } => {
                let header = holdfast_storage::checkpoint::image_format::ChunkHeader::decode(&bytes).unwrap();
                assert!(header.stamp.slot.number() >= 16000, "a slot that is there already");
            }
            Message::CopyEnds { .. } => return,
            other => panic!("{other:?}"),
        }
    }
    panic!("the copy did not end");
}

#[tokio::test(flavor = "current_thread")]
async fn a_master_that_has_lost_what_its_replica_has_is_not_followed() {
    let (mut master, mut replica) = (node(1, 1 << 30).await, node(2, 1 << 30).await);
    replica.leads(1).await;
    replica.fill(0..10);
    let digest = replica.store.digest();
    master.leads(1).await;
    replica.follows(&master, 1).await;
    platform::sleep_ms(500).await;
    assert_eq!(replica.store.digest(), digest, "data were thrown away for a master that has less");
    assert_ne!(replica.link(), Some(LinkState::Streaming));
}

#[tokio::test(flavor = "current_thread")]
async fn a_write_that_waits_for_the_in_sync_set_does_not_become_weaker_by_write_ack_local() {
    let master = node(1, 1 << 30).await;
    let replica = NodeId([2; 20]);
    let members = BTreeSet::from([master.id, replica]);
    master.replicas.stand(Standing::Master(master.id));
    master.replicas.set_write_ack(WriteAck::InSync);
    master.replicas.expect(BTreeSet::from([replica]), members);
    let has = |written| Progress { written, durable: Lsn::ZERO, applied: written };
    let connection = master.replicas.begin_streaming(replica, Lsn::ZERO);
    let committed = || master.store.log().positions().committed_lsn();
    master.store.slots().open_to_commands();
    master.set("key", "waits");
    let waits = master.end();
    master.replicas.set_write_ack(WriteAck::Local);
    assert_eq!(committed(), Lsn::ZERO, "the replica has nothing yet");
    master.set("key", "came after");
    assert_eq!(committed(), Lsn::ZERO, "what came after waits with it");
    master.replicas.on_ack(replica, connection, has(waits));
    assert_eq!(committed(), master.end(), "from now on this node's word is enough");
    master.set("key", "local");
    assert_eq!(committed(), master.end());
    let before = master.end();
    master.replicas.set_write_ack(WriteAck::InSync);
    assert_eq!(committed(), waits, "the stricter rule holds at once");
    master.replicas.on_ack(replica, connection, has(before));
    assert_eq!(committed(), before);
}

#[tokio::test(flavor = "current_thread")]
async fn under_write_ack_local_a_log_that_is_always_synced_commits_what_is_on_the_disk() {
    let master = node(1, 1 << 30).await;
    master.replicas.stand(Standing::Master(master.id));
    master.store.slots().open_to_commands();
    master.store.log().set_fsync_policy(FsyncPolicy::Always);
    master.replicas.set_write_ack(WriteAck::Local);
    master.set("key", "value");
    let positions = master.store.log().positions();
    let durable = async {
        while positions.committed_lsn() < master.end() {
            assert!(positions.committed_lsn() <= positions.durable_lsn());
            platform::sleep_ms(5).await;
        }
    };
    platform::within_ms(5000, durable).await.expect("it is synced");
}
