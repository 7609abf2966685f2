//! A string value as commands see it: bytes, even where it is kept as an integer.

use std::borrow::Cow;

use holdfast_storage::types::StringRef;

use crate::resp::ReplyWriter;

/// The string's bytes.
pub fn bytes(string: StringRef<'_>) -> Cow<'_, [u8]> {
    match string {
        StringRef::Int(number) => Cow::Owned(itoa::Buffer::new().format(number).as_bytes().to_vec()),
        StringRef::Bytes(bytes) => Cow::Borrowed(bytes),
    }
}

/// The number of the string's bytes.
pub fn length(string: StringRef<'_>) -> usize {
    match string {
        StringRef::Int(number) => itoa::Buffer::new().format(number).len(),
        StringRef::Bytes(bytes) => bytes.len(),
    }
}

/// Replies with the string, or null when there is none.
pub fn reply_string(reply: &mut ReplyWriter<'_>, string: Option<StringRef<'_>>) {
    match string {
        Some(StringRef::Int(number)) => reply.bulk_integer(number),
        Some(StringRef::Bytes(bytes)) => reply.bulk(bytes),
        None => reply.null(),
    }
}
