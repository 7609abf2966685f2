//! What a row of the command table is made of, and finding a row by name. The rows themselves are data, generated from
//! redis-server's own table (`generate.py`, `implemented.txt`, `additions.json`).

use smallvec::SmallVec;

use super::errors::CommandError;
use super::generated::{COMMANDS, IDS};
use crate::resp::Arguments;

pub use super::generated::CommandId;

/// An enum whose members have names and are kept in sets of bits.
macro_rules! named {
    ($(#[$meta:meta])* $kind:ident { $($member:ident $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[allow(missing_docs, reason = "the names are Redis's own; COMMAND INFO's page describes them")]
        pub enum $kind { $($member,)* }

        impl $kind {
            /// All of them, in the order in which Redis lists them.
            pub const ALL: &[Self] = &[$(Self::$member,)*];

            /// The name that clients see.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$member => $name,)* }
            }
        }
    };
}

named! {
    /// What a command is allowed and expected to do (COMMAND INFO, "Flags").
    Flag {
        Write "write", Readonly "readonly", DenyOom "denyoom", Admin "admin", Pubsub "pubsub", NoScript "noscript",
        Blocking "blocking", Loading "loading", Stale "stale", SkipMonitor "skip_monitor", SkipSlowlog "skip_slowlog",
        Asking "asking", Fast "fast", NoAuth "no_auth", MayReplicate "may_replicate",
        NoMandatoryKeys "no_mandatory_keys", NoAsyncLoading "no_async_loading", NoMulti "no_multi",
        MovableKeys "movablekeys", AllowBusy "allow_busy",
    }
}

named! {
    /// ACL categories.
    Category {
        Keyspace "@keyspace", Read "@read", Write "@write", Set "@set", SortedSet "@sortedset", List "@list",
        Hash "@hash", String "@string", Bitmap "@bitmap", Hyperloglog "@hyperloglog", Geo "@geo", Stream "@stream",
        Pubsub "@pubsub", Admin "@admin", Fast "@fast", Slow "@slow", Blocking "@blocking", Dangerous "@dangerous",
        Connection "@connection", Transaction "@transaction", Scripting "@scripting",
    }
}

named! {
    /// What a command does with a key (COMMAND INFO, "Key specifications").
    KeyFlag {
        Ro "RO", Rw "RW", Overwrite "OW", Rm "RM", Access "access", Update "update", Insert "insert", Delete "delete",
        NotKey "not_key", Incomplete "incomplete", VariableFlags "variable_flags",
    }
}

/// Where the search for keys begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// At this argument.
    Index(i32),
    /// After this word, looked for from this argument on (from the end, when negative).
    Keyword {
        /// The word.
        keyword: &'static str,
        /// Where to look for it.
        from: i32,
    },
    /// Not to be told from the arguments' places.
    Unknown,
}

/// How keys are found from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Find {
    /// A range of arguments.
    Range {
        /// The last, counted from the beginning; from the end of the arguments, when negative.
        last: i32,
        /// Arguments from one key to the next.
        step: i32,
        /// With `last` -1: 2 for the first half of the rest, 3 for the first third; 0 and 1 for all of it.
        limit: i32,
    },
    /// As many as an argument says.
    KeyNum {
        /// The argument with the number, counted from the beginning.
        number: i32,
        /// The first key, counted from the beginning.
        first: i32,
        /// Arguments from one key to the next.
        step: i32,
    },
    /// Not to be told from the arguments' places.
    Unknown,
}

/// Where one group of a command's keys is, and what happens to it.
#[derive(Debug)]
pub struct KeySpec {
    /// Redis's remark, or empty.
    pub notes: &'static str,
    /// What happens to the keys.
    pub flags: &'static [KeyFlag],
    /// Where the search begins.
    pub begin: Begin,
    /// How it goes on.
    pub find: Find,
}

impl KeySpec {
    /// Whether these are keys at all: CLUSTER KEYSLOT and the like name words that are only hashed like keys.
    pub fn is_key(&self) -> bool {
        !self.flags.contains(&KeyFlag::NotKey)
    }
}

