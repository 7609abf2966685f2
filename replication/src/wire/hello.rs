//! FORMAT: the first frames of every connection of the bus: who is there, what the connection is for, and that both know
//! `cluster-secret`. MessagePack arrays in frames of kind Hello.
//!
//! ```text
//! dialer → listener   Hello      what it wants: versions, kind, its id, whom it dials, a nonce
//! listener → dialer   Challenge  the version chosen, a nonce; nothing about the node
//! dialer → listener   Proof      HMAC-SHA256(secret, "dialer"   and all of the above)
//! listener → dialer   Welcome    HMAC-SHA256(secret, "listener" and all of the above and its id), its id
//! ```
//!
//! The dialer proves itself first: who does not know the secret learns nothing but that a nonce was drawn. Each side's proof
//! covers the other's fresh nonce, so that a recorded one is worth nothing, and its own role, so that none can be sent back to
//! who made it. An empty secret is a secret like any other: both must have it. Frames after the hello carry no proof: the
//! hello keeps strangers and wrong clusters out, not somebody who can change packets on their way.

use std::io::ErrorKind;

use hmac::{Hmac, KeyInit, Mac};
use holdfast_words::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::platform;
use crate::wire::frame::{FrameError, FrameKind};
use crate::wire::frames::{FrameReader, FrameWriter};

/// The only version of what follows the hello that this build speaks.
pub const BUS_VERSION: u16 = 1;
/// A hello that takes longer is over.
pub const HELLO_TIME_MS: u64 = 2000;

const MAGIC: &str = "holdfast bus";
const PROOF_OF_DIALER: &[u8] = b"holdfast bus: dialer\0";
const PROOF_OF_LISTENER: &[u8] = b"holdfast bus: listener\0";

type Id = ByteArray<20>;
type Nonce = ByteArray<32>;
type Digest = ByteArray<32>;

