//! COMMAND's replies against a real redis-server's, where one is installed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::resp::Protocol;

/// A reply, as far as its order means something.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug, Clone)]
enum Value {
    Text(u8, Vec<u8>),
    Array(Vec<Value>),
    Set(BTreeSet<Value>),
    Map(BTreeSet<(Value, Value)>),
}

fn read(input: &mut impl BufRead) -> Value {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).unwrap();
    let rest = String::from_utf8(line[1..line.len() - 2].to_vec()).unwrap();
    let count = || rest.parse::<usize>().unwrap();
    match line[0] {
        b'$' => {
            let mut bytes = vec![0; count() + 2];
            input.read_exact(&mut bytes).unwrap();
            bytes.truncate(count());
            Value::Text(b'$', bytes)
        }
        b'*' => Value::Array((0..count()).map(|_| read(input)).collect()),
        b'~' => Value::Set((0..count()).map(|_| read(input)).collect()),
        b'%' => Value::Map((0..count()).map(|_| (read(input), read(input))).collect()),
        kind => Value::Text(kind, rest.into_bytes()),
    }
}

fn ours(write: impl FnOnce(&mut ReplyWriter<'_>)) -> Value {
    let mut out = Vec::new();
    write(&mut ReplyWriter::new(&mut out, Protocol::Resp3));
    read(&mut &out[..])
}

struct Redis {
    process: Child,
    socket: TcpStream,
    input: BufReader<TcpStream>,
    /// Where it would save something.
    _directory: tempfile::TempDir,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _ended_already = self.process.wait();
    }
}

impl Redis {
    /// `None` when no redis-server 7.0, whose table ours is, is installed.
    fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains("v=7.0.") {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let process = Command::new("redis-server")
            .arg("--dir")
            .arg(directory.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let socket = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let socket = socket.expect("redis-server starts within 5 s");
        let input = BufReader::new(socket.try_clone().unwrap());
        let mut redis = Self { process, socket, input, _directory: directory };
        redis.ask(&["HELLO", "3"]);
        Some(redis)
    }

    fn ask(&mut self, words: &[&str]) -> Value {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request.push_str(&format!("${}\r\n{word}\r\n", word.len())));
        self.socket.write_all(request.as_bytes()).unwrap();
        read(&mut self.input)
    }
}

const NEW_IN_7_2: [&str; 6] =
    ["client|no-touch", "client|setinfo", "cluster|myshardid", "waitaof", "zrank", "zrevrank"];

fn each(visit: impl FnMut(&'static CommandSpec)) {
    CommandId::all().flat_map(|id| std::iter::once(id.spec()).chain(id.spec().subcommands)).for_each(visit);
}

#[test]
fn every_command_and_subcommand_is_described_as_redis_server_describes_it() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("skipped: no redis-server 7.0 here");
        return;
    };
    let mut compared = 0;
    each(|spec| {
        // A container is compared without its subcommands: holdfast has a part of them, each compared itself.
        let bare = CommandSpec { subcommands: &[], flags: spec.flags, categories: spec.categories, ..*spec };
        if NEW_IN_7_2.contains(&spec.name) {
            return;
        }
        let Value::Array(mut theirs) = redis.ask(&["COMMAND", "INFO", spec.name]) else {
            panic!("{}", spec.name)
        };
        if let Some(Value::Array(fields)) = theirs.first_mut() {
            fields[9] = Value::Set(BTreeSet::new());
        }
        assert_eq!(
            Value::Array(vec![ours(|reply| info(reply, &bare))]),
            Value::Array(theirs),
            "{}",
            spec.name
        );

        let Value::Map(theirs) = redis.ask(&["COMMAND", "DOCS", spec.name]) else { panic!("{}", spec.name) };
        let ours = ours(|reply| {
            reply.map(1);
            docs(reply, spec);
        });
        let without_subcommands = |entry: (Value, Value)| match entry {
            (name, Value::Map(fields)) => {
                let is_other = |field: &(Value, Value)| field.0 != Value::Text(b'$', b"subcommands".to_vec());
                (name, Value::Map(fields.into_iter().filter(is_other).collect()))
            }
            other => other,
        };
        let Value::Map(ours) = ours else { panic!("a map") };
        let ours: Vec<_> = ours.into_iter().map(without_subcommands).collect();
        let theirs: Vec<_> = theirs.into_iter().map(without_subcommands).collect();
        assert_eq!(ours, theirs, "{}", spec.name);
        compared += 1;
    });
    assert!(compared > 200, "{compared}");
}

