//! One request: may it run, which slots does it need, run it under their locks, append its record, note what its reply waits
//! for. MULTI/EXEC runs its commands under all their slots at once and appends one group.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::{ArcSwap, Cache};
use holdfast_cluster::view::Routes;
use holdfast_storage::look_ahead::LookAhead;
use holdfast_storage::mutation::{DeleteReason, Mutation};
use holdfast_storage::slots::{Scratch, SlotSet};
use holdfast_words::{Lsn, SlotId};
use smallvec::SmallVec;

use crate::command::errors::CommandError;
use crate::command::{CommandId, CommandSpec, Flag, LastName, keys};
use crate::commands::context::{CommandResult, DataContext, Next, NodeContext};
use crate::config::{Config, MaxmemoryPolicy};
use crate::dispatch::{Handler, handler};
use crate::eviction;
use crate::node::Node;
use crate::platform;
use crate::platform::sabotage::{self, Switch};
use crate::platform::witness;
use crate::reply_gate::Output;
use crate::resp::{Arguments, Limits, ReplyWriter};
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

/// What a worker lends to one request after the other: memory, dice, and what every request looks at.
pub struct RunScratch {
    slots: Scratch,
    /// What a connection's next requests need.
    pub ahead: LookAhead,
    dice: fastrand::Rng,
    ids: SlotIds,
    config: Cache<Arc<ArcSwap<Config>>, Arc<Config>>,
    routes: Option<Cache<Arc<ArcSwap<Routes>>, Arc<Routes>>>,
    clock: TurnClock,
    tally: Tally,
    last_name: LastName,
}

impl RunScratch {
    /// For the requests to this node.
    pub fn new(node: &Node) -> Self {
        Self {
            slots: Scratch::default(),
            ahead: LookAhead::default(),
            dice: fastrand::Rng::new(),
            ids: SlotIds::new(),
            config: node.config.at_hand(),
            routes: node.cluster.as_ref().map(holdfast_replication::Handle::routes),
            clock: TurnClock::default(),
            tally: Tally::default(),
            last_name: LastName::default(),
        }
    }

    /// A connection's turn begins: some requests, one right after the other.
    pub fn begin_turn(&mut self) {
        self.clock.begin();
    }

    /// The turn is over: what was counted meanwhile is there for all to see.
    pub fn end_turn(&mut self, node: &Node, session: &Session) {
        self.tally.settle(node, session, self.clock.wall_ms());
    }

    /// What a request may claim.
    pub fn request_limits(&mut self, session: &Session) -> Limits {
        Limits { authenticated: session.authenticated, bulk_max: self.config.load().proto_max_bulk_len }
    }
}

/// The time, read once for each request: when one has ended the next one begins.
#[derive(Default)]
struct TurnClock {
    now_ns: u64,
    /// What the wall clock showed beyond the monotonic one, and when that was looked at.
    wall_ahead_us: i64,
    wall_read_ns: u64,
}

impl TurnClock {
    /// Between two looks at the wall clock, which may be set.
    const WALL_PERIOD_NS: u64 = 5_000_000;

    fn begin(&mut self) {
        let now_ns = self.read();
        if now_ns - self.wall_read_ns >= Self::WALL_PERIOD_NS || self.wall_read_ns == 0 {
            self.wall_ahead_us = platform::wall_clock_us() as i64 - (now_ns / 1000) as i64;
            self.wall_read_ns = now_ns;
        }
    }

    fn read(&mut self) -> u64 {
        self.now_ns = platform::monotonic_ns();
        self.now_ns
    }

    fn wall_ms(&self) -> u64 {
        (((self.now_ns / 1000) as i64).saturating_add(self.wall_ahead_us).max(0) / 1000) as u64
    }
}

/// Requests of one command in a row, not yet counted where others see them.
#[derive(Default)]
struct Tally {
    command: Option<CommandId>,
    calls: u64,
    nanoseconds: u64,
}

impl Tally {
    /// The next request is of this command.
    fn turn_to(&mut self, id: CommandId, node: &Node, session: &Session, now_ms: u64) {
        if self.command != Some(id) {
            self.settle(node, session, now_ms);
            self.command = Some(id);
        }
    }

