//! What a directive's value may be: checked, and put into the one form that CONFIG GET shows.

use holdfast_storage::number::parse_i64;

/// What a directive holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// An integer within bounds, both allowed.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// Bytes, with units (`64mb`, `1gb`, `512k`).
    Memory {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// Bytes with units, or a percentage.
    MemoryOrPercent,
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// Words, at least one of them (which may be empty).
    Words,
    /// Pairs of seconds and changes; further lines add to it, an empty text clears it.
    SavePoints,
    /// Limits by client class; further lines change their class only.
    OutputLimits,
}

impl Kind {
    /// Checks the words behind a directive and puts them into one text; `before` is what the directive holds.
    ///
    /// # Errors
    /// What is wrong with them, in Redis's words.
    pub fn normalize(self, words: &[String], before: &str) -> Result<String, String> {
        match self {
            Self::Words if !words.is_empty() => return Ok(words.join(" ").trim().to_owned()),
            Self::SavePoints => return save_points(words),
            Self::OutputLimits => return output_limits(words, before),
            _ => {}
        }
        let [word] = words else { return Err("wrong number of arguments".to_owned()) };
        match self {
            Self::Bool => match word.to_ascii_lowercase() {
                truth if truth == "yes" || truth == "no" => Ok(truth),
                _ => Err("argument must be 'yes' or 'no'".to_owned()),
            },
            Self::Integer { min, max } => match parse_i64(word.as_bytes()) {
                None => Err("argument couldn't be parsed into an integer".to_owned()),
                Some(number) if number < min || number > max => {
                    Err(format!("argument must be between {min} and {max} inclusive"))
                }
                Some(number) => Ok(number.to_string()),
            },
            Self::Memory { min, max } => match memory(word) {
                None => Err("argument must be a memory value".to_owned()),
                Some(bytes) if bytes < min || bytes > max => {
                    Err(format!("argument must be between {min} and {max} inclusive"))
                }
                Some(bytes) => Ok(bytes.to_string()),
            },
            Self::MemoryOrPercent => {
                match word.strip_suffix('%').and_then(|percent| parse_i64(percent.as_bytes())) {
                    Some(0..=100) => Ok(word.clone()),
                    _ => memory(word)
                        .map(|bytes| bytes.to_string())
                        .ok_or_else(|| "argument must be a memory or percent value".to_owned()),
                }
            }
            Self::OneOf(names) => names
                .iter()
                .find(|name| name.eq_ignore_ascii_case(word))
                .map(|&name| name.to_owned())
                .ok_or_else(|| format!("argument(s) must be one of the following: {}", names.join(", "))),
            _ => Ok(word.clone()),
        }
    }

    /// The words that a value set at run time consists of.
    pub fn split(self, text: &str) -> Vec<String> {
        match self {
            Self::Words | Self::SavePoints | Self::OutputLimits if !text.trim().is_empty() => {
                text.split_whitespace().map(str::to_owned).collect()
            }
            _ => vec![text.to_owned()],
        }
    }

    /// The lines, each without the directive's name, that give this value back when read.
    pub fn lines(self, value: &str) -> Vec<String> {
        match self {
            Self::OutputLimits => {
                let words: Vec<&str> = value.split(' ').collect();
                words.chunks(4).map(|limit| limit.join(" ")).collect()
            }
            Self::Words | Self::SavePoints if !value.is_empty() => vec![value.to_owned()],
            _ => vec![quoted_if_needed(value)],
        }
    }
}

fn quoted_if_needed(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#');
    if !value.is_empty() && value.bytes().all(plain) {
        value.to_owned()
    } else {
        crate::resp::quoting::quoted(value.as_bytes())
    }
}

