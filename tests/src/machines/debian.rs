//! The Debian that all machines are copies of: made once by debootstrap, kept under target/ for the next run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::run;

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// systemd, and what an operator has at hand.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,redis-tools";

/// Its directory under `cache`; the first call takes a minute or two. `HOLDFAST_TEST_DEBIAN_MIRROR` says where it comes from.
///
/// # Errors
/// When it cannot be made: no network, not root.
pub fn root(cache: &Path) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(cache)?;
    let root = cache.join(format!("debian-{SUITE}-1"));
    let lock = File::create(cache.join("debian.lock"))?;
    // Another test process may be making it.
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).context("lock the Debian root")?;
    if root.exists() {
        return Ok(root);
    }
    let mirror = std::env::var("HOLDFAST_TEST_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    println!("making a Debian {SUITE} in {} from {mirror}", root.display());
    let unfinished = cache.join(format!("debian-{SUITE}-unfinished"));
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context("remove an unfinished Debian root")?;
    }
    let include = format!("--include={PACKAGES}");
    let words = ["--variant=minbase", &include, SUITE, &unfinished.to_string_lossy(), &mirror];
    run("debootstrap", &words)?;
    for waste in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"]
    {
        let waste = unfinished.join(waste);
        if waste.exists() {
            fs::remove_dir_all(&waste).with_context(|| format!("remove {}", waste.display()))?;
        }
    }
    // Kept over reboots, so that `journalctl` tells of the boots before.
    fs::create_dir_all(unfinished.join("var/log/journal"))?;
    fs::rename(&unfinished, &root)?;
    Ok(root)
}
