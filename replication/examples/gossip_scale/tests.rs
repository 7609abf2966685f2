//! The same at small sizes, with bounds in virtual time and in bytes.

use crate::measure::{Plan, measure};
use crate::report;

const TIMEOUT_MS: u64 = 5000;

fn plan(seed: u64) -> Plan {
    Plan { timeout_ms: TIMEOUT_MS, seed, kills: 3 }
}

#[test]
fn a_failure_is_known_to_all_soon_after_the_node_timeout() {
    for seed in 1..=2 {
        for (count, after_ms) in [(6, 700), (30, 700), (60, 900)] {
            let figures = measure(count, plan(seed));
            for at_ms in figures.all_ms.iter().chain([&figures.cut_known_ms]) {
                assert!(
                    (TIMEOUT_MS - 300..TIMEOUT_MS + after_ms).contains(at_ms),
                    "{count} nodes: {figures:?}"
                );
            }
            assert!(figures.healed_ms <= 1500, "{count} nodes: {figures:?}");
        }
    }
}

#[test]
fn gossip_costs_a_node_of_eighty_little_in_every_state_of_the_cluster() {
    let figures = measure(80, plan(1));
    let rates = [&figures.calm, &figures.dying, &figures.parting, &figures.parted].map(|counted| {
        let per_node = |count: u64| count as f64 / counted.window_ms as f64 / 80.0;
        (per_node(counted.total()) * 1000.0, per_node(counted.bytes))
    });
    for (messages, kilobytes) in rates {
        assert!(messages < 90.0 && kilobytes < 40.0, "per second: {rates:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_page_but_for_cpu_times() {
    let page = || report::markdown(&[6], 3, &[(TIMEOUT_MS, vec![measure(6, plan(3))])]);
    let without_times = |page: String| {
        page.lines().filter(|line| !line.contains("CPU")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_times(page()), without_times(page()));
}
