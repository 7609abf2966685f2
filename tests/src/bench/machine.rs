//! Processors and process times, as Linux tells them.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

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

    fn command(&self, core: Option<u32>, program: &str) -> Command {
        let Some(core) = core else { return Command::new(program) };
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), program]);
        command
    }

    /// For the report.
    pub fn describe(&self) -> String {
        match self.pinned {
            Some((server, load)) => format!("both servers on core {server}, redis-benchmark on core {load}"),
            None => "not pinned to cores (taskset or a second core is missing)".to_owned(),
        }
    }
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
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server has ended")?;
    let ticks = cpu_ticks(&text).with_context(|| format!("/proc/{pid}/stat is not understood: {text}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// utime and stime, the 14th and 15th field; the second is a name in brackets that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Processor, cores and kernel, for the report.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
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
        let stat = "42 (a) (b) S 1 42 42 0 -1 4194560 1 0 0 0 123 77 0 0 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(200));
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