#[test]
fn everything_is_documented() {
    each(|spec| assert!(documentation(spec.name).is_some(), "{}", spec.name));
}

#[test]
fn names_of_subcommands_are_found_with_their_container() {
    assert_eq!(named(b"Config|GET").map(|spec| spec.name), Some("config|get"));
    assert_eq!(named(b"zadd").map(|spec| spec.name), Some("zadd"));
    assert!(named(b"config|foo").is_none() && named(b"foo|get").is_none() && named(b"get|").is_none());
}

fn said(words: &str) -> Value {
    let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
    let mut out = Vec::new();
    let mut reply = ReplyWriter::new(&mut out, Protocol::Resp3);
    if let Err(error) = super::super::resolve(&words).and_then(|_| command(&words, &mut reply)) {
        reply.error(&error);
    }
    read(&mut &out[..])
}

#[test]
fn lists_are_filtered_by_category_and_pattern() {
    let name = |name: &str| Value::Text(b'$', name.as_bytes().to_vec());
    let Value::Array(hashes) = said("command list filterby aclcat HASH") else { panic!("an array") };
    assert!(hashes.contains(&name("hset")) && !hashes.contains(&name("get")));
    assert_eq!(said("command list filterby aclcat nothing"), Value::Array(vec![]));
    assert_eq!(said("command list filterby module x"), Value::Array(vec![]));
    assert_eq!(said("command list FILTERBY pattern CONFIG|g*"), Value::Array(vec![name("config|get")]));
    let Value::Array(all) = said("command list") else { panic!("an array") };
    assert!(all.contains(&name("cluster|myshardid")));
    assert_eq!(said("command list filterby"), Value::Text(b'-', b"ERR syntax error".to_vec()));
}

#[test]
fn keys_and_what_is_done_with_them_are_answered_as_redis_server_does() {
    let Some(mut redis) = Redis::start() else {
        eprintln!("skipped: no redis-server 7.0 here");
        return;
    };
    for full in [
        "get a",
        "get",
        "set a b",
        "set a b get",
        "mset a 1 b 2",
        "zunionstore d 2 a b",
        "zunionstore d 3 a b",
        "lmpop 0 a left",
        "zmpop 1 a min",
        "sintercard 2 a b",
        "zrangestore d s 0 -1",
        "object encoding a",
        "object help",
        "memory usage a",
        "ping",
        "nonsense a",
        "config nonsense",
        "config get a",
        "copy a b",
        "rename a b",
        "lmove a b left right",
        "watch a b",
        "zdiff 1 a",
        "cluster keyslot a",
        "touch a b c",
        "set a b ex 10",
        "getex a",
        "bitfield",
        "zinter x a",
        "lcs a b",
        "smove a b c",
    ] {
        for verb in ["getkeys", "getkeysandflags"] {
            let full = format!("command {verb} {full}");
            let theirs = redis.ask(&full.split(' ').collect::<Vec<_>>());
            assert_eq!(said(&full), theirs, "{full}");
        }
    }
}

#[test]
fn unknown_names_are_null_in_info_and_missing_in_docs() {
    let Value::Array(infos) = said("command info nonsense get") else { panic!("an array") };
    assert_eq!((infos.len(), &infos[0]), (2, &Value::Text(b'_', vec![])));
    assert_eq!(said("command docs nonsense"), Value::Map(BTreeSet::new()));
    assert_eq!(said("command count"), Value::Text(b':', CommandId::COUNT.to_string().into_bytes()));
    let Value::Map(docs) = said("command docs") else { panic!("a map") };
    assert_eq!(docs.len(), CommandId::COUNT);
}
