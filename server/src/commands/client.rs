//! CLIENT: who is connected, and what a client says of itself.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clients::ClientInfo;
use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::connection::check_name;
use crate::commands::context::{CommandResult, Next, NodeContext};
use crate::commands::help;
use crate::pause::PauseMode;
use crate::session::ReplyMode;

/// CLIENT subcommand …
pub fn client(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let subcommand = arguments[1].to_ascii_lowercase();
    match (subcommand.as_slice(), &arguments[2..]) {
        (b"id", []) => context.call.reply.integer(context.session.info.id as i64),
        (b"info", []) => {
            let line = describe(&context.session.info, context.call.data.now_ms());
            context.call.reply.verbatim(b"txt", format!("{line}\n").as_bytes());
        }
        (b"list", filters) => list(context, filters)?,
        (b"getname", []) => {
            let name = context.session.info.name.lock().clone();
            if name.is_empty() { context.call.reply.null() } else { context.call.reply.bulk(&name) }
        }
        (b"setname", [name]) => {
            check_name(name)?;
            *context.session.info.name.lock() = name.to_vec();
            context.call.reply.ok();
        }
        (b"setinfo", [attribute, value]) => set_info(context, attribute, value)?,
        (b"reply", [mode]) => return reply_mode(context, mode),
        (b"kill", filters) if !filters.is_empty() => return kill(context, filters),
        (b"pause", [timeout, mode @ ..]) => pause(context, timeout, mode)?,
        (b"unpause", []) => {
            context.node.pause.unpause_clients();
            context.call.reply.ok();
        }
        (b"no-evict", [switch]) => {
            context.session.info.no_evict.store(on_or_off(switch)?, Relaxed);
            context.call.reply.ok();
        }
        (b"no-touch", [switch]) => {
            context.session.no_touch = on_or_off(switch)?;
            context.session.info.no_touch.store(context.session.no_touch, Relaxed);
            context.call.reply.ok();
        }
        (b"unblock", [_, ..]) => context.call.reply.integer(0),
        (b"getredir", []) => context.call.reply.integer(-1),
        (b"help", []) => help::reply(
            &mut context.call.reply,
            "CLIENT",
            &[
                "GETNAME",
                "ID",
                "INFO",
                "KILL <ip:port>",
                "KILL <option> <value> [<option> <value> [...]]",
                "LIST [options ...]",
                "NO-EVICT (ON|OFF)",
                "NO-TOUCH (ON|OFF)",
                "PAUSE <timeout> [WRITE|ALL]",
                "REPLY (ON|OFF|SKIP)",
                "SETINFO <LIB-NAME|LIB-VER> <value>",
                "SETNAME <name>",
                "UNPAUSE",
            ],
        ),
        _ => return Err(CommandError::unknown_subcommand(arguments)),
    }
    Ok(Next::Reply)
}

fn on_or_off(word: &[u8]) -> CommandResult<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

/// One client as CLIENT LIST prints it; fields in Redis's order.
fn describe(client: &ClientInfo, now_ms: u64) -> String {
    let mut line = String::new();
    let seconds_since = |then_ms: u64| now_ms.saturating_sub(then_ms) / 1000;
    let queued = client.queued.load(Relaxed);
    let mut flags = String::new();
    for (set, flag) in [
        (queued > 0, 'x'),
        (client.readonly.load(Relaxed), 'r'),
        (client.no_evict.load(Relaxed), 'e'),
        (client.no_touch.load(Relaxed), 'T'),
    ] {
        if set {
            flags.push(flag);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let (library, version) = client.library.lock().clone();
    let output = client.output_buffer_bytes.load(Relaxed);
    write!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub=0 psub=0 ssub=0 multi={} watch={} qbuf={} \
         qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={output} tot-mem={} events=r cmd={} user=default \
         redir=-1 resp={} lib-name={} lib-ver={}",
        client.id,
        client.address,
        client.local_address,
        String::from_utf8_lossy(&client.name.lock()),
        seconds_since(client.connected_at_ms),
        seconds_since(client.last_command_at_ms.load(Relaxed)),
        queued as i64 - 1,
        client.watched.load(Relaxed),
        client.query_buffer_bytes.load(Relaxed),
        client.query_buffer_bytes.load(Relaxed) + output,
        client.last_command(),
        if client.resp3.load(Relaxed) { 3 } else { 2 },
        String::from_utf8_lossy(&library),
        String::from_utf8_lossy(&version),
    )
    .expect("writing to a String cannot fail");
    line
}

fn list(context: &mut NodeContext<'_, '_>, filters: &[&[u8]]) -> CommandResult {
    let clients = context.node.clients.all();
    let chosen: Vec<Arc<ClientInfo>> = match filters {
        [] => clients,
        [option, kind] if option.eq_ignore_ascii_case(b"type") => {
            let normal = client_type(kind)?;
            clients.into_iter().filter(|_| normal).collect()
        }
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
            let ids: Vec<u64> = ids.iter().map(|id| client_id(id)).collect::<CommandResult<_>>()?;
            clients.into_iter().filter(|client| ids.contains(&client.id)).collect()
        }
        _ => return Err(CommandError::Syntax),
    };
    let now_ms = context.call.data.now_ms();
    let text: String = chosen.iter().map(|client| describe(client, now_ms) + "\n").collect();
    context.call.reply.verbatim(b"txt", text.as_bytes());
    Ok(())
}

