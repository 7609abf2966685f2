//! A node and systemd: what it tells through NOTIFY_SOCKET, and how well the unit confines it. With real machines under systemd:
//! the suite three_machines.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");
const WATCHDOG: Duration = Duration::from_secs(1);
/// For what comes sooner or later on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// A worker hangs for so long: several times what the test needs to see it.
const HANG: &str = "12";

/// What a supervised node has told.
struct Supervisor {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Supervisor {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket can be bound");
        Self { socket, directory }
    }

    fn start(&self, options: &[&str]) -> Node {
        let mut node = Node::new(BINARY, &self.directory.path().join("data"), options);
        node.set_environment("NOTIFY_SOCKET", &self.directory.path().join("notify").to_string_lossy());
        node.set_environment("WATCHDOG_USEC", &WATCHDOG.as_micros().to_string());
        node.start();
        node
    }

    /// Whether it tells this within this time.
    fn hears(&self, what: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout can be set");
            if let Ok(length) = self.socket.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == what)
            {
                return true;
            }
        }
    }

    /// Forgets what was told so far.
    fn forget(&self) {
        while self.hears("nothing that is ever told", Duration::from_millis(1)) {}
    }
}

#[test]
fn a_node_says_that_it_is_alive_until_a_worker_of_it_hangs_and_again_afterwards() {
    let supervisor = Supervisor::new();
    let node = supervisor.start(&["--io-threads", "2", "--enable-debug-command", "yes"]);
    assert!(supervisor.hears("READY=1", PATIENCE), "{}", node.log());
    assert!(supervisor.hears("WATCHDOG=1", PATIENCE), "{}", node.log());
    let mut client = node.client();
    client.send(&["DEBUG", "SLEEP", HANG]).expect("sent");
    // For half the watchdog's time it is not known yet.
    std::thread::sleep(WATCHDOG);
    supervisor.forget();
    assert!(!supervisor.hears("WATCHDOG=1", WATCHDOG * 2), "one of two workers hangs\n{}", node.log());
    assert!(node.log().contains("who=\"worker-"), "the log says who hangs\n{}", node.log());
    assert!(client.read().expect("it wakes up").is_ok());
    assert!(supervisor.hears("WATCHDOG=1", PATIENCE), "it moves again\n{}", node.log());
}

#[test]
fn a_lone_node_of_a_cluster_is_ready_and_says_when_it_stops() {
    let supervisor = Supervisor::new();
    let mut node = supervisor.start(&["--cluster-enabled", "yes"]);
    assert!(supervisor.hears("READY=1", PATIENCE), "{}", node.log());
    assert!(supervisor.hears("WATCHDOG=1", PATIENCE), "the bus answers\n{}", node.log());
    assert!(node.terminate().success());
    assert!(supervisor.hears("STOPPING=1", PATIENCE), "{}", node.log());
}

#[test]
fn the_unit_is_rated_ok() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/systemd/holdfast@.service");
    // An instance of the template is a file of its name.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let instance = directory.path().join("holdfast@7000.service");
    std::fs::copy(unit, &instance).expect("the unit can be copied");
    let output = Command::new("systemd-analyze")
        .args(["security", "--no-pager", "--offline=true", "--threshold=30"])
        .arg(&instance)
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if error.contains("Unknown") || error.contains("unrecognized option") {
        println!("SKIPPED: this systemd-analyze is too old to look at a file: {error}");
        return;
    }
    println!("{}", text.lines().last().unwrap_or_default());
    assert!(output.status.success(), "the exposure is above 3.0\n{text}\n{error}");
}
