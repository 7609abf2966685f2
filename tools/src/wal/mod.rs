//! `holdfast wal`: reads the log of a stopped or running node, read-only. A thin front over storage's reader.

/// Moments, printed and read.
pub(crate) mod time;
/// Records as text or JSON.
mod dump;
/// Segments.
mod ls;
/// Counts and bytes.
mod stat;
/// Every CRC, sequence and link.
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

/// What `holdfast wal` takes.
#[derive(Args)]
pub struct WalArguments {
    #[command(subcommand)]
    verb: WalVerb,
}

#[derive(Subcommand)]
enum WalVerb {
    /// List the segments: LSN ranges, records, sealed or not, the durable mark
    Ls {
        /// A node's directory, its wal/ or a set-aside log
        dir: PathBuf,
    },
    /// Print the records
    Dump {
        /// A node's directory, its wal/ or a set-aside log
        dir: PathBuf,
        /// What to print
        #[command(flatten)]
        filter: dump::Filter,
    },
    /// Check every CRC, LSN and slot sequence; exits with 1 at the first damage and names its place
    Verify {
        /// A node's directory, its wal/ or a set-aside log
        dir: PathBuf,
    },
    /// Count records and bytes by kind of change, slot and time
    Stat {
        /// A node's directory, its wal/ or a set-aside log
        dir: PathBuf,
    },
}

/// Runs the verb, printing to `out`.
///
/// # Errors
/// When there is no log, or it is damaged: the message names file, offset and slot.
pub fn wal(arguments: &WalArguments, out: &mut dyn Write) -> Result<()> {
    match &arguments.verb {
        WalVerb::Ls { dir } => ls::ls(&log_directory(dir)?, out),
        WalVerb::Dump { dir, filter } => dump::dump(&log_directory(dir)?, filter, out),
        WalVerb::Verify { dir } => verify::verify(&log_directory(dir)?, out),
        WalVerb::Stat { dir } => stat::stat(&log_directory(dir)?, out),
    }
}

/// The folder with the segments: the directory itself, or its `wal/`.
fn log_directory(dir: &Path) -> Result<PathBuf> {
    let has_segments = |path: &Path| {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))
    };
    for candidate in [dir.to_owned(), dir.join("wal")] {
        if has_segments(&candidate) {
            return Ok(candidate);
        }
    }
    bail!("{} holds no log: neither it nor its wal/ has a file that ends in .wal", dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_storage::log::{
        FsyncPolicy, Log, LogConfig, RecordHeader, RecordKind, RecordView, encode_record,
    };
    use holdfast_storage::mutation::{BodyBuilder, Expiry, Mutation};
    use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};

    fn sample() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let config = LogConfig { segment_size: 8 << 10, fsync: FsyncPolicy::No, ..LogConfig::default() };
        let mut nobody = |_: &RecordView<'_>| Ok(());
        let opened =
            Log::open(directory.path(), ShardId::default(), &config, Lsn::ZERO, Lsn::ZERO, &mut nobody);
        let (log, _) = opened.unwrap();
        for number in 0..200u64 {
            let mut body = BodyBuilder::default();
            let value = format!("value \x01 {number}").into_bytes();
            body.push(&Mutation::SetString {
                key: b"foo"[..].into(),
                value: value.into(),
                expiry: Expiry::Clear,
            });
            let header = RecordHeader {
                kind: RecordKind::Mutations,
                flags: 0,
                slot: SlotId::of_key(b"foo"),
                epoch: Epoch::ZERO,
                sequence: SlotSequence(number + 1),
                wall_clock_ms: 1_700_000_000_000 + number * 1000,
            };
            let mut record = Vec::new();
            encode_record(&mut record, &header, body.finish());
            let end = log.append(&mut record).unwrap();
            log.write_up_to(end).unwrap();
        }
        log.sync().unwrap();
        directory
    }

    fn run(verb: WalVerb) -> (Result<()>, String) {
        let mut out = Vec::new();
        let result = wal(&WalArguments { verb }, &mut out);
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_sound_log_is_listed_dumped_counted_and_verified() {
        let sample = sample();
        let dir = sample.path().to_owned();
        let (result, text) = run(WalVerb::Ls { dir: dir.clone() });
        assert!(result.is_ok() && text.contains("sealed"), "{text}");
        let filter = dump::Filter { slot: Some(12182), to: Some(300), ..dump::Filter::default() };
        let (result, text) = run(WalVerb::Dump { dir: dir.clone(), filter });
        assert!(result.is_ok() && text.contains(r#"SetString "foo" "value \x01 2""#), "{text}");
        assert!(text.lines().count() < 10);
        let filter = dump::Filter { key: Some("foo".into()), json: true, ..dump::Filter::default() };
        let (result, text) = run(WalVerb::Dump { dir: dir.clone(), filter });
        result.unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert_eq!(text.lines().count(), 200);
        let (result, text) = run(WalVerb::Stat { dir: dir.clone() });
        assert!(result.is_ok() && text.contains("SetString") && text.contains("12182"), "{text}");
        let (result, text) = run(WalVerb::Verify { dir });
        assert!(result.is_ok() && text.contains("200 records"), "{text}");
    }

    /// What a whole command line gives.
    fn run_line(words: &[&str]) -> (Result<()>, String) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            wal: WalArguments,
        }
        let line =
            <Line as clap::Parser>::try_parse_from([&["wal"], words].concat()).map_err(anyhow::Error::from);
        line.map_or_else(|error| (Err(error), String::new()), |line| run(line.wal.verb))
    }

    #[test]
    fn records_are_chosen_by_their_time() {
        // One record a second from 2023-11-14T22:13:20Z on, 200 of them.
        let sample = sample();
        let dir = sample.path().to_str().unwrap();
        let count = |options: &[&str]| {
            let (result, text) = run_line(&[&["dump", dir], options].concat());
            result.unwrap_or_else(|error| panic!("{options:?}: {error:#}"));
            text.lines().count()
        };
        assert_eq!(count(&[]), 200);
        assert_eq!(count(&["--since", "2023-11-14T22:15:00"]), 100);
        assert_eq!(count(&["--until", "2023-11-14T22:15:00"]), 100, "the moment itself is not part of it");
        assert_eq!(count(&["--since", "1700000010000", "--until", "1700000013000"]), 3);
        assert_eq!(count(&["--since", "2023-11-14", "--until", "2023-11-15"]), 200);
        assert_eq!(count(&["--since", "2023-11-15"]), 0);
        assert_eq!(count(&["--until", "-10m"]), 200);
        assert_eq!(count(&["--since", "-10m"]), 0);
        let (result, _) = run_line(&["dump", dir, "--since", "yesterday"]);
        assert!(result.unwrap_err().to_string().contains("is no moment"));
    }

    #[test]
    fn a_flipped_byte_fails_verify_with_its_place() {
        let sample = sample();
        let mut names: Vec<_> =
            std::fs::read_dir(sample.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let mut bytes = std::fs::read(&names[0]).unwrap();
        bytes[5000] ^= 1;
        std::fs::write(&names[0], bytes).unwrap();
        let (result, _) = run(WalVerb::Verify { dir: sample.path().to_owned() });
        let said = format!("{:#}", result.unwrap_err());
        assert!(said.contains("offset") && said.contains("12182") && said.contains(".wal"), "{said}");
    }

    #[test]
    fn a_directory_without_a_log_is_said_to_be_one() {
        let empty = tempfile::tempdir().unwrap();
        let (result, _) = run(WalVerb::Ls { dir: empty.path().to_owned() });
        assert!(result.unwrap_err().to_string().contains("holds no log"));
    }
}
