//! For tests: commands run on real slots over a real log, without a server, and the same commands run by a real
//! redis-server to compare the replies.

mod grammar;
mod redis;
mod reply;

use fastrand::Rng;
use holdfast_storage::log::Log;
use holdfast_storage::slots::{Scratch, Slots};
use holdfast_words::SlotId;

pub use grammar::Grammar;
pub use redis::{RedisClient, RedisServer};
pub use reply::Reply;

use crate::command::errors::CommandError;
use crate::command::table::CommandId;
use crate::commands::context::DataContext;
use crate::resp::{Protocol, ReplyWriter};
