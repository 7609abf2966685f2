//! The network between the machines: a bridge in a namespace of its own, where the test stands too, and a cable from it to each
//! machine. Nothing of it is seen outside.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::Context;

use super::run;

/// The bridge and its cables.
pub struct Lan {
    name: String,
    machines: Vec<String>,
}

impl Lan {
    /// A network where the calling thread, and what it starts from now on, has this address (with the length of the prefix).
    ///
    /// # Errors
    /// When the user may not make one.
    pub fn create(address: &str) -> anyhow::Result<Self> {
        let name = format!("hf{}", std::process::id());
        let lan = Self { name, machines: Vec::new() };
        let name = lan.name.as_str();
        run("ip", &["netns", "add", name])?;
        lan.ip(&["link", "set", "lo", "up"])?;
        lan.ip(&["link", "add", "lan", "type", "bridge"])?;
        lan.ip(&["addr", "add", address, "dev", "lan"])?;
        lan.ip(&["link", "set", "lan", "up"])?;
        let namespace = File::open(format!("/run/netns/{name}")).context("open the network namespace")?;
        enter(&namespace).context("enter the network namespace")?;
        Ok(lan)
    }

    fn ip(&self, words: &[&str]) -> anyhow::Result<()> {
        run("ip", &[&["-n", &self.name], words].concat()).map(|_| ())
    }

    /// Plugs a machine in: its namespace's path, where its only interface has this address.
    ///
    /// # Errors
    /// When `ip` says so.
    pub fn plug_in(&mut self, machine: &str, address: &str) -> anyhow::Result<String> {
        let namespace = format!("{}{machine}", self.name);
        run("ip", &["netns", "add", &namespace])?;
        self.machines.push(namespace.clone());
        let cable = cable(machine);
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &namespace];
        self.ip(&[&["link", "add", "name", &cable], &peer[..]].concat())?;
        self.ip(&["link", "set", "dev", &cable, "master", "lan"])?;
        let its = |words: &[&str]| run("ip", &[&["-n", namespace.as_str()], words].concat());
        its(&["link", "set", "lo", "up"])?;
        its(&["addr", "add", address, "dev", "eth0"])?;
        its(&["link", "set", "eth0", "up"])?;
        self.mend(machine)?;
        Ok(format!("/run/netns/{namespace}"))
    }

    /// Cuts a machine's cable.
    ///
    /// # Errors
    /// When `ip` says so.
    pub fn cut(&self, machine: &str) -> anyhow::Result<()> {
        self.ip(&["link", "set", "dev", &cable(machine), "down"])
    }

    /// Mends a machine's cable.
    ///
    /// # Errors
    /// When `ip` says so.
    pub fn mend(&self, machine: &str) -> anyhow::Result<()> {
        self.ip(&["link", "set", "dev", &cable(machine), "up"])
    }
}

fn cable(machine: &str) -> String {
    format!("to-{machine}")
}

#[expect(
    unsafe_code,
    reason = "setns has no safe wrapper among the features of rustix that the workspace uses"
)]
fn enter(namespace: &File) -> std::io::Result<()> {
    // SAFETY: setns takes a descriptor and a flag and touches no memory; the descriptor is open.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in self.machines.iter().chain([&self.name]) {
            if let Err(error) = run("ip", &["netns", "del", namespace]) {
                eprintln!("{error:#}");
            }
        }
    }
}
