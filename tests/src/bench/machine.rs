//! Processors and process times, as Linux tells them.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Which core serves and which loads; none of both where they cannot be told apart.
pub struct Cores {
    pinned: Option<(u32, u32)>,
}

impl Cores {
    /// The first core for the server, the second for redis-benchmark, where there are two and `taskset` is installed.
    pub fn choose() -> Self {
        let asked =
            Command::new("taskset").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let has_taskset = asked.is_ok_and(|status| status.success());
        let allowed = status_line("Cpus_allowed_list").map(|list| cores_of(&list)).unwrap_or_default();
        match allowed.as_slice() {
            [server, load, ..] if has_taskset => Self { pinned: Some((*server, *load)) },
            _ => Self { pinned: None },
        }
    }

    /// The program, on the server's core.
    pub fn server_command(&self, program: &str) -> Command {
        self.command(self.pinned.map(|(server, _)| server), program)
    }

    /// The program, on the other core.
    pub fn load_command(&self, program: &str) -> Command {
        self.command(self.pinned.map(|(_, load)| load), program)
    }

    /// The program where it was asked to be.
    pub fn command_at(&self, place: Place, program: &str) -> Command {
        match (place, self.pinned) {
            (Place::ServerCore, _) => self.server_command(program),
            (Place::LoadCore, _) => self.load_command(program),
            (Place::BothCores, Some((server, load))) => on_cores(&format!("{server},{load}"), program),
            (Place::BothCores, None) => Command::new(program),
        }
    }

    /// Moves this process, with all its threads and what it starts from now on.
    ///
    /// # Errors
    /// When taskset fails.
    pub fn move_myself(&self, place: Place) -> Result<()> {
        let Some((server, load)) = self.pinned else { return Ok(()) };
        let list = match place {
            Place::ServerCore => server.to_string(),
            Place::LoadCore => load.to_string(),
            Place::BothCores => format!("{server},{load}"),
        };
        let pid = std::process::id().to_string();
        let output = Command::new("taskset").args(["-a", "-p", "-c", &list, &pid]).output()?;
        ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn command(&self, core: Option<u32>, program: &str) -> Command {
        let Some(core) = core else { return Command::new(program) };
        on_cores(&core.to_string(), program)
    }

    /// For the report.
    pub fn describe(&self) -> String {
        match self.pinned {
            Some((server, load)) => format!("both servers on core {server}, redis-benchmark on core {load}"),
            None => "not pinned to cores (taskset or a second core is missing)".to_owned(),
        }
    }
}

/// Where a process may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the core of the servers.
    ServerCore,
    /// On the core of the load.
    LoadCore,
    /// Where the scheduler likes, of these two.
    BothCores,
}

fn on_cores(list: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", list, program]);
    command
}

fn status_line(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// `0-2,5` are the cores 0, 1, 2 and 5.
fn cores_of(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u32>().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Seconds of CPU, user and system, that the process has used.
///
/// # Errors
/// When it has ended.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    seconds_in(&format!("/proc/{pid}/stat"), UTIME)
}

/// Seconds of CPU, user and system, of the programs that this one has run and waited for.
///
/// # Errors
/// When the kernel does not tell.
pub fn cpu_seconds_of_ended_children() -> Result<f64> {
    seconds_in("/proc/self/stat", CUTIME)
}

/// Two fields of `/proc/PID/stat` (proc(5)), user and system, by the number of the first.
fn seconds_in(path: &str, first: usize) -> Result<f64> {
    let text = fs::read_to_string(path).with_context(|| format!("{path} (has the process ended?)"))?;
    let ticks = cpu_ticks(&text, first).with_context(|| format!("{path} is not understood: {text}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

const UTIME: usize = 14;
const CUTIME: usize = 16;

/// This field and the next; the second is a name in brackets that may hold anything.
fn cpu_ticks(stat: &str, first: usize) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(first - 3);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Kilobytes in a line of the process's status: `VmRSS` is resident now, `VmHWM` the most there was.
///
/// # Errors
/// When it has ended.
pub fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the server has ended")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("/proc/{pid}/status has no {name}"))
}

/// The most resident memory is counted anew from now on.
///
/// # Errors
/// When the process has ended or is not ours.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak of memory cannot be reset")
}

/// Bytes that the process, with children it has waited for, made the kernel write to disk.
///
/// # Errors
/// When it has ended or is not ours.
pub fn written_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("the server has ended")?;
    let value = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.trim().parse().ok());
    value.with_context(|| format!("/proc/{pid}/io has no write_bytes"))
}

/// Asks for so many open files, as far as the system gives them.
pub fn allow_open_files(count: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.current.is_none_or(|current| current >= count);
    if !enough {
        let maximum = limit.maximum.map(|maximum| maximum.max(count));
        let wish = Rlimit { current: Some(count), maximum };
        let fallback = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, wish).is_err() {
            // Not root: the hard limit is all there is, and the caller sees what came out.
            let _ = setrlimit(Resource::Nofile, fallback);
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(count)
}

/// Processor, cores and kernel, for the report.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    // Not those that this process may use: it may have moved to one.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}, {cores} cores, Linux {}, load average at the end {}",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_process_times_are_read_as_linux_writes_them() {
        assert_eq!(cores_of("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(cores_of("7"), [7]);
        let stat = "42 (a) (b) S 1 42 42 0 -1 4194560 1 0 0 0 123 77 5 6 20 0 1 0 5 6 7";
        assert_eq!((cpu_ticks(stat, UTIME), cpu_ticks(stat, CUTIME)), (Some(200), Some(11)));
        assert!(cpu_seconds_of_ended_children().unwrap() >= 0.0);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(status_kib(std::process::id(), "VmRSS").unwrap() > 100);
        assert!(
            status_kib(std::process::id(), "VmHWM").unwrap()
                >= status_kib(std::process::id(), "VmRSS").unwrap()
        );
        written_bytes(std::process::id()).unwrap();
    }
}
