//! Writing operations down while they happen.

use std::sync::{Arc, Mutex, MutexGuard};

use super::operation::{Answer, Call, History, Operation, Outcome, Tick};

/// A history in the making, shared by all clients.
#[derive(Default)]
pub struct Recorder {
    operations: Mutex<Vec<Operation>>,
}

/// An operation that has begun. One that is never finished stays unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(usize);

impl Recorder {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operation is about to be sent: call this before the first byte leaves.
    pub fn begin(&self, client: u32, key: &Arc<str>, call: Call, now: Tick) -> Token {
        let mut operations = self.lock();
        let outcome = Outcome::Unknown;
        operations.push(Operation {
            client,
            key: key.clone(),
            call,
            invoked: now,
            returned: Tick::MAX,
            outcome,
        });
        Token(operations.len() - 1)
    }

    /// The operation has ended: call this after its last byte came.
    ///
    /// # Panics
    /// When it ends before it began.
    pub fn end(&self, token: Token, outcome: Outcome, now: Tick) {
        let mut operations = self.lock();
        let operation = &mut operations[token.0];
        assert!(operation.invoked <= now, "an operation of tick {} ends at {now}", operation.invoked);
        (operation.returned, operation.outcome) = (now, outcome);
    }

    /// It was answered.
    pub fn answered(&self, token: Token, answer: Answer, now: Tick) {
        self.end(token, Outcome::Answered(answer), now);
    }

    /// Number of operations begun.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none has begun.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened so far.
    pub fn history(&self) -> History {
        History { operations: self.lock().clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations.lock().expect("nobody panics while recording")
    }
}
