//! How Redis splits a line into words (`sdssplitargs`): quotes and escapes. Inline commands, the configuration file and
//! redis-cli share these rules.

use std::ops::Range;

/// A quote is not closed, or something other than space follows a closing quote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unbalanced quotes")]
pub struct UnbalancedQuotes;

/// Splits `line` into words: appends their bytes to `text` and their places in it to `words`. As in C, a zero byte ends
/// the line.
///
/// # Errors
/// Unbalanced quotes; `text` and `words` then hold the words before them.
pub fn split_into(
    line: &[u8],
    text: &mut Vec<u8>,
    words: &mut Vec<Range<usize>>,
) -> Result<(), UnbalancedQuotes> {
    let line = line.iter().position(|&byte| byte == 0).map_or(line, |end| &line[..end]);
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && is_space(*first)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(());
        }
        let start = text.len();
        rest = word(rest, text)?;
        words.push(start..text.len());
    }
}

/// Splits `line` into words of their own.
///
/// # Errors
/// Unbalanced quotes.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let (mut text, mut words) = (Vec::new(), Vec::new());
    split_into(line, &mut text, &mut words)?;
    Ok(words.into_iter().map(|word| text[word].to_vec()).collect())
}

/// Quotes `text` so that [`split`] gives it back (`sdscatrepr`).
pub fn quoted(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend(['\\', char::from(byte)]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            7 => out.push_str("\\a"),
            8 => out.push_str("\\b"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

fn word<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [] => return Ok(rest),
            [b' ' | b'\n' | b'\r' | b'\t', ..] => return Ok(rest),
            [b'"', tail @ ..] => return after_quote(double_quoted(tail, text)?),
            [b'\'', tail @ ..] => return after_quote(single_quoted(tail, text)?),
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn after_quote(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest.first() {
        Some(byte) if !is_space(*byte) => Err(UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', tail @ ..] => return Ok(tail),
            [b'\\', b'x', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                text.push(hexadecimal(*high) << 4 | hexadecimal(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn single_quoted<'l>(mut rest: &'l [u8], text: &mut Vec<u8>) -> Result<&'l [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\\', b'\'', tail @ ..] => {
                text.push(b'\'');
                tail
            }
            [b'\'', tail @ ..] => return Ok(tail),
            [byte, tail @ ..] => {
                text.push(*byte);
                tail
            }
        };
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hexadecimal(digit: u8) -> u8 {
    char::from(digit).to_digit(16).unwrap_or(0) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        let words = split(line.as_bytes()).ok()?;
        Some(words.into_iter().map(|word| word.into_iter().map(char::from).collect()).collect())
    }

    #[test]
    fn words_are_split_as_sdssplitargs_splits_them() {
        for (line, expected) in [
            ("", vec![]),
            (" \t\r\n", vec![]),
            ("SET a b\r", vec!["SET", "a", "b"]),
            ("  a \x0b b", vec!["a", "b"]),
            (r#"set "a b" 'c d'"#, vec!["set", "a b", "c d"]),
            (r#""\x41\n\r\t\b\a\"\\\q""#, vec!["A\n\r\t\u{8}\u{7}\"\\q"]),
            (r#""\xg1""#, vec!["xg1"]),
            (r"'it\'s \n'", vec![r"it's \n"]),
            (r#""" ''"#, vec!["", ""]),
            (r#"foo"bar baz""#, vec!["foobar baz"]),
            ("a\0b c", vec!["a"]),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(words(line), Some(expected), "{line:?}");
        }
        for line in ["\"", "'", "a \"b", "\"a\"b", "'a'b", "\"\\", "'\\'"] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_word_is_split_back_into_itself(word: Vec<u8>) {
            prop_assert_eq!(split(quoted(&word).as_bytes()).unwrap(), vec![word]);
        }
    }
}
