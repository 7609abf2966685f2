//! Acceptance 1 of the second issue: clients that know nothing of holdfast work unchanged with its cluster.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_tests::cluster::{Place, redis_cli, slot_of, text_of};
use holdfast_tests::foreign_clients::{ioredis, python};
use holdfast_tests::mixed_keys::{assert_all_there, connect, write};
use holdfast_tests::shared_cluster::SharedCluster;
use redis::Commands;

const TARGET: &str = env!("CARGO_TARGET_TMPDIR");
const PLACE: Place =
    Place { binary: env!("CARGO_BIN_EXE_holdfast-under-test"), target: TARGET, suite: "cluster_clients" };
static CLUSTER: SharedCluster = SharedCluster::new(PLACE, &["--wal-segment-size", "8mb"]);
/// Keys that each client writes.
const COUNT: u64 = 3000;

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    path.to_str().expect("the repository's path is text").to_owned()
}

fn assert_runs(command: &mut Command) {
    let output = command.output().expect("the program can be started");
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    print!("{text}");
}

#[test]
fn redis_cli_follows_redirections_through_a_whole_script() {
    let cluster = CLUSTER.lend();
    let port = cluster.nodes[0].port.to_string();
    let mut child = Command::new("redis-cli")
        .args(["-c", "-p", &port])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-cli is installed (redis-tools)");
    let mut script = String::new();
    for number in 0..COUNT / 3 {
        script.push_str(&format!(
            "SET cli:{number} {number}\nHSET cli:h:{number} f {number}\nINCR cli:{number}\n"
        ));
    }
    // The first command of the tag goes to its node: redis-cli loses a MULTI when it is sent elsewhere.
    script.push_str("SET {cli}:a 1\nMULTI\nSET {cli}:a 2\nINCR {cli}:a\nEXEC\nMGET {cli}:a {cli}:none\n");
    child.stdin.take().expect("piped").write_all(script.as_bytes()).expect("redis-cli reads");
    let output = child.wait_with_output().expect("redis-cli ends");
    let text = text_of(&output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-> Redirected")).collect();
    for number in 0..COUNT / 3 {
        let at = number as usize * 3;
        let expected = ["OK".to_owned(), "1".to_owned(), (number + 1).to_string()];
        assert_eq!(lines[at..at + 3], expected, "key {number}");
    }
    assert_eq!(lines[COUNT as usize..], ["OK", "OK", "QUEUED", "QUEUED", "OK", "3", "3", ""]);
}

#[test]
fn a_python_program_with_redis_py_works() {
    let python = match python(TARGET) {
        Ok(python) => python,
        Err(reason) => return println!("skipped: no redis-py: {reason}"),
    };
    let cluster = CLUSTER.lend();
    let (port, count) = (cluster.nodes[1].port.to_string(), COUNT.to_string());
    assert_runs(Command::new(python).args([&script("python_client.py"), &port, &count]));
}

#[test]
fn a_node_program_with_ioredis_works() {
    let modules = match ioredis(TARGET) {
        Ok(modules) => modules,
        Err(reason) => return println!("skipped: no ioredis: {reason}"),
    };
    let cluster = CLUSTER.lend();
    let (port, count) = (cluster.nodes[2].port.to_string(), COUNT.to_string());
    let mut command = Command::new("node");
    assert_runs(command.env("NODE_PATH", modules).args([&script("node_client.js"), &port, &count]));
}

#[test]
fn a_rust_program_with_the_redis_crate_works() {
    let cluster = CLUSTER.lend();
    let mut connection = connect(&cluster.addresses()[3..4]);
    write(&mut connection, "rust", 0..COUNT);
    assert_all_there(&mut connection, "rust", 0..COUNT);
    let () = connection.mset(&[("{rust}:a", 1), ("{rust}:b", 2)]).expect("one slot");
    let both: Vec<u32> = connection.mget(&["{rust}:a", "{rust}:b"]).expect("one slot");
    assert_eq!(both, [1, 2]);
    // The crate's cluster connection takes no transactions: these go to the slot's node.
    let master = cluster.master_of_slot(0, slot_of("{rust}"));
    let url = format!("redis://{}", cluster.addresses()[master]);
    let mut node = redis::Client::open(url).and_then(|client| client.get_connection()).expect("it answers");
    let mut transaction = redis::pipe();
    transaction.atomic().incr("{rust}:a", 1).hset("{rust}:h", "f", "v").get("{rust}:a");
    let replies: (u32, u32, u32) = transaction.query(&mut node).expect("one slot");
    assert_eq!(replies, (2, 1, 2));
}

#[test]
fn a_command_over_two_slots_is_refused_and_one_over_a_hash_tag_is_not() {
    let cluster = CLUSTER.lend();
    let port = cluster.nodes[0].port.to_string();
    let two = text_of(&redis_cli(&["-c", "-p", &port, "MSET", "a", "1", "b", "2"]));
    assert!(two.starts_with("CROSSSLOT Keys in request don't hash to the same slot"), "{two}");
    let tagged = text_of(&redis_cli(&["-c", "-p", &port, "MSET", "{t}a", "1", "{t}b", "2"]));
    assert_eq!(tagged.trim(), "OK");
}

/// Programs that use the cluster while each shard's master hands over to its replica.
fn assert_runs_through_handovers(command: &mut Command) {
    let cluster = CLUSTER.lend();
    command.args([cluster.nodes[0].port.to_string(), "6".to_owned()]);
    let program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it can be started");
    std::thread::sleep(Duration::from_secs(1));
    for (_, replica) in cluster.shards(0) {
        assert!(cluster.ask(replica, &["CLUSTER", "FAILOVER"]).is_ok());
        cluster.wait_until_promoted(replica);
        std::thread::sleep(Duration::from_millis(500));
    }
    let output = program.wait_with_output().expect("it ends");
    let text = text_of(&output);
    assert!(output.status.success(), "{text}\n{}", cluster.logs());
    print!("{text}");
}

#[test]
fn a_python_program_notices_no_handover() {
    match python(TARGET) {
        Ok(python) => {
            assert_runs_through_handovers(Command::new(python).arg(script("python_through_handovers.py")))
        }
        Err(reason) => println!("skipped: no redis-py: {reason}"),
    }
}

#[test]
fn a_node_program_notices_no_handover() {
    match ioredis(TARGET) {
        Ok(modules) => assert_runs_through_handovers(
            Command::new("node").env("NODE_PATH", modules).arg(script("node_through_handovers.js")),
        ),
        Err(reason) => println!("skipped: no ioredis: {reason}"),
    }
}

#[test]
fn a_rust_program_notices_no_handover() {
    let cluster = CLUSTER.lend();
    let stop = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let program = scope.spawn(|| {
            let mut connection = connect(&cluster.addresses());
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("rust:handover:{}", number % 500);
                let () = connection.set(&key, number).expect("a write");
                let found: u64 = connection.get(&key).expect("a read");
                assert_eq!(found, number);
                number += 1;
            }
            number
        });
        for (_, replica) in cluster.shards(0) {
            assert!(cluster.ask(replica, &["CLUSTER", "FAILOVER"]).is_ok());
            cluster.wait_until_promoted(replica);
            std::thread::sleep(Duration::from_millis(300));
        }
        stop.store(true, Ordering::Relaxed);
        program.join().expect("the program")
    });
    println!("rust: {count} writes and reads");
}
