//! FORMAT: the body of a frame is one MessagePack value. Structs are arrays of their fields, variants are written by name.

use std::io::ErrorKind;

use bytes::{BufMut, BytesMut};
use rmp_serde::decode::Error;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// Bytes that are no such message.
#[derive(Debug, thiserror::Error)]
#[error("the body is no message of this connection: {0}")]
pub struct BodyError(pub String);

/// A message's bytes.
///
/// # Errors
/// Never in practice: the encoder writes into memory.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, BodyError> {
    rmp_serde::to_vec(message).map_err(|error| BodyError(error.to_string()))
}

/// Adds a message's bytes to `out`.
///
/// # Errors
/// As [`encode`].
pub fn encode_into<M: Serialize>(message: &M, out: &mut BytesMut) -> Result<(), BodyError> {
    rmp_serde::encode::write(&mut out.writer(), message).map_err(|error| BodyError(error.to_string()))
}

/// The message that `bytes` are, exactly.
///
/// # Errors
/// When they are cut short, unknown, or more than one message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, BodyError> {
    let mut rest = bytes;
    let message = rmp_serde::from_read(&mut rest).map_err(|error| BodyError(error.to_string()))?;
    match rest.len() {
        0 => Ok(message),
        extra => Err(BodyError(format!("{extra} bytes follow it"))),
    }
}

/// As [`decode`], of a message that may borrow from `bytes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_borrowed<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, BodyError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let message = M::deserialize(&mut deserializer).map_err(|error| BodyError(error.to_string()))?;
    // It does not say how much is left, but where nothing is nothing can be read.
    match IgnoredAny::deserialize(&mut deserializer) {
        Err(Error::InvalidMarkerRead(error)) if error.kind() == ErrorKind::UnexpectedEof => Ok(message),
        _ => Err(BodyError("more bytes follow it".to_owned())),
    }
}
