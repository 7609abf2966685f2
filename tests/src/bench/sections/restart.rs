//! Restart after kill -9, and what was written to the disk until then.

use std::time::Instant;

use anyhow::Result;
use holdfast_tests::client::{Client, Reply};

use super::bench::{Bench, CLIENTS, KEY_SIZE, VALUE_SIZE, of, random, ratios, set_request};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::load::{self, Pace, Until};
use crate::machine::written_bytes;
use crate::plots::{self, Series};
use crate::servers::{Kind, Launch};
use crate::statistics::{Spread, median, short};

struct Restart {
    data_bytes: f64,
    /// Written to the disk, as the kernel counts; none where it does not tell.
    written: Option<f64>,
    /// Until PING is answered with PONG: what was on disk is in memory.
    loaded_s: f64,
    /// Until a key can be read.
    serves_s: f64,
}

/// 1 M keys and 3 M updates; with `--ten-million`, also 10 M keys.
///
/// # Errors
/// When a server fails.
pub fn after_kill(bench: &Bench<'_>) -> Result<Findings> {
    let (keys, updates) = (bench.keys(), bench.count(3_000_000));
    let pairs = bench.pairs("restart after kill -9", |kind| restart(bench, kind, keys, updates))?;
    let own =
        |figure: fn(&Restart) -> f64, kind: Kind| median(pairs.iter().map(|pair| figure(of(pair, kind))));
    let mut findings = Findings::default();
    let work = format!("restart after kill -9 with {keys} keys and {updates} updates");
    for (what, figure) in [
        ("time until the data are loaded", (|restart| restart.loaded_s) as fn(&Restart) -> f64),
        ("time to serve", |restart| restart.serves_s),
    ] {
        findings.rows.push(Finding::of_ratio(
            &work,
            what,
            ratios(&pairs, figure),
            Bound::AtMost(0.33),
            &format!("{:.2} s against {:.2} s", own(figure, Kind::Holdfast), own(figure, Kind::Redis)),
        ));
    }
    let amplification = |kind| -> Option<Spread> {
        let ratio = |restart: &Restart| Some(restart.written? / restart.data_bytes);
        Spread::of(pairs.iter().filter_map(|pair| ratio(of(pair, kind))).collect())
    };
    findings.rows.push(match (amplification(Kind::Holdfast), amplification(Kind::Redis)) {
        (Some(holdfast), Some(redis)) => Finding::reported(
            "disk bytes written per byte of data (keys and values), these loads",
            format!("{holdfast}, redis-server {redis}"),
        ),
        _ => Finding::reported("disk bytes written per byte of data", "the kernel does not tell".to_owned()),
    });
    let mut lines = Vec::new();
    let line = |name: &str, count: u64, own: &dyn Fn(fn(&Restart) -> f64) -> f64| {
        vec![
            name.to_owned(),
            count.to_string(),
            short(own(|restart| restart.loaded_s)),
            short(own(|restart| restart.serves_s)),
            short(own(|restart| restart.written.unwrap_or(f64::NAN) / 1e6)),
            short(own(|restart| restart.data_bytes / 1e6 / restart.loaded_s)),
        ]
    };
    for kind in Kind::BOTH {
        lines.push(line(kind.name(), keys, &|figure| own(figure, kind)));
    }
    if bench.options.ten_million {
        let count = bench.count(10_000_000);
        bench.say(&format!("restart with {count} keys"));
        for kind in Kind::BOTH {
            let large = restart(bench, kind, count, 0)?;
            lines.push(line(kind.name(), count, &|figure| figure(&large)));
            if kind == Kind::Holdfast {
                findings.rows.push(Finding {
                    work: format!("restart after kill -9 with {count} keys"),
                    measured: format!(
                        "{:.2} s, {:.0} MB of data a second",
                        large.serves_s,
                        large.data_bytes / 1e6 / large.loaded_s
                    ),
                    goal: "report".to_owned(),
                    verdict: Verdict::Reported,
                });
            }
        }
    }
    findings.paragraph(
        "Filled and updated 16 and 64 at a time, then a second of rest, kill -9, and a start on the same directory. Loaded: PING is answered with PONG. \
         Serves: GET of a key is answered with its value; redis-server as a cluster node waits two seconds after a start before it \
         takes its slots up again, so both times are judged. Written: `write_bytes` of the process and its children, rewrites \
         and checkpoints included.",
    );
    findings.table(&["", "keys", "loaded s", "serves s", "written MB", "MB of data loaded/s"], lines);
    let labels = ["loaded".to_owned(), "serves".to_owned()];
    let series = Kind::BOTH.map(|kind| {
        Series::bars(
            kind.name(),
            [own(|restart| restart.loaded_s, kind), own(|restart| restart.serves_s, kind)],
        )
    });
    let title = format!("Restart after kill -9: {keys} keys, {updates} updates");
    findings.plot("restart.svg", &title, plots::bars(&title, "seconds", &labels, &series, &[])?);
    Ok(findings)
}

fn restart(bench: &Bench<'_>, kind: Kind, keys: u64, updates: u64) -> Result<Restart> {
    let mut server = bench.start(&Launch::of(kind))?;
    let template = set_request();
    bench.fill(&server, &template, keys)?;
    if updates > 0 {
        let mut classes = [random(CLIENTS, 16, Pace::Closed, 0, &template, keys)];
        load::run(server.port, 1, &mut classes, Until::Requests(updates))?;
    }
    // So that everysec has synced; a rewrite or checkpoint that runs is waited for.
    std::thread::sleep(bench.seconds(1.0));
    server.wait_until_settled()?;
    let written = written_bytes(server.pid()).ok().map(|bytes| bytes as f64);
    let began = Instant::now();
    server.kill_and_spawn(bench.cores)?;
    server.wait_until_answers(Reply::is_pong, &["PING"])?;
    let loaded_s = began.elapsed().as_secs_f64();
    let key = format!("key:{:012}", keys - 1);
    server.wait_until_answers(|reply| matches!(reply, Reply::Bulk(_)), &["GET", &key])?;
    let serves_s = began.elapsed().as_secs_f64();
    let count = Client::connect(server.port)?.try_call(&["DBSIZE"])?;
    anyhow::ensure!(count == Reply::Integer(keys as i64), "{} has lost keys: {count} of {keys}", kind.name());
    let data_bytes = ((keys + updates) * (KEY_SIZE + VALUE_SIZE) as u64) as f64;
    Ok(Restart { data_bytes, written, loaded_s, serves_s })
}
