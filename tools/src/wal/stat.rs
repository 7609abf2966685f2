//! `holdfast wal stat`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use holdfast_storage::log::{RecordKind, RecordView, VisitError, reader};
use holdfast_storage::mutation::decode_body;
use holdfast_words::Lsn;

use super::dump::name_of;
use super::time::utc;
use crate::print::human_bytes;
use crate::progress::WalkProgress;

#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }
}

/// Slots shown: those with the most bytes.
const SLOTS_SHOWN: usize = 10;
/// Milliseconds of a row of the time chart.
const BUCKET_MS: u64 = 60_000;

pub(super) fn stat(directory: &Path, out: &mut dyn Write) -> Result<()> {
    let mut kinds: BTreeMap<String, Sum> = BTreeMap::new();
    let mut slots: BTreeMap<String, Sum> = BTreeMap::new();
    let mut times: BTreeMap<u64, Sum> = BTreeMap::new();
    let mut progress = WalkProgress::through(&reader::look(directory)?);
    let mut count = |record: &RecordView<'_>| -> Result<(), VisitError> {
        progress.reached(record.lsn);
        let bytes = record.bytes.len();
        times.entry(record.header.wall_clock_ms / BUCKET_MS).or_default().add(bytes);
        if record.header.kind == RecordKind::Mutations {
            slots.entry(format!("slot {}", record.header.slot)).or_default().add(bytes);
            let mut names = Vec::new();
            decode_body(record.body, |mutation| names.push(name_of(&mutation)))?;
            let share = bytes / names.len().max(1);
            names.into_iter().for_each(|name| kinds.entry(name).or_default().add(share));
        } else {
            kinds.entry(format!("{:?}", record.header.kind)).or_default().add(bytes);
        }
        Ok(())
    };
    reader::read(directory, Lsn::ZERO, &mut count)?;
    drop(progress);
    chart(out, "by change", kinds.into_iter().collect())?;
    let mut slots: Vec<(String, Sum)> = slots.into_iter().collect();
    slots.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.bytes));
    let hidden = slots.len().saturating_sub(SLOTS_SHOWN);
    slots.truncate(SLOTS_SHOWN);
    chart(out, "by slot", slots)?;
    if hidden > 0 {
        writeln!(out, "  and {hidden} more slots")?;
    }
    chart(
        out,
        "by minute (UTC)",
        times.into_iter().map(|(bucket, sum)| (utc(bucket * BUCKET_MS), sum)).collect(),
    )
}

fn chart(out: &mut dyn Write, title: &str, rows: Vec<(String, Sum)>) -> Result<()> {
    const BAR: u64 = 40;
    let most = rows.iter().map(|(_, sum)| sum.bytes).max().unwrap_or(0).max(1);
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    writeln!(out, "{title}")?;
    for (name, sum) in rows {
        let bar = "#".repeat((sum.bytes * BAR / most) as usize);
        writeln!(out, "  {name:width$} {:>10} {:>10}  {bar}", sum.count, human_bytes(sum.bytes))?;
    }
    Ok(())
}
