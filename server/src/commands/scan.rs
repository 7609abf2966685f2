//! What SCAN, HSCAN, SSCAN and ZSCAN share: their options and the shape of their reply.

use crate::command::arguments::Options;
use crate::command::errors::CommandError;
use crate::commands::context::CommandResult;
use crate::glob;
use crate::resp::{Arguments, ReplyWriter};

/// COUNT and MATCH.
pub struct ScanOptions<'a> {
    /// About how many elements to visit.
    pub count: usize,
    pattern: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    /// What a scan does unless told otherwise.
    pub const DEFAULT: Self = Self { count: 10, pattern: None };

    /// Reads the options that begin at `arguments[first]`.
    ///
    /// # Errors
    /// Redis's.
    pub fn parse(arguments: Arguments<'a>, first: usize) -> CommandResult<Self> {
        let mut this = Self::DEFAULT;
        let mut options = Options::after(arguments, first);
        while options.next_word().is_some() {
            if !this.take(&mut options)? {
                return Err(options.refuse());
            }
        }
        Ok(this)
    }

    /// Reads the present option; `false` when it is neither COUNT nor MATCH.
    ///
    /// # Errors
    /// Redis's.
    pub fn take(&mut self, options: &mut Options<'a>) -> CommandResult<bool> {
        if options.is("COUNT") {
            let count = options.integer()?;
            if count < 1 {
                return Err(CommandError::Syntax);
            }
            self.count = usize::try_from(count).unwrap_or(usize::MAX);
        } else if options.is("MATCH") {
            self.pattern = Some(options.value()?);
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether an element of this name is wanted.
    pub fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// Writes a scan's reply: the next cursor and a page of `count` elements, which `elements` writes and which come with the
/// cursor as its result.
pub fn reply_page(reply: &mut ReplyWriter<'_>, elements: impl FnOnce(&mut Page<'_>) -> u64) {
    let mut bytes = Vec::new();
    let mut page = Page { reply: ReplyWriter::new(&mut bytes, reply.protocol()), length: 0 };
    let cursor = elements(&mut page);
    let length = page.length;
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    reply.array(length);
    reply.raw(&bytes);
}

/// The elements a scan has found.
pub struct Page<'a> {
    reply: ReplyWriter<'a>,
    length: usize,
}

impl Page<'_> {
    /// Adds an element; of an element in two parts (field and value, member and score) each part is added.
    pub fn push(&mut self, element: &[u8]) {
        self.reply.bulk(element);
        self.length += 1;
    }
}
