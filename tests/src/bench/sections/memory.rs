//! Resident memory: many keys, small collections, large ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_tests::client::Client;

use super::bench::{Bench, CLIENTS, KEY_SIZE, VALUE_SIZE, of, random, ratios, set_request};
use crate::findings::{Bound, Finding, Findings, Verdict};
use crate::load::{self, Outcome, Pace, Template, Until};
use crate::machine::status_kib;
use crate::plots::{self, Series};
use crate::servers::{Kind, Launch, Server};
use crate::statistics::{median, short};

/// Bytes of a member of a collection, hole included.
const MEMBER: &str = "#########";

/// Bytes that the server took for so many requests of this kind, sent in order to an empty server.
fn growth_bytes(bench: &Bench<'_>, server: &Server, template: &Template, count: u64) -> Result<f64> {
    let before = settled_kib(bench, server)?;
    bench.fill(server, template, count)?;
    let after = settled_kib(bench, server)?;
    Ok((after.saturating_sub(before) * 1024) as f64)
}

/// Resident once nothing goes on.
fn settled_kib(bench: &Bench<'_>, server: &Server) -> Result<u64> {
    std::thread::sleep(bench.seconds(1.0).min(Duration::from_secs(1)));
    server.wait_until_settled()?;
    status_kib(server.pid(), "VmRSS")
}

/// Each on a fresh server of both kinds: bytes.
fn on_fresh_servers(bench: &Bench<'_>, template: &Template, count: u64) -> Result<[f64; 2]> {
    let measure = |kind| growth_bytes(bench, &bench.start(&Launch::of(kind))?, template, count);
    Ok([measure(Kind::Holdfast)?, measure(Kind::Redis)?])
}

/// 1 M keys of 16 + 100 bytes.
///
/// # Errors
/// When a server fails.
pub fn keys(bench: &Bench<'_>) -> Result<Findings> {
    bench.say("memory per key");
    let count = bench.keys();
    let bytes = on_fresh_servers(bench, &set_request(), count)?.map(|bytes| bytes / count as f64);
    let bound = Bound::AtMost(170.0);
    let mut findings = Findings::default();
    findings.rows.push(Finding {
        work: format!("memory per key, {count} keys of {KEY_SIZE} + {VALUE_SIZE} bytes"),
        measured: format!("**{:.0}** bytes resident each (redis-server {:.0})", bytes[0], bytes[1]),
        goal: bound.text(" bytes"),
        verdict: Verdict::of(bound.holds(bytes[0])),
    });
    findings.paragraph("Growth of VmRSS by the SETs on a fresh server, divided by the keys. The same in every round, so measured once.");
    Ok(findings)
}

/// 200 k small hashes, lists, sets and sorted sets of ten members of ten bytes.
///
/// # Errors
/// When a server fails.
pub fn small_collections(bench: &Bench<'_>) -> Result<Findings> {
    let count = bench.count(200_000);
    let members: Vec<String> = (0..10).map(|index| format!("{index}{MEMBER}")).collect();
    let command = |name: &str, scores: bool, twice: bool| {
        let mut words = vec![name.to_owned(), "key:############".to_owned()];
        for (index, member) in members.iter().enumerate() {
            if scores {
                words.push(index.to_string());
            }
            words.extend(std::iter::repeat_n(member.clone(), if twice { 2 } else { 1 }));
        }
        Template::of(&words)
    };
    let types = [
        ("hash", command("HSET", false, true)),
        ("list", command("RPUSH", false, false)),
        ("set", command("SADD", false, false)),
        ("sorted set", command("ZADD", true, false)),
    ];
    let mut findings = Findings::default();
    let mut lines = Vec::new();
    for (name, template) in types {
        bench.say(&format!("small collections, {name}"));
        let bytes = on_fresh_servers(bench, &template, count)?.map(|bytes| bytes / count as f64);
        findings.rows.push(Finding::of_ratio(
            &format!("small {name} of 10 × 10 bytes, {count} of them"),
            "memory",
            ratios(&[bytes], |&bytes| bytes),
            Bound::AtMost(1.0),
            &format!("{:.0} bytes each against {:.0}", bytes[0], bytes[1]),
        ));
        lines.push((name, bytes));
    }
    let labels: Vec<String> = lines.iter().map(|(name, _)| (*name).to_owned()).collect();
    let series =
        Kind::BOTH.map(|kind| Series::bars(kind.name(), lines.iter().map(|(_, bytes)| *of(bytes, kind))));
    let title = "Resident bytes of a small collection (10 members of 10 bytes)";
    findings.plot("small-collections.svg", title, plots::bars(title, "bytes", &labels, &series, &[])?);
    Ok(findings)
}

