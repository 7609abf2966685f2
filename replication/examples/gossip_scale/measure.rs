//! What is measured for one size of cluster.

use crate::world::{Counted, World};

/// What came out for one size.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Nodes.
    pub nodes: usize,
    /// Of them voters.
    pub voters: usize,
    /// All is well.
    pub calm: Counted,
    /// From the kill to FAIL on more than half of the nodes, one per kill.
    pub majority_ms: Vec<u64>,
    /// From the kill to FAIL on all of the nodes.
    pub all_ms: Vec<u64>,
    /// While nodes are dying and being found out.
    pub dying: Counted,
    /// Nodes behind the cut.
    pub cut: usize,
    /// From the cut to FAIL of all behind it on all before it.
    pub cut_known_ms: u64,
    /// From the cut until then.
    pub parting: Counted,
    /// While the cluster is cut in two and has noticed.
    pub parted: Counted,
    /// From the mending to the last node that holds everybody for alive.
    pub healed_ms: u64,
}

impl Figures {
    /// The times to detect and to heal, for a line while the next size is measured.
    pub fn brief(&self) -> (&[u64], u64, u64) {
        (&self.all_ms, self.cut_known_ms, self.healed_ms)
    }
}

/// How long things are watched.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// `cluster-node-timeout`.
    pub timeout_ms: u64,
    /// Chance.
    pub seed: u64,
    /// Nodes that are killed one after another, at most.
    pub kills: usize,
}

/// Measures a cluster of `count` nodes.
///
/// # Panics
/// When a failure is not found out, or a mended cluster does not come together, within ten node timeouts.
pub fn measure(count: usize, plan: Plan) -> Figures {
    let mut world = World::new(count, plan.timeout_ms, plan.seed);
    let patience_ms = 10 * plan.timeout_ms;
    world.run(plan.timeout_ms);
    world.count_from_now();
    world.run(plan.timeout_ms / 2);
    let calm = world.counted();

    // One after the other, faster than the first is found out: each is timed on its own.
    world.count_from_now();
    let mut dead: Vec<Victim> = Vec::new();
    let kills = plan.kills.min((count / 6).max(1));
    while dead.len() < kills {
        let node = world.draw(count);
        let voters_dead = dead.iter().filter(|victim| world.votes(victim.node)).count();
        if dead.iter().any(|victim| victim.node == node)
            || (world.votes(node) && 2 * (voters_dead + 1) >= world.voters())
        {
            continue;
        }
        let pause_ms = world.draw(1000) as u64;
        world.run(pause_ms);
        world.kill(node);
        dead.push(Victim { node, killed_ms: world.now_ms, majority_ms: None, all_ms: None });
    }
    let until_ms = world.now_ms + patience_ms;
    while dead.iter().any(|victim| victim.all_ms.is_none()) {
        assert!(world.now_ms < until_ms, "everybody learns of every failure");
        world.run(10);
        dead.iter_mut().for_each(|victim| victim.look(&world));
    }
    let dying = world.counted();

    dead.iter().for_each(|victim| world.start(victim.node));
    world.run_until(patience_ms, |w| w.in_doubt() == 0).expect("the killed come back");
    let cut = world.cut_off(34);
    world.count_from_now();
    let cut_known_ms = world.run_until(patience_ms, World::all_know_cut_failed).expect("the cut is noticed");
    let parting = world.counted();
    world.count_from_now();
    world.run(plan.timeout_ms / 2);
    let parted = world.counted();
    world.mend();
    let healed_ms =
        world.run_until(patience_ms, |w| w.in_doubt() == 0).expect("the mended cluster comes together");
    let times = |of: fn(&Victim) -> Option<u64>| dead.iter().filter_map(of).collect();
    Figures {
        nodes: count,
        voters: world.voters(),
        calm,
        majority_ms: times(|victim| victim.majority_ms),
        all_ms: times(|victim| victim.all_ms),
        dying,
        cut,
        cut_known_ms,
        parting,
        parted,
        healed_ms,
    }
}

/// A killed node, and when others knew.
struct Victim {
    node: usize,
    killed_ms: u64,
    majority_ms: Option<u64>,
    all_ms: Option<u64>,
}

impl Victim {
    fn look(&mut self, world: &World) {
        if self.all_ms.is_some() {
            return;
        }
        let (know, running) = (world.know_failed(self.node), world.running());
        let since_ms = world.now_ms - self.killed_ms;
        if know * 2 > running {
            self.majority_ms.get_or_insert(since_ms);
        }
        if know == running {
            self.all_ms = Some(since_ms);
        }
    }
}
