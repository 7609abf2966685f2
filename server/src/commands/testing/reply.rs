//! Decodes what a server, ours or Redis, replied.

/// One reply. Ordered, so that what has no order can be sorted before it is compared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(String),
    /// `$-1`.
    NullBulk,
    /// `*-1`.
    NullArray,
    /// `_`.
    Null,
    Double(String),
    Boolean(bool),
    Verbatim(String),
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    /// Keys and values in turn.
    Map(Vec<Reply>),
    Push(Vec<Reply>),
}

impl Reply {
    /// The elements of an aggregate.
    pub fn elements(&mut self) -> Option<&mut Vec<Reply>> {
        match self {
            Self::Array(elements) | Self::Set(elements) | Self::Map(elements) | Self::Push(elements) => {
                Some(elements)
            }
            _ => None,
        }
    }

    /// The first reply in `bytes` and its length; `None` when there is more to come. Bytes that are no text are shown
    /// escaped.
    ///
    /// # Panics
    /// When the bytes are no reply.
    pub fn decode(bytes: &[u8]) -> Option<(Reply, usize)> {
        let mut decoder = Decoder { bytes, at: 0 };
        let reply = decoder.reply()?;
        Some((reply, decoder.at))
    }
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn line(&mut self) -> Option<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 2;
        Some(shown(&rest[..end]))
    }

    fn blob(&mut self, length: usize) -> Option<String> {
        let blob = self.bytes.get(self.at..self.at + length)?;
        let end = self.bytes.get(self.at + length..self.at + length + 2)?;
        assert_eq!(end, b"\r\n", "a string of {length} bytes ends where it says");
        self.at += length + 2;
        Some(shown(blob))
    }

    fn many(&mut self, count: usize) -> Option<Vec<Reply>> {
        (0..count).map(|_| self.reply()).collect()
    }

    fn reply(&mut self) -> Option<Reply> {
        let line = self.line()?;
        let (kind, text) = line.split_at(1);
        let number = || text.parse::<i64>().unwrap_or_else(|_| panic!("a number in {line:?}"));
        let length = || usize::try_from(number()).unwrap_or_else(|_| panic!("a length in {line:?}"));
        Some(match kind {
            "+" => Reply::Simple(text.to_owned()),
            "-" => Reply::Error(text.to_owned()),
            ":" => Reply::Integer(number()),
            "," => Reply::Double(text.to_owned()),
            "#" => Reply::Boolean(text == "t"),
            "_" => Reply::Null,
            "$" if text == "-1" => Reply::NullBulk,
            "$" => Reply::Bulk(self.blob(length())?),
            "=" => Reply::Verbatim(self.blob(length())?),
            "*" if text == "-1" => Reply::NullArray,
            "*" => Reply::Array(self.many(length())?),
            "~" => Reply::Set(self.many(length())?),
            ">" => Reply::Push(self.many(length())?),
            "%" => Reply::Map(self.many(length() * 2)?),
            _ => panic!("no reply begins with {line:?}"),
        })
    }
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}
