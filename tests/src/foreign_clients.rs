//! Client libraries of other languages, installed once under `target/clients`. Where a language or the network is missing, its
//! test is skipped with a printed message.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The version of redis-py that tests install when the system has none.
const REDIS_PY: &str = "redis==6.4.0";
/// The version of ioredis that tests install.
const IOREDIS: &str = "ioredis@5.8.2";

fn directory(target_tmp: &str) -> PathBuf {
    Path::new(target_tmp).parent().expect("target/tmp has a parent").join("clients")
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    Err(format!("{command:?}: {}", lines[lines.len().saturating_sub(3)..].join(" / ")))
}

fn has_redis(python: &Path) -> bool {
    run(Command::new(python).args(["-c", "import redis.cluster"])).is_ok()
}

/// A Python with redis-py: the system's, or one of our own.
///
/// # Errors
/// Why there is none.
pub fn python(target_tmp: &str) -> Result<PathBuf, String> {
    let system = PathBuf::from("python3");
    if has_redis(&system) {
        return Ok(system);
    }
    let environment = directory(target_tmp).join("python");
    let python = environment.join("bin/python");
    if has_redis(&python) {
        return Ok(python);
    }
    run(Command::new(system).args(["-m", "venv"]).arg(&environment))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        REDIS_PY,
    ]))?;
    Ok(python)
}

/// The `node_modules` with ioredis in it.
///
/// # Errors
/// Why there is none.
pub fn ioredis(target_tmp: &str) -> Result<PathBuf, String> {
    run(Command::new("node").arg("--version"))?;
    let place = directory(target_tmp).join("node");
    let modules = place.join("node_modules");
    if !modules.join("ioredis/package.json").exists() {
        std::fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", "."];
        run(Command::new("npm").current_dir(&place).args(install).arg(IOREDIS))?;
    }
    Ok(modules)
}
