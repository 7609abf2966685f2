//! The three machines of configs/three-machines, installed and formed by what its page says, word for word.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::lan::Lan;
use super::machine::{Machine, Parts};
use super::procedure::shell_blocks;
use super::{cgroup, debian, run};
use crate::client::Client;
use crate::cluster_view::field;
use crate::load::Load;
use crate::router::Router;

const NAMES: [&str; 3] = ["a", "b", "c"];
const PORTS: [u16; 2] = [7000, 7001];
/// Where the test stands in the machines' network.
const WORKSTATION: &str = "192.0.2.1/24";
/// Password and secret of the cluster.
pub const PASSWORD: &str = "a password for nothing but tests";
/// How long the cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(180);
/// A handover that has come to nothing is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(7);

/// A node: which machine, which port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// 0 is a, and so on.
    pub machine: usize,
    /// 7000 or 7001.
    pub port: u16,
}

impl Place {
    /// Its address for clients.
    pub fn address(self) -> SocketAddr {
        ([192, 0, 2, 11 + self.machine as u8], self.port).into()
    }

    /// Its unit.
    pub fn unit(self) -> String {
        format!("holdfast@{}", self.port)
    }
}

/// The binaries to install.
pub struct Binaries {
    /// `holdfast`
    pub tool: PathBuf,
    /// `holdfast-server`; without one, a script that has the tool do it.
    pub server: Option<PathBuf>,
}

impl Binaries {
    /// Those in the directory `HOLDFAST_TEST_BINARIES`, or the one that was built with the tests.
    pub fn find(under_test: &str) -> Self {
        match std::env::var_os("HOLDFAST_TEST_BINARIES").map(PathBuf::from) {
            Some(directory) => {
                Self { tool: directory.join("holdfast"), server: Some(directory.join("holdfast-server")) }
            }
            None => Self { tool: under_test.into(), server: None },
        }
    }
}

/// The machines. Dropped in this order: first what runs, then its network.
pub struct Trio {
    /// a, b and c.
    pub machines: Vec<Machine>,
    /// Their network.
    pub lan: Lan,
    directory: PathBuf,
}

/// Why there can be no machines here; `None` when there can.
pub fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may boot machines".into());
    }
    let missing = |program: &&str| run("sh", &["-c", &format!("command -v {program}")]).is_err();
    let programs =
        ["systemd-nspawn", "debootstrap", "ip", "nsenter", "setpriv", "unshare", "losetup", "mkfs.ext4"];
    programs.iter().find(|program| missing(program)).map(|program| format!("{program} is not installed"))
}

