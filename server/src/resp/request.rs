//! FORMAT: requests (redis.io, "Redis serialization protocol specification", "Inline commands"). Parsed in place: an argument
//! is a range of the bytes that were read. What a length announces is never reserved; bytes that were looked at are not
//! looked at again when more arrive.

use std::fmt;
use std::ops::Range;

use holdfast_storage::number::parse_i64;
use smallvec::SmallVec;

use super::batch::{Batch, short_number};
use super::quoting;

/// Longest line (inline command, count or length) in a request; Redis's PROTO_INLINE_MAX_SIZE.
pub const LINE_BYTES_MAX: usize = 64 * 1024;
/// Most arguments a client may send that has not shown the password.
pub(super) const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;
/// Longest argument of a client that has not shown the password.
const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;
/// Ranges kept for the next request; a larger request's are given back.
const RANGES_KEPT: usize = 1024;

/// A request's arguments, the command's name first; never empty.
pub type Arguments<'a> = &'a [&'a [u8]];

/// What a client may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Longest argument (`proto-max-bulk-len`).
    pub bulk_max: usize,
    /// Whether the client has shown the password, or none is asked.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk_max: 512 * 1024 * 1024, authenticated: true }
    }
}

/// Bytes that are no request. The connection cannot go on: where the next request begins is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    /// The number of arguments is none.
    InvalidMultibulkLength,
    /// More arguments than a client may send before it has shown the password.
    UnauthenticatedMultibulkLength,
    /// The line of the number of arguments does not end.
    TooBigMultibulkCount,
    /// An argument begins with something else.
    ExpectedDollar(u8),
    /// An argument's length is none, or beyond the limit.
    InvalidBulkLength,
    /// A longer argument than a client may send before it has shown the password.
    UnauthenticatedBulkLength,
    /// The line of an argument's length does not end.
    TooBigBulkCount,
    /// An inline command does not end.
    TooBigInline,
    /// An inline command's quotes are not closed.
    UnbalancedQuotes,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::UnauthenticatedMultibulkLength => "unauthenticated multibulk length",
            Self::TooBigMultibulkCount => "too big mbulk count string",
            Self::ExpectedDollar(found) => return write!(f, "expected '$', got '{}'", char::from(*found)),
            Self::InvalidBulkLength => "invalid bulk length",
            Self::UnauthenticatedBulkLength => "unauthenticated bulk length",
            Self::TooBigBulkCount => "too big bulk count string",
            Self::TooBigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// One whole request.
#[derive(Debug)]
pub struct Request<'a> {
    arguments: SmallVec<[&'a [u8]; 16]>,
    length: usize,
}

impl Request<'_> {
    /// The arguments, the command's name first; at least one.
    pub fn arguments(&self) -> Arguments<'_> {
        &self.arguments
    }

    /// Bytes the request takes in the buffer.
    pub fn length(&self) -> usize {
        self.length
    }
}

/// Finds requests in the bytes of one connection, however they arrive.
#[derive(Debug, Default)]
pub struct RequestParser {
    state: State,
    /// From the request's first byte to where parsing goes on.
    at: usize,
    /// Bytes from `at` on that hold no end of line.
    searched: usize,
    /// Arguments found, from the request's first byte (or in `inline`, for an inline command).
    ranges: Vec<Range<usize>>,
    /// The words of an inline command, unquoted.
    inline: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// At a request's first byte.
    #[default]
    Start,
    /// At the `$` of the first of `remaining` arguments.
    Length { remaining: usize },
    /// At the first byte of an argument.
    Bulk { remaining: usize, length: usize },
}

enum Found {
    /// A request ends at `at`.
    Multibulk,
    Inline,
    /// Nothing to run ends at `at`: an empty line, `*0`.
    Blank,
}

