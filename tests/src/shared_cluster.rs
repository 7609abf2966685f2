//! One cluster for all tests of a suite, lent to one at a time: forming it takes longer than most tests. Each borrower gets it
//! whole; one that fails while a test has it is replaced.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::{ClusterUnderTest, Place};

/// The cluster of a suite; a static of the suite.
pub struct SharedCluster {
    place: Place,
    options: &'static [&'static str],
    held: Mutex<Option<ClusterUnderTest>>,
}

impl SharedCluster {
    /// Not started before it is lent.
    pub const fn new(place: Place, options: &'static [&'static str]) -> Self {
        Self { place, options, held: Mutex::new(None) }
    }

    /// The cluster, whole, for as long as the result lives.
    pub fn lend(&self) -> Lent<'_> {
        // A poisoned lock is no news: the borrower that panicked has taken the cluster down.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert_with(|| ClusterUnderTest::formed(self.place, "shared", self.options));
        let mut lent = Lent(held);
        lent.restart_all();
        lent.wait_until_whole();
        lent
    }
}

/// A borrowed cluster. Given back, its nodes must not have logged errors.
pub struct Lent<'a>(MutexGuard<'a, Option<ClusterUnderTest>>);

impl Deref for Lent<'_> {
    type Target = ClusterUnderTest;

    fn deref(&self) -> &ClusterUnderTest {
        self.0.as_ref().expect("a cluster is lent")
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut ClusterUnderTest {
        self.0.as_mut().expect("a cluster is lent")
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(cluster) = self.0.take() {
                eprintln!("{}", cluster.logs());
            }
        } else if let Some(cluster) = self.0.take() {
            // Not given back when that fails: the next borrower would be blamed for the same lines.
            cluster.assert_no_errors_logged();
            *self.0 = Some(cluster);
        }
    }
}
