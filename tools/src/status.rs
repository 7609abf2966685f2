//! `holdfast status`: who is who in a running cluster, how far each log goes, who lags.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use crate::nodes::{NodeClient, NodeLine, parse_nodes};
use crate::print::{Colour, Painter, human_bytes, table};

/// What `holdfast status` takes.
#[derive(Args)]
pub struct StatusArguments {
    /// Host of any node of the cluster
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Data port of that node
    #[arg(long, short, default_value_t = 7000)]
    port: u16,
    /// Password (requirepass); better given in HOLDFAST_PASSWORD
    #[arg(long, short = 'a', env = "HOLDFAST_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

/// Prints the cluster's state and a table of its nodes.
///
/// # Errors
/// When no node answers at the address.
pub fn status(arguments: &StatusArguments) -> Result<()> {
    let password = arguments.password.as_deref();
    let mut entry = NodeClient::connect(&arguments.host, arguments.port, password)?;
    let info = entry.fields(&["CLUSTER", "INFO"])?;
    let text: String = entry.call(&["CLUSTER", "NODES"])?;
    let mut nodes = parse_nodes(&text);
    let masters: BTreeMap<String, NodeLine> = nodes
        .iter()
        .filter(|node| node.master.is_none())
        .map(|node| (node.id.clone(), node.clone()))
        .collect();
    // Each master with its replicas below it.
    nodes.sort_by_key(|node| {
        let master = node.master.as_ref().and_then(|id| masters.get(id)).unwrap_or(node);
        (master.port, master.host.clone(), master.id.clone(), node.master.is_some(), node.port)
    });
    let reports: Vec<Report> = nodes.iter().map(|node| Report::ask(node, password)).collect();
    let painter = Painter::for_stdout();
    print_state(painter, &info);
    println!("{}", metadata_group(&info, &nodes));
    let ends: BTreeMap<&str, u64> = nodes
        .iter()
        .zip(&reports)
        .filter_map(|(node, report)| Some((node.id.as_str(), report.written?)))
        .collect();
    let replicas: BTreeMap<&str, &BTreeMap<String, String>> = reports
        .iter()
        .flat_map(|report| &report.replicas)
        .filter_map(|replica| Some((replica.get("id")?.as_str(), replica)))
        .collect();
    let rows: Vec<_> = nodes
        .iter()
        .zip(&reports)
        .map(|(node, report)| row(node, report, &ends, replicas.get(node.id.as_str()).copied()))
        .collect();
    let head = [
        "node",
        "address",
        "role",
        "slots",
        "keys",
        "epoch",
        "written lsn",
        "durable lsn",
        "lag",
        "in sync",
        "log",
        "state",
    ];
    print!("{}", table(painter, &head, &rows));
    Ok(())
}

fn print_state(painter: Painter, info: &BTreeMap<String, String>) {
    let get = |name: &str| info.get(name).map_or("?", String::as_str);
    let state = get("cluster_state");
    let colour = if state == "ok" { Colour::Green } else { Colour::Red };
    println!(
        "cluster_state:{}  {} nodes, {} masters with slots, {} of 16384 slots assigned, epoch {}",
        painter.paint(state, colour),
        get("cluster_known_nodes"),
        get("cluster_size"),
        get("cluster_slots_assigned"),
        get("cluster_current_epoch"),
    );
    if let Some(reason) = info.get("cluster_down_reason") {
        println!("{}", painter.paint(&format!("down because: {reason}"), Colour::Red));
    }
}

/// Who leads the metadata group and who votes in it, by address.
fn metadata_group(info: &BTreeMap<String, String>, nodes: &[NodeLine]) -> String {
    let address = |id: &str| {
        let node = nodes.iter().find(|node| node.id == id);
        node.map_or_else(|| id.to_owned(), |node| format!("{}:{}", node.host, node.port))
    };
    let leader = info.get("cluster_metadata_leader").map_or("nobody".to_owned(), |id| address(id));
    let voters = info.get("cluster_metadata_voters").map(String::as_str).unwrap_or_default();
    let mut voters: Vec<String> = voters.split(',').filter(|id| !id.is_empty()).map(address).collect();
    voters.sort_unstable();
    let zones = info.get("cluster_metadata_voter_zones").map_or("?", String::as_str);
    let (count, voters) = (voters.len(), voters.join(" "));
    format!("metadata group: led by {leader}; voters: {count} in {zones} zones: {voters}")
}

/// What a node says of itself.
#[derive(Default)]
struct Report {
    reachable: bool,
    written: Option<u64>,
    durable: Option<u64>,
    keys: String,
    log: String,
    link: Option<String>,
    /// A master: what its writes wait for.
    waits_for: Option<String>,
    /// A master: its `sync_replicaN` fields, by the names in them, and when they were asked for by its clock (`asked`, seconds).
    replicas: Vec<BTreeMap<String, String>>,
}

impl Report {
    fn ask(node: &NodeLine, password: Option<&str>) -> Self {
        let ask = || -> Result<Self> {
            let mut client = NodeClient::connect(&node.host, node.port, password)?;
            let info = client.fields(&["INFO", "everything"])?;
            let number = |name: &str| info.get(name).and_then(|value| value.parse().ok());
            let asked_s = number("server_time_usec").unwrap_or(0) / 1_000_000;
            let keys =
                info.get("db0").and_then(|db| db.split(',').next()?.strip_prefix("keys=").map(str::to_owned));
            Ok(Self {
                reachable: true,
                written: number("log_written_lsn"),
                durable: number("log_durable_lsn"),
                keys: keys.unwrap_or_else(|| "0".to_owned()),
                log: number("log_bytes").map(human_bytes).unwrap_or_default(),
                link: info.get("master_link_status").cloned(),
                waits_for: info.get("write_waits_for").cloned(),
                replicas: info
                    .iter()
                    .filter(|(name, _)| name.starts_with("sync_replica"))
                    .map(|(_, value)| parts(&format!("{value},asked={asked_s}")))
                    .collect(),
            })
        };
        // A node that does not answer is a row that says so.
        ask().unwrap_or_default()
    }
}

/// `name=value,name=value`
fn parts(text: &str) -> BTreeMap<String, String> {
    let pair = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split(',').filter_map(pair).collect()
}

/// A master: what its writes wait for. A replica: whether it is in sync, as its master has it, and what keeps it out.
fn sync_cell(report: &Report, replica: Option<&BTreeMap<String, String>>) -> (String, Colour) {
    if let Some(waits_for) = &report.waits_for {
        return (format!("writes wait for {}", waits_for.replace(',', " + ")), Colour::Plain);
    }
    let Some(replica) = replica else { return ("-".to_owned(), Colour::Plain) };
    let get = |name: &str| replica.get(name).map_or("?", String::as_str);
    match get("in_sync") {
        "yes" => ("yes".to_owned(), Colour::Green),
        "joining" => ("joining".to_owned(), Colour::Yellow),
        _ => {
            let since: Option<u64> = get("since").parse().ok();
            let since = match since.zip(replica.get("asked").and_then(|asked| asked.parse().ok())) {
                Some((since, asked)) => format!(" for {} s", u64::saturating_sub(asked, since)),
                None => String::new(),
            };
            (format!("NO: {}{since}", get("why")), Colour::Red)
        }
    }
}

fn row(
    node: &NodeLine,
    report: &Report,
    ends: &BTreeMap<&str, u64>,
    replica: Option<&BTreeMap<String, String>>,
) -> Vec<(String, Colour)> {
    let plain = |text: String| (text, Colour::Plain);
    let number = |value: Option<u64>| plain(value.map_or("-".to_owned(), |value| value.to_string()));
    let lag = match &node.master {
        None => plain("-".to_owned()),
        Some(master) => match (ends.get(master.as_str()), report.written) {
            (Some(&end), Some(written)) if written >= end => ("0".to_owned(), Colour::Green),
            (Some(&end), Some(written)) => (human_bytes(end - written), Colour::Yellow),
            _ => plain("-".to_owned()),
        },
    };
    let state = if node.has("fail") {
        ("FAIL", Colour::Red)
    } else if node.has("fail?") {
        ("PFAIL", Colour::Red)
    } else if !report.reachable {
        ("no answer", Colour::Red)
    } else if report.link.as_deref() == Some("down") {
        ("link down", Colour::Yellow)
    } else {
        ("ok", Colour::Green)
    };
    let short_id: String = node.id.chars().take(8).collect();
    vec![
        plain(short_id),
        plain(format!("{}:{}", node.host, node.port)),
        plain(if node.master.is_some() { "  replica".to_owned() } else { "master".to_owned() }),
        plain(if node.slots.is_empty() { "-".to_owned() } else { node.slots.join(" ") }),
        plain(report.keys.clone()),
        plain(node.epoch.clone()),
        number(report.written),
        number(report.durable),
        lag,
        sync_cell(report, replica),
        plain(report.log.clone()),
        (state.0.to_owned(), state.1),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::parse_nodes;

    #[test]
    fn a_replica_out_of_sync_says_why_and_since_when_and_a_master_what_it_waits_for() {
        let master = Report { waits_for: Some("own_log,10.0.0.2:7001".into()), ..Report::default() };
        assert_eq!(sync_cell(&master, None).0, "writes wait for own_log + 10.0.0.2:7001");
        let of = |text: &str| sync_cell(&Report::default(), Some(&parts(text))).0;
        assert_eq!(of("id=aa,in_sync=yes,link=up,asked=100"), "yes");
        assert_eq!(
            of("id=aa,in_sync=no,link=down,why=link_down,since=90,asked=102"),
            "NO: link_down for 12 s"
        );
        assert_eq!(of("id=aa,in_sync=no,link=down,asked=102"), "NO: ?");
    }

    #[test]
    fn the_metadata_group_is_told_by_address() {
        let nodes = parse_nodes(
            "aa 10.0.0.1:7000@17000 master - 0 0 1 connected\nbb 10.0.0.2:7000@17000 master - 0 0 1 connected",
        );
        let of = |pairs: &[(&str, &str)]| {
            let info = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            metadata_group(&info, &nodes)
        };
        let voters = [("cluster_metadata_voters", "bb,cc,aa"), ("cluster_metadata_voter_zones", "3")];
        assert_eq!(
            of(&[&voters[..], &[("cluster_metadata_leader", "bb")]].concat()),
            "metadata group: led by 10.0.0.2:7000; voters: 3 in 3 zones: 10.0.0.1:7000 10.0.0.2:7000 cc"
        );
        assert!(of(&voters).contains("led by nobody; voters: 3"));
    }
}