/// Its name, the command that fills it, and those that read it.
type Large = (&'static str, &'static [&'static str], &'static [&'static [&'static str]]);

/// A sorted set and a hash of 1 M members: memory, and the rates of what is asked of them.
///
/// # Errors
/// When a server fails.
pub fn large_collections(bench: &Bench<'_>) -> Result<Findings> {
    let count = bench.count(1_000_000);
    let mut findings = Findings::default();
    let mut lines = Vec::new();
    let kinds: [Large; 2] = [
        (
            "sorted set",
            &["ZADD", "big", MEMBER, "m#########"],
            &[&["ZRANK", "big", "m#########"], &["ZRANGEBYSCORE", "big", MEMBER, "+inf", "LIMIT", "0", "10"]],
        ),
        ("hash", &["HSET", "big", "m#########", "v#########"], &[&["HGET", "big", "m#########"]]),
    ];
    for (name, fill, reads) in kinds {
        bench.say(&format!("{name} of {count} members"));
        let servers = bench.start_both(Launch::of)?;
        let fill = Template::of(fill);
        let measure = |server: &Server| -> Result<f64> {
            let before = settled_kib(bench, server)?;
            scatter(server, &fill, count)?;
            Ok((settled_kib(bench, server)?.saturating_sub(before) * 1024) as f64)
        };
        let bytes = [measure(&servers[0])?, measure(&servers[1])?];
        findings.rows.push(Finding::of_ratio(
            &format!("{name} of {count} members"),
            "memory",
            ratios(&[bytes], |&bytes| bytes),
            Bound::AtMost(0.8),
            &format!("{:.1} bytes a member against {:.1}", bytes[0] / count as f64, bytes[1] / count as f64),
        ));
        for words in reads {
            let template = Template::of(words);
            let pairs = bench.pairs(words[0], |kind| {
                let mut classes = [random(CLIENTS, 16, Pace::Closed, 0, &template, count)];
                let length = Until::Elapsed(bench.seconds(1.5));
                load::run(of(&servers, kind).port, 1, &mut classes, length)
            })?;
            let rate = |index: usize| median(pairs.iter().map(|pair| pair[index].rate_of_all()));
            findings.rows.push(Finding::of_ratio(
                &format!("{} on {count} members, P=16", words[0]),
                "rate",
                ratios(&pairs, Outcome::rate_of_all),
                Bound::AtLeast(1.3),
                &format!("{:.0}/s against {:.0}/s", rate(0), rate(1)),
            ));
            for kind in Kind::BOTH {
                let own = |quantile: f64| {
                    short(median(pairs.iter().map(|pair| of(pair, kind).latency_us(0, quantile))))
                };
                let busy = median(pairs.iter().map(|pair| of(pair, kind).busy_share()));
                lines.push(vec![
                    format!("`{}`", words.join(" ")),
                    kind.name().to_owned(),
                    own(0.5),
                    own(0.99),
                    own(1.0),
                    format!("{:.0} %", 100.0 * busy),
                ]);
            }
        }
    }
    findings.paragraph(
        "Members are added in scattered order, scores are as scattered as members; read with 50 clients, 16 requests at a time, by \
         our own generator (where it is busy nearly all the time, the rate is its own). ZRANGEBYSCORE reads ten members from a random score on.",
    );
    findings.table(&["command", "", "p50 µs", "p99 µs", "max µs", "generator busy"], lines);
    Ok(findings)
}

/// Sends the request once for each number below `count`, in an order that is none.
pub fn scatter(server: &Server, template: &Template, count: u64) -> Result<()> {
    // A stride that has no factor in common with the count goes through all numbers.
    let stride = (count * 618 / 1000..).find(|&stride| stride > 0 && gcd(stride, count) == 1).unwrap_or(1);
    let mut client = Client::connect(server.port)?;
    let mut number = 0;
    let mut sent = 0;
    while sent < count {
        let batch = (count - sent).min(512);
        let mut bytes = Vec::new();
        for _ in 0..batch {
            template.write(&mut bytes, number);
            number = (number + stride) % count;
        }
        client.send_raw(&bytes)?;
        for _ in 0..batch {
            let reply = client.read()?;
            ensure!(reply.to_string().starts_with("Integer"), "{} answers {reply}", server.kind.name());
        }
        sent += batch;
    }
    Ok(())
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
