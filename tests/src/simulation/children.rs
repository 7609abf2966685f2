//! Runs as processes of their own: tokio, HashMaps and allocators take their chances from the process, so that only a fresh one
//! without address randomisation does the same for the same seed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::run::Simulation;

/// The seed that a child runs.
const SEED: &str = "HOLDFAST_SIMULATED_SEED";
/// What the child runs.
const SCENARIO: &str = "HOLDFAST_SIMULATED_SCENARIO";
/// Where the child writes its trace.
const TRACE: &str = "HOLDFAST_SIMULATED_TRACE";
/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(240);

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What did not hold; nothing: all is well.
    pub failure: Option<String>,
    /// What a run that went well says of itself.
    pub report: String,
    /// What it was like.
    pub coverage: Coverage,
    /// Its trace.
    pub trace: PathBuf,
}

/// How many runs go on at the same time: `HOLDFAST_TEST_PROCESSES`, one per core of the smallest machine that matters otherwise.
/// Each is a process of its own, and none knows of another.
pub fn processes() -> usize {
    std::env::var("HOLDFAST_TEST_PROCESSES").ok().and_then(|text| text.parse().ok()).unwrap_or(2).max(1)
}

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// One of the runs that go on; tests of one binary share them.
struct Turn;

impl Turn {
    fn take() -> Self {
        let running = RUNNING.lock().expect("nobody panics while counting");
        let is_full = |running: &mut usize| *running >= processes();
        *ENDED.wait_while(running, is_full).expect("nobody panics while counting") += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().expect("nobody panics while counting") -= 1;
        ENDED.notify_one();
    }
}

/// Works on every item, some at a time; the results in the order of the items.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..processes().min(items.len()) {
            scope.spawn(|| {
                while let index = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(item) = items.get(index)
                {
                    let result = work(item);
                    results.lock().expect("nobody panics while storing").push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics while storing");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs one seed of a scenario in a process of its own: this test binary, whose test `child` calls [`be_child`].
///
/// # Panics
/// When no process can be started.
pub fn run(directory: &Path, scenario: &str, seed: u64) -> Ended {
    let _turn = Turn::take();
    std::fs::create_dir_all(directory).expect("a directory for traces can be made");
    let trace = directory.join(format!("{scenario}-{seed}.trace"));
    let program = std::env::current_exe().expect("a program knows itself");
    let output = directory.join(format!("{scenario}-{seed}.out"));
    let file = std::fs::File::create(&output).expect("a file for the output can be made");
    let mut child = Command::new("setarch")
        .arg("-R")
        .arg(program)
        .args(["child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RUST_BACKTRACE", "1")
        .env(SEED, seed.to_string())
        .env(SCENARIO, scenario)
        .env(TRACE, &trace)
        .stdout(file.try_clone().expect("a file has two names"))
        .stderr(file)
        .stdin(Stdio::null())
        .spawn()
        .expect("setarch (util-linux) is installed");
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break Some(status);
        }
        if started.elapsed() > PATIENCE {
            child.kill().and_then(|()| child.wait()).expect("a child can be killed");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = std::fs::read_to_string(&output).unwrap_or_default();
    let said = |mark: &str| text.lines().find_map(|line| line.strip_prefix(mark)).map(str::to_owned);
    let failure = match status {
        Some(status) if status.success() => None,
        Some(status) => Some(text.split_once("FAILURE ").map_or_else(
            || format!("the run ended with {status}:\n{text}"),
            |(_, failure)| failure.split("\nEND OF FAILURE").next().unwrap_or_default().to_owned(),
        )),
        None => Some(format!("the run was still going on after {PATIENCE:?}")),
    };
    let coverage = Coverage::parse(&said("COVERAGE ").unwrap_or_default());
    Ended { failure, report: said("REPORT ").unwrap_or_default(), coverage, trace }
}

/// The child's side: runs what its parent wants.
///
/// # Panics
/// When something does not hold.
pub fn be_child(scenario: impl FnOnce(&str, &mut Simulation) -> Result<String, String>) {
    let (Ok(seed), Ok(name)) = (std::env::var(SEED), std::env::var(SCENARIO)) else {
        println!("run by the other tests, in a process of its own");
        return;
    };
    let seed = seed.parse().expect("a seed is a number");
    let mut simulation = Simulation::for_seed(seed);
    let run = std::panic::AssertUnwindSafe(|| scenario(&name, &mut simulation));
    let result = std::panic::catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("a panic: {}", text.unwrap_or_default()))
    });
    let trace = simulation.trace.text();
    simulation.coverage.count_effects(&trace);
    if let Ok(path) = std::env::var(TRACE) {
        std::fs::write(path, trace).expect("the trace can be written");
    }
    println!("\nCOVERAGE {}", simulation.coverage);
    match result {
        Ok(report) => println!("\nREPORT {report}, fingerprint {:08x}", simulation.fingerprint()),
        Err(failure) => {
            println!("\nFAILURE {failure}\nEND OF FAILURE");
            // Not by a panic: what a broken world still drops is of no interest.
            std::process::exit(1);
        }
    }
}
