//! Which arguments of a command are keys: for routing and locking, and for COMMAND GETKEYS.

use holdfast_storage::number::parse_i64;

use super::errors::CommandError;
use super::table::{Begin, CommandId, CommandSpec, Find, Flag, KeyFlag, KeySpec, resolve};
use crate::resp::Arguments;

/// The places of a command's keys. What the arguments do not allow to tell (a number of keys that is none) is no key: the
/// command refuses it with its own words before it looks at any.
pub fn positions(id: CommandId, arguments: Arguments<'_>) -> Positions<'_> {
    positions_by(id.spec_for(arguments), arguments)
}

/// As [`positions`], by the row that the arguments are for.
pub fn positions_by<'a>(spec: &'static CommandSpec, arguments: Arguments<'a>) -> Positions<'a> {
    if spec.has(Flag::MovableKeys) {
        Positions { arguments, specs: spec.key_specs, range: Places::NONE }
    } else {
        let range = Places::new(spec.first_key, spec.last_key, spec.key_step, arguments.len());
        Positions { arguments, specs: &[], range: range.unwrap_or(Places::NONE) }
    }
}

/// See [`positions`].
#[derive(Clone)]
pub struct Positions<'a> {
    arguments: Arguments<'a>,
    /// Specifications not yet looked at.
    specs: &'static [KeySpec],
    range: Places,
}

impl Iterator for Positions<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            if let Some(place) = self.range.next() {
                return Some(place);
            }
            let (spec, rest) = self.specs.split_first()?;
            self.specs = rest;
            self.range = places(spec, self.arguments).filter(|_| spec.is_key()).unwrap_or(Places::NONE);
        }
    }
}

/// Places `next, next + step …` below `end`.
#[derive(Clone, Copy)]
struct Places {
    next: usize,
    end: usize,
    step: usize,
}

impl Places {
    const NONE: Self = Self { next: 0, end: 0, step: 1 };

    /// From `first` to `last` (from the end, when negative); none when there is no first or it does not fit.
    fn new(first: i32, last: i32, step: i32, count: usize) -> Option<Self> {
        let next = usize::try_from(first).ok().filter(|&first| first > 0)?;
        let end = match usize::try_from(last) {
            Ok(last) => last + 1,
            Err(_) => (count + 1).checked_sub(last.unsigned_abs() as usize)?,
        };
        let step = usize::try_from(step).ok().filter(|&step| step > 0)?;
        (end <= count && next < end).then_some(Self { next, end, step })
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.next;
        (place < self.end).then(|| {
            self.next += self.step;
            place
        })
    }
}

/// The places that one specification finds; `None` when the arguments do not fit it.
fn places(spec: &KeySpec, arguments: Arguments<'_>) -> Option<Places> {
    let count = arguments.len();
    let begin = match spec.begin {
        Begin::Index(index) => usize::try_from(index).ok()?,
        Begin::Keyword { keyword, from } => keyword_position(arguments, keyword, from)? + 1,
        Begin::Unknown => return None,
    };
    let (next, end, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let end = match usize::try_from(last) {
                Ok(last) => begin + last + 1,
                Err(_) if last == -1 && limit > 1 => {
                    begin + (count - begin.min(count)) / limit.unsigned_abs() as usize
                }
                Err(_) => (count + 1).checked_sub(last.unsigned_abs() as usize)?,
            };
            (begin, end, step)
        }
        Find::KeyNum { number, first, step } => {
            let number = arguments.get(begin + usize::try_from(number).ok()?)?;
            let keys = usize::try_from(parse_i64(number)?).ok()?;
            let first = begin + usize::try_from(first).ok()?;
            let span = keys.checked_mul(usize::try_from(step).ok()?)?;
            (first, first.checked_add(span)?, step)
        }
        Find::Unknown => return None,
    };
    let step = usize::try_from(step).ok().filter(|&step| step > 0)?;
    (end <= count && next < end).then_some(Places { next, end, step })
}

fn keyword_position(arguments: Arguments<'_>, keyword: &str, from: i32) -> Option<usize> {
    let is_keyword = |&place: &usize| arguments[place].eq_ignore_ascii_case(keyword.as_bytes());
    match usize::try_from(from) {
        Ok(from) => (from..arguments.len()).find(is_keyword),
        Err(_) => {
            let from = arguments.len().checked_sub(from.unsigned_abs() as usize)?;
            (1..=from).rev().find(is_keyword)
        }
    }
}

/// A key of a command, and what the command does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUse {
    /// Its place among the arguments.
    pub position: usize,
    /// What happens to it.
    pub flags: &'static [KeyFlag],
}

