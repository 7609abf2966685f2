//! Patterns with `*`, `?`, `[a-z]`, `[^a-z]` and `\`, as KEYS, the scans and CONFIG GET take them (Redis: `stringmatchlen`).

/// Whether `text` matches `pattern`.
///
/// An asterisk takes what it must, one byte more at a time, and only the last one ever has to be tried again; so the work
/// is bounded by the product of the two lengths.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    if text.is_empty() {
        // Redis does not look at the pattern then, save for the one that stands for no pattern.
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, position));
        } else if let Some(next) = match_byte(pattern, at, text[position]) {
            at = next;
            position += 1;
        } else if let Some((after_star, start)) = retry {
            at = after_star;
            position = start + 1;
            retry = Some((after_star, position));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

/// As [`matches()`], upper and lower case being the same.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

/// Where the pattern goes on when its element at `at` matches the byte.
fn match_byte(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_class(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => (pattern[at + 1] == byte).then_some(at + 2),
        literal => (literal == byte).then_some(at + 1),
    }
}

/// `at` is behind the opening bracket. A class that is never closed ends with the pattern.
fn match_class(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [start, b'-', end, ..] => {
                found |= (start.min(end)..=start.max(end)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= literal == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_redis_says_they_match() {
        for (pattern, yes, no) in [
            ("*", &["", "a", "abc"] as &[&str], &[] as &[&str]),
            ("", &[""], &["a"]),
            ("a*", &["a", "abc"], &["ba", ""]),
            ("*a", &["a", "ba", "aa"], &["ab"]),
            ("a*b*c", &["abc", "aXbXc", "abbcc", "abcbc"], &["abcb", "acb"]),
            ("**a", &["a", "ba"], &["b"]),
            ("**", &["a"], &[""]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo"], &["hello"]),
            ("h[a-c]llo", &["hallo", "hcllo"], &["hdllo"]),
            ("h[c-a]llo", &["hbllo"], &["hdllo"]),
            ("[\\]]", &["]"], &["\\"]),
            ("[a-]", &["a", "]", "_"], &["-", "b"]), // a range up to the bracket
            ("[abc", &["a", "c"], &["d", "ab"]),
            ("a[", &[], &["a", "a["]),
            ("a[^", &["ab"], &["a"]),
            ("\\*", &["*"], &["a", "\\*"]),
            ("a\\", &["a\\"], &["a"]),
            ("*[0-9]*x", &["a1x", "12x"], &["ax", "x1"]),
        ] {
            for text in yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} matches {text}");
            }
            for text in no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} does not match {text}");
            }
        }
        assert!(matches_ignoring_case(b"MaxM*", b"maxmemory"));
    }

    #[test]
    fn an_abusive_pattern_is_answered_at_once() {
        let pattern = b"a*".repeat(5000);
        let mut text = b"a".repeat(9000);
        text.push(b'b');
        assert!(matches(&pattern, &text));
        assert!(!matches(&[pattern, b"c".to_vec()].concat(), &text));
    }
}
