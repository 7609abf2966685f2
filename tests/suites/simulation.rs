//! Six whole nodes in a simulated world, seed by seed: `HOLDFAST_TEST_ROUNDS` says how many seeds, `HOLDFAST_TEST_MINUTES` how
//! long instead, `HOLDFAST_TEST_SEED` which is the first. A seed that fails prints the command that runs exactly it again.
//!
//! ```text
//! cargo test -p holdfast-tests --features simulation --test simulation
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast_tests::simulation::children::{be_child, run};
use holdfast_tests::simulation::sabotage::{ALL, SCENES};

const RANDOM_FAULTS: &str = "random-faults";
/// How long the seeds of an ordinary run may take.
const BUDGET: Duration = Duration::from_secs(180);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("simulation")
}

/// Where std takes the keys of its hash maps from, and tokio the order in which a `select!` looks at its branches: a child takes
/// them from its seed, everybody else from the kernel.
#[expect(unsafe_code, reason = "std and tokio know no other way to be told their dice")]
mod chance {
    use std::ffi::{c_uint, c_void};
    use std::sync::atomic::{AtomicU64, Ordering};

    static CALLS: AtomicU64 = AtomicU64::new(0);

    /// The C library's.
    ///
    /// # Safety
    /// As the C library's: `length` bytes from `buffer` on are the caller's.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
        // SAFETY: the name ends with a zero; nobody changes the environment of a child.
        let is_child = unsafe { !libc::getenv(c"HOLDFAST_SIMULATED_SEED".as_ptr()).is_null() };
        if !is_child {
            // SAFETY: what the caller promised to us.
            return unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize };
        }
        // SAFETY: what the caller promised to us.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
        let mut dice = fastrand::Rng::with_seed(CALLS.fetch_add(1, Ordering::Relaxed));
        dice.fill(bytes);
        length as isize
    }
}

/// One run in a process of its own; started by the tests below.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    be_child(|scenario, simulation| match scenario {
        RANDOM_FAULTS => simulation.random_faults().map(|report| format!("{report:?}")),
        other => {
            let scene = |name: &str| SCENES.into_iter().find(|scene| format!("{scene:?}") == name);
            let rule = |name: &str| ALL.into_iter().find(|broken| format!("{:?}", broken.switch) == name);
            match other.split_once('-') {
                Some((name, "all-rules-kept")) if let Some(scene) = scene(name) => {
                    simulation.play(scene, None)
                }
                Some((_, name)) if let Some(broken) = rule(name) => {
                    simulation.play(broken.scene, Some(broken.switch))
                }
                _ => Err(format!("there is no scenario {other:?}")),
            }
        }
    });
}

#[test]
fn whatever_fails_histories_are_linearizable_nothing_acknowledged_is_lost_and_the_cluster_becomes_whole() {
    let first = number("HOLDFAST_TEST_SEED");
    let budget = number("HOLDFAST_TEST_MINUTES").map_or(BUDGET, |minutes| Duration::from_secs(60 * minutes));
    let rounds = number("HOLDFAST_TEST_ROUNDS").unwrap_or(if first.is_some() { 1 } else { u64::MAX });
    let first = first.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let started = Instant::now();
    let (mut count, mut failures) = (0, Vec::new());
    while count < rounds && started.elapsed() < budget {
        let seed = first + count;
        count += 1;
        let ended = run(&directory(), RANDOM_FAULTS, seed);
        match ended.failure {
            None => println!("seed {seed}: {}", ended.report),
            Some(failure) => {
                println!(
                    "seed {seed} FAILS: {failure}\n  trace: {}\n  again: HOLDFAST_TEST_SEED={seed} cargo test -p holdfast-tests --features \
                     simulation --test simulation whatever -- --nocapture",
                    ended.trace.display()
                );
                failures.push(seed);
            }
        }
    }
    println!("{count} seeds from {first} on in {:?}, {} failed", started.elapsed(), failures.len());
    assert!(failures.is_empty(), "seeds that fail: {failures:?}");
}

#[test]
fn the_same_seed_does_the_same_to_the_byte() {
    let runs: Vec<_> = ["once", "again"]
        .iter()
        .map(|name| {
            let ended = run(&directory().join(name), RANDOM_FAULTS, 42);
            (std::fs::read(&ended.trace).expect("a run leaves a trace"), ended)
        })
        .collect();
    assert!(
        runs[0].0 == runs[1].0,
        "traces differ: {} {}",
        runs[0].1.trace.display(),
        runs[1].1.trace.display()
    );
    assert_eq!(runs[0].1.report, runs[1].1.report);
}

#[test]
fn every_rule_that_is_broken_is_noticed_within_its_seeds_and_scenes_pass_while_rules_are_kept() {
    let first = number("HOLDFAST_TEST_SEED").unwrap_or(1);
    let mut wrong = Vec::new();
    for scene in SCENES {
        for seed in first..first + 2 {
            let ended = run(&directory(), &format!("{scene:?}-all-rules-kept"), seed);
            if let Some(failure) = ended.failure {
                wrong.push(format!(
                    "{scene:?}, all rules kept, seed {seed}: {failure}\n{}",
                    ended.trace.display()
                ));
            }
        }
    }
    println!("{:<26} {:<16} {:>10} {:>6}  noticed as", "broken rule", "scene", "noticed at", "within");
    for broken in ALL {
        let (name, scene) = (format!("{:?}", broken.switch), format!("{:?}", broken.scene));
        let caught = (0..broken.seeds).find_map(|tried| {
            let ended = run(&directory(), &format!("{scene}-{name}"), first + tried);
            ended.failure.map(|failure| (tried + 1, failure))
        });
        match caught {
            Some((tried, failure)) => {
                let line = failure.lines().next().unwrap_or_default();
                println!("{name:<26} {scene:<16} {tried:>10} {:>6}  {line}", broken.seeds);
            }
            None => {
                println!("{name:<26} {scene:<16} {:>10} {:>6}", "never", broken.seeds);
                wrong.push(format!("{name} in {scene} is not noticed within {} seeds", broken.seeds));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
