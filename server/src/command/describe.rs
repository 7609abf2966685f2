//! COMMAND's replies: what clients and redis-cli learn about a command. INFO out of the table, DOCS out of `docs.json`
//! (Redis's own documentation texts, BSD licence; see `generate.py`), read once, when somebody asks.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::arguments::is;
use super::errors::CommandError;
use super::keys;
use super::table::{Begin, Category, CommandId, CommandSpec, Find, KeySpec};
use crate::glob;
use crate::resp::{Arguments, ReplyWriter};

/// The command, or the container's subcommand (`config|get`), of this name, in any case.
pub fn named(name: &[u8]) -> Option<&'static CommandSpec> {
    match name.iter().position(|&byte| byte == b'|') {
        Some(bar) => CommandId::lookup(&name[..bar])?.spec().subcommand(&name[bar + 1..]),
        None => CommandId::lookup(name).map(CommandId::spec),
    }
}

/// COMMAND with its subcommands.
///
/// # Errors
/// Arguments that do not follow its grammar, in Redis's words.
pub fn command(arguments: Arguments<'_>, reply: &mut ReplyWriter<'_>) -> Result<(), CommandError> {
    let Some((subcommand, names)) = arguments.get(1..).and_then(<[_]>::split_first) else {
        info_of(reply, CommandId::all().map(|id| Some(id.spec())));
        return Ok(());
    };
    match (subcommand.to_ascii_lowercase().as_slice(), names) {
        (b"count", _) => reply.count(CommandId::COUNT),
        (b"info", []) => info_of(reply, CommandId::all().map(|id| Some(id.spec()))),
        (b"info", names) => info_of(reply, names.iter().map(|name| named(name))),
        (b"docs", names) => docs_of(reply, names),
        (b"list", []) => list(reply, Filter::All),
        (b"list", [filterby, kind, value]) if is(filterby, "filterby") => {
            list(reply, Filter::read(kind, value)?)
        }
        (b"list", _) => return Err(CommandError::Syntax),
        (b"getkeys", words) => {
            let keys = keys::of_command(words)?;
            reply.array(keys.len());
            keys.iter().for_each(|key| reply.bulk(words[key.position]));
        }
        (b"getkeysandflags", words) => {
            let keys = keys::of_command(words)?;
            reply.array(keys.len());
            for key in keys {
                reply.array(2);
                reply.bulk(words[key.position]);
                reply.set(key.flags.len());
                key.flags.iter().for_each(|flag| reply.simple(flag.name()));
            }
        }
        (b"help", _) => {
            reply.array(HELP.len());
            HELP.iter().for_each(|line| reply.simple(line));
        }
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(())
}

const HELP: &[&str] = &[
    "COMMAND <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the number of commands.",
    "LIST [FILTERBY <MODULE name|ACLCAT category|PATTERN pattern>]",
    "    Return the names of all commands and subcommands, or of some.",
    "INFO [<command-name> ...]",
    "    Return details about these commands, or about all.",
    "DOCS [<command-name> ...]",
    "    Return the documentation of these commands, or of all.",
    "GETKEYS <full-command>",
    "    Return the keys of a full command.",
    "GETKEYSANDFLAGS <full-command>",
    "    Return the keys of a full command, and what it does with them.",
    "HELP",
    "    Print this help.",
];

fn info_of(reply: &mut ReplyWriter<'_>, specs: impl ExactSizeIterator<Item = Option<&'static CommandSpec>>) {
    reply.array(specs.len());
    for spec in specs {
        match spec {
            Some(spec) => info(reply, spec),
            None => reply.null(),
        }
    }
}

fn docs_of(reply: &mut ReplyWriter<'_>, names: &[&[u8]]) {
    let (start, mut count) = (reply.defer(), 0);
    let specs: Vec<&'static CommandSpec> = match names {
        [] => CommandId::all().map(CommandId::spec).collect(),
        names => names.iter().filter_map(|name| named(name)).collect(),
    };
    for spec in specs {
        docs(reply, spec);
        count += 1;
    }
    reply.close_map(start, count);
}

