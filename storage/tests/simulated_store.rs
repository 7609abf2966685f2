//! A store on a simulated disk, through power cuts, deaths, full and failing disks: nothing acknowledged is lost, checkpoint and
//! tail give what the whole log gives, every run of a seed is the same, and every broken rule is noticed.
//! `cargo test -p holdfast-storage --features simulation --test simulated_store`
//!
//! One seed: `SEED=55`; more of them: `SEEDS=20000`.

#[path = "simulated/facts.rs"]
mod facts;
#[path = "simulated/life.rs"]
mod life;
#[path = "simulated/model.rs"]
mod model;
#[path = "simulated/pair.rs"]
mod pair;
#[path = "simulated/world.rs"]
mod world;

use holdfast_storage::platform::sabotage::{self, Switch};
use life::live;
use pair::live_as_pair;

const SEEDS: u64 = 300;

/// The seeds to run.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_checkpoint_and_tail_are_the_whole_log() {
    let (mut cuts, mut torn, mut noticed) = (0, 0, 0);
    let seeds = seeds();
    for seed in seeds.clone() {
        let (trace, finding) = live(seed);
        assert!(finding.is_none(), "SEED={seed}: {finding:?}\n{}", trace.join("\n"));
        cuts += trace.iter().filter(|line| line.contains("power cut")).count();
        torn += trace.iter().filter(|line| line.contains("power cut") && !line.contains("torn: 0")).count();
        noticed += trace.iter().filter(|line| line.contains("does not open")).count();
    }
    assert!(
        seeds != (0..SEEDS) || cuts >= 200 && torn > 20 && noticed > 50,
        "{cuts} power cuts, {torn} with torn sectors; {noticed} rotten bits noticed"
    );
}

#[test]
fn a_pair_that_follows_cuts_copies_and_dies_in_the_middle_holds_what_its_logs_say() {
    for seed in seeds() {
        let (trace, finding) = live_as_pair(seed);
        assert!(finding.is_none(), "SEED={seed}: {finding:?}\n{}", trace.join("\n"));
    }
}

#[test]
fn a_seed_has_the_same_trace_and_the_same_bytes_every_time() {
    for seed in 0..20 {
        assert_eq!(live(seed), live(seed), "seed {seed}");
        assert_eq!(live_as_pair(seed), live_as_pair(seed), "seed {seed} of a pair");
    }
    assert_ne!(live(0), live(1));
}

#[test]
fn a_simulated_node_starts_no_thread() {
    for seed in 0..10 {
        live(seed);
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let name = std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default();
            let ours = ["log-sync", "node-state", "replay", "load-images"];
            assert!(!ours.contains(&name.trim()), "{name}");
        }
    }
}

/// Each broken rule is found within so many seeds.
const SABOTAGE: [(Switch, u64); 5] = [
    (Switch::TornTailKept, 100),
    (Switch::SequenceCheckSkipped, 20),
    (Switch::LoneMasterAcksUndurable, 20),
    (Switch::BootIdIgnored, 20),
    (Switch::FsyncSkipped, 20),
];

#[test]
fn every_broken_rule_is_found() {
    for (switch, within) in SABOTAGE {
        let found = (0..within).find_map(|seed| {
            sabotage::set(switch, true);
            let (_, finding) = live(seed);
            finding.map(|finding| (seed, finding))
        });
        sabotage::clear();
        let (seed, finding) =
            found.unwrap_or_else(|| panic!("{switch:?} is not found within {within} seeds"));
        println!("{switch:?}: seed {seed}: {finding}");
    }
}
