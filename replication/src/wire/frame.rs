//! FORMAT: the frame around everything on the bus. Numbers are little-endian.
//!
//! ```text
//! 0       4         5      6        10
//! | length | version | kind | crc32 | body … |
//!   length  bytes that follow it: 6 + body
//!   crc32   of length, version, kind and body
//! ```
//!
//! A length beyond the connection's limit is refused before any memory is taken for it, and memory then grows with what has
//! come, not with what was announced. Every error ends the connection: after one, nothing says where the next frame begins.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Version of the frame; what is in it has versions of its own.
pub const FRAME_VERSION: u8 = 1;
/// Bytes before the body.
pub const FRAME_HEADER_SIZE: usize = CRC.end;

const LENGTH: std::ops::Range<usize> = 0..4;
const VERSION: usize = LENGTH.end;
const KIND: usize = VERSION + 1;
const CRC: std::ops::Range<usize> = KIND + 1..KIND + 5;
/// What `length` counts besides the body.
const COUNTED_HEADER: usize = FRAME_HEADER_SIZE - LENGTH.end;
/// More room than this is never made ahead of the bytes that fill it.
const GROWTH_MAX: usize = 256 << 10;

const _: () = assert!(FRAME_HEADER_SIZE == 10 && COUNTED_HEADER == 6);

/// What a frame, and after the hello a whole connection, is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FrameKind {
    /// The first frames of a connection.
    Hello,
    /// Gossip: small and never kept waiting.
    Gossip,
    /// The metadata group's requests and answers.
    Metadata,
    /// The log of a shard, or its full copy.
    LogStream,
    /// A slot on its way to another shard.
    SlotTransfer,
}

impl FrameKind {
    const ALL: [Self; 5] = [Self::Hello, Self::Gossip, Self::Metadata, Self::LogStream, Self::SlotTransfer];

    /// Its number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Gossip => 2,
            Self::Metadata => 3,
            Self::LogStream => 4,
            Self::SlotTransfer => 5,
        }
    }

    /// The kind of this number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The longest body it may have. A log record can be as long as the longest command.
    pub const fn body_max(self) -> usize {
        match self {
            Self::Hello => 1 << 10,
            Self::Gossip => 1 << 20,
            Self::Metadata => 64 << 20,
            Self::LogStream | Self::SlotTransfer => 1 << 30,
        }
    }
}

/// Bytes that are no frame of this connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The connection ended within a frame.
    #[error("the connection ended within a frame, after {0} bytes of it")]
    Cut(usize),
    /// A length that no frame has.
    #[error("a frame announces {length} bytes; at least {COUNTED_HEADER}, at most {max} are allowed here")]
    Length {
        /// What it announces.
        length: usize,
        /// What is allowed.
        max: usize,
    },
    /// A frame of another time.
    #[error("a frame of version {0}; this node speaks version {FRAME_VERSION}")]
    Version(u8),
    /// A frame that has no place on this connection.
    #[error("a frame of kind {found} on a connection for {expected:?}")]
    Kind {
        /// Its kind's number.
        found: u8,
        /// The connection's.
        expected: FrameKind,
    },
    /// A frame that changed on its way.
    #[error("a frame of {length} bytes fails its checksum")]
    Checksum {
        /// Its body's length.
        length: usize,
    },
    /// A body beyond the limit was to be sent.
    #[error("a body of {length} bytes is too long to send as {kind:?}")]
    TooLongToSend {
        /// Its length.
        length: usize,
        /// What it was to be.
        kind: FrameKind,
    },
}

/// Makes frames of bodies and bodies of frames, of one kind.
#[derive(Debug)]
pub struct FrameCodec {
    kind: FrameKind,
}

impl FrameCodec {
    /// For frames of this kind.
    pub fn new(kind: FrameKind) -> Self {
        Self { kind }
    }

    /// What it is for.
    pub fn kind(&self) -> FrameKind {
        self.kind
    }

