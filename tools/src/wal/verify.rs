//! `holdfast wal verify`

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use holdfast_storage::log::reader::{self, SequenceCheck};
use holdfast_storage::log::{RecordKind, RecordView, RecordVisitor, VisitError};
use holdfast_storage::mutation::decode_body;
use holdfast_words::Lsn;

use crate::progress::WalkProgress;

pub(super) fn verify(directory: &Path, out: &mut dyn Write) -> Result<()> {
    let mut sequences = SequenceCheck::default();
    let (mut records, mut mutations) = (0u64, 0u64);
    let mut progress = WalkProgress::through(&reader::look(directory)?);
    let mut check = |record: &RecordView<'_>| -> Result<(), VisitError> {
        progress.reached(record.lsn);
        sequences.record(record)?;
        if record.header.kind == RecordKind::Mutations {
            mutations += decode_body(record.body, |_| {})? as u64;
        }
        records += 1;
        Ok(())
    };
    let found = reader::read(directory, Lsn::ZERO, &mut check)?;
    drop(progress);
    writeln!(
        out,
        "{} segments, {records} records, {mutations} mutations in {} slots: every CRC, LSN and slot sequence is right up to LSN {}",
        found.segments.len(),
        sequences.newest().len(),
        found.end_lsn,
    )?;
    if let Some(torn) = &found.torn {
        writeln!(out, "after it: {torn}; above the durable mark {}, so no damage", found.mark.durable_lsn)?;
    }
    for path in &found.surplus {
        writeln!(out, "not part of the log any more: {}", path.display())?;
    }
    Ok(())
}
