//! Reading numbers and options out of arguments, with Redis's refusals.

use std::ops::RangeInclusive;

use holdfast_storage::number;

use super::errors::CommandError;
use crate::resp::Arguments;

/// What Redis says to a number that must not be negative.
pub const MUST_BE_POSITIVE: &str = "ERR value is out of range, must be positive";

/// An integer of 64 bits.
///
/// # Errors
/// `ERR value is not an integer or out of range`.
pub fn integer(text: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(text).ok_or(CommandError::NotAnInteger)
}

/// An integer of 64 bits, or a refusal in the command's own words.
///
/// # Errors
/// `message`, which begins with its code.
pub fn integer_or(text: &[u8], message: &'static str) -> Result<i64, CommandError> {
    number::parse_i64(text).ok_or(CommandError::Text(message.into()))
}

/// An integer not below `minimum` (which is not negative); what is none, or below, is refused with `message`.
///
/// # Errors
/// `message`, which begins with its code.
pub fn at_least(text: &[u8], minimum: u64, message: &'static str) -> Result<u64, CommandError> {
    let number = number::parse_i64(text).and_then(|number| u64::try_from(number).ok());
    number.filter(|&number| number >= minimum).ok_or(CommandError::Text(message.into()))
}

/// An integer within a range.
///
/// # Errors
/// What is none is refused as by [`integer`], what is outside with the range.
pub fn within(text: &[u8], range: RangeInclusive<i64>) -> Result<i64, CommandError> {
    let number = integer(text)?;
    if range.contains(&number) {
        return Ok(number);
    }
    let (low, high) = (range.start(), range.end());
    Err(CommandError::Text(format!("ERR value is out of range, value must between {low} and {high}").into()))
}

/// A double.
///
/// # Errors
/// `ERR value is not a valid float`.
pub fn float(text: &[u8]) -> Result<f64, CommandError> {
    number::parse_f64(text).ok_or(CommandError::NotAFloat)
}

/// A double, or a refusal in the command's own words.
///
/// # Errors
/// `message`, which begins with its code.
pub fn float_or(text: &[u8], message: &'static str) -> Result<f64, CommandError> {
    number::parse_f64(text).ok_or(CommandError::Text(message.into()))
}

/// A SCAN cursor: digits as C's `strtoul` reads them, which takes a negative number for the one as far below 2^64.
///
/// # Errors
/// `ERR invalid cursor`.
pub fn cursor(text: &[u8]) -> Result<u64, CommandError> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) || digits.is_empty() != text.is_empty() {
        return Err(CommandError::InvalidCursor);
    }
    let number = digits
        .iter()
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(CommandError::InvalidCursor)?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// Whether an argument is this word, in any case.
pub fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// Walks over the options behind a command's fixed arguments.
///
/// ```
/// # use holdfast_server::command::arguments::Options;
/// let arguments: &[&[u8]] = &[b"SET", b"k", b"v", b"ex", b"10", b"NX"];
/// let mut options = Options::after(arguments, 3);
/// let (mut seconds, mut only_new) = (None, false);
/// while let Some(word) = options.next_word() {
///     if options.is("EX") {
///         seconds = Some(options.integer().unwrap());
///     } else if options.is("NX") {
///         only_new = true;
///     } else {
///         panic!("{word:?}: {}", options.refuse());
///     }
/// }
/// assert_eq!((seconds, only_new), (Some(10), true));
/// ```
pub struct Options<'a> {
    arguments: Arguments<'a>,
    /// The argument after the present one.
    next: usize,
}

impl<'a> Options<'a> {
    /// The options that begin at `arguments[first]`.
    pub fn after(arguments: Arguments<'a>, first: usize) -> Self {
        Self { arguments, next: first }
    }

    /// Goes to the next option.
    pub fn next_word(&mut self) -> Option<&'a [u8]> {
        let word = self.arguments.get(self.next).copied()?;
        self.next += 1;
        Some(word)
    }

    /// Whether the present option is this word, in any case.
    pub fn is(&self, word: &str) -> bool {
        self.next > 0 && self.arguments.get(self.next - 1).is_some_and(|argument| is(argument, word))
    }

    /// The present option's place.
    pub fn position(&self) -> usize {
        self.next.saturating_sub(1)
    }

    /// How many arguments follow the present option.
    pub fn remaining(&self) -> usize {
        self.arguments.len().saturating_sub(self.next)
    }

    /// The present option's value.
    ///
    /// # Errors
    /// Syntax, when nothing follows.
    pub fn value(&mut self) -> Result<&'a [u8], CommandError> {
        self.next_word().ok_or(CommandError::Syntax)
    }

    /// The present option's value, an integer.
    ///
    /// # Errors
    /// Syntax, when nothing follows; as [`integer`].
    pub fn integer(&mut self) -> Result<i64, CommandError> {
        integer(self.value()?)
    }

    /// The present option's value, a double.
    ///
    /// # Errors
    /// Syntax, when nothing follows; as [`float`].
    pub fn float(&mut self) -> Result<f64, CommandError> {
        float(self.value()?)
    }

    /// The present option is none of the command's.
    pub fn refuse(&self) -> CommandError {
        CommandError::Syntax
    }
}

/// Sets an option that excludes others of its kind (EX, PX, KEEPTTL …).
///
/// # Errors
/// Syntax, when one of them was given already.
pub fn set_once<T>(option: &mut Option<T>, value: T) -> Result<(), CommandError> {
    match option {
        Some(_) => Err(CommandError::Syntax),
        None => {
            *option = Some(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, CommandError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_refused_in_redis_words() {
        assert_eq!(integer(b"-5").unwrap(), -5);
        assert_eq!(said(integer(b"1.0")), "ERR value is not an integer or out of range");
        assert_eq!(said(float(b"nan")), "ERR value is not a valid float");
        assert_eq!(at_least(b"0", 0, MUST_BE_POSITIVE).unwrap(), 0);
        assert_eq!(said(at_least(b"-1", 0, MUST_BE_POSITIVE)), MUST_BE_POSITIVE);
        assert_eq!(
            said(at_least(b"x", 1, "ERR numkeys should be greater than 0")),
            "ERR numkeys should be greater than 0"
        );
        assert_eq!(
            said(within(b"-9223372036854775808", -i64::MAX..=i64::MAX)),
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
        );
    }

    #[test]
    fn cursors_are_plain_digits() {
        assert_eq!(cursor(b"0").unwrap(), 0);
        assert_eq!(cursor(b"18446744073709551615").unwrap(), u64::MAX);
        assert_eq!(cursor(b"-1").unwrap(), u64::MAX);
        for text in [&b"18446744073709551616"[..], b" 1", b"1 ", b"a", b"-"] {
            assert_eq!(said(cursor(text)), "ERR invalid cursor");
        }
    }

    #[test]
    fn an_option_without_its_value_is_a_syntax_error() {
        let mut options = Options::after(&[b"get", b"EX"], 1);
        options.next_word();
        assert!(options.is("ex"));
        assert_eq!(options.integer(), Err(CommandError::Syntax));
        let mut once = None;
        assert_eq!(
            (set_once(&mut once, 1), set_once(&mut once, 2), once),
            (Ok(()), Err(CommandError::Syntax), Some(1))
        );
    }
}
