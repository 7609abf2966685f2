//! The configuration at run time: what the workers read, and CONFIG GET, SET and REWRITE.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache, Guard};
use parking_lot::Mutex;

use super::directives::{DIRECTIVES, Status, find};
use super::file::{ConfigError, Line, Source, lines};
use super::rewrite;
use super::settings::Config;
use super::values::Values;
use crate::{glob, platform};

/// The node's configuration. Reading takes no lock.
#[derive(Debug)]
pub struct SharedConfig {
    current: Arc<ArcSwap<Config>>,
    values: Mutex<Values>,
    file: Option<PathBuf>,
    not_needed: Vec<String>,
}

/// Why CONFIG SET changed nothing, in Redis's words.
#[derive(Debug, PartialEq, Eq)]
pub enum SetError {
    /// No directive of this name.
    Unknown(String),
    /// The directive, and what is wrong.
    Refused {
        /// As the client called it.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => {
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            Self::Refused { name, why } => {
                write!(f, "ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
            }
        }
    }
}

impl std::error::Error for SetError {}

impl SharedConfig {
    /// Reads a configuration: the defaults, the source's lines over them, the options over these.
    ///
    /// # Errors
    /// The first line that cannot be used.
    pub fn load(source: Option<&Source>, options: &[Line]) -> Result<Self, ConfigError> {
        let mut values = Values::default();
        let mut not_needed: Vec<String> = Vec::new();
        let lines = source.map(lines).transpose()?.unwrap_or_default();
        for line in lines.iter().chain(options) {
            let directive = values.add_line(&line.words).map_err(|problem| ConfigError {
                place: line.place.clone(),
                text: line.text(),
                problem,
            })?;
            if let Status::NotNeeded(why) = directive.status {
                let note = format!("'{}' is accepted and has no effect: {why}", directive.name);
                if !not_needed.iter().any(|known| known.ends_with(&note)) {
                    not_needed.push(format!("{}: {note}", line.place));
                }
            }
        }
        let file = match source {
            Some(Source::File(path)) => Some(platform::absolute(path)),
            _ => None,
        };
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(values.config())),
            values: Mutex::new(values),
            file,
            not_needed,
        })
    }

    /// The configuration as it is now.
    pub fn snapshot(&self) -> Guard<Arc<Config>> {
        self.current.load()
    }

    /// The configuration for whoever looks at it with every command: `load` gives the newest, and takes no more than a look
    /// whether there is a newer one.
    pub fn at_hand(&self) -> Cache<Arc<ArcSwap<Config>>, Arc<Config>> {
        Cache::new(self.current.clone())
    }

    /// The file that the configuration was read from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// One line for each directive that was given and that holdfast does not need; to be logged at the start.
    pub fn not_needed(&self) -> &[String] {
        &self.not_needed
    }

    /// Longest argument of a request.
    pub fn proto_max_bulk_len(&self) -> usize {
        self.snapshot().proto_max_bulk_len
    }

    /// Replicas without which writes are refused.
    pub fn min_replicas_to_write(&self) -> usize {
        self.snapshot().min_replicas_to_write
    }

    /// CONFIG GET: names, older ones too, that fit one of the patterns, with their values.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(&'static str, String)> {
        let values = self.values.lock();
        let fits =
            |name: &str| patterns.iter().any(|pattern| glob::matches_ignoring_case(pattern, name.as_bytes()));
        let names = DIRECTIVES.iter().enumerate().flat_map(|(place, directive)| {
            [Some(directive.name), directive.alias].into_iter().flatten().map(move |name| (place, name))
        });
        names
            .filter(|&(_, name)| fits(name))
            .map(|(place, name)| (name, values.text(place).to_owned()))
            .collect()
    }

    /// CONFIG SET: all of the pairs, or none. Returns the names of those that changed, whose effect on what is not read
    /// from [`Self::snapshot`] at every use is the caller's.
    ///
    /// # Errors
    /// The first pair that cannot be set.
    pub fn set(&self, pairs: &[(&[u8], &[u8])]) -> Result<Vec<&'static str>, SetError> {
        let mut values = self.values.lock();
        let mut next = values.clone();
        let mut seen: Vec<usize> = Vec::new();
        let mut changed = Vec::new();
        for &(name, text) in pairs {
            let name = String::from_utf8_lossy(name).into_owned();
            let refused = |why: &str| SetError::Refused { name: name.clone(), why: why.to_owned() };
            let Some(place) = find(&name) else { return Err(SetError::Unknown(name)) };
            if !DIRECTIVES[place].changes_at_run_time {
                return Err(refused("can't set immutable config"));
            }
            if seen.contains(&place) {
                return Err(refused("duplicate parameter"));
            }
            seen.push(place);
            let text = str::from_utf8(text).map_err(|_| refused("argument must be UTF-8"))?;
            let (directive, is_other) = next.set(&name, text).map_err(|why| refused(&why))?;
            if is_other {
                changed.push(directive.name);
            }
        }
        self.current.store(Arc::new(next.config()));
        *values = next;
        Ok(changed)
    }

    /// CONFIG REWRITE: puts the present values into the file, which is either the old one or the new one whatever
    /// happens.
    ///
    /// # Errors
    /// When there is no file, or it cannot be written.
    pub fn rewrite(&self) -> io::Result<()> {
        let Some(path) = self.file() else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "The server is running without a config file",
            ));
        };
        let values = self.values.lock();
        let old = match platform::read_file(path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        platform::replace_file(path, &rewrite::rewritten(&old, &values))
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod shipped_tests;
