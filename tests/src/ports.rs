//! Free ports. A node needs a data port and the port 10000 above it, and tests run side by side in several processes: each
//! port is guarded by a lock file that lives as long as the test process.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::sync::Mutex;

const FIRST: u16 = 21_000;
const LAST: u16 = 29_999;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A data port that nobody else uses, with its bus port 10000 above; held until the process ends.
///
/// # Panics
/// When no port is left.
pub fn free_port() -> u16 {
    let directory = std::env::temp_dir().join("holdfast-test-ports");
    std::fs::create_dir_all(&directory).expect("the temporary directory can be written");
    let start = FIRST + (std::process::id() * 7 % u32::from(LAST - FIRST)) as u16;
    for port in (start..=LAST).chain(FIRST..start) {
        let path = directory.join(port.to_string());
        let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(path) else {
            continue;
        };
        let locked = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        let both_free = || {
            TcpListener::bind(("127.0.0.1", port))
                .and(TcpListener::bind(("127.0.0.1", port + 10_000)))
                .is_ok()
        };
        if locked && both_free() {
            HELD.lock().expect("no test panics while it takes a port").push(file);
            return port;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
