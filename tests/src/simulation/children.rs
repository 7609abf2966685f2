//! Runs as processes of their own: tokio, HashMaps and allocators take their chances from the process, so that only a fresh one
//! without address randomisation does the same for the same seed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    /// Its trace.
    pub trace: PathBuf,
}

/// Runs one seed of a scenario in a process of its own: this test binary, whose test `child` calls [`be_child`].
///
/// # Panics
/// When no process can be started.
pub fn run(directory: &Path, scenario: &str, seed: u64) -> Ended {
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
    Ended { failure, report: said("REPORT ").unwrap_or_default(), trace }
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
    if let Ok(path) = std::env::var(TRACE) {
        std::fs::write(path, simulation.trace.text()).expect("the trace can be written");
    }
    match result {
        Ok(report) => println!("\nREPORT {report}, fingerprint {:08x}", simulation.fingerprint()),
        Err(failure) => {
            println!("\nFAILURE {failure}\nEND OF FAILURE");
            // Not by a panic: what a broken world still drops is of no interest.
            std::process::exit(1);
        }
    }
}