fn client_id(word: &[u8]) -> CommandResult<u64> {
    match integer(word) {
        Ok(id) if id > 0 => Ok(id as u64),
        _ => Err(CommandError::Text("ERR Invalid client ID".into())),
    }
}

/// Whether clients of this kind are listed: replicas use the bus, so every client is a normal one.
fn client_type(word: &[u8]) -> CommandResult<bool> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(true),
        b"master" | b"replica" | b"slave" | b"pubsub" => Ok(false),
        _ => Err(CommandError::Text(
            format!("ERR Unknown client type '{}'", String::from_utf8_lossy(word)).into(),
        )),
    }
}

fn set_info(context: &mut NodeContext<'_, '_>, attribute: &[u8], value: &[u8]) -> CommandResult {
    let shown = String::from_utf8_lossy(attribute).to_ascii_lowercase();
    if check_name(value).is_err() {
        let text = format!("ERR {shown} cannot contain spaces, newlines or special characters.");
        return Err(CommandError::Text(text.into()));
    }
    let mut library = context.session.info.library.lock();
    match shown.as_str() {
        "lib-name" => library.0 = value.to_vec(),
        "lib-ver" => library.1 = value.to_vec(),
        _ => {
            let text = format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(attribute));
            return Err(CommandError::Text(text.into()));
        }
    }
    drop(library);
    context.call.reply.ok();
    Ok(())
}

fn reply_mode(context: &mut NodeContext<'_, '_>, mode: &[u8]) -> CommandResult<Next> {
    context.session.reply_mode = match mode.to_ascii_lowercase().as_slice() {
        b"on" => {
            context.call.reply.ok();
            ReplyMode::On
        }
        b"off" => ReplyMode::Off,
        b"skip" if context.session.reply_mode == ReplyMode::Off => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(CommandError::Syntax),
    };
    Ok(Next::Reply)
}

/// CLIENT KILL in both forms. The caller goes last, and after its reply, when it is among those killed.
fn kill(context: &mut NodeContext<'_, '_>, filters: &[&[u8]]) -> CommandResult<Next> {
    let own_id = context.session.info.id;
    if let [address] = filters {
        let address = String::from_utf8_lossy(address);
        let found =
            context.node.clients.all().into_iter().find(|client| client.address.to_string() == address);
        let Some(found) = found else { return Err(CommandError::Text("ERR No such client".into())) };
        context.call.reply.ok();
        if found.id == own_id {
            return Ok(Next::Close);
        }
        found.kill();
        return Ok(Next::Reply);
    }
    if !filters.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let mut matching = context.node.clients.all();
    let mut skip_me = true;
    for pair in filters.chunks_exact(2) {
        let value = String::from_utf8_lossy(pair[1]).into_owned();
        match pair[0].to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = match integer(pair[1]) {
                    Ok(id) if id > 0 => id as u64,
                    _ => return Err(CommandError::Text("ERR client-id should be greater than 0".into())),
                };
                matching.retain(|client| client.id == id);
            }
            b"type" => {
                let normal = client_type(pair[1])?;
                matching.retain(|_| normal);
            }
            b"addr" => matching.retain(|client| client.address.to_string() == value),
            b"laddr" => matching.retain(|client| client.local_address.to_string() == value),
            b"user" if value == "default" => {}
            b"user" => return Err(CommandError::Text(format!("ERR No such user '{value}'").into())),
            b"skipme" => {
                skip_me = match value.to_ascii_lowercase().as_str() {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(CommandError::Syntax),
                };
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    let mut suicide = false;
    let mut killed = 0;
    for client in matching {
        if client.id == own_id {
            suicide = !skip_me;
            killed += i64::from(suicide);
        } else {
            client.kill();
            killed += 1;
        }
    }
    context.call.reply.integer(killed);
    Ok(if suicide { Next::Close } else { Next::Reply })
}

fn pause(context: &mut NodeContext<'_, '_>, timeout: &[u8], mode: &[&[u8]]) -> CommandResult {
    let mode = match mode {
        [] => PauseMode::All,
        [word] if word.eq_ignore_ascii_case(b"all") => PauseMode::All,
        [word] if word.eq_ignore_ascii_case(b"write") => PauseMode::Writes,
        _ => return Err(CommandError::Text("ERR CLIENT PAUSE mode must be WRITE or ALL".into())),
    };
    let timeout_ms = match integer(timeout) {
        Ok(ms) if ms < 0 => return Err(CommandError::Text("ERR timeout is negative".into())),
        Ok(ms) => ms as u64,
        Err(_) => return Err(CommandError::Text("ERR timeout is not an integer or out of range".into())),
    };
    context.node.pause.pause_clients(mode, context.call.data.now_ms().saturating_add(timeout_ms));
    context.call.reply.ok();
    Ok(())
}
