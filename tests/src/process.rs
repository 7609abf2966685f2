//! One node as a real process: started with options, waited for, killed, started again on the same directory. It dies with
//! the test process, however that ends: its standard input is a pipe from here ([`DIE_WITH_STDIN`]).

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::ports::free_port;

/// How long a node may take to serve after its start, or to stop.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the binary under test is; the test suites pass `env!("CARGO_BIN_EXE_holdfast-under-test")`.
pub type Binary = &'static str;

/// Set for a node whose end of standard input is its own end; `under_test.rs` sees to it.
pub const DIE_WITH_STDIN: &str = "HOLDFAST_TEST_DIE_WITH_STDIN";

/// A node: its directory and port outlive its process.
pub struct Node {
    program: Vec<String>,
    directory: PathBuf,
    /// The data port.
    pub port: u16,
    host: Ipv4Addr,
    config: Option<String>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Node {
    /// A node that is not started yet; its data goes to `directory`.
    pub fn new(binary: Binary, directory: &Path, options: &[&str]) -> Self {
        Self::of_program(&[binary, "server"], directory, options)
    }

    /// As [`Self::new`], of a program that takes the same options as a node: the peer tests are tried on.
    pub fn of_program(program: &[&str], directory: &Path, options: &[&str]) -> Self {
        std::fs::create_dir_all(directory).expect("the node's directory can be made");
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let (program, options) = (owned(program), owned(options));
        Self {
            program,
            directory: directory.to_owned(),
            port: free_port(),
            host: Ipv4Addr::LOCALHOST,
            config: None,
            options,
            environment: Vec::new(),
            child: None,
        }
    }

    /// A started node.
    pub fn started(binary: Binary, directory: &Path, options: &[&str]) -> Self {
        let mut node = Self::new(binary, directory, options);
        node.start();
        node
    }

    /// Starts with this configuration file from now on; options still win.
    pub fn set_config(&mut self, path: &str) {
        self.config = Some(path.to_owned());
    }

    /// Runs in another network namespace from now on, at this address of it.
    pub fn move_to(&mut self, namespace: &str, host: Ipv4Addr) {
        let words = ["ip", "netns", "exec", namespace].map(str::to_owned);
        self.program.splice(0..0, words);
        self.host = host;
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    /// Starts with this in its environment too from now on.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The node's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts with these options too from now on.
    pub fn add_options(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
    }

    /// Whether its process was started and not stopped since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The process id of the running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Starts the process and waits until it answers PING.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_serves();
    }

    /// Waits until the spawned process answers PING.
    pub fn wait_until_serves(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Client::connect(self.address())
                && matches!(client.try_call(&["PING"]), Ok(reply) if reply.is_pong() || reply.is_error_code("NOAUTH"))
            {
                return;
            }
            if let Some(status) =
                self.child.as_mut().expect("just spawned").try_wait().expect("the child can be asked")
            {
                panic!("the node ended with {status} instead of serving:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "the node does not serve after {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let output = File::options().create(true).append(true).open(self.directory.join("stdout.log"));
        let output = output.expect("the node's directory can be written");
        let child = Command::new(&self.program[0])
            .args(&self.program[1..])
            .args(&self.config)
            .args(["--port", &self.port.to_string(), "--bind", &self.host.to_string(), "--dir"])
            .arg(&self.directory)
            .args(&self.options)
            .env(DIE_WITH_STDIN, "yes")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .expect("the binary under test can be started");
        self.child = Some(child);
    }

    /// Waits until the process ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let mut child = self.child.take().expect("the node runs");
        loop {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().expect("the child can be killed");
                child.wait().expect("the child can be waited for");
                panic!("the node does not stop after {PATIENCE:?}:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be waited for");
    }

    /// SIGTERM, and waits for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: i32) {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a child's id is not 0");
        let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal's number");
        rustix::process::kill_process(pid, signal).expect("the child can be signalled");
    }

    /// Waits until SIGSTOP holds every thread: one on another core goes on for a moment after the signal was sent.
    pub fn wait_until_stopped(&self) {
        let threads = format!("/proc/{}/task", self.pid());
        let runs = || {
            let entries = std::fs::read_dir(&threads).expect("the node is there");
            // A thread that ended meanwhile does not run.
            let stats = entries
                .flatten()
                .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
            let states: Vec<char> =
                stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect();
            states.iter().any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X'))
        };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while runs() {
            assert!(std::time::Instant::now() < deadline, "SIGSTOP does not stop the node");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Memory that the process holds, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the node runs");
        let line =
            status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells the resident size");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    /// A client connected to the node.
    pub fn client(&self) -> Client {
        Client::connect(self.address()).expect("the node accepts connections")
    }

    /// What the process has printed so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.directory.join("stdout.log")) {
            file.read_to_string(&mut text).expect("the log is text");
        }
        text
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
