//! A power cut as a node's log sees it: what was not on the disk yet is gone. Done to the files of a node that was killed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use holdfast_storage::log::{RecordView, SEGMENT_HEADER_SIZE, VisitError, reader};
use holdfast_words::Lsn;

/// Makes zeros of the log's end, from somewhere between what the log says to be durable and its last byte; how many bytes are
/// lost.
pub fn lose_tail(node_directory: &Path, dice: &mut fastrand::Rng) -> u64 {
    let skip = &mut |_: &RecordView<'_>| Ok::<(), VisitError>(());
    let found =
        reader::read(&node_directory.join("wal"), Lsn::ZERO, skip).expect("a killed node's log is sound");
    let Some(last) = found.segments.last() else { return 0 };
    let (first, end) = (last.header.first_lsn.0, found.end_lsn.0);
    let kept = found.mark.durable_lsn.0.max(first);
    let from = if kept < end { dice.u64(kept..=end) } else { end };
    write_zeros(&last.path, SEGMENT_HEADER_SIZE + from - first, end - from);
    let_another_boot_begin(node_directory);
    end - from
}

/// Makes zeros of these positions of the log, whatever the log says of them.
pub fn lose(node_directory: &Path, from: Lsn, to: Lsn) {
    let skip = &mut |_: &RecordView<'_>| Ok::<(), VisitError>(());
    let found =
        reader::read(&node_directory.join("wal"), Lsn::ZERO, skip).expect("a killed node's log is sound");
    let segment = found.segments.iter().rfind(|segment| segment.header.first_lsn <= from);
    let segment = segment.expect("a segment holds it");
    write_zeros(&segment.path, SEGMENT_HEADER_SIZE + from.since(segment.header.first_lsn), to.since(from));
    let_another_boot_begin(node_directory);
}

/// As if the machine had been started again: the boot id in the directory's header (storage/src/data_dir.rs) is another one.
fn let_another_boot_begin(node_directory: &Path) {
    const BOOT_ID: usize = 64;
    const CRC: std::ops::Range<usize> = 100..104;
    let path = node_directory.join("node");
    let mut header = std::fs::read(&path).expect("the header");
    header[BOOT_ID] ^= 0xff;
    let crc = crc32fast::hash(&header[..CRC.start]);
    header[CRC].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&path, header).expect("it can be written");
}

fn write_zeros(path: &Path, offset: u64, count: u64) {
    let file = File::options().write(true).open(path).expect("the segment can be written");
    file.write_all_at(&vec![0; count as usize], offset).expect("the segment can be written");
}
