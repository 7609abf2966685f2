//! Commands about the node: TIME LASTSAVE SAVE BGSAVE BGREWRITEAOF SHUTDOWN SLOWLOG LATENCY DEBUG ROLE WAIT WAITAOF.

use std::sync::Arc;

use holdfast_words::SlotId;

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, Next, NodeContext};
use crate::commands::help;
use crate::config::DebugCommand;
use crate::node::{Acknowledged, Node, ShutdownRequest};
use crate::platform;
use crate::resp::{Protocol, ReplyWriter};

/// A reply that is encoded later: what a [`Next::Later`] future gives.
pub fn encoded(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut ReplyWriter::new(&mut bytes, protocol));
    bytes
}

/// TIME
pub fn time(context: &mut DataContext<'_>) -> CommandResult {
    let now_us = platform::wall_clock_us();
    context.reply.array(2);
    context.reply.bulk((now_us / 1_000_000).to_string().as_bytes());
    context.reply.bulk((now_us % 1_000_000).to_string().as_bytes());
    Ok(())
}

/// LASTSAVE: when the newest checkpoint was complete.
pub fn lastsave(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let at_ms = context.node.store.checkpoint_stats().last_at_ms;
    context.call.reply.integer((at_ms / 1000) as i64);
    Ok(Next::Reply)
}

/// SAVE: a checkpoint; the reply comes when it is durable. Other clients are served meanwhile.
pub fn save(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let (node, protocol) = (context.node.clone(), context.session.protocol);
    Ok(Next::Later(Box::pin(async move {
        let done = node.checkpoint().await;
        encoded(protocol, |reply| match done {
            Ok(()) => reply.ok(),
            Err(error) => {
                reply.error(&CommandError::Text(format!("ERR the checkpoint failed: {error}").into()))
            }
        })
    })))
}

/// BGSAVE [SCHEDULE]: a checkpoint in the background.
pub fn bgsave(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    if let [_, option, ..] = context.call.arguments
        && !option.eq_ignore_ascii_case(b"schedule")
    {
        return Err(CommandError::Syntax);
    }
    if context.node.store.checkpoint_stats().running {
        return Err(CommandError::Text("ERR Background save already in progress".into()));
    }
    context.node.checkpoint_in_background("BGSAVE");
    context.call.reply.simple("Background saving started");
    Ok(Next::Reply)
}

/// BGREWRITEAOF: what bounds the log here is a checkpoint.
pub fn bgrewriteaof(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    context.node.checkpoint_in_background("BGREWRITEAOF");
    context.call.reply.simple("Background append only file rewriting started");
    Ok(Next::Reply)
}

/// SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]: the log is made durable in any case; NOSAVE skips the checkpoint, NOW and FORCE
/// the handover to a replica.
pub fn shutdown(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let mut request = ShutdownRequest { checkpoint: true, hand_over: true };
    for word in &context.call.arguments[1..] {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" => request.checkpoint = false,
            b"save" => request.checkpoint = true,
            b"now" | b"force" => request.hand_over = false,
            b"abort" => return Err(CommandError::Text("ERR No shutdown in progress.".into())),
            _ => return Err(CommandError::Syntax),
        }
    }
    context.node.shut_down(request);
    // The connection ends without a reply when the node stops, as Redis does it.
    Ok(Next::Later(Box::pin(std::future::pending())))
}

/// SLOWLOG GET|LEN|RESET|HELP
pub fn slowlog(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let slowlog = &context.node.slowlog;
    let reply = &mut context.call.reply;
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"get", count) if count.len() <= 1 => {
            let count = match count.first().map_or(Ok(10), |word| integer(word)) {
                Ok(-1) => usize::MAX,
                Ok(count) if count >= 0 => count as usize,
                _ => {
                    return Err(CommandError::Text("ERR count should be greater than or equal to -1".into()));
                }
            };
            let entries = slowlog.newest(count);
            reply.array(entries.len());
            for entry in entries {
                reply.array(6);
                reply.integer(entry.id as i64);
                reply.integer(entry.at_seconds as i64);
                reply.integer(entry.microseconds as i64);
                reply.array(entry.arguments.len());
                entry.arguments.iter().for_each(|argument| reply.bulk(argument));
                reply.bulk(entry.client_address.as_bytes());
                reply.bulk(&entry.client_name);
            }
        }
        (b"len", []) => reply.integer(slowlog.len() as i64),
        (b"reset", []) => {
            slowlog.reset();
            reply.ok();
        }
        (b"help", []) => help::reply(
            reply,
            "SLOWLOG",
            &[
                "GET [<count>]",
                "    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
                "LEN",
                "RESET",
            ],
        ),
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(Next::Reply)
}

