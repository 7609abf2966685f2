//! Machines of the test's own: each a Debian with a real systemd as its PID 1, a network namespace and a disk that can lose its
//! power, all on one network with the test. Needs root, systemd-nspawn and debootstrap.
//!
//! What boots them is `systemd-nspawn --boot --register=no --keep-unit`: it needs neither machined nor a systemd outside, and
//! was found to work where PID 1 is no systemd and cgroup v1 and v2 are mounted side by side; each machine is put into a cgroup
//! of its own first, where its systemd finds cgroup v2. `unshare` and a chroot would do too, but nspawn also gives each
//! boot a boot id of its own, which is what a node goes by after a power cut.

use std::process::Command;

use anyhow::{Context, bail};

/// The cgroup a machine lives in.
mod cgroup;
/// A machine's data disk.
mod disk;
/// The Debian that all machines are copies of.
pub mod debian;
/// Documentation that is carried out.
pub mod procedure;
/// The network between them.
pub mod lan;
/// One machine.
pub mod machine;
/// Three of them, with holdfast installed.
pub mod trio;

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails.
pub fn run<A: AsRef<str>>(program: &str, arguments: &[A]) -> anyhow::Result<String> {
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    let output =
        Command::new(program).args(&arguments).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        bail!("{program} {}: {} {out} {error}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
