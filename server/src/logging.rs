//! The node's own log: where it goes, how it looks, how much it says. How much can be changed while the node runs.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat, LogLevel};

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// Changes the level; there is one log in a process.
static RELOAD: OnceLock<Reload> = OnceLock::new();

/// Raft tells each message it sends; what comes of them is told by us.
fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Debug => "debug,openraft=info",
        LogLevel::Verbose | LogLevel::Notice => "info,openraft=off",
        LogLevel::Warning => "warn,openraft=off",
    })
}

/// Begins to log as configured.
///
/// # Errors
/// When the log file cannot be opened, or something logs already.
pub fn start(config: &Config) -> Result<(), String> {
    let to_file = !config.logfile.is_empty();
    let writer: Box<dyn Fn() -> Box<dyn std::io::Write> + Send + Sync> = if to_file {
        let path = Path::new(&config.dir).join(&config.logfile);
        let file = File::options().create(true).append(true).open(&path);
        let file =
            Arc::new(file.map_err(|error| format!("cannot open logfile {}: {error}", path.display()))?);
        Box::new(move || Box::new(file.clone()))
    } else {
        Box::new(|| Box::new(std::io::stdout()))
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config.loglevel))
        .with_target(false)
        .with_ansi(false)
        .with_writer(writer);
    let set = match config.log_format {
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.try_init()
        }
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            keep(move |filter| handle.reload(filter).map_err(|error| error.to_string()));
            builder.try_init()
        }
    };
    set.map_err(|error| format!("cannot start logging: {error}"))
}

fn keep(reload: impl Fn(EnvFilter) -> Result<(), String> + Send + Sync + 'static) {
    // A second log does not start: what is kept is the first one's.
    RELOAD.set(Box::new(reload)).ok();
}

/// CONFIG SET loglevel
pub fn set_level(level: LogLevel) {
    let Some(reload) = RELOAD.get() else { return };
    if let Err(error) = reload(filter(level)) {
        tracing::error!(error, "the log level could not be changed");
    }
}
