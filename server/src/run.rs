//! One request: may it run, which slots does it need, run it under their locks, append its record, note what its reply waits
//! for. MULTI/EXEC runs its commands under all their slots at once and appends one group.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::slots::{Scratch, SlotSet};
use holdfast_words::{Lsn, SlotId};
use smallvec::SmallVec;

use crate::command::errors::CommandError;
use crate::command::{CommandId, CommandSpec, Flag, keys, resolve};
use crate::commands::context::{CommandResult, DataContext, Next, NodeContext};
use crate::config::MaxmemoryPolicy;
use crate::dispatch::{Handler, handler};
use crate::eviction;
use crate::node::Node;
use crate::platform;
use crate::platform::sabotage::{self, Switch};
use crate::platform::witness;
use crate::reply_gate::Output;
use crate::resp::{Arguments, ReplyWriter};
use crate::route::{self, Request};
use crate::session::{QueuedCommand, ReplyMode, Session, Transaction};

/// What the connection does after a request.
pub enum Outcome {
    /// Its reply is in the output.
    Done,
    /// Its reply is in the output; the connection ends once it is sent.
    Close,
    /// Its reply comes later, and the client's next request after it.
    Later(Pin<Box<dyn Future<Output = Vec<u8>>>>),
    /// It may not run yet: try it again after this.
    Hold(Pin<Box<dyn Future<Output = ()>>>),
}

/// Memory and dice that a worker lends to one request after the other.
#[derive(Default)]
pub struct RunScratch {
    slots: Scratch,
    dice: fastrand::Rng,
    ids: SlotIds,
}

type SlotIds = SmallVec<[SlotId; 4]>;

/// Runs one request and appends its reply to `output`.
pub fn request(
    node: &Arc<Node>,
    session: &mut Session,
    arguments: Arguments<'_>,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> Outcome {
    let start = output.bytes.len();
    let started = platform::monotonic_us();
    let lookup = CommandId::lookup(arguments[0]);
    if session.reply_mode == ReplyMode::SkipNext {
        session.reply_mode = ReplyMode::Skip;
    }
    let outcome =
        resolve(arguments).and_then(|(id, spec)| match admit(node, session, id, spec, arguments)? {
            Admitted::Run => run(node, session, id, spec, arguments, output, scratch),
            Admitted::Queue => {
                queue(session, id, arguments);
                ReplyWriter::new(&mut output.bytes, session.protocol).simple("QUEUED");
                output.gate_nothing();
                Ok(Outcome::Done)
            }
            Admitted::Hold(released) => Ok(Outcome::Hold(released)),
        });
    let outcome = outcome.unwrap_or_else(|error| {
        refuse(node, session, lookup, &error, output, start);
        if error.closes_connection() { Outcome::Close } else { Outcome::Done }
    });
    if let (Some(id), false) = (lookup, matches!(outcome, Outcome::Hold(_))) {
        account(node, session, id, arguments, platform::monotonic_us() - started);
    }
    if session.reply_mode != ReplyMode::On && !matches!(outcome, Outcome::Later(_) | Outcome::Hold(_)) {
        output.withdraw(start);
        if session.reply_mode == ReplyMode::Skip {
            session.reply_mode = ReplyMode::On;
        }
    }
    outcome
}

enum Admitted {
    Run,
    Queue,
    Hold(Pin<Box<dyn Future<Output = ()>>>),
}

/// The checks that need no slot: password, transaction, pause.
fn admit(
    node: &Arc<Node>,
    session: &mut Session,
    id: CommandId,
    spec: &CommandSpec,
    arguments: Arguments<'_>,
) -> CommandResult<Admitted> {
    if !session.authenticated && !spec.has(Flag::NoAuth) {
        return Err(CommandError::NoAuth);
    }
    if waits_for_handover(node, session, spec, id, arguments) {
        return Ok(Admitted::Hold(role_is_settled()));
    }
    if session.transaction.is_some() && !runs_inside_multi(id) {
        if spec.has(Flag::NoMulti) {
            return Err(CommandError::NotInTransaction);
        }
        // A command that could not run is refused when it is queued, as Redis does.
        check_route(node, session, spec, id, arguments, &mut SlotIds::new())?;
        check_writable(node, spec)?;
        return Ok(Admitted::Queue);
    }
    if let Some(released) = node.pause.holds(is_write(session, id), platform::wall_clock_ms()) {
        return Ok(Admitted::Hold(released));
    }
    Ok(Admitted::Run)
}

