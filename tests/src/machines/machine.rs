//! One machine: a copy of the Debian, a disk for its data, an address, a power switch.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::cgroup::Cgroup;
use super::disk::Disk;
use super::run;

/// Of the disk that holds /var/lib/holdfast; the file has holes.
const DISK_BYTES: u64 = 3 << 30;
/// How long a boot, or a command inside, may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which network and which files a machine has.
pub struct Parts<'a> {
    /// Its host name.
    pub name: &'a str,
    /// The Debian it is a copy of.
    pub debian: &'a Path,
    /// A directory for what is its own.
    pub directory: &'a Path,
    /// Its network namespace.
    pub network: &'a str,
}

/// A machine, switched on or off.
pub struct Machine {
    name: String,
    unique_name: String,
    network: String,
    directory: PathBuf,
    cgroup: Cgroup,
    disk: Option<Disk>,
    running: Option<Running>,
}

struct Running {
    nspawn: Child,
    leader: u32,
}

impl Machine {
    /// A new machine, switched off.
    ///
    /// # Errors
    /// When its file systems or its cgroup cannot be made.
    pub fn create(parts: &Parts<'_>) -> anyhow::Result<Self> {
        let unique_name = format!("hf{}{}", std::process::id(), parts.name);
        for name in ["upper", "work", "root", "data"] {
            fs::create_dir_all(parts.directory.join(name))?;
        }
        let of = |name: &str| parts.directory.join(name).display().to_string();
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", parts.debian.display(), of("upper"), of("work"));
        run("mount", &["-t", "overlay", "overlay", "-o", &layers, &of("root")])?;
        let machine = Self {
            name: parts.name.to_owned(),
            network: parts.network.to_owned(),
            directory: parts.directory.to_owned(),
            cgroup: Cgroup::create(&unique_name)?,
            unique_name,
            disk: None,
            running: None,
        };
        Disk::format(&machine.image(), DISK_BYTES)?;
        let id: String = (0..32).map(|_| char::from_digit(fastrand::u32(..16), 16).unwrap_or('0')).collect();
        fs::write(machine.root().join("etc/machine-id"), format!("{id}\n"))?;
        fs::write(machine.root().join("etc/hostname"), format!("{}\n", machine.name))?;
        Ok(machine)
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its root directory, as seen from outside.
    pub fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    fn image(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// Whether it is on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Switches it on and waits until its systemd has started everything that is enabled, or has begun to.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn power_on(&mut self) -> anyhow::Result<()> {
        let disk = Disk::plug_in(&self.image())?;
        let console = File::options().create(true).append(true).open(self.directory.join("console.log"))?;
        let root = self.root().display().to_string();
        let mounted = self.directory.join("data");
        let data = format!("--bind={}:/var/lib/holdfast", mounted.display());
        let nspawn = [
            "systemd-nspawn --boot --quiet --register=no --keep-unit --console=pipe --link-journal=no",
            "--resolv-conf=off --timezone=off --settings=no",
            &format!("--directory={root} --machine={} --hostname={}", self.unique_name, self.name),
            &format!("--network-namespace-path={} {data}", self.network),
        ];
        let (enter, mount) = (self.cgroup.entry(), disk.mount_command(&mounted));
        let script = format!("set -e; {enter}{mount}; exec {}", nspawn.join(" "));
        // It ends with the thread that started it, should that end badly; and its machine with it.
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
            ])
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("start systemd-nspawn")?;
        self.disk = Some(disk);
        self.running = Some(Running { nspawn: child, leader: 0 });
        self.wait_until_booted()
    }

    fn wait_until_booted(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.running.as_mut().context("the machine is on")?;
            if let Some(status) = running.nspawn.try_wait()? {
                bail!("systemd-nspawn of {} ended with {status}: {}", self.name, self.console());
            }
            let pid = running.nspawn.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            if let Some(leader) = children.split_whitespace().next().and_then(|word| word.parse().ok()) {
                running.leader = leader;
                // "starting" will do: a node is ready when it serves, and that may need the other machines.
                if self.inside("test -S /run/systemd/private && systemctl is-active sysinit.target").is_ok() {
                    return Ok(());
                }
            }
            if Instant::now() > deadline {
                bail!("{} does not boot: {}", self.name, self.console());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn console(&self) -> String {
        fs::read_to_string(self.directory.join("console.log")).unwrap_or_default()
    }

    /// Runs a shell script inside, as root in /root, and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn inside(&self, script: &str) -> anyhow::Result<String> {
        self.inside_with(script, "")
    }

    /// The same, with this on its standard input.
    ///
    /// # Errors
    /// When it fails.
    pub fn inside_with(&self, script: &str, input: &str) -> anyhow::Result<String> {
        let Output { status, stdout, stderr } = self.output_inside(script, input)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !status.success() {
            bail!("on {}: {script}: {status}\n{}\n{}", self.name, text(&stdout), text(&stderr));
        }
        Ok(text(&stdout))
    }

    fn output_inside(&self, script: &str, input: &str) -> anyhow::Result<Output> {
        let leader = self.running.as_ref().context("the machine is off")?.leader.to_string();
        let seconds = PATIENCE.as_secs().to_string();
        let mut child = Command::new("timeout")
            .args([seconds.as_str(), "nsenter", "--target", &leader, "--all", "/bin/sh", "-c"])
            .arg(format!("cd /root && {script}"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("SYSTEMD_PAGER", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start nsenter")?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        // A script that reads nothing may be gone before it could have.
        if let Err(error) = stdin.write_all(input.as_bytes())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// Cuts the power: nothing moves any more, and of the data's disk only what was synced is left.
    ///
    /// # Errors
    /// When the switch does not work.
    pub fn cut_power(&mut self) -> anyhow::Result<()> {
        self.cgroup.freeze()?;
        let left = self.directory.join("disk-after-power-cut");
        self.disk.as_ref().context("the machine is on")?.copy_to(&left)?;
        self.switch_off()?;
        fs::rename(&left, self.image())?;
        Ok(())
    }

    /// `systemctl poweroff`: everything is stopped first.
    ///
    /// # Errors
    /// When that takes minutes.
    pub fn shut_down(&mut self) -> anyhow::Result<()> {
        self.inside("systemctl poweroff")?;
        let deadline = Instant::now() + PATIENCE;
        while self.running.as_mut().context("the machine is on")?.nspawn.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not shut down: {}", self.name, self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.switch_off()
    }

    fn switch_off(&mut self) -> anyhow::Result<()> {
        self.cgroup.kill()?;
        if let Some(mut running) = self.running.take() {
            running.nspawn.wait()?;
        }
        self.disk.take().map_or(Ok(()), Disk::unplug)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.is_on()
            && let Err(error) = self.switch_off()
        {
            eprintln!("{} cannot be switched off: {error:#}", self.name);
        }
        let root = self.root().display().to_string();
        if let Err(error) = run("umount", &[&root]) {
            eprintln!("{error:#}");
        }
        let propagated = Path::new("/run/systemd/nspawn/propagate").join(&self.unique_name);
        // nspawn leaves it behind when it is killed.
        if propagated.exists()
            && let Err(error) = fs::remove_dir(&propagated)
        {
            eprintln!("{}: {error}", propagated.display());
        }
    }
}
