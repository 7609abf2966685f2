//! Client libraries of other languages, installed once under `target/clients`. Where a language or the network is missing, its
//! test is skipped with a printed message.

use std::fs::File;
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
    install_once(&environment, || {
        run(Command::new(system).args(["-m", "venv"]).arg(&environment))?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(install).arg(REDIS_PY))
    })?;
    Ok(python)
}

/// Installs something in `place`, unless that was done before: one test, of whatever process, while the others wait for it.
fn install_once(place: &Path, install: impl FnOnce() -> Result<Output, String>) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", place.display());
    std::fs::create_dir_all(place).map_err(told)?;
    let lock = File::create(place.join("lock")).map_err(told)?;
    lock.lock().map_err(told)?;
    // What was broken off is done again: the mark comes last.
    let mark = place.join("installed");
    if !mark.exists() {
        install()?;
        std::fs::write(mark, "").map_err(told)?;
    }
    Ok(())
}

/// The `node_modules` with ioredis in it.
///
/// # Errors
/// Why there is none.
pub fn ioredis(target_tmp: &str) -> Result<PathBuf, String> {
    run(Command::new("node").arg("--version"))?;
    let place = directory(target_tmp).join("node");
    let modules = place.join("node_modules");
    install_once(&place, || {
        let install = ["install", "--silent", "--no-audit", "--no-fund", "--prefix", "."];
        run(Command::new("npm").current_dir(&place).args(install).arg(IOREDIS))
    })?;
    Ok(modules)
}