fn waits_for_handover(
    node: &Node,
    session: &Session,
    spec: &CommandSpec,
    id: CommandId,
    arguments: Arguments<'_>,
) -> bool {
    let Some(cluster) = &node.cluster else { return false };
    let routes = cluster.routes();
    let request = Request { readonly_command: spec.has(Flag::Readonly), readonly_client: session.readonly };
    let waits = |index: usize| route::waits_for_handover(&routes, SlotId::of_key(arguments[index]), request);
    routes.taking_over && keys::positions(id, arguments).into_iter().any(waits)
}

fn runs_inside_multi(id: CommandId) -> bool {
    matches!(
        id,
        CommandId::Exec
            | CommandId::Discard
            | CommandId::Multi
            | CommandId::Watch
            | CommandId::Quit
            | CommandId::Reset
    )
}

fn is_write(session: &Session, id: CommandId) -> bool {
    match (&session.transaction, id) {
        (Some(transaction), CommandId::Exec) => {
            transaction.queue.iter().any(|command| command.id.spec().has(Flag::Write))
        }
        _ => id.spec().has(Flag::Write),
    }
}

fn queue(session: &mut Session, id: CommandId, arguments: Arguments<'_>) {
    let transaction = session.transaction.get_or_insert_default();
    transaction
        .queue
        .push(QueuedCommand { id, arguments: arguments.iter().map(|&word| word.into()).collect() });
    session.info.queued.store(transaction.queue.len() + 1, Ordering::Relaxed);
}

fn run(
    node: &Arc<Node>,
    session: &mut Session,
    id: CommandId,
    spec: &CommandSpec,
    arguments: Arguments<'_>,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult<Outcome> {
    match id {
        CommandId::Multi => multi(session, output),
        CommandId::Discard => discard(node, session, output),
        CommandId::Exec => return exec(node, session, output, scratch),
        CommandId::Watch => watch(node, session, arguments, output, scratch),
        CommandId::Unwatch => unwatch(node, session, output),
        _ => return run_command(node, session, id, spec, arguments, output, scratch),
    }
    .map(|()| Outcome::Done)
}

fn run_command(
    node: &Arc<Node>,
    session: &mut Session,
    id: CommandId,
    spec: &CommandSpec,
    arguments: Arguments<'_>,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult<Outcome> {
    let RunScratch { slots, dice, ids } = scratch;
    check_route(node, session, spec, id, arguments, ids)?;
    if spec.has(Flag::DenyOom) && node.is_over_memory() && !eviction::make_room(node, slots, dice) {
        return Err(CommandError::Oom);
    }
    check_writable(node, spec)?;
    let handler = handler(id);
    if let Handler::AllSlots(_) = handler {
        ids.clear();
        ids.extend(SlotId::all());
    }
    let now_ms = platform::wall_clock_ms();
    let data = node.store.lock(ids, now_ms, slots);
    let is_keyed = matches!(handler, Handler::Data(_)) && !ids.is_empty();
    if must_wait(node, &data, spec.has(Flag::Write), is_keyed) {
        return Ok(Outcome::Hold(role_is_settled()));
    }
    let start = output.bytes.len();
    let reply = ReplyWriter::new(&mut output.bytes, session.protocol);
    let mut context = DataContext { arguments, data, reply, dice };
    if node.may_expire() && context.data.may_change() && matches!(handler, Handler::Data(_)) {
        expire_declared(&mut context.data, id, arguments, node);
    }
    let result = call(node, session, handler, &mut context, false);
    let DataContext { data, .. } = { context };
    if is_keyed && read_without_lease(node, &data) {
        drop(data);
        output.withdraw(start);
        return Ok(Outcome::Hold(role_is_settled()));
    }
    let as_master = data.may_change();
    let lsn = commit(data)?;
    match result? {
        Next::Reply => {
            let is_ungated = sabotage::is_on(Switch::ReadsNotGated) && !spec.has(Flag::Write);
            let lsn = if is_ungated { Lsn::ZERO } else { lsn };
            if is_keyed {
                tell(node, session, lsn, as_master);
            }
            output.gate(lsn);
            Ok(Outcome::Done)
        }
        Next::Later(reply) => Ok(Outcome::Later(reply)),
        Next::Close => {
            output.gate(lsn);
            Ok(Outcome::Close)
        }
    }
}

