//! How a value is kept: OBJECT ENCODING, REFCOUNT, IDLETIME, FREQ; MEMORY USAGE.

use holdfast_storage::types::{StringRef, ValueRef};

use super::peek;
use crate::command::arguments::Options;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext};
use crate::commands::help;

/// What Redis answers for its shared small integers.
const SHARED_REFERENCES: i64 = i32::MAX as i64;

/// OBJECT ENCODING|REFCOUNT|IDLETIME|FREQ key, OBJECT HELP
pub fn object(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    let subcommand = arguments[1].to_ascii_lowercase();
    let key = match (subcommand.as_slice(), &arguments[2..]) {
        (b"help", []) => {
            help::reply(reply, "OBJECT", OBJECT_HELP);
            return Ok(());
        }
        (b"encoding" | b"refcount" | b"idletime" | b"freq", &[key]) => key,
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    };
    let Some(value) = peek(data, key) else {
        reply.null();
        return Ok(());
    };
    match subcommand.as_slice() {
        b"encoding" => {
            let encoding = data.keyspace(key).encoding(key, data.now_ms());
            reply.bulk_or_null(encoding.map(str::as_bytes));
        }
        b"refcount" => reply.integer(match value {
            ValueRef::String(StringRef::Int(0..10_000)) => SHARED_REFERENCES,
            _ => 1,
        }),
        b"idletime" => reply.count(data.keyspace(key).idle_seconds(key, data.now_ms()).unwrap_or(0) as usize),
        _ => {
            let text = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
                        switching between policies at runtime LRU and LFU data will take some time to adjust.";
            return Err(CommandError::Text(text.into()));
        }
    }
    Ok(())
}

const OBJECT_HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return the kind of internal representation used in order to store the value",
    "    associated with a <key>.",
    "FREQ <key>",
    "    Return the access frequency index of the <key>. The returned integer is",
    "    proportional to the logarithm of the recent access frequency of the key.",
    "IDLETIME <key>",
    "    Return the idle time of the <key>, that is the approximated number of",
    "    seconds elapsed since the last access to the key.",
    "REFCOUNT <key>",
    "    Return the number of references of the value associated with the specified",
    "    <key>.",
];

/// MEMORY USAGE key [SAMPLES count], MEMORY DOCTOR, MEMORY HELP
pub fn memory(context: &mut DataContext<'_>) -> CommandResult {
    let DataContext { arguments, data, reply, .. } = context;
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"usage", [key, ..]) => {
            let mut options = Options::after(arguments, 3);
            while options.next_word().is_some() {
                if !options.is("SAMPLES") || options.integer()? < 0 {
                    return Err(CommandError::Syntax);
                }
            }
            match data.keyspace(key).memory_usage(key, data.now_ms()) {
                Some(bytes) => reply.count(bytes),
                None => reply.null(),
            }
            Ok(())
        }
        (b"help", []) => {
            help::reply(reply, "MEMORY", MEMORY_HELP);
            Ok(())
        }
        (b"doctor", []) => {
            reply.verbatim(b"txt", MEMORY_DOCTOR);
            Ok(())
        }
        _ => Err(CommandError::unknown_subcommand(arguments)),
    }
}

const MEMORY_DOCTOR: &[u8] =
    b"Memory is allocated by mimalloc, which is not examined here. INFO memory has the totals, \
    MEMORY USAGE a key's share.\n";

const MEMORY_HELP: &[&str] = &[
    "DOCTOR",
    "    Return memory problems reports.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return memory in bytes used by <key> and its value. Nested values are",
    "    sampled up to <count> times (default: 5, 0 means sample all).",
];
