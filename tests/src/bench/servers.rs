//! The two servers as real processes: free ports, directories of their own, stopped by process id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_tests::client::{Client, Reply};
use holdfast_tests::ports::free_port;

use crate::machine::{Cores, Place};

/// First argument with which this binary is a node.
pub const NODE_VERB: &str = "server";
/// What both are given: the log on, synced about once a second.
pub const OPTIONS: &[&str] = &["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""];
/// How long a server may take to serve.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// This build.
    Holdfast,
    /// The installed redis-server.
    Redis,
}

impl Kind {
    /// Both, in the order of the report.
    pub const BOTH: [Self; 2] = [Self::Holdfast, Self::Redis];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast-server",
            Self::Redis => "redis-server",
        }
    }
}

/// How a server is started.
#[derive(Clone)]
pub struct Launch {
    /// Which.
    pub kind: Kind,
    /// As a cluster node that owns all slots.
    pub cluster: bool,
    /// `--io-threads` of holdfast-server.
    pub workers: u32,
    /// `--appendfsync`
    pub fsync: &'static str,
    /// Where it runs.
    pub place: Place,
    /// What else it is told.
    pub options: Vec<String>,
}

impl Launch {
    /// As in most measurements: a cluster node on the servers' core.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            cluster: true,
            workers: 1,
            fsync: "everysec",
            place: Place::ServerCore,
            options: Vec::new(),
        }
    }

    /// With these options too, where it is this server.
    pub fn with(mut self, kind: Kind, options: &[&str]) -> Self {
        if self.kind == kind {
            self.options.extend(options.iter().map(|&option| option.to_owned()));
        }
        self
    }

    /// Without checkpoints and rewrites but those that are asked for: one of them would run beside the other server's turn.
    pub fn without_rewrites(self) -> Self {
        let launch = self.with(Kind::Holdfast, &["--checkpoint-log-size", "64gb"]);
        launch.with(Kind::Redis, &["--auto-aof-rewrite-percentage", "0"])
    }

    /// With this `appendfsync`.
    pub fn with_fsync(mut self, fsync: &'static str) -> Self {
        self.fsync = fsync;
        self
    }

    /// Running there.
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    fn command(&self, cores: &Cores) -> Result<Command> {
        let mut command = match self.kind {
            Kind::Holdfast => {
                let (program, verb) = match other_build() {
                    Some(program) => (program, None),
                    None => (std::env::current_exe().context("cannot find my own binary")?, Some(NODE_VERB)),
                };
                let mut command =
                    cores.command_at(self.place, program.to_str().context("a path that is no text")?);
                command.args(verb).args(["--io-threads", &self.workers.to_string()]);
                command
            }
            Kind::Redis => cores.command_at(self.place, "redis-server"),
        };
        command.args(OPTIONS.iter().map(|&word| if word == "everysec" { self.fsync } else { word }));
        command.args(["--cluster-enabled", if self.cluster { "yes" } else { "no" }]);
        command.args(&self.options);
        Ok(command)
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
    launch: Launch,
    directory: PathBuf,
}

impl Server {
    /// Starts the server and waits until it serves; as a cluster node it takes all slots.
    ///
    /// # Errors
    /// When it is not installed or does not serve.
    pub fn start(launch: &Launch, below: &Path, cores: &Cores) -> Result<Self> {
        let mut server = Self::start_alone(launch, below, cores)?;
        if launch.cluster {
            server.take_all_slots()?;
        }
        Ok(server)
    }

