//! Commands about the connection itself: PING ECHO AUTH HELLO SELECT QUIT RESET READONLY READWRITE ASKING.

use std::sync::atomic::Ordering;

use crate::command::arguments::integer;
use crate::command::errors::CommandError;
use crate::commands::context::{CommandResult, DataContext, Next, NodeContext};
use crate::resp::Protocol;
use crate::run::forget_watches;
use crate::session::{ReplyMode, Session};

/// PING [message]
pub fn ping(context: &mut DataContext<'_>) -> CommandResult {
    match context.arguments {
        [_] => context.reply.simple("PONG"),
        [_, message] => context.reply.bulk(message),
        _ => return Err(CommandError::wrong_arity(context.arguments)),
    }
    Ok(())
}

/// ECHO message
pub fn echo(context: &mut DataContext<'_>) -> CommandResult {
    context.reply.bulk(context.arguments[1]);
    Ok(())
}

/// SELECT index: there is one database.
pub fn select(context: &mut DataContext<'_>) -> CommandResult {
    match integer(context.arguments[1]) {
        Ok(0) => context.reply.ok(),
        Ok(_) => return Err(CommandError::Text("ERR DB index is out of range".into())),
        Err(_) => return Err(CommandError::Text("ERR value is not an integer or out of range".into())),
    }
    Ok(())
}

/// QUIT
pub fn quit(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    context.call.reply.ok();
    Ok(Next::Close)
}

/// AUTH [username] password
pub fn auth(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let (user, password) = match context.call.arguments {
        [_, password] => (None, *password),
        [_, user, password] => (Some(*user), *password),
        _ => return Err(CommandError::Syntax),
    };
    check_password(context, user, password)?;
    context.call.reply.ok();
    Ok(Next::Reply)
}

fn check_password(context: &mut NodeContext<'_, '_>, user: Option<&[u8]>, password: &[u8]) -> CommandResult {
    if user.is_none() && !context.node.password_required() {
        return Err(CommandError::Text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?"
                .into(),
        ));
    }
    if user.is_some_and(|name| name != b"default") || !context.node.password_is(password) {
        return Err(CommandError::WrongPass);
    }
    context.session.authenticated = true;
    Ok(())
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
pub fn hello(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let arguments = context.call.arguments;
    let mut protocol = context.session.protocol;
    if let Some(version) = arguments.get(1) {
        protocol = match integer(version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(CommandError::Text("NOPROTO unsupported protocol version".into())),
            Err(_) => {
                return Err(CommandError::Text(
                    "ERR Protocol version is not an integer or out of range".into(),
                ));
            }
        };
    }
    let mut rest = arguments.get(2..).unwrap_or_default();
    let mut name = None;
    while let [option, ..] = rest {
        rest = match rest {
            [_, user, password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                check_password(context, Some(user), password)?;
                rest
            }
            [_, new_name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => {
                check_name(new_name)?;
                name = Some(*new_name);
                rest
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::Text(
                    format!("ERR Syntax error in HELLO option '{option}'").into(),
                ));
            }
        };
    }
    if !context.session.authenticated {
        return Err(CommandError::Text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
             <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"
                .into(),
        ));
    }
    if let Some(name) = name {
        *context.session.info.name.lock() = name.to_vec();
    }
    context.session.set_protocol(protocol);
    context.call.reply.set_protocol(protocol);
    let (node, info) = (context.node, &context.session.info);
    let reply = &mut context.call.reply;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(crate::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.integer(info.id as i64);
    reply.bulk(b"mode");
    reply.bulk(if node.cluster.is_some() { b"cluster" } else { b"standalone" });
    reply.bulk(b"role");
    reply.bulk(if node.is_replica() { b"replica" } else { b"master" });
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Next::Reply)
}

/// Names of clients and libraries are printed in lines of text (CLIENT LIST), so they hold no spaces or controls.
pub fn check_name(name: &[u8]) -> CommandResult {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(());
    }
    Err(CommandError::Text("ERR Client names cannot contain spaces, newlines or special characters.".into()))
}

/// RESET: the connection as it was when it was new.
pub fn reset(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    let password_required = context.node.password_required();
    let session = &mut *context.session;
    session.transaction = None;
    session.info.queued.store(0, Ordering::Relaxed);
    forget_watches(context.node, session);
    session.readonly = false;
    session.info.readonly.store(false, Ordering::Relaxed);
    session.asking = false;
    session.reply_mode = ReplyMode::On;
    session.authenticated = !password_required;
    session.info.name.lock().clear();
    session.set_protocol(Protocol::Resp2);
    context.call.reply.set_protocol(Protocol::Resp2);
    context.call.reply.simple("RESET");
    Ok(Next::Reply)
}

/// READONLY
pub fn readonly(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    set_readonly(context, true)
}

/// READWRITE
pub fn readwrite(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    set_readonly(context, false)
}

fn set_readonly(context: &mut NodeContext<'_, '_>, readonly: bool) -> CommandResult<Next> {
    in_cluster(context)?;
    let session: &mut Session = context.session;
    session.readonly = readonly;
    session.info.readonly.store(readonly, Ordering::Relaxed);
    context.call.reply.ok();
    Ok(Next::Reply)
}

/// ASKING
pub fn asking(context: &mut NodeContext<'_, '_>) -> CommandResult<Next> {
    in_cluster(context)?;
    context.session.asking = true;
    context.call.reply.ok();
    Ok(Next::Reply)
}

fn in_cluster(context: &NodeContext<'_, '_>) -> CommandResult {
    match &context.node.cluster {
        Some(_) => Ok(()),
        None => Err(CommandError::Text("ERR This instance has cluster support disabled".into())),
    }
}