/// LATENCY LATEST|HISTORY|RESET|DOCTOR|HELP
pub fn latency(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let reply = &mut context.call.reply;
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"latest", []) => {
            let events = context.node.latency.latest();
            reply.array(events.len());
            for event in events {
                reply.array(4);
                reply.bulk(event.name.as_bytes());
                reply.integer(event.at_seconds as i64);
                reply.integer(event.last_ms as i64);
                reply.integer(event.max_ms as i64);
            }
        }
        (b"history", [name]) => {
            let samples = context.node.latency.history(&String::from_utf8_lossy(name));
            reply.array(samples.len());
            for (at_seconds, ms) in samples {
                reply.array(2);
                reply.integer(at_seconds as i64);
                reply.integer(ms as i64);
            }
        }
        (b"reset", names) => {
            let names: Vec<String> =
                names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
            reply.integer(context.node.latency.reset(&names) as i64);
        }
        (b"doctor", []) => {
            reply.verbatim(b"txt", context.node.latency.doctor().as_bytes());
        }
        (b"help", []) => {
            help::reply(reply, "LATENCY", &["DOCTOR", "HISTORY <event>", "LATEST", "RESET [<event> ...]"])
        }
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(Next::Reply)
}

/// DEBUG: what redis-cli, client libraries and our own tests use.
pub fn debug(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let allowed = match context.node.config.snapshot().enable_debug_command {
        DebugCommand::Yes => true,
        DebugCommand::Local => context.session.info.address.ip().to_canonical().is_loopback(),
        DebugCommand::No => false,
    };
    if !allowed {
        return Err(CommandError::Text(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local \
             connection, otherwise you need to set this option in the configuration file, and then restart the server."
                .into(),
        ));
    }
    match (arguments[1].to_ascii_lowercase().as_slice(), &arguments[2..]) {
        (b"sleep", [seconds]) => {
            let seconds = holdfast_storage::number::parse_f64(seconds)
                .filter(|seconds| (0.0..=86_400.0).contains(seconds))
                .ok_or_else(|| CommandError::Text("ERR value is not a valid float".into()))?;
            // The worker sleeps, as Redis's one thread does: that is what DEBUG SLEEP is for.
            platform::block_thread_us((seconds * 1e6) as u64);
            context.call.reply.ok();
        }
        (b"digest", []) => {
            let digest = SlotId::all().fold(0, |sum: u64, slot| {
                let digest = context.call.data.visit(slot, |keys| keys.digest());
                sum.wrapping_add(digest.rotate_left(u32::from(slot.number()) % 64))
            });
            context.call.reply.simple(&format!("{digest:040x}"));
        }
        (b"slot-digest", [slot]) => {
            let digest = context.call.data.visit(slot_number(slot)?, |keys| keys.digest());
            context.call.reply.simple(&format!("{digest:040x}"));
        }
        (b"set-active-expire", [switch]) => {
            context.node.set_active_expiry(**switch != *b"0");
            context.call.reply.ok();
        }
        (b"jmap" | b"reload" | b"loadaof" | b"flushall", _) => {
            return Err(CommandError::Text("ERR this DEBUG subcommand is not supported".into()));
        }
        (b"quicklist-packed-threshold" | b"listpack" | b"replybuffer" | b"change-repl-id", _) => {
            context.call.reply.ok()
        }
        (b"help", []) => help::reply(
            &mut context.call.reply,
            "DEBUG",
            &["DIGEST", "SLEEP <seconds>", "SLOT-DIGEST <slot>", "SET-ACTIVE-EXPIRE (0|1)"],
        ),
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(Next::Reply)
}

/// A slot number from a client.
pub fn slot_number(word: &[u8]) -> CommandResult<SlotId> {
    integer(word)
        .ok()
        .and_then(|number| u16::try_from(number).ok())
        .and_then(SlotId::new)
        .ok_or_else(|| CommandError::Text("ERR Invalid or out of range slot".into()))
}

/// ROLE
pub fn role(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let node = context.node.clone();
    node.write_role(&mut context.call.reply);
    Ok(Next::Reply)
}

/// WAIT numreplicas timeout: how many replicas have written all that stands in the log now.
pub fn wait(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let replicas = non_negative(arguments[1], "ERR value is not an integer or out of range")?;
    let timeout_ms = timeout(arguments[2])?;
    if context.node.is_replica() {
        return Err(CommandError::Text(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is \
             configured to be writable (which is not the default) writes to replicas are just local and are not propagated."
                .into(),
        ));
    }
    let (node, protocol, now) = (context.node.clone(), context.session.protocol, context.in_transaction);
    if now {
        let count = node.replicas_at(node.store.log().end().lsn, Acknowledged::Written);
        context.call.reply.integer(count as i64);
        return Ok(Next::Reply);
    }
    Ok(Next::Later(Box::pin(async move {
        let count = wait_for_replicas(&node, replicas, timeout_ms).await;
        encoded(protocol, |reply| match count {
            Some(count) => reply.integer(count as i64),
            None => reply.error(&CommandError::Text(UNBLOCKED.into())),
        })
    })))
}

/// WAITAOF numlocal numreplicas timeout: whether this node, and how many replicas, have on disk all that stands in the log
/// now.
pub fn waitaof(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let local = match integer(arguments[1]) {
        Ok(local @ 0..=1) => local as u64,
        _ => return Err(CommandError::Text("ERR value is out of range, must be between 0 and 1".into())),
    };
    let replicas = non_negative(arguments[2], "ERR value is out of range, must be positive")?;
    let timeout_ms = timeout(arguments[3])?;
    if context.node.is_replica() {
        return Err(CommandError::Text("ERR WAITAOF cannot be used with replica instances.".into()));
    }
    let (node, protocol) = (context.node.clone(), context.session.protocol);
    let lsn = node.store.log().end().lsn;
    if context.in_transaction {
        let durable = u64::from(node.store.log().positions().durable_lsn() >= lsn);
        let count = node.replicas_at(lsn, Acknowledged::Durable);
        context.call.reply.array(2);
        context.call.reply.integer(durable as i64);
        context.call.reply.integer(count as i64);
        return Ok(Next::Reply);
    }
    Ok(Next::Later(Box::pin(async move {
        let deadline = (timeout_ms > 0).then(|| platform::monotonic_us() + timeout_ms * 1000);
        node.request_sync();
        let (mut durable, mut count);
        loop {
            durable = u64::from(node.store.log().positions().durable_lsn() >= lsn);
            count = node.replicas_at(lsn, Acknowledged::Durable);
            let late = deadline.is_some_and(|deadline| platform::monotonic_us() >= deadline);
            if late || (durable >= local && count as u64 >= replicas) {
                break;
            }
            platform::sleep_ms(2).await;
        }
        encoded(protocol, |reply| {
            reply.array(2);
            reply.integer(durable as i64);
            reply.integer(count as i64);
        })
    })))
}

/// REPLICAOF, SLAVEOF
pub fn replicaof(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let Some(standalone) = context.node.standalone.clone() else {
        return Err(CommandError::Text("ERR REPLICAOF not allowed in cluster mode.".into()));
    };
    let [_, host, port] = context.call.arguments else {
        return Err(CommandError::wrong_arity(context.call.arguments));
    };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        standalone.lead();
        return ok(context);
    }
    let port = integer(port).ok().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or(CommandError::Text("ERR Invalid master port".into()))?;
    let host = String::from_utf8_lossy(host);
    let master = resolve(&host, port)
        .ok_or_else(|| CommandError::Text(format!("ERR Invalid master host '{host}'").into()))?;
    if standalone.master() == Some(master) {
        context.call.reply.simple("OK Already connected to specified master");
        return Ok(Next::Reply);
    }
    standalone.follow(master);
    ok(context)
}