    /// Starts the server and waits until it answers; it owns no slots.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub fn start_alone(launch: &Launch, below: &Path, cores: &Cores) -> Result<Self> {
        let port = free_port();
        let directory = below.join(format!("{}-{port}", launch.kind.name()));
        std::fs::create_dir(&directory).context("cannot make a data directory")?;
        let child = spawn(launch, port, &directory, cores)?;
        let kind = launch.kind;
        let launch = launch.clone();
        let mut server = Self { kind, port, version: String::new(), child, launch, directory };
        server.wait_until_answers(|reply| reply.is_pong(), &["PING"])?;
        server.version = server.ask_version()?;
        Ok(server)
    }

    /// kill -9, and starts it again without waiting for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn kill_and_spawn(&mut self, cores: &Cores) -> Result<()> {
        self.kill()?;
        self.child = spawn(&self.launch, self.port, &self.directory, cores)?;
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .with_context(|| format!("{} (pid {}) cannot be stopped", self.kind.name(), self.child.id()))?;
        Ok(())
    }

    fn take_all_slots(&mut self) -> Result<()> {
        let reply = self.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])?;
        ensure!(reply.is_ok(), "{} takes no slots: {reply}", self.kind.name());
        self.wait_until_answers(|reply| reply.to_string().contains("cluster_state:ok"), &["CLUSTER", "INFO"])
    }

    /// Asks until the answer is good.
    ///
    /// # Errors
    /// When the server ends or does not answer so for too long.
    pub fn wait_until_answers(&mut self, is_good: fn(&Reply) -> bool, words: &[&str]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = Client::connect(self.port).and_then(|mut client| client.try_call(words));
            if answer.as_ref().is_ok_and(is_good) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.kind.name(), self.log_text());
            }
            ensure!(
                Instant::now() < deadline,
                "{} answers {words:?} with {answer:?} after {PATIENCE:?}:\n{}",
                self.kind.name(),
                self.log_text()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn ask_version(&self) -> Result<String> {
        let text = self.info("server")?;
        let version = field(&text, "holdfast_version").or_else(|| field(&text, "redis_version"));
        Ok(version.context("INFO has no version")?.to_owned())
    }

    /// The process whose CPU time counts. taskset becomes the server, so the child is it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks on a connection of its own.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn ask(&self, words: &[&str]) -> Result<Reply> {
        let asked = || format!("{} is asked {}", self.kind.name(), words[0]);
        Client::connect(self.port).and_then(|mut client| client.try_call(words)).with_context(asked)
    }

    /// A section of INFO.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn info(&self, section: &str) -> Result<String> {
        match self.ask(&["INFO", section])? {
            Reply::Bulk(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
            other => bail!("{} answers INFO with {other}", self.kind.name()),
        }
    }

    /// A number of a section of INFO.
    ///
    /// # Errors
    /// When the server does not answer or has no such number.
    pub fn number(&self, section: &str, name: &str) -> Result<f64> {
        let text = self.info(section)?;
        let number = field(&text, name).and_then(|value| value.parse().ok());
        number.with_context(|| format!("INFO {section} of {} has no number {name}", self.kind.name()))
    }

    /// Whether a checkpoint or a rewrite runs.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn is_rewriting(&self) -> Result<bool> {
        let info = self.info("persistence")?;
        let runs = |name| field(&info, name).is_some_and(|value| value != "0");
        Ok(["rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"]
            .into_iter()
            .any(runs))
    }

    /// Waits until no checkpoint and no rewrite runs.
    ///
    /// # Errors
    /// When the server does not answer, or it takes too long.
    pub fn wait_until_settled(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.is_rewriting()? {
            ensure!(Instant::now() < deadline, "{} rewrites for over {PATIENCE:?}", self.kind.name());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Asks for a checkpoint or rewrite and waits for its end.
    ///
    /// # Errors
    /// When the server refuses, or it takes too long.
    pub fn rewrite(&self) -> Result<()> {
        self.wait_until_settled()?;
        let written = match self.kind {
            Kind::Holdfast => self.number("log", "log_written_lsn")?,
            Kind::Redis => 0.0,
        };
        let reply = self.ask(&["BGREWRITEAOF"])?;
        ensure!(reply.to_string().contains("rewriting"), "BGREWRITEAOF is answered {reply}");
        // redis-server answers when it has forked; holdfast-server before its checkpoint begins.
        let deadline = Instant::now() + PATIENCE;
        while self.kind == Kind::Holdfast && self.number("log", "log_checkpoint_lsn")? < written {
            ensure!(Instant::now() < deadline, "no checkpoint reaches {written} within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        self.wait_until_settled()
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
        if let Err(error) = self.kill() {
            eprintln!("holdfast-bench: {error:#}");
        }
        // What stays would fill the disk of a run of all sections; the bench's own directory goes at its end in any case.
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("holdfast-bench: {} cannot be removed: {error}", self.directory.display());
        }
    }
}

/// The holdfast-server that is measured in place of this build: the one in the directory `HOLDFAST_TEST_BINARIES`.
pub fn other_build() -> Option<PathBuf> {
    std::env::var_os("HOLDFAST_TEST_BINARIES").map(|directory| Path::new(&directory).join("holdfast-server"))
}

fn spawn(launch: &Launch, port: u16, directory: &Path, cores: &Cores) -> Result<Child> {
    let output = File::options().create(true).append(true).open(directory.join("log"))?;
    let mut command = launch.command(cores)?;
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    command.spawn().with_context(|| format!("cannot start {}", launch.kind.name()))
}

/// A field of INFO.
pub fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// What `redis-benchmark --version` says.
pub fn load_version() -> String {
    let output = Command::new("redis-benchmark").arg("--version").output();
    output.map_or_else(
        |_| "not installed".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
