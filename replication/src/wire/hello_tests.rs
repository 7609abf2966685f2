//! Who gets in and who does not, and what the others learn.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

use super::*;

const ONE: NodeId = NodeId([1; 20]);
const TWO: NodeId = NodeId([2; 20]);

fn identity(node: NodeId, secret: &str) -> Identity {
    Identity { node, secret: secret.as_bytes().to_vec() }
}

type Ended = Result<(NodeId, FrameKind), HelloError>;

/// Node one dials node two; what each makes of it.
async fn meet(secret_of_one: &str, secret_of_two: &str, dialed: Option<NodeId>) -> (Ended, Ended) {
    let (near, far) = duplex(4096);
    let (one, two) = (identity(ONE, secret_of_one), identity(TWO, secret_of_two));
    // Each drops its end when it is through, as its socket would be closed.
    let dialing = async {
        let connection = dial(split(near), &one, FrameKind::Metadata, dialed).await;
        connection.map(|it| (it.peer, it.kind()))
    };
    let accepting = async { accept(split(far), &two).await.map(|it| (it.peer, it.kind())) };
    tokio::join!(dialing, accepting)
}

#[tokio::test(flavor = "current_thread")]
async fn who_knows_the_secret_gets_in_and_each_knows_who_is_there() {
    for secret in ["", "s", &"long".repeat(100)] {
        for dialed in [None, Some(TWO)] {
            let (one, two) = meet(secret, secret, dialed).await;
            assert_eq!(one.unwrap(), (TWO, FrameKind::Metadata));
            assert_eq!(two.unwrap(), (ONE, FrameKind::Metadata));
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_wrong_or_missing_secret_is_refused_and_named_and_the_dialer_learns_nothing() {
    for (theirs, ours, none) in [("a", "b", false), ("", "b", true), ("a", "", false), ("ab", "a", false)] {
        let (one, two) = meet(theirs, ours, None).await;
        let refused = two.unwrap_err();
        assert!(
            matches!(refused, HelloError::Secret { claimed: ONE, shows_none } if shows_none == none),
            "{refused}"
        );
        assert!(matches!(one.unwrap_err(), HelloError::HungUp));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn whoever_dials_another_node_than_it_wanted_learns_it_and_no_connection_comes_of_it() {
    let wanted = NodeId([3; 20]);
    let (one, two) = meet("s", "s", Some(wanted)).await;
    for ended in [one, two] {
        let error = ended.unwrap_err();
        assert!(
            matches!(error, HelloError::AnotherNode { dialed, found: TWO } if dialed == wanted),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_that_dials_itself_is_told_so() {
    let (near, far) = duplex(4096);
    let me = identity(ONE, "s");
    let (one, two) = tokio::join!(dial(split(near), &me, FrameKind::Gossip, None), accept(split(far), &me));
    assert!(matches!(one.unwrap_err(), HelloError::Myself));
    assert!(matches!(two.unwrap_err(), HelloError::Myself));
}

/// Carries bytes both ways and keeps those of the dialer, until either side hangs up.
async fn eavesdrop(mut dialer: DuplexStream, mut listener: DuplexStream) -> Vec<u8> {
    let (mut said, mut from_dialer, mut from_listener) = (Vec::new(), [0; 512], [0; 512]);
    loop {
        tokio::select! {
            read = dialer.read(&mut from_dialer) => match read.unwrap() {
                0 => return said,
                count => {
                    said.extend_from_slice(&from_dialer[..count]);
                    listener.write_all(&from_dialer[..count]).await.unwrap();
                }
            },
            read = listener.read(&mut from_listener) => match read.unwrap() {
                0 => return said,
                count => dialer.write_all(&from_listener[..count]).await.unwrap(),
            },
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_recorded_hello_opens_nothing_when_it_is_played_again() {
    let (dialer, tap_a) = duplex(4096);
    let (tap_b, listener) = duplex(4096);
    let (one, two) = (identity(ONE, "s"), identity(TWO, "s"));
    let dialing = async { dial(split(dialer), &one, FrameKind::LogStream, None).await.map(|_| ()) };
    let accepting = async { accept(split(listener), &two).await.map(|_| ()) };
    let (dialed, accepted, recorded) = tokio::join!(dialing, accepting, eavesdrop(tap_a, tap_b));
    dialed.unwrap();
    accepted.unwrap();
    assert!(recorded.len() > 100, "the hello and the proof");

    let (mut near, far) = duplex(4096);
    near.write_all(&recorded).await.unwrap();
    let error = accept(split(far), &two).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, HelloError::Secret { claimed: ONE, shows_none: false }), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_proof_sent_back_to_its_maker_opens_nothing() {
    // Two believes to dial somebody; that somebody answers with what two itself said.
    let (near, far) = duplex(4096);
    let two = identity(TWO, "s");
    let mirror = async {
        let (reader, writer) = split(far);
        let mut reader = FrameReader::new(reader, FrameKind::Hello);
        let mut writer = FrameWriter::new(writer, FrameKind::Hello);
        let hello: Hello = receive(&mut reader).await.unwrap();
        send(&mut writer, &Challenge { version: BUS_VERSION, nonce: hello.nonce }).await.unwrap();
        let proof: Proof = receive(&mut reader).await.unwrap();
        send(&mut writer, &Welcome { node: Id::new(ONE.0), digest: proof.digest }).await.unwrap();
    };
    let (dialed, ()) = tokio::join!(dial(split(near), &two, FrameKind::Gossip, None), mirror);
    assert!(matches!(dialed.map(|_| ()).unwrap_err(), HelloError::Secret { claimed: ONE, .. }));
}

#[tokio::test(flavor = "current_thread")]
async fn who_claims_another_name_kind_or_aim_than_it_proved_is_refused() {
    let me = identity(ONE, "s");
    let hello = || Hello {
        magic: MAGIC.to_owned(),
        oldest_version: BUS_VERSION,
        newest_version: BUS_VERSION,
        kind: FrameKind::Gossip.number(),
        node: Id::new(ONE.0),
        dialed: None,
        has_secret: true,
        nonce: Nonce::new([9; 32]),
    };
    let challenge = Challenge { version: BUS_VERSION, nonce: Nonce::new([8; 32]) };
    let proof = |hello: &Hello, role| digest(&me, role, hello, &challenge, None).into_array();
    let honest = proof(&hello(), PROOF_OF_DIALER);
    let others = [
        proof(&hello(), PROOF_OF_LISTENER),
        proof(&Hello { kind: FrameKind::Metadata.number(), ..hello() }, PROOF_OF_DIALER),
        proof(&Hello { node: Id::new(TWO.0), ..hello() }, PROOF_OF_DIALER),
        proof(&Hello { dialed: Some(Id::new([0; 20])), ..hello() }, PROOF_OF_DIALER),
        proof(&Hello { newest_version: 2, ..hello() }, PROOF_OF_DIALER),
        proof(&Hello { has_secret: false, ..hello() }, PROOF_OF_DIALER),
        proof(&Hello { nonce: Nonce::new([7; 32]), ..hello() }, PROOF_OF_DIALER),
        digest(&me, PROOF_OF_DIALER, &hello(), &challenge, Some(TWO)).into_array(),
    ];
    assert!(others.iter().all(|other| *other != honest));
}

#[tokio::test(flavor = "current_thread")]
async fn a_stranger_gets_nothing_but_a_hang_up() {
    let length_of_the_metadata = [0xff, 0xff, 0xff, 0x03];
    for said in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"*1\r\n$4\r\nPING\r\n", &length_of_the_metadata, b"\0\0\0\0"]
    {
        let (mut near, far) = duplex(4096);
        near.write_all(said).await.unwrap();
        assert!(accept(split(far), &identity(TWO, "s")).await.is_err());
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_node_of_another_time_is_named_with_its_versions() {
    let (near, far) = duplex(4096);
    let (_, writer) = split(near);
    let hello = Hello {
        magic: MAGIC.to_owned(),
        oldest_version: 7,
        newest_version: 9,
        kind: FrameKind::Gossip.number(),
        node: Id::new(ONE.0),
        dialed: None,
        has_secret: true,
        nonce: Nonce::new([9; 32]),
    };
    send(&mut FrameWriter::new(writer, FrameKind::Hello), &hello).await.unwrap();
    let error = accept(split(far), &identity(TWO, "s")).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, HelloError::Version { oldest: 7, newest: 9, claimed: Some(ONE) }), "{error}");
}

#[tokio::test(flavor = "current_thread")]
async fn who_says_nothing_is_hung_up_on_after_the_time_limit() {
    let began = platform::now_ms();
    let (_near, far) = duplex(4096);
    assert!(matches!(accept(split(far), &identity(TWO, "s")).await.map(|_| ()), Err(HelloError::TooLate)));
    assert!((HELLO_TIME_MS..HELLO_TIME_MS + 1500).contains(&(platform::now_ms() - began)));
}

#[tokio::test(flavor = "current_thread")]
async fn frames_sent_right_behind_the_hello_are_not_lost() {
    let (near, far) = duplex(4096);
    let (one, two) = (identity(ONE, "s"), identity(TWO, "s"));
    let dialing = async {
        let mut connection = dial(split(near), &one, FrameKind::Gossip, None).await.unwrap();
        connection.writer.send(b"from one").await.unwrap();
        connection.reader.next().await.unwrap().unwrap()
    };
    let accepting = async {
        let mut connection = accept(split(far), &two).await.unwrap();
        connection.writer.send(b"from two").await.unwrap();
        connection.reader.next().await.unwrap().unwrap()
    };
    let (at_one, at_two) = tokio::join!(dialing, accepting);
    assert_eq!((&at_one[..], &at_two[..]), (&b"from two"[..], &b"from one"[..]));
}