/// Which commands COMMAND LIST lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter<'a> {
    /// All.
    All,
    /// Those of an ACL category (without its `@`).
    Category(&'a [u8]),
    /// Those whose name fits a pattern.
    Pattern(&'a [u8]),
    /// None: holdfast has no modules.
    Module,
}

impl<'a> Filter<'a> {
    fn read(kind: &[u8], value: &'a [u8]) -> Result<Self, CommandError> {
        match kind.to_ascii_lowercase().as_slice() {
            b"module" => Ok(Self::Module),
            b"aclcat" => Ok(Self::Category(value)),
            b"pattern" => Ok(Self::Pattern(value)),
            _ => Err(CommandError::Syntax),
        }
    }
}

/// COMMAND LIST
pub fn list(reply: &mut ReplyWriter<'_>, filter: Filter<'_>) {
    let category = match filter {
        Filter::Category(name) => {
            Category::ALL.iter().find(|category| category.name().as_bytes()[1..].eq_ignore_ascii_case(name))
        }
        _ => None,
    };
    let wanted = |spec: &CommandSpec| match filter {
        Filter::All => true,
        Filter::Category(_) => category.is_some_and(|&category| spec.is_in(category)),
        Filter::Pattern(pattern) => glob::matches_ignoring_case(pattern, spec.name.as_bytes()),
        Filter::Module => false,
    };
    let (start, mut count) = (reply.defer(), 0);
    for spec in CommandId::all().flat_map(|id| std::iter::once(id.spec()).chain(id.spec().subcommands)) {
        if wanted(spec) {
            reply.bulk(spec.name.as_bytes());
            count += 1;
        }
    }
    reply.close_array(start, count);
}

/// One command of COMMAND and COMMAND INFO.
pub fn info(reply: &mut ReplyWriter<'_>, spec: &CommandSpec) {
    reply.array(10);
    reply.bulk(spec.name.as_bytes());
    reply.integer(spec.arity.into());
    reply.set(spec.flags().count());
    spec.flags().for_each(|flag| reply.simple(flag.name()));
    for place in [spec.first_key, spec.last_key, spec.key_step] {
        reply.integer(place.into());
    }
    reply.set(spec.categories().count());
    spec.categories().for_each(|category| reply.simple(category.name()));
    reply.set(spec.tips.len());
    spec.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    reply.set(spec.key_specs.len());
    spec.key_specs.iter().for_each(|key_spec| info_key_spec(reply, key_spec));
    match spec.subcommands {
        [] => reply.set(0),
        subcommands => {
            reply.array(subcommands.len());
            subcommands.iter().for_each(|subcommand| info(reply, subcommand));
        }
    }
}

fn info_key_spec(reply: &mut ReplyWriter<'_>, spec: &KeySpec) {
    reply.map(3 + usize::from(!spec.notes.is_empty()));
    if !spec.notes.is_empty() {
        reply.bulk(b"notes");
        reply.bulk(spec.notes.as_bytes());
    }
    reply.bulk(b"flags");
    reply.set(spec.flags.len());
    spec.flags.iter().for_each(|flag| reply.simple(flag.name()));
    reply.bulk(b"begin_search");
    match spec.begin {
        Begin::Index(index) => search(reply, "index", &[("index", index)], None),
        Begin::Keyword { keyword, from } => search(reply, "keyword", &[("startfrom", from)], Some(keyword)),
        Begin::Unknown => search(reply, "unknown", &[], None),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        Find::Range { last, step, limit } => {
            search(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", limit)], None);
        }
        Find::KeyNum { number, first, step } => {
            search(reply, "keynum", &[("keynumidx", number), ("firstkey", first), ("keystep", step)], None);
        }
        Find::Unknown => search(reply, "unknown", &[], None),
    }
}

fn search(reply: &mut ReplyWriter<'_>, kind: &str, numbers: &[(&str, i32)], keyword: Option<&str>) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(numbers.len() + usize::from(keyword.is_some()));
    if let Some(keyword) = keyword {
        text(reply, "keyword", keyword);
    }
    for &(name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.integer(number.into());
    }
}

/// The name and the documentation of one command of COMMAND DOCS: two elements of its map.
pub fn docs(reply: &mut ReplyWriter<'_>, spec: &CommandSpec) {
    reply.bulk(spec.name.as_bytes());
    match documentation(spec.name) {
        Some(documentation) => documentation.write(reply),
        None => reply.map(0),
    }
}

fn documentation(name: &str) -> Option<&'static Documentation> {
    static ALL: LazyLock<BTreeMap<String, Documentation>> = LazyLock::new(|| {
        serde_json::from_str(include_str!("docs.json")).expect("docs.json is part of the program and tested")
    });
    match name.split_once('|') {
        Some((container, _)) => ALL.get(container)?.subcommands.get(name),
        None => ALL.get(name),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Documentation {
    summary: String,
    since: String,
    group: String,
    complexity: Option<String>,
    #[serde(default)]
    doc_flags: Vec<String>,
    deprecated_since: Option<String>,
    replaced_by: Option<String>,
    #[serde(default)]
    history: Vec<(String, String)>,
    #[serde(default)]
    arguments: Vec<Argument>,
    #[serde(default)]
    subcommands: BTreeMap<String, Documentation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    key_spec_index: Option<i64>,
    token: Option<String>,
    since: Option<String>,
    deprecated_since: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    arguments: Vec<Argument>,
}

fn text(reply: &mut ReplyWriter<'_>, name: &str, value: &str) {
    reply.bulk(name.as_bytes());
    reply.bulk(value.as_bytes());
}

fn optional_texts(reply: &mut ReplyWriter<'_>, fields: &[(&str, Option<&str>)]) -> usize {
    let present = fields.iter().filter_map(|&(name, value)| Some((name, value?)));
    present.map(|(name, value)| text(reply, name, value)).count()
}

fn simple_set(reply: &mut ReplyWriter<'_>, name: &str, members: &[String]) -> usize {
    if members.is_empty() {
        return 0;
    }
    reply.bulk(name.as_bytes());
    reply.set(members.len());
    members.iter().for_each(|member| reply.simple(member));
    1
}

fn arguments(reply: &mut ReplyWriter<'_>, arguments: &[Argument]) -> usize {
    if arguments.is_empty() {
        return 0;
    }
    reply.bulk(b"arguments");
    reply.array(arguments.len());
    arguments.iter().for_each(|argument| argument.write(reply));
    1
}

impl Documentation {
    fn write(&self, reply: &mut ReplyWriter<'_>) {
        let start = reply.defer();
        let mut fields = optional_texts(
            reply,
            &[
                ("summary", Some(&self.summary)),
                ("since", Some(&self.since)),
                ("group", Some(&self.group)),
                ("complexity", self.complexity.as_deref()),
            ],
        );
        fields += simple_set(reply, "doc_flags", &self.doc_flags);
        fields += optional_texts(
            reply,
            &[
                ("deprecated_since", self.deprecated_since.as_deref()),
                ("replaced_by", self.replaced_by.as_deref()),
            ],
        );
        if !self.history.is_empty() {
            fields += 1;
            reply.bulk(b"history");
            reply.set(self.history.len());
            for (version, change) in &self.history {
                reply.array(2);
                reply.bulk(version.as_bytes());
                reply.bulk(change.as_bytes());
            }
        }
        fields += arguments(reply, &self.arguments);
        if !self.subcommands.is_empty() {
            fields += 1;
            reply.bulk(b"subcommands");
            reply.map(self.subcommands.len());
            for (name, documentation) in &self.subcommands {
                reply.bulk(name.as_bytes());
                documentation.write(reply);
            }
        }
        reply.close_map(start, fields);
    }
}

impl Argument {
    fn write(&self, reply: &mut ReplyWriter<'_>) {
        let start = reply.defer();
        text(reply, "name", &self.name);
        text(reply, "type", &self.kind);
        let mut fields = 2;
        if let Some(index) = self.key_spec_index {
            fields += 1;
            reply.bulk(b"key_spec_index");
            reply.integer(index);
        }
        fields += optional_texts(
            reply,
            &[
                ("token", self.token.as_deref()),
                ("since", self.since.as_deref()),
                ("deprecated_since", self.deprecated_since.as_deref()),
            ],
        );
        fields += simple_set(reply, "flags", &self.flags);
        fields += arguments(reply, &self.arguments);
        reply.close_map(start, fields);
    }
}

#[cfg(test)]
mod tests;
