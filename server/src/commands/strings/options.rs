//! What SET, SETEX and GETEX may be told besides key and value.

use crate::command::arguments::{integer, is};
use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;

/// A point in time as a client gives it.
#[derive(Clone, Copy)]
pub struct TimeOption<'a> {
    number: &'a [u8],
    unit_ms: i64,
    absolute: bool,
}

impl<'a> TimeOption<'a> {
    /// `number` seconds from now.
    pub fn seconds(number: &'a [u8]) -> Self {
        Self { number, unit_ms: 1000, absolute: false }
    }

    /// `number` milliseconds from now.
    pub fn milliseconds(number: &'a [u8]) -> Self {
        Self { number, unit_ms: 1, absolute: false }
    }

    /// The point in milliseconds since 1970. `command` is named in the error.
    ///
    /// # Errors
    /// When the number is none, not positive, or too large.
    pub fn at_ms(&self, now_ms: u64, command: &'static str) -> CommandResult<u64> {
        let number = integer(self.number)?;
        let base = if self.absolute { 0 } else { i64::try_from(now_ms).unwrap_or(i64::MAX) };
        let at_ms = (number > 0).then(|| number.checked_mul(self.unit_ms)?.checked_add(base)).flatten();
        at_ms.map(i64::unsigned_abs).ok_or(CommandError::InvalidExpire { command })
    }

    fn is_alike(&self, other: &Self) -> bool {
        (self.unit_ms, self.absolute) == (other.unit_ms, other.absolute)
    }
}

/// Which words a command understands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// NX XX GET KEEPTTL EX PX EXAT PXAT
    Set,
    /// PERSIST EX PX EXAT PXAT
    GetEx,
}

/// The options of one request.
#[derive(Default)]
pub struct Options<'a> {
    /// Only when the key is missing.
    pub only_new: bool,
    /// Only when the key is there.
    pub only_existing: bool,
    /// Reply with what was there before.
    pub get: bool,
    /// The expiry stays as it is.
    pub keep_expiry: bool,
    /// The expiry is taken away.
    pub persist: bool,
    /// The key expires then.
    pub time: Option<TimeOption<'a>>,
}

impl<'a> Options<'a> {
    /// Reads the words behind key and value.
    ///
    /// # Errors
    /// A syntax error on a word the command does not know, on words that exclude each other, on a time without number.
    pub fn parse(words: &[&'a [u8]], grammar: Grammar) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            if !(options.take_flag(word, grammar) || options.take_time(word, &mut words)) {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn take_flag(&mut self, word: &[u8], grammar: Grammar) -> bool {
        let is = |name| is(word, name);
        let flag = if grammar == Grammar::GetEx {
            if is("persist") && self.time.is_none() { &mut self.persist } else { return false }
        } else if is("nx") && !self.only_existing {
            &mut self.only_new
        } else if is("xx") && !self.only_new {
            &mut self.only_existing
        } else if is("get") {
            &mut self.get
        } else if is("keepttl") && self.time.is_none() {
            &mut self.keep_expiry
        } else {
            return false;
        };
        *flag = true;
        true
    }

    fn take_time(&mut self, word: &[u8], rest: &mut impl Iterator<Item = &'a [u8]>) -> bool {
        let is = |name| is(word, name);
        let (unit_ms, absolute) = if is("ex") {
            (1000, false)
        } else if is("px") {
            (1, false)
        } else if is("exat") {
            (1000, true)
        } else if is("pxat") {
            (1, true)
        } else {
            return false;
        };
        let Some(number) = rest.next() else { return false };
        let time = TimeOption { number, unit_ms, absolute };
        if self.keep_expiry || self.persist || self.time.is_some_and(|earlier| !earlier.is_alike(&time)) {
            return false;
        }
        self.time = Some(time);
        true
    }
}
