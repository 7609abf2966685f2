//! WATCH: which clients want to know that a key changed. Lives under a slot's lock; holds nothing when nobody watches.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set when a key that the client watches has changed; shared by all keys the client watches.
pub type WatchFlag = Arc<AtomicBool>;

/// The watched keys of one slot.
#[derive(Default, Debug)]
pub struct Watchers {
    keys: HashMap<Box<[u8]>, Vec<WatchFlag>>,
}

impl Watchers {
    /// From now on a change of `key` sets `flag`.
    pub fn watch(&mut self, key: &[u8], flag: &WatchFlag) {
        let flags = self.keys.entry(key.into()).or_default();
        if !flags.iter().any(|known| Arc::ptr_eq(known, flag)) {
            flags.push(flag.clone());
        }
    }

    /// `flag` no longer hears of `key`.
    pub fn unwatch(&mut self, key: &[u8], flag: &WatchFlag) {
        if let Some(flags) = self.keys.get_mut(key) {
            flags.retain(|known| !Arc::ptr_eq(known, flag));
            if flags.is_empty() {
                self.keys.remove(key);
            }
        }
    }

    /// Whether nobody watches anything here.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key changed.
    pub fn touch(&self, key: &[u8]) {
        for flag in self.keys.get(key).into_iter().flatten() {
            flag.store(true, Ordering::Release);
        }
    }

    /// Every key of the slot changed.
    pub fn touch_all(&self) {
        for flag in self.keys.values().flatten() {
            flag.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_hears_of_its_key_until_it_stops_watching() {
        let mut watchers = Watchers::default();
        let (mine, other) = (WatchFlag::default(), WatchFlag::default());
        watchers.watch(b"a", &mine);
        watchers.watch(b"b", &other);
        watchers.touch(b"a");
        assert!(mine.load(Ordering::Acquire) && !other.load(Ordering::Acquire));
        mine.store(false, Ordering::Release);
        watchers.unwatch(b"a", &mine);
        watchers.touch_all();
        assert!(!mine.load(Ordering::Acquire) && other.load(Ordering::Acquire));
    }
}
