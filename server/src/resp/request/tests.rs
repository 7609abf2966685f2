//! The parser against a naive one that sees all bytes at once, for every way the bytes can be cut.

use proptest::prelude::*;

use super::*;
use holdfast_storage::look_ahead::BATCH_MAX;

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds `bytes` in pieces ending at `cuts`, dropping what was run after each piece, as a connection does; the long way alone finds
/// the same.
fn fed(bytes: &[u8], cuts: impl IntoIterator<Item = usize> + Clone, limits: &Limits) -> Outcome {
    let outcome = fed_as(true, bytes, cuts.clone(), limits);
    assert_eq!(outcome, fed_as(false, bytes, cuts, limits));
    outcome
}

fn fed_as(
    with_batches: bool,
    bytes: &[u8],
    cuts: impl IntoIterator<Item = usize>,
    limits: &Limits,
) -> Outcome {
    let mut parser = RequestParser::default();
    let mut buffer = Vec::new();
    let mut requests = Vec::new();
    let mut fed = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        buffer.extend_from_slice(&bytes[fed..cut]);
        fed = cut;
        let mut start = 0;
        loop {
            let mut batch = Batch::default();
            if with_batches && parser.batch(&buffer[start..], &mut batch, limits) {
                while let Some((arguments, length)) = batch.next_request() {
                    requests.push(arguments.iter().map(|argument| argument.to_vec()).collect());
                    start += length;
                }
                continue;
            }
            match parser.next(&buffer, &mut start, limits) {
                Ok(Some(request)) => {
                    assert!(!request.arguments().is_empty());
                    requests.push(request.arguments().iter().map(|argument| argument.to_vec()).collect());
                    start += request.length();
                }
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
        buffer.drain(..start);
    }
    (requests, None)
}

/// The same rules, written the long way round over complete input.
fn naive(mut bytes: &[u8], limits: &Limits) -> Outcome {
    fn line<'b>(bytes: &mut &'b [u8], end: &[u8]) -> Option<&'b [u8]> {
        let at = bytes.windows(end.len()).position(|window| window == end)?;
        let line = &bytes[..at];
        *bytes = &bytes[at + end.len()..];
        Some(line)
    }
    let mut requests = Vec::new();
    loop {
        let error = match bytes.first() {
            None => return (requests, None),
            Some(b'*') => {
                let Some(header) = line(&mut bytes, b"\r\n") else { return (requests, None) };
                match parse_i64(&header[1..]) {
                    Some(count) if count <= i64::from(i32::MAX) && (count <= 10 || limits.authenticated) => {
                        let mut arguments = Vec::new();
                        let mut refused = None;
                        for _ in 0..count.max(0) {
                            let Some(header) = line(&mut bytes, b"\r\n") else { return (requests, None) };
                            let length = header.strip_prefix(b"$").and_then(parse_i64);
                            match (header.first(), length) {
                                (Some(b'$'), Some(length))
                                    if length >= 0 && length as usize <= limits.bulk_max =>
                                {
                                    let length = length as usize;
                                    if length > 16384 && !limits.authenticated {
                                        refused = Some(ProtocolError::UnauthenticatedBulkLength);
                                        break;
                                    }
                                    if bytes.len() < length + 2 {
                                        return (requests, None);
                                    }
                                    arguments.push(bytes[..length].to_vec());
                                    bytes = &bytes[length + 2..];
                                }
                                (Some(b'$'), _) => {
                                    refused = Some(ProtocolError::InvalidBulkLength);
                                    break;
                                }
                                (other, _) => {
                                    refused = Some(ProtocolError::ExpectedDollar(*other.unwrap_or(&b'\r')));
                                    break;
                                }
                            }
                        }
                        match refused {
                            None if arguments.is_empty() => continue,
                            None => {
                                requests.push(arguments);
                                continue;
                            }
                            Some(error) => error,
                        }
                    }
                    Some(count) if count <= i64::from(i32::MAX) => {
                        ProtocolError::UnauthenticatedMultibulkLength
                    }
                    _ => ProtocolError::InvalidMultibulkLength,
                }
            }
            Some(_) => {
                let Some(text) = line(&mut bytes, b"\n") else { return (requests, None) };
                match quoting::split(text.strip_suffix(b"\r").unwrap_or(text)) {
                    Ok(words) if words.is_empty() => continue,
                    Ok(words) => {
                        requests.push(words);
                        continue;
                    }
                    Err(_) => ProtocolError::UnbalancedQuotes,
                }
            }
        };
        return (requests, Some(error));
    }
}