#[derive(Serialize, Deserialize)]
struct Hello {
    magic: String,
    oldest_version: u16,
    newest_version: u16,
    kind: u8,
    node: Id,
    dialed: Option<Id>,
    has_secret: bool,
    nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
struct Challenge {
    version: u16,
    nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
struct Proof {
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Welcome {
    node: Id,
    digest: Digest,
}

/// Who says hello.
#[derive(Clone)]
pub struct Identity {
    /// This node.
    pub node: NodeId,
    /// `cluster-secret`; empty when there is none.
    pub secret: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// Something else than a hello came.
    #[error("no hello: {0}")]
    Frame(#[from] FrameError),
    /// The other side hung up; a listener that does not like the proof says no more than that.
    #[error("the other node hung up during the hello: does it have another cluster-secret?")]
    HungUp,
    /// It took too long.
    #[error("no hello within {HELLO_TIME_MS} ms")]
    TooLate,
    /// A frame that says something else.
    #[error("no hello: {0}")]
    Malformed(String),
    /// No version that both speak.
    #[error("the other node speaks versions {oldest} to {newest} of the bus, this one {BUS_VERSION}")]
    Version {
        /// The oldest that it speaks.
        oldest: u16,
        /// The newest.
        newest: u16,
        /// Who it says it is.
        claimed: Option<NodeId>,
    },
    /// It does not know the secret.
    #[error("{} {}", if *.shows_none { "no cluster-secret from" } else { "a wrong cluster-secret from" }, Claimed(*.claimed))]
    Secret {
        /// Who it says it is.
        claimed: NodeId,
        /// It has none.
        shows_none: bool,
    },
    /// It knows the secret, and is somebody else than was dialed.
    #[error("node {found} is where node {dialed} was dialed")]
    AnotherNode {
        /// Whom the dialer wanted.
        dialed: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// Both ends are this node.
    #[error("this node dialed itself")]
    Myself,
    /// The system gives no random bytes.
    #[error("no random bytes for a hello: {0}")]
    NoChance(std::io::Error),
}

impl HelloError {
    /// Who the refused peer said it was, where it came so far.
    pub fn claimed(&self) -> Option<NodeId> {
        match self {
            Self::Secret { claimed, .. } => Some(*claimed),
            Self::Version { claimed, .. } => *claimed,
            Self::AnotherNode { found, .. } => Some(*found),
            _ => None,
        }
    }
}

struct Claimed(NodeId);

impl std::fmt::Display for Claimed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "somebody who says to be node {}", self.0)
    }
}

/// A connection after its hello.
#[derive(Debug)]
pub struct Connection<R, W> {
    /// Who is at the other end.
    pub peer: NodeId,
    /// What comes in; of the kind the connection is for.
    pub reader: FrameReader<R>,
    /// What goes out.
    pub writer: FrameWriter<W>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Connection<R, W> {
    /// What it is for.
    pub fn kind(&self) -> FrameKind {
        self.reader.kind()
    }

    fn new(peer: NodeId, kind: FrameKind, reader: FrameReader<R>, writer: FrameWriter<W>) -> Self {
        Self { peer, reader: reader.for_kind(kind), writer: writer.for_kind(kind) }
    }
}

/// The dialer's part, on the halves of a connection just opened: `dialed` where it is known who should be there.
///
/// # Errors
/// When the other side does not prove to be a node of this secret, or not the one dialed, or takes too long.
pub async fn dial<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (reader, writer): (R, W),
    me: &Identity,
    kind: FrameKind,
    dialed: Option<NodeId>,
) -> Result<Connection<R, W>, HelloError> {
    platform::within_ms(HELLO_TIME_MS, dial_untimed((reader, writer), me, kind, dialed))
        .await
        .unwrap_or(Err(HelloError::TooLate))
}

/// The listener's part, on the halves of a connection just accepted.
///
/// # Errors
/// When the other side does not prove to know the secret, or takes too long. It has got nothing then; hang up.
pub async fn accept<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (reader, writer): (R, W),
    me: &Identity,
) -> Result<Connection<R, W>, HelloError> {
    platform::within_ms(HELLO_TIME_MS, accept_untimed((reader, writer), me))
        .await
        .unwrap_or(Err(HelloError::TooLate))
}

async fn dial_untimed<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (reader, writer): (R, W),
    me: &Identity,
    kind: FrameKind,
    dialed: Option<NodeId>,
) -> Result<Connection<R, W>, HelloError> {
    let mut reader = FrameReader::new(reader, FrameKind::Hello);
    let mut writer = FrameWriter::new(writer, FrameKind::Hello);
    let hello = Hello {
        magic: MAGIC.to_owned(),
        oldest_version: BUS_VERSION,
        newest_version: BUS_VERSION,
        kind: kind.number(),
        node: Id::new(me.node.0),
        dialed: dialed.map(|node| Id::new(node.0)),
        has_secret: !me.secret.is_empty(),
        nonce: draw_nonce()?,
    };
    send(&mut writer, &hello).await?;
    let challenge: Challenge = receive(&mut reader).await?;
    if challenge.version != BUS_VERSION {
        let (oldest, newest) = (challenge.version, challenge.version);
        return Err(HelloError::Version { oldest, newest, claimed: None });
    }
    send(&mut writer, &Proof { digest: digest(me, PROOF_OF_DIALER, &hello, &challenge, None) }).await?;
    let welcome: Welcome = receive(&mut reader).await?;
    let found = NodeId(welcome.node.into_array());
    let expected = digest(me, PROOF_OF_LISTENER, &hello, &challenge, Some(found));
    if !bool::from(expected.ct_eq(&*welcome.digest)) {
        // An honest listener would have hung up at our proof: this one does not know the secret and goes on.
        return Err(HelloError::Secret { claimed: found, shows_none: false });
    }
    agree(me.node, dialed, found)?;
    Ok(Connection::new(found, kind, reader, writer))
}

