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
    /// What a reply to the last command waits for.
    pub gate_lsn: Lsn,
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
            gate_lsn: Lsn::ZERO,
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

    /// Runs a command given as words between spaces; '' is an empty word.
    pub fn run(&mut self, command: &str) -> Reply {
        self.call(&words(command))
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
        let data = self.slots.lock(&ids, self.now_ms, &self.log, &mut self.scratch);
        let reply = ReplyWriter::new(output, self.protocol);
        let mut context = DataContext { arguments: &arguments, data, reply, dice: &mut self.dice };
        let result = run_one(id, &mut context);
        self.gate_lsn = context.data.commit().expect("the log takes it");
        self.log.write_up_to(self.gate_lsn).expect("the log is written");
        result
    }

    /// Runs commands as EXEC does, under the locks of all slots, and returns their replies.
    pub fn transaction(&mut self, commands: &[&str]) -> Vec<Reply> {
        let commands: Vec<_> = commands.iter().map(|command| words(command)).collect();
        let commands: Vec<Vec<&[u8]>> =
            commands.iter().map(|words| words.iter().map(Vec::as_slice).collect()).collect();
        let mut output = Vec::new();
        let ids: Vec<_> = SlotId::all().collect();
        self.gate_lsn = {
            let data = self.slots.lock(&ids, self.now_ms, &self.log, &mut self.scratch);
            let reply = ReplyWriter::new(&mut output, self.protocol);
            let mut context = DataContext { arguments: &[], data, reply, dice: &mut self.dice };
            for arguments in &commands {
                context.arguments = arguments;
                let (id, _) = resolve(arguments).expect("a command");
                run_one(id, &mut context).expect("a command that succeeds");
            }
            context.data.commit().expect("the log takes it")
        };
        let mut unread = output.as_slice();
        let mut replies = Vec::new();
        while let Some((reply, length)) = Reply::decode(unread) {
            replies.push(reply);
            unread = &unread[length..];
        }
        replies
    }
}

/// The words of a command; '' is an empty one.
fn words(command: &str) -> Vec<Vec<u8>> {
    command.split_whitespace().map(|word| word.replace("''", "").into_bytes()).collect()
}

/// Runs a command under the locks that are held.
fn run_one(id: CommandId, context: &mut DataContext<'_>) -> Result<(), CommandError> {
    let arguments = context.arguments;
    let declared = keys::positions(id, arguments).map(|place| arguments[place]);
    let had_changes = context.data.has_changes();
    let expired = delete_expired(&mut context.data, declared);
    let result = handlers::handler(id)(context);
    assert!(
        result.is_ok() || had_changes || expired || !context.data.has_changes(),
        "{} failed after a change",
        arguments[0].escape_ascii()
    );
    result
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
