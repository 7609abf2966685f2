//! Memory of huge collections is given back beside the commands: whoever removes one hands it to a thread that has nothing else to
//! do. A hash of 2 M fields took 80 ms to free, with its slot locked and its worker standing still. A string of any length is one
//! piece of memory, and freed on the spot.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::platform::threads;

/// What takes less memory is freed on the spot: some ten microseconds at most.
pub const DISCARD_BYTES: usize = 64 << 10;

/// While this much waits to be freed, more is freed on the spot: the thread gives way, and whoever makes garbage faster than it
/// gets on would fill the memory.
const BACKLOG_BYTES: usize = 64 << 20;

/// What waits to be freed, bytes.
static BACKLOG: AtomicUsize = AtomicUsize::new(0);

/// A value and about how many bytes it takes.
type Discarded = (Box<dyn Send>, usize);

#[cfg(test)]
thread_local! {
    /// How often this thread handed something over.
    static HANDED_OVER: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Frees `value`, which takes about `bytes`, at once when that is little or much waits already, else soon.
pub fn discard<T: Send + 'static>(value: T, bytes: usize) {
    let waiting = || BACKLOG.load(Ordering::Relaxed);
    if bytes < DISCARD_BYTES || !threads::are_real() || waiting() >= BACKLOG_BYTES {
        return;
    }
    if let Some(thread) = thread() {
        #[cfg(test)]
        HANDED_OVER.set(HANDED_OVER.get() + 1);
        // Should the thread be gone, what comes back is freed here.
        BACKLOG.fetch_add(bytes, Ordering::Relaxed);
        let _not_sent = thread.send((Box::new(value), bytes));
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
    for (value, bytes) in discarded {
        drop(value);
        BACKLOG.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::keyspace::Keyspace;
    use crate::mutation::{Bin, DeleteReason, Expiry, Mutation};

    const KEY: Bin<'static> = Bin::Borrowed(b"k");

    /// The thread and its backlog are the process's.
    static ALONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    struct Witness(Sender<Option<String>>);

    impl Drop for Witness {
        fn drop(&mut self) {
            self.0.send(std::thread::current().name().map(str::to_owned)).unwrap();
        }
    }

    #[test]
    fn little_is_freed_on_the_spot_and_much_by_the_thread() {
        let _alone = ALONE.lock();
        let (sender, freed) = mpsc::channel();
        discard(Witness(sender.clone()), DISCARD_BYTES - 1);
        assert_eq!(freed.try_recv().unwrap().as_deref(), std::thread::current().name());
        discard(Witness(sender), DISCARD_BYTES);
        assert_eq!(freed.recv().unwrap().as_deref(), Some("free"));
    }

    /// Keeps the thread until it is told.
    struct Slow(Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            self.0.recv().unwrap();
        }
    }

    #[test]
    fn nothing_more_is_handed_over_while_much_waits() {
        let _alone = ALONE.lock();
        let (go_on, slow) = mpsc::channel();
        discard(Slow(slow), BACKLOG_BYTES);
        let (sender, freed) = mpsc::channel();
        discard(Witness(sender.clone()), DISCARD_BYTES);
        assert_eq!(freed.try_recv().unwrap().as_deref(), std::thread::current().name());
        go_on.send(()).unwrap();
        while BACKLOG.load(Ordering::Relaxed) >= BACKLOG_BYTES {
            std::thread::yield_now();
        }
        discard(Witness(sender), DISCARD_BYTES);
        assert_eq!(freed.recv().unwrap().as_deref(), Some("free"));
    }

    #[test]
    fn a_long_string_is_freed_on_the_spot() {
        let _alone = ALONE.lock();
        let long = || Bin::Owned(vec![7; 4 * DISCARD_BYTES]);
        let mut keys = Keyspace::default();
        let before = HANDED_OVER.get();
        for _ in 0..2 {
            apply(&mut keys, &Mutation::SetString { key: KEY, value: long(), expiry: Expiry::Clear })
                .unwrap();
        }
        apply(&mut keys, &Mutation::Delete { key: KEY, reason: DeleteReason::Command }).unwrap();
        assert_eq!(HANDED_OVER.get(), before);
    }

    fn with_set(members: usize) -> Keyspace {
        let mut keys = Keyspace::default();
        let members = (0..members).map(|n| Bin::Owned(format!("member {n}").into_bytes())).collect();
        apply(&mut keys, &Mutation::SetAdd { key: KEY, members }).unwrap();
        keys
    }

    #[test]
    fn whatever_makes_a_huge_collection_go_hands_it_over() {
        let _alone = ALONE.lock();
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
