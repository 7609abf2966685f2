//! A machine's data disk: ext4 in a file, behind a loop device. A copy of the file, taken while the machine is frozen, is the disk as
//! a power cut leaves it: what was synced is in it, what was only in the page cache is not. It is mounted in the machine's own
//! mount namespace only: a mount that another machine's namespace had a copy of would keep the file system alive, and one file
//! mounted twice is garbage.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::run;

/// A disk, in a machine that is on.
pub struct Disk {
    image: PathBuf,
    device: String,
}

impl Disk {
    /// Makes an empty file system of `size` bytes in the file `image`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn format(image: &Path, size: u64) -> anyhow::Result<()> {
        std::fs::File::create(image)?.set_len(size)?;
        run("mkfs.ext4", &["-q", "-F", &image.to_string_lossy()]).map(|_| ())
    }

    /// Plugs in the disk in the file `image`.
    ///
    /// # Errors
    /// When there is no loop device.
    pub fn plug_in(image: &Path) -> anyhow::Result<Self> {
        let path = image.to_string_lossy().into_owned();
        // Direct I/O keeps a second page cache out of the way; some file systems have none.
        let device = run("losetup", &["-f", "--show", "--direct-io=on", &path])
            .or_else(|_| run("losetup", &["-f", "--show", &path]))?;
        Ok(Self { image: image.to_owned(), device })
    }

    /// Shell commands that mount it on `directory`. A journal that is not committed by itself: what is durable, was made durable.
    pub fn mount_command(&self, directory: &Path) -> String {
        format!("mount -o commit=60 {} {}", self.device, directory.display())
    }

    /// Copies the disk as it is now to the file `copy`.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_to(&self, copy: &Path) -> anyhow::Result<()> {
        run("cp", &["--sparse=always", &self.image.to_string_lossy(), &copy.to_string_lossy()]).map(|_| ())
    }

    /// Unplugs it; its file system is not mounted any more, anywhere.
    ///
    /// # Errors
    /// When it still is.
    pub fn unplug(self) -> anyhow::Result<()> {
        run("losetup", &["-d", &self.device])?;
        let name = self.device.rsplit('/').next().context("a device has a name")?.to_owned();
        let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
        let deadline = Instant::now() + Duration::from_secs(20);
        let image = self.image.to_string_lossy().into_owned();
        // The device may have found another use meanwhile.
        while std::fs::read_to_string(&backing).is_ok_and(|file| file.trim_end() == image) {
            if Instant::now() > deadline {
                bail!("{} is still in use: somebody has it mounted", self.device);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
