//! Loading, getting, setting and rewriting, with real files.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::{AppendFsync, Invocation, MaxmemoryPolicy};

fn load(words: &[&str]) -> Result<SharedConfig, ConfigError> {
    match Invocation::parse(words.iter().map(OsString::from))? {
        Invocation::Run { source, options } => SharedConfig::load(source.as_ref(), &options),
        other => panic!("{other:?}"),
    }
}

fn written(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast.conf");
    std::fs::write(&path, text).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

fn set(config: &SharedConfig, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
    let pairs: Vec<(&[u8], &[u8])> =
        pairs.iter().map(|(name, text)| (name.as_bytes(), text.as_bytes())).collect();
    config.set(&pairs).map_err(|error| error.to_string())
}

#[test]
fn options_win_over_the_file_and_the_file_over_the_defaults() {
    let (_directory, path) = written("port 7000\nappendfsync always\nmaxmemory 1gb\n");
    let config = load(&[&path, "--port", "7001", "--bind", "127.0.0.1", "-::1"]).unwrap();
    let now = config.snapshot();
    assert_eq!((now.port, now.appendfsync, now.maxmemory, now.hz), (7001, AppendFsync::Always, 1 << 30, 10));
    assert_eq!(now.bind, ["127.0.0.1", "-::1"]);
    assert_eq!(config.file(), Some(Path::new(&path)));
}

#[test]
fn debian_s_redis_conf_starts_the_server() {
    let text = std::fs::read_to_string("/etc/redis/redis.conf").unwrap_or_else(|_| DEBIAN.to_owned());
    for text in [DEBIAN, &text] {
        let (_directory, path) = written(text);
        let config = load(&[&path]).unwrap();
        assert_eq!(config.snapshot().bind, ["127.0.0.1", "-::1"]);
        assert!(config.not_needed().iter().any(|note| note.contains("'databases'")));
        let told = config.not_needed().len();
        assert!((40..80).contains(&told), "{told}");
    }
}

/// The directives of Debian 12's /etc/redis/redis.conf (redis 7.0.15).
const DEBIAN: &str = include_str!("debian-redis.conf");

#[test]
fn an_unknown_or_malformed_directive_is_refused_with_its_line() {
    let (_directory, path) = written("port 7000\n\nmaxmemroy 1gb\n");
    let refusal = load(&[&path]).unwrap_err().to_string();
    assert_eq!(
        refusal,
        format!("{path}:3: 'maxmemroy 1gb': unknown directive 'maxmemroy'; did you mean 'maxmemory'?")
    );
    let refusal = load(&["--timeout", "soon"]).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "command line: 'timeout soon': argument couldn't be parsed into an integer; correct the value"
    );
}

#[test]
fn what_is_not_needed_is_told_once_with_its_place() {
    let (_directory, path) = written("save 900 1\nsave 300 10\n");
    let config = load(&[&path, "--save", "60", "1"]).unwrap();
    let [note] = config.not_needed() else { panic!("{:?}", config.not_needed()) };
    assert!(note.starts_with(&format!("{path}:1: 'save' is accepted and has no effect: ")), "{note}");
    assert_eq!(config.get(&[b"save"]), [("save", "900 1 300 10 60 1".to_owned())]);
}

#[test]
fn get_answers_patterns_and_older_names() {
    let config = load(&["--maxmemory", "1mb"]).unwrap();
    assert_eq!(config.get(&[b"MAXMEMORY", b"maxmem?ry"]), [("maxmemory", "1048576".to_owned())]);
    assert_eq!(config.get(&[b"slave-p*"]), [("slave-priority", "100".to_owned())]);
    assert_eq!(
        config.get(&[b"*"]).len(),
        DIRECTIVES.len() + DIRECTIVES.iter().filter(|row| row.alias.is_some()).count()
    );
    assert!(config.get(&[b"nothing"]).is_empty());
}

#[test]
fn set_changes_all_or_nothing() {
    let config = load(&[]).unwrap();
    assert_eq!(
        set(&config, &[("maxmemory", "2mb"), ("hz", "10"), ("MAXMEMORY-policy", "allkeys-lru")]),
        Ok(vec!["maxmemory", "maxmemory-policy"])
    );
    assert_eq!(config.snapshot().maxmemory_policy, MaxmemoryPolicy::AllkeysLru);
    for (pairs, refusal) in [
        (
            &[("hz", "20"), ("foo", "bar")][..],
            "ERR Unknown option or number of arguments for CONFIG SET - 'foo'",
        ),
        (
            &[("hz", "20"), ("maxmemory", "xx")],
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
        ),
        (
            &[("hz", "20"), ("hz", "30")],
            "ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
        ),
        (
            &[("hz", "20"), ("port", "1")],
            "ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config",
        ),
    ] {
        assert_eq!(set(&config, pairs), Err(refusal.to_owned()));
        assert_eq!(config.snapshot().hz, 10);
    }
}

#[test]
fn rewrite_keeps_comments_and_permissions_and_reads_back_the_same() {
    let (directory, path) = written("# mine\nport 7000\nmaxmemory 1mb\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = load(&[&path, "--hz", "20"]).unwrap();
    set(&config, &[("requirepass", "top \"secret\""), ("maxmemory", "2mb")]).unwrap();
    config.rewrite().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with("# mine\nport 7000\nmaxmemory 2097152\n\n# Generated by CONFIG REWRITE\n"),
        "{text}"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside the file");
    assert_eq!(**load(&[&path]).unwrap().snapshot(), **config.snapshot());
}

#[test]
fn rewrite_without_a_file_says_so() {
    let error = load(&[]).unwrap().rewrite().unwrap_err();
    assert_eq!(error.to_string(), "The server is running without a config file");
}
