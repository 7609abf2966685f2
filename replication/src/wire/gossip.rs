//! FORMAT: gossip, the core's messages ([`holdfast_cluster::Message`]) as MessagePack in the bus's frames of kind Gossip.
//!
//! ```text
//! [version, header, body]     structs are arrays of their fields, variants are written by name
//! ```
//!
//! New fields go to the end and bring a new version. Only conversions here; what messages mean stands with the core.

use std::borrow::Cow;

use holdfast_cluster::change::{NodeAddress, NodeRecord};
use holdfast_cluster::message::{Body, Header, JoinCard, Message, Positions, Rumour};
use holdfast_words::{
    ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId, ShardId, SlotId, SlotRange, Zone,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

/// Version of these messages.
pub const GOSSIP_VERSION: u16 = 1;

/// A message that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// Not these bytes.
    #[error("gossip message: {0}")]
    Malformed(String),
    /// Another version.
    #[error("a gossip message of version {0}; this node speaks version {GOSSIP_VERSION}")]
    Version(u16),
    /// A slot beyond the last, or a range that ends before it begins.
    #[error("a gossip message names slots {0} to {1}")]
    Slots(u16, u16),
}

type Id = ByteArray<20>;

#[derive(Serialize, Deserialize)]
struct WireMessage<'a>(u16, WireHeader, WireBody<'a>);

#[derive(Serialize, Deserialize)]
struct WireHeader {
    cluster: Id,
    sender: Id,
    incarnation: u64,
    registry_version: u64,
    epoch: u64,
    current_epoch: u64,
    is_master: bool,
    positions: Option<WirePositions>,
}

#[derive(Serialize, Deserialize)]
struct WirePositions {
    shard: Id,
    fence: u64,
    written: WirePoint,
    durable_lsn: u64,
    applied_lsn: u64,
    whole: bool,
    stream_down_ms: u64,
}

/// Epoch and LSN.
#[derive(Serialize, Deserialize)]
struct WirePoint(u64, u64);

/// Node, idle time, suspected.
#[derive(Serialize, Deserialize)]
struct WireRumour(Id, u64, bool);

#[derive(Serialize, Deserialize)]
struct WireAddress<'a> {
    ip: Cow<'a, str>,
    hostname: Cow<'a, str>,
    port: u16,
    bus_port: u16,
}

#[derive(Serialize, Deserialize)]
struct WireNode<'a> {
    id: Id,
    address: WireAddress<'a>,
    zone: Cow<'a, str>,
    shard: Id,
    incarnation: u64,
    no_failover: bool,
}

#[derive(Serialize, Deserialize)]
struct WireJoinCard<'a> {
    node: WireNode<'a>,
    epoch: u64,
    /// First and last slot of each range.
    claims: Vec<(u16, u16)>,
    may_join: bool,
    token: u64,
}

#[derive(Serialize, Deserialize)]
enum WireBody<'a> {
    Ping(Vec<WireRumour>),
    Pong(Vec<WireRumour>),
    Fail { node: Id },
    Meet(WireJoinCard<'a>),
    Welcome { token: u64, seeds: Vec<WireNode<'a>> },
    MeetRefused { token: u64 },
    HandoverReady { shard: Id, epoch: u64, end: WirePoint },
}

/// A message's bytes.
///
/// # Errors
/// Never in practice: the encoder writes into memory.
pub fn encode(message: &Message) -> Result<Vec<u8>, GossipError> {
    let wire = WireMessage(GOSSIP_VERSION, WireHeader::from(&message.header), WireBody::from(&message.body));
    rmp_serde::to_vec(&wire).map_err(|error| GossipError::Malformed(error.to_string()))
}

/// Reads the message that `bytes` are, exactly.
///
/// # Errors
/// When they are another version's, cut short, more than one message, or name slots that there are not.
pub fn decode(bytes: &[u8]) -> Result<Message, GossipError> {
    let malformed = |error: rmp_serde::decode::Error| GossipError::Malformed(error.to_string());
    // The version stands first: another one's message is refused by its number, not by where reading it breaks off.
    if let [0x93, rest @ ..] = bytes {
        let version: u16 = rmp_serde::from_read(rest).map_err(malformed)?;
        if version != GOSSIP_VERSION {
            return Err(GossipError::Version(version));
        }
    }
    let mut rest = bytes;
    let WireMessage(_, header, body) = rmp_serde::from_read(&mut rest).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(GossipError::Malformed(format!("{} bytes follow it", rest.len())));
    }
    Ok(Message { header: header.into(), body: body.try_into()? })
}

