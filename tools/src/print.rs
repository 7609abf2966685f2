//! Text for terminals: colours where they are wanted, columns that line up, values as redis-cli prints them.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// Colours of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// As it is.
    Plain,
    /// Well.
    Green,
    /// Look here.
    Yellow,
    /// Broken.
    Red,
    /// Less important.
    Dim,
}

/// Colours text, on a terminal and when NO_COLOR is not set.
#[derive(Clone, Copy, Debug)]
pub struct Painter {
    on: bool,
}

impl Painter {
    /// For standard output.
    pub fn for_stdout() -> Self {
        Self { on: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    /// `text`, coloured.
    pub fn paint(self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Dim => "2",
            Colour::Plain => return text.to_owned(),
        };
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Rows of cells in columns that line up; numbers to the right.
pub fn table(painter: Painter, head: &[&str], rows: &[Vec<(String, Colour)>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let head: Vec<(String, Colour)> = head.iter().map(|name| ((*name).to_owned(), Colour::Dim)).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, colour), width) in row.iter().zip(&widths) {
            let padding = " ".repeat(width - cell.chars().count());
            let is_number = cell.chars().next().is_some_and(|first| first.is_ascii_digit())
                && cell.parse::<f64>().is_ok();
            let painted = painter.paint(cell, *colour);
            if is_number {
                write!(line, "{padding}{painted}  ")
            } else {
                write!(line, "{painted}{padding}  ")
            }
            .expect("writing to a String cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Bytes as redis-cli prints them: in quotes, what is not printable escaped.
pub fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'"' => text.push_str("\\\""),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            0x07 => text.push_str("\\a"),
            0x08 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\x{byte:02x}").expect("writing to a String cannot fail"),
        }
    }
    text.push('"');
    text
}

/// Bytes for people: 1.5 KiB, 3.2 MiB.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_redis_cli_prints_them() {
        assert_eq!(quoted(b"a\"b\\\n\x00\xff"), r#""a\"b\\\n\x00\xff""#);
    }

    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let rows = vec![
            vec![("a".to_owned(), Colour::Plain), ("1".to_owned(), Colour::Plain)],
            vec![("long".to_owned(), Colour::Plain), ("1000".to_owned(), Colour::Plain)],
        ];
        assert_eq!(table(Painter { on: false }, &["n", "x"], &rows), "n     x\na        1\nlong  1000\n");
    }
}
