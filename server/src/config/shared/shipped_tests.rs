//! The files of configs/ are read by the real parser, so that they cannot rot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Invocation;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// Every file below the folder whose name ends so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().is_some_and(|name| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn load(path: &Path) -> SharedConfig {
    SharedConfig::load(Some(&Source::File(path.to_owned())), &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// `#maxmemory 8gb` is a directive to uncomment, `# text` is not.
fn uncommented(text: &str) -> String {
    let directive = |line: &str| line.as_bytes().get(1).is_some_and(u8::is_ascii_lowercase);
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if directive(line) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_shipped_configuration_is_a_cluster_node_s_and_says_nothing_in_vain() {
    let shipped = files(&configs(), ".conf");
    assert!(shipped.len() >= 4, "{shipped:?}");
    for path in shipped {
        let config = load(&path);
        assert_eq!(config.not_needed(), &[] as &[String], "{}", path.display());
        assert!(config.snapshot().cluster_enabled, "{}", path.display());
    }
}

#[test]
fn directives_to_uncomment_are_right_too() {
    let text = std::fs::read_to_string(configs().join("holdfast.conf")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast.conf");
    std::fs::write(&path, uncommented(&text)).unwrap();
    let config = load(&path);
    let now = config.snapshot();
    assert_eq!((now.maxmemory, now.cluster_zone.as_str(), now.cluster_secret.len()), (8 << 30, "a", 64));
    assert_eq!(config.not_needed(), &[] as &[String]);
}

#[test]
fn the_three_machines_are_three_zones_and_otherwise_one_cluster() {
    let mut machines: Vec<Config> = ["a", "b", "c"]
        .map(|name| load(&configs().join(format!("three-machines/{name}.conf"))).snapshot().as_ref().clone())
        .into();
    let mut zones: Vec<String> = machines.iter().map(|machine| machine.cluster_zone.clone()).collect();
    zones.dedup();
    assert_eq!(zones, ["a", "b", "c"]);
    for machine in &mut machines {
        assert!(machine.bind.contains(&machine.cluster_announce_ip));
        machine.cluster_zone.clear();
        machine.cluster_announce_ip.clear();
        machine.bind.clear();
    }
    assert!(machines.iter().all(|machine| *machine == machines[0]));
    assert!(!machines[0].cluster_secret.is_empty() && !machines[0].requirepass.is_empty());
}

#[test]
fn the_unit_starts_a_node_on_the_port_that_is_its_name() {
    let unit = std::fs::read_to_string(configs().join("systemd/holdfast@.service")).unwrap();
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart=");
    let words = command.replace("%i", "7001").replace("$HOLDFAST_OPTIONS", "");
    let words = words.split_whitespace().skip(1).map(OsString::from);
    let Ok(Invocation::Run { source: Some(source), options }) = Invocation::parse(words) else {
        panic!("{command}")
    };
    assert_eq!(source, Source::File("/etc/holdfast/holdfast.conf".into()));
    let config = SharedConfig::load(Some(&Source::File(configs().join("holdfast.conf"))), &options).unwrap();
    let now = config.snapshot();
    assert_eq!((now.port, now.dir.as_str()), (7001, "/var/lib/holdfast/7001"));
    assert!(unit.contains("\nType=notify\n"), "the node tells systemd when it is ready");
}
