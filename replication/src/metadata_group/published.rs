//! What the group says, to everybody on this node who wants to know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_cluster::Registry;
use holdfast_words::NodeId;
use tokio::sync::watch;

use crate::links::book::AddressBook;

/// What the group says now.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Decided {
    /// The newest registry this node has; not founded while it has none.
    pub registry: Arc<Registry>,
    /// Who leads the group, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Whose votes count now: they follow the registry's voters a moment later.
    pub voting: Arc<BTreeSet<NodeId>>,
}

/// Publishes for one run of Raft, until that run is over.
#[derive(Clone)]
pub struct Publisher {
    decided: watch::Sender<Decided>,
    book: AddressBook,
    is_over: Arc<AtomicBool>,
}

impl Publisher {
    /// A new run begins: what was said before is void.
    pub fn begin(decided: watch::Sender<Decided>, book: AddressBook) -> Self {
        Self { decided, book, is_over: Arc::default() }
    }

    /// This run is over, and what it said is void.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.decided.send_replace(Decided::default());
    }

    /// Whether this run was ended on purpose.
    pub fn has_ended(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// There is a new registry.
    pub fn registry(&self, registry: &Arc<Registry>) {
        self.change(|decided| decided.registry = registry.clone());
    }

    /// Somebody leads, or nobody.
    pub fn leader(&self, leader: Option<NodeId>) {
        self.change(|decided| decided.leader = leader);
    }

    /// These vote.
    pub fn voting(&self, voters: BTreeSet<NodeId>) {
        self.change(|decided| {
            if *decided.voting != voters {
                decided.voting = Arc::new(voters);
            }
        });
    }

    /// What is published.
    pub fn watch(&self) -> watch::Receiver<Decided> {
        self.decided.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Decided)) {
        self.decided.send_if_modified(|decided| {
            if self.is_over.load(Ordering::Acquire) {
                return false;
            }
            let before = decided.clone();
            change(decided);
            let has_new_registry = !Arc::ptr_eq(&decided.registry, &before.registry);
            if has_new_registry && decided.registry.is_founded() {
                self.book.follow(&decided.registry);
            }
            has_new_registry || decided.leader != before.leader || decided.voting != before.voting
        });
    }
}
