//! `holdfast wal dump`

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use holdfast_storage::log::{MORE_FOLLOWS, RecordKind, RecordView, VisitError, reader};
use holdfast_storage::mutation::{Bin, DeleteReason, Expiry, Mutation, decode_body};
use holdfast_words::Lsn;

use super::time::{self, utc};
use crate::print::quoted;

/// Which records are printed, and how.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Only this slot
    #[arg(long)]
    pub(super) slot: Option<u16>,
    /// Only records that touch this key
    #[arg(long)]
    pub(super) key: Option<String>,
    /// From this LSN on
    #[arg(long)]
    pub(super) from: Option<u64>,
    /// Up to this LSN
    #[arg(long)]
    pub(super) to: Option<u64>,
    /// From this moment on: 2026-11-23, 2026-11-23T22:00:00 (UTC), milliseconds since 1970, or -10m before now
    #[arg(long, value_parser = time::parse, allow_hyphen_values = true, value_name = "MOMENT")]
    pub(super) since: Option<u64>,
    /// Before this moment, written likewise
    #[arg(long, value_parser = time::parse, allow_hyphen_values = true, value_name = "MOMENT")]
    pub(super) until: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// Long values whole
    #[arg(long)]
    pub(super) full: bool,
}

/// Bytes of a value printed without `--full`.
const SHOWN_BYTES: usize = 128;

pub(super) fn dump(directory: &Path, filter: &Filter, out: &mut dyn Write) -> Result<()> {
    let mut print = |record: &RecordView<'_>| -> Result<(), VisitError> { print_record(record, filter, out) };
    reader::read(directory, Lsn(filter.from.unwrap_or(0)), &mut print)?;
    Ok(())
}

fn print_record(record: &RecordView<'_>, filter: &Filter, out: &mut dyn Write) -> Result<(), VisitError> {
    let header = &record.header;
    let wanted = filter.slot.is_none_or(|slot| slot == header.slot.number())
        && filter.to.is_none_or(|to| record.lsn.0 < to)
        && filter.since.is_none_or(|since_ms| header.wall_clock_ms >= since_ms)
        && filter.until.is_none_or(|until_ms| header.wall_clock_ms < until_ms);
    if !wanted {
        return Ok(());
    }
    let mut texts = Vec::new();
    let mut touches_key = filter.key.is_none();
    if header.kind == RecordKind::Mutations {
        decode_body(record.body, |mutation| {
            touches_key |= filter.key.as_ref().is_some_and(|key| touches(&mutation, key.as_bytes()));
            texts.push(describe(&mutation, filter.full));
        })?;
    }
    if !touches_key {
        return Ok(());
    }
    let time = utc(header.wall_clock_ms);
    if filter.json {
        let line = serde_json::json!({
            "lsn": record.lsn.0,
            "bytes": record.bytes.len(),
            "kind": format!("{:?}", header.kind),
            "more_follows": header.flags & MORE_FOLLOWS != 0,
            "slot": header.slot.number(),
            "epoch": header.epoch.0,
            "sequence": header.sequence.0,
            "time_ms": header.wall_clock_ms,
            "mutations": texts,
        });
        writeln!(out, "{line}")?;
        return Ok(());
    }
    let more = if header.flags & MORE_FOLLOWS != 0 { " (more follows)" } else { "" };
    let what = if texts.is_empty() { format!("{:?}", header.kind) } else { texts.join("; ") };
    let (lsn, slot, epoch, sequence) = (record.lsn, header.slot, header.epoch, header.sequence);
    writeln!(out, "{lsn} {time} slot {slot} epoch {epoch} seq {sequence}{more} {what}")?;
    Ok(())
}

fn touches(mutation: &Mutation<'_>, key: &[u8]) -> bool {
    match mutation {
        Mutation::Rename { from, to } | Mutation::Copy { from, to } => **from == *key || **to == *key,
        Mutation::FlushSlot => true,
        other => other.key() == Some(key),
    }
}

/// The name of a mutation's kind.
pub(super) fn name_of(mutation: &Mutation<'_>) -> String {
    let text = format!("{mutation:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

/// A mutation as one line, values as redis-cli prints them.
fn describe(mutation: &Mutation<'_>, full: bool) -> String {
    let bin = |bytes: &[u8]| {
        if full || bytes.len() <= SHOWN_BYTES {
            quoted(bytes)
        } else {
            format!("{}… ({} bytes)", quoted(&bytes[..SHOWN_BYTES]), bytes.len())
        }
    };
    let bins = |list: &[Bin<'_>]| list.iter().map(|item| bin(item)).collect::<Vec<_>>().join(" ");
    let expiry = |expiry: &Expiry| match expiry {
        Expiry::Clear => String::new(),
        Expiry::Keep => " keeps its expiry".to_owned(),
        Expiry::At(at_ms) => format!(" expires {}", utc(*at_ms)),
    };
    let rest = match mutation {
        Mutation::SetString { key, value, expiry: at } => {
            format!("{} {}{}", bin(key), bin(value), expiry(at))
        }
        Mutation::SetInteger { key, value } => format!("{} {value}", bin(key)),
        Mutation::SpliceString { key, offset, bytes } => format!("{} at {offset} {}", bin(key), bin(bytes)),
        Mutation::Delete { key, reason } => match reason {
            DeleteReason::Command => bin(key),
            DeleteReason::Expired => format!("{} (expired)", bin(key)),
            DeleteReason::Evicted => format!("{} (evicted)", bin(key)),
        },
        Mutation::ExpireAt { key, at_ms } => format!("{} {}", bin(key), utc(*at_ms)),
        Mutation::Persist { key } => bin(key),
        Mutation::Rename { from, to } | Mutation::Copy { from, to } => format!("{} {}", bin(from), bin(to)),
        Mutation::Restore { key, value, expiry: at } => {
            format!("{} ({} bytes){}", bin(key), value.len(), expiry(at))
        }
        Mutation::FlushSlot => String::new(),
        Mutation::HashSet { key, pairs } => {
            let pairs: Vec<String> =
                pairs.iter().map(|(field, value)| format!("{} {}", bin(field), bin(value))).collect();
            format!("{} {}", bin(key), pairs.join(" "))
        }
        Mutation::HashDelete { key, fields } => format!("{} {}", bin(key), bins(fields)),
        Mutation::ListPush { key, end, values } => format!("{} {end:?} {}", bin(key), bins(values)),
        Mutation::ListPop { key, end, count } => format!("{} {end:?} {count}", bin(key)),
        Mutation::ListSet { key, index, value } | Mutation::ListInsert { key, index, value } => {
            format!("{} {index} {}", bin(key), bin(value))
        }
        Mutation::ListRemove { key, indexes } => format!("{} {indexes:?}", bin(key)),
        Mutation::ListTrim { key, start, length } => format!("{} from {start} length {length}", bin(key)),
        Mutation::SetAdd { key, members }
        | Mutation::SetRemove { key, members }
        | Mutation::SortedSetRemove { key, members } => {
            format!("{} {}", bin(key), bins(members))
        }
        Mutation::SortedSetAdd { key, entries } => {
            let entries: Vec<String> =
                entries.iter().map(|(score, member)| format!("{score} {}", bin(member))).collect();
            format!("{} {}", bin(key), entries.join(" "))
        }
    };
    format!("{} {rest}", name_of(mutation)).trim_end().to_owned()
}