/// Whether a request has to wait until this node has become what it is to be. Of a master's slots not even reads are served
/// before: what this node lacks (it may have lost its log's end) has no LSN here that a reply could wait for.
fn must_wait(node: &Node, data: &SlotSet<'_>, writes: bool, is_keyed: bool) -> bool {
    !data.may_change() && (writes || is_keyed && node.cluster.is_some() && !node.is_replica())
}

/// What was read on a master may be older than what another one has acknowledged: this node's lease was over before it was done
/// reading. A change needs no lease, nobody acknowledges it under an epoch that is over. The read is tried again, and refused
/// when the lease does not come back.
fn read_without_lease(node: &Node, data: &SlotSet<'_>) -> bool {
    let Some(cluster) = &node.cluster else { return false };
    // Closed slots are a replica's.
    let reads_as_master = data.may_change() && !data.has_changes();
    reads_as_master && !cluster.has_lease() && !sabotage::is_on(Switch::LeaseIgnored)
}

/// This node is becoming master or replica, or hands its slots over: the route says soon which, the request is tried again.
fn role_is_settled() -> Pin<Box<dyn Future<Output = ()>>> {
    const LOOK_AGAIN_MS: u64 = 2;
    Box::pin(platform::sleep_ms(LOOK_AGAIN_MS))
}

fn call(
    node: &Arc<Node>,
    session: &mut Session,
    handler: Handler,
    context: &mut DataContext<'_>,
    in_transaction: bool,
) -> CommandResult<Next> {
    match handler {
        Handler::Data(run) | Handler::AllSlots(run) | Handler::Visiting(run) => {
            run(context).map(|()| Next::Reply)
        }
        Handler::Node(run) => run(&mut NodeContext { call: context, node, session, in_transaction }),
        Handler::Transaction => unreachable!("transactions are run before slots are locked"),
    }
}

fn commit(data: SlotSet<'_>) -> CommandResult<Lsn> {
    data.commit().map_err(|error| CommandError::misconf(&error))
}

/// Tells a simulation what was executed, and under which epoch.
fn tell(node: &Node, session: &Session, lsn: Lsn, as_master: bool) {
    witness::executed(|| witness::Executed {
        client: session.info.id,
        shard: node.store.shard_id(),
        epoch: node.store.log().epoch(),
        lsn,
        as_master,
    });
}

/// Deletes what has expired among the declared keys, so that the command sees it gone and the log says when.
fn expire_declared(data: &mut SlotSet<'_>, id: CommandId, arguments: Arguments<'_>, node: &Node) {
    let now_ms = data.now_ms();
    for index in keys::positions(id, arguments) {
        let key = arguments[index];
        let keyspace = data.keyspace(key);
        if keyspace.volatile_len() > 0 && keyspace.is_expired(key, now_ms) {
            data.mutate(&Mutation::Delete { key: key.into(), reason: DeleteReason::Expired });
            node.stats.expired_keys.add(1);
        }
    }
}

/// Finds the command's slots, ascending and without doubles, and whether this node may serve them.
fn check_route(
    node: &Node,
    session: &mut Session,
    spec: &CommandSpec,
    id: CommandId,
    arguments: Arguments<'_>,
    ids: &mut SlotIds,
) -> CommandResult {
    ids.clear();
    for index in keys::positions(id, arguments) {
        ids.push(SlotId::of_key(arguments[index]));
    }
    if ids.len() > 1 {
        ids.sort_unstable();
        ids.dedup();
    }
    let Some(cluster) = &node.cluster else { return Ok(()) };
    session.asking = false;
    let Some(slot) = route::single_slot(ids.iter().copied())? else { return Ok(()) };
    let request = Request { readonly_command: spec.has(Flag::Readonly), readonly_client: session.readonly };
    route::may_serve(&cluster.routes(), slot, request)
}

