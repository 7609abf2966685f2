//! Members with their scores in a reply: one flat array in RESP2, an array of pairs in RESP3.

use crate::resp::ReplyWriter;

/// The head of an array of `count` members.
pub fn begin(reply: &mut ReplyWriter<'_>, count: usize, with_scores: bool) {
    let flat = with_scores && !reply.is_resp3();
    reply.array(if flat { count * 2 } else { count });
}

/// One of the array's members.
pub fn member(reply: &mut ReplyWriter<'_>, member: &[u8], score: f64, with_scores: bool) {
    if with_scores && reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(member);
    if with_scores {
        reply.double(score);
    }
}