impl Trio {
    /// Three machines, booted, in a directory below `target`, which keeps the Debian they are copies of. The calling thread moves
    /// into their network.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn boot(target: &Path) -> anyhow::Result<Self> {
        let cache = target.join("machines");
        let debian = debian::root(&cache)?;
        sweep(&cache)?;
        let directory = cache.join(format!("trio-{}", std::process::id()));
        let mut lan = Lan::create(WORKSTATION)?;
        let mut machines = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            let address = Place { machine: index, port: 0 }.address().ip();
            let network = lan.plug_in(name, &format!("{address}/24"))?;
            let parts = Parts { name, debian: &debian, directory: &directory.join(name), network: &network };
            machines.push(Machine::create(&parts)?);
        }
        let mut trio = Self { machines, lan, directory };
        for machine in &mut trio.machines {
            machine.power_on()?;
        }
        Ok(trio)
    }

    /// Brings the repository's files and the binaries to every machine, as a copy of a checkout, with a secret and a password.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn unpack(&self, repository: &Path, binaries: &Binaries) -> anyhow::Result<()> {
        for machine in &self.machines {
            let to = machine.root().join("root");
            run("cp", &["-r", &repository.join("configs").display().to_string(), &to.display().to_string()])?;
            for name in NAMES {
                let path = to.join(format!("configs/three-machines/{name}.conf"));
                let text = fs::read_to_string(&path)?;
                let text = text.replace("write your own secret here", PASSWORD);
                fs::write(&path, text.replace("write your own password here", PASSWORD))?;
            }
            copy_binaries(binaries, &to.join("target/release"), "")?;
        }
        Ok(())
    }

    /// Carries out the shell blocks under a heading of configs/three-machines/README.md on one machine. They are written for a.
    ///
    /// # Errors
    /// When a command fails.
    pub fn follow(&self, repository: &Path, heading: &str, machine: usize) -> anyhow::Result<String> {
        let page = fs::read_to_string(repository.join("configs/three-machines/README.md"))?;
        let mut printed = String::new();
        for block in shell_blocks(&page, heading) {
            let script = block
                .replace("your password", PASSWORD)
                .replace("a.conf", &format!("{}.conf", NAMES[machine]));
            let own = Place { machine, port: 0 }.address().ip().to_string();
            // Where all machines are named, they are meant.
            let script =
                if script.contains("192.0.2.12") { script } else { script.replace("192.0.2.11", &own) };
            let environment = format!("export REDISCLI_AUTH='{PASSWORD}' HOLDFAST_PASSWORD='{PASSWORD}'");
            let script = format!("set -eu; {environment}\n{script}");
            printed.push_str(&self.machines[machine].inside_with(&script, "yes\n")?);
        }
        Ok(printed)
    }

    /// Cuts a machine's power: for the others it is gone without a word.
    ///
    /// # Errors
    /// When the switch does not work.
    pub fn cut_power(&mut self, machine: usize) -> anyhow::Result<()> {
        let machine = &mut self.machines[machine];
        self.lan.cut(machine.name())?;
        machine.cut_power()
    }

    /// Switches a machine on.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn power_on(&mut self, machine: usize) -> anyhow::Result<()> {
        let machine = &mut self.machines[machine];
        machine.power_on()?;
        self.lan.mend(machine.name())
    }

    /// All six nodes.
    pub fn places() -> Vec<Place> {
        let of = |machine| PORTS.map(|port| Place { machine, port });
        (0..NAMES.len()).flat_map(of).collect()
    }

    /// Runs `systemctl` (or another command) about a node on its machine; `%` stands for its unit.
    ///
    /// # Errors
    /// When it fails.
    pub fn on(&self, place: Place, command: &str) -> anyhow::Result<String> {
        self.machines[place.machine].inside(&command.replace('%', &place.unit()))
    }

    /// One property of a node's unit.
    ///
    /// # Errors
    /// When systemctl fails.
    pub fn property(&self, place: Place, name: &str) -> anyhow::Result<String> {
        self.on(place, &format!("systemctl show --value --property={name} %"))
    }

    /// Asks a node something.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(place: Place, words: &[&str]) -> anyhow::Result<String> {
        let mut client = Client::connect_to(place.address(), Duration::from_secs(2))?;
        client.set_patience(Duration::from_secs(5));
        client.try_call(&["AUTH", PASSWORD])?;
        let reply = client.try_call(words)?;
        match reply {
            crate::client::Reply::Error(text) => bail!("{place:?} {words:?}: {text}"),
            reply => Ok(reply.text()),
        }
    }

    /// Whether a node says that it is a master.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn is_master(place: Place) -> anyhow::Result<bool> {
        let info = Self::ask(place, &["INFO", "replication"])?;
        Ok(info.contains("role:master"))
    }

    /// Waits until the cluster is whole, and has every machine's node on port 7000 be a master again.
    ///
    /// # Errors
    /// When one does not become one.
    pub fn spread_masters(&self) -> anyhow::Result<()> {
        self.wait_until_whole()?;
        for place in Self::places().into_iter().filter(|place| place.port == PORTS[0]) {
            let deadline = Instant::now() + PATIENCE;
            let mut asked: Option<(Instant, String)> = None;
            // What a node that is busy answers late, or refuses because another handover is under way, is asked again.
            while !Self::is_master(place).unwrap_or(false) {
                if Instant::now() > deadline {
                    bail!("{place:?} does not become a master: {asked:?}");
                }
                if asked.as_ref().is_none_or(|(at, _)| at.elapsed() > ASK_AGAIN) {
                    let answer = Self::ask(place, &["CLUSTER", "FAILOVER"]);
                    asked = Some((Instant::now(), format!("{answer:?}")));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.wait_until_whole()
    }

    /// Waits until all six nodes serve, every master has its replica in sync, and one node of each machine votes: then any one
    /// machine may go.
    ///
    /// # Errors
    /// What is still missing after a while.
    pub fn wait_until_whole(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(complaint) = is_whole() {
            if Instant::now() > deadline {
                return Err(complaint.context("the cluster does not become whole"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// A client of all nodes.
    pub fn router(patience: Duration) -> Router {
        let addresses: Vec<SocketAddr> = Self::places().into_iter().map(Place::address).collect();
        let mut router = Router::of(&addresses, Some(PASSWORD));
        router.set_patience(patience);
        router
    }

    /// Clients that write until they are stopped.
    pub fn load(prefix: &str, patience: Duration) -> Load {
        Load::start_with(|| Self::router(patience), 3, prefix)
    }

    /// The journal of a machine's nodes, systemd's own words about them included.
    ///
    /// # Errors
    /// When journalctl fails.
    pub fn journal(&self, machine: usize) -> anyhow::Result<String> {
        self.machines[machine].inside("journalctl --no-pager --output=short-precise --unit='holdfast@*'")
    }
}

/// Takes away what test processes that were killed have left behind.
fn sweep(cache: &Path) -> anyhow::Result<()> {
    let is_gone = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
    for entry in fs::read_dir(cache)? {
        let directory = entry?.path();
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.strip_prefix("trio-").is_some_and(is_gone) {
            continue;
        }
        for machine in NAMES {
            let image = directory.join(machine).join("disk").display().to_string();
            let devices = run("losetup", &["--noheadings", "--output", "NAME", "--associated", &image])?;
            for device in devices.lines() {
                run("losetup", &["-d", device.trim()])?;
            }
            let root = directory.join(machine).join("root");
            // A failed start may have mounted nothing.
            if run("mountpoint", &["-q", &root.display().to_string()]).is_ok() {
                run("umount", &[&root.display().to_string()])?;
            }
        }
        fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    let is_left_over = |name: &str| {
        name.strip_prefix("hf").is_some_and(|rest| is_gone(rest.trim_end_matches(['a', 'b', 'c'])))
    };
    cgroup::sweep(is_left_over)?;
    for line in run("ip", &["netns", "list"])?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if is_left_over(name) {
            run("ip", &["netns", "del", name])?;
        }
    }
    Ok(())
}

fn is_whole() -> anyhow::Result<()> {
    let mut masters = 0;
    for place in Trio::places() {
        let info = Trio::ask(place, &["CLUSTER", "INFO"])?;
        if field(&info, "cluster_state") != Some("ok") || field(&info, "cluster_known_nodes") != Some("6") {
            bail!("{place:?} says {info}");
        }
        let voters = field(&info, "cluster_metadata_voters").map_or(0, |ids| ids.split(',').count());
        if (voters, field(&info, "cluster_metadata_voter_zones")) != (NAMES.len(), Some("3")) {
            bail!("{place:?} does not see one voter of each machine: {info}");
        }
        let info = Trio::ask(place, &["INFO", "replication"])?;
        if field(&info, "role") == Some("master") {
            masters += 1;
            let replica = field(&info, "slave0").unwrap_or_default();
            if !replica.contains("state=online") || !replica.contains("in_sync=1") {
                bail!("the replica of {place:?} is {replica:?}");
            }
        }
    }
    if masters != 3 { bail!("{masters} masters") } else { Ok(()) }
}

/// Copies the binaries to a directory of a machine. `version` makes them differ from the last ones: bytes that are never read.
///
/// # Errors
/// When they cannot be read or written.
pub fn copy_binaries(binaries: &Binaries, to: &Path, version: &str) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    let mut tool = fs::read(&binaries.tool).with_context(|| format!("read {}", binaries.tool.display()))?;
    tool.extend_from_slice(version.as_bytes());
    fs::write(to.join("holdfast"), tool)?;
    let server = match &binaries.server {
        Some(path) => {
            let mut bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            bytes.extend_from_slice(version.as_bytes());
            bytes
        }
        None => b"#!/bin/sh\nexec /usr/local/bin/holdfast server \"$@\"\n".to_vec(),
    };
    fs::write(to.join("holdfast-server"), server)?;
    Ok(())
}

impl Drop for Trio {
    fn drop(&mut self) {
        let broken = std::thread::panicking();
        if broken {
            for machine in 0..self.machines.len() {
                match self.journal(machine) {
                    Ok(text) => {
                        let name = self.machines[machine].name();
                        let path = self.directory.with_file_name(format!("journal-of-{name}.log"));
                        let lines: Vec<&str> = text.lines().collect();
                        let last = &lines[lines.len().saturating_sub(20)..];
                        println!("--- {name}, all in {}\n{}", path.display(), last.join("\n"));
                        if let Err(error) = fs::write(&path, &text) {
                            println!("{}: {error}", path.display());
                        }
                    }
                    Err(error) => println!("--- {}: {error:#}", self.machines[machine].name()),
                }
            }
        }
        self.machines.clear();
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}
