//! FORMAT: messages of the log stream, as MessagePack arrays in the bus's frames.
//!
//! ```text
//! replica → master   AskLead, or: Follow, then Ack whenever a position moves, Heartbeat when nothing does
//! master → replica   Leads, Refused, or: [CutTo] Chunk…, or: CopyBegins Image… CopyEnds Chunk…; Heartbeat when idle
//!
//! member → member    AskLog, again and again: records that damage took from its log
//! member → member    LogBytes to each, or Refused, which ends it
//! ```
//!
//! Variants are written by name and fields by place: new ones go to the end. To a node that does not know it, a message is one out of
//! turn: it hangs up. So a question that older nodes do not know needs no version of its own.

use std::borrow::Cow;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::body::{self, BodyError};

/// Version of these messages.
pub const LOG_STREAM_VERSION: u16 = 1;

/// One message. One that was decoded borrows the log's bytes from its body.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message<'a> {
    /// The replica's first word: what it has and whom it takes the receiver for.
    Follow {
        /// Of which shard (20 bytes).
        #[serde(with = "serde_bytes")]
        shard: Vec<u8>,
        /// Epochs of its log: (epoch, LSN of the first record), ascending.
        history: Vec<(u64, u64)>,
        /// Where its log begins.
        first_lsn: u64,
        /// Epoch of its last record.
        end_epoch: u64,
        /// End of its log.
        end_lsn: u64,
        /// The shard's epoch that the metadata told it; nobody of an older one is listened to.
        fence: u64,
        /// A full copy that broke off and could go on.
        copy: Option<CopySoFar>,
        /// Where the replica's clients connect.
        data_port: u16,
    },
    /// Whole records.
    Chunk {
        /// The master's epoch.
        epoch: u64,
        /// LSN of the first byte.
        at: u64,
        /// What may be shown and is never taken back.
        committed_lsn: u64,
        /// The log's bytes as they are.
        #[serde(borrow, with = "serde_bytes")]
        bytes: Cow<'a, [u8]>,
    },
    /// The replica's log is the master's up to here: set the rest aside.
    CutTo {
        /// The master's epoch.
        epoch: u64,
        /// Where.
        lsn: u64,
    },
    /// A full copy: images of all slots, then the log.
    CopyBegins {
        /// The master's epoch.
        epoch: u64,
        /// The log is sent from here after the images.
        start_lsn: u64,
        /// The epochs below it.
        history: Vec<(u64, u64)>,
        /// The first slot that is sent; above 0 when a copy that broke off goes on.
        resume_slot: u16,
    },
    /// One chunk of one slot's image.
    Image {
        /// The master's epoch.
        epoch: u64,
        /// The chunk as image files hold it.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// All images were sent.
    CopyEnds {
        /// The master's epoch.
        epoch: u64,
    },
    /// How far the replica is.
    Ack {
        /// The epoch it follows.
        epoch: u64,
        /// Handed to its kernel.
        written: u64,
        /// On its disk.
        durable: u64,
        /// In its slots.
        applied: u64,
    },
    /// The sender lives.
    Heartbeat {
        /// The epoch it is in.
        epoch: u64,
        /// What may be shown; zero from a replica.
        committed_lsn: u64,
    },
    /// The connection ends, and why.
    Refused {
        /// For the log of the other side.
        reason: String,
    },
    /// In place of Follow, without a cluster: what do you lead?
    AskLead {
        /// The epoch that whoever asks is at.
        fence: u64,
    },
    /// The answer; the connection ends.
    Leads {
        /// The shard (20 bytes).
        #[serde(with = "serde_bytes")]
        shard: Vec<u8>,
        /// Its epoch.
        epoch: u64,
    },
    /// In place of Follow, of any member of the shard, master or not: the records of its log from here on. What whoever asks has of
    /// the log is said so that another history's records are not taken for it.
    AskLog {
        /// Of which shard (20 bytes).
        #[serde(with = "serde_bytes")]
        shard: Vec<u8>,
        /// Epochs of the log that is damaged: (epoch, LSN of the first record), ascending.
        history: Vec<(u64, u64)>,
        /// Where it begins.
        first_lsn: u64,
        /// Epoch of its last record.
        end_epoch: u64,
        /// Its end.
        end_lsn: u64,
        /// The first record that is wanted.
        from: u64,
    },
    /// Whole records from there on, verified by whoever sends them: at least one, as many as a chunk holds, none from beyond where
    /// both logs are the same.
    LogBytes {
        /// LSN of the first byte.
        at: u64,
        /// The log's bytes as they are.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// How far a full copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CopySoFar {
    /// The master's epoch when it began.
    pub epoch: u64,
    /// The log is to be sent from here after the images.
    pub start_lsn: u64,
    /// All slots below this one are there.
    pub next_slot: u16,
}

impl<'a> Message<'a> {
    /// Its bytes.
    ///
    /// # Errors
    /// Never in practice: the encoder writes into memory.
    pub fn encode(&self) -> Result<Vec<u8>, BodyError> {
        body::encode(self)
    }

    /// Adds its bytes to `out`.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_into(&self, out: &mut BytesMut) -> Result<(), BodyError> {
        body::encode_into(self, out)
    }

    /// Reads the message that `bytes` are, exactly.
    ///
    /// # Errors
    /// When they are cut short, unknown, or more than one message.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, BodyError> {
        body::decode_borrowed(bytes)
    }

    /// The epoch that its sender is in, for the fence; none before a link is agreed on.
    pub fn epoch(&self) -> Option<u64> {
        match *self {
            Self::Chunk { epoch, .. }
            | Self::CutTo { epoch, .. }
            | Self::CopyBegins { epoch, .. }
            | Self::Image { epoch, .. }
            | Self::CopyEnds { epoch }
            | Self::Ack { epoch, .. }
            | Self::Heartbeat { epoch, .. } => Some(epoch),
            Self::Follow { .. }
            | Self::Refused { .. }
            | Self::AskLead { .. }
            | Self::Leads { .. }
            | Self::AskLog { .. }
            | Self::LogBytes { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_written_and_never_from_less_or_more() {
        let all = [
            Message::Follow {
                shard: vec![7; 20],
                history: vec![(1, 0), (3, 500)],
                first_lsn: 1,
                end_epoch: 3,
                end_lsn: 900,
                fence: 4,
                copy: Some(CopySoFar { epoch: 4, start_lsn: 300, next_slot: 16384 }),
                data_port: 7000,
            },
            Message::AskLead { fence: 3 },
            Message::Leads { shard: vec![7; 20], epoch: 4 },
            Message::Chunk { epoch: 4, at: 900, committed_lsn: 880, bytes: vec![0, 255, 3].into() },
            Message::CutTo { epoch: 4, lsn: 500 },
            Message::CopyBegins { epoch: 4, start_lsn: 9, history: vec![(1, 0)], resume_slot: 16383 },
            Message::Image { epoch: 4, bytes: vec![1; 300] },
            Message::CopyEnds { epoch: 4 },
            Message::Ack { epoch: 4, written: u64::MAX, durable: 2, applied: 1 },
            Message::Heartbeat { epoch: 4, committed_lsn: 7 },
            Message::Refused { reason: "another shard".to_owned() },
            Message::AskLog {
                shard: vec![7; 20],
                history: vec![(1, 0), (3, 500)],
                first_lsn: 1,
                end_epoch: 3,
                end_lsn: 900,
                from: 600,
            },
            Message::LogBytes { at: 600, bytes: vec![0, 255, 3] },
        ];
        for message in all {
            let mut bytes = message.encode().unwrap();
            assert_eq!(Message::decode(&bytes).unwrap(), message);
            for length in 0..bytes.len() {
                assert!(Message::decode(&bytes[..length]).is_err(), "{length} bytes of {message:?}");
            }
            bytes.push(0);
            assert!(Message::decode(&bytes).is_err());
        }
    }

    #[test]
    fn the_log_s_bytes_are_not_copied_out_of_a_body() {
        let message = Message::Chunk { epoch: 1, at: 1, committed_lsn: 1, bytes: vec![200; 100].into() };
        let body = message.encode().unwrap();
        let Message::Chunk { bytes: Cow::Borrowed(bytes), .. } = Message::decode(&body).unwrap() else {
            panic!("they are borrowed");
        };
        assert_eq!(bytes.as_ptr_range().end, body.as_ptr_range().end);
    }

    #[test]
    fn bytes_of_the_log_cost_no_more_than_themselves() {
        let message = Message::Chunk { epoch: 1, at: 1, committed_lsn: 1, bytes: vec![200; 10_000].into() };
        assert!(message.encode().unwrap().len() < 10_040);
    }
}
