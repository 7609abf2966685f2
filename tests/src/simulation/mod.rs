//! Six whole nodes, their network, disks and clocks, and their clients, in one process, on one thread, from one seed. Modules in
//! layer order, lowest first.

/// What happened, in order, readable.
pub mod trace;
/// How often what went wrong, and what came of it.
pub mod coverage;
/// Clock, dice and tasks of the simulated nodes.
pub mod world;
/// A connection that speaks RESP.
pub mod connection;
/// Nodes: started, killed, without power, paused.
pub mod nodes;
/// Who hears whom.
pub mod network;
/// One run from one seed.
pub mod run;
/// What the nodes hold, seen from inside.
pub mod stores;
/// What an operator does: forms the cluster, hands over.
pub mod operators;
/// What an operator does about replicas that are in the wrong place, or nowhere.
pub mod membership;
/// Clients that read and write and write down what they saw.
pub mod load;
/// What goes wrong, and when.
pub mod faults;
/// What must hold.
pub mod checkers;
/// Whole runs.
pub mod scenario;
/// Rules broken on purpose, each with the schedule that shows it.
pub mod sabotage;
/// Runs as processes of their own.
pub mod children;
