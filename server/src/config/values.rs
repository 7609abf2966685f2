//! The texts of all directives, checked.

use super::directives::{DIRECTIVES, Directive, Status, find};
use super::file::Problem;
use super::settings::Config;
use super::value::Kind;

/// A text for every row of [`DIRECTIVES`].
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    texts: Vec<String>,
    /// Whether a line has set save points: further ones add to them.
    save_points_given: bool,
}

impl Default for Values {
    fn default() -> Self {
        let texts = DIRECTIVES.iter().map(|directive| directive.default.to_owned()).collect();
        Self { texts, save_points_given: false }
    }
}

impl Values {
    /// The text of the directive at this place of the table.
    pub fn text(&self, place: usize) -> &str {
        &self.texts[place]
    }

    /// The typed configuration that these texts mean.
    pub fn config(&self) -> Config {
        Config::read(|name| find(name).map_or("", |place| self.text(place)))
    }

    /// Takes a line of a file or an option; returns the directive.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed then.
    pub fn add_line(&mut self, words: &[String]) -> Result<&'static Directive, Problem> {
        let (name, words) = words.split_first().ok_or(Problem::OptionExpected)?;
        let Some(place) = find(name) else {
            return Err(Problem::Unknown { name: name.clone(), suggestion: similar(name) });
        };
        let directive = &DIRECTIVES[place];
        let text = directive.kind.normalize(words, &self.texts[place]).map_err(Problem::Value)?;
        if let Status::Unsupported(why) = directive.status
            && text != directive.default
        {
            return Err(Problem::Unsupported(why));
        }
        let adds = directive.kind == Kind::SavePoints && self.save_points_given;
        if adds && !text.is_empty() && !self.texts[place].is_empty() {
            self.texts[place] = format!("{} {text}", self.texts[place]);
        } else {
            self.texts[place] = text;
        }
        self.save_points_given |= directive.kind == Kind::SavePoints;
        Ok(directive)
    }

    /// Gives a directive another value at run time; returns it and whether the value is another.
    ///
    /// # Errors
    /// In Redis's words; nothing has changed then.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(&'static Directive, bool), String> {
        let place = find(name).ok_or_else(|| "unknown".to_owned())?;
        let directive = &DIRECTIVES[place];
        let text = directive.kind.normalize(&directive.kind.split(text), &self.texts[place])?;
        let changed = self.texts[place] != text;
        self.texts[place] = text;
        Ok((directive, changed))
    }
}

/// The directive whose name is nearest, when it is near.
fn similar(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let distances = DIRECTIVES.iter().map(|directive| (distance(&name, directive.name), directive.name));
    distances.min().filter(|&(distance, _)| distance <= 1 + name.len() / 6).map(|(_, name)| name)
}

/// Letters to insert, delete or replace to make one name the other.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> String {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Values::default().add_line(&words).unwrap_err().to_string()
    }

    #[test]
    fn lines_that_cannot_be_used_are_refused_with_what_to_do() {
        assert_eq!(refusal("maxmemroy 1"), "unknown directive 'maxmemroy'; did you mean 'maxmemory'?");
        assert_eq!(
            refusal("frobnicate 1"),
            "unknown directive 'frobnicate'; remove the line, or correct the name"
        );
        assert_eq!(
            refusal("port 70000"),
            "argument must be between 0 and 65535 inclusive; correct the value"
        );
        assert_eq!(refusal("port"), "wrong number of arguments; correct the value");
        assert_eq!(refusal("tls-port 6380"), "not supported: TLS is not there yet; remove the line");
        assert_eq!(
            refusal("rename-command FLUSHALL x"),
            "not supported: commands keep their names; remove the line"
        );
    }

    #[test]
    fn the_default_of_what_is_not_supported_is_accepted() {
        for words in [["tls-port", "0"], ["notify-keyspace-events", ""]] {
            assert!(Values::default().add_line(&words.map(str::to_owned)).is_ok());
        }
    }
}
