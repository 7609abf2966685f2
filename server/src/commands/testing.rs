//! For tests: commands run on real slots over a real log, without a server, and the same commands run by a real
//! redis-server to compare the replies.

mod compare;
mod grammar;
mod handlers;
mod redis;
mod reply;

use std::sync::Arc;

use fastrand::Rng;
use holdfast_storage::log::{FsyncPolicy, Log, LogConfig, RecordView, VisitError};
use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::slots::{Scratch, SlotSet, Slots};
use holdfast_words::{Lsn, ShardId, SlotId};
use tempfile::TempDir;

pub use compare::{compare_random, compare_script};
pub use reply::Reply;

use crate::command::{CommandError, CommandId, keys, resolve};
use crate::commands::context::DataContext;
use crate::resp::{Protocol, ReplyWriter};

/// Slots, a log and a client.
pub struct Bench {
    slots: Slots,
    log: Arc<Log>,
    directory: TempDir,
    scratch: Scratch,
    dice: Rng,
    protocol: Protocol,
    /// The commands' wall-clock time.
    pub now_ms: u64,
}

impl Bench {
    /// Empty slots and an empty log.
    pub fn new(protocol: Protocol) -> Self {
        Self::open(protocol, tempfile::tempdir().expect("a directory for the log"))
    }

    fn open(protocol: Protocol, directory: TempDir) -> Self {
        let slots = Slots::default();
        let config = LogConfig { segment_size: 1 << 20, fsync: FsyncPolicy::No, ..LogConfig::default() };
        let mut replay = |record: &RecordView<'_>| -> Result<(), VisitError> {
            assert!(slots.apply_record(record).expect("the record fits the state"));
            Ok(())
        };
        let owner = ShardId([1; 20]);
        let (log, _) =
            Log::open(directory.path(), owner, &config, Lsn::ZERO, Lsn::ZERO, &mut replay).expect("a log");
        Self {
            slots,
            log,
            directory,
            scratch: Scratch::default(),
            dice: Rng::with_seed(1),
            protocol,
            now_ms: 1_700_000_000_000,
        }
    }

    /// What is left after a restart: what the log says.
    pub fn restarted(self) -> Self {
        let Self { protocol, log, directory, .. } = self;
        drop(log);
        Self::open(protocol, directory)
    }

    /// The dice roll differently from here on.
    pub fn seed(&mut self, seed: u64) {
        self.dice = Rng::with_seed(seed);
    }

    /// Where the log ends: it moves when a command has logged something.
    pub fn log_end(&self) -> Lsn {
        self.log.end().lsn
    }

    /// Runs a command given as words between spaces.
    pub fn run(&mut self, command: &str) -> Reply {
        let words: Vec<_> = command.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        self.call(&words)
    }

    /// Runs a command.
    pub fn call(&mut self, words: &[Vec<u8>]) -> Reply {
        let bytes = self.encoded(words);
        let (reply, length) = Reply::decode(&bytes).expect("a whole reply");
        assert_eq!(length, bytes.len(), "one command has one reply");
        reply
    }

    /// Runs a command; the reply as a client gets it.
    pub fn encoded(&mut self, words: &[Vec<u8>]) -> Vec<u8> {
        let mut output = Vec::new();
        if let Err(error) = self.execute(words, &mut output) {
            output.clear();
            ReplyWriter::new(&mut output, self.protocol).error(&error);
        }
        output
    }

    fn execute(&mut self, words: &[Vec<u8>], output: &mut Vec<u8>) -> Result<(), CommandError> {
        let arguments: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let (id, _) = resolve(&arguments)?;
        let mut ids: Vec<_> =
            keys::positions(id, &arguments).map(|place| SlotId::of_key(arguments[place])).collect();
        if matches!(id, CommandId::Flushall | CommandId::Flushdb) {
            ids = SlotId::all().collect();
        }
        ids.sort_unstable();
        ids.dedup();
        let mut data = self.slots.lock(&ids, self.now_ms, &self.log, &mut self.scratch);
        let expired = delete_expired(&mut data, keys::positions(id, &arguments).map(|place| arguments[place]));
        let reply = ReplyWriter::new(output, self.protocol);
        let mut context = DataContext { arguments: &arguments, data, reply, dice: &mut self.dice };
        let result = handlers::handler(id)(&mut context);
        assert!(
            result.is_ok() || expired || !context.data.has_changes(),
            "{} failed after a change",
            words[0].escape_ascii()
        );
        let lsn = context.data.commit().expect("the log takes it");
        self.log.write_up_to(lsn).expect("the log is written");
        result
    }
}

/// What the runner does before a command: deletes its expired keys; says whether there were any.
fn delete_expired<'a>(data: &mut SlotSet<'_>, keys: impl Iterator<Item = &'a [u8]>) -> bool {
    for key in keys {
        if data.keyspace(key).is_expired(key, data.now_ms()) {
            data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Expired });
        }
    }
    data.has_changes()
}