fn encoded(arguments: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n')], 0..12);
    prop_oneof![
        6 => prop::collection::vec(word, 1..5).prop_map(|arguments| encoded(&arguments)),
        2 => "[A-Za-z '\"\\\\]{0,12}\r?\n".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["*0\r\n", "*-1\r\n", "\r\n", "*x\r\n", "*1\r\n+1\r\n", "*1\r\n$-1\r\n", "*1\r\n\r\n", "*3000000000\r\n"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(prop::sample::select(b"*$0123\r\n-a\"".to_vec()), 0..10),
    ]
}

proptest! {
    #[test]
    fn every_cut_gives_what_a_naive_parser_of_all_bytes_gives(pieces in prop::collection::vec(piece(), 0..5)) {
        let bytes = pieces.concat();
        let limits = Limits { bulk_max: 1000, authenticated: true };
        // A carriage return without a line feed in a header ends the header for Redis; the naive parser wants both.
        let headers_whole = !bytes.windows(2).any(|pair| pair[0] == b'\r' && pair[1] != b'\n');
        let whole = fed(&bytes, [], &limits);
        if headers_whole {
            prop_assert_eq!(&whole, &naive(&bytes, &limits));
        }
        for cut in 0..=bytes.len() {
            prop_assert_eq!(&fed(&bytes, [cut], &limits), &whole);
        }
        prop_assert_eq!(&fed(&bytes, 0..bytes.len(), &limits), &whole);
    }

    #[test]
    fn what_is_encoded_is_parsed(arguments in prop::collection::vec(any::<Vec<u8>>(), 1..40)) {
        prop_assert_eq!(fed(&encoded(&arguments), [], &Limits::default()), (vec![arguments], None));
    }
}

fn refusal(bytes: &[u8], limits: Limits) -> Option<String> {
    fed(bytes, [], &limits).1.map(|error| error.to_string())
}

#[test]
fn refusals_have_redis_texts() {
    let open = Limits::default();
    let closed = Limits { authenticated: false, ..open };
    let long = vec![b'1'; LINE_BYTES_MAX + 1];
    for (bytes, limits, text) in [
        (b"*x\r\n".to_vec(), open, "invalid multibulk length"),
        (b"*2147483648\r\n".to_vec(), open, "invalid multibulk length"),
        (b"*11\r\n".to_vec(), closed, "unauthenticated multibulk length"),
        ([b"*", &long[..]].concat(), open, "too big mbulk count string"),
        (b"*1\r\nfoo\r\n".to_vec(), open, "expected '$', got 'f'"),
        (b"*1\r\n$536870913\r\n".to_vec(), open, "invalid bulk length"),
        (b"*1\r\n$-1\r\n".to_vec(), open, "invalid bulk length"),
        (b"*1\r\n$16385\r\n".to_vec(), closed, "unauthenticated bulk length"),
        ([b"*1\r\n$", &long[..]].concat(), open, "too big bulk count string"),
        (long.clone(), open, "too big inline request"),
        (b"set \"a\r\n".to_vec(), open, "unbalanced quotes in request"),
    ] {
        assert_eq!(refusal(&bytes, limits), Some(format!("Protocol error: {text}")));
    }
    for bytes in [&b"*10\r\n"[..], b"*1\r\n$16384\r\n", b"*1\r\n$536870912\r\n", b"*2147483647\r\n"] {
        assert_eq!(
            refusal(bytes, Limits { authenticated: bytes.len() > 12 && bytes[1] != b'0', ..open }),
            None
        );
    }
}

#[test]
fn an_announced_length_reserves_nothing() {
    let mut parser = RequestParser::default();
    let mut start = 0;
    assert!(
        parser.next(b"*2147483647\r\n$536870912\r\nab", &mut start, &Limits::default()).unwrap().is_none()
    );
    assert_eq!((parser.ranges.capacity(), parser.inline.capacity()), (0, 0));
}

#[test]
fn a_large_request_leaves_little_behind() {
    let mut parser = RequestParser::default();
    let large = encoded(&vec![b"a".to_vec(); 100_000]);
    let mut start = 0;
    assert_eq!(
        parser.next(&large, &mut start, &Limits::default()).unwrap().unwrap().arguments().len(),
        100_000
    );
    assert_eq!(
        parser.next(b"*1\r\n$4\r\nPING\r\n", &mut start, &Limits::default()).unwrap().unwrap().length(),
        14
    );
    assert!(parser.ranges.capacity() <= RANGES_KEPT);
}

#[test]
fn blank_requests_can_be_dropped_although_nothing_follows() {
    let mut parser = RequestParser::default();
    let mut start = 0;
    assert!(parser.next(b"\r\n*0\r\n\n*-1\r\n*1\r\n", &mut start, &Limits::default()).unwrap().is_none());
    assert_eq!(start, 12);
}

#[test]
fn a_drip_looks_at_each_byte_once() {
    let mut parser = RequestParser::default();
    let text = vec![b'a'; 1000];
    for length in 1..text.len() {
        assert!(parser.next(&text[..length], &mut 0, &Limits::default()).unwrap().is_none());
        assert_eq!(parser.searched, length);
    }
    let mut parser = RequestParser::default();
    let bulk = encoded(&[vec![b'a'; 1000]]);
    for length in 12..bulk.len() {
        assert!(parser.next(&bulk[..length], &mut 0, &Limits::default()).unwrap().is_none());
        assert_eq!(parser.at, 11);
    }
}

#[test]
fn a_batch_ends_before_what_is_not_whole_or_out_of_the_ordinary() {
    let mut dice = fastrand::Rng::with_seed(11);
    for _ in 0..2000 {
        let requests: Vec<Vec<Vec<u8>>> = (0..dice.usize(1..40))
            .map(|_| {
                let longest = if dice.u8(..20) == 0 { 1200 } else { 30 };
                (0..dice.usize(1..6)).map(|_| vec![b'a'; dice.usize(..longest)]).collect()
            })
            .collect();
        let whole = requests.iter().map(|words| encoded(words)).collect::<Vec<_>>();
        let bytes = whole.concat();
        let there = dice.usize(..=bytes.len());
        let (mut parser, mut batch) = (RequestParser::default(), Batch::default());
        let found = parser.batch(&bytes[..there], &mut batch, &Limits::default());
        assert_eq!((found, batch.is_empty()), (batch.all().len() > 0, !found));
        let (mut taken, count) = (0, batch.all().len());
        for (words, encoded) in requests.iter().zip(&whole).take(count) {
            let (arguments, length) = batch.next_request().unwrap();
            assert_eq!(
                (arguments, length),
                (&words.iter().map(Vec::as_slice).collect::<Vec<_>>()[..], encoded.len())
            );
            taken += length;
        }
        assert!(batch.next_request().is_none() && batch.is_empty());
        let next = requests.get(batch.all().len());
        let is_ordinary = |words: &Vec<Vec<u8>>| words.iter().all(|word| word.len() < 1000);
        let is_there = |words: &Vec<Vec<u8>>| taken + encoded(words).len() <= there;
        let is_full = batch.all().len() == BATCH_MAX || batch.all().map(<[_]>::len).sum::<usize>() >= 64;
        assert!(is_full || !next.is_some_and(|words| is_ordinary(words) && is_there(words)));
    }
}