/// `1k` is 1000 bytes, `1kb` 1024, and so on up to `gb` (Redis: `memtoull`).
pub fn memory(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

fn save_points(words: &[String]) -> Result<String, String> {
    if let [word] = words
        && word.is_empty()
    {
        return Ok(String::new());
    }
    let numbers: Option<Vec<i64>> = words.iter().map(|word| parse_i64(word.as_bytes())).collect();
    match numbers {
        Some(numbers)
            if !numbers.is_empty()
                && numbers.len().is_multiple_of(2)
                && numbers.chunks(2).all(|pair| pair[0] >= 1 && pair[1] >= 0) =>
        {
            Ok(words.join(" "))
        }
        _ => Err("Invalid save parameters".to_owned()),
    }
}

fn output_limits(words: &[String], before: &str) -> Result<String, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".to_owned());
    }
    let mut limits: Vec<String> = before.split(' ').map(str::to_owned).collect();
    for limit in words.chunks(4) {
        let class = match limit[0].to_ascii_lowercase().as_str() {
            "normal" => "normal",
            "slave" | "replica" => "slave",
            "pubsub" => "pubsub",
            _ => return Err("Invalid client class specified in buffer limit configuration.".to_owned()),
        };
        let numbers =
            (memory(&limit[1]), memory(&limit[2]), parse_i64(limit[3].as_bytes()).filter(|&s| s >= 0));
        let (Some(hard), Some(soft), Some(seconds)) = numbers else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".to_owned()
            );
        };
        let numbers = [hard.to_string(), soft.to_string(), seconds.to_string()];
        match limits.iter().position(|word| word == class) {
            Some(place) => limits[place + 1..place + 4].clone_from_slice(&numbers),
            None => {
                limits.push(class.to_owned());
                limits.extend(numbers);
            }
        }
    }
    Ok(limits.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(kind: Kind, text: &str, before: &str) -> Result<String, String> {
        kind.normalize(&kind.split(text), before)
    }

    #[test]
    fn memory_has_decimal_and_binary_units() {
        for (text, bytes) in [
            ("0", 0),
            ("10", 10),
            ("5B", 5),
            ("1k", 1000),
            ("1kb", 1024),
            ("2Mb", 2 << 20),
            ("1g", 1_000_000_000),
        ] {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        for text in ["", "kb", "-1", "1tb", "1.5gb", "99999999999gb", "1 kb"] {
            assert_eq!(memory(text), None, "{text}");
        }
    }

    #[test]
    fn refusals_have_redis_words() {
        let range = Kind::Integer { min: 0, max: 65535 };
        for (kind, text, refusal) in [
            (Kind::Bool, "on", "argument must be 'yes' or 'no'"),
            (range, "1.5", "argument couldn't be parsed into an integer"),
            (range, "65536", "argument must be between 0 and 65535 inclusive"),
            (Kind::Memory { min: 0, max: u64::MAX }, "lots", "argument must be a memory value"),
            (Kind::MemoryOrPercent, "101%", "argument must be a memory or percent value"),
            (Kind::OneOf(&["a", "b"]), "c", "argument(s) must be one of the following: a, b"),
            (Kind::SavePoints, "3600", "Invalid save parameters"),
            (Kind::OutputLimits, "normal 0 0", "Wrong number of arguments in buffer limit configuration."),
        ] {
            assert_eq!(normalized(kind, text, ""), Err(refusal.to_owned()));
        }
        let two = ["1".to_owned(), "2".to_owned()];
        assert_eq!(range.normalize(&two, ""), Err("wrong number of arguments".to_owned()));
    }

    #[test]
    fn values_are_put_into_one_form() {
        assert_eq!(normalized(Kind::Bool, "YES", "").unwrap(), "yes");
        assert_eq!(normalized(Kind::MemoryOrPercent, "5%", "").unwrap(), "5%");
        assert_eq!(normalized(Kind::SavePoints, "", "1 1").unwrap(), "");
        assert_eq!(
            normalized(Kind::OutputLimits, "replica 1mb 0 5", "normal 0 0 0 slave 9 9 9").unwrap(),
            "normal 0 0 0 slave 1048576 0 5"
        );
    }

    #[test]
    fn a_written_line_is_read_back() {
        for (kind, value) in [
            (Kind::Text, "with \"quotes\" and space"),
            (Kind::Text, ""),
            (Kind::Text, "#hash"),
            (Kind::Text, "plain"),
            (Kind::Words, "127.0.0.1 -::1"),
            (Kind::SavePoints, ""),
            (Kind::SavePoints, "3600 1 300 10"),
            (Kind::OutputLimits, "normal 0 0 0 slave 1 2 3"),
        ] {
            let mut read = "normal 5 5 5 slave 5 5 5".to_owned();
            for line in kind.lines(value) {
                let words = crate::resp::quoting::split(line.as_bytes()).unwrap();
                let words: Vec<String> =
                    words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect();
                read = kind.normalize(&words, &read).unwrap();
            }
            assert_eq!(read, value);
        }
    }
}
