//! Replication without a cluster: two real processes, REPLICAOF and what it promises.

use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Reply};
use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");
const PATIENCE: Duration = Duration::from_secs(120);

struct Pair {
    one: Node,
    two: Node,
    _directory: tempfile::TempDir,
}

fn pair(options_of_two: impl Fn(u16) -> Vec<String>) -> Pair {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = |name: &str, options: &[String]| {
        let mut words: Vec<&str> = vec!["--wal-segment-size", "1mb", "--repl-timeout", "3"];
        words.extend(options.iter().map(String::as_str));
        Node::started(BINARY, &directory.path().join(name), &words)
    };
    let one = node("one", &[]);
    let two = node("two", &options_of_two(one.port));
    Pair { one, two, _directory: directory }
}

fn call(node: &Node, words: &[&str]) -> Reply {
    Client::connect(node.port).expect("the node answers").call(words)
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn info(node: &Node, field: &str) -> String {
    let text = call(node, &["INFO", "replication"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn follows(replica: &Node, master: &Node) {
    // A reply that shows what is just taken away is never sent: its connection ends.
    let digest = |node: &Node| Client::connect(node.port).ok()?.try_call(&["DEBUG", "DIGEST"]).ok();
    wait_for("a replica that holds what its master holds", || {
        info(replica, "master_link_status") == "up"
            && digest(master).is_some_and(|of_master| digest(replica) == Some(of_master))
    });
}

fn replicaof(replica: &Node, master: &Node) -> Reply {
    call(replica, &["REPLICAOF", "127.0.0.1", &master.port.to_string()])
}

fn fill(node: &Node, prefix: &str, count: usize) {
    let mut client = Client::connect(node.port).expect("the node answers");
    for number in 0..count {
        let key = format!("{prefix}{number}");
        assert!(client.call(&["SET", &key, "value"]).is_ok());
        client.call(&["RPUSH", &format!("list{prefix}"), &key]);
    }
}

#[test]
fn a_replica_takes_over_its_masters_data_and_follows_it_until_it_is_told_to_lead() {
    let Pair { one, two, _directory } = pair(|_| Vec::new());
    fill(&one, "before", 300);
    fill(&two, "own", 10);
    assert!(replicaof(&two, &one).is_ok());
    assert!(call(&two, &["SET", "key", "value"]).is_error_code("READONLY"), "while it is not connected yet");
    follows(&two, &one);
    assert_eq!(call(&two, &["EXISTS", "own1"]), Reply::Integer(0), "REPLICAOF replaces the data");
    fill(&one, "after", 300);
    assert_eq!(call(&one, &["WAIT", "1", "5000"]), Reply::Integer(1));
    follows(&two, &one);
    assert_eq!(call(&two, &["GET", "after299"]), Reply::Bulk(b"value".to_vec()), "without READONLY");
    assert!(call(&two, &["SET", "key", "value"]).is_error_code("READONLY"));
    assert_eq!(info(&two, "master_port"), one.port.to_string());
    assert!(info(&one, "slave0").contains(&format!("port={}", two.port)), "{}", info(&one, "slave0"));
    let again = replicaof(&two, &one);
    assert_eq!(again, Reply::Simple("OK Already connected to specified master".into()));

    assert!(call(&two, &["REPLICAOF", "NO", "ONE"]).is_ok());
    wait_for("a master", || call(&two, &["SET", "mine", "value"]).is_ok());
    assert_eq!(info(&two, "role"), "master");
    assert_eq!(call(&one, &["EXISTS", "mine"]), Reply::Integer(0));
    // The two went different ways: what only the other one had is cut off.
    fill(&one, "elsewhere", 5);
    assert!(replicaof(&one, &two).is_ok());
    follows(&one, &two);
    assert_eq!(call(&one, &["EXISTS", "mine", "elsewhere1"]), Reply::Integer(1));
    assert_eq!(call(&one, &["EXISTS", "before1", "after1"]), Reply::Integer(2));
}

#[test]
fn a_replica_by_configuration_follows_a_master_that_was_killed_when_it_is_back() {
    let Pair { mut one, two, _directory } =
        pair(|port| vec!["--replicaof".into(), "127.0.0.1".into(), port.to_string()]);
    fill(&one, "before", 200);
    follows(&two, &one);
    one.kill();
    wait_for("a link that is down", || info(&two, "master_link_status") == "down");
    assert_eq!(call(&two, &["GET", "before1"]), Reply::Bulk(b"value".to_vec()), "it serves what it has");
    one.start();
    fill(&one, "after", 200);
    follows(&two, &one);
    let text = call(&one, &["INFO", "stats"]).text();
    assert!(text.contains("sync_full:0"), "nothing had to be copied anew: {text}");
}

#[test]
fn what_cannot_be_followed_is_said() {
    let Pair { one, two, _directory } = pair(|_| vec!["--requirepass".into(), "other".into()]);
    assert!(call(&one, &["REPLICAOF", "127.0.0.1", "0"]).to_string().contains("Invalid master port"));
    assert!(call(&one, &["REPLICAOF", "127.0.0.1", "70000"]).to_string().contains("Invalid master port"));
    // Who does not know the password gets nothing.
    assert!(replicaof(&one, &two).is_ok());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(info(&one, "master_link_status"), "down");
    assert_eq!(info(&one, "role"), "slave");
}
