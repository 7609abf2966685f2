//! FORMAT: replies, RESP2 and RESP3 (redis.io, "Redis serialization protocol specification"). Encodes into a buffer that the
//! caller keeps; allocates nothing of its own.

use std::fmt::Display;
use std::io::Write;

use holdfast_storage::number::format_f64;

/// The protocol a client has chosen with HELLO.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    /// What a client speaks until it says otherwise.
    #[default]
    Resp2,
    /// Maps, sets, doubles, nulls and pushes of their own.
    Resp3,
}

/// Writes one client's replies in its protocol.
pub struct ReplyWriter<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

/// The place of an aggregate whose length is not known yet; see [`ReplyWriter::defer`].
#[must_use = "an aggregate without its length breaks the protocol"]
pub struct Deferred(usize);

impl<'a> ReplyWriter<'a> {
    /// Appends replies to `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// From here on replies are of this protocol (HELLO, RESET).
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// How far the output goes; [`Self::take_back`] returns to it.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written since `position`.
    pub fn take_back(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// The client's protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    /// A simple string; without line breaks.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a simple string is one line: {text:?}");
        self.out.push(b'+');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// An error: its text begins with the code (`ERR …`, `WRONGTYPE …`). Line breaks in it become spaces.
    pub fn error(&mut self, error: &(impl Display + ?Sized)) {
        self.out.push(b'-');
        let start = self.out.len();
        // Writing into a Vec cannot fail; an error of Display itself leaves a shorter text.
        let _infallible = write!(self.out, "{error}");
        for byte in &mut self.out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) {
        match u8::try_from(number) {
            Ok(digit @ 0..=9) => self.out.extend_from_slice(&[b':', b'0' + digit, b'\r', b'\n']),
            _ => self.line(b':', itoa::Buffer::new().format(number).as_bytes()),
        }
    }

    /// A count, as an integer.
    pub fn count(&mut self, count: usize) {
        self.header(b':', count);
    }

    /// A binary-safe string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 24);
        match bytes.len() {
            // Most strings: a header of a size that the compiler knows.
            length @ 10..=99 => {
                let (tens, ones) = (b'0' + (length / 10) as u8, b'0' + (length % 10) as u8);
                self.out.extend_from_slice(&[b'$', tens, ones, b'\r', b'\n']);
            }
            length @ 100..=999 => {
                let digit = |number: usize| b'0' + (number % 10) as u8;
                let header = [b'$', digit(length / 100), digit(length / 10), digit(length), b'\r', b'\n'];
                self.out.extend_from_slice(&header);
            }
            length => self.header(b'$', length),
        }
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A string, or null when there is none.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer as a string.
    pub fn bulk_integer(&mut self, number: i64) {
        self.bulk(itoa::Buffer::new().format(number).as_bytes());
    }

    /// No value.
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No value where RESP2 expects an array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// An array of `length` replies, which follow.
    pub fn array(&mut self, length: usize) {
        self.header(b'*', length);
    }

    /// A map of `pairs` keys and values, which follow; in RESP2 an array of twice as many.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.header(b'*', pairs * 2),
            Protocol::Resp3 => self.header(b'%', pairs),
        }
    }

    /// A set of `length` replies, which follow; in RESP2 an array.
    pub fn set(&mut self, length: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, length);
    }

    /// A message outside the order of replies, of `length` replies, which follow; in RESP2 an array.
    pub fn push(&mut self, length: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, length);
    }

    /// A double; in RESP2 a string.
    pub fn double(&mut self, number: f64) {
        let text = format_f64(number);
        match self.protocol {
            Protocol::Resp2 => self.bulk(&text),
            Protocol::Resp3 => self.line(b',', &text),
        }
    }

    /// A truth value; in RESP2 1 or 0.
    pub fn boolean(&mut self, truth: bool) {
        self.out.extend_from_slice(match (self.protocol, truth) {
            (Protocol::Resp2, true) => b":1\r\n",
            (Protocol::Resp2, false) => b":0\r\n",
            (Protocol::Resp3, true) => b"#t\r\n",
            (Protocol::Resp3, false) => b"#f\r\n",
        });
    }

    /// Text to be shown as it is, with its three-letter format (`txt`, `mkd`); in RESP2 a string.
    pub fn verbatim(&mut self, format: &[u8; 3], text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.out.extend_from_slice(format);
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Replies encoded elsewhere in the same protocol.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// Begins an aggregate whose length is known only once its elements are written; close it with
    /// [`Self::close_array`], [`Self::close_map`] or [`Self::close_set`]. They nest.
    pub fn defer(&mut self) -> Deferred {
        Deferred(self.out.len())
    }

    /// Everything since `start` is an array of `length` replies.
    pub fn close_array(&mut self, start: Deferred, length: usize) {
        self.close(start, |this| this.array(length));
    }

    /// Everything since `start` is a map of `pairs` keys and values.
    pub fn close_map(&mut self, start: Deferred, pairs: usize) {
        self.close(start, |this| this.map(pairs));
    }

    /// Everything since `start` is a set of `length` replies.
    pub fn close_set(&mut self, start: Deferred, length: usize) {
        self.close(start, |this| this.set(length));
    }

    fn close(&mut self, Deferred(start): Deferred, header: impl FnOnce(&mut Self)) {
        let end = self.out.len();
        header(self);
        let header_length = self.out.len() - end;
        self.out[start..].rotate_right(header_length);
    }

    fn header(&mut self, kind: u8, length: usize) {
        match u8::try_from(length) {
            Ok(digit @ 0..=9) => self.out.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']),
            _ => self.line(kind, itoa::Buffer::new().format(length).as_bytes()),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        let mut line = [kind; 40];
        line[1..=text.len()].copy_from_slice(text);
        line[text.len() + 1..text.len() + 3].copy_from_slice(b"\r\n");
        self.out.extend_from_slice(&line[..text.len() + 3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut ReplyWriter::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    fn both(write: impl Fn(&mut ReplyWriter<'_>)) -> (String, String) {
        (encoded(Protocol::Resp2, &write), encoded(Protocol::Resp3, &write))
    }

    #[test]
    fn scalars_common_to_both_protocols() {
        for (write, expected) in [
            (&(|w: &mut ReplyWriter<'_>| w.simple("PONG")) as &dyn Fn(&mut ReplyWriter<'_>), "+PONG\r\n"),
            (&|w| w.ok(), "+OK\r\n"),
            (&|w| w.error("ERR two\r\nlines"), "-ERR two  lines\r\n"),
            (&|w| w.integer(0), ":0\r\n"),
            (&|w| w.integer(9), ":9\r\n"),
            (&|w| w.integer(10), ":10\r\n"),
            (&|w| w.integer(i64::MIN), ":-9223372036854775808\r\n"),
            (&|w| w.count(12), ":12\r\n"),
            (&|w| w.bulk(b""), "$0\r\n\r\n"),
            (&|w| w.bulk(b"twelve bytes"), "$12\r\ntwelve bytes\r\n"),
            (&|w| w.bulk_integer(-7), "$2\r\n-7\r\n"),
            (&|w| w.array(3), "*3\r\n"),
        ] {
            assert_eq!(both(write), (expected.to_owned(), expected.to_owned()));
        }
    }

    #[test]
    fn what_differs_between_the_protocols() {
        for (write, resp2, resp3) in [
            (&(|w: &mut ReplyWriter<'_>| w.null()) as &dyn Fn(&mut ReplyWriter<'_>), "$-1\r\n", "_\r\n"),
            (&|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (&|w| w.bulk_or_null(None), "$-1\r\n", "_\r\n"),
            (&|w| w.map(12), "*24\r\n", "%12\r\n"),
            (&|w| w.set(2), "*2\r\n", "~2\r\n"),
            (&|w| w.push(2), "*2\r\n", ">2\r\n"),
            (&|w| w.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (&|w| w.double(-5e-324), "$7\r\n-5e-324\r\n", ",-5e-324\r\n"),
            (&|w| w.double(f64::INFINITY), "$3\r\ninf\r\n", ",inf\r\n"),
            (&|w| w.boolean(true), ":1\r\n", "#t\r\n"),
            (&|w| w.boolean(false), ":0\r\n", "#f\r\n"),
            (&|w| w.verbatim(b"txt", b"hello"), "$5\r\nhello\r\n", "=9\r\ntxt:hello\r\n"),
        ] {
            assert_eq!(both(write), (resp2.to_owned(), resp3.to_owned()));
        }
    }

    #[test]
    fn a_deferred_length_stands_before_its_elements_also_when_nested() {
        let write = |w: &mut ReplyWriter<'_>| {
            w.ok();
            let outer = w.defer();
            w.integer(1);
            let inner = w.defer();
            for _ in 0..12 {
                w.integer(2);
            }
            w.close_map(inner, 6);
            w.close_array(outer, 2);
            let empty = w.defer();
            w.close_set(empty, 0);
        };
        let twos = ":2\r\n".repeat(12);
        assert_eq!(
            both(write),
            (
                format!("+OK\r\n*2\r\n:1\r\n*12\r\n{twos}*0\r\n"),
                format!("+OK\r\n*2\r\n:1\r\n%6\r\n{twos}~0\r\n")
            )
        );
    }
}
