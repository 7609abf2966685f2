//! What an operator does about nodes that a round of faults left outside the cluster, or in another shard than their own: nodes
//! `n` and `n + 3` belong together, on two machines.

use std::time::Duration;

use super::nodes::PORT;
use super::operators::Line;
use super::run::{MACHINES, Simulation};
use super::trace::note;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// The node that shares a shard with this one.
fn partner(node: usize) -> usize {
    (node + MACHINES.len() / 2) % MACHINES.len()
}

/// What is to be done next.
enum Step {
    Nothing,
    /// This command, at this node.
    Order(usize, String),
    LookAgain,
}

impl Simulation {
    /// Brings every node back to where it belongs.
    ///
    /// # Errors
    /// When that takes longer.
    pub fn settle_membership(&mut self, patience: Duration) -> Result<(), String> {
        let end = self.elapsed() + patience;
        let mut last = "nobody tells of a cluster".to_owned();
        while self.elapsed() < end {
            match self.next_step() {
                Step::Nothing => return Ok(()),
                Step::LookAgain => {}
                Step::Order(node, command) => {
                    let reply = self.ask(node, &command);
                    last = format!("{command} at n{node}: {reply:?}");
                    note(format_args!("{last}"));
                }
            }
            self.pass(PAUSE);
        }
        Err(format!("nodes are not where they belong after {patience:?}: {last}"))
    }

    fn next_step(&mut self) -> Step {
        let views: Vec<Vec<Line>> = (0..self.nodes.len()).map(|node| self.lines_of(node)).collect();
        let addresses = self.addresses();
        let find = |view: usize, node: usize| views[view].iter().find(|line| line.address == addresses[node]);
        // One that was forgotten, and has not heard of it, still counts itself in: the others are asked.
        let known_by = |node: usize| {
            let others = (0..addresses.len()).filter(|other| *other != node);
            let knows =
                |other: &usize| find(*other, node).is_some_and(|line| !line.flags.contains("handshake"));
            others.filter(knows).count()
        };
        let is_known = |node: &usize| known_by(*node) > 0;
        let is_told_to_all = |node: usize| known_by(node) == addresses.len() - 1;
        let members = (0..addresses.len()).filter(is_known);
        let Some(view) = members.max_by_key(|member| views[*member].len()) else { return Step::LookAgain };
        let line = |node: usize| find(view, node);
        if let Some(node) = (0..addresses.len()).find(|node| !is_known(node)) {
            let known = (0..addresses.len()).find(|other| is_known(other) && *other != node);
            return match (views[node].len(), known) {
                (0, _) | (_, None) => Step::LookAgain,
                (1, Some(known)) => {
                    Step::Order(node, format!("CLUSTER MEET {} {PORT}", addresses[known].ip()))
                }
                // It was forgotten and does not know.
                _ => Step::Order(node, "CLUSTER RESET HARD".into()),
            };
        }
        if !(0..addresses.len()).all(is_told_to_all) {
            return Step::LookAgain;
        }
        let master_by = |view: usize, node: usize| {
            let line = find(view, node)?;
            Some(if line.is_master() { line.id.clone() } else { line.master.clone() })
        };
        let master = |node: usize| master_by(view, node);
        let is_serving = |node: usize| line(node).is_some_and(|line| line.is_master() && line.has_slots());
        for node in 0..addresses.len() {
            let mates: Vec<usize> = (0..addresses.len())
                .filter(|other| *other != node && master(*other) == master(node))
                .collect();
            if mates.contains(&partner(node)) {
                continue;
            }
            let pair = mates.iter().copied().find(|mate| mates.contains(&partner(*mate)));
            match (is_serving(node), pair, master(partner(node))) {
                // It leads the shard of two others, who have to take it back first.
                (true, Some(mate), _) => return Step::Order(mate, "CLUSTER FAILOVER".into()),
                // Its partner is the one in the wrong place.
                (true, None, _) | (false, _, None) => {}
                (false, _, Some(master)) => {
                    return Step::Order(node, format!("CLUSTER REPLICATE {master}"));
                }
            }
        }
        // Who was cut off a moment ago may not know yet what was changed meanwhile: all have to say so.
        let is_settled = |view: usize| {
            (0..addresses.len()).all(|node| {
                let master = master_by(view, node);
                master.is_some() && master == master_by(view, partner(node))
            })
        };
        if (0..addresses.len()).all(is_settled) { Step::Nothing } else { Step::LookAgain }
    }
}
