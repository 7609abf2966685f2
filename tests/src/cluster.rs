//! Six nodes as real processes, formed to a cluster of three masters with a replica each by `redis-cli --cluster create`.
//!
//! With `HOLDFAST_TEST_PEER=redis-server` in the environment the nodes are Redis's own: the tests are tried on it, not it on
//! them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use holdfast_words::SlotId;

use crate::client::{Client, Reply};
use crate::cluster_view::{self, complaint, has_slot, info_number};
use crate::network::Network;
use crate::process::{Binary, Node};

/// `cluster-node-timeout` of all test clusters: short, so that failovers are quick.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a cluster may take to become whole.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a suite's clusters live: the binary under test, and a directory of the suite's own that is emptied before use and
/// stays to be looked at.
#[derive(Clone, Copy)]
pub struct Place {
    /// `env!("CARGO_BIN_EXE_holdfast-under-test")`
    pub binary: Binary,
    /// `env!("CARGO_TARGET_TMPDIR")`
    pub target: &'static str,
    /// The suite's name.
    pub suite: &'static str,
}

/// Whether the nodes are not ours but this program.
pub fn peer() -> Option<String> {
    std::env::var("HOLDFAST_TEST_PEER").ok().filter(|program| !program.is_empty())
}

/// Waits until a condition holds.
///
/// # Panics
/// When it does not within `patience`; `complaint` says what is still missing, `None` that it holds.
pub fn wait_for(what: &str, patience: Duration, mut complaint: impl FnMut() -> Option<String>) {
    let deadline = Instant::now() + patience;
    while let Some(missing) = complaint() {
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}: {missing}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Nodes, formed to a cluster or not yet.
pub struct ClusterUnderTest {
    /// The nodes, in the order of their start; masters first after forming.
    pub nodes: Vec<Node>,
    directory: PathBuf,
}

impl ClusterUnderTest {
    /// Nodes that run and do not know each other.
    pub fn lone_nodes(place: Place, name: &str, count: usize, options: &[&str]) -> Self {
        let directory = Path::new(place.target).join(place.suite).join(name);
        if directory.exists() {
            std::fs::remove_dir_all(&directory).expect("what an earlier run left can be removed");
        }
        let mut cluster = Self { nodes: Vec::new(), directory };
        (0..count).for_each(|_| cluster.add_node(place, options));
        cluster.nodes.iter_mut().for_each(Node::wait_until_serves);
        cluster
    }

    /// Three masters with a replica each, whole, two nodes on each of three machines and no shard on one alone.
    pub fn formed_on(place: Place, name: &str, options: &[&str], network: &Network) -> Self {
        let mut cluster = Self::lone_nodes(place, name, 0, options);
        for index in 0..6 {
            cluster.add_stopped_node(place, options);
            let (namespace, host) = network.machine(index % 3);
            cluster.nodes[index].move_to(namespace, host);
            // Nodes protect themselves from what comes from elsewhere.
            cluster.nodes[index].add_options(&["--protected-mode", "no"]);
            cluster.nodes[index].add_options(&["--cluster-announce-ip", &host.to_string()]);
        }
        cluster.restart_all();
        cluster.form();
        cluster
    }

    /// Three masters with a replica each, whole.
    pub fn formed(place: Place, name: &str, options: &[&str]) -> Self {
        let cluster = Self::lone_nodes(place, name, 6, options);
        cluster.form();
        cluster
    }

    /// Six nodes on what they take for three machines (zones): each has one master and the replica of another one's. Returns
    /// `(master, replica)` by zone of the master.
    pub fn on_three_machines(place: Place, name: &str, options: &[&str]) -> (Self, Vec<(usize, usize)>) {
        const ZONES: [&str; 3] = ["a", "b", "c"];
        let mut cluster = Self::lone_nodes(place, name, 0, options);
        for zone in ZONES {
            cluster.add_node(place, &[options, &["--cluster-zone", zone]].concat());
        }
        ZONES.iter().for_each(|_| cluster.add_node(place, options));
        cluster.nodes.iter_mut().for_each(Node::wait_until_serves);
        cluster.form();
        let mut shards = cluster.shards(0);
        shards.sort_unstable();
        // Only now is known whose replica each is.
        for (at, (master, replica)) in shards.iter().enumerate() {
            assert_eq!(*master, at, "the first nodes are the masters");
            cluster.nodes[*replica].add_options(&["--cluster-zone", ZONES[(at + 1) % ZONES.len()]]);
            cluster.stop(*replica);
            cluster.restart(*replica);
        }
        cluster.wait_until_whole();
        cluster.wait_replicas_caught_up();
        (cluster, shards)
    }

    /// Where the node with this index has, or will have, its directory.
    pub fn directory_of(&self, index: usize) -> PathBuf {
        self.directory.join(index.to_string())
    }

    /// Spawns one more node.
    pub fn add_node(&mut self, place: Place, options: &[&str]) {
        self.add_stopped_node(place, options);
        self.nodes.last_mut().expect("one was just added").spawn();
    }

    fn add_stopped_node(&mut self, place: Place, options: &[&str]) {
        let directory = self.directory_of(self.nodes.len());
        let mut node = match peer() {
            None => Node::new(place.binary, &directory, options),
            Some(program) => {
                let theirs = options.chunks_exact(2).filter(|pair| is_known_to_redis(pair[0]));
                let options: Vec<&str> = theirs.flatten().copied().collect();
                let mut node = Node::of_program(&[&program], &directory, &options);
                node.add_options(&["--appendonly", "yes", "--save", "", "--enable-debug-command", "yes"]);
                node.add_options(&["--repl-diskless-sync-delay", "0"]);
                node
            }
        };
        let timeout = NODE_TIMEOUT.as_millis().to_string();
        node.add_options(&["--cluster-enabled", "yes", "--cluster-node-timeout", &timeout]);
        self.nodes.push(node);
    }

    /// Forms the cluster as an operator does, and waits until it is whole.
    pub fn form(&self) {
        let addresses = self.addresses();
        let mut words = vec!["--cluster", "create"];
        words.extend(addresses.iter().map(String::as_str));
        words.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let output = redis_cli(&words);
        assert!(output.status.success(), "{}\n{}", text_of(&output), self.logs());
        self.wait_until_whole();
    }

    /// `host:port` of every node.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_string()).collect()
    }

    /// The data port of every node.
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.port).collect()
    }

    /// A key `{prefix:number}` of the slots that a master serves, its name the hash tag of a slot.
    pub fn key_served_by(&self, master: usize, prefix: &str) -> String {
        let nodes = cluster_view::nodes(self.nodes[master].address()).expect("the master answers");
        let myself = nodes.iter().find(|node| node.has("myself")).expect("a node sees itself");
        let mut keys = (0..10_000).map(|number| format!("{{{prefix}:{number}}}"));
        keys.find(|key| has_slot(myself, slot_of(key))).expect("the master serves slots")
    }

    /// The indices of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].is_running()).collect()
    }

    /// Waits until every running node sees all nodes, none failed, all slots served, and every replica follows.
    pub fn wait_until_whole(&self) {
        let count = self.nodes.len();
        self.wait_until("the cluster to be whole", PATIENCE, || {
            self.running().into_iter().find_map(|index| {
                let port = self.nodes[index].port;
                complaint(self.nodes[index].address(), count).map(|text| format!("{port} {text}"))
            })
        });
    }

    /// Waits until a condition holds; on failure the nodes' logs are printed.
    pub fn wait_until(&self, what: &str, patience: Duration, mut complaint: impl FnMut() -> Option<String>) {
        let deadline = Instant::now() + patience;
        while let Some(missing) = complaint() {
            if Instant::now() > deadline {
                panic!("waited {patience:?} for {what}: {missing}\n{}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The end of every node's log.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n  ");
            text.push_str(&format!("--- node {index} on port {}\n  {tail}\n", node.port));
        }
        text
    }

    /// No node has logged an error or panicked: what these tests do is what a cluster is for.
    pub fn assert_no_errors_logged(&self) {
        if peer().is_some() {
            return;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let log = node.log();
            let errors: Vec<&str> =
                log.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked at")).collect();
            assert!(errors.is_empty(), "node {index} on port {} says: {errors:#?}", node.port);
        }
    }

    /// A connection to a node.
    pub fn client(&self, index: usize) -> Client {
        self.nodes[index].client()
    }

    /// Asks a node something.
    pub fn ask(&self, index: usize, words: &[&str]) -> Reply {
        self.client(index).call(words)
    }

    /// kill -9.
    pub fn kill9(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// kill -9 of all that run, at once.
    pub fn kill9_all(&mut self) {
        for index in self.running() {
            self.nodes[index].signal(libc::SIGKILL);
        }
        self.running().into_iter().for_each(|index| self.nodes[index].kill());
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, index: usize) {
        let status = self.nodes[index].terminate();
        assert!(status.success(), "node {index} ended with {status}:\n{}", self.nodes[index].log());
    }

    /// SIGSTOP: the node is there and says nothing.
    pub fn pause(&self, index: usize) {
        self.nodes[index].signal(libc::SIGSTOP);
        self.nodes[index].wait_until_stopped();
    }

    /// SIGCONT.
    pub fn resume(&self, index: usize) {
        self.nodes[index].signal(libc::SIGCONT);
    }

    /// Starts a stopped node and waits until it answers.
    pub fn restart(&mut self, index: usize) {
        self.nodes[index].start();
    }

    /// Starts all that do not run, at once, and waits until they answer.
    pub fn restart_all(&mut self) {
        self.nodes.iter_mut().filter(|node| !node.is_running()).for_each(Node::spawn);
        self.nodes.iter_mut().for_each(Node::wait_until_serves);
    }

    /// The node on a port.
    pub fn index_of(&self, port: u16) -> usize {
        self.nodes.iter().position(|node| node.port == port).expect("a node of this cluster")
    }

    /// The node that serves a slot, in the eyes of `witness`.
    pub fn master_of_slot(&self, witness: usize, slot: u16) -> usize {
        let nodes = cluster_view::nodes(self.nodes[witness].address()).expect("the witness answers");
        let master = nodes.iter().find(|node| node.master.is_none() && has_slot(node, slot));
        self.index_of(master.expect("every slot is served").port)
    }

    /// The replica of a master, in the eyes of `witness`.
    pub fn replica_of(&self, witness: usize, master: usize) -> usize {
        let nodes = cluster_view::nodes(self.nodes[witness].address()).expect("the witness answers");
        let id = &nodes.iter().find(|node| node.port == self.nodes[master].port).expect("it is known").id;
        let replica = nodes.iter().find(|node| node.master.as_ref() == Some(id) && !node.has("fail"));
        self.index_of(replica.expect("every master has a replica").port)
    }

    /// `(master, replica)`, in the eyes of `witness`.
    pub fn shards(&self, witness: usize) -> Vec<(usize, usize)> {
        let nodes = cluster_view::nodes(self.nodes[witness].address()).expect("the witness answers");
        let masters = nodes.iter().filter(|node| !node.slots.is_empty());
        masters
            .map(|node| self.index_of(node.port))
            .map(|index| (index, self.replica_of(witness, index)))
            .collect()
    }

    /// Waits until every running node sees the node as master of its shard's slots, and the cluster as serving.
    pub fn wait_until_promoted(&self, promoted: usize) {
        let port = self.nodes[promoted].port;
        self.wait_until(&format!("all to see {port} as master"), PATIENCE, || {
            self.running().into_iter().find_map(|index| {
                let own = self.nodes[index].address();
                let nodes = cluster_view::nodes(own).unwrap_or_default();
                let sees = nodes.iter().any(|node| node.port == port && !node.slots.is_empty());
                let state =
                    cluster_view::cluster_info(own, "cluster_state").ok().flatten().unwrap_or_default();
                (!sees || state != "ok").then(|| format!("{own}: sees it: {sees}, cluster_state:{state}"))
            })
        });
    }

    /// Whether a node says it is a master.
    pub fn is_master(&self, index: usize) -> bool {
        self.ask(index, &["ROLE"]).array()[0].text() == "master"
    }

    /// A node's id.
    pub fn id(&self, index: usize) -> String {
        self.ask(index, &["CLUSTER", "MYID"]).text()
    }

    /// Waits until every replica has applied what its master had written when this was called.
    pub fn wait_replicas_caught_up(&self) {
        for (master, replica) in self.shards(self.running()[0]) {
            self.wait_caught_up(master, replica);
        }
    }

    /// Waits until a replica has applied what its master had written when this was called, and may take over from it.
    pub fn wait_caught_up(&self, master: usize, replica: usize) {
        let offset = |index: usize, name: &str| info_number(self.nodes[index].address(), name);
        let goal = offset(master, "master_repl_offset").expect("the master answers");
        self.wait_until(&format!("replica {replica} to reach {goal}"), PATIENCE, || {
            match offset(replica, "slave_repl_offset") {
                Ok(position) if position >= goal => None,
                position => Some(format!("it is at {position:?}")),
            }
        });
        if peer().is_some() {
            return;
        }
        let port = format!("port={},", self.nodes[replica].port);
        self.wait_until(&format!("replica {replica} to be in sync"), PATIENCE, || {
            let info = self.ask(master, &["INFO", "replication"]).text();
            let line = info.lines().find(|line| line.contains(&port)).unwrap_or_default().to_owned();
            (!line.contains("in_sync=1")).then_some(line)
        });
    }

    /// A digest of all that a node holds.
    pub fn digest(&self, index: usize) -> String {
        self.ask(index, &["DEBUG", "DIGEST"]).text()
    }

    /// Every replica holds what its master holds.
    pub fn assert_equal_digests(&self) {
        self.wait_replicas_caught_up();
        for (master, replica) in self.shards(self.running()[0]) {
            let digests = (self.digest(master), self.digest(replica));
            assert_eq!(digests.0, digests.1, "master {master}, replica {replica}\n{}", self.logs());
        }
    }
}

fn is_known_to_redis(option: &str) -> bool {
    !["--cluster-secret", "--wal-", "--checkpoint-"].iter().any(|ours| option.starts_with(ours))
}

/// The slot of a key.
pub fn slot_of(key: &str) -> u16 {
    SlotId::of_key(key.as_bytes()).number()
}

/// Runs redis-cli.
pub fn redis_cli(words: &[&str]) -> Output {
    Command::new("redis-cli").args(words).output().expect("redis-cli is installed (redis-tools)")
}

/// What a program printed, on both streams.
pub fn text_of(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