impl From<&Header> for WireHeader {
    fn from(header: &Header) -> Self {
        Self {
            cluster: Id::new(header.cluster.0),
            sender: Id::new(header.sender.0),
            incarnation: header.incarnation.0,
            registry_version: header.registry_version,
            epoch: header.epoch.0,
            current_epoch: header.current_epoch.0,
            is_master: header.is_master,
            positions: header.positions.as_ref().map(WirePositions::from),
        }
    }
}

impl From<WireHeader> for Header {
    fn from(wire: WireHeader) -> Self {
        Self {
            cluster: ClusterId(wire.cluster.into_array()),
            sender: NodeId(wire.sender.into_array()),
            incarnation: Incarnation(wire.incarnation),
            registry_version: wire.registry_version,
            epoch: Epoch(wire.epoch),
            current_epoch: Epoch(wire.current_epoch),
            is_master: wire.is_master,
            positions: wire.positions.map(Positions::from),
        }
    }
}

impl From<&Positions> for WirePositions {
    fn from(positions: &Positions) -> Self {
        Self {
            shard: Id::new(positions.shard.0),
            fence: positions.fence.0,
            written: positions.written.into(),
            durable_lsn: positions.durable_lsn.0,
            applied_lsn: positions.applied_lsn.0,
            whole: positions.whole,
            stream_down_ms: positions.stream_down_ms,
        }
    }
}

impl From<WirePositions> for Positions {
    fn from(wire: WirePositions) -> Self {
        Self {
            shard: ShardId(wire.shard.into_array()),
            fence: Epoch(wire.fence),
            written: wire.written.into(),
            durable_lsn: Lsn(wire.durable_lsn),
            applied_lsn: Lsn(wire.applied_lsn),
            whole: wire.whole,
            stream_down_ms: wire.stream_down_ms,
        }
    }
}

impl From<LogPoint> for WirePoint {
    fn from(point: LogPoint) -> Self {
        Self(point.epoch.0, point.lsn.0)
    }
}

impl From<WirePoint> for LogPoint {
    fn from(wire: WirePoint) -> Self {
        Self { epoch: Epoch(wire.0), lsn: Lsn(wire.1) }
    }
}

impl From<&Rumour> for WireRumour {
    fn from(rumour: &Rumour) -> Self {
        Self(Id::new(rumour.node.0), rumour.idle_ms, rumour.suspected)
    }
}

impl From<WireRumour> for Rumour {
    fn from(wire: WireRumour) -> Self {
        Self { node: NodeId(wire.0.into_array()), idle_ms: wire.1, suspected: wire.2 }
    }
}

impl<'a> From<&'a NodeRecord> for WireNode<'a> {
    fn from(node: &'a NodeRecord) -> Self {
        Self {
            id: Id::new(node.id.0),
            address: WireAddress {
                ip: Cow::Borrowed(&node.address.ip),
                hostname: Cow::Borrowed(&node.address.hostname),
                port: node.address.port,
                bus_port: node.address.bus_port,
            },
            zone: Cow::Borrowed(&node.zone.0),
            shard: Id::new(node.shard.0),
            incarnation: node.incarnation.0,
            no_failover: node.no_failover,
        }
    }
}

impl From<WireNode<'_>> for NodeRecord {
    fn from(wire: WireNode<'_>) -> Self {
        Self {
            id: NodeId(wire.id.into_array()),
            address: NodeAddress {
                ip: wire.address.ip.into_owned(),
                hostname: wire.address.hostname.into_owned(),
                port: wire.address.port,
                bus_port: wire.address.bus_port,
            },
            zone: Zone(wire.zone.into_owned()),
            shard: ShardId(wire.shard.into_array()),
            incarnation: Incarnation(wire.incarnation),
            no_failover: wire.no_failover,
        }
    }
}

