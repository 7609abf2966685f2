//! `--replicated`: what it costs to acknowledge a write when two nodes have it. SETs to a master with one replica, both on this
//! machine: holdfast with `write-ack in-sync` and `local`, redis-server without and with a `WAIT 1 0` sent after each SET (in the same
//! packet). Who comes first changes from round to round.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use holdfast_tests::client::{Client, Reply, encode};
use holdfast_tests::process::Node;

use crate::machine;
use crate::options::Options;
use crate::servers::{NODE_VERB, OPTIONS};
use crate::statistics::Spread;

/// How long a pair of nodes may take to form.
const PATIENCE: Duration = Duration::from_secs(30);

/// A master and its replica, and how to write to them.
struct Shard {
    name: &'static str,
    nodes: [Node; 2],
    waits: bool,
}

/// What one run gave.
struct Sample {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
}

/// Runs all and returns the table.
///
/// # Errors
/// When a server is not installed or does not serve.
pub fn run(options: &Options, below: &Path) -> Result<String> {
    let myself = std::env::current_exe().context("cannot find my own binary")?;
    let myself = myself.to_str().context("a path that is no text")?;
    let holdfast = |name, ack| Shard::start(name, &[myself, NODE_VERB], below, &["--write-ack", ack], false);
    let redis = |name, waits| {
        Shard::start(name, &["redis-server"], below, &["--repl-diskless-sync-delay", "0"], waits)
    };
    let shards = [
        holdfast("holdfast, write-ack in-sync", "in-sync")?,
        holdfast("holdfast, write-ack local", "local")?,
        redis("redis-server", false)?,
        redis("redis-server, WAIT 1 after each SET", true)?,
    ];
    let mut samples: Vec<Vec<Sample>> = shards.iter().map(|_| Vec::new()).collect();
    for round in 0..usize::from(options.rounds) {
        for step in 0..shards.len() {
            let index = (step + round) % shards.len();
            let sample = shards[index].measure(options);
            samples[index].push(sample.with_context(|| shards[index].name.to_owned())?);
        }
    }
    Ok(markdown(options, &shards, &samples))
}

impl Shard {
    fn start(
        name: &'static str,
        program: &[&str],
        below: &Path,
        options: &[&str],
        waits: bool,
    ) -> Result<Self> {
        let node = |role: &str| {
            let mut node = Node::of_program(program, &below.join(format!("{name} {role}")), options);
            node.add_options(OPTIONS);
            node.add_options(&["--cluster-enabled", "yes"]);
            node.start();
            node
        };
        let nodes = [node("master"), node("replica")];
        let ask =
            |index: usize, words: &[&str]| -> Result<Reply> { Ok(nodes[index].client().try_call(words)?) };
        let port = nodes[0].port.to_string();
        // Redis answers a command of the cluster at once and learns by gossip when it can be obeyed.
        let until_ok = |index: usize, words: &[&str]| -> Result<()> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let reply = ask(index, words)?;
                if reply.is_ok() {
                    return Ok(());
                }
                ensure!(Instant::now() < deadline, "{name}: {words:?} is answered {reply}");
                std::thread::sleep(Duration::from_millis(100));
            }
        };
        until_ok(0, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
        until_ok(1, &["CLUSTER", "MEET", "127.0.0.1", &port])?;
        let master = ask(0, &["CLUSTER", "MYID"])?.text();
        until_ok(1, &["CLUSTER", "REPLICATE", &master])?;
        let is_in_sync = options.contains(&"in-sync");
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Only with write-ack in-sync there is such a set; a replica is taken in when it has acknowledged something.
            let is_served = ask(0, &["SET", "ready", "yes"])?.is_ok();
            let info = ask(0, &["INFO", "replication"])?.text();
            if is_served && info.contains("state=online") && (!is_in_sync || info.contains("in_sync=1")) {
                return Ok(Self { name, nodes, waits });
            }
            ensure!(Instant::now() < deadline, "{name}: the replica does not follow: {info}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn measure(&self, options: &Options) -> Result<Sample> {
        let length = Duration::from_secs(options.seconds);
        let began = Instant::now();
        let client = |seed: u64| -> std::io::Result<Vec<u64>> {
            let mut client = Client::connect(self.nodes[0].port)?;
            let mut dice = fastrand::Rng::with_seed(seed);
            let value = "x".repeat(options.value_size as usize);
            let mut latencies = Vec::new();
            while began.elapsed() < length {
                let key = format!("key:{}", dice.u64(..options.keys.max(1)));
                let mut request = encode(&["SET", &key, &value]);
                if self.waits {
                    request.extend(encode(&["WAIT", "1", "0"]));
                }
                let sent = Instant::now();
                client.send_raw(&request)?;
                let mut reply = client.read()?;
                if reply.is_ok() && self.waits {
                    reply = client.read()?;
                }
                if !(reply.is_ok() || reply == Reply::Integer(1)) {
                    return Err(std::io::Error::other(format!("answered {reply}")));
                }
                latencies.push(sent.elapsed().as_nanos() as u64);
            }
            Ok(latencies)
        };
        let mut all = std::thread::scope(|scope| -> Result<Vec<u64>> {
            let client = &client;
            let threads: Vec<_> =
                (0..options.clients).map(|seed| scope.spawn(move || client(u64::from(seed)))).collect();
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().expect("a client does not panic")?);
            }
            Ok(all)
        })?;
        let rate = all.len() as f64 / began.elapsed().as_secs_f64();
        all.sort_unstable();
        let at = |part: f64| all[((all.len() - 1) as f64 * part) as usize] as f64 / 1e3;
        ensure!(!all.is_empty(), "no write was acknowledged");
        Ok(Sample { rate, p50_us: at(0.5), p99_us: at(0.99) })
    }
}

fn markdown(options: &Options, shards: &[Shard], samples: &[Vec<Sample>]) -> String {
    let profile =
        if cfg!(debug_assertions) { "**debug build: the figures mean nothing**" } else { "release build" };
    let mut text = format!(
        "* machine: {}\n* {profile}; one master and one replica on this machine, as cluster nodes, `{}`; {} clients, one write of {} \
         bytes at a time each, {} s a run, medians of {} rounds (smallest..largest); the ratio is that of a round's two rates\n\n",
        machine::describe(),
        OPTIONS.join(" ").replace("--save ", "--save \"\""),
        options.clients,
        options.value_size,
        options.seconds,
        options.rounds,
    );
    text.push_str("| | writes/s | p50 µs | p99 µs | in-sync's rate to this |\n|---|---|---|---|---|\n");
    for (shard, own) in shards.iter().zip(samples) {
        let of = |value: fn(&Sample) -> f64| {
            Spread::of(own.iter().map(value).collect())
                .map_or_else(String::new, |Spread { smallest, median, largest }| {
                    format!("{median:.0} ({smallest:.0}..{largest:.0})")
                })
        };
        let ratios = samples[0].iter().zip(own).map(|(first, own)| first.rate / own.rate).collect();
        let ratio = Spread::of(ratios).map_or_else(String::new, |spread| spread.to_string());
        writeln!(
            text,
            "| {} | {} | {} | {} | {ratio} |",
            shard.name,
            of(|sample| sample.rate),
            of(|sample| sample.p50_us),
            of(|sample| sample.p99_us),
        )
        .expect("writing to a String cannot fail");
    }
    text
}
