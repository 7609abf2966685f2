//! Acceptance 7 of the first issue: garbage, half frames, oversized lengths and slow drips on the data port.
//! The connection is closed with the right error, memory stays bounded, and other clients notice nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

/// Sends bytes and returns everything the node says until it closes the connection or nothing comes for a while.
fn answer_to(port: u16, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts connections");
    stream.set_read_timeout(Some(Duration::from_millis(1500))).expect("a timeout can be set");
    // The node may close while we still send.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break true,
            Err(_) => break false,
        }
    };
    (String::from_utf8_lossy(&answer).into_owned(), closed || sent.is_err())
}

#[test]
fn protocol_errors_have_redis_texts_and_close_the_connection() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let mut bystander = node.client();
    assert!(bystander.call(&["SET", "k", "v"]).is_ok());
    let long_inline = vec![b'a'; 70_000];
    let cases: &[(&[u8], &str)] = &[
        (b"*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*2\r\n$3\r\nGET\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        (b"*1\r\n$99999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$abc\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"SET \"unbalanced\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (&long_inline, "-ERR Protocol error: too big inline request\r\n"),
    ];
    for (bytes, expected) in cases {
        let (answer, closed) = answer_to(node.port, bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]);
        assert_eq!(&answer, expected, "after {shown:?}");
        assert!(closed, "the connection stays open after {shown:?}");
    }
    assert_eq!(bystander.call(&["GET", "k"]).text(), "v");
}

#[test]
fn claimed_lengths_cost_no_memory_before_the_bytes_come() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let mut bystander = node.client();
    assert!(bystander.call(&["PING"]).is_pong());
    let before = node.resident_kib();
    let claimants: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream =
                TcpStream::connect(("127.0.0.1", node.port)).expect("the port accepts connections");
            stream.write_all(b"*1000000\r\n$500000000\r\nabc").expect("the node reads");
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    assert!(bystander.call(&["PING"]).is_pong());
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "50 clients that claim 500 MB each cost {grown} KiB");
    drop(claimants);
}

#[test]
fn a_request_that_drips_in_byte_by_byte_is_answered() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let mut stream = TcpStream::connect(("127.0.0.1", node.port)).expect("the port accepts connections");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    stream.set_nodelay(true).expect("an option can be set");
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\nGET k\r\n" {
        stream.write_all(&[*byte]).expect("the node reads");
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).expect("both are answered");
    assert_eq!(&answer, b"+OK\r\n$5\r\nhello\r\n");
}

#[test]
fn random_garbage_on_the_data_port_disturbs_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::started(BINARY, directory.path(), &[]);
    let mut bystander = node.client();
    let mut dice = fastrand::Rng::with_seed(11);
    let before = node.resident_kib();
    for round in 0..60 {
        let length = dice.usize(1..3000);
        let mut bytes: Vec<u8> = (0..length).map(|_| dice.u8(..)).collect();
        if round % 3 == 0 {
            // A frame that claims to be huge.
            bytes.splice(..bytes.len().min(4), [0x7f, 0xff, 0xff, 0xff]);
        }
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).expect("the port accepts connections");
        // The node may close while we still send: that is what is wanted.
        let _closed_early = stream.write_all(&bytes);
        if round % 4 == 0 {
            drop(stream);
        }
    }
    assert!(bystander.call(&["PING"]).is_pong());
    let grown = node.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1024, "garbage cost {grown} KiB");
}
