//! Real sockets on free ports of 127.0.0.1.

use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_cluster::message::{Body, Header};
use holdfast_words::Epoch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::platform::{self, TcpStream};
use crate::wire::hello;

struct Node {
    id: NodeId,
    address: SocketAddr,
    links: Links,
    news: mpsc::Receiver<News>,
}

async fn node_at(number: u8, secret: &str, port: u16) -> Node {
    let id = NodeId([number; 20]);
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, news) = mpsc::channel(100);
    let identity = Identity { node: id, secret: secret.as_bytes().to_vec() };
    Node { id, address, links: Links::open(Me::new(identity), vec![listener], sender), news }
}

async fn node(number: u8, secret: &str) -> Node {
    node_at(number, secret, 0).await
}

impl Node {
    fn says(&self, epoch: u64) -> Message {
        let header = Header { sender: self.id, epoch: Epoch(epoch), ..Header::default() };
        Message { header, body: Body::Ping(Vec::new()) }
    }

    fn ping(&mut self, other: &Node, epoch: u64) {
        let message = self.says(epoch);
        self.links.send_to_node(other.id, other.address, message);
    }

    async fn hears(&mut self) -> Option<News> {
        platform::within_ms(5000, self.news.recv()).await.flatten()
    }

    /// Sender and epoch of the next message.
    async fn receives(&mut self) -> (NodeId, u64) {
        loop {
            match self.hears().await.expect("a message") {
                News::Received { message, from } => {
                    assert!(from.ip().is_loopback());
                    return (message.header.sender, message.header.epoch.0);
                }
                News::Link { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits for the link to come up or go down.
    async fn sees_link(&mut self, wanted: bool) {
        loop {
            match self.hears().await.expect("news of the link") {
                News::Link { connected, local, .. } if connected == wanted => {
                    assert_eq!(local.is_some(), wanted);
                    return;
                }
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn gossip_arrives_in_order_and_both_ends_list_the_connection() {
    let (mut one, mut two) = (node(1, "s").await, node(2, "s").await);
    for epoch in 1..=20 {
        one.ping(&two, epoch);
    }
    for epoch in 1..=20 {
        assert_eq!(two.receives().await, (one.id, epoch));
    }
    one.sees_link(true).await;
    let (at_one, at_two) = (one.links.list(), two.links.list());
    assert_eq!((at_one.len(), at_one[0].outgoing, at_one[0].node), (1, true, two.id));
    assert_eq!((at_two.len(), at_two[0].outgoing, at_two[0].node), (1, false, one.id));
    assert_eq!(at_one[0].send_buffer_bytes, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_that_comes_back_is_dialed_again_and_hears_nothing_old() {
    let (mut one, mut two) = (node(1, "s").await, node(2, "s").await);
    one.ping(&two, 1);
    assert_eq!(two.receives().await, (one.id, 1));
    let (id, address) = (two.id, two.address);
    drop(two);
    one.sees_link(true).await;
    one.sees_link(false).await;
    assert!(one.links.list().is_empty());
    for epoch in 2..200 {
        let message = one.says(epoch);
        one.links.send_to_node(id, address, message);
    }
    // Long enough for a dial to fail and what waits to be dropped.
    platform::sleep_ms(400).await;
    let mut two = node_at(2, "s", address.port()).await;
    one.sees_link(true).await;
    one.ping(&two, 1000);
    assert_eq!(two.receives().await, (one.id, 1000));
}

#[tokio::test(flavor = "current_thread")]
async fn a_dropped_link_is_dialed_anew_and_the_other_side_keeps_the_newer_one() {
    let (mut one, mut two) = (node(1, "").await, node(2, "").await);
    one.ping(&two, 1);
    assert_eq!(two.receives().await, (one.id, 1));
    one.links.drop_link(two.id);
    one.ping(&two, 2);
    assert_eq!(two.receives().await, (one.id, 2));
    platform::sleep_ms(50).await;
    assert_eq!(two.links.list().len(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn an_older_connection_that_never_ended_gives_way_to_the_newer_one() {
    let mut two = node(2, "s").await;
    let one = Identity { node: NodeId([1; 20]), secret: b"s".to_vec() };
    let (mut older, _) = connect::connect(&one, two.address, FrameKind::Gossip, None).await.unwrap();
    platform::sleep_ms(50).await;
    let (_newer, _) = connect::connect(&one, two.address, FrameKind::Gossip, None).await.unwrap();
    assert!(platform::within_ms(2000, older.reader.next()).await.unwrap().unwrap().is_none());
    assert_eq!(two.links.list().len(), 1);
    two.news.close();
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_without_a_name_is_enough_to_be_heard() {
    let (mut one, mut two) = (node(1, "s").await, node(2, "s").await);
    let message = one.says(3);
    one.links.send_to_address(two.address, message);
    assert_eq!(two.receives().await, (one.id, 3));
}

#[tokio::test(flavor = "current_thread")]
async fn a_member_whose_address_is_another_nodes_by_now_is_not_talked_to() {
    let (mut one, mut two) = (node(1, "s").await, node(2, "s").await);
    let message = one.says(1);
    one.links.send_to_node(NodeId([9; 20]), two.address, message);
    assert!(platform::within_ms(500, two.news.recv()).await.is_none());
    assert!(one.links.list().is_empty());
    // Its record is corrected: the link follows.
    let mut nine = node(9, "s").await;
    one.ping(&nine, 2);
    assert_eq!(nine.receives().await, (one.id, 2));
}

#[tokio::test(flavor = "current_thread")]
async fn who_speaks_in_anothers_name_is_hung_up_on_unheard() {
    let mut two = node(2, "s").await;
    let one = Identity { node: NodeId([1; 20]), secret: b"s".to_vec() };
    let (mut connection, _) = connect::connect(&one, two.address, FrameKind::Gossip, None).await.unwrap();
    let header = Header { sender: NodeId([3; 20]), ..Header::default() };
    let forged = gossip::encode(Message { header, body: Body::Ping(Vec::new()) }).unwrap();
    connection.writer.send(&forged).await.unwrap();
    let heard = platform::within_ms(2000, connection.reader.next()).await.expect("a hang-up");
    assert!(heard.unwrap().is_none());
    assert!(two.news.try_recv().is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn connections_for_other_purposes_are_handed_on_whole() {
    let mut two = node(2, "s").await;
    let one = Identity { node: NodeId([1; 20]), secret: b"s".to_vec() };
    for wanted in [FrameKind::Metadata, FrameKind::LogStream, FrameKind::SlotTransfer] {
        let (mut near, _) = connect::connect(&one, two.address, wanted, Some(two.id)).await.unwrap();
        let Some(News::Connected { kind, mut connection, .. }) = two.hears().await else {
            panic!("no connection")
        };
        assert_eq!((kind, connection.peer), (wanted, one.node));
        near.writer.send(b"a question").await.unwrap();
        assert_eq!(&connection.reader.next().await.unwrap().unwrap()[..], b"a question");
        connection.writer.send(b"an answer").await.unwrap();
        assert_eq!(&near.reader.next().await.unwrap().unwrap()[..], b"an answer");
    }
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_secret_is_logged_once_per_peer_not_per_attempt() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let _listening = tracing::subscriber::set_default(Warnings(warnings.clone()));
    let mut two = node(2, "right").await;
    for (claimed, secret, expected) in [(1, "wrong", 1), (3, "", 2), (1, "wrong", 2)] {
        let stranger = Identity { node: NodeId([claimed; 20]), secret: secret.as_bytes().to_vec() };
        for _ in 0..5 {
            let refused = connect::connect(&stranger, two.address, FrameKind::Gossip, None).await;
            assert!(matches!(refused, Err(connect::ConnectError::Hello { .. })));
        }
        platform::sleep_ms(50).await;
        assert_eq!(warnings.load(Ordering::Relaxed), expected, "node {claimed} with secret {secret:?}");
    }
    assert!(two.news.try_recv().is_err() && two.links.list().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_with_a_wrong_secret_says_so_itself_once_however_often_it_dials() {
    let warnings = Arc::new(AtomicUsize::new(0));
    let two = node(2, "right").await;
    let mut one = node(1, "wrong").await;
    let _listening = tracing::subscriber::set_default(Warnings(warnings.clone()));
    for _ in 0..10 {
        one.ping(&two, 1);
        platform::sleep_ms(100).await;
    }
    // One at each end.
    assert_eq!(warnings.load(Ordering::Relaxed), 2);
    assert!(one.links.list().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn strangers_at_the_port_get_no_byte_and_keep_nobody_else_out() {
    let mut two = node(2, "s").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(two.address).await.unwrap());
    }
    let mut garbage = TcpStream::connect(two.address).await.unwrap();
    garbage.write_all(&[0xff; 100]).await.unwrap();
    let mut answer = Vec::new();
    // A reset is a hang-up too: it left bytes unread.
    if garbage.read_to_end(&mut answer).await.is_ok() {
        assert!(answer.is_empty());
    }
    let mut one = node(1, "s").await;
    one.ping(&two, 5);
    assert_eq!(two.receives().await, (one.id, 5));
    for mut stranger in silent {
        let read = platform::within_ms(hello::HELLO_TIME_MS + 2000, stranger.read_to_end(&mut answer)).await;
        assert!(read.is_some() && answer.is_empty());
    }
}