    /// Checks all that is known before the body is there; the length of the whole frame.
    fn check_head(&self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(length) = number_at(bytes, LENGTH) else { return Ok(None) };
        let length = length as usize;
        let max = COUNTED_HEADER + self.kind.body_max();
        if length < COUNTED_HEADER || length > max {
            return Err(FrameError::Length { length, max });
        }
        match bytes.get(VERSION) {
            Some(&version) if version != FRAME_VERSION => return Err(FrameError::Version(version)),
            _ => {}
        }
        match bytes.get(KIND) {
            Some(&found) if found != self.kind.number() => {
                return Err(FrameError::Kind { found, expected: self.kind });
            }
            _ => {}
        }
        Ok(Some(LENGTH.end + length))
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = FrameError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(total) = self.check_head(source)? else { return Ok(None) };
        if source.len() < total {
            source.reserve((total - source.len()).min(GROWTH_MAX));
            return Ok(None);
        }
        let mut frame = source.split_to(total).freeze();
        let sum = crc_of(&frame[..CRC.start], &frame[CRC.end..]);
        if number_at(&frame, CRC) != Some(sum) {
            return Err(FrameError::Checksum { length: total - FRAME_HEADER_SIZE });
        }
        frame.advance(FRAME_HEADER_SIZE);
        Ok(Some(frame))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        match self.decode(source)? {
            None if !source.is_empty() => Err(FrameError::Cut(source.len())),
            frame => Ok(frame),
        }
    }
}

impl FrameCodec {
    /// Adds a frame to `out` whose body `write` appends, so that a long one is not copied; `out` is as before when that fails.
    ///
    /// # Errors
    /// Those of `write`, and when the body is too long.
    pub fn encode_with<E: From<FrameError>>(
        &mut self,
        out: &mut BytesMut,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        out.put_bytes(0, FRAME_HEADER_SIZE);
        let written = write(out).and_then(|()| Ok(self.finish(&mut out[start..])?));
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// Fills in the head of a frame whose body is there.
    fn finish(&self, frame: &mut [u8]) -> Result<(), FrameError> {
        let (head, body) = frame.split_at_mut(FRAME_HEADER_SIZE);
        if body.len() > self.kind.body_max() {
            return Err(FrameError::TooLongToSend { length: body.len(), kind: self.kind });
        }
        head[LENGTH].copy_from_slice(&((COUNTED_HEADER + body.len()) as u32).to_le_bytes());
        head[VERSION] = FRAME_VERSION;
        head[KIND] = self.kind.number();
        let sum = crc_of(&head[..CRC.start], body);
        head[CRC].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }
}

impl<B: AsRef<[u8]>> Encoder<B> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, body: B, out: &mut BytesMut) -> Result<(), FrameError> {
        let body = body.as_ref();
        self.encode_with(out, |out| {
            out.put_slice(body);
            Ok(())
        })
    }
}

fn number_at(bytes: &[u8], place: std::ops::Range<usize>) -> Option<u32> {
    bytes.get(place)?.try_into().ok().map(u32::from_le_bytes)
}

