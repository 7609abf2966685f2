//! Three machines in network namespaces of their own, joined by a bridge that this machine stands on too. Needs root. All names
//! carry this process's id; what an earlier process that was killed has left is removed by the next.
//!
//! A cut is a neighbour entry with a wrong hardware address: what is sent is lost without a word, in one direction, while
//! clients on this machine still reach both sides.

use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, bail};

/// Machines.
pub const MACHINES: usize = 3;
/// The hardware address of nobody.
const NOBODY: &str = "02:00:00:00:00:01";

/// Runs a program to its end and returns what it printed.
fn run(program: &str, arguments: &str) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The machines; gone when dropped.
pub struct Network {
    bridge: String,
    machines: Vec<Machine>,
}

struct Machine {
    namespace: String,
    /// This machine's end of its cable.
    cable: String,
    address: Ipv4Addr,
}

impl Network {
    /// Makes the machines.
    ///
    /// # Errors
    /// When this machine or user cannot do that: the reason to skip a test.
    pub fn create() -> anyhow::Result<Self> {
        remove_what_is_left()?;
        let pid = std::process::id();
        let subnet = free_subnet(pid)?;
        let mut network = Self { bridge: format!("hfb{pid}"), machines: Vec::new() };
        let bridge = network.bridge.clone();
        run("ip", &format!("link add {bridge} type bridge"))?;
        run("ip", &format!("addr add {}/24 dev {bridge}", subnet(1)))?;
        run("ip", &format!("link set {bridge} up"))?;
        for index in 0..MACHINES {
            let (namespace, cable) = (format!("hfm{pid}-{index}"), format!("hf{pid}-{index}"));
            let address = subnet(10 + index as u8);
            network.machines.push(Machine { namespace: namespace.clone(), cable: cable.clone(), address });
            run("ip", &format!("netns add {namespace}"))?;
            run("ip", &format!("link add {cable} type veth peer name eth0 netns {namespace}"))?;
            run("ip", &format!("link set {cable} master {bridge} up"))?;
            run("ip", &format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            run("ip", &format!("-n {namespace} link set eth0 up"))?;
            run("ip", &format!("-n {namespace} link set lo up"))?;
        }
        Ok(network)
    }

    /// A machine's namespace and address.
    pub fn machine(&self, index: usize) -> (&str, Ipv4Addr) {
        (&self.machines[index].namespace, self.machines[index].address)
    }

    /// Nothing that `from` sends reaches `to` any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self, from: usize, to: usize) -> anyhow::Result<()> {
        let (namespace, address) = (&self.machines[from].namespace, self.machines[to].address);
        let what = format!("neigh replace {address} lladdr {NOBODY} dev eth0 nud permanent");
        run("ip", &format!("-n {namespace} {what}")).map(drop)
    }

    /// A machine and the other two do not hear each other; this one hears all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut_off(&self, machine: usize) -> anyhow::Result<()> {
        for other in (0..MACHINES).filter(|&other| other != machine) {
            self.cut(machine, other)?;
            self.cut(other, machine)?;
        }
        Ok(())
    }

    /// Nobody hears the machine: its cable is pulled.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unplug(&self, machine: usize) -> anyhow::Result<()> {
        run("ip", &format!("link set {} down", self.machines[machine].cable)).map(drop)
    }

    /// What goes to the machine is late and partly lost; where the kernel cannot do that, it is slow and lost when too much.
    ///
    /// # Errors
    /// When the kernel refuses both.
    pub fn slow_down(&self, machine: usize) -> anyhow::Result<()> {
        let on = format!("qdisc replace dev {} root", self.machines[machine].cable);
        let netem = run("tc", &format!("{on} netem delay 40ms 30ms loss 5%"));
        let slow = || run("tc", &format!("{on} tbf rate 600kbit burst 6kb latency 150ms"));
        netem.or_else(|_| slow()).map(drop)
    }

    /// All cables are in and nothing is cut.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        for machine in &self.machines {
            run("ip", &format!("link set {} up", machine.cable))?;
            for entry in run("ip", &format!("-n {} neigh show nud permanent", machine.namespace))?.lines() {
                let address = entry.split(' ').next().unwrap_or_default();
                run("ip", &format!("-n {} neigh del {address} dev eth0", machine.namespace))?;
            }
            let queues = run("tc", &format!("qdisc show dev {}", machine.cable))?;
            if ["netem", "tbf"].iter().any(|kind| queues.contains(kind)) {
                run("tc", &format!("qdisc del dev {} root", machine.cable))?;
            }
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            remove("netns", &machine.namespace);
        }
        remove("link", &self.bridge);
    }
}

fn remove(what: &str, name: &str) {
    if let Err(error) = run("ip", &format!("{what} del {name}")) {
        eprintln!("left behind: {error:#}");
    }
}

/// Addresses that nothing on this machine has.
fn free_subnet(pid: u32) -> anyhow::Result<impl Fn(u8) -> Ipv4Addr> {
    let taken = run("ip", "-4 -o addr show")?;
    let mut thirds = (0..=255_u8).map(|number| number.wrapping_add(pid as u8));
    let third = thirds.find(|third| !taken.contains(&format!(" 10.213.{third}.")));
    let third = third.context("10.213.0.0/16 is taken")?;
    Ok(move |last| Ipv4Addr::new(10, 213, third, last))
}

/// Removes the networks of processes that are gone, and ends what still runs in them.
fn remove_what_is_left() -> anyhow::Result<()> {
    let is_gone = |pid: &str| pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists();
    for line in run("ip", "netns list")?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if name.strip_prefix("hfm").and_then(|rest| rest.split('-').next()).is_some_and(is_gone) {
            for pid in run("ip", &format!("netns pids {name}"))?.lines() {
                run("kill", &format!("-9 {pid}"))?;
            }
            remove("netns", name);
        }
    }
    for line in run("ip", "-o link show type bridge")?.lines() {
        let name = line.split(' ').nth(1).unwrap_or_default().trim_end_matches(':');
        if name.strip_prefix("hfb").is_some_and(is_gone) {
            remove("link", name);
        }
    }
    Ok(())
}
