//! The two halves of a connection as frames: bodies come out of one, go into the other.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::codec::{Decoder, Encoder};

use crate::wire::frame::{FrameCodec, FrameError, FrameKind};

/// Room made for reading when it is not known how much comes.
const READ_ROOM: usize = 8 << 10;

/// Bodies that come in.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    codec: FrameCodec,
    unread: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Of a connection for this.
    pub fn new(stream: R, kind: FrameKind) -> Self {
        Self { stream, codec: FrameCodec::new(kind), unread: BytesMut::new() }
    }

    /// The same connection, from the next frame on for this.
    pub fn for_kind(self, kind: FrameKind) -> Self {
        Self { codec: FrameCodec::new(kind), ..self }
    }

    /// What it is for.
    pub fn kind(&self) -> FrameKind {
        self.codec.kind()
    }

    /// The next body; none when the connection ended after a whole frame. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// When the connection fails or what comes is no frame; nothing can be read from it then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(body) = self.codec.decode(&mut self.unread)? {
                return Ok(Some(body));
            }
            if self.unread.len() == self.unread.capacity() {
                self.unread.reserve(READ_ROOM);
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return self.codec.decode_eof(&mut self.unread);
            }
        }
    }
}

/// Bodies that go out.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    codec: FrameCodec,
    framed: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Of a connection for this.
    pub fn new(stream: W, kind: FrameKind) -> Self {
        Self { stream, codec: FrameCodec::new(kind), framed: BytesMut::new() }
    }

    /// The same connection, from the next frame on for this.
    pub fn for_kind(self, kind: FrameKind) -> Self {
        Self { codec: FrameCodec::new(kind), ..self }
    }

    /// Sends one body; returns when the kernel has all of it. After a call that was dropped or failed, the connection is of no
    /// use: half a frame may have left.
    ///
    /// # Errors
    /// When the body is too long (nothing has left then) or the connection fails.
    pub async fn send(&mut self, body: &[u8]) -> Result<(), FrameError> {
        self.framed.clear();
        self.codec.encode(body, &mut self.framed)?;
        self.stream.write_all(&self.framed).await?;
        Ok(())
    }

    /// As [`Self::send`], of a body that `write` appends to what it is given.
    ///
    /// # Errors
    /// As [`Self::send`], and those of `write`: nothing has left then.
    pub async fn send_with<E: From<FrameError>>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.framed.clear();
        self.codec.encode_with(&mut self.framed, write)?;
        self.stream.write_all(&self.framed).await.map_err(|error| FrameError::Io(error).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn bodies_arrive_whole_in_order_however_the_bytes_are_cut() {
        // 7 bytes at a time, so that each head and body comes in pieces.
        let (near, far) = tokio::io::duplex(7);
        let bodies: Vec<Vec<u8>> = (0..50).map(|n| vec![n as u8; n * 37]).collect();
        let sent = bodies.clone();
        let sender = async move {
            let mut writer = FrameWriter::new(near, FrameKind::LogStream);
            for body in &sent {
                writer.send(body).await.unwrap();
            }
        };
        let receiver = async move {
            let mut reader = FrameReader::new(far, FrameKind::LogStream);
            let mut found = Vec::new();
            while let Some(body) = reader.next().await.unwrap() {
                found.push(body.to_vec());
            }
            found
        };
        let ((), found) = tokio::join!(sender, receiver);
        assert_eq!(found, bodies);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_cut_within_a_frame_is_told_from_one_that_ended() {
        let (mut near, far) = tokio::io::duplex(1000);
        near.write_all(&[30, 0, 0, 0, 1]).await.unwrap();
        drop(near);
        let error = FrameReader::new(far, FrameKind::Gossip).next().await.unwrap_err();
        assert!(matches!(error, FrameError::Cut(5)), "{error}");
    }
}