async fn accept_untimed<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (reader, writer): (R, W),
    me: &Identity,
) -> Result<Connection<R, W>, HelloError> {
    let mut reader = FrameReader::new(reader, FrameKind::Hello);
    let mut writer = FrameWriter::new(writer, FrameKind::Hello);
    let hello: Hello = receive(&mut reader).await?;
    if hello.magic != MAGIC {
        return Err(HelloError::Malformed("it does not begin as one".to_owned()));
    }
    let claimed = NodeId(hello.node.into_array());
    if !(hello.oldest_version..=hello.newest_version).contains(&BUS_VERSION) {
        let (oldest, newest) = (hello.oldest_version, hello.newest_version);
        return Err(HelloError::Version { oldest, newest, claimed: Some(claimed) });
    }
    let kind = FrameKind::of_number(hello.kind)
        .filter(|kind| *kind != FrameKind::Hello)
        .ok_or_else(|| HelloError::Malformed(format!("there are no connections of kind {}", hello.kind)))?;
    let challenge = Challenge { version: BUS_VERSION, nonce: draw_nonce()? };
    send(&mut writer, &challenge).await?;
    let proof: Proof = receive(&mut reader).await?;
    let expected = digest(me, PROOF_OF_DIALER, &hello, &challenge, None);
    if !bool::from(expected.ct_eq(&*proof.digest)) {
        return Err(HelloError::Secret { claimed, shows_none: !hello.has_secret });
    }
    let digest = digest(me, PROOF_OF_LISTENER, &hello, &challenge, Some(me.node));
    send(&mut writer, &Welcome { node: Id::new(me.node.0), digest }).await?;
    if claimed == me.node {
        return Err(HelloError::Myself);
    }
    match hello.dialed.map(|dialed| NodeId(dialed.into_array())) {
        Some(dialed) if dialed != me.node => Err(HelloError::AnotherNode { dialed, found: me.node }),
        _ => Ok(Connection::new(claimed, kind, reader, writer)),
    }
}

/// Whether the one found is one to talk to.
fn agree(me: NodeId, dialed: Option<NodeId>, found: NodeId) -> Result<(), HelloError> {
    match dialed {
        Some(dialed) if dialed != found => Err(HelloError::AnotherNode { dialed, found }),
        _ if found == me => Err(HelloError::Myself),
        _ => Ok(()),
    }
}

fn draw_nonce() -> Result<Nonce, HelloError> {
    let mut nonce = [0; 32];
    platform::random::fill(&mut nonce).map_err(HelloError::NoChance)?;
    Ok(Nonce::new(nonce))
}

/// A side's proof: everything that was said, by fields of fixed length.
fn digest(
    me: &Identity,
    role: &[u8],
    hello: &Hello,
    challenge: &Challenge,
    listener: Option<NodeId>,
) -> Digest {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&me.secret) else { unreachable!("HMAC takes any key") };
    mac.update(role);
    mac.update(&hello.oldest_version.to_le_bytes());
    mac.update(&hello.newest_version.to_le_bytes());
    mac.update(&[hello.kind, u8::from(hello.has_secret), u8::from(hello.dialed.is_some())]);
    mac.update(&*hello.node);
    mac.update(&hello.dialed.map_or([0; 20], Id::into_array));
    mac.update(&*hello.nonce);
    mac.update(&challenge.version.to_le_bytes());
    mac.update(&*challenge.nonce);
    mac.update(&listener.unwrap_or_default().0);
    Digest::new(mac.finalize().into_bytes().into())
}

async fn send<W: AsyncWrite + Unpin>(
    writer: &mut FrameWriter<W>,
    message: &impl Serialize,
) -> Result<(), HelloError> {
    let body = rmp_serde::to_vec(message).map_err(|error| HelloError::Malformed(error.to_string()))?;
    writer.send(&body).await.map_err(hung_up)
}

async fn receive<R: AsyncRead + Unpin, M: DeserializeOwned>(
    reader: &mut FrameReader<R>,
) -> Result<M, HelloError> {
    let body = reader.next().await.map_err(hung_up)?.ok_or(HelloError::HungUp)?;
    rmp_serde::from_slice(&body).map_err(|error| HelloError::Malformed(error.to_string()))
}

/// A listener that hangs up with bytes unread resets the connection: the same as an end.
fn hung_up(error: FrameError) -> HelloError {
    match error {
        FrameError::Io(io)
            if matches!(
                io.kind(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
            ) =>
        {
            HelloError::HungUp
        }
        other => other.into(),
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
