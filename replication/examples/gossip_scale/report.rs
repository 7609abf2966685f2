//! The tables, as Markdown.

use std::fmt::Write as _;

use crate::measure::Figures;
use crate::world::Counted;

/// The page: one table per node timeout.
pub fn markdown(nodes: &[usize], seed: u64, tables: &[(u64, Vec<Figures>)]) -> String {
    let list = |numbers: Vec<String>| numbers.join(",");
    let sizes = list(nodes.iter().map(ToString::to_string).collect());
    let timeouts = list(tables.iter().map(|(timeout_ms, _)| timeout_ms.to_string()).collect());
    let mut text = String::from(HEAD);
    let _ = writeln!(
        text,
        "```\ncargo run --release -p holdfast-replication --example gossip-scale -- --nodes {sizes} --timeout {timeouts} \
         --seed {seed} --out docs/gossip-scale.md\n```"
    );
    for (timeout_ms, figures) in tables {
        let _ = writeln!(text, "\n## `cluster-node-timeout {timeout_ms}`\n");
        table(&mut text, figures);
    }
    text.push_str(FOOT);
    text
}

fn table(text: &mut String, figures: &[Figures]) {
    let mut row = |name: &str, cell: &dyn Fn(&Figures) -> String| {
        let cells: Vec<String> = figures.iter().map(cell).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    };
    row("nodes", &|f| f.nodes.to_string());
    row("---", &|_| "---:".into());
    row("voters", &|f| f.voters.to_string());
    row("FAIL known by a majority, ms after the kill (median, worst)", &|f| spread(&f.majority_ms));
    row("FAIL known by all, ms after the kill (median, worst)", &|f| spread(&f.all_ms));
    row("calm: messages sent per node and second", &|f| rate(&f.calm, f.nodes));
    row("calm: kB sent per node and second (mean, busiest node)", &|f| {
        format!("{}, {}", kilobytes(f.calm.bytes, &f.calm, f.nodes), kilobytes(busiest(&f.calm), &f.calm, 1))
    });
    row("calm: bytes per message (mean, largest)", &|f| {
        format!("{}, {}", f.calm.bytes / f.calm.total().max(1), f.calm.largest)
    });
    row("calm: CPU of the core, ms per node and second", &|f| cpu(&f.calm, f.nodes));
    row("while nodes die: messages sent per node and second", &|f| rate(&f.dying, f.nodes));
    row("while nodes die: kB sent per node and second", &|f| kilobytes(f.dying.bytes, &f.dying, f.nodes));
    row("nodes behind the cut", &|f| f.cut.to_string());
    row("FAIL of all of them known by all others, ms after the cut", &|f| f.cut_known_ms.to_string());
    row("until then: messages sent per node and second", &|f| rate(&f.parting, f.nodes));
    row("until then: kB sent per node and second", &|f| kilobytes(f.parting.bytes, &f.parting, f.nodes));
    row("cut in two: messages sent per node and second", &|f| rate(&f.parted, f.nodes));
    row("cut in two: kB sent per node and second", &|f| kilobytes(f.parted.bytes, &f.parted, f.nodes));
    row("cut in two: CPU of the core, ms per node and second", &|f| cpu(&f.parted, f.nodes));
    row("mended: everybody holds everybody for alive after ms", &|f| f.healed_ms.to_string());
}

fn spread(times: &[u64]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    format!("{median}, {}", sorted.last().copied().unwrap_or_default())
}

fn rate(counted: &Counted, nodes: usize) -> String {
    format!("{:.1}", counted.total() as f64 * 1000.0 / counted.window_ms.max(1) as f64 / nodes as f64)
}

fn kilobytes(bytes: u64, counted: &Counted, nodes: usize) -> String {
    format!("{:.1}", bytes as f64 / counted.window_ms.max(1) as f64 / nodes as f64)
}

fn busiest(counted: &Counted) -> u64 {
    counted.bytes_of.iter().copied().max().unwrap_or_default()
}

fn cpu(counted: &Counted, nodes: usize) -> String {
    let seconds = counted.window_ms.max(1) as f64 / 1000.0;
    format!("{:.2}", counted.cpu.as_secs_f64() * 1000.0 / seconds / nodes as f64)
}

const HEAD: &str = "\
# Gossip and failure detection, from 6 to 1,000 nodes

Written by a program, not by hand: the real core of every node (`replication/cluster`), the real bytes of every message
(`replication/src/wire/gossip.rs` and the frame around it, without TCP/IP's headers), in virtual time and from one seed. Messages take
1 to 4 ms, drivers tick every 100 ms. Half of the nodes are replicas of the others, each on another machine; three machines, from 40
nodes on one for every ten nodes. The metadata group stands still and nobody owns a slot: nobody is promoted, and who comes back is
believed at once.

A cluster is started, watched while all is well for half a node timeout, then loses up to five nodes within a few seconds (at most a
sixth; each is timed on its own) and gets them back. Then a third of the machines, with a minority of the voters, are cut off from the
rest until all have noticed and for half a node timeout more, and the cut is mended. CPU is the time spent in `Cluster::step` on the
machine that ran it, the cache misses of a thousand nodes in one process included; all else is the same on every machine.
";

const FOOT: &str = "
## How it grows

* **Time to detect** is the node timeout plus the time to the next ping by the voters: each voter pings every node every 4 ms times the
  number of nodes (at least every 250 ms, at most every half timeout), so that a voter sends about 250 pings a second and no more. The
  majority agrees within a round trip, and everybody is told at once by the voters.
* **Messages** when all is well: a node that does not vote asks whoever it has not heard of for half the timeout, by hearsay too. Up to
  some hundred nodes hearsay spares most of these pings and the number grows slower than the cluster; at a thousand it still spares more
  than half: the bound is two pings and two pongs per other node and timeout, 800 a second. A longer node timeout makes it smaller.
  The voters (at most seven) carry most.
* **Bytes per message** grow to 30 rumours and stay there. Redis puts a tenth of the node table into each ping, at 104 bytes an
  entry and with a header of 2 kB: 12 kB a message at 1,000 nodes, since there failure reports and membership travel that way. Here
  membership stands in the registry, and only the voters' suspicions count, which they tell besides (at most 100 a message, in turn).
* **While many are silent** each is asked again every second, from a hundred silent nodes on a hundred of them a second; what
  asks them carries three rumours. FAIL is broadcast by the voters alone.
* **CPU** grows with the square of the number of nodes over the whole cluster, as every node keeps a table of all: linearly per node.
";
