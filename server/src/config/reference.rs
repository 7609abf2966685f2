//! docs/configuration.md, written from the table of directives: the document cannot say what the code does not. After a
//! change write it anew with `HOLDFAST_WRITE_DOCS=1 cargo test -p holdfast-server --lib config::reference`.

use std::fmt::Write as _;
use std::path::Path;

use super::directives::{DIRECTIVES, Directive, Status, find};
use super::settings::Config;
use super::value::Kind;

/// Chapters, each with the directive it begins with.
const CHAPTERS: &[(&str, &str)] = &[
    ("Network", "bind"),
    ("The process", "daemonize"),
    ("Who may do what", "requirepass"),
    ("Data on disk", "dir"),
    ("Memory", "maxmemory"),
    ("The cluster", "cluster-enabled"),
    ("Replicas", "write-ack"),
    ("Seeing what happens", "slowlog-log-slower-than"),
];

const OWN: &str = "holdfast's own.";
const NOT_YET: &str = "Accepted; **not applied yet**.";

/// What differs from Redis, or is not done yet.
const NOTES: &[(&str, &str)] = &[
    ("bind", "The bus listens on the same addresses."),
    ("port", "Redis: 0 means no port."),
    ("loglevel", "`verbose` says what `notice` says."),
    ("log-format", OWN),
    (
        "io-threads",
        "Redis: default 1, and one thread runs all commands; here every worker reads, runs and writes.",
    ),
    ("hz", "Shown by INFO; background work has its own pace."),
    ("enable-debug-command", "Redis: `no`."),
    (
        "appendfsync",
        "There is no `appendonly no`: everything is logged before it is answered, so that a kill -9 loses nothing.",
    ),
    ("wal-segment-size", OWN),
    ("wal-retain-size", "holdfast's own; in place of `repl-backlog-size`, on disk."),
    ("checkpoint-log-size", "holdfast's own; in place of `save` and `auto-aof-rewrite-*`."),
    (
        "scrub-rate",
        "holdfast's own. Bytes per second of sealed log and slot images that are read back and verified in the background; 0: off. Damaged images are made again from memory; a damaged piece of the log is mended with the same bytes from another member of the shard, verified, see INFO persistence.",
    ),
    (
        "maxmemory-policy",
        "Five keys are sampled for each that goes; the `lfu` policies go by the time of last use.",
    ),
    ("cluster-preferred-endpoint-type", NOT_YET),
    ("cluster-secret", "holdfast's own; in a cluster it takes the place of masterauth."),
    ("cluster-zone", "holdfast's own. One node of each zone votes on who is master."),
    ("cluster-allow-reads-when-down", NOT_YET),
    ("cluster-migration-barrier", NOT_YET),
    ("cluster-allow-replica-migration", NOT_YET),
    (
        "cluster-rebalance-masters",
        "holdfast's own. Once all is well and in sync for three node timeouts, masters are handed back until no machine (`cluster-zone`) has two more than another could take over; the metadata leader's setting counts.",
    ),
    (
        "unclean-failover",
        "holdfast's own. The rule is the shard's and survives its master: as the master was last told. Set it on every node, before it is needed; a shard without a master keeps the rule it had. `no`: only members of the in-sync set are ever promoted. `yes`: when all of the set have failed or lost their data, the freshest replica left is (within `cluster-replica-validity-factor`); what it lacks is lost.",
    ),
    (
        "min-replicas-to-write",
        "With `write-ack in-sync` in a cluster only members of the in-sync set count. INFO's min_slaves_good_slaves is how many there are.",
    ),
    (
        "write-ack",
        "holdfast's own. `in-sync`: two machines, or the disk of a master that is alone; without a cluster it is as `local`. When it is set to `local`, writes that wait then are still acknowledged as `in-sync`. Set it on every node: a master's own says what it waits for, the metadata leader's who may be promoted.",
    ),
    (
        "shutdown-timeout",
        "How long a stopping master waits for a replica to take over; Redis: for its replicas to catch up.",
    ),
    ("replica-lag-max", "holdfast's own. A write waits at most so long for a replica that is gone."),
];

const HEAD: &str = "\
# Configuration

<!-- Written by server/src/config/reference.rs from the table of directives; change the table, not this file. -->

`holdfast-server [FILE] [--NAME VALUE …]`: the file has redis.conf's syntax (`#` comments, quotes, `include`), `-` reads it from standard
input, and an option wins over the file. An unknown or malformed directive is refused with its file and line, and the directive
that was probably meant. Sizes: `1k` is 1000 bytes, `1kb` is 1024, and so on with `m` and `g`. [configs/holdfast.conf](../configs/holdfast.conf)
is a commented file to start from.

