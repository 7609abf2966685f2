//! Many connections that do nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::bench::{Bench, ratios};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::machine::{allow_open_files, status_kib};
use crate::servers::{Kind, Launch};
use crate::statistics::{Spread, median, short};

/// Connections opened before the first of them is asked something: fewer than wait to be accepted.
const BATCH: u64 = 100;

struct Idle {
    bytes_each: f64,
    per_second: f64,
}

/// 10,000 connections.
///
/// # Errors
/// When a server fails or the system allows too few open files.
pub fn connections(bench: &Bench<'_>) -> Result<Findings> {
    let count = bench.count(10_000);
    let allowed = allow_open_files(count + 500);
    ensure!(allowed >= count + 100, "only {allowed} open files are allowed, {} are needed", count + 500);
    let pairs = bench.pairs(&format!("{count} idle connections"), |kind| open(bench, kind, count))?;
    let own = |figure: fn(&Idle) -> f64, index: usize| -> Vec<f64> {
        pairs.iter().map(|pair| figure(&pair[index])).collect()
    };
    let bytes = |index| own(|idle| idle.bytes_each, index);
    let mut findings = Findings::default();
    let bound = Bound::AtMost(8192.0);
    let work = format!("{count} idle connections");
    findings.rows.extend([
        Finding {
            work: work.clone(),
            measured: format!(
                "{} bytes resident each (redis-server {})",
                Spread::of(bytes(0)).map_or_else(String::new, |spread| spread.to_string()),
                short(median(bytes(1)))
            ),
            goal: "≤ 8 KB resident each".to_owned(),
            verdict: Verdict::of(bound.holds(median(bytes(0)))),
        },
        Finding::of_ratio(
            &work,
            "accept rate",
            ratios(&pairs, |idle| idle.per_second),
            Bound::AtLeast(1.0),
            &format!(
                "{:.0}/s against {:.0}/s",
                median(own(|idle| idle.per_second, 0)),
                median(own(|idle| idle.per_second, 1))
            ),
        ),
    ]);
    findings.paragraph(
        "Opened by one client, a hundred at a time; a connection counts as accepted when its first PING is answered. Memory is the \
         growth of VmRSS over all of them, a fresh server each time.",
    );
    Ok(findings)
}

fn open(bench: &Bench<'_>, kind: Kind, count: u64) -> Result<Idle> {
    let launch = Launch::of(kind);
    let maximum = (count + 200).to_string();
    let launch = launch.with(kind, &["--maxclients", &maximum]);
    let server = bench.start(&launch)?;
    let before = status_kib(server.pid(), "VmRSS")?;
    let began = Instant::now();
    let mut streams: Vec<TcpStream> = Vec::new();
    while (streams.len() as u64) < count {
        let first = streams.len();
        for _ in 0..BATCH.min(count - first as u64) {
            let stream = TcpStream::connect(("127.0.0.1", server.port));
            streams.push(stream.with_context(|| format!("connection {}", streams.len() + 1))?);
        }
        for stream in &mut streams[first..] {
            stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
        }
        for stream in &mut streams[first..] {
            let mut reply = [0; 7];
            stream.read_exact(&mut reply)?;
            ensure!(&reply == b"+PONG\r\n", "PING is answered {:?}", String::from_utf8_lossy(&reply));
        }
    }
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    let after = status_kib(server.pid(), "VmRSS")?;
    Ok(Idle { bytes_each: (after.saturating_sub(before) * 1024) as f64 / count as f64, per_second })
}
