//! What holdfast's clients see: RESP, configuration, commands, connections. Modules in layer order, lowest first; a module
//! names only modules above it in this list.

/// Clocks, sleep, the configuration file, facts about the process.
pub mod platform;
/// The Redis serialization protocol: requests in, replies out.
pub mod resp;
/// Patterns with `*`, `?` and classes.
pub mod glob;
/// redis.conf and the command line.
pub mod config;
/// What commands there are and what is common to all of them.
pub mod command;

/// Entry point of `holdfast-server`; `arguments` come after the program's name.
pub fn main(_arguments: Vec<std::ffi::OsString>) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