/// The keys of the command that `arguments` spell, for COMMAND GETKEYS and GETKEYSANDFLAGS.
///
/// # Errors
/// In Redis's words: no such command, no keys, or arguments that do not fit.
pub fn of_command(arguments: Arguments<'_>) -> Result<Vec<KeyUse>, CommandError> {
    let (_, spec) = resolve(arguments).map_err(|_| CommandError::Text(refusal(arguments).into()))?;
    if !has_keys(spec) {
        return Err(CommandError::Text("ERR The command has no key arguments".into()));
    }
    let mut uses = Vec::new();
    for key_spec in spec.key_specs.iter().filter(|spec| spec.is_key()) {
        let flags = match spec.name {
            "set" => set_flags(arguments),
            _ => key_spec.flags,
        };
        let Some(places) = places(key_spec, arguments) else {
            return Err(CommandError::Text("ERR Invalid arguments specified for command".into()));
        };
        uses.extend(places.map(|position| KeyUse { position, flags }));
    }
    Ok(uses)
}

fn has_keys(spec: &CommandSpec) -> bool {
    spec.key_specs.iter().any(KeySpec::is_key)
}

/// Why [`of_command`] found no command: GETKEYS looks at the name first, then at the number of arguments.
fn refusal(arguments: Arguments<'_>) -> &'static str {
    let id = arguments.first().and_then(|name| CommandId::lookup(name));
    let known = id.is_some_and(|id| {
        let spec = id.spec();
        spec.subcommands.is_empty() || arguments.len() < 2 || spec.subcommand(arguments[1]).is_some()
    });
    match id {
        Some(id) if known && !has_keys(id.spec_for(arguments)) => "ERR The command has no key arguments",
        Some(_) if known => "ERR Invalid number of arguments specified for command",
        _ => "ERR Invalid command specified",
    }
}

/// SET with GET also reads the key.
fn set_flags(arguments: Arguments<'_>) -> &'static [KeyFlag] {
    if arguments.iter().skip(3).any(|argument| argument.eq_ignore_ascii_case(b"get")) {
        &[KeyFlag::Rw, KeyFlag::Access, KeyFlag::Update]
    } else {
        &[KeyFlag::Overwrite, KeyFlag::Update]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    fn found(text: &str) -> Vec<usize> {
        let words = words(text);
        positions(CommandId::lookup(words[0]).unwrap(), &words).collect()
    }

    fn asked(text: &str) -> String {
        let words = words(text);
        match of_command(&words) {
            Ok(uses) => uses
                .iter()
                .map(|key| String::from_utf8_lossy(words[key.position]))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        for (text, places) in [
            ("PING", &[][..]),
            ("GET a", &[1]),
            ("MSET a 1 b 2", &[1, 3]),
            ("DEL a b c", &[1, 2, 3]),
            ("RENAME a b", &[1, 2]),
            ("OBJECT ENCODING a", &[2]),
            ("OBJECT HELP", &[]),
            ("MEMORY USAGE a", &[2]),
            ("CONFIG GET a", &[]),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", &[1, 3, 4]),
            ("ZUNION 1 a", &[2]),
            ("ZINTERCARD 2 a b LIMIT 1", &[2, 3]),
            ("SINTERCARD 1 a", &[2]),
            ("LMPOP 2 a b LEFT", &[2, 3]),
            ("ZMPOP 1 a MIN", &[2]),
            ("ZRANGESTORE d s 0 -1", &[1, 2]),
            ("LMOVE a b LEFT RIGHT", &[1, 2]),
            ("WATCH a b", &[1, 2]),
        ] {
            assert_eq!(found(text), places, "{text}");
        }
    }

    #[test]
    fn a_number_of_keys_that_is_none_finds_no_key_after_it() {
        for (text, places) in [
            ("ZUNIONSTORE d 5 a", &[1][..]),
            ("ZUNIONSTORE d x a", &[1]),
            ("ZUNION 18446744073709551615 a", &[]),
            ("ZUNION 9223372036854775807 a", &[]),
            ("ZUNION 0 a", &[]),
            ("LMPOP -1 a LEFT", &[]),
            ("GET", &[]),
            ("MSET a", &[1]),
        ] {
            assert_eq!(found(text), places, "{text}");
        }
    }

    #[test]
    fn getkeys_answers_as_redis_does() {
        for (text, answer) in [
            ("mset a 1 b 2", "a b"),
            ("object encoding foo", "foo"),
            ("memory usage foo", "foo"),
            ("zunionstore d 2 a b", "d a b"),
            ("zunionstore d 5 a", "ERR Invalid arguments specified for command"),
            ("lmpop 0 a left", "ERR Invalid arguments specified for command"),
            ("ping", "ERR The command has no key arguments"),
            ("config get x", "ERR The command has no key arguments"),
            ("get", "ERR Invalid number of arguments specified for command"),
            ("foo a", "ERR Invalid command specified"),
            ("config foo", "ERR Invalid command specified"),
        ] {
            assert_eq!(asked(text), answer, "{text}");
        }
    }

    #[test]
    fn set_with_get_reads_its_key() {
        let names = |text| {
            let words = words(text);
            of_command(&words).unwrap()[0].flags.iter().map(|flag| flag.name()).collect::<Vec<_>>()
        };
        assert_eq!(names("set k v"), ["OW", "update"]);
        assert_eq!(names("set k v get"), ["RW", "access", "update"]);
    }
}
