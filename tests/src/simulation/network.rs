//! Who hears whom. Cuts between two hosts lose what is sent; a hold keeps it until it is released, as TCP's repetitions do over a
//! short interruption.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

/// How long a message takes at least and at most when nothing is wrong.
pub const LATENCY: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(3));

/// What is wrong between two hosts, in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing arrives.
    Cut,
    /// Everything arrives when it is over. Of both directions together only.
    Held,
}

/// What is wrong with the network.
#[derive(Default)]
pub struct Network {
    /// From, to → trouble; several faults may cut the same.
    troubles: BTreeMap<(String, String), Vec<Trouble>>,
}

impl Network {
    /// What `from` sends to `to` is lost from now on.
    pub fn cut(&mut self, sim: &Sim<'_>, from: &str, to: &str) {
        let troubles = self.troubles.entry((from.into(), to.into())).or_default();
        troubles.push(Trouble::Cut);
        sim.partition_oneway(from, to);
    }

    /// Ends one cut.
    pub fn mend(&mut self, sim: &Sim<'_>, from: &str, to: &str) {
        let Some(troubles) = self.troubles.get_mut(&(from.to_owned(), to.to_owned())) else { return };
        troubles.pop();
        if troubles.is_empty() {
            self.troubles.remove(&(from.to_owned(), to.to_owned()));
            sim.repair_oneway(from, to);
        }
    }

    /// Both directions are held, unless something is cut there.
    pub fn hold(&mut self, sim: &Sim<'_>, a: &str, b: &str) -> bool {
        let is_free =
            !self.troubles.keys().any(|(from, to)| (from == a && to == b) || (from == b && to == a));
        if is_free {
            self.troubles.insert((a.into(), b.into()), vec![Trouble::Held]);
            sim.hold(a, b);
        }
        is_free
    }

    /// What was held arrives.
    pub fn release(&mut self, sim: &Sim<'_>, a: &str, b: &str) {
        if self.troubles.get(&(a.to_owned(), b.to_owned())).is_some_and(|held| held[0] == Trouble::Held) {
            self.troubles.remove(&(a.to_owned(), b.to_owned()));
            sim.release(a, b);
            sim.repair(a, b);
        }
    }
}
