//! The cgroup a machine lives in: what is in it can be frozen and killed at one stroke, as a power cut does.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A cgroup of its own in every hierarchy that systemd may want to use.
pub struct Cgroup {
    unified: PathBuf,
    all: Vec<PathBuf>,
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
        Ok(Self { unified, all })
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
        // Deepest first; what cannot be removed is empty and harms nobody.
        for root in &self.all {
            remove(root);
        }
    }
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
