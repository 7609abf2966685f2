//! SLOWLOG: the commands that took longest, with their arguments cut short as Redis cuts them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clients::ClientInfo;
use crate::platform;
use crate::resp::Arguments;

/// Arguments kept of a command (Redis: SLOWLOG_ENTRY_MAX_ARGC).
const ARGUMENTS_MAX: usize = 32;
/// Bytes kept of an argument (Redis: SLOWLOG_ENTRY_MAX_STRING).
const ARGUMENT_BYTES_MAX: usize = 128;

/// One slow command.
#[derive(Clone, Debug)]
pub struct SlowCommand {
    /// Ascending, never reused.
    pub id: u64,
    /// When it ran, wall clock, seconds.
    pub at_seconds: u64,
    /// How long it took.
    pub microseconds: u64,
    /// Its arguments, cut short.
    pub arguments: Vec<Vec<u8>>,
    /// The client's address.
    pub client_address: String,
    /// The client's name.
    pub client_name: Vec<u8>,
}

/// The slow log of a node.
pub struct Slowlog {
    /// `slowlog-log-slower-than`, microseconds; negative: off.
    threshold_us: AtomicI64,
    /// `slowlog-max-len`.
    length_max: AtomicU64,
    next_id: AtomicU64,
    entries: Mutex<VecDeque<SlowCommand>>,
}

impl Slowlog {
    /// An empty slow log.
    pub fn new(threshold_us: i64, length_max: u64) -> Self {
        Self {
            threshold_us: AtomicI64::new(threshold_us),
            length_max: AtomicU64::new(length_max),
            next_id: AtomicU64::new(0),
            entries: Mutex::default(),
        }
    }

    /// CONFIG SET.
    pub fn configure(&self, threshold_us: i64, length_max: u64) {
        self.threshold_us.store(threshold_us, Ordering::Relaxed);
        self.length_max.store(length_max, Ordering::Relaxed);
    }

    /// Enters a command that took this long, if it is slow enough.
    pub fn consider(&self, microseconds: u64, arguments: Arguments<'_>, client: &ClientInfo) {
        let threshold_us = self.threshold_us.load(Ordering::Relaxed);
        if threshold_us >= 0 && microseconds >= threshold_us as u64 {
            self.enter(microseconds, arguments, client);
        }
    }

    fn enter(&self, microseconds: u64, arguments: Arguments<'_>, client: &ClientInfo) {
        let entry = SlowCommand {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            at_seconds: platform::wall_clock_ms() / 1000,
            microseconds,
            arguments: shorten(arguments),
            client_address: client.address.to_string(),
            client_name: client.name.lock().clone(),
        };
        let mut entries = self.entries.lock();
        entries.push_front(entry);
        entries.truncate(self.length_max.load(Ordering::Relaxed) as usize);
    }

    /// SLOWLOG GET: the newest first.
    pub fn newest(&self, count: usize) -> Vec<SlowCommand> {
        self.entries.lock().iter().take(count).cloned().collect()
    }

    /// SLOWLOG LEN.
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Whether nothing was slow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SLOWLOG RESET.
    pub fn reset(&self) {
        self.entries.lock().clear();
    }
}

fn shorten(arguments: Arguments<'_>) -> Vec<Vec<u8>> {
    let kept = if arguments.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { arguments.len() };
    let mut short: Vec<Vec<u8>> = arguments[..kept]
        .iter()
        .map(|word| match word.len() {
            0..=ARGUMENT_BYTES_MAX => word.to_vec(),
            length => {
                let mut cut = word[..ARGUMENT_BYTES_MAX].to_vec();
                cut.extend_from_slice(format!("... ({} more bytes)", length - ARGUMENT_BYTES_MAX).as_bytes());
                cut
            }
        })
        .collect();
    if kept < arguments.len() {
        short.push(format!("... ({} more arguments)", arguments.len() - kept).into_bytes());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_are_cut_as_redis_cuts_them() {
        let long = [b'x'; 200];
        let words: Vec<&[u8]> = (0..40).map(|_| &long[..]).collect();
        let short = shorten(&words);
        assert_eq!(short.len(), 32);
        assert!(short[0].ends_with(b"... (72 more bytes)"));
        assert_eq!(short[31], b"... (9 more arguments)");
    }
}