fn ok(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    context.call.reply.ok();
    Ok(Next::Reply)
}

/// The first address of a host's name.
pub fn resolve(host: &str, port: u16) -> Option<std::net::SocketAddr> {
    use std::net::ToSocketAddrs;
    (host, port).to_socket_addrs().ok()?.next()
}

const UNBLOCKED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

/// How many replicas have the log as of now; `None` when this node became a replica meanwhile.
async fn wait_for_replicas(node: &Arc<Node>, replicas: u64, timeout_ms: u64) -> Option<usize> {
    /// Should nobody tell anything, it is looked again after this time.
    const LOOK_AGAIN_MS: u64 = 20;
    let lsn = node.store.log().end().lsn;
    let deadline = (timeout_ms > 0).then(|| platform::monotonic_us() + timeout_ms * 1000);
    loop {
        let count = node.replicas_at(lsn, Acknowledged::Written);
        if count as u64 >= replicas || deadline.is_some_and(|deadline| platform::monotonic_us() >= deadline) {
            return Some(count);
        }
        if node.is_replica() {
            return None;
        }
        let left_ms = deadline
            .map_or(u64::MAX, |deadline| (deadline - platform::monotonic_us().min(deadline)) / 1000 + 1);
        let pause = platform::sleep_ms(LOOK_AGAIN_MS.min(left_ms));
        match node.peers() {
            Some(peers) => tokio::select! {
                () = peers.replicas_move() => {}
                () = pause => {}
            },
            None => pause.await,
        }
    }
}

fn non_negative(word: &[u8], text: &'static str) -> CommandResult<u64> {
    integer(word).ok().and_then(|number| u64::try_from(number).ok()).ok_or(CommandError::Text(text.into()))
}

fn timeout(word: &[u8]) -> CommandResult<u64> {
    match integer(word) {
        Ok(ms) if ms < 0 => Err(CommandError::Text("ERR timeout is negative".into())),
        Ok(ms) => Ok(ms as u64),
        Err(_) => Err(CommandError::Text("ERR timeout is not an integer or out of range".into())),
    }
}
