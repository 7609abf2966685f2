//! Acceptance 8 of the second issue: the benchmark command runs both servers in turn and prints the table. What it measures is
//! of no interest here: the runs are far too short.

use std::process::Command;

fn bench(options: &[&str]) -> Option<String> {
    if Command::new("redis-benchmark").arg("--version").output().is_err() {
        eprintln!("skipped: redis-benchmark is not installed");
        return None;
    }
    let short = ["--rounds", "1", "--requests", "400", "--clients", "4", "--keys", "100"];
    let output =
        Command::new(env!("CARGO_BIN_EXE_holdfast-bench")).args(short).args(options).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

fn assert_rows(text: &str, rows: &[&str]) {
    for row in rows {
        assert!(text.contains(&format!("| {row} |")), "no row {row}:\n{text}");
    }
}

#[test]
fn every_test_of_redis_benchmark_runs_on_both_servers() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("table.md");
    let Some(text) = bench(&["--pipeline", "16", "--out", out.to_str().unwrap()]) else { return };
    assert_rows(&text, &["PING_INLINE | 16", "SET | 16", "ZPOPMIN | 16", "LRANGE_600 | 16", "MSET | 16"]);
    assert_eq!(std::fs::read_to_string(out).unwrap(), text);
}

#[test]
fn both_servers_can_be_cluster_nodes() {
    let Some(text) = bench(&["--pipeline", "1", "--tests", "set,mset,lrange_100", "--cluster"]) else {
        return;
    };
    assert_rows(&text, &["SET | 1", "MSET | 1", "LRANGE_100 | 1"]);
    assert!(text.contains("cluster nodes that own all slots"), "{text}");
}

#[test]
fn the_cost_of_replicated_writes_is_measured_beside_redis_with_wait() {
    let Some(text) = bench(&["--replicated", "--seconds", "1"]) else { return };
    let rows = ["holdfast, write-ack in-sync", "holdfast, write-ack local", "redis-server"];
    assert_rows(&text, &rows);
    assert_rows(&text, &["redis-server, WAIT 1 after each SET"]);
}

/// Every section of `--all`, in three parts that run side by side: most of the time they wait for redis-server, which takes two
/// seconds until it serves as a cluster node.
const PARTS: [&[&str]; 3] = [
    &["single", "pipelined", "workers", "always", "always-open", "always-reads"],
    &["in-sync", "memory", "large", "restart", "checkpoint", "replica"],
    &["small", "growth", "idle"],
];

fn sections_run(part: usize) {
    let directory = tempfile::tempdir().unwrap();
    let docs = directory.path().join("docs");
    let names = PARTS[part].join(",");
    let options = ["--section", &names, "--scale", "0.002", "--docs", docs.to_str().unwrap()];
    let Some(text) = bench(&options) else { return };
    assert!(text.contains(" rows: ") && !text.contains("not measured"), "{text}");
    let document = std::fs::read_to_string(docs.join("performance.md")).unwrap();
    assert!(document.contains(text.trim_end()), "{document}");
    for plot in document.lines().filter_map(|line| line.strip_prefix("![")?.split_once("](")) {
        let svg = std::fs::read_to_string(docs.join(plot.1.trim_end_matches(')'))).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{}: {svg}", plot.1);
    }
}

#[test]
fn sections_of_redis_benchmark_and_of_fsync_run_at_a_tiny_size() {
    sections_run(0);
}

#[test]
fn sections_of_replicas_restart_and_checkpoint_run_at_a_tiny_size() {
    sections_run(1);
}

#[test]
fn sections_of_collections_and_connections_run_at_a_tiny_size() {
    sections_run(2);
}

#[test]
fn no_section_is_left_out_here() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_holdfast-bench")).args(["--section", "none"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    let (_, names) = said.trim_end().split_once("there are ").unwrap();
    let mut names: Vec<&str> = names.split(", ").collect();
    let mut here = PARTS.concat();
    names.sort_unstable();
    here.sort_unstable();
    assert_eq!(names, here);
}
