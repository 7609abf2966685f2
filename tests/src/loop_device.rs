//! A disk that can lose its power: an ext4 file system in a file, mounted through a loop device. A copy of the file, taken
//! while the system is in use, is the disk as a power cut at that moment leaves it: what was synced is in it, what was only
//! in the page cache is not. Needs root and loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Runs a program to its end and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output =
        Command::new(program).args(arguments).output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A file system in a file, mounted until this is dropped.
pub struct MountedImage {
    image: PathBuf,
    device: String,
    mount_point: PathBuf,
}

impl MountedImage {
    /// Makes an empty file system of `size` bytes in the file `image` and mounts it.
    ///
    /// # Errors
    /// When this machine or user cannot do that: the reason to skip a test.
    pub fn create(image: &Path, size: u64) -> anyhow::Result<Self> {
        std::fs::File::create(image)?.set_len(size)?;
        run("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()])?;
        Self::mount(image)
    }

    /// Mounts the file system in the file `image`; its journal is replayed, as at the start after a power cut.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount(image: &Path) -> anyhow::Result<Self> {
        let path = image.to_string_lossy().into_owned();
        // Direct I/O keeps a second page cache out of the way; some file systems under /tmp have none.
        let device = run("losetup", &["-f", "--show", "--direct-io=on", &path])
            .or_else(|_| run("losetup", &["-f", "--show", &path]))?;
        let mount_point = image.with_extension("mounted");
        std::fs::create_dir_all(&mount_point)?;
        let mounted = Self { image: image.to_owned(), device, mount_point };
        // A journal that is not committed by itself: what is durable, was made durable.
        run("mount", &["-o", "commit=60", &mounted.device, &mounted.mount_point.to_string_lossy()])?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Copies the disk as it is now to the file `copy`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn cut_power_to(&self, copy: &Path) -> anyhow::Result<()> {
        run("cp", &["--sparse=always", &self.image.to_string_lossy(), &copy.to_string_lossy()]).map(|_| ())
    }
}

impl Drop for MountedImage {
    fn drop(&mut self) {
        let mount_point = self.mount_point.to_string_lossy();
        if let Err(error) = run("umount", &[&mount_point]) {
            let is_mounted = std::fs::read_to_string("/proc/mounts")
                .is_ok_and(|mounts| mounts.contains(mount_point.as_ref()));
            if is_mounted {
                eprintln!("{error:#}; trying lazily");
                let _ = run("umount", &["-l", &mount_point]).map_err(|error| eprintln!("{error:#}"));
            }
        }
        let _ = run("losetup", &["-d", &self.device]).map_err(|error| eprintln!("{error:#}"));
    }
}