*Run time* says whether `CONFIG SET` may change the directive; `CONFIG REWRITE` puts what was changed into the file. `CONFIG GET`
knows all of them, older names included.
";

const IGNORED: &str = "
## Accepted without effect

Redis knows these and holdfast does not need them. Each that is given costs one line in the log at the start; `CONFIG GET` and, where
Redis has it, `CONFIG SET` answer as Redis would.

| name | default | why it is not needed |
|---|---|---|
";

const REFUSED: &str = "
## Refused

holdfast cannot do what these ask for, and going on without would be a lie. Only their defaults are accepted.

| name | default | why |
|---|---|---|
";

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (index, directive) in DIRECTIVES.iter().enumerate() {
        if let Some((title, _)) = CHAPTERS.iter().find(|(_, first)| *first == directive.name) {
            text.push_str("\n## ");
            text.push_str(title);
            text.push_str("\n\n| name | default | may be | run time | meaning | differs from Redis |\n|---|---|---|---|---|---|\n");
        }
        assert!(index > 0 || directive.name == CHAPTERS[0].1, "a directive stands before the first chapter");
        if directive.status == Status::Used {
            text.push_str(&used_row(directive));
        }
    }
    text.push_str(IGNORED);
    for directive in DIRECTIVES {
        if let Status::NotNeeded(why) = directive.status {
            text.push_str(&other_row(directive, why));
        }
    }
    text.push_str(REFUSED);
    for directive in DIRECTIVES {
        if let Status::Unsupported(why) = directive.status {
            text.push_str(&other_row(directive, why));
        }
    }
    text
}

fn used_row(directive: &Directive) -> String {
    let place = Config::FIELDS.iter().position(|name| *name == directive.name).expect("used: it has a field");
    let note = NOTES.iter().find(|(name, _)| *name == directive.name).map_or("", |(_, note)| note);
    let run_time = if directive.changes_at_run_time { "yes" } else { "no" };
    format!(
        "| {} | {} | {} | {run_time} | {} | {note} |\n",
        names(directive),
        value(directive),
        allowed(directive.kind),
        Config::MEANINGS[place].trim(),
    )
}

fn other_row(directive: &Directive, why: &str) -> String {
    format!("| {} | {} | {why} |\n", names(directive), value(directive))
}

fn names(directive: &Directive) -> String {
    let mut text = format!("`{}`", directive.name);
    if let Some(alias) = directive.alias {
        write!(text, " (`{alias}`)").expect("writing to a String cannot fail");
    }
    text
}

fn value(directive: &Directive) -> String {
    match directive.kind {
        _ if directive.default.is_empty() => "(empty)".to_owned(),
        Kind::Memory { .. } => format!("`{}`", size(directive.default.parse().expect("checked by a test"))),
        _ => format!("`{}`", directive.default),
    }
}

fn allowed(kind: Kind) -> String {
    const MANY: i64 = i32::MAX as i64;
    match kind {
        Kind::Bool => "`yes`, `no`".to_owned(),
        Kind::Integer { min, max: MANY.. } => format!("{min} and up"),
        Kind::Integer { min, max } => format!("{min} to {max}"),
        Kind::Memory { min: 0, .. } | Kind::MemoryOrPercent => "a size".to_owned(),
        Kind::Memory { min, max } if max >= i64::MAX as u64 => format!("`{}` and up", size(min)),
        Kind::Memory { min, max } => format!("`{}` to `{}`", size(min), size(max)),
        Kind::OneOf(names) => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        Kind::Words | Kind::SavePoints | Kind::OutputLimits => "words".to_owned(),
        Kind::Text => "text".to_owned(),
    }
}

fn size(bytes: u64) -> String {
    let units = [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")];
    match units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[test]
fn the_document_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let wanted = document();
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let different = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        found == wanted,
        "docs/configuration.md is not what the table says; first difference: {different:?}. Write it anew: \
         HOLDFAST_WRITE_DOCS=1 cargo test -p holdfast-server --lib config::reference"
    );
}

#[test]
fn every_directive_is_in_the_document_once_and_every_note_and_chapter_is_used() {
    let text = document();
    for directive in DIRECTIVES {
        let row = format!("\n| `{}`", directive.name);
        let count =
            text.match_indices(&row).filter(|(at, _)| !text[at + row.len()..].starts_with('-')).count();
        assert_eq!(count, 1, "{}", directive.name);
    }
    for (name, note) in NOTES {
        let place = find(name).unwrap_or_else(|| panic!("no directive {name}"));
        assert_eq!(DIRECTIVES[place].status, Status::Used, "{name}");
        assert!(text.contains(note), "{name}");
    }
    for (title, first) in CHAPTERS {
        assert!(text.contains(&format!("\n## {title}\n")), "{first}");
    }
}
