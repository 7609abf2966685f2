//! Nodes on simulated hosts: started, killed, without power, paused.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use holdfast_storage::store::Store;
use tokio::task::LocalSet;

use super::trace::note;
use super::world::Running;

/// The clients' port of every node.
pub const PORT: u16 = 7000;
/// `cluster-node-timeout`, ms.
pub const NODE_TIMEOUT_MS: u64 = 1000;

/// Where a node is and how it does.
pub struct NodeHost {
    /// Its number.
    pub index: usize,
    /// Its host's name.
    pub name: String,
    /// Its machine, whose disk and power it shares.
    pub machine: String,
    /// Its host's address.
    pub ip: Cell<Option<IpAddr>>,
    /// Options besides the usual ones.
    options: Vec<String>,
    paused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// It was started, and has neither ended nor been ended.
    up: Cell<bool>,
    /// Its data, as long as it lives.
    store: RefCell<Weak<Store>>,
}

impl NodeHost {
    /// A node of a machine, with its options.
    pub fn new(index: usize, machine: usize, options: &[&str]) -> Rc<Self> {
        Rc::new(Self {
            index,
            name: format!("n{index}"),
            machine: format!("m{machine}"),
            ip: Cell::new(None),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            paused: Cell::new(false),
            waker: RefCell::new(None),
            up: Cell::new(false),
            store: RefCell::default(),
        })
    }

    /// Where its data are.
    pub fn directory(&self) -> PathBuf {
        format!("/simulated/{}/{}", self.machine, self.name).into()
    }

    /// Where clients reach it.
    ///
    /// # Panics
    /// Before it has a host.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip.get().expect("the node has a host"), PORT)
    }

    /// Whether it runs, paused or not.
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Its data, once they are loaded, as long as it lives.
    pub fn store(&self) -> Option<Arc<Store>> {
        self.store.borrow().upgrade()
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    /// It stands still (SIGSTOP), or goes on (SIGCONT).
    pub fn pause(&self, paused: bool) {
        self.paused.set(paused);
        if !paused && let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// It was killed.
    pub fn set_down(&self) {
        self.up.set(false);
        self.paused.set(false);
        *self.store.borrow_mut() = Weak::new();
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut option = |name: &str, value: &str| {
            arguments.push(format!("--{name}"));
            arguments.push(value.to_owned());
        };
        option("port", &PORT.to_string());
        option("bind", "0.0.0.0");
        option("protected-mode", "no");
        option("dir", &self.directory().to_string_lossy());
        option("cluster-enabled", "yes");
        option("cluster-node-timeout", &NODE_TIMEOUT_MS.to_string());
        option("cluster-zone", &self.machine);
        option("io-threads", "1");
        option("enable-debug-command", "yes");
        option("wal-segment-size", "1mb");
        arguments.extend(self.options.iter().cloned());
        arguments
    }

    /// The node's life on its host, from start to end.
    pub async fn live(self: Rc<Self>) -> turmoil::Result {
        self.up.set(true);
        let local = Rc::new(LocalSet::new());
        let tasks = local.clone();
        let node = self.clone();
        let life = async move {
            let arguments = node.arguments();
            let opened = |store: &Arc<Store>| *node.store.borrow_mut() = Arc::downgrade(store);
            tasks.run_until(holdfast_server::simulation::run_node(&arguments, opened)).await
        };
        let index = self.index;
        let ended = Life { node: self.clone(), life: Some(Box::pin(life)), local: Some(local) }.await;
        self.up.set(false);
        let _running = Running::node(index);
        match ended {
            Ok(()) => note(format_args!("the node has stopped")),
            Err(error) => note(format_args!("the node has ended: {error}")),
        }
        Ok(())
    }
}

/// A node from its start to its end.
type Run = dyn Future<Output = Result<(), String>>;

/// Polls a node's tasks as long as it is not paused, and says who is running.
struct Life {
    node: Rc<NodeHost>,
    life: Option<Pin<Box<Run>>>,
    local: Option<Rc<LocalSet>>,
}

impl Future for Life {
    type Output = Result<(), String>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        *self.node.waker.borrow_mut() = Some(context.waker().clone());
        if self.node.paused.get() {
            return Poll::Pending;
        }
        let _running = Running::node(self.node.index);
        match &mut self.life {
            Some(life) => life.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _running = Running::node(self.node.index);
        self.life = None;
        self.local = None;
    }
}
