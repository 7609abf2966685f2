//! FORMAT: the body of a frame is one MessagePack value. Structs are arrays of their fields, variants are written by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

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