fn crc_of(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: FrameKind, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        FrameCodec::new(kind).encode(body, &mut out).unwrap();
        out
    }

    #[test]
    fn the_bytes_of_a_frame_are_these() {
        let frame = framed(FrameKind::Gossip, b"hold");
        assert_eq!(frame[..6], [10, 0, 0, 0, 1, 2]);
        assert_eq!(frame[6..10], crc32fast::hash(b"\x0a\0\0\0\x01\x02hold").to_le_bytes());
        assert_eq!(&frame[10..], b"hold");
    }

    #[test]
    fn half_a_frame_waits_for_the_rest_and_several_come_out_in_order() {
        let mut all = framed(FrameKind::Metadata, b"one");
        all.extend_from_slice(&framed(FrameKind::Metadata, b""));
        all.extend_from_slice(&framed(FrameKind::Metadata, &[9; 5000]));
        let (mut codec, mut source, mut found) =
            (FrameCodec::new(FrameKind::Metadata), BytesMut::new(), Vec::new());
        for byte in all {
            source.extend_from_slice(&[byte]);
            found.extend(codec.decode(&mut source).unwrap());
        }
        assert_eq!(found, [&b"one"[..], b"", &[9; 5000]]);
        assert!(codec.decode_eof(&mut source).unwrap().is_none());
    }

    #[test]
    fn a_connection_that_ends_within_a_frame_is_an_error() {
        let whole = framed(FrameKind::Gossip, b"hold");
        for length in 1..whole.len() {
            let mut source = BytesMut::from(&whole[..length]);
            let error = FrameCodec::new(FrameKind::Gossip).decode_eof(&mut source).unwrap_err();
            assert!(matches!(error, FrameError::Cut(cut) if cut == length), "{error}");
        }
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        let whole = framed(FrameKind::LogStream, b"some bytes of a log");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut source = whole.clone();
                source[at] ^= 1 << bit;
                let read = FrameCodec::new(FrameKind::LogStream).decode_eof(&mut source);
                assert!(read.is_err(), "bit {bit} of byte {at}: {read:?}");
            }
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_taken() {
        for kind in FrameKind::ALL {
            for length in [0, 5, (COUNTED_HEADER + kind.body_max() + 1) as u32, u32::MAX] {
                let mut source = BytesMut::from(&length.to_le_bytes()[..]);
                let error = FrameCodec::new(kind).decode(&mut source).unwrap_err();
                assert!(
                    matches!(error, FrameError::Length { length: it, .. } if it == length as usize),
                    "{error}"
                );
                assert!(source.capacity() < 1024);
            }
        }
    }

    #[test]
    fn an_announced_length_within_the_limit_takes_little_memory_before_its_bytes_come() {
        let mut source = BytesMut::from(&(1u32 << 30).to_le_bytes()[..]);
        assert!(FrameCodec::new(FrameKind::LogStream).decode(&mut source).unwrap().is_none());
        assert!(source.capacity() <= 2 * GROWTH_MAX, "{}", source.capacity());
    }

    #[test]
    fn another_version_and_another_kind_are_named() {
        let mut source = framed(FrameKind::Gossip, b"x");
        source[VERSION] = 2;
        let error = FrameCodec::new(FrameKind::Gossip).decode(&mut source).unwrap_err();
        assert!(matches!(error, FrameError::Version(2)), "{error}");
        let mut source = framed(FrameKind::Gossip, b"x");
        let error = FrameCodec::new(FrameKind::Metadata).decode(&mut source).unwrap_err();
        assert!(matches!(error, FrameError::Kind { found: 2, expected: FrameKind::Metadata }), "{error}");
    }

    #[test]
    fn the_longest_body_passes_and_one_byte_more_is_not_sent() {
        let kind = FrameKind::Hello;
        let mut source = framed(kind, &vec![1; kind.body_max()]);
        assert_eq!(FrameCodec::new(kind).decode(&mut source).unwrap().unwrap().len(), kind.body_max());
        let error =
            FrameCodec::new(kind).encode(vec![1; kind.body_max() + 1], &mut BytesMut::new()).unwrap_err();
        assert!(matches!(error, FrameError::TooLongToSend { .. }), "{error}");
    }

    #[test]
    fn garbage_is_never_a_frame_and_never_a_panic() {
        let mut dice = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let kind = FrameKind::ALL[dice.usize(..FrameKind::ALL.len())];
            let length = dice.usize(1..80);
            let mut source: BytesMut = std::iter::repeat_with(|| dice.u8(..)).take(length).collect();
            // Now and then a believable head, so that the rest is looked at too.
            if dice.bool() && source.len() >= FRAME_HEADER_SIZE {
                let length = (source.len() - LENGTH.end) as u32;
                source[LENGTH].copy_from_slice(&length.to_le_bytes());
                source[VERSION] = FRAME_VERSION;
                source[KIND] = kind.number();
            }
            assert!(FrameCodec::new(kind).decode_eof(&mut source).is_err());
        }
    }
}
