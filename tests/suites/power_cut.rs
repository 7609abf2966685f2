//! The power is cut while a process writes, again and again: nothing that it knew to be durable is missing afterwards. And
//! when one of the syncs is taken out, this very test sees the loss.
//!
//! kill -9 is no test for this: the page cache outlives a process. Here the file system is in a file, and a copy of that
//! file, taken while the writer runs, is the disk as a power cut leaves it (see `loop_device.rs`). Needs root.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_tests::durable_world::{Ack, Acked, World};
use holdfast_tests::loop_device::MountedImage;
use parking_lot::Mutex;

const WRITER: &str = env!("CARGO_BIN_EXE_power-cut-writer");
/// How often the power is cut; POWER_CUTS sets another number, for a long run.
const CUTS: usize = 30;
const DISK_SIZE: u64 = 256 << 20;

struct Writer {
    process: Child,
    acked: Arc<Mutex<Acked>>,
    reader: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(root: &Path, mode: &str, skip_sync: Option<&str>, acked: Acked) -> Self {
        let mut command = Command::new(WRITER);
        command.arg(root).arg(mode).stdout(Stdio::piped());
        if let Some(skip) = skip_sync {
            command.env("POWER_CUT_SKIP_SYNC", skip);
        }
        let mut process = command.spawn().expect("start the writer");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let acked = Arc::new(Mutex::new(acked));
        let sum = acked.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The last line may be cut by the kill.
                if let Some(ack) = Ack::parse(&line) {
                    sum.lock().add(ack);
                }
            }
        });
        Self { process, acked, reader: Some(reader) }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("signal the writer");
    }

    /// Waits until the writer has acknowledged `more` than `before`.
    fn wait_for(&mut self, before: u64, more: u64) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.acked.lock().count < before + more {
            if let Some(status) = self.process.try_wait().expect("look at the writer") {
                panic!("the writer ended by itself: {status}");
            }
            assert!(Instant::now() < deadline, "the writer does not get on");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Lets a writer run on a disk, cuts the power up to `cuts` times, each time going on with what the cut has left, and
/// returns what was lost at the first cut that lost anything. `None`: this machine cannot do it.
fn cut_power(cuts: usize, mode: &str, skip_sync: Option<&str>) -> Option<Vec<String>> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = |number: usize| directory.path().join(format!("disk-{number}"));
    let mut mounted = match MountedImage::create(&disk(0), DISK_SIZE) {
        Ok(mounted) => mounted,
        Err(error) => {
            println!(
                "SKIPPED: cannot mount a file system of my own here (needs root and loop devices): {error:#}"
            );
            return None;
        }
    };
    let mut dice = fastrand::Rng::with_seed(11);
    let mut acked = Acked::default();
    for cut in 1..=cuts {
        let before = acked.count;
        let mut writer = Writer::start(&mounted.path().join("node"), mode, skip_sync, acked);
        writer.wait_for(before, dice.u64(1..800));
        std::thread::sleep(Duration::from_millis(dice.u64(0..150)));
        acked = writer.acked.lock().clone();
        // Stopped, not ended: nothing gets a chance to sync, and the copy is of one moment.
        writer.signal(rustix::process::Signal::STOP);
        mounted.cut_power_to(&disk(cut)).expect("copy the disk");
        drop(writer);
        drop(mounted);
        std::fs::remove_file(disk(cut - 1)).expect("remove the old disk");

        mounted = MountedImage::mount(&disk(cut)).expect("mount the disk after the cut");
        let losses = match World::recover(&mounted.path().join("node")) {
            Ok(world) => {
                let mut losses = world.losses(&acked);
                losses.extend(world.broken_states().map(|name| format!("{name} was set aside")));
                losses
            }
            Err(error) => vec![format!("cannot be recovered: {error:#}")],
        };
        if !losses.is_empty() {
            println!("cut {cut}, after {} acknowledgements: {losses:#?}", acked.count);
            return Some(losses);
        }
    }
    println!("{cuts} cuts, {} acknowledgements, nothing lost", acked.count);
    Some(Vec::new())
}

#[test]
fn nothing_acknowledged_as_durable_is_missing_after_a_power_cut() {
    let cuts = std::env::var("POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS);
    if let Some(losses) = cut_power(cuts, "all", None) {
        assert!(losses.is_empty(), "{losses:#?}");
    }
}

#[test]
fn no_incarnation_is_used_twice_after_a_power_cut() {
    if let Some(losses) = cut_power(5, "starts", None) {
        assert!(losses.is_empty(), "{losses:#?}");
    }
}

/// Without these the tests above would prove nothing.
fn assert_loss_without_syncs_of(files: &str, mode: &str) {
    if let Some(losses) = cut_power(10, mode, Some(files)) {
        assert!(!losses.is_empty(), "{files} is never synced, and no loss was seen");
    }
}

#[test]
fn the_loss_is_seen_when_the_log_is_not_synced() {
    assert_loss_without_syncs_of("fdatasync:/wal/", "all");
}

#[test]
fn the_loss_is_seen_when_the_metadata_log_is_not_synced() {
    assert_loss_without_syncs_of("fdatasync:/metadata/", "all");
}

#[test]
fn the_loss_is_seen_when_image_files_are_not_synced() {
    assert_loss_without_syncs_of("sync:/images/", "all");
}

#[test]
fn the_loss_is_seen_when_the_node_state_is_not_synced() {
    assert_loss_without_syncs_of("sync:/state/", "all");
}

#[test]
fn the_loss_is_seen_when_the_header_of_the_directory_is_not_synced() {
    assert_loss_without_syncs_of("sync:/node", "starts");
}
