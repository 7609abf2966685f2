//! Lines of files, of the command line and of standard input, with their places: `holdfast-server [file|-] [--option value …]`.
//! What the lines mean stands in [`super::directives`].

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::platform;
use crate::resp::quoting;

/// How deep files may include files.
const INCLUDE_DEPTH_MAX: usize = 16;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// `--help`, `-h`
    Help,
    /// `--version`, `-v`
    Version,
    /// Anything else: start.
    Run {
        /// The configuration file, if one is named.
        source: Option<Source>,
        /// `--option value …`, which come after the file's lines.
        options: Vec<Line>,
    },
}

/// Where the configuration is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Standard input (`-`).
    StandardInput,
}

/// Where a line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1; 0 for the file as a whole.
        number: usize,
    },
    /// On standard input, in this line.
    StandardInput(usize),
    /// On the command line.
    CommandLine,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, number: 0 } => write!(f, "{}", path.display()),
            Self::File { path, number } => write!(f, "{}:{number}", path.display()),
            Self::StandardInput(number) => write!(f, "standard input:{number}"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A directive as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub place: Place,
    /// Its name and its words; never empty.
    pub words: Vec<String>,
}

impl Line {
    /// The line, as messages show it.
    pub fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// A configuration that cannot be used. Nothing has been started.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub place: Place,
    /// The line, as far as it can be shown.
    pub text: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.text.is_empty() {
            write!(f, "'{}': ", self.text)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No directive has this name.
    #[error("unknown directive '{name}'{}", suggested(suggestion))]
    Unknown {
        /// The name.
        name: String,
        /// A directive whose name is nearly the same.
        suggestion: Option<&'static str>,
    },
    /// The directive cannot hold this.
    #[error("{0}; correct the value")]
    Value(String),
    /// holdfast cannot do it.
    #[error("not supported: {0}; remove the line")]
    Unsupported(&'static str),
    /// Quotes do not match.
    #[error("unbalanced quotes; close them, and leave a space behind them")]
    UnbalancedQuotes,
    /// The bytes are no text.
    #[error("not UTF-8; save the file in UTF-8")]
    NotUtf8,
    /// Words without an option in front.
    #[error("an option such as '--port' is expected here")]
    OptionExpected,
    /// A file cannot be read.
    #[error("cannot be read ({0}); correct the path or its permissions")]
    Unreadable(String),
    /// Files include each other without end.
    #[error("files are included more than {INCLUDE_DEPTH_MAX} deep; does one include itself?")]
    TooDeep,
}

fn suggested(suggestion: &Option<&'static str>) -> String {
    match suggestion {
        Some(name) => format!("; did you mean '{name}'?"),
        None => "; remove the line, or correct the name".to_owned(),
    }
}

impl Invocation {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// A word where an option is expected.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let words: Vec<String> = arguments
            .into_iter()
            .map(|word| word.into_string().map_err(not_utf8))
            .collect::<Result<_, _>>()?;
        let mut words = words.into_iter().peekable();
        let source = match words.peek().map(String::as_str) {
            Some("--help" | "-h") => return Ok(Self::Help),
            Some("--version" | "-v") => return Ok(Self::Version),
            Some("-") => Some(Source::StandardInput),
            Some(word) if !word.starts_with("--") => Some(Source::File(PathBuf::from(word))),
            _ => None,
        };
        if source.is_some() {
            words.next();
        }
        let mut options: Vec<Line> = Vec::new();
        for word in words {
            match (word.strip_prefix("--"), options.last_mut()) {
                (Some(name), _) if !name.is_empty() => {
                    options.push(Line { place: Place::CommandLine, words: vec![name.to_owned()] });
                }
                (_, Some(option)) => option.words.push(word),
                (_, None) => {
                    return Err(ConfigError {
                        place: Place::CommandLine,
                        text: word,
                        problem: Problem::OptionExpected,
                    });
                }
            }
        }
        Ok(Self::Run { source, options })
    }
}

fn not_utf8(word: OsString) -> ConfigError {
    let text = word.to_string_lossy().into_owned();
    ConfigError { place: Place::CommandLine, text, problem: Problem::NotUtf8 }
}

/// All lines of a source that say something, with those of the files it includes in their places.
///
/// # Errors
/// What cannot be read or split into words.
pub fn lines(source: &Source) -> Result<Vec<Line>, ConfigError> {
    let mut found = Vec::new();
    match source {
        Source::File(path) => read_file(path, Place::CommandLine, 0, &mut found)?,
        Source::StandardInput => {
            let place = Place::StandardInput(0);
            let bytes = platform::read_standard_input().map_err(|error| unreadable(place, "-", &error))?;
            split(&bytes, &Place::StandardInput, 0, &mut found)?;
        }
    }
    Ok(found)
}

fn unreadable(place: Place, path: &str, error: &std::io::Error) -> ConfigError {
    ConfigError { place, text: path.to_owned(), problem: Problem::Unreadable(error.to_string()) }
}

/// `named` is where the file's name stands.
fn read_file(path: &Path, named: Place, depth: usize, found: &mut Vec<Line>) -> Result<(), ConfigError> {
    if depth > INCLUDE_DEPTH_MAX {
        return Err(ConfigError {
            place: named,
            text: path.display().to_string(),
            problem: Problem::TooDeep,
        });
    }
    let bytes =
        platform::read_file(path).map_err(|error| unreadable(named, &path.display().to_string(), &error))?;
    let path: Arc<Path> = Arc::from(path);
    split(&bytes, &|number| Place::File { path: path.clone(), number }, depth, found)
}

fn split(
    bytes: &[u8],
    place: &dyn Fn(usize) -> Place,
    depth: usize,
    found: &mut Vec<Line>,
) -> Result<(), ConfigError> {
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let Some(words) = words(line).map_err(|problem| ConfigError {
            place: place(index + 1),
            text: String::from_utf8_lossy(line.trim_ascii()).into_owned(),
            problem,
        })?
        else {
            continue;
        };
        let line = Line { place: place(index + 1), words };
        if line.words[0].eq_ignore_ascii_case("include") {
            include(&line, depth, found)?;
        } else {
            found.push(line);
        }
    }
    Ok(())
}

