//! A real redis-server to compare with, when one is installed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::reply::Reply;
use crate::resp::Protocol;

/// A running redis-server without files and ports; stopped when dropped.
pub struct RedisServer {
    child: Child,
    directory: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one; `None`, with a message, when it is not installed.
    pub fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        command.arg("--dir").arg(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self { child, directory }),
            Err(error) => {
                eprintln!("redis-server cannot be started ({error}): nothing is compared");
                None
            }
        }
    }

    /// A client that speaks `protocol`, and an empty server.
    pub fn connect(&self, protocol: Protocol) -> RedisClient {
        let socket = self.directory.path().join("socket");
        let stream = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            UnixStream::connect(&socket).ok()
        });
        let mut client = RedisClient {
            stream: stream.expect("redis-server listens within five seconds"),
            unread: Vec::new(),
        };
        if protocol == Protocol::Resp3 {
            client.call(&[b"HELLO".to_vec(), b"3".to_vec()]);
        }
        client.call(&[b"FLUSHALL".to_vec()]);
        client
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A connection to a [`RedisServer`].
pub struct RedisClient {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl RedisClient {
    /// Sends a command and waits for its reply.
    pub fn call(&mut self, words: &[Vec<u8>]) -> Reply {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.len()).into_bytes());
            request.extend(word);
            request.extend(b"\r\n");
        }
        self.stream.write_all(&request).unwrap();
        let mut chunk = vec![0; 1 << 16];
        loop {
            if let Some((reply, length)) = Reply::decode(&self.unread) {
                self.unread.drain(..length);
                return reply;
            }
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "redis-server closed the connection");
            self.unread.extend_from_slice(&chunk[..count]);
        }
    }
}