impl<'a> From<&'a JoinCard> for WireJoinCard<'a> {
    fn from(card: &'a JoinCard) -> Self {
        Self {
            node: WireNode::from(&card.node),
            epoch: card.epoch.0,
            claims: card.claims.iter().map(|range| (range.first.number(), range.last.number())).collect(),
            may_join: card.may_join,
            token: card.token,
        }
    }
}

impl TryFrom<WireJoinCard<'_>> for JoinCard {
    type Error = GossipError;

    fn try_from(wire: WireJoinCard<'_>) -> Result<Self, GossipError> {
        Ok(Self {
            node: wire.node.into(),
            epoch: Epoch(wire.epoch),
            claims: wire.claims.into_iter().map(slot_range).collect::<Result<_, _>>()?,
            may_join: wire.may_join,
            token: wire.token,
        })
    }
}

fn slot_range((first, last): (u16, u16)) -> Result<SlotRange, GossipError> {
    match (SlotId::new(first), SlotId::new(last)) {
        (Some(first), Some(last)) if first <= last => Ok(SlotRange { first, last }),
        _ => Err(GossipError::Slots(first, last)),
    }
}

impl<'a> From<&'a Body> for WireBody<'a> {
    fn from(body: &'a Body) -> Self {
        match body {
            Body::Ping(rumours) => Self::Ping(rumours.iter().map(WireRumour::from).collect()),
            Body::Pong(rumours) => Self::Pong(rumours.iter().map(WireRumour::from).collect()),
            Body::Fail { node } => Self::Fail { node: Id::new(node.0) },
            Body::Meet(card) => Self::Meet(WireJoinCard::from(card)),
            Body::Welcome { token, seeds } => {
                Self::Welcome { token: *token, seeds: seeds.iter().map(WireNode::from).collect() }
            }
            Body::MeetRefused { token } => Self::MeetRefused { token: *token },
            Body::HandoverReady { shard, epoch, end } => {
                Self::HandoverReady { shard: Id::new(shard.0), epoch: epoch.0, end: (*end).into() }
            }
        }
    }
}