/// The words of a line, or `None` when it is empty or a comment.
pub(super) fn words(line: &[u8]) -> Result<Option<Vec<String>>, Problem> {
    let line = line.trim_ascii();
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let words = quoting::split(line).map_err(|quoting::UnbalancedQuotes| Problem::UnbalancedQuotes)?;
    let words: Result<Vec<String>, _> = words.into_iter().map(String::from_utf8).collect();
    words.map(|words| Some(words).filter(|words| !words.is_empty())).map_err(|_| Problem::NotUtf8)
}

/// `include file`, or a pattern of files in one directory, which may find none.
fn include(line: &Line, depth: usize, found: &mut Vec<Line>) -> Result<(), ConfigError> {
    let [_, pattern] = line.words.as_slice() else {
        let problem = Problem::Value("wrong number of arguments".to_owned());
        return Err(ConfigError { place: line.place.clone(), text: line.text(), problem });
    };
    let path = Path::new(pattern);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?', '[']) {
        return read_file(path, line.place.clone(), depth + 1, found);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names = platform::list_directory(directory)
        .map_err(|error| unreadable(line.place.clone(), pattern, &error))?;
    for file in names.iter().filter(|file| crate::glob::matches(name.as_bytes(), file.as_bytes())) {
        read_file(&directory.join(file), line.place.clone(), depth + 1, found)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Invocation, ConfigError> {
        Invocation::parse(words.iter().map(OsString::from))
    }

    fn option(words: &[&str]) -> Line {
        Line { place: Place::CommandLine, words: words.iter().map(|&word| word.to_owned()).collect() }
    }

    fn shown(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| format!("{} {}", line.place, line.text())).collect()
    }

    #[test]
    fn the_command_line_is_a_file_and_options() {
        let file = || Some(Source::File("a.conf".into()));
        assert_eq!(parsed(&[]), Ok(Invocation::Run { source: None, options: vec![] }));
        assert_eq!(parsed(&["a.conf"]), Ok(Invocation::Run { source: file(), options: vec![] }));
        assert_eq!(
            parsed(&["a.conf", "--port", "7000", "--save", "", "--bind", "127.0.0.1", "::1"]),
            Ok(Invocation::Run {
                source: file(),
                options: vec![
                    option(&["port", "7000"]),
                    option(&["save", ""]),
                    option(&["bind", "127.0.0.1", "::1"])
                ]
            })
        );
        assert_eq!(
            parsed(&["-"]),
            Ok(Invocation::Run { source: Some(Source::StandardInput), options: vec![] })
        );
        assert_eq!((parsed(&["--help"]), parsed(&["-v"])), (Ok(Invocation::Help), Ok(Invocation::Version)));
        let error = parsed(&["a.conf", "7000"]).unwrap_err();
        assert_eq!(error.to_string(), "command line: '7000': an option such as '--port' is expected here");
    }

    #[test]
    fn included_lines_stand_where_the_include_stands() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let at = directory.path().display();
        write(
            "main.conf",
            &format!("port 1 # no comment here\n\n# include x\ninclude {at}/b*.conf\ntimeout 5\n"),
        );
        write("b1.conf", "hz 1");
        write("b2.conf", &format!("hz 2\r\ninclude {at}/none*.conf"));
        let lines = lines(&Source::File(directory.path().join("main.conf"))).unwrap();
        assert_eq!(
            shown(&lines),
            [
                format!("{at}/main.conf:1 port 1 # no comment here"),
                format!("{at}/b1.conf:1 hz 1"),
                format!("{at}/b2.conf:1 hz 2"),
                format!("{at}/main.conf:5 timeout 5"),
            ]
        );
    }

    #[test]
    fn errors_name_file_and_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bad.conf");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            lines(&Source::File(path.clone())).unwrap_err().to_string()
        };
        let at = path.display();
        assert!(
            refusal("port 1\n\nrequirepass \"a")
                .starts_with(&format!("{at}:3: 'requirepass \"a': unbalanced quotes"))
        );
        assert!(
            refusal("include /nowhere/x.conf")
                .starts_with(&format!("{at}:1: '/nowhere/x.conf': cannot be read"))
        );
        assert!(refusal(&format!("include {at}")).contains("does one include itself?"));
        let missing = lines(&Source::File("/nowhere/x.conf".into())).unwrap_err().to_string();
        assert!(missing.starts_with("command line: '/nowhere/x.conf': cannot be read"), "{missing}");
    }
}
