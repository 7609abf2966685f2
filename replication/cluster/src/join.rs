//! CLUSTER MEET: which of two nodes joins the other's cluster, and the handshake. A node that is alone and holds no
//! keys can give its cluster up; two clusters with more than that are never merged.

use alloc::string::String;
use alloc::vec::Vec;

use holdfast_words::{ClusterId, NodeId};

use crate::change::NodeRecord;
use crate::message::JoinCard;
use crate::registry::Registry;

/// A meeting is tried for the node timeout, at least so long.
const MEET_MS_MIN: u64 = 5000;
/// An unanswered Meet is repeated after this time.
const REPEAT_MEET_MS: u64 = 500;
/// A welcome names so many nodes.
const SEEDS_MAX: usize = 16;

/// A node to meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Target {
    /// Its address.
    pub ip: String,
    /// Its bus port.
    pub bus_port: u16,
}

#[derive(Clone, Debug)]
struct Meeting {
    target: Target,
    token: u64,
    /// When it was first and last told; `None` while it waits for its turn.
    told_ms: Option<(u64, u64)>,
}

/// The meetings under way.
#[derive(Clone, Debug, Default)]
pub struct Joining {
    meetings: Vec<Meeting>,
    /// The cluster this node has decided to join; nothing else is joined or admitted meanwhile.
    into: Option<ClusterId>,
}

/// What to answer a Meet with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The sender is a member: welcome it.
    Welcome,
    /// The sender can join: propose it.
    Admit,
    /// This node can join the sender: ask it to be admitted.
    AskBack,
    /// Neither can.
    Refuse,
    /// Say nothing now; the sender will ask again, or its own answer is under way.
    Ignore,
}

impl Joining {
    /// Begins to meet `target`; `token` marks the answers.
    pub fn meet(&mut self, target: Target, token: u64) {
        if self.meetings.iter().all(|meeting| meeting.target != target) {
            self.meetings.push(Meeting { target, token, told_ms: None });
        }
    }

    /// Whether this node is about to join another cluster.
    pub fn is_joining(&self) -> bool {
        self.into.is_some()
    }

    /// Whom to send a Meet with which token now. A node that could itself join asks one at a time: two clusters must
    /// not both admit it.
    pub fn due(&mut self, now_ms: u64, i_may_join: bool) -> Vec<(Target, u64)> {
        if self.is_joining() {
            return Vec::new();
        }
        let at_once = if i_may_join { 1 } else { usize::MAX };
        let mut due = Vec::new();
        for meeting in self.meetings.iter_mut().take(at_once) {
            let (first, last) = meeting.told_ms.unwrap_or((now_ms, 0));
            if meeting.told_ms.is_none() || now_ms.saturating_sub(last) >= REPEAT_MEET_MS {
                meeting.told_ms = Some((first, now_ms));
                due.push((meeting.target.clone(), meeting.token));
            }
        }
        due
    }

    /// Takes out the meetings whose time is up.
    pub fn expired(&mut self, now_ms: u64, timeout_ms: u64) -> Vec<Target> {
        let limit_ms = timeout_ms.max(MEET_MS_MIN);
        let is_over =
            |m: &mut Meeting| m.told_ms.is_some_and(|(first, _)| now_ms.saturating_sub(first) >= limit_ms);
        self.meetings.extract_if(.., is_over).map(|meeting| meeting.target).collect()
    }

    /// Ends the meetings with nodes that are members now; those still waiting go on.
    pub fn follow(&mut self, registry: &Registry) {
        if self.into == Some(registry.cluster) {
            self.into = None;
        }
        let is_member = |t: &Target| {
            registry.nodes.values().any(|n| n.address.bus_port == t.bus_port && n.address.ip == t.ip)
        };
        self.meetings.retain(|meeting| !is_member(&meeting.target));
    }

    /// What to answer a Meet with.
    pub fn on_meet(&self, registry: &Registry, me: NodeId, i_may_join: bool, card: &JoinCard) -> Verdict {
        if registry.nodes.contains_key(&card.node.id) {
            return if card.node.id == me { Verdict::Ignore } else { Verdict::Welcome };
        }
        if self.is_joining() || !registry.nodes.contains_key(&me) {
            return Verdict::Ignore;
        }
        match (card.may_join, i_may_join) {
            // This node is on its way itself, and admits nobody unless the two are on their way to each other: then
            // the higher id goes and the lower stays.
            (true, true) if !self.meetings.is_empty() => {
                let address = &card.node.address;
                let mutual = matches!(self.meetings.as_slice(), [only]
                    if only.target.ip == address.ip && only.target.bus_port == address.bus_port);
                if mutual && me < card.node.id { Verdict::Admit } else { Verdict::Ignore }
            }
            (true, _) => Verdict::Admit,
            (false, true) => Verdict::AskBack,
            (false, false) => Verdict::Refuse,
        }
    }

    /// The cluster of the sender has admitted this node. Whether to go: only who asked goes, and only once.
    pub fn on_welcome(&mut self, cluster: ClusterId, token: u64, i_may_join: bool) -> bool {
        if self.is_joining() || !i_may_join || self.take(token).is_none() {
            return false;
        }
        self.into = Some(cluster);
        true
    }

    /// The meeting with this token has had its answer: takes it out.
    pub fn take(&mut self, token: u64) -> Option<Target> {
        let told = |m: &Meeting| m.token == token && m.told_ms.is_some();
        let index = self.meetings.iter().position(told)?;
        Some(self.meetings.remove(index).target)
    }
}

/// Whom a newcomer may turn to: voters first.
pub fn seeds(registry: &Registry) -> Vec<NodeRecord> {
    let votes = |node: &&NodeRecord| registry.voters.contains(&node.id);
    let voters = registry.nodes.values().filter(votes);
    let others = registry.nodes.values().filter(|node| !votes(node));
    voters.chain(others).take(SEEDS_MAX).cloned().collect()
}
