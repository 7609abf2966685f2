//! FORMAT: gossip, the core's messages ([`holdfast_cluster::Message`]) as MessagePack in the bus's frames of kind Gossip:
//! `[version, header, body]`. Variants are written by name and fields by place: new ones go to the end and bring a new version.

use holdfast_cluster::change::{NodeAddress, NodeRecord};
use holdfast_cluster::message::{Body, Header, JoinCard, Message, Positions, Rumour};
use holdfast_words::{ClusterId, Epoch, Incarnation, LogPoint, Lsn, NodeId, ShardId, SlotRange, Zone};
use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};
use super::pack::pack_as;

/// Version of these messages.
pub const GOSSIP_VERSION: u16 = 2;

#[derive(Serialize, Deserialize)]
#[serde(remote = "LogPoint")]
struct LogPointDef {
    #[serde(with = "super::pack")]
    epoch: Epoch,
    #[serde(with = "super::pack")]
    lsn: Lsn,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Positions")]
struct PositionsDef {
    #[serde(with = "super::pack")]
    shard: ShardId,
    #[serde(with = "super::pack")]
    fence: Epoch,
    #[serde(with = "super::pack")]
    written: LogPoint,
    #[serde(with = "super::pack")]
    durable_lsn: Lsn,
    #[serde(with = "super::pack")]
    applied_lsn: Lsn,
    whole: bool,
    trusted: bool,
    stream_down_ms: u64,
    #[serde(default = "yes")]
    can_write: bool,
}

/// Who does not say so writes.
fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Header")]
struct HeaderDef {
    #[serde(with = "super::pack")]
    cluster: ClusterId,
    #[serde(with = "super::pack")]
    sender: NodeId,
    #[serde(with = "super::pack")]
    incarnation: Incarnation,
    registry_version: u64,
    #[serde(with = "super::pack")]
    epoch: Epoch,
    #[serde(with = "super::pack")]
    current_epoch: Epoch,
    is_master: bool,
    #[serde(with = "super::pack")]
    positions: Option<Positions>,
    ping_token: u64,
    grants: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Rumour")]
struct RumourDef {
    #[serde(with = "super::pack")]
    node: NodeId,
    idle_ms: u64,
    suspected: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NodeAddress")]
struct NodeAddressDef {
    ip: String,
    hostname: String,
    port: u16,
    bus_port: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "NodeRecord")]
struct NodeRecordDef {
    #[serde(with = "super::pack")]
    id: NodeId,
    #[serde(with = "super::pack")]
    address: NodeAddress,
    #[serde(with = "super::pack")]
    zone: Zone,
    #[serde(with = "super::pack")]
    shard: ShardId,
    #[serde(with = "super::pack")]
    incarnation: Incarnation,
    no_failover: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "JoinCard")]
struct JoinCardDef {
    #[serde(with = "super::pack")]
    node: NodeRecord,
    #[serde(with = "super::pack")]
    epoch: Epoch,
    #[serde(with = "super::pack")]
    claims: Vec<SlotRange>,
    may_join: bool,
    token: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Body")]
enum BodyDef {
    Ping(#[serde(with = "super::pack")] Vec<Rumour>),
    Pong(#[serde(with = "super::pack")] Vec<Rumour>),
    Fail {
        #[serde(with = "super::pack")]
        node: NodeId,
    },
    Meet(#[serde(with = "super::pack")] JoinCard),
    Welcome {
        token: u64,
        #[serde(with = "super::pack")]
        seeds: Vec<NodeRecord>,
    },
    MeetRefused {
        token: u64,
    },
    HandoverReady {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        epoch: Epoch,
        #[serde(with = "super::pack")]
        end: LogPoint,
    },
    LeaseWithheld {
        #[serde(with = "super::pack")]
        shard: ShardId,
        #[serde(with = "super::pack")]
        epoch: Epoch,
        idle_ms: u64,
    },
}

pack_as! {
    LogPoint => LogPointDef,
    Positions => PositionsDef,
    Header => HeaderDef,
    Rumour => RumourDef,
    NodeAddress => NodeAddressDef,
    NodeRecord => NodeRecordDef,
    JoinCard => JoinCardDef,
    Body => BodyDef,
}

#[derive(Serialize, Deserialize)]
struct MessageForm(u16, #[serde(with = "super::pack")] Header, #[serde(with = "super::pack")] Body);

/// A message's bytes.
///
/// # Errors
/// Never in practice: the encoder writes into memory.
pub fn encode(message: Message) -> Result<Vec<u8>, BodyError> {
    body::encode(&MessageForm(GOSSIP_VERSION, message.header, message.body))
}

/// The message that `bytes` are.
///
/// # Errors
/// When they are none, or one of another version.
pub fn decode(bytes: &[u8]) -> Result<Message, BodyError> {
    let MessageForm(version, header, body) = body::decode(bytes)?;
    if version != GOSSIP_VERSION {
        return Err(BodyError(format!(
            "gossip of version {version}; this node speaks version {GOSSIP_VERSION}"
        )));
    }
    Ok(Message { header, body })
}

#[cfg(test)]
mod tests {
    use holdfast_words::SlotId;

    use super::*;

    fn header() -> Header {
        Header {
            cluster: ClusterId([1; 20]),
            sender: NodeId([2; 20]),
            incarnation: Incarnation(3),
            registry_version: 4,
            epoch: Epoch(5),
            current_epoch: Epoch(u64::MAX),
            is_master: true,
            positions: Some(Positions {
                shard: ShardId([6; 20]),
                fence: Epoch(7),
                written: LogPoint { epoch: Epoch(8), lsn: Lsn(9) },
                durable_lsn: Lsn(10),
                applied_lsn: Lsn(11),
                whole: true,
                trusted: true,
                stream_down_ms: 12,
                can_write: false,
            }),
            ping_token: 13,
            grants: Some(u64::MAX),
        }
    }

    fn record() -> NodeRecord {
        NodeRecord {
            id: NodeId([9; 20]),
            address: NodeAddress { ip: "::1".into(), hostname: "h".into(), port: 7000, bus_port: 17000 },
            zone: Zone("rack".into()),
            shard: ShardId([8; 20]),
            incarnation: Incarnation(2),
            no_failover: true,
        }
    }

    #[test]
    fn every_message_is_read_as_it_was_written_and_never_from_less_or_more() {
        let slots =
            |first, last| SlotRange { first: SlotId::new(first).unwrap(), last: SlotId::new(last).unwrap() };
        let rumours = vec![Rumour { node: NodeId([3; 20]), idle_ms: u64::MAX, suspected: true }];
        let card = JoinCard {
            node: record(),
            epoch: Epoch(1),
            claims: vec![slots(0, 5460), slots(16383, 16383)],
            may_join: true,
            token: 77,
        };
        let bodies = [
            Body::Ping(rumours.clone()),
            Body::Pong(rumours),
            Body::Fail { node: NodeId([4; 20]) },
            Body::Meet(card),
            Body::Welcome { token: 77, seeds: vec![record(), record()] },
            Body::MeetRefused { token: 77 },
            Body::HandoverReady {
                shard: ShardId([1; 20]),
                epoch: Epoch(2),
                end: LogPoint { epoch: Epoch(1), lsn: Lsn(3) },
            },
            Body::LeaseWithheld { shard: ShardId([1; 20]), epoch: Epoch(2), idle_ms: 3 },
        ];
        for body in bodies {
            let message = Message { header: header(), body };
            let mut bytes = encode(message.clone()).unwrap();
            assert_eq!(decode(&bytes).unwrap(), message);
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{length} bytes of {message:?}");
            }
            bytes.push(0);
            assert!(decode(&bytes).is_err());
            bytes.pop();
            // The version stands right after the array's head.
            bytes[1] += 1;
            assert!(decode(&bytes).unwrap_err().to_string().contains("version 3"));
        }
    }

    #[test]
    fn slots_that_are_none_and_ranges_that_run_backwards_are_refused() {
        #[derive(Serialize, Deserialize)]
        struct Ranges(#[serde(with = "crate::wire::pack")] Vec<SlotRange>);
        for pair in [(5u16, 4u16), (0, 16384), (65535, 65535)] {
            let bytes = body::encode(&vec![pair]).unwrap();
            assert!(body::decode::<Ranges>(&bytes).is_err(), "{pair:?}");
        }
        let bytes = body::encode(&vec![(4u16, 5u16)]).unwrap();
        assert_eq!(body::decode::<Ranges>(&bytes).unwrap().0.len(), 1);
    }
}
