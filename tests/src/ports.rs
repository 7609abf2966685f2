//! Free ports. A node needs a data port and the port 10000 above it, and tests run side by side in several processes: each
//! port is guarded by a lock file that lives as long as the test process. Both ports lie below those that Linux gives to
//! outgoing connections (32768 and up): one of these must not hold a node's port while the node is being started again.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 20_000;
const LAST: u16 = 22_767;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A data port that nobody else uses, with its bus port 10000 above; held until the process ends.
///
/// # Panics
/// When no port is left.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many data ports in a row.
///
/// # Panics
/// When no such ports are left.
pub fn free_ports(count: u16) -> u16 {
    let start = FIRST + (std::process::id() * 7 % u32::from(LAST - FIRST - count)) as u16;
    for first in (start..=LAST - count).chain(FIRST..start) {
        let taken: Vec<File> = (first..first + count).map_while(take).collect();
        if taken.len() == usize::from(count) {
            HELD.lock().expect("no test panics while it takes a port").extend(taken);
            return first;
        }
    }
    panic!("no {count} free ports between {FIRST} and {LAST}");
}

/// The port's lock, unless somebody has it or one of the two ports.
fn take(port: u16) -> Option<File> {
    let directory = std::env::temp_dir().join("holdfast-test-ports");
    std::fs::create_dir_all(&directory).expect("the temporary directory can be written");
    let path = directory.join(port.to_string());
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).ok()?;
    TcpListener::bind(("127.0.0.1", port)).ok()?;
    TcpListener::bind(("127.0.0.1", port + 10_000)).ok()?;
    Some(file)
}
