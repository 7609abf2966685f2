//! FORMAT: redis.conf and the command line. A directive's text is checked against the table once; the server reads the typed
//! [`Config`], CONFIG GET and REWRITE read the texts.

/// What a directive's value may be: checked, and put into one form.
pub mod value;
/// The table: every directive, what it may hold, and whether holdfast needs it.
pub mod directives;
/// The typed configuration that the server reads.
pub mod settings;
/// Lines of files, of the command line and of standard input, with their places.
pub mod file;
/// The texts of all directives, checked.
pub mod values;
/// Putting changed values back into the file, comments and order kept.
pub mod rewrite;
/// The configuration at run time: CONFIG GET, SET and REWRITE.
pub mod shared;
/// docs/configuration.md, written from the table.
#[cfg(test)]
mod reference;

pub use file::{ConfigError, Invocation, Source};
pub use settings::{
    AppendFsync, Config, DebugCommand, EndpointType, LogFormat, LogLevel, MaxmemoryPolicy, WriteAck,
};
pub use shared::{SetError, SharedConfig};
