//! A standalone node as its user meets it: restarts, configuration, transactions, expiry, saving, many clients.

use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_tests::client::{Client, Reply, encode};
use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn info(client: &mut Client, field: &str) -> String {
    let text = client.call(&["INFO", "everything"]).text();
    let prefix = format!("{field}:");
    let found = text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    found.unwrap_or_else(|| panic!("INFO has no {field}:\n{text}"))
}

fn fill(client: &mut Client) {
    for number in 0..300 {
        assert!(client.call(&["SET", &format!("s:{number}"), &format!("value {number}")]).is_ok());
        client.call(&["HSET", "hash", &format!("f{number}"), "v"]);
        client.call(&["RPUSH", "list", &format!("e{number}")]);
        client.call(&["SADD", "set", &format!("m{number}")]);
        client.call(&["ZADD", "zset", &number.to_string(), &format!("m{number}")]);
    }
    client.call(&["SET", "volatile", "v", "PX", "100000000"]);
    client.call(&["SPOP", "set", "7"]);
    client.call(&["INCRBYFLOAT", "float", "0.1"]);
}

#[test]
fn everything_is_there_after_a_stop_a_kill_and_a_save() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::started(BINARY, directory.path(), &["--wal-segment-size", "1mb"]);
    let mut client = node.client();
    fill(&mut client);
    let digest = client.call(&["DEBUG", "DIGEST"]);
    assert!(node.terminate().success(), "{}", node.log());
    node.start();
    let mut client = node.client();
    assert_eq!(client.call(&["DEBUG", "DIGEST"]), digest, "after SIGTERM");
    assert!(client.call(&["SAVE"]).is_ok());
    client.call(&["SET", "after", "save"]);
    let digest = client.call(&["DEBUG", "DIGEST"]);
    node.kill();
    node.start();
    let mut client = node.client();
    assert_eq!(client.call(&["DEBUG", "DIGEST"]), digest, "images and the log's tail after kill -9");
    let ttl = client.call(&["PTTL", "volatile"]).integer();
    assert!((90_000_000..=100_000_000).contains(&ttl), "{ttl}");
}

#[test]
fn a_checkpoint_releases_the_log_below_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = ["--wal-segment-size", "1mb", "--checkpoint-log-size", "3mb", "--wal-retain-size", "0"];
    let node = Node::started(BINARY, directory.path(), &options);
    let mut client = node.client();
    let value = "x".repeat(10_000);
    for number in 0..1_500 {
        assert!(client.call(&["SET", &format!("k{}", number % 50), &value]).is_ok());
    }
    wait_until("the log is released", || {
        info(&mut client, "log_first_lsn").parse::<u64>().expect("a number") > 3 << 20
    });
    assert!(info(&mut client, "log_bytes").parse::<u64>().expect("a number") < 12 << 20);
}

#[test]
fn a_directory_serves_one_process_and_the_refusal_names_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let second = Command::new(BINARY)
        .args(["server", "--port", "0", "--dir"])
        .arg(directory.path())
        .output()
        .expect("the binary can be started");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&node.pid().to_string()), "{said}");
}

#[test]
fn debians_redis_conf_starts_the_node_and_a_bad_line_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("bad.conf");
    std::fs::write(&path, "port 0\n# a comment\nmaxclientz 5\n").expect("a file can be written");
    let refused = Command::new(BINARY).arg("server").arg(&path).output().expect("the binary can be started");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("bad.conf:3") || said.contains("line 3"), "{said}");
    assert!(said.contains("maxclientz"), "{said}");

    let debian = "/etc/redis/redis.conf";
    if !std::path::Path::new(debian).exists() {
        println!("SKIPPED: {debian} is not here");
        return;
    }
    let mut node = Node::new(BINARY, directory.path(), &["--logfile", "", "--pidfile", ""]);
    node.set_config(debian);
    node.start();
    assert!(node.client().call(&["SET", "k", "v"]).is_ok());
}

