//! One connection of the generator.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;

use mio::net::TcpStream;

use super::{Request, replies};

/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// A request that waits for its answer.
struct Pending {
    request: Request,
    due_ns: u64,
}

/// One connection.
pub struct Connection {
    /// The socket, to be registered.
    pub stream: TcpStream,
    /// The class it belongs to.
    pub class: usize,
    /// What is to be sent.
    pub output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    filled: usize,
    pending: VecDeque<Pending>,
}

impl Connection {
    /// Connects; waits until it stands.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(address: SocketAddr, class: usize) -> io::Result<Self> {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            class,
            output: Vec::new(),
            sent: 0,
            input: vec![0; READ_SIZE],
            filled: 0,
            pending: VecDeque::new(),
        })
    }

    /// The request that stands at the end of the output was due then.
    pub fn expect(&mut self, request: Request, due_ns: u64) {
        self.pending.push_back(Pending { request, due_ns });
    }

    /// Whether nothing waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// When the server hung up.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads what has come and reports what it answers: the kind, and when the request was due.
    ///
    /// # Errors
    /// When the server hung up, answered with an error, or with something else than RESP.
    pub fn receive(&mut self, mut on_answer: impl FnMut(usize, u64)) -> io::Result<()> {
        loop {
            if self.filled == self.input.len() {
                self.input.resize(2 * self.filled, 0);
            }
            let room = self.input.len() - self.filled;
            match self.stream.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")),
                Ok(count) => {
                    self.filled += count;
                    self.answer(&mut on_answer)?;
                    // Less than there was room for: the socket is empty, and its next bytes are an event of their own.
                    if count < room {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&mut self, on_answer: &mut impl FnMut(usize, u64)) -> io::Result<()> {
        let mut at = 0;
        while let Some(reply) = replies::first(&self.input[at..self.filled]).map_err(io::Error::other)? {
            if reply.is_error {
                let text = String::from_utf8_lossy(&self.input[at..at + reply.length]).trim().to_owned();
                return Err(io::Error::other(format!("the server answers {text}")));
            }
            at += reply.length;
            let pending = self.pending.front_mut().ok_or_else(|| io::Error::other("an answer to nothing"))?;
            pending.request.replies -= 1;
            if pending.request.replies == 0 {
                on_answer(pending.request.kind, pending.due_ns);
                self.pending.pop_front();
            }
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}