    fn settle(&mut self, node: &Node, session: &Session, now_ms: u64) {
        let Self { command: Some(id), calls: calls @ 1.., nanoseconds } = *self else { return };
        node.stats.commands.add(calls);
        let stats = node.stats.command(id);
        stats.calls.add(calls);
        stats.nanoseconds.add(nanoseconds);
        session.info.last_command_at_ms.store(now_ms, Ordering::Relaxed);
        session.info.set_last_command(id);
        *self = Self::default();
    }
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
    let started_ns = scratch.clock.now_ns;
    if session.reply_mode == ReplyMode::SkipNext {
        session.reply_mode = ReplyMode::Skip;
    }
    let mut id = None;
    let outcome = scratch.last_name.resolve(arguments).and_then(|(found, spec)| {
        id = Some(found);
        scratch.tally.turn_to(found, node, session, scratch.clock.wall_ms());
        match admit(node, session, found, spec, arguments, scratch)? {
            Admitted::Run => run(node, session, found, spec, arguments, output, scratch),
            Admitted::Queue => {
                queue(session, found, arguments);
                ReplyWriter::new(&mut output.bytes, session.protocol).simple("QUEUED");
                output.gate_nothing();
                Ok(Outcome::Done)
            }
            Admitted::Hold(released) => Ok(Outcome::Hold(released)),
        }
    });
    let outcome = outcome.unwrap_or_else(|error| {
        // A command with wrong arguments counts as one of its name.
        id = id.or_else(|| CommandId::lookup(arguments[0]));
        refuse(node, session, id, &error, output, start);
        if error.closes_connection() { Outcome::Close } else { Outcome::Done }
    });
    if let (Some(id), false) = (id, matches!(outcome, Outcome::Hold(_))) {
        if scratch.clock.now_ns == started_ns {
            scratch.clock.read();
        }
        let nanoseconds = scratch.clock.now_ns - started_ns;
        scratch.tally.turn_to(id, node, session, scratch.clock.wall_ms());
        scratch.tally.calls += 1;
        scratch.tally.nanoseconds += nanoseconds;
        node.slowlog.consider(nanoseconds / 1000, arguments, &session.info);
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
    spec: &'static CommandSpec,
    arguments: Arguments<'_>,
    scratch: &mut RunScratch,
) -> CommandResult<Admitted> {
    if !session.authenticated && !spec.has(Flag::NoAuth) {
        return Err(CommandError::NoAuth);
    }
    if let Some(routes) = &mut scratch.routes
        && waits_for_handover(routes.load(), session, spec, arguments)
    {
        return Ok(Admitted::Hold(role_is_settled()));
    }
    if session.transaction.is_some() && !runs_inside_multi(id) {
        if spec.has(Flag::NoMulti) {
            return Err(CommandError::NotInTransaction);
        }
        // A command that could not run is refused when it is queued, as Redis does.
        check_route(node, session, spec, arguments, &mut scratch.ids, &mut scratch.routes)?;
        check_writable(node, spec, scratch.config.load())?;
        return Ok(Admitted::Queue);
    }
    if node.pause.is_on()
        && let Some(released) = node.pause.holds(is_write(session, id), platform::wall_clock_ms())
    {
        return Ok(Admitted::Hold(released));
    }
    Ok(Admitted::Run)
}

fn waits_for_handover(
    routes: &Routes,
    session: &Session,
    spec: &'static CommandSpec,
    arguments: Arguments<'_>,
) -> bool {
    let request = Request { readonly_command: spec.has(Flag::Readonly), readonly_client: session.readonly };
    let waits = |index: usize| route::waits_for_handover(routes, SlotId::of_key(arguments[index]), request);
    routes.taking_over && keys::positions_by(spec, arguments).any(waits)
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
    spec: &'static CommandSpec,
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
    spec: &'static CommandSpec,
    arguments: Arguments<'_>,
    output: &mut Output,
    scratch: &mut RunScratch,
) -> CommandResult<Outcome> {
    let RunScratch { slots, dice, ids, config, routes, clock, .. } = scratch;
    check_route(node, session, spec, arguments, ids, routes)?;
    let config = config.load();
    if spec.has(Flag::DenyOom)
        && node.is_over_memory(config)
        && !eviction::make_room(node, config, slots, dice)
    {
        return Err(CommandError::Oom);
    }
    check_writable(node, spec, config)?;
    let handler = handler(id);
    if let Handler::AllSlots(_) = handler {
        ids.clear();
        ids.extend(SlotId::all());
    }
    let data = node.store.lock(ids, clock.wall_ms(), slots);
    let is_keyed = matches!(handler, Handler::Data(_)) && !ids.is_empty();
    if must_wait(node, &data, spec.has(Flag::Write), is_keyed) {
        return Ok(Outcome::Hold(role_is_settled()));
    }
    let start = output.bytes.len();
    let reply = ReplyWriter::new(&mut output.bytes, session.protocol);
    let mut context = DataContext { arguments, data, reply, dice };
    if matches!(handler, Handler::Data(_)) {
        expire_declared(&mut context.data, spec, arguments, node);
    }
    let result = call(node, session, handler, &mut context, false);
    let DataContext { data, .. } = { context };
    if is_keyed && read_without_lease(node, &data, clock.read()) {
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
/// reading, at `read_by_ns`. A change needs no lease, nobody acknowledges it under an epoch that is over. The read is tried again, and refused
/// when the lease does not come back.
fn read_without_lease(node: &Node, data: &SlotSet<'_>, read_by_ns: u64) -> bool {
    let Some(cluster) = &node.cluster else { return false };
    // Closed slots are a replica's.
    let reads_as_master = data.may_change() && !data.has_changes();
    reads_as_master && !cluster.had_lease_at(read_by_ns) && !sabotage::is_on(Switch::LeaseIgnored)
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
fn expire_declared(
    data: &mut SlotSet<'_>,
    spec: &'static CommandSpec,
    arguments: Arguments<'_>,
    node: &Node,
) {
    if !data.has_volatile_keys() || !node.may_expire() || !data.may_change() {
        return;
    }
    let now_ms = data.now_ms();
    for index in keys::positions_by(spec, arguments) {
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
    spec: &'static CommandSpec,
    arguments: Arguments<'_>,
    ids: &mut SlotIds,
    routes: &mut Option<Cache<Arc<ArcSwap<Routes>>, Arc<Routes>>>,
) -> CommandResult {
    ids.clear();
    ids.extend(keys::positions_by(spec, arguments).map(|index| SlotId::of_key(arguments[index])));
    if ids.len() > 1 {
        ids.sort_unstable();
        ids.dedup();
    }
    let Some(routes) = routes else { return Ok(()) };
    session.asking = false;
    let Some(slot) = route::single_slot(ids.iter().copied())? else { return Ok(()) };
    let request = Request { readonly_command: spec.has(Flag::Readonly), readonly_client: session.readonly };
    route::may_serve(routes.load(), slot, request)?;
    if session.readonly && !node.store.is_whole() && node.is_replica() {
        // Its slots are being copied from its master.
        return Err(CommandError::Loading);
    }
    Ok(())
}

/// Whether a write may run now at all.
fn check_writable(node: &Node, spec: &CommandSpec, config: &Config) -> CommandResult {
    if spec.has(Flag::Write) {
        node.may_write(config)?;
        if spec.has(Flag::DenyOom)
            && config.maxmemory_policy == MaxmemoryPolicy::Noeviction
            && node.is_over_memory(config)
        {
            return Err(CommandError::Oom);
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
    let RunScratch { slots, ids, routes, clock, .. } = scratch;
    let spec = CommandId::Watch.spec();
    check_route(node, session, spec, arguments, ids, routes)?;
    let mut data = node.store.lock(ids, clock.wall_ms(), slots);
    expire_declared(&mut data, spec, arguments, node);
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
    let RunScratch { slots, dice, ids, config, routes, clock, tally, .. } = scratch;
    let mut all = SlotIds::new();
    let mut whole_keyspace = false;
    for command in queue {
        let words: SmallVec<[&[u8]; 8]> = command.arguments.iter().map(|word| &**word).collect();
        let spec = command.id.spec_for(&words);
        check_route(node, session, spec, &words, ids, routes)?;
        check_writable(node, spec, config.load())?;
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
    let now_ms = clock.wall_ms();
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
        let started_ns = clock.now_ns;
        let start = context.reply.position();
        context.arguments = words;
        let handler = handler(command.id);
        tally.turn_to(command.id, node, session, now_ms);
        if matches!(handler, Handler::Data(_)) {
            expire_declared(&mut context.data, command.id.spec_for(words), words, node);
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
        let nanoseconds = clock.read() - started_ns;
        tally.calls += 1;
        tally.nanoseconds += nanoseconds;
        node.slowlog.consider(nanoseconds / 1000, words, &session.info);
    }
    let DataContext { data, .. } = { context };
    if !all.is_empty() && !whole_keyspace && read_without_lease(node, &data, clock.now_ns) {
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