#[test]
fn a_transaction_runs_whole_or_not_at_all_when_a_watched_key_changes() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::started(BINARY, directory.path(), &[]);
    let (mut one, mut two) = (node.client(), node.client());
    one.call(&["SET", "watched", "1"]);
    assert!(one.call(&["WATCH", "watched"]).is_ok());
    assert!(one.call(&["MULTI"]).is_ok());
    assert_eq!(one.call(&["INCR", "counter"]).text(), "QUEUED");
    two.call(&["INCR", "watched"]);
    assert_eq!(one.call(&["EXEC"]), Reply::Null);
    assert_eq!(one.call(&["GET", "counter"]), Reply::Null);
    one.call(&["MULTI"]);
    one.call(&["SET", "a", "1"]);
    one.call(&["SET", "b", "2"]);
    one.call(&["LPUSH", "a", "not a list"]);
    let replies = one.call(&["EXEC"]).array();
    assert!(replies[0].is_ok() && replies[1].is_ok() && replies[2].is_error_code("WRONGTYPE"));
    one.call(&["MULTI"]);
    assert!(one.call(&["NOSUCH"]).is_error_code("ERR"));
    assert!(one.call(&["EXEC"]).is_error_code("EXECABORT"));
    node.kill();
    node.start();
    let mut client = node.client();
    assert_eq!(
        (client.call(&["GET", "a"]).text(), client.call(&["GET", "b"]).text()),
        ("1".into(), "2".into())
    );
}

#[test]
fn keys_expire_by_themselves_and_stay_gone_after_a_restart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::started(BINARY, directory.path(), &[]);
    let mut client = node.client();
    for number in 0..500 {
        client.call(&["SET", &format!("k{number}"), "v", "PX", "300"]);
    }
    client.call(&["SET", "stays", "v"]);
    wait_until("active expiry", || client.call(&["DBSIZE"]).integer() == 1);
    assert_eq!(info(&mut client, "expired_keys"), "500");
    node.kill();
    node.start();
    let mut client = node.client();
    for number in 0..500 {
        assert_eq!(client.call(&["GET", &format!("k{number}")]), Reply::Null, "k{number}");
    }
    // Of removals nobody waited for, the last may not have been logged: they are done again.
    wait_until("the rest to be removed", || client.call(&["DBSIZE"]).integer() == 1);
}

#[test]
fn a_long_pipeline_is_answered_in_order_by_both_workers() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &["--io-threads", "2"]);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let node = &node;
            scope.spawn(move || {
                let mut client = node.client();
                let key = format!("counter:{worker}");
                let mut bytes = Vec::new();
                for _ in 0..20_000 {
                    bytes.extend_from_slice(&encode(&["INCR", &key]));
                }
                let mut writer = node.client();
                drop(writer.try_call(&["PING"]).expect("the node answers"));
                client.send_raw(&bytes).expect("the node reads");
                for expected in 1..=20_000 {
                    assert_eq!(client.read().expect("the node answers").integer(), expected);
                }
            });
        }
    });
}

#[test]
fn a_client_can_be_listed_paused_and_killed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &["--requirepass", "secret"]);
    let mut client = node.client();
    assert!(client.call(&["GET", "k"]).is_error_code("NOAUTH"));
    assert!(client.call(&["AUTH", "wrong"]).is_error_code("WRONGPASS"));
    assert!(client.call(&["AUTH", "secret"]).is_ok());
    let mut victim = node.client();
    assert!(victim.call(&["AUTH", "default", "secret"]).is_ok());
    assert!(victim.call(&["CLIENT", "SETNAME", "victim"]).is_ok());
    let id = victim.call(&["CLIENT", "ID"]).integer().to_string();
    assert!(client.call(&["CLIENT", "LIST"]).text().contains("name=victim"));
    let started = Instant::now();
    assert!(client.call(&["CLIENT", "PAUSE", "300", "WRITE"]).is_ok());
    assert_eq!(victim.call(&["GET", "k"]), Reply::Null);
    assert!(victim.call(&["SET", "k", "v"]).is_ok());
    assert!(started.elapsed() >= Duration::from_millis(300), "the pause held no write");
    assert_eq!(client.call(&["CLIENT", "KILL", "ID", &id]).integer(), 1);
    wait_until("the victim is gone", || victim.try_call(&["PING"]).is_err());
}

