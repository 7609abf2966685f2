//! `holdfast up` and `holdfast down`: a real cluster on this machine, one process per node, each with a directory of its own
//! under `--dir`. The cluster's shape is written there too, so that the next `up` brings back the same one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use holdfast_cluster::voters::VOTERS_IN_ONE_ZONE_MAX;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::nodes::{NodeClient, parse_nodes};
use crate::print::{Colour, Painter};

/// How long the cluster may take to serve, and a node to stop.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the voters of the metadata group are waited for.
const VOTERS_PATIENCE: Duration = Duration::from_secs(15);
/// What CTRL-C in a terminal sends to all processes of it; the nodes are asked to stop by us instead.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What `holdfast up` takes.
#[derive(Args)]
pub struct UpArguments {
    /// Masters; at least three, so that the rest is a majority when one machine fails
    #[arg(long, default_value_t = 3)]
    masters: u16,
    /// Replicas of each master
    #[arg(long, default_value_t = 1)]
    replicas: u16,
    /// Data port of the first node; the others follow, the bus is 10000 above
    #[arg(long, short, default_value_t = 7000)]
    port: u16,
    /// Where the nodes keep their data
    #[arg(long, short, default_value = "data")]
    dir: PathBuf,
    /// Address to bind and announce
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Leave the cluster running in the background
    #[arg(long)]
    detach: bool,
    /// Options for every node, as holdfast-server takes them: -- --appendfsync always
    #[arg(last = true)]
    options: Vec<String>,
}

/// What `holdfast down` takes.
#[derive(Args)]
pub struct DownArguments {
    /// Where the nodes keep their data
    #[arg(long, short, default_value = "data")]
    dir: PathBuf,
}

/// FORMAT: `cluster.json` in the cluster's directory: the shape of the cluster that lives there.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
struct Shape {
    version: u32,
    host: String,
    first_port: u16,
    masters: u16,
    replicas: u16,
    /// Whether the cluster was formed; until then the next `up` forms it.
    formed: bool,
}

const SHAPE_VERSION: u32 = 1;

impl Shape {
    fn path(dir: &Path) -> PathBuf {
        dir.join("cluster.json")
    }

