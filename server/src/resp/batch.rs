//! The requests at the front of what a connection sent, found in one walk: as many as their memory is fetched together for. Only whole
//! ones that have nothing out of the ordinary about them, as nearly all; the rest goes the long way
//! ([`RequestParser::next`](super::RequestParser::next)), which remembers how far it came and knows what is wrong.

use holdfast_storage::look_ahead::BATCH_MAX;
use smallvec::SmallVec;

use super::request::{Arguments, Limits, UNAUTHENTICATED_ARGUMENTS_MAX};

/// Words of a batch that need no memory of their own; no request is added to so many.
const WORDS: usize = 64;

/// Some whole requests, one after the other.
#[derive(Debug, Default)]
pub struct Batch<'b> {
    words: SmallVec<[&'b [u8]; WORDS]>,
    requests: SmallVec<[Place; BATCH_MAX]>,
    /// Of the next request to be taken.
    next: usize,
    next_word: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    words_end: usize,
    length: usize,
}

impl<'b> Batch<'b> {
    /// Becomes the requests that `bytes` begin with; none, when the first is not there as a whole or out of the ordinary.
    pub(super) fn fill(&mut self, bytes: &'b [u8], limits: &Limits) {
        self.words.clear();
        self.requests.clear();
        (self.next, self.next_word) = (0, 0);
        let mut rest = bytes;
        while self.requests.len() < BATCH_MAX && self.words.len() < WORDS {
            let words = self.words.len();
            let Some(length) = self.take(rest, limits) else {
                self.words.truncate(words);
                return;
            };
            self.requests.push(Place { words_end: self.words.len(), length });
            rest = &rest[length..];
        }
    }

    /// Adds the words of the request at the front; returns its length.
    fn take(&mut self, bytes: &'b [u8], limits: &Limits) -> Option<usize> {
        let (count, mut at) = short_number(bytes, b'*')?;
        if count == 0 || count > UNAUTHENTICATED_ARGUMENTS_MAX && !limits.authenticated {
            return None;
        }
        for _ in 0..count {
            let rest = bytes.get(at..)?;
            let (length, start) = short_number(rest, b'$')?;
            if length > limits.bulk_max || rest.len() < start + length + 2 {
                return None;
            }
            self.words.push(&rest[start..start + length]);
            at += start + length + 2;
        }
        Some(at)
    }

    /// Whether every request was taken.
    pub fn is_empty(&self) -> bool {
        self.next == self.requests.len()
    }

    /// The next request's arguments, and the bytes it takes.
    pub fn next_request(&mut self) -> Option<(Arguments<'_>, usize)> {
        let &Place { words_end, length } = self.requests.get(self.next)?;
        let words = &self.words[self.next_word..words_end];
        (self.next, self.next_word) = (self.next + 1, words_end);
        Some((words, length))
    }

    /// The arguments of all requests, taken or not.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &[&'b [u8]]> {
        let mut first = 0;
        self.requests.iter().map(move |place| {
            let words = &self.words[first..place.words_end];
            first = place.words_end;
            words
        })
    }
}

/// The number of one to three digits behind `kind` at the front, when its whole line is there, and the line's length.
pub(super) fn short_number(bytes: &[u8], kind: u8) -> Option<(usize, usize)> {
    // Six bytes have any such line; where there are fewer the line is a shorter one, or the end of it lacks.
    let line = match bytes.first_chunk::<6>() {
        Some(line) => *line,
        None => {
            let mut line = [0; 6];
            line[..bytes.len()].copy_from_slice(bytes);
            line
        }
    };
    let digit = |byte: u8| byte.wrapping_sub(b'0');
    let [first, a, b, c, d, e] = line;
    let (x, y, z) = (digit(a), digit(b), digit(c));
    if first != kind || x > 9 {
        return None;
    }
    if b == b'\r' {
        return (c == b'\n').then_some((usize::from(x), 4));
    }
    // Redis takes no number that begins with a zero.
    if x == 0 || y > 9 {
        return None;
    }
    let number = usize::from(x) * 10 + usize::from(y);
    if c == b'\r' {
        return (d == b'\n').then_some((number, 5));
    }
    (z <= 9 && d == b'\r' && e == b'\n').then(|| (number * 10 + usize::from(z), 6))
}
