//! The cgroup a machine lives in: what is in it can be frozen and killed at one stroke, as a power cut does.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A cgroup of its own in every hierarchy that systemd may want to use.
pub struct Cgroup {
    unified: PathBuf,
    all: Vec<PathBuf>,
    /// Kills what is in it when this process is gone, however that happens.
    guard: Child,
}

impl Cgroup {
    /// Makes it.
    ///
    /// # Errors
    /// Where there is no cgroup v2, or it cannot be written.
    pub fn create(name: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        let mut unified = None;
        let mut all = Vec::new();
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (is_v2, is_named) = match fields.as_slice() {
                [_, _, "cgroup2", ..] => (true, false),
                [_, _, "cgroup", options, ..] => {
                    (false, options.split(',').any(|word| word == "name=systemd"))
                }
                _ => continue,
            };
            if is_v2 || is_named {
                let path = PathBuf::from(fields[1]).join(name);
                fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
                if is_v2 {
                    unified = Some(path.clone());
                }
                all.push(path);
            }
        }
        let unified = unified.context("cgroup v2 is mounted nowhere")?;
        let end = unified.join("cgroup.kill");
        let guard = Command::new("sh")
            .args(["-c", &format!("cat > /dev/null; echo 1 > {}", end.display())])
            .stdin(Stdio::piped())
            .spawn()
            .context("start a guard")?;
        Ok(Self { unified, all, guard })
    }

    /// Shell commands that put the shell into it.
    pub fn entry(&self) -> String {
        let enter = |path: &PathBuf| format!("echo $$ > {}/cgroup.procs; ", path.display());
        self.all.iter().map(enter).collect()
    }

    /// Nothing in it moves any more.
    ///
    /// # Errors
    /// When the kernel cannot freeze it.
    pub fn freeze(&self) -> anyhow::Result<()> {
        fs::write(self.unified.join("cgroup.freeze"), "1").context("freeze a cgroup")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.events()?.contains("frozen 1") {
            if Instant::now() > deadline {
                bail!("the cgroup does not freeze");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// kill -9 of everything in it, frozen or not; returns when nothing is left.
    ///
    /// # Errors
    /// When something is left.
    pub fn kill(&self) -> anyhow::Result<()> {
        fs::write(self.unified.join("cgroup.kill"), "1").context("kill a cgroup")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.events()?.contains("populated 1") {
            if Instant::now() > deadline {
                bail!("processes of a cgroup outlive kill -9");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        fs::write(self.unified.join("cgroup.freeze"), "0").context("thaw a cgroup")
    }

    fn events(&self) -> anyhow::Result<String> {
        fs::read_to_string(self.unified.join("cgroup.events")).context("read cgroup.events")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("the guard of a cgroup: {error}");
        }
        // Deepest first; what cannot be removed is empty and harms nobody.
        for root in &self.all {
            remove(root);
        }
    }
}

/// Takes away the cgroups of test processes that were killed.
///
/// # Errors
/// When the mounts cannot be read.
pub fn sweep(is_left_over: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    for mount in mounts.lines().filter(|line| line.contains(" cgroup")) {
        let Some(mount) = mount.split(' ').nth(1) else { continue };
        let Ok(entries) = fs::read_dir(mount) else { continue };
        for entry in entries.flatten().filter(|entry| is_left_over(&entry.file_name().to_string_lossy())) {
            remove(&entry.path());
        }
    }
    Ok(())
}

fn remove(directory: &PathBuf) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    if let Err(error) = fs::remove_dir(directory) {
        eprintln!("{}: {error}", directory.display());
    }
}
