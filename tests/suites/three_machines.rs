//! Three machines under systemd: each boots a Debian of its own (see `tests/src/machines/`), holdfast is installed and operated on
//! it by the commands of configs/three-machines/README.md, and clients write all the while. Whatever is done to the machines,
//! nothing acknowledged is lost; what an operator does by the book costs no client a failed write.
//!
//! Root only. The first run makes a Debian (debootstrap, two minutes); later ones take less than two minutes.
//! `HOLDFAST_TEST_BINARIES=target/release` installs those binaries instead of the ones built with the tests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_tests::load::Written;
use holdfast_tests::machines::trio::{Binaries, Place, Trio, copy_binaries, why_not};

/// Seconds of failover, and of a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);
/// For what takes a minute by itself (the watchdog's time and what follows), on a machine that is busy.
const LONG: Duration = Duration::from_secs(240);
/// What may happen to writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clients {
    /// Nothing.
    NoticeNothing,
    /// A write may fail; it is tried again.
    MayFail,
}

impl Clients {
    /// A write that takes longer has failed.
    fn patience(self) -> Duration {
        match self {
            Self::NoticeNothing => Duration::from_secs(10),
            Self::MayFail => Duration::from_secs(1),
        }
    }
}

struct Scene {
    trio: Trio,
    repository: PathBuf,
    binaries: Binaries,
    written: Vec<(&'static str, Written)>,
}

#[test]
fn nothing_acknowledged_is_lost_on_three_machines_under_systemd() {
    if let Some(why) = why_not() {
        println!("SKIPPED: three machines under systemd: {why}");
        return;
    }
    let started = Instant::now();
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned();
    let trio = Trio::boot(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("three machines boot");
    let binaries = Binaries::find(env!("CARGO_BIN_EXE_holdfast-under-test"));
    let mut scene = Scene { trio, repository, binaries, written: Vec::new() };
    println!("three machines booted after {:?}", started.elapsed());
    scene.install_and_form();
    println!("installed and formed after {:?}", started.elapsed());
    scene.restarts_and_stops();
    scene.is_killed();
    scene.power_is_cut();
    scene.is_shut_down();
    scene.all_power_is_cut();
    scene.cable_is_cut();
    scene.hangs();
    scene.is_upgraded();
    scene.everything_is_there();
    scene.journal_has_the_story();
    println!("all done after {:?}", started.elapsed());
}

impl Scene {
    fn install_and_form(&mut self) {
        let trio = &self.trio;
        trio.unpack(&self.repository, &self.binaries).expect("the files are brought to the machines");
        for machine in 0..3 {
            trio.follow(&self.repository, "Install, on each machine", machine).expect("installed");
            for port in [7000, 7001] {
                let state = trio.property(Place { machine, port }, "StatusText").expect("systemctl answers");
                assert_eq!(state, "serving", "enable --now returns when the node serves");
            }
        }
        trio.follow(&self.repository, "Form, once", 0).expect("formed");
        trio.wait_until_whole().expect("the cluster is whole");
        println!("{}", trio.follow(&self.repository, "Check", 0).expect("all is as the page says"));
        self.no_machine_holds_a_master_and_its_own_replica();
        let rating = trio.on(A, "systemd-analyze security --no-pager %.service | tail -n 1").expect("rated");
        println!("{rating}");
        let exposure = rating.split_whitespace().find_map(|word| word.parse::<f64>().ok());
        assert!(exposure.is_some_and(|exposure| exposure <= 3.0), "{rating}");
    }

    fn no_machine_holds_a_master_and_its_own_replica(&self) {
        let mut masters = Vec::new();
        for place in Trio::places() {
            let info = Trio::ask(place, &["INFO", "replication"]).expect("a node answers");
            let host = info.lines().find_map(|line| line.strip_prefix("master_host:"));
            match host {
                Some(host) => assert_ne!(host.trim(), place.address().ip().to_string(), "{place:?}"),
                None => masters.push(place.machine),
            }
        }
        masters.sort_unstable();
        assert_eq!(masters, [0, 1, 2], "one master on each machine");
    }

    /// Has clients write before, during and after `act`, and looks for what was acknowledged.
    fn under_load(&mut self, what: &'static str, clients: Clients, act: impl FnOnce(&mut Trio)) {
        self.trio.spread_masters().unwrap_or_else(|error| panic!("before {what}: {error:#}"));
        let started = Instant::now();
        let load = Trio::load(what, clients.patience());
        load.wait_for_more(200);
        act(&mut self.trio);
        load.wait_for_more(200);
        self.trio.wait_until_whole().unwrap_or_else(|error| panic!("{what}: {error:#}"));
        load.wait_for_more(200);
        let written = load.stop();
        println!(
            "{what}: {:?}; {} writes acknowledged, the longest wait of a client {:?}, {} failed, errors {:?}{}",
            started.elapsed(),
            written.count,
            written.longest_gap,
            written.failures,
            written.errors,
            if written.failures > 0 {
                format!(", failures {:?}", written.failure_texts)
            } else {
                String::new()
            }
        );
        if clients == Clients::NoticeNothing {
            assert_eq!((written.failures, &written.errors), (0, &Default::default()), "{what}");
        }
        assert_eq!(written.lost_to(Trio::router(PATIENCE)), Vec::<String>::new(), "{what}");
        self.written.push((what, written));
    }

    fn restarts_and_stops(&mut self) {
        self.under_load("systemctl restart", Clients::NoticeNothing, |trio| {
            let before = trio.property(A, "MainPID").expect("systemctl answers");
            trio.on(A, "systemctl restart %").expect("restarted");
            // No waiting here: it has said that it serves.
            let info = Trio::ask(A, &["INFO", "replication"]).expect("a ready node answers");
            assert!(info.contains("role:slave") && info.contains("master_link_status:up"), "{info}");
            assert_ne!(trio.property(A, "MainPID").expect("systemctl answers"), before);
        });
        let master = B;
        self.under_load("systemctl stop of a master", Clients::NoticeNothing, |trio| {
            let stopping = Instant::now();
            trio.on(master, "systemctl stop %").expect("stopped");
            println!("systemctl stop of a master took {:?}", stopping.elapsed());
            let journal = trio.journal(master.machine).expect("there is a journal");
            assert!(journal.contains("handed over before the stop"), "{journal}");
            let writing = Instant::now();
            while writing.elapsed() < Duration::from_secs(3) {
                std::thread::sleep(Duration::from_millis(100));
            }
            trio.on(master, "systemctl start %").expect("started");
        });
    }

    fn is_killed(&mut self) {
        let master = B;
        self.under_load("kill -9 of a master", Clients::MayFail, |trio| {
            let restarts = trio.property(master, "NRestarts").expect("systemctl answers");
            trio.on(master, "kill -9 $(systemctl show --value --property=MainPID %)").expect("killed");
            wait_until("systemd has restarted it", || {
                trio.property(master, "NRestarts").is_ok_and(|now| now != restarts) && is_active(trio, master)
            });
        });
    }

    fn power_is_cut(&mut self) {
        for (machine, what) in ["power cut of a", "power cut of b", "power cut of c"].into_iter().enumerate()
        {
            self.under_load(what, Clients::MayFail, |trio| {
                trio.cut_power(machine).expect("the power is cut");
                wait_until("the others serve everything", || serves_without(machine));
                trio.power_on(machine).expect("it boots");
            });
        }
    }

    fn is_shut_down(&mut self) {
        self.under_load("systemctl poweroff of a", Clients::NoticeNothing, |trio| {
            trio.machines[0].shut_down().expect("it shuts down");
            std::thread::sleep(Duration::from_secs(2));
            trio.power_on(0).expect("it boots");
        });
    }

    /// Nobody is left who could tell: each log is trusted as far as it was synced, and the members of each set compare theirs.
    fn all_power_is_cut(&mut self) {
        let what = "power cut of all three";
        self.trio.spread_masters().unwrap_or_else(|error| panic!("before the {what}: {error:#}"));
        let load = Trio::load(what, Clients::MayFail.patience());
        load.wait_for_more(300);
        let written = load.stop();
        // `appendfsync everysec`: what is older than this is on both disks, and all of it has to be there.
        std::thread::sleep(Duration::from_secs(3));
        let started = Instant::now();
        (0..3).for_each(|machine| self.trio.cut_power(machine).expect("the power is cut"));
        (0..3).for_each(|machine| self.trio.power_on(machine).expect("it boots"));
        self.trio.wait_until_whole().unwrap_or_else(|error| panic!("{what}: {error:#}"));
        println!("{what}: whole again after {:?}; {} writes acknowledged", started.elapsed(), written.count);
        assert_eq!(written.lost_to(Trio::router(PATIENCE)), Vec::<String>::new(), "{what}");
        self.written.push((what, written));
    }

    fn cable_is_cut(&mut self) {
        let machine = 2;
        self.under_load("cut cable", Clients::MayFail, |trio| {
            trio.lan.cut(trio.machines[machine].name()).expect("the cable is cut");
            wait_until("the others serve everything", || serves_without(machine));
            let node = Place { machine, port: 7000 };
            trio.on(node, "systemctl restart --no-block %").expect("restarted");
            let waits = "waiting for a majority of the voters";
            wait_until("it says what it waits for", || {
                trio.property(node, "StatusText").is_ok_and(|text| text == waits)
            });
            std::thread::sleep(Duration::from_secs(2));
            let state = trio.property(node, "ActiveState").expect("systemctl answers");
            assert_eq!(state, "activating", "a node that is cut off is not ready");
            trio.lan.mend(trio.machines[machine].name()).expect("the cable is mended");
            wait_until("it is ready", || is_active(trio, node));
        });
    }

    fn hangs(&mut self) {
        let master = B;
        self.under_load("SIGSTOP of a master", Clients::MayFail, |trio| {
            let restarts = trio.property(master, "NRestarts").expect("systemctl answers");
            let hung = Instant::now();
            trio.on(master, "kill -STOP $(systemctl show --value --property=MainPID %)").expect("stopped");
            wait_until("the watchdog has restarted it", || {
                trio.property(master, "NRestarts").is_ok_and(|now| now != restarts) && is_active(trio, master)
            });
            println!("the watchdog had restarted a hung node after {:?}", hung.elapsed());
            let journal = trio.journal(master.machine).expect("there is a journal");
            assert!(journal.contains("Watchdog timeout"), "{journal}");
        });
    }

    fn is_upgraded(&mut self) {
        let (repository, binaries) =
            (self.repository.clone(), Binaries::find(env!("CARGO_BIN_EXE_holdfast-under-test")));
        self.under_load("rolling upgrade", Clients::NoticeNothing, |trio| {
            for machine in 0..3 {
                let to = trio.machines[machine].root().join("root/target/release");
                copy_binaries(&binaries, &to, "the next version").expect("the new version is there");
                trio.follow(&repository, "Upgrade, one machine", machine).expect("upgraded");
            }
        });
        for place in Trio::places() {
            let compare =
                "cmp /proc/$(systemctl show --value --property=MainPID %)/exe /root/target/release/";
            let file = if self.binaries.server.is_some() { "holdfast-server" } else { "holdfast" };
            self.trio.on(place, &format!("{compare}{file}")).expect("the new version runs");
        }
        self.no_machine_holds_a_master_and_its_own_replica();
    }

    fn everything_is_there(&self) {
        for (what, written) in &self.written {
            assert_eq!(
                written.lost_to(Trio::router(PATIENCE)),
                Vec::<String>::new(),
                "of what was written during {what}"
            );
        }
        let total: u64 = self.written.iter().map(|(_, written)| written.count).sum();
        println!("{total} acknowledged writes, all there");
    }

    fn journal_has_the_story(&self) {
        let journals: Vec<String> =
            (0..3).map(|machine| self.trio.journal(machine).expect("there is a journal")).collect();
        for journal in &journals {
            for line in
                ["Started holdfast@7000", "the node serves", "I am the master of shard", "data loaded"]
            {
                assert!(journal.contains(line), "no {line:?} in {journal}");
            }
        }
        let all = journals.concat();
        for line in [
            "handed over before the stop",
            "Marking node",
            "a replica follows: partial catch-up",
            "Cluster state changed: ok",
            "code=killed, status=9/KILL",
            "Watchdog timeout",
            "the node does not serve yet",
        ] {
            assert!(all.contains(line), "no {line:?} in any journal");
        }
    }
}

/// Masters, when an act begins.
const A: Place = Place { machine: 0, port: 7000 };
const B: Place = Place { machine: 1, port: 7000 };

fn is_active(trio: &Trio, place: Place) -> bool {
    trio.property(place, "ActiveState").is_ok_and(|state| state == "active")
}

/// Whether the machines other than this one have a master for every slot, and serve.
fn serves_without(machine: usize) -> bool {
    let others: Vec<Place> = Trio::places().into_iter().filter(|place| place.machine != machine).collect();
    let masters = others.iter().filter(|place| Trio::is_master(**place).unwrap_or(false)).count();
    let is_ok = |place: &Place| {
        Trio::ask(*place, &["CLUSTER", "INFO"]).is_ok_and(|info| info.contains("cluster_state:ok"))
    };
    masters == 3 && others.iter().all(is_ok)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
