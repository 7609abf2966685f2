//! What is connected now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_words::NodeId;
use parking_lot::Mutex;

use crate::handle::Link;
use crate::platform;

struct Row {
    outgoing: bool,
    node: NodeId,
    created_at_ms: u64,
    waiting_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Rows {
    next: u64,
    rows: BTreeMap<u64, Row>,
}

/// The connections that are up.
#[derive(Clone, Default)]
pub struct Table(Arc<Mutex<Rows>>);

/// A connection's place in the table; gone when dropped.
pub struct Entry {
    table: Table,
    number: u64,
}

impl Table {
    /// A connection came up. `waiting_bytes` is read whenever somebody looks.
    pub fn enter(&self, outgoing: bool, node: NodeId, waiting_bytes: Arc<AtomicUsize>) -> Entry {
        let mut rows = self.0.lock();
        let number = rows.next;
        rows.next += 1;
        let created_at_ms = platform::wall_clock_ms();
        rows.rows.insert(number, Row { outgoing, node, created_at_ms, waiting_bytes });
        Entry { table: self.clone(), number }
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<Link> {
        let show = |row: &Row| Link {
            outgoing: row.outgoing,
            node: row.node,
            created_at_ms: row.created_at_ms,
            send_buffer_bytes: row.waiting_bytes.load(Ordering::Relaxed),
        };
        self.0.lock().rows.values().map(show).collect()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.table.0.lock().rows.remove(&self.number);
    }
}
