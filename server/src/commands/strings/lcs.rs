//! LCS: the longest common subsequence of two strings, by the classic table.

use holdfast_storage::slots::SlotSet;
use holdfast_storage::types::ValueRef;

use super::append::STRING_BYTES_MAX;
use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};
use crate::resp::ReplyWriter;

#[derive(Default)]
struct Options {
    length: bool,
    indexes: bool,
    with_match_length: bool,
    /// Shorter matches are left out of the indexes.
    match_length_min: u64,
}

impl Options {
    fn parse(words: &[&[u8]]) -> CommandResult<Self> {
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"len" => options.length = true,
                b"idx" => options.indexes = true,
                b"withmatchlen" => options.with_match_length = true,
                b"minmatchlen" => {
                    let number = words.next().ok_or(CommandError::Syntax)?;
                    options.match_length_min = integer(number)?.max(0).unsigned_abs();
                }
                _ => return Err(CommandError::Syntax),
            }
        }
        if options.length && options.indexes {
            return Err(error("ERR If you want both the length and indexes, please just use IDX."));
        }
        Ok(options)
    }
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]
pub fn lcs(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let (mut a, mut b) = (itoa::Buffer::new(), itoa::Buffer::new());
    let (a, b) = (operand(data, arguments[1], &mut a)?, operand(data, arguments[2], &mut b)?);
    let options = Options::parse(&arguments[3..])?;
    let table = Table::new(a, b)?;
    if options.length {
        reply.count(table.length());
        return Ok(());
    }
    let ranges = table.ranges(a, b);
    if options.indexes {
        reply_indexes(reply, &ranges, table.length(), &options);
    } else {
        let subsequence: Vec<u8> =
            ranges.iter().rev().flat_map(|range| &a[range.a..range.a + range.length]).copied().collect();
        reply.bulk(&subsequence);
    }
    Ok(())
}

fn error(text: &'static str) -> CommandError {
    CommandError::Text(text.into())
}

fn operand<'v>(data: &'v SlotSet<'_>, key: &[u8], buffer: &'v mut itoa::Buffer) -> CommandResult<&'v [u8]> {
    match data.get(key) {
        None => Ok(b""),
        Some(ValueRef::String(string)) => Ok(string.bytes(buffer)),
        Some(_) => Err(error("ERR The specified keys must contain string values")),
    }
}

fn reply_indexes(reply: &mut ReplyWriter<'_>, ranges: &[Range], length: usize, options: &Options) {
    let shown = |range: &&Range| range.length as u64 >= options.match_length_min;
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(ranges.iter().filter(shown).count());
    for range in ranges.iter().filter(shown) {
        reply.array(2 + usize::from(options.with_match_length));
        for start in [range.a, range.b] {
            reply.array(2);
            reply.count(start);
            reply.count(start + range.length - 1);
        }
        if options.with_match_length {
            reply.count(range.length);
        }
    }
    reply.bulk(b"len");
    reply.count(length);
}

/// Bytes that the subsequence takes in one piece from both strings.
struct Range {
    a: usize,
    b: usize,
    length: usize,
}

/// For each pair of prefixes the length of their longest common subsequence.
struct Table {
    cells: Vec<u32>,
    width: usize,
    height: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> CommandResult<Self> {
        let (height, width) = (a.len() + 1, b.len() + 1);
        let cell_count = (height as u64).saturating_mul(width as u64);
        if cell_count.saturating_mul(size_of::<u32>() as u64) > STRING_BYTES_MAX {
            let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
            return Err(error(text));
        }
        let mut table = Self { cells: vec![0; height * width], width, height };
        for i in 1..height {
            let (above, row) = table.cells[(i - 1) * width..(i + 1) * width].split_at_mut(width);
            for j in 1..width {
                row[j] = if a[i - 1] == b[j - 1] { above[j - 1] + 1 } else { above[j].max(row[j - 1]) };
            }
        }
        Ok(table)
    }

    fn length(&self) -> usize {
        self.cells.last().map_or(0, |&length| length as usize)
    }

    /// The pieces of one longest subsequence, the last first: found from the strings' ends, as Redis does.
    fn ranges(&self, a: &[u8], b: &[u8]) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        let (mut i, mut j) = (self.height - 1, self.width - 1);
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match ranges.last_mut() {
                    Some(range) if (range.a, range.b) == (i + 1, j + 1) => {
                        (range.a, range.b, range.length) = (i, j, range.length + 1);
                    }
                    _ => ranges.push(Range { a: i, b: j, length: 1 }),
                }
            } else if self.cells[(i - 1) * self.width + j] > self.cells[i * self.width + j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        ranges
    }
}
