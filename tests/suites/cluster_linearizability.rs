//! Six nodes on three machines (network namespaces; root only), clients that read, write, increment and compare-and-set, and
//! whatever can happen: kill -9, SIGSTOP, cuts between machines in one direction or both, cut-off masters that clients still reach,
//! pulled and slow cables, handovers. What the clients saw must be what one register per key would have shown them, and no
//! acknowledged write may be missing.
//!
//! * `HOLDFAST_TEST_SECONDS` (60): how long a run lasts. `HOLDFAST_TEST_RUNS` (1): how many. `HOLDFAST_TEST_SEED`: which way;
//!   it is printed, and plans the same faults again.
//! * `HOLDFAST_TEST_FAULTS=partitions`: only masters that are cut off for longer than a failover takes.
//! * With `HOLDFAST_TEST_PEER=redis-server` the same happens to Redis's own nodes, and what is violated is reported, not failed.

use std::net::SocketAddr;
use std::time::Duration;

use holdfast_tests::cluster::{ClusterUnderTest, Place, peer};
use holdfast_tests::fault_plan::{Mix, carry_out, plan};
use holdfast_tests::history::{Findings, Kind, Verdict};
use holdfast_tests::network::Network;
use holdfast_tests::recorded_clients::RecordedClients;

const PLACE: Place = Place {
    binary: env!("CARGO_BIN_EXE_holdfast-under-test"),
    target: env!("CARGO_TARGET_TMPDIR"),
    suite: "cluster_linearizability",
};
const OPTIONS: &[&str] = &["--wal-segment-size", "8mb"];
const CLIENTS: u32 = 10;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One run: what happened, and what the clients saw.
struct Run {
    seed: u64,
    trace: Vec<String>,
    verdict: Verdict,
    findings: Findings,
}

impl Run {
    fn of(seed: u64, length: Duration, network: &Network) -> (Self, ClusterUnderTest) {
        let is_asked = std::env::var("HOLDFAST_TEST_FAULTS").is_ok_and(|mix| mix == "partitions");
        let steps = plan(seed, length, if is_asked { Mix::Partitions } else { Mix::All });
        let kind = if is_asked { "partitions" } else { "machines" };
        let name = peer().map_or(kind.to_owned(), |program| format!("{kind}-{program}"));
        let mut cluster = ClusterUnderTest::formed_on(PLACE, &name, OPTIONS, network);
        let addresses: Vec<SocketAddr> = cluster.nodes.iter().map(|node| node.address()).collect();
        let clients = RecordedClients::start(&addresses, CLIENTS, seed);
        let mut trace = Vec::new();
        carry_out(&steps, length, &mut cluster, network, |line| {
            let at = clients.observed.now();
            println!("{:>8.3} s  {line}", at as f64 / 1e6);
            trace.push(format!("{at:>10}  {line}"));
        });
        cluster.wait_until_whole();
        let (verdict, findings) = clients.judge();
        (Self { seed, trace, verdict, findings }, cluster)
    }

    fn is_violated(&self) -> bool {
        self.verdict.conflicts().next().is_some() || !self.findings.is_clean()
    }

    /// A line of the table in docs/safety-redis-comparison.md.
    fn row(&self) -> String {
        let of = |kind: Kind| self.verdict.conflicts().filter(|conflict| conflict.kind == kind).count();
        let findings = &self.findings;
        format!(
            "| {} | {} | {} of {} | {} | {} | {} of {} | {} | {} |",
            self.seed,
            self.verdict.operations,
            self.verdict.conflicts().count(),
            self.verdict.keys,
            of(Kind::OldValue),
            of(Kind::LostUpdate) + of(Kind::NeverWritten) + of(Kind::FailedWriteSeen),
            findings.lost.len(),
            findings.acknowledged,
            findings.stale_reads.len(),
            findings.taken_back.len() + findings.invented.len(),
        )
    }
}

const HEAD: &str = "| seed | register operations | keys not linearizable | … by an old value | … by a lost update | acknowledged set additions lost | \
                    stale set reads | set reads taken back |\n|---|---|---|---|---|---|---|---|";

#[test]
fn whatever_happens_clients_see_registers_and_no_acknowledged_write_is_lost() {
    let network = match Network::create() {
        Ok(network) => network,
        Err(reason) => return eprintln!("skipped: no network namespaces here: {reason:#}"),
    };
    let length = Duration::from_secs(number("HOLDFAST_TEST_SECONDS", 60));
    let first = number("HOLDFAST_TEST_SEED", fastrand::u64(..1_000_000_000));
    let mut rows = Vec::new();
    let mut violated = 0_u32;
    for seed in first..first + number("HOLDFAST_TEST_RUNS", 1) {
        println!("HOLDFAST_TEST_SEED={seed} HOLDFAST_TEST_SECONDS={}", length.as_secs());
        let (run, cluster) = Run::of(seed, length, &network);
        println!("{HEAD}\n{}", run.row());
        if run.is_violated() {
            println!("{}\n{}{}", run.trace.join("\n"), run.verdict, run.findings);
            println!("{}", if peer().is_none() { cluster.logs() } else { String::new() });
        }
        rows.push(run.row());
        violated += u32::from(run.is_violated());
        let unjudged = run.verdict.failures.len() - run.verdict.conflicts().count();
        if peer().is_none() {
            assert!(unjudged * 20 <= run.verdict.keys, "{unjudged} keys not judged: {}", run.verdict);
            assert!(run.verdict.operations > 1_000, "hardly anything could be done: {}", run.verdict);
        } else if unjudged > 0 {
            println!("{unjudged} keys could not be judged");
        }
    }
    println!("{HEAD}\n{}\n\n{violated} of {} runs violated", rows.join("\n"), rows.len());
    assert!(
        violated == 0 || peer().is_some(),
        "see above what is violated, with the seed, the faults and the nodes' logs"
    );
}
