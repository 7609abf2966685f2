//! The two servers as real processes: free ports, directories of their own, stopped by process id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_tests::client::{Client, Reply};
use holdfast_tests::ports::free_port;

use crate::machine::Cores;

/// First argument with which this binary is a node.
pub const NODE_VERB: &str = "server";
/// What both are given: the log on, synced about once a second.
pub const OPTIONS: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
/// How long a server may take to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This build.
    Holdfast,
    /// The installed redis-server.
    Redis,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast-server",
            Self::Redis => "redis-server",
        }
    }
}

/// A running server; killed when dropped.
pub struct Server {
    /// Which.
    pub kind: Kind,
    /// Its port, on 127.0.0.1.
    pub port: u16,
    /// What it says it is.
    pub version: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts the server and waits until it serves; with `cluster`, all slots.
    ///
    /// # Errors
    /// When it is not installed or does not serve.
    pub fn start(kind: Kind, below: &Path, cluster: bool, cores: &Cores) -> Result<Self> {
        let directory = below.join(kind.name());
        std::fs::create_dir(&directory).context("cannot make a data directory")?;
        let log = directory.join("log");
        let output = File::create(&log)?;
        let port = free_port();
        let mut command = match kind {
            Kind::Holdfast => {
                let myself = std::env::current_exe().context("cannot find my own binary")?;
                let mut command = cores.server_command(myself.to_str().context("a path that is no text")?);
                command.args([NODE_VERB, "--io-threads", "1"]);
                command
            }
            Kind::Redis => cores.server_command("redis-server"),
        };
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(&directory)
            .args(OPTIONS)
            .args(["--cluster-enabled", if cluster { "yes" } else { "no" }])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().with_context(|| format!("cannot start {}", kind.name()))?;
        let mut server = Self { kind, port, version: String::new(), child, log };
        server.wait_until_serves(cluster)?;
        server.version = server.ask_version()?;
        Ok(server)
    }

    fn wait_until_serves(&mut self, cluster: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut asked_for_slots = false;
        loop {
            if let Ok(mut client) = Client::connect(self.port)
                && client.try_call(&["PING"]).is_ok_and(|reply| reply.is_pong())
            {
                if !cluster {
                    return Ok(());
                }
                if !asked_for_slots {
                    let reply = client.try_call(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
                    ensure!(reply.is_ok(), "{} takes no slots: {reply}", self.kind.name());
                    asked_for_slots = true;
                }
                if client.try_call(&["CLUSTER", "INFO"])?.text().contains("cluster_state:ok") {
                    return Ok(());
                }
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.kind.name(), self.log_text());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not serve after {PATIENCE:?}:\n{}",
                self.kind.name(),
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ask_version(&self) -> Result<String> {
        let text = Client::connect(self.port)?.try_call(&["INFO", "server"])?.text();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let version =
            field("holdfast_version").or_else(|| field("redis_version")).context("INFO has no version")?;
        Ok(version.trim().to_owned())
    }

    /// The process whose CPU time counts. taskset becomes the server, so the child is it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Removes all keys, and makes the list that the LRANGE tests read.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn empty(&self) -> Result<()> {
        let mut client = Client::connect(self.port)?;
        let mut expect = |command: &[&str], good: fn(&Reply) -> bool| -> Result<()> {
            let reply = client.try_call(command)?;
            ensure!(good(&reply), "{} answers {}: {reply}", self.kind.name(), command[0]);
            Ok(())
        };
        expect(&["FLUSHALL"], Reply::is_ok)?;
        for _ in 0..600 {
            expect(&["RPUSH", crate::measure::RANGE_LIST, "xxx"], |reply| {
                matches!(reply, Reply::Integer(_))
            })?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("holdfast-bench: {} (pid {}) cannot be stopped: {error}", self.kind.name(), self.pid());
        }
    }
}

/// What `redis-benchmark --version` says.
pub fn load_version() -> String {
    let output = Command::new("redis-benchmark").arg("--version").output();
    output.map_or_else(
        |_| "not installed".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
