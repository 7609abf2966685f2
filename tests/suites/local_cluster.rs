//! Acceptance 1 of the second issue, its first sentence: `holdfast up`, `status` and `down`, the real tool.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use holdfast_tests::cluster::{PATIENCE, text_of, wait_for};
use holdfast_tests::cluster_view::{complaint, info};
use holdfast_tests::mixed_keys::{assert_all_there, connect, write};
use holdfast_tests::ports::free_ports;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

fn holdfast(words: &[&str]) -> Output {
    Command::new(BINARY).args(words).output().expect("the tool can be started")
}

fn succeeds(words: &[&str]) -> String {
    let output = holdfast(words);
    assert!(output.status.success(), "holdfast {}: {}", words.join(" "), text_of(&output));
    text_of(&output)
}

/// Stops what a failed test has left running.
struct DownAtTheEnd<'a>(&'a str);

impl Drop for DownAtTheEnd<'_> {
    fn drop(&mut self) {
        let output = holdfast(&["down", "--dir", self.0]);
        if std::thread::panicking() {
            eprintln!("{}", text_of(&output));
            let nodes = std::fs::read_dir(self.0).into_iter().flatten().flatten();
            for path in nodes.map(|node| node.path().join("node.log")).filter(|path| path.exists()) {
                eprintln!("--- {}\n{}", path.display(), std::fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
}

/// A tool that a failed test must not leave running.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended already, as it should.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads what `holdfast up` prints until it says how to stop it: then it serves.
fn read_welcome(output: &mut BufReader<ChildStdout>) -> String {
    let mut text = String::new();
    while !text.lines().any(|line| line.starts_with("stop:")) {
        let length = output.read_line(&mut text).expect("text");
        assert!(length > 0, "holdfast up ended:\n{text}");
    }
    text
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a child's id is not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the child can be signalled");
}

#[test]
fn up_makes_a_cluster_that_ctrl_c_stops_and_the_next_up_brings_back_with_its_data() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let dir = directory.path().join("data");
    let dir = dir.to_str().expect("the temporary directory's path is text");
    let first_port = free_ports(6);
    let port = first_port.to_string();
    let addresses: Vec<String> =
        (first_port..first_port + 6).map(|port| format!("127.0.0.1:{port}")).collect();
    let options = ["--dir", dir, "--port", &port];
    let _down = DownAtTheEnd(dir);

    let up = Command::new(BINARY)
        .arg("up")
        .args(options)
        .args(["--", "--wal-segment-size", "8mb"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the tool can be started");
    let mut up = Running(up);
    let mut output = BufReader::new(up.0.stdout.take().expect("piped"));
    let text = read_welcome(&mut output);
    assert!(
        text.contains("cluster_state:ok") && text.contains(&format!("redis-cli -c -h 127.0.0.1 -p {port}")),
        "{text}"
    );
    for port in first_port..first_port + 3 {
        let replica = info(port, "slave0").expect("a master answers").expect("a master has a replica");
        assert!(replica.contains("in_sync=1"), "up returns when a replica may take over: {replica}");
    }
    for port in first_port..first_port + 6 {
        wait_for(&format!("the node on port {port}"), PATIENCE, || complaint(port, 6));
    }
    write(&mut connect(&addresses), "up", 0..2000);
    interrupt(&up.0);
    assert!(up.0.wait().expect("the tool ends").success());
    assert!(std::net::TcpStream::connect(("127.0.0.1", first_port)).is_err(), "a node still listens");

    let text = succeeds(&[&["up", "--detach"], &options[..]].concat());
    assert!(text.contains("cluster_state:ok"), "{text}");
    assert_all_there(&mut connect(&addresses), "up", 0..2000);
    let text = succeeds(&["status", "--port", &port]);
    assert!(text.contains("cluster_state:ok") && text.contains("16384 of 16384 slots assigned"), "{text}");
    for address in &addresses {
        assert!(text.contains(address), "{address} is missing in\n{text}");
    }
    let again = holdfast(&[&["up"], &options[..]].concat());
    assert!(!again.status.success(), "a second up on the same ports");
    let text = succeeds(&["down", "--dir", dir]);
    assert_eq!(text.trim(), "6 nodes stopped");
    assert!(!holdfast(&["status", "--port", &port]).status.success(), "nobody is there to be asked");
    assert!(Path::new(dir).join("cluster.json").exists());
}

#[test]
fn fewer_than_three_masters_are_refused_with_the_reason() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let dir = directory.path().to_str().expect("the temporary directory's path is text");
    for masters in ["0", "1", "2"] {
        let output = holdfast(&["up", "--dir", dir, "--masters", masters]);
        assert!(!output.status.success());
        let text = text_of(&output);
        assert!(text.contains("refused") && text.contains("majority"), "{text}");
    }
}