/// Whether a write may run now at all.
fn check_writable(node: &Node, spec: &CommandSpec) -> CommandResult {
    if spec.has(Flag::Write) {
        node.may_write()?;
        if spec.has(Flag::DenyOom) && node.config.snapshot().maxmemory_policy == MaxmemoryPolicy::Noeviction {
            node.has_memory()?;
        }
    }
    Ok(())
}

fn refuse(
    node: &Node,
    session: &mut Session,
    id: Option<CommandId>,
    error: &CommandError,
    output: &mut Output,
    start: usize,
) {
    output.withdraw(start);
    ReplyWriter::new(&mut output.bytes, session.protocol).error(error);
    output.gate_nothing();
    node.stats.error_replies.add(1);
    if matches!(error, CommandError::Moved { .. }) {
        node.stats.redirections.add(1);
    }
    if let Some(id) = id {
        node.stats.command(id).failed.add(1);
    }
    if let Some(transaction) = &mut session.transaction
        && error.fails_transaction()
    {
        transaction.failed = true;
    }
}

fn account(node: &Node, session: &Session, id: CommandId, arguments: Arguments<'_>, microseconds: u64) {
    node.stats.commands.add(1);
    let stats = node.stats.command(id);
    stats.calls.add(1);
    stats.microseconds.add(microseconds);
    session.info.last_command_at_ms.store(platform::wall_clock_ms(), Ordering::Relaxed);
    session.info.set_last_command(id);
    node.slowlog.consider(microseconds, arguments, &session.info);
}

fn multi(session: &mut Session, output: &mut Output) -> CommandResult {
    if session.transaction.is_some() {
        return Err(CommandError::NestedMulti);
    }
    session.transaction = Some(Transaction::default());
    session.info.queued.store(1, Ordering::Relaxed);
    ok(session, output);
    Ok(())
}

fn discard(node: &Arc<Node>, session: &mut Session, output: &mut Output) -> CommandResult {
    if session.transaction.take().is_none() {
        return Err(CommandError::DiscardWithoutMulti);
    }
    session.info.queued.store(0, Ordering::Relaxed);
    forget_watches(node, session);
    ok(session, output);
    Ok(())
}

fn unwatch(node: &Arc<Node>, session: &mut Session, output: &mut Output) -> CommandResult {
    forget_watches(node, session);
    ok(session, output);
    Ok(())
}

fn ok(session: &Session, output: &mut Output) {
    ReplyWriter::new(&mut output.bytes, session.protocol).simple("OK");
    output.gate_nothing();
}

fn watch(
    node: &Arc<Node>,
    session: &mut Session,
    arguments: Arguments<'_>,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult {
    if session.transaction.is_some() {
        return Err(CommandError::WatchInsideMulti);
    }
    let RunScratch { slots, ids, .. } = scratch;
    check_route(node, session, CommandId::Watch.spec(), CommandId::Watch, arguments, ids)?;
    let mut data = node.store.lock(ids, platform::wall_clock_ms(), slots);
    if node.may_expire() && data.may_change() {
        expire_declared(&mut data, CommandId::Watch, arguments, node);
    }
    let watching = &mut session.watching;
    for &key in &arguments[1..] {
        if !watching.keys.iter().any(|known| **known == *key) {
            watching.keys.push(key.into());
            data.watch(key, &watching.flag);
        }
    }
    let lsn = commit(data)?;
    session.info.watched.store(watching.keys.len(), Ordering::Relaxed);
    ReplyWriter::new(&mut output.bytes, session.protocol).simple("OK");
    output.gate(lsn);
    Ok(())
}

/// UNWATCH, and what EXEC, DISCARD and the end of a connection do.
pub fn forget_watches(node: &Arc<Node>, session: &mut Session) {
    let watching = std::mem::take(&mut session.watching);
    for key in &watching.keys {
        node.store.slots().unwatch(key, &watching.flag);
    }
    session.info.watched.store(0, Ordering::Relaxed);
}

