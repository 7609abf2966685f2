//! `holdfast wal ls`

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use holdfast_storage::log::reader;
use holdfast_storage::log::{RecordView, VisitError};
use holdfast_words::Lsn;

use crate::print::{Colour, Painter, human_bytes, table};

pub(super) fn ls(directory: &Path, out: &mut dyn Write) -> Result<()> {
    let mut lsns: Vec<Lsn> = Vec::new();
    let mut count = |record: &RecordView<'_>| -> Result<(), VisitError> {
        lsns.push(record.lsn);
        Ok(())
    };
    let found = reader::read(directory, Lsn::ZERO, &mut count)?;
    let plain = |text: String| (text, Colour::Plain);
    let rows: Vec<_> = found
        .segments
        .iter()
        .map(|segment| {
            let (first, end) = (segment.header.first_lsn, segment.end_lsn);
            let records = lsns.partition_point(|&lsn| lsn < end) - lsns.partition_point(|&lsn| lsn < first);
            let epoch =
                found.history.iter().rev().find(|(_, start)| *start < end).map_or(0, |(epoch, _)| epoch.0);
            vec![
                plain(segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned()),
                plain(first.to_string()),
                plain(end.to_string()),
                plain(human_bytes(end.since(first))),
                plain(records.to_string()),
                plain(epoch.to_string()),
                plain(if segment.seal.is_some() { "sealed" } else { "open" }.to_owned()),
                plain(segment.mark.durable_lsn.to_string()),
            ]
        })
        .collect();
    let head = ["segment", "first lsn", "end lsn", "size", "records", "epoch", "state", "durable mark"];
    write!(out, "{}", table(Painter::for_stdout(), &head, &rows))?;
    for (epoch, start) in &found.history {
        writeln!(out, "epoch {epoch} begins at LSN {start}")?;
    }
    if let Some(torn) = &found.torn {
        writeln!(
            out,
            "the log ends at LSN {}: after it {torn} (above the durable mark: no damage)",
            found.end_lsn
        )?;
    }
    let aside = directory.join("set-aside");
    for entry in std::fs::read_dir(aside).into_iter().flatten().flatten() {
        writeln!(out, "set aside: {}", entry.path().display())?;
    }
    Ok(())
}
