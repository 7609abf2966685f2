//! A node's data port, spoken to in raw RESP: the tests want to see the very replies, errors included.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// One reply.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$…`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`
    Null,
    /// `*…`, `~…`, `>…`
    Array(Vec<Reply>),
    /// `%…`
    Map(Vec<(Reply, Reply)>),
    /// `,…`
    Double(f64),
    /// `#…`
    Boolean(bool),
}

impl Reply {
    /// Whether this is the answer to PING.
    pub fn is_pong(&self) -> bool {
        *self == Self::Simple("PONG".into())
    }

    /// Whether this is OK.
    pub fn is_ok(&self) -> bool {
        *self == Self::Simple("OK".into())
    }

    /// Whether this is an error that begins with this code.
    pub fn is_error_code(&self, code: &str) -> bool {
        matches!(self, Self::Error(text) if text.split(' ').next() == Some(code))
    }

    /// The integer.
    ///
    /// # Panics
    /// When it is none.
    pub fn integer(&self) -> i64 {
        match self {
            Self::Integer(value) => *value,
            other => panic!("an integer was expected, not {other}"),
        }
    }

    /// The text of a bulk or simple string.
    ///
    /// # Panics
    /// When it is none.
    pub fn text(&self) -> String {
        match self {
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Simple(text) => text.clone(),
            other => panic!("a string was expected, not {other}"),
        }
    }

    /// The elements of an array.
    ///
    /// # Panics
    /// When it is none.
    pub fn array(self) -> Vec<Reply> {
        match self {
            Self::Array(elements) => elements,
            other => panic!("an array was expected, not {other}"),
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bulk(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Where a node is: a port of this machine, or an address of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct At(pub SocketAddr);

impl From<u16> for At {
    fn from(port: u16) -> Self {
        Self((Ipv4Addr::LOCALHOST, port).into())
    }
}

impl From<SocketAddr> for At {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a node.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(at: impl Into<At>) -> io::Result<Self> {
        Self::connect_to(at.into().0, Duration::from_secs(5))
    }

    /// Connects to a node of any machine.
    ///
    /// # Errors
    /// When nobody listens there, or the machine does not answer within this time.
    pub fn connect_to(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Whether the node has hung up while nothing was asked of it: a client that waits for events would know by now.
    pub fn is_hung_up(&self) -> bool {
        let stream = self.stream.get_ref();
        let look = || {
            stream.set_nonblocking(true)?;
            let seen = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            seen
        };
        match look() {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    /// How long a reply may take.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.get_ref().set_read_timeout(Some(patience)).expect("a timeout can be set");
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn try_call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        self.send(words)?;
        self.read()
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Panics
    /// When the connection fails.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Reply {
        self.try_call(words).expect("the node answers")
    }

    /// Sends a command.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        self.stream.get_mut().write_all(&encode(words))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// When the connection fails or what comes is no RESP.
    pub fn read(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, format!("not RESP: {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(bad)?;
        let number = || rest.parse::<i64>().map_err(|_| bad());
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()?),
            "_" => Reply::Null,
            "#" => Reply::Boolean(rest == "t"),
            "," => Reply::Double(rest.parse().map_err(|_| bad())?),
            "$" | "=" => match number()? {
                -1 => Reply::Null,
                length => {
                    let mut bytes = vec![0; length as usize + 2];
                    self.stream.read_exact(&mut bytes)?;
                    bytes.truncate(length as usize);
                    if kind == "=" {
                        bytes.drain(..4);
                    }
                    Reply::Bulk(bytes)
                }
            },
            "*" | "~" | ">" => match number()? {
                -1 => Reply::Null,
                count => Reply::Array((0..count).map(|_| self.read()).collect::<io::Result<_>>()?),
            },
            "%" => {
                let pairs = (0..number()?).map(|_| Ok((self.read()?, self.read()?)));
                Reply::Map(pairs.collect::<io::Result<_>>()?)
            }
            _ => return Err(bad()),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = line.len() - line.iter().rev().take_while(|&&byte| byte == b'\n' || byte == b'\r').count();
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }
}

/// A command as a RESP array of bulk strings.
pub fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