impl RequestParser {
    /// Fills the batch with the ordinary requests that `bytes` begin with; `false` when the first is not one, and for [`Self::next`].
    pub fn batch<'b>(&mut self, bytes: &'b [u8], batch: &mut Batch<'b>, limits: &Limits) -> bool {
        if !matches!(self.state, State::Start) {
            return false;
        }
        batch.fill(bytes, limits);
        if !batch.is_empty() {
            // Of the first request's first line a part may have been searched before the rest came.
            self.searched = 0;
            self.forget();
        }
        !batch.is_empty()
    }

    /// The request that begins at `buffer[*start..]`, or `None` when it is not there as a whole. Blank requests in front of
    /// it are passed over: `*start` moves behind them, and the caller may drop what lies before it. Between calls that
    /// answer `None` the caller keeps `buffer[*start..]` and appends to it.
    ///
    /// # Errors
    /// Bytes that are no request.
    pub fn next<'a>(
        &'a mut self,
        buffer: &'a [u8],
        start: &mut usize,
        limits: &Limits,
    ) -> Result<Option<Request<'a>>, ProtocolError> {
        loop {
            let bytes = &buffer[*start..];
            let Some(found) = self.advance(bytes, limits)? else { return Ok(None) };
            let length = self.at;
            (self.state, self.at, self.searched) = (State::Start, 0, 0);
            let text = match found {
                Found::Multibulk => bytes,
                Found::Inline => &self.inline,
                Found::Blank => {
                    *start += length;
                    continue;
                }
            };
            let arguments = self.ranges.iter().map(|range| &text[range.clone()]).collect();
            return Ok(Some(Request { arguments, length }));
        }
    }

    fn advance(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Found>, ProtocolError> {
        loop {
            match self.state {
                State::Start => match bytes.first() {
                    None => return Ok(None),
                    Some(b'*') => match self.start(bytes, limits)? {
                        None => return Ok(None),
                        Some(0) => return Ok(Some(Found::Blank)),
                        Some(remaining) => self.state = State::Length { remaining },
                    },
                    Some(_) => return self.inline(bytes),
                },
                State::Length { remaining } => match self.bulk_length(bytes, limits)? {
                    None => return Ok(None),
                    Some(length) => self.state = State::Bulk { remaining, length },
                },
                State::Bulk { remaining, length } => {
                    // As Redis, not looking at the line end itself.
                    if bytes.len() - self.at < length + 2 {
                        return Ok(None);
                    }
                    self.ranges.push(self.at..self.at + length);
                    self.at += length + 2;
                    if remaining == 1 {
                        return Ok(Some(Found::Multibulk));
                    }
                    self.state = State::Length { remaining: remaining - 1 };
                }
            }
        }
    }

    /// Forgets the last request's arguments.
    fn forget(&mut self) {
        self.ranges.clear();
        self.ranges.shrink_to(RANGES_KEPT);
        self.inline.clear();
        self.inline.shrink_to(LINE_BYTES_MAX);
    }

    /// Forgets the last request's arguments, and reads the number of this one's.
    fn start(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        self.forget();
        if let Some(count) = self.short_number(bytes, b'*', UNAUTHENTICATED_ARGUMENTS_MAX) {
            return Ok(Some(count));
        }
        let Some(line) = self.line(bytes, ProtocolError::TooBigMultibulkCount)? else { return Ok(None) };
        match parse_i64(&line[1..]) {
            Some(count) if count > i64::from(i32::MAX) => Err(ProtocolError::InvalidMultibulkLength),
            None => Err(ProtocolError::InvalidMultibulkLength),
            Some(count) => {
                let count = usize::try_from(count).unwrap_or(0);
                if count > UNAUTHENTICATED_ARGUMENTS_MAX && !limits.authenticated {
                    return Err(ProtocolError::UnauthenticatedMultibulkLength);
                }
                Ok(Some(count))
            }
        }
    }

    fn bulk_length(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        if let Some(length) = self.short_number(bytes, b'$', limits.bulk_max) {
            return Ok(Some(length));
        }
        let Some(line) = self.line(bytes, ProtocolError::TooBigBulkCount)? else { return Ok(None) };
        match line.first() {
            Some(b'$') => {}
            Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
            None => return Err(ProtocolError::ExpectedDollar(b'\r')),
        }
        match parse_i64(&line[1..]).map(usize::try_from) {
            Some(Ok(length)) if length <= limits.bulk_max => {
                if length > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
                    return Err(ProtocolError::UnauthenticatedBulkLength);
                }
                Ok(Some(length))
            }
            _ => Err(ProtocolError::InvalidBulkLength),
        }
    }

    /// As [`short_number`], at `at`, when it is not above `max`; `at` moves behind it.
    fn short_number(&mut self, bytes: &[u8], kind: u8, max: usize) -> Option<usize> {
        let (number, length) = short_number(bytes.get(self.at..)?, kind)?;
        (number <= max).then(|| {
            self.at += length;
            self.searched = 0;
            number
        })
    }

    /// The line at `at`, without its end, once both bytes of its end are there; `at` moves behind it.
    fn line<'b>(
        &mut self,
        bytes: &'b [u8],
        endless: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let Some(rest) = bytes.get(self.at..) else { return Ok(None) };
        match rest[self.searched..].iter().position(|&byte| byte == b'\r') {
            None if rest.len() > LINE_BYTES_MAX => Err(endless),
            None => {
                self.searched = rest.len();
                Ok(None)
            }
            Some(found) => {
                let end = self.searched + found;
                if end + 1 >= rest.len() {
                    self.searched = end;
                    return Ok(None);
                }
                self.at += end + 2;
                self.searched = 0;
                Ok(Some(&rest[..end]))
            }
        }
    }

    fn inline(&mut self, bytes: &[u8]) -> Result<Option<Found>, ProtocolError> {
        let Some(found) = bytes[self.searched..].iter().position(|&byte| byte == b'\n') else {
            if bytes.len() > LINE_BYTES_MAX {
                return Err(ProtocolError::TooBigInline);
            }
            self.searched = bytes.len();
            return Ok(None);
        };
        let end = self.searched + found;
        self.at = end + 1;
        self.ranges.clear();
        self.inline.clear();
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        quoting::split_into(line, &mut self.inline, &mut self.ranges)
            .map_err(|quoting::UnbalancedQuotes| ProtocolError::UnbalancedQuotes)?;
        Ok(Some(if self.ranges.is_empty() { Found::Blank } else { Found::Inline }))
    }
}

#[cfg(test)]
mod tests;