fn exec(
    node: &Arc<Node>,
    session: &mut Session,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult<Outcome> {
    let Some(transaction) = session.transaction.take() else { return Err(CommandError::ExecWithoutMulti) };
    session.info.queued.store(0, Ordering::Relaxed);
    let result = if transaction.failed {
        Err(CommandError::ExecAbort)
    } else {
        exec_queue(node, session, &transaction.queue, output, scratch)
    };
    if matches!(result, Ok(Outcome::Hold(_))) {
        // Nothing has run: it is tried again as a whole.
        session.info.queued.store(transaction.queue.len() + 1, Ordering::Relaxed);
        session.transaction = Some(transaction);
        return result;
    }
    forget_watches(node, session);
    result
}

fn exec_queue(
    node: &Arc<Node>,
    session: &mut Session,
    queue: &[QueuedCommand],
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult<Outcome> {
    let RunScratch { slots, dice, ids } = scratch;
    let mut all = SlotIds::new();
    let mut whole_keyspace = false;
    for command in queue {
        let words: SmallVec<[&[u8]; 8]> = command.arguments.iter().map(|word| &**word).collect();
        let spec = command.id.spec_for(&words);
        check_route(node, session, spec, command.id, &words, ids)?;
        check_writable(node, spec)?;
        all.extend(ids.iter().copied());
        whole_keyspace |= !matches!(handler(command.id), Handler::Data(_));
    }
    if node.cluster.is_some() {
        let mut of_commands = all.clone();
        of_commands.sort_unstable();
        route::single_slot(of_commands)?;
    }
    all.extend(session.watching.keys.iter().map(|key| SlotId::of_key(key)));
    if whole_keyspace {
        all.clear();
        all.extend(SlotId::all());
    }
    all.sort_unstable();
    all.dedup();
    let now_ms = platform::wall_clock_ms();
    let requests: Vec<SmallVec<[&[u8]; 8]>> =
        queue.iter().map(|command| command.arguments.iter().map(|word| &**word).collect()).collect();
    let data = node.store.lock(&all, now_ms, slots);
    let writes = queue.iter().any(|command| command.id.spec().has(Flag::Write));
    if must_wait(node, &data, writes, !all.is_empty() && !whole_keyspace) {
        return Ok(Outcome::Hold(role_is_settled()));
    }
    // Looked at under the slots' locks: nobody can change a watched key between this and the commands.
    let expired = |key: &[u8]| data.keyspace(key).is_expired(key, now_ms);
    if session.watching.flag.load(Ordering::Acquire) || session.watching.keys.iter().any(|key| expired(key)) {
        drop(data);
        ReplyWriter::new(&mut output.bytes, session.protocol).null_array();
        output.gate_nothing();
        return Ok(Outcome::Done);
    }
    let mut close = false;
    let start = output.bytes.len();
    let mut reply = ReplyWriter::new(&mut output.bytes, session.protocol);
    reply.array(queue.len());
    let mut context = DataContext { arguments: &[], data, reply, dice };
    for (command, words) in queue.iter().zip(&requests) {
        let started = platform::monotonic_us();
        let start = context.reply.position();
        context.arguments = words;
        let handler = handler(command.id);
        if node.may_expire() && context.data.may_change() && matches!(handler, Handler::Data(_)) {
            expire_declared(&mut context.data, command.id, words, node);
        }
        let error = match call(node, session, handler, &mut context, true) {
            Ok(Next::Reply) => None,
            Ok(Next::Close) => {
                close = true;
                None
            }
            Ok(Next::Later(_)) => Some(CommandError::NotInTransaction),
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            context.reply.take_back(start);
            context.reply.error(&error);
            node.stats.error_replies.add(1);
            node.stats.command(command.id).failed.add(1);
        }
        account(node, session, command.id, words, platform::monotonic_us() - started);
    }
    let DataContext { data, .. } = { context };
    if !all.is_empty() && !whole_keyspace && read_without_lease(node, &data) {
        drop(data);
        output.withdraw(start);
        return Ok(Outcome::Hold(role_is_settled()));
    }
    let as_master = data.may_change();
    let lsn = commit(data)?;
    if !all.is_empty() && !whole_keyspace {
        tell(node, session, lsn, as_master);
    }
    output.gate(lsn);
    Ok(if close { Outcome::Close } else { Outcome::Done })
}