#[test]
fn redis_benchmarks_default_list_runs_clean() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let port = node.port.to_string();
    let run = Command::new("redis-benchmark").args(["-p", &port, "-n", "2000", "-q"]).output();
    let Ok(run) = run else {
        println!("SKIPPED: redis-benchmark is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(!said.contains("rror"), "{said}");
    assert!(said.contains("MSET"), "{said}");
}

#[test]
fn how_much_is_logged_can_be_changed_while_the_node_runs() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let mut client = node.client();
    let saves = |client: &mut Client| {
        client.call(&["SET", "key", "value"]);
        assert!(client.call(&["SAVE"]).is_ok());
        node.log().matches("checkpoint complete").count()
    };
    let before = saves(&mut client);
    assert_eq!(before, 1);
    assert!(client.call(&["CONFIG", "SET", "loglevel", "warning"]).is_ok());
    assert_eq!(saves(&mut client), before);
    assert!(client.call(&["CONFIG", "SET", "loglevel", "notice"]).is_ok());
    assert_eq!(saves(&mut client), before + 1);
}

#[test]
fn a_command_that_never_ends_is_cut_off_at_the_query_buffer_limit_and_debug_only_where_it_is_allowed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = ["--client-query-buffer-limit", "1mb", "--enable-debug-command", "no"];
    let node = Node::started(BINARY, directory.path(), &options);
    let mut client = node.client();
    let mut long = b"*2\r\n$3\r\nGET\r\n$100000000\r\n".to_vec();
    long.resize(3 << 20, b'x');
    // It may be cut off while it still sends.
    client.send_raw(&long).ok();
    assert!(client.read().is_err(), "nobody cut it off");
    let mut client = node.client();
    assert!(client.call(&["PING"]).is_pong());
    let refused = client.call(&["DEBUG", "SLEEP", "0"]).to_string();
    assert!(refused.contains("DEBUG command not allowed"), "{refused}");
}

#[test]
fn keys_that_were_not_used_go_when_memory_is_needed_and_none_go_without_a_policy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &["--maxmemory-policy", "allkeys-random"]);
    let mut client = node.client();
    let value = "x".repeat(1000);
    for number in 0..2000 {
        assert!(client.call(&["SET", &format!("first{number}"), &value]).is_ok());
    }
    // Room for about as much again.
    let used: u64 = info(&mut client, "used_memory").trim().parse().expect("a number");
    let limit = (used.max(2_000_000) * 2).to_string();
    assert!(client.call(&["CONFIG", "SET", "maxmemory", &limit]).is_ok());
    for number in 0..10_000 {
        let reply = client.call(&["SET", &format!("then{number}"), &value]);
        assert!(reply.is_ok(), "{reply}");
    }
    let held = client.call(&["DBSIZE"]).integer();
    assert!((1000..9000).contains(&held), "{held} keys");
    assert_ne!(info(&mut client, "evicted_keys").trim(), "0");
    let digest = client.call(&["DEBUG", "DIGEST"]);
    assert!(
        client.call(&["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1000000"]).is_ok()
    );
    assert!(client.call(&["SET", "more", &value]).is_error_code("OOM"));
    assert!(client.call(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).is_ok());
    assert!(client.call(&["SET", "more", &value]).is_error_code("OOM"), "nothing has a time to live");
    drop(client);
    let mut node = node;
    node.kill();
    node.start();
    assert_eq!(node.client().call(&["DEBUG", "DIGEST"]), digest, "what went is logged");
}
