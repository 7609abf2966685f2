//! Six whole nodes in a simulated world, seed by seed: the same seeds every time, unless `HOLDFAST_TEST_ROUNDS` says how many,
//! `HOLDFAST_TEST_SEED` which is the first (alone: the only one), or `HOLDFAST_TEST_MINUTES` for how long, from a random one on.
//! `HOLDFAST_TEST_PROCESSES` of them (two) run at a time. A seed that fails prints the command that runs exactly it again.
//!
//! ```text
//! cargo test -p holdfast-tests --features simulation --test simulation
//! ```

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_tests::simulation::children::{be_child, each, processes, run};
use holdfast_tests::simulation::coverage::Coverage;
use holdfast_tests::simulation::sabotage::{ALL, SCENES, Sabotage, Scene};

const RANDOM_FAULTS: &str = "random-faults";
/// The seeds of an ordinary run: the first, and how many.
const FIRST_SEED: u64 = 1;
const SEEDS: u64 = 120;
/// Seeds of each scene in which all rules are kept.
const KEPT_SEEDS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The command that runs one seed again.
fn again(seed: u64, test: &str) -> String {
    format!(
        "HOLDFAST_TEST_SEED={seed} cargo test -p holdfast-tests --features simulation --test simulation {test} -- --nocapture"
    )
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
    let asked_for = number("HOLDFAST_TEST_SEED");
    let budget = number("HOLDFAST_TEST_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let rounds = number("HOLDFAST_TEST_ROUNDS").unwrap_or(match (asked_for, budget) {
        (Some(_), _) => 1,
        (None, Some(_)) => u64::MAX,
        (None, None) => SEEDS,
    });
    let is_usual = asked_for.is_none() && budget.is_none() && rounds == SEEDS;
    let first = asked_for.unwrap_or_else(|| budget.map_or(FIRST_SEED, |_| fastrand::u64(..1 << 40)));
    let started = Instant::now();
    let (count, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let coverage = Mutex::new(Coverage::default());
    let run_seeds = |_: &()| {
        while budget.is_none_or(|budget| started.elapsed() < budget)
            && let seed = first + count.fetch_add(1, Ordering::Relaxed)
            && seed < first.saturating_add(rounds)
        {
            let ended = run(&directory(), RANDOM_FAULTS, seed);
            coverage.lock().unwrap().merge(&ended.coverage);
            match ended.failure {
                None => println!("seed {seed}: {}", ended.report),
                Some(failure) => {
                    println!(
                        "seed {seed} FAILS: {failure}\n  trace: {}\n  again: {}",
                        ended.trace.display(),
                        again(seed, "whatever")
                    );
                    failures.lock().unwrap().push(seed);
                }
            }
        }
    };
    each(&vec![(); processes()], run_seeds);
    let (failures, coverage) = (failures.into_inner().unwrap(), coverage.into_inner().unwrap());
    let count = count.into_inner().min(rounds);
    println!("{}", coverage.table());
    println!("{count} seeds from {first} on in {:?}, {} failed", started.elapsed(), failures.len());
    assert!(failures.is_empty(), "seeds that fail: {failures:?}");
    assert!(!is_usual || coverage.missing().is_empty(), "never happened: {:?}", coverage.missing());
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

/// What became of a scene with a rule broken.
struct Tried {
    broken: Sabotage,
    /// After how many seeds it was noticed, and as what.
    noticed: Option<(u64, String)>,
}

#[test]
fn every_rule_that_is_broken_is_noticed_within_its_seeds_and_scenes_pass_while_rules_are_kept() {
    let first = number("HOLDFAST_TEST_SEED").unwrap_or(FIRST_SEED);
    let kept: Vec<(Scene, u64)> = SCENES
        .into_iter()
        .flat_map(|scene| (first..first + KEPT_SEEDS).map(move |seed| (scene, seed)))
        .collect();
    let wrong = each(&kept, |(scene, seed)| {
        let ended = run(&directory(), &format!("{scene:?}-all-rules-kept"), *seed);
        let again = again(*seed, "every_rule");
        let trace = ended.trace.display().to_string();
        ended.failure.map(|failure| {
            format!("{scene:?}, all rules kept, seed {seed}: {failure}\n  trace: {trace}\n  again: {again}")
        })
    });
    let mut wrong: Vec<String> = wrong.into_iter().flatten().collect();
    let tried = each(&ALL, |broken| {
        let scenario = format!("{:?}-{:?}", broken.scene, broken.switch);
        let noticed = (0..broken.seeds).find_map(|tried| {
            let failure = run(&directory(), &scenario, first + tried).failure?;
            Some((tried + 1, failure.lines().next().unwrap_or_default().to_owned()))
        });
        Tried { broken: *broken, noticed }
    });
    println!("{:<24} {:<17} {:>10} {:>6}  noticed as", "broken rule", "scene", "noticed at", "within");
    for Tried { broken: Sabotage { switch, scene, seeds }, noticed } in tried {
        let (name, scene) = (format!("{switch:?}"), format!("{scene:?}"));
        let (at, text) =
            noticed.map_or(("never".to_owned(), String::new()), |(at, text)| (at.to_string(), text));
        println!("{name:<24} {scene:<17} {at:>10} {seeds:>6}  {text}");
        if at == "never" {
            wrong.push(format!("{name} in {scene} is not noticed within {seeds} seeds"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