/// One command, or one subcommand of a container.
#[derive(Debug)]
pub struct CommandSpec {
    /// Lower case; of a subcommand with its container: `config|get`.
    pub name: &'static str,
    /// Number of arguments, the name among them; at least so many, when negative.
    pub arity: i32,
    pub(super) flags: u32,
    /// The first key's place, 0 when there is none or only [`Self::key_specs`] can tell.
    pub first_key: i32,
    /// The last key's place; from the end, when negative.
    pub last_key: i32,
    /// Arguments from one key to the next.
    pub key_step: i32,
    pub(super) categories: u32,
    /// Hints for proxies and cluster clients.
    pub tips: &'static [&'static str],
    /// Where the keys are.
    pub key_specs: &'static [KeySpec],
    /// A container's subcommands, by name.
    pub subcommands: &'static [CommandSpec],
}

pub(super) const fn flags(members: &[Flag]) -> u32 {
    let (mut bits, mut index) = (0, 0);
    while index < members.len() {
        bits |= 1 << members[index] as u32;
        index += 1;
    }
    bits
}

pub(super) const fn categories(members: &[Category]) -> u32 {
    let (mut bits, mut index) = (0, 0);
    while index < members.len() {
        bits |= 1 << members[index] as u32;
        index += 1;
    }
    bits
}

impl CommandSpec {
    /// Whether the command has this flag.
    pub const fn has(&self, flag: Flag) -> bool {
        self.flags & (1 << flag as u32) != 0
    }

    /// Whether the command belongs to this category.
    pub const fn is_in(&self, category: Category) -> bool {
        self.categories & (1 << category as u32) != 0
    }

    /// Its flags, in Redis's order.
    pub fn flags(&self) -> impl Iterator<Item = Flag> {
        Flag::ALL.iter().copied().filter(|&flag| self.has(flag))
    }

    /// Its categories, in Redis's order.
    pub fn categories(&self) -> impl Iterator<Item = Category> {
        Category::ALL.iter().copied().filter(|&category| self.is_in(category))
    }

    /// Whether it takes this number of arguments, its name among them.
    pub const fn accepts_arity(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity >= 0 { count == wanted } else { count >= wanted }
    }

    /// The container's subcommand of this name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static CommandSpec> {
        let prefix = self.name.len() + 1;
        self.subcommands.iter().find(|spec| spec.name.as_bytes()[prefix..].eq_ignore_ascii_case(name))
    }
}

impl CommandId {
    /// Number of commands.
    pub const COUNT: usize = COMMANDS.len();

    /// All commands, by name; the n-th has the number n.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        IDS.iter().copied()
    }

    /// The command of this name, in any case.
    pub fn lookup(name: &[u8]) -> Option<Self> {
        let index = usize::from(LOOKUP.places[place(name, LOOKUP.seed)]).checked_sub(1)?;
        COMMANDS[index].name.as_bytes().eq_ignore_ascii_case(name).then(|| IDS[index])
    }

    /// The command's row.
    pub fn spec(self) -> &'static CommandSpec {
        &COMMANDS[self as usize]
    }

    /// The row that these arguments are for: a container's subcommand, where there is one of that name.
    pub fn spec_for(self, arguments: Arguments<'_>) -> &'static CommandSpec {
        let spec = self.spec();
        match arguments.get(1) {
            Some(name) if !spec.subcommands.is_empty() => spec.subcommand(name).unwrap_or(spec),
            _ => spec,
        }
    }
}

/// The name that was looked up last: requests of one command come in a row.
#[derive(Default)]
pub struct LastName {
    name: SmallVec<[u8; 24]>,
    id: Option<CommandId>,
}

impl LastName {
    /// As [`resolve`].
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn resolve(
        &mut self,
        arguments: Arguments<'_>,
    ) -> Result<(CommandId, &'static CommandSpec), CommandError> {
        let id = arguments.first().and_then(|name| self.lookup(name));
        let id = id.ok_or_else(|| CommandError::unknown_command(arguments))?;
        let mut spec = id.spec();
        if let (Some(name), false) = (arguments.get(1), spec.subcommands.is_empty()) {
            spec = spec.subcommand(name).ok_or_else(|| CommandError::unknown_subcommand(arguments))?;
        }
        if !spec.accepts_arity(arguments.len()) {
            return Err(CommandError::wrong_arity(arguments));
        }
        Ok((id, spec))
    }