    fn load(dir: &Path) -> Result<Option<Self>> {
        let path = Self::path(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let shape: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(shape.version <= SHAPE_VERSION, "{} was written by a newer holdfast", path.display());
        Ok(Some(shape))
    }

    fn save(&self, dir: &Path) -> Result<()> {
        let path = Self::path(dir);
        let temporary = dir.join("cluster.json.new");
        fs::write(&temporary, serde_json::to_vec_pretty(self)?)?;
        File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        let count = self.masters * (1 + self.replicas);
        self.first_port..self.first_port + count
    }

    fn master_ports(&self) -> impl Iterator<Item = u16> {
        self.first_port..self.first_port + self.masters
    }

    /// `(replica, master)`: the replicas of one master follow each other's a round apart.
    fn replica_ports(&self) -> impl Iterator<Item = (u16, u16)> {
        let (first, masters) = (self.first_port, self.masters);
        (0..masters * self.replicas).map(move |index| (first + masters + index, first + index % masters))
    }
}

/// Starts the cluster, waits until it serves, and keeps it running until Ctrl-C unless `--detach`.
///
/// # Errors
/// When the shape is refused, a port is taken, or the cluster does not come to serve; what was started is stopped again.
pub fn up(arguments: &UpArguments) -> Result<()> {
    ensure!(
        arguments.masters >= 3,
        "--masters {} is refused: failover needs a majority of masters, and with fewer than three the loss of one machine \
         leaves none. Take at least three",
        arguments.masters,
    );
    fs::create_dir_all(&arguments.dir).with_context(|| format!("cannot make {}", arguments.dir.display()))?;
    let mut shape = shape_for(arguments)?;
    let last =
        u32::from(shape.first_port) + u32::from(shape.masters) * (1 + u32::from(shape.replicas)) + 10_000;
    ensure!(
        last <= 65_536,
        "--port {} is too high: the bus ports, 10000 above, would pass 65535",
        shape.first_port
    );
    for port in shape.ports() {
        for taken in [port, port + 10_000] {
            TcpListener::bind((shape.host.as_str(), taken)).with_context(|| {
                format!(
                    "port {taken} is taken; is a cluster running already? (holdfast status, holdfast down)"
                )
            })?;
        }
    }
    handle_interrupt()?;
    let progress = Progress::new();
    let mut cluster = LocalCluster { nodes: Vec::new(), detached: false };
    for port in shape.ports() {
        cluster.nodes.push(LocalNode::start(arguments, &shape, port)?);
    }
    progress.say("waiting for the nodes to answer");
    for node in &mut cluster.nodes {
        node.wait_until_answers(&shape.host)?;
    }
    if !shape.formed {
        form(&shape, &progress)?;
        shape.formed = true;
        shape.save(&arguments.dir)?;
    }
    wait_until_serves(&mut cluster, &shape, &progress)?;
    progress.done();
    print_welcome(&shape, arguments);
    if arguments.detach {
        cluster.detached = true;
        return Ok(());
    }
    cluster.watch()?;
    println!("stopping: the logs are made durable and checkpoints taken");
    cluster.stop()
}

fn shape_for(arguments: &UpArguments) -> Result<Shape> {
    let wanted = Shape {
        version: SHAPE_VERSION,
        host: arguments.host.clone(),
        first_port: arguments.port,
        masters: arguments.masters,
        replicas: arguments.replicas,
        formed: false,
    };
    let Some(found) = Shape::load(&arguments.dir)? else {
        wanted.save(&arguments.dir)?;
        return Ok(wanted);
    };
    let same = Shape { formed: found.formed, ..wanted };
    ensure!(
        same == found,
        "{} holds a cluster of {} masters with {} replicas each at {} from port {}; start it with these, or take another --dir",
        arguments.dir.display(),
        found.masters,
        found.replicas,
        found.host,
        found.first_port,
    );
    Ok(found)
}

fn handle_interrupt() -> Result<()> {
    extern "C" fn note(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Release);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let action = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
        #[expect(unsafe_code, reason = "the standard library installs no signal handlers")]
        // SAFETY: the handler only stores to an atomic, which is allowed in a signal handler.
        let before = unsafe { libc::signal(signal, action) };
        ensure!(before != libc::SIG_ERR, "cannot handle Ctrl-C: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

struct LocalNode {
    port: u16,
    child: Child,
    log: PathBuf,
}

impl LocalNode {
    fn start(arguments: &UpArguments, shape: &Shape, port: u16) -> Result<Self> {
        let directory = arguments.dir.join(port.to_string());
        fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let directory = directory.canonicalize()?;
        let log = directory.join("node.log");
        let output = File::options().create(true).append(true).open(&log)?;
        let mut command = Command::new(std::env::current_exe().context("cannot find my own binary")?);
        command
            .args(["server", "--port", &port.to_string(), "--bind", &shape.host, "--cluster-enabled", "yes"])
            .args(["--cluster-announce-ip", &shape.host, "--dir"])
            .arg(&directory)
            .args(&arguments.options)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        // Its own process group: Ctrl-C reaches us alone, and we stop the nodes in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().context("cannot start a node")?;
        fs::write(directory.join("node.pid"), child.id().to_string())?;
        Ok(Self { port, child, log })
    }

    fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
            bail!(
                "the node on port {} ended with {status}; the end of {}:\n  {tail}",
                self.port,
                self.log.display()
            );
        }
        Ok(())
    }

    fn wait_until_answers(&mut self, host: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check_alive()?;
            check_interrupted()?;
            let answered = NodeClient::connect(host, self.port, None)
                .and_then(|mut node| node.call::<String>(&["PING"]));
            if answered.is_ok() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the node on port {} does not answer; see {}",
                self.port,
                self.log.display()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn check_interrupted() -> Result<()> {
    ensure!(!INTERRUPTED.load(Ordering::Acquire), "interrupted");
    Ok(())
}

struct LocalCluster {
    nodes: Vec<LocalNode>,
    detached: bool,
}

impl LocalCluster {
    fn check_alive(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(LocalNode::check_alive)
    }

    /// Waits for Ctrl-C; a node that ends by itself is reported, the others go on: that is what a cluster is for.
    fn watch(&mut self) -> Result<()> {
        let mut reported = vec![false; self.nodes.len()];
        while !INTERRUPTED.load(Ordering::Acquire) {
            for (node, reported) in self.nodes.iter_mut().zip(&mut reported) {
                if let Some(status) = node.child.try_wait()?
                    && !*reported
                {
                    *reported = true;
                    eprintln!(
                        "the node on port {} ended with {status}; see {}",
                        node.port,
                        node.log.display()
                    );
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if node.child.try_wait()?.is_none() {
                terminate(node.child.id())?;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for node in &mut self.nodes {
            while node.child.try_wait()?.is_none() {
                ensure!(
                    Instant::now() < deadline,
                    "the node on port {} does not stop; see {}",
                    node.port,
                    node.log.display()
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.nodes.clear();
        Ok(())
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if !self.detached
            && let Err(error) = self.stop()
        {
            eprintln!("holdfast: {error:#}");
        }
    }
}

fn terminate(pid: u32) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("not a process id")?;
    match rustix::process::kill_process(pid, rustix::process::Signal::TERM) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("cannot stop a node"),
    }
}

struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    fn say(&self, what: &str) {
        if self.0.is_hidden() {
            println!("{what}");
        }
        self.0.set_message(what.to_owned());
    }

    fn done(&self) {
        self.0.finish_and_clear();
    }
}

/// Makes one cluster of lone nodes: slots, meetings, replicas. Each step is idempotent, so that an interrupted `up` goes on.
fn form(shape: &Shape, progress: &Progress) -> Result<()> {
    let connect = |port| NodeClient::connect(&shape.host, port, None);
    progress.say("giving the masters their slots");
    for (index, port) in shape.master_ports().enumerate() {
        let mut node = connect(port)?;
        let mine = parse_nodes(&node.call::<String>(&["CLUSTER", "NODES"])?);
        if mine.iter().any(|line| line.has("myself") && !line.slots.is_empty()) {
            continue;
        }
        let (first, last) = share(index as u32, u32::from(shape.masters));
        node.call::<String>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
    }
    let total = shape.ports().count();
    let first_port = shape.first_port.to_string();
    for (met, port) in shape.ports().enumerate().skip(1) {
        progress.say(&format!("joining the nodes: {met} of {total}"));
        let mut node = connect(port)?;
        node.set_patience(PATIENCE)?;
        let known = node.fields(&["CLUSTER", "INFO"])?;
        if known.get("cluster_known_nodes").is_some_and(|count| count == "1") {
            node.call::<String>(&["CLUSTER", "MEET", &shape.host, &first_port])?;
        }
    }
    progress.say("waiting until every node knows every other");
    for port in shape.ports() {
        wait_for(&format!("the node on port {port} to know all nodes"), || {
            let nodes = parse_nodes(&connect(port)?.call::<String>(&["CLUSTER", "NODES"])?);
            Ok(nodes.len() == total)
        })?;
    }
    let ids = parse_nodes(&connect(shape.first_port)?.call::<String>(&["CLUSTER", "NODES"])?);
    let id_of = |port: u16| ids.iter().find(|node| node.port == port).map(|node| node.id.clone());
    for (replica, master) in shape.replica_ports() {
        progress.say(&format!("making {replica} a replica of {master}"));
        let master_id = id_of(master).with_context(|| format!("nobody knows the node on port {master}"))?;
        let mut node = connect(replica)?;
        node.set_patience(PATIENCE)?;
        node.call::<String>(&["CLUSTER", "REPLICATE", &master_id])?;
    }
    Ok(())
}

/// The slots of master `index` of `count`: shares that differ by at most one.
fn share(index: u32, count: u32) -> (u32, u32) {
    let bound = |index: u32| (16_384 * index + count / 2) / count;
    (bound(index), bound(index + 1) - 1)
}

fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        check_interrupted()?;
        let last = done();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            last?;
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// While voters are taken on, masters stop for moments: nobody should meet that who has been told that the cluster serves. Nodes
/// that the user gave zones of their own may want fewer voters, and a cluster that lost some nodes has fewer: it serves as well.
fn wait_for_voters(cluster: &mut LocalCluster, shape: &Shape, progress: &Progress) -> Result<()> {
    let wanted = shape.ports().count().min(VOTERS_IN_ONE_ZONE_MAX);
    let wanted = wanted - usize::from(wanted.is_multiple_of(2));
    let deadline = Instant::now() + VOTERS_PATIENCE;
    while Instant::now() < deadline {
        check_interrupted()?;
        cluster.check_alive()?;
        let info = NodeClient::connect(&shape.host, shape.first_port, None)?.fields(&["CLUSTER", "INFO"])?;
        let voters = info.get("cluster_metadata_voters").map_or(0, |voters| voters.split(',').count());
        if voters >= wanted {
            break;
        }
        progress.say(&format!("taking on voters: {voters} of {wanted}"));
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn wait_until_serves(cluster: &mut LocalCluster, shape: &Shape, progress: &Progress) -> Result<()> {
    wait_for_voters(cluster, shape, progress)?;
    for port in shape.ports() {
        wait_for(&format!("cluster_state:ok on port {port}"), || {
            cluster.check_alive()?;
            let mut node = NodeClient::connect(&shape.host, port, None)?;
            let info = node.fields(&["CLUSTER", "INFO"])?;
            let get = |name: &str| info.get(name).map_or("?", String::as_str);
            let (state, assigned) = (get("cluster_state"), get("cluster_slots_assigned"));
            progress.say(&format!("port {port}: cluster_state:{state}, {assigned} of 16384 slots assigned"));
            let replication = node.fields(&["INFO", "replication"])?;
            Ok(state == "ok" && replication.get("master_link_status").is_none_or(|link| link == "up"))
        })?;
    }
    // Before that a kill -9 of a master would find nobody who may take over.
    for port in shape.ports() {
        wait_for(&format!("the replicas of port {port} to be in sync"), || {
            cluster.check_alive()?;
            let replication =
                NodeClient::connect(&shape.host, port, None)?.fields(&["INFO", "replication"])?;
            let late = replicas_of(&replication).filter(|replica| !replica.contains("in_sync=1")).count();
            if late > 0 {
                progress.say(&format!("port {port}: {late} replicas are not in sync yet"));
            }
            Ok(late == 0)
        })?;
    }
    Ok(())
}

/// What a master's INFO says of each of its replicas.
fn replicas_of(replication: &BTreeMap<String, String>) -> impl Iterator<Item = &String> {
    let is_replica = |name: &str| {
        name.strip_prefix("slave")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    replication.iter().filter(move |(name, _)| is_replica(name)).map(|(_, value)| value)
}

fn print_welcome(shape: &Shape, arguments: &UpArguments) {
    let painter = Painter::for_stdout();
    let ports: Vec<u16> = shape.ports().collect();
    println!("{}", painter.paint("cluster_state:ok", Colour::Green));
    println!(
        "{} masters, {} replicas on {}, ports {}-{}, data under {}",
        shape.masters,
        ports.len() - usize::from(shape.masters),
        shape.host,
        ports[0],
        ports[ports.len() - 1],
        arguments.dir.display(),
    );
    let first = &ports[0];
    println!("connect:  redis-cli -c -h {} -p {first}", shape.host);
    println!("look:     holdfast status --port {first}");
    if arguments.detach {
        println!("stop:     holdfast down --dir {}", arguments.dir.display());
    } else {
        println!("stop:     Ctrl-C");
    }
}

/// Stops the nodes of a cluster that runs in the background.
///
/// # Errors
/// When there is no cluster in the directory, or a node does not stop.
pub fn down(arguments: &DownArguments) -> Result<()> {
    let dir = &arguments.dir;
    let shape =
        Shape::load(dir)?.with_context(|| format!("{} holds no cluster (no cluster.json)", dir.display()))?;
    let mut running = Vec::new();
    for port in shape.ports() {
        let path = dir.join(port.to_string()).join("node.pid");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let pid: u32 = text.trim().parse().with_context(|| format!("{} is damaged", path.display()))?;
        if is_our_node(pid, port) {
            terminate(pid)?;
            running.push((port, pid));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for &(port, pid) in &running {
        while is_our_node(pid, port) {
            ensure!(Instant::now() < deadline, "the node on port {port} (process {pid}) does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    println!("{} nodes stopped", running.len());
    Ok(())
}

/// Whether the process is still the node on this port: process ids are used again.
fn is_our_node(pid: u32, port: u16) -> bool {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    words.windows(2).any(|pair| pair[0] == b"--port" && pair[1] == port.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_slots_cover_all_without_overlap() {
        for count in 3..20 {
            let mut next = 0;
            for index in 0..count {
                let (first, last) = share(index, count);
                assert_eq!(first, next);
                next = last + 1;
            }
            assert_eq!(next, 16_384);
        }
        assert_eq!(share(0, 3), (0, 5460), "as redis-cli --cluster create deals them");
    }

    #[test]
    fn each_master_gets_its_replicas() {
        let shape = Shape {
            version: 1,
            host: String::new(),
            first_port: 7000,
            masters: 3,
            replicas: 2,
            formed: false,
        };
        let pairs: Vec<(u16, u16)> = shape.replica_ports().collect();
        assert_eq!(
            pairs,
            [(7003, 7000), (7004, 7001), (7005, 7002), (7006, 7000), (7007, 7001), (7008, 7002)]
        );
        assert_eq!(shape.ports().count(), 9);
    }
}
