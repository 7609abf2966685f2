//! Who is connected: what CLIENT LIST, CLIENT KILL and INFO see of the clients of all workers.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::command::CommandId;

/// What others may see of a client. The client's own task writes it, anybody reads it.
#[derive(Debug)]
pub struct ClientInfo {
    /// Ascending from 1, never reused.
    pub id: u64,
    /// The client's address.
    pub address: SocketAddr,
    /// The address it connected to.
    pub local_address: SocketAddr,
    /// When it connected, wall clock, ms.
    pub connected_at_ms: u64,
    /// When it last sent a command, wall clock, ms.
    pub last_command_at_ms: AtomicU64,
    /// CLIENT SETNAME.
    pub name: Mutex<Vec<u8>>,
    /// CLIENT SETINFO LIB-NAME and LIB-VER.
    pub library: Mutex<(Vec<u8>, Vec<u8>)>,
    /// The last command, as its number plus 1; 0 for none.
    last_command: AtomicUsize,
    /// Whether it speaks RESP3.
    pub resp3: AtomicBool,
    /// Whether a MULTI is open and how many commands it has queued, plus 1; 0 for none.
    pub queued: AtomicUsize,
    /// WATCHed keys.
    pub watched: AtomicUsize,
    /// Bytes read and not yet parsed.
    pub query_buffer_bytes: AtomicUsize,
    /// Reply bytes not yet sent.
    pub output_buffer_bytes: AtomicUsize,
    /// CLIENT NO-EVICT.
    pub no_evict: AtomicBool,
    /// CLIENT NO-TOUCH.
    pub no_touch: AtomicBool,
    /// READONLY.
    pub readonly: AtomicBool,
    /// Somebody wants the connection closed.
    pub killed: AtomicBool,
    /// Wakes the connection's task, after `killed` or when output may be sent.
    pub wake: Call,
}

impl ClientInfo {
    /// The client has run this command.
    pub fn set_last_command(&self, id: CommandId) {
        self.last_command.store(id as usize + 1, Ordering::Relaxed);
    }

    /// The name of the command that the client ran last, lower case; `NULL` for none, as Redis prints it.
    pub fn last_command(&self) -> &'static str {
        let number = self.last_command.load(Ordering::Relaxed);
        number
            .checked_sub(1)
            .and_then(|index| CommandId::all().nth(index))
            .map_or("NULL", |id| id.spec().name)
    }

    /// Closes the connection soon.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.wake.call();
    }
}

/// Calls one task. A call that comes while nobody listens is kept; several are one. Listening again and again costs next to
/// nothing, which is what a connection does between any two reads.
#[derive(Debug, Default)]
pub struct Call {
    is_called: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Call {
    /// Calls the task that listens, or the next one that will.
    pub fn call(&self) {
        self.is_called.store(true, Ordering::SeqCst);
        if let Some(listener) = &*self.listener.lock() {
            listener.wake_by_ref();
        }
    }

    /// Ready after a call, which is taken up by this.
    pub fn poll_called(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        let mut listener = self.listener.lock();
        if !listener.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *listener = Some(context.waker().clone());
        }
        drop(listener);
        // A call that came in between may have found the one who listened before.
        if self.take() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ends after a call.
    pub async fn called(&self) {
        poll_fn(|context| self.poll_called(context)).await;
    }

    fn take(&self) -> bool {
        self.is_called.load(Ordering::SeqCst) && self.is_called.swap(false, Ordering::SeqCst)
    }
}

/// All connected clients.
#[derive(Default)]
pub struct Clients {
    next_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<ClientInfo>>>,
}

impl Clients {
    /// Enters a client that has just connected.
    pub fn connect(&self, address: SocketAddr, local_address: SocketAddr, now_ms: u64) -> Arc<ClientInfo> {
        let info = Arc::new(ClientInfo {
            id: self.next_id.fetch_add(1, Ordering::Relaxed) + 1,
            address,
            local_address,
            connected_at_ms: now_ms,
            last_command_at_ms: AtomicU64::new(now_ms),
            name: Mutex::default(),
            library: Mutex::default(),
            last_command: AtomicUsize::new(0),
            resp3: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
            query_buffer_bytes: AtomicUsize::new(0),
            output_buffer_bytes: AtomicUsize::new(0),
            no_evict: AtomicBool::new(false),
            no_touch: AtomicBool::new(false),
            readonly: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            wake: Call::default(),
        });
        self.connected.lock().insert(info.id, info.clone());
        info
    }

    /// The client is gone.
    pub fn disconnect(&self, id: u64) {
        self.connected.lock().remove(&id);
    }

    /// How many are connected.
    pub fn count(&self) -> usize {
        self.connected.lock().len()
    }

    /// All of them, by ascending id.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.connected.lock().values().cloned().collect()
    }

    /// The client with this id.
    pub fn get(&self, id: u64) -> Option<Arc<ClientInfo>> {
        self.connected.lock().get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reaches_who_listens_and_is_kept_for_who_will() {
        let call = Arc::new(Call::default());
        call.call();
        call.call();
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(call.poll_called(&mut nobody).is_ready());
        assert!(call.poll_called(&mut nobody).is_pending(), "several calls are one");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (started, waits) = tokio::sync::oneshot::channel();
            let listening = call.clone();
            let listens = tokio::spawn(async move {
                started.send(()).unwrap();
                listening.called().await;
            });
            waits.await.unwrap();
            let caller = call.clone();
            std::thread::spawn(move || caller.call());
            listens.await.unwrap();
        });
    }
}
