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
    let ends: BTreeMap<&str, u64> = nodes
        .iter()
        .zip(&reports)
        .filter_map(|(node, report)| Some((node.id.as_str(), report.written?)))
        .collect();
    let rows: Vec<_> = nodes.iter().zip(&reports).map(|(node, report)| row(node, report, &ends)).collect();
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

/// What a node says of itself.
#[derive(Default)]
struct Report {
    reachable: bool,
    written: Option<u64>,
    durable: Option<u64>,
    keys: String,
    log: String,
    link: Option<String>,
}

impl Report {
    fn ask(node: &NodeLine, password: Option<&str>) -> Self {
        let ask = || -> Result<Self> {
            let mut client = NodeClient::connect(&node.host, node.port, password)?;
            let info = client.fields(&["INFO", "everything"])?;
            let number = |name: &str| info.get(name).and_then(|value| value.parse().ok());
            let keys =
                info.get("db0").and_then(|db| db.split(',').next()?.strip_prefix("keys=").map(str::to_owned));
            Ok(Self {
                reachable: true,
                written: number("log_written_lsn"),
                durable: number("log_durable_lsn"),
                keys: keys.unwrap_or_else(|| "0".to_owned()),
                log: number("log_bytes").map(human_bytes).unwrap_or_default(),
                link: info.get("master_link_status").cloned(),
            })
        };
        // A node that does not answer is a row that says so.
        ask().unwrap_or_default()
    }
}

fn row(node: &NodeLine, report: &Report, ends: &BTreeMap<&str, u64>) -> Vec<(String, Colour)> {
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
        plain(report.log.clone()),
        (state.0.to_owned(), state.1),
    ]
}