impl TryFrom<WireBody<'_>> for Body {
    type Error = GossipError;

    fn try_from(wire: WireBody<'_>) -> Result<Self, GossipError> {
        Ok(match wire {
            WireBody::Ping(rumours) => Self::Ping(rumours.into_iter().map(Rumour::from).collect()),
            WireBody::Pong(rumours) => Self::Pong(rumours.into_iter().map(Rumour::from).collect()),
            WireBody::Fail { node } => Self::Fail { node: NodeId(node.into_array()) },
            WireBody::Meet(card) => Self::Meet(card.try_into()?),
            WireBody::Welcome { token, seeds } => {
                Self::Welcome { token, seeds: seeds.into_iter().map(NodeRecord::from).collect() }
            }
            WireBody::MeetRefused { token } => Self::MeetRefused { token },
            WireBody::HandoverReady { shard, epoch, end } => Self::HandoverReady {
                shard: ShardId(shard.into_array()),
                epoch: Epoch(epoch),
                end: end.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            cluster: ClusterId([1; 20]),
            sender: NodeId([2; 20]),
            incarnation: Incarnation(3),
            registry_version: 4,
            epoch: Epoch(5),
            current_epoch: Epoch(6),
            is_master: true,
            positions: Some(Positions {
                shard: ShardId([7; 20]),
                fence: Epoch(8),
                written: LogPoint { epoch: Epoch(9), lsn: Lsn(10) },
                durable_lsn: Lsn(11),
                applied_lsn: Lsn(12),
                whole: true,
                stream_down_ms: 13,
            }),
        }
    }

    fn node(number: u8) -> NodeRecord {
        NodeRecord {
            id: NodeId([number; 20]),
            address: NodeAddress {
                ip: "10.0.0.1".to_owned(),
                hostname: "one.example".to_owned(),
                port: 7000,
                bus_port: 17000,
            },
            zone: Zone("rack 1".to_owned()),
            shard: ShardId([number; 20]),
            incarnation: Incarnation(14),
            no_failover: true,
        }
    }

    fn bodies() -> Vec<Body> {
        let slots =
            |first, last| SlotRange { first: SlotId::new(first).unwrap(), last: SlotId::new(last).unwrap() };
        let rumours = vec![
            Rumour { node: NodeId([20; 20]), idle_ms: u64::MAX, suspected: true },
            Rumour { node: NodeId([21; 20]), idle_ms: 15, suspected: false },
        ];
        vec![
            Body::Ping(rumours.clone()),
            Body::Pong(rumours),
            Body::Pong(Vec::new()),
            Body::Fail { node: NodeId([22; 20]) },
            Body::Meet(JoinCard {
                node: node(23),
                epoch: Epoch(16),
                claims: vec![slots(0, 0), slots(5, 16383)],
                may_join: true,
                token: 17,
            }),
            Body::Welcome { token: 18, seeds: vec![node(24), node(25)] },
            Body::MeetRefused { token: 19 },
            Body::HandoverReady {
                shard: ShardId([26; 20]),
                epoch: Epoch(27),
                end: LogPoint { epoch: Epoch(28), lsn: Lsn(29) },
            },
        ]
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_never_from_less_or_more() {
        for header in [header(), Header { positions: None, ..header() }] {
            for body in bodies() {
                let message = Message { header: header.clone(), body };
                let mut bytes = encode(&message).unwrap();
                assert_eq!(decode(&bytes).unwrap(), message);
                for length in 0..bytes.len() {
                    assert!(decode(&bytes[..length]).is_err(), "{length} bytes of {message:?}");
                }
                bytes.push(0);
                assert!(decode(&bytes).is_err());
            }
        }
    }

    #[test]
    fn the_bytes_of_a_message_are_these() {
        let message = Message { header: Header::default(), body: Body::MeetRefused { token: 7 } };
        let mut expected = vec![0x93, 1, 0x98];
        for _ in 0..2 {
            expected.extend([0xc4, 20]);
            expected.extend([0; 20]);
        }
        expected.extend([0, 0, 0, 0, 0xc2, 0xc0, 0x81, 0xab]);
        expected.extend(b"MeetRefused");
        expected.extend([0x91, 7]);
        assert_eq!(encode(&message).unwrap(), expected);
    }

    #[test]
    fn another_version_is_named_whatever_follows_it() {
        let mut bytes = encode(&Message { header: header(), body: Body::Ping(Vec::new()) }).unwrap();
        bytes[1] = 2;
        assert!(matches!(decode(&bytes), Err(GossipError::Version(2))));
        assert!(matches!(decode(&[0x93, 2, 0xc1]), Err(GossipError::Version(2))));
    }

    #[test]
    fn slots_that_there_are_not_are_refused() {
        assert!(slot_range((3, 3)).is_ok());
        assert!(matches!(slot_range((5, 4)), Err(GossipError::Slots(5, 4))));
        assert!(matches!(slot_range((0, 16384)), Err(GossipError::Slots(0, 16384))));
    }

    #[test]
    fn garbage_is_refused_without_a_panic() {
        let whole = encode(&Message { header: header(), body: bodies().swap_remove(5) }).unwrap();
        let mut dice = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..dice.usize(1..6) {
                let at = dice.usize(2..bytes.len());
                bytes[at] = dice.u8(..);
            }
            // A changed id or number is a message too; what matters is that reading it ends well.
            if let Ok(message) = decode(&bytes) {
                assert_eq!(decode(&encode(&message).unwrap()).unwrap(), message);
            }
        }
        // Announced sizes are not believed.
        assert!(decode(&[0x93, 1, 0xdd, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn a_ping_about_a_hundred_nodes_fits_a_frame_by_far() {
        let rumours =
            (0..100).map(|n| Rumour { node: NodeId([n; 20]), idle_ms: 15_000, suspected: true }).collect();
        let bytes = encode(&Message { header: header(), body: Body::Ping(rumours) }).unwrap();
        assert!(bytes.len() < 4096, "{}", bytes.len());
    }
}
