//! A string value as a reply, also where it is kept as an integer.

use holdfast_storage::types::StringRef;

use crate::resp::ReplyWriter;

/// Replies with the string, or null when there is none.
pub fn reply_string(reply: &mut ReplyWriter<'_>, string: Option<StringRef<'_>>) {
    match string {
        Some(StringRef::Int(number)) => reply.bulk_integer(number),
        Some(StringRef::Bytes(bytes)) => reply.bulk(bytes),
        None => reply.null(),
    }
}
