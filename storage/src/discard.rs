//! Memory of huge values is given back beside the commands: whoever removes one hands it to a thread that has nothing else to do.
//! A hash of 2 M fields took 80 ms to free, with its slot locked and its worker standing still.

use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::platform::threads;

/// What takes less memory is freed on the spot: some ten microseconds at most.
pub const DISCARD_BYTES: usize = 64 << 10;

type Discarded = Box<dyn Send>;

#[cfg(test)]
thread_local! {
    /// How often this thread handed something over.
    static HANDED_OVER: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Frees `value`, which takes about `bytes`, at once when that is little, else soon.
pub fn discard<T: Send + 'static>(value: T, bytes: usize) {
    if bytes < DISCARD_BYTES || !threads::are_real() {
        return;
    }
    if let Some(thread) = thread() {
        #[cfg(test)]
        HANDED_OVER.set(HANDED_OVER.get() + 1);
        // Should the thread be gone, what comes back is freed here.
        let _not_sent = thread.send(Box::new(value));
    }
}

/// The thread, started when it is first needed; where the system has no thread left everything is freed on the spot.
fn thread() -> Option<&'static Sender<Discarded>> {
    static THREAD: OnceLock<Option<Sender<Discarded>>> = OnceLock::new();
    let start = || {
        let (sender, receiver) = mpsc::channel();
        threads::spawn("free", move || free(&receiver)).ok().map(|_| sender)
    };
    THREAD.get_or_init(start).as_ref()
}

fn free(discarded: &Receiver<Discarded>) {
    threads::give_way();
    discarded.iter().for_each(drop);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::keyspace::Keyspace;
    use crate::mutation::{Bin, DeleteReason, Expiry, Mutation};

    const KEY: Bin<'static> = Bin::Borrowed(b"k");

    struct Witness(Sender<Option<String>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.send(std::thread::current().name().map(str::to_owned)).unwrap();
        }
    }

    #[test]
    fn little_is_freed_on_the_spot_and_much_by_the_thread() {
        let (sender, freed) = mpsc::channel();
        discard(Witness(sender.clone()), DISCARD_BYTES - 1);
        assert_eq!(freed.try_recv().unwrap().as_deref(), std::thread::current().name());
        discard(Witness(sender), DISCARD_BYTES);
        assert_eq!(freed.recv().unwrap().as_deref(), Some("free"));
    }

    fn with_set(members: usize) -> Keyspace {
        let mut keys = Keyspace::default();
        let members = (0..members).map(|n| Bin::Owned(format!("member {n}").into_bytes())).collect();
        apply(&mut keys, &Mutation::SetAdd { key: KEY, members }).unwrap();
        keys
    }

    #[test]
    fn whatever_makes_a_huge_value_go_hands_it_over() {
        let ways: [(&str, Mutation<'_>); 3] = [
            ("DEL", Mutation::Delete { key: KEY, reason: DeleteReason::Command }),
            ("SET", Mutation::SetString { key: KEY, value: KEY, expiry: Expiry::Clear }),
            ("FLUSHALL", Mutation::FlushSlot),
        ];
        for (way, mutation) in ways {
            for (members, expected) in [(10, 0), (20_000, 1)] {
                let mut keys = with_set(members);
                let before = HANDED_OVER.get();
                apply(&mut keys, &mutation).unwrap();
                assert_eq!(HANDED_OVER.get() - before, expected, "{way} of {members} members");
                assert!(keys.memory_bytes() < 100, "{way}: what is handed over does not count any more");
            }
        }
    }
}
