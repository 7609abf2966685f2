//! A connection over the simulated network that speaks RESP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::TcpStream;

use crate::client::Reply;

/// A client's connection to one node.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    patience: Duration,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there in time.
    pub async fn open(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = tokio::time::timeout(patience, TcpStream::connect(address)).await??;
        Ok(Self { stream, received: Vec::new(), patience })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// When the connection fails, or the reply does not come in time. The connection is of no use then.
    pub async fn call(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let patience = self.patience;
        tokio::time::timeout(patience, async {
            self.stream.write_all(request.as_bytes()).await?;
            self.read().await
        })
        .await?
    }

    async fn read(&mut self) -> io::Result<Reply> {
        loop {
            let mut at = 0;
            if let Some(reply) = parse(&self.received, &mut at) {
                self.received.drain(..at);
                return reply;
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn line<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

fn number(text: &[u8]) -> io::Result<i64> {
    let text = std::str::from_utf8(text).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}

/// `None`: more bytes are needed.
fn parse(bytes: &[u8], at: &mut usize) -> Option<io::Result<Reply>> {
    let line = line(bytes, at)?;
    let (kind, rest) = line.split_first()?;
    let text = || String::from_utf8_lossy(rest).into_owned();
    let reply = match kind {
        b'+' => Reply::Simple(text()),
        b'-' => Reply::Error(text()),
        b'_' => Reply::Null,
        _ => {
            let count = match number(rest) {
                Ok(count) => count,
                Err(error) => return Some(Err(error)),
            };
            match kind {
                b':' => Reply::Integer(count),
                b'$' | b'*' if count < 0 => Reply::Null,
                b'$' => {
                    let body = bytes.get(*at..*at + count as usize)?;
                    bytes.get(*at + count as usize + 1)?;
                    *at += count as usize + 2;
                    Reply::Bulk(body.to_vec())
                }
                b'*' => {
                    let mut elements = Vec::new();
                    for _ in 0..count {
                        match parse(bytes, at)? {
                            Ok(element) => elements.push(element),
                            Err(error) => return Some(Err(error)),
                        }
                    }
                    Reply::Array(elements)
                }
                other => return Some(Err(io::Error::other(format!("no reply begins with {other}")))),
            }
        }
    };
    Some(Ok(reply))
}
