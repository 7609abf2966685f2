//! Where a reply ends. Its content is of no interest, but that it is an error is.

/// A complete reply at the start of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Its length.
    pub length: usize,
    /// Whether it is an error.
    pub is_error: bool,
}

/// The reply at the start, once it is complete.
///
/// # Errors
/// What is no reply.
pub fn first(bytes: &[u8]) -> Result<Option<Reply>, String> {
    let is_error = bytes.first() == Some(&b'-');
    Ok(end_of(bytes, 0)?.map(|length| Reply { length, is_error }))
}

fn end_of(bytes: &[u8], at: usize) -> Result<Option<usize>, String> {
    let Some(&kind) = bytes.get(at) else { return Ok(None) };
    let Some(length) = bytes[at..].iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line_end = at + length + 1;
    let number = || {
        let digits = std::str::from_utf8(&bytes[at + 1..line_end]).map_err(|_| "no number".to_owned())?;
        digits.trim_end().parse::<i64>().map_err(|_| format!("{digits:?} is no number"))
    };
    match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' => Ok(Some(line_end)),
        b'$' | b'=' => match number()? {
            ..0 => Ok(Some(line_end)),
            size => {
                let end = line_end + size as usize + 2;
                Ok((end <= bytes.len()).then_some(end))
            }
        },
        b'*' | b'~' | b'>' | b'%' => {
            let elements = number()?.max(0) * if kind == b'%' { 2 } else { 1 };
            let mut end = line_end;
            for _ in 0..elements {
                match end_of(bytes, end)? {
                    Some(next) => end = next,
                    None => return Ok(None),
                }
            }
            Ok(Some(end))
        }
        other => Err(format!("a reply begins with byte {other:#04x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_ends_where_it_ends_and_not_before() {
        let replies = [
            "+OK\r\n",
            ":12\r\n",
            "$3\r\nabc\r\n",
            "$-1\r\n",
            "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
            "*0\r\n",
            "%1\r\n+a\r\n:1\r\n",
        ];
        for reply in replies {
            for length in 0..reply.len() {
                assert_eq!(first(&reply.as_bytes()[..length]), Ok(None), "{reply:?} to {length}");
            }
            let more = format!("{reply}+");
            assert_eq!(first(more.as_bytes()), Ok(Some(Reply { length: reply.len(), is_error: false })));
        }
        assert!(first(b"-ERR no\r\n").unwrap().unwrap().is_error);
        assert!(first(b"hello\r\n").is_err());
    }
}
