//! Acceptance 3 of the first issue: a node killed at random while it writes. Every acknowledged write is there, and the
//! state is that of a model, with at most the one command in flight more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_tests::client::{Client, Reply};
use holdfast_tests::model::{Model, Words, random_command};
use holdfast_tests::process::Node;

const BINARY: &str = env!("CARGO_BIN_EXE_holdfast-under-test");
const WRITERS: usize = 3;

/// One writer's keys: what is acknowledged, and the command whose fate a kill left open.
#[derive(Default)]
struct Writer {
    model: Model,
    open: Option<Words>,
}

impl Writer {
    fn write_until(&mut self, port: u16, prefix: &str, seed: u64, stop: &AtomicBool) -> usize {
        let mut dice = fastrand::Rng::with_seed(seed);
        let Ok(mut client) = Client::connect(port) else { return 0 };
        let mut acknowledged = 0;
        while !stop.load(Ordering::Relaxed) {
            let words = random_command(&mut dice, prefix);
            match client.try_call(&words) {
                Ok(reply) => {
                    assert!(!matches!(reply, Reply::Error(_)), "{words:?}: {reply}");
                    self.model.apply(&words);
                    acknowledged += 1;
                }
                Err(_) => {
                    self.open = Some(words);
                    break;
                }
            }
        }
        acknowledged
    }

    /// The node's state is the model's, or the model's after the open command; the model follows.
    fn check(&mut self, client: &mut Client, prefix: &str, round: usize) {
        let found = Model::read(client, prefix);
        if let Some(words) = self.open.take()
            && found != self.model
        {
            self.model.apply(&words);
        }
        let difference = found.difference(&self.model);
        assert!(difference.is_empty(), "round {round}, after kill -9: {difference:#?}");
    }
}

fn kill_rounds(options: &[&str], rounds: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut node = Node::new(BINARY, directory.path(), options);
    let mut dice = fastrand::Rng::with_seed(7);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|_| Writer::default()).collect();
    let mut acknowledged = 0;
    for round in 0..rounds {
        node.start();
        let mut client = node.client();
        for (index, writer) in writers.iter_mut().enumerate() {
            writer.check(&mut client, &format!("w{index}:"), round);
        }
        let stop = AtomicBool::new(false);
        let (port, seed) = (node.port, dice.u64(..));
        acknowledged += std::thread::scope(|scope| {
            let running: Vec<_> = writers
                .iter_mut()
                .enumerate()
                .map(|(index, writer)| {
                    let stop = &stop;
                    let seed = seed.wrapping_add(index as u64);
                    scope.spawn(move || writer.write_until(port, &format!("w{index}:"), seed, stop))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(dice.u64(5..200)));
            node.kill();
            stop.store(true, Ordering::Relaxed);
            running.into_iter().map(|writer| writer.join().expect("a writer")).sum::<usize>()
        });
    }
    node.start();
    let mut client = node.client();
    for (index, writer) in writers.iter_mut().enumerate() {
        writer.check(&mut client, &format!("w{index}:"), rounds);
    }
    assert!(acknowledged > rounds * 10, "only {acknowledged} writes were acknowledged in {rounds} rounds");
    println!("{acknowledged} acknowledged writes survived {rounds} kills");
}

#[test]
fn every_acknowledged_write_survives_50_kills_with_appendfsync_always() {
    kill_rounds(&["--appendfsync", "always"], 50);
}

#[test]
fn every_acknowledged_write_survives_kills_with_appendfsync_everysec_and_checkpoints() {
    // Small segments and a small checkpoint trigger: the kills also hit sealing, imaging and the removal of segments.
    kill_rounds(
        &["--appendfsync", "everysec", "--wal-segment-size", "1mb", "--checkpoint-log-size", "2mb"],
        15,
    );
}