    /// As [`CommandId::lookup`].
    fn lookup(&mut self, name: &[u8]) -> Option<CommandId> {
        if self.id.is_none() || *self.name != *name {
            self.id = CommandId::lookup(name);
            self.name.clear();
            // What is no name of a command may be of any length, and is not kept.
            self.name.extend_from_slice(if self.id.is_some() { name } else { &[] });
        }
        self.id
    }
}

/// The command (and its row, or its subcommand's) that these arguments call.
///
/// # Errors
/// No such command or subcommand, or a wrong number of arguments, in Redis's words.
pub fn resolve(arguments: Arguments<'_>) -> Result<(CommandId, &'static CommandSpec), CommandError> {
    LastName::default().resolve(arguments)
}

const PLACES: usize = 4096;

/// Names → rows without collisions: a seed is tried at compile time until every name has a place of its own.
struct Lookup {
    seed: u32,
    /// A row's index + 1, or 0.
    places: [u16; PLACES],
}

static LOOKUP: Lookup = {
    let mut seed = 0;
    loop {
        if let Some(places) = placed(seed) {
            break Lookup { seed, places };
        }
        seed += 1;
    }
};

const fn placed(seed: u32) -> Option<[u16; PLACES]> {
    let mut places = [0; PLACES];
    let mut index = 0;
    while index < COMMANDS.len() {
        let place = place(COMMANDS[index].name.as_bytes(), seed);
        if places[place] != 0 {
            return None;
        }
        index += 1;
        places[place] = index as u16;
    }
    Some(places)
}

/// FNV-1a over the name in lower case.
const fn place(name: &[u8], seed: u32) -> usize {
    let mut hash = seed.wrapping_mul(0x9e37_79b9) ^ 0x811c_9dc5;
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ (name[index] | 0x20) as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    (hash ^ (hash >> 15)) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_name_in_any_case() {
        for (number, id) in CommandId::all().enumerate() {
            let name = id.spec().name;
            assert_eq!(id as usize, number);
            assert_eq!(CommandId::lookup(name.as_bytes()), Some(id));
            assert_eq!(CommandId::lookup(name.to_uppercase().as_bytes()), Some(id));
            assert_eq!(CommandId::lookup(&name.as_bytes()[1..]).filter(|&other| other == id), None);
        }
        assert_eq!(CommandId::lookup(b""), None);
        assert_eq!(CommandId::lookup(b"get\0"), None);
        assert_eq!(CommandId::lookup(b"ge\x54 "), None);
    }

    #[test]
    fn names_are_sorted_so_that_the_table_reads_well() {
        let names: Vec<&str> = CommandId::all().map(|id| id.spec().name).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn arity_counts_the_name_and_is_a_minimum_when_negative() {
        let get = CommandId::Get.spec();
        assert!(get.accepts_arity(2) && !get.accepts_arity(1) && !get.accepts_arity(3));
        let set = CommandId::Set.spec();
        assert!(set.accepts_arity(3) && set.accepts_arity(9) && !set.accepts_arity(2));
    }

    #[test]
    fn resolving_answers_with_redis_words() {
        let words =
            |text: &'static str| -> Vec<&'static [u8]> { text.split(' ').map(str::as_bytes).collect() };
        let mut last = LastName::default();
        let mut answer = |text: &'static str| match last.resolve(&words(text)) {
            Ok((_, spec)) => spec.name.to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(
            (answer("GET a"), answer("GET a"), answer("SET a b")),
            ("get".into(), "get".into(), "set".into())
        );
        assert_eq!(answer("Config Get a"), "config|get");
        assert_eq!(answer("get"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(answer("config get"), "ERR wrong number of arguments for 'config|get' command");
        assert_eq!(answer("object"), "ERR wrong number of arguments for 'object' command");
        assert_eq!(answer("config foo"), "ERR unknown subcommand 'foo'. Try CONFIG HELP.");
        assert_eq!(answer("FOO a b"), "ERR unknown command 'FOO', with args beginning with: 'a' 'b' ");
    }
}
