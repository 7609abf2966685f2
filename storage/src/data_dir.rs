//! FORMAT: a node's data directory: its file names, its lock, and the header file that says whose it is.
//!
//! ```text
//! LOCK         locked (flock) by the one process that uses the directory; holds its pid
//! node         the header below: version, identity, incarnation
//! wal/         segments of the shard's log
//! images/      image files: checkpoints of slots
//! state/       node_state.rs (sled): where the images are; rebuilt from images/ when it is stale or broken
//! metadata/    the metadata group's Raft log
//! set-aside/   what was put out of the way and not thrown away: log tails that a failover cut, broken states
//!
//! node, 104 bytes, little-endian:
//!  +0  8 bytes magic "HFNODE\0\0"     +8 u16 version
//!  +10 u8 1: has been in a metadata group, so that metadata/ is never empty again; 0: not yet, or not known
//!  +11 5 bytes zero
//!  +16 20 bytes node id               +36 20 bytes shard id
//!  +56 u64 incarnation                +64 16 bytes boot id of the machine when the log was last known to be complete
//!  +80 u64 images from: image files with a lower number are void, whatever the manifest says
//!  +88 u64 covered lsn: every record of the shard's log below it is in the image files; the log may begin there
//!  +96 u32 1: incomplete, the data are to be copied from a master; 0: whole    +100 u32 crc32 of bytes 0..100
//! ```
//!
//! The header is only ever replaced as a whole: written to `node.new`, synced, renamed, directory synced. Its crc stands at
//! the same place in all versions. Every start takes the next incarnation before it does anything else.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_words::{BootId, Incarnation, Lsn, NodeId, ShardId};
use parking_lot::Mutex;

use crate::platform::sabotage::{self, Switch};
use crate::platform::{files, machine, random, threads};

/// Version of the directory's layout and header; a higher one is refused.
pub const DATA_DIR_FORMAT_VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"HFNODE\0\0";
const MAGIC_AT: Range<usize> = 0..8;
const VERSION: Range<usize> = MAGIC_AT.end..MAGIC_AT.end + 2;
const IN_GROUP: usize = VERSION.end;
const NODE: Range<usize> = VERSION.end + 6..VERSION.end + 26;
const SHARD: Range<usize> = NODE.end..NODE.end + 20;
const INCARNATION: Range<usize> = SHARD.end..SHARD.end + 8;
const BOOT: Range<usize> = INCARNATION.end..INCARNATION.end + 16;
const IMAGES_FROM: Range<usize> = BOOT.end..BOOT.end + 8;
const COVERED: Range<usize> = IMAGES_FROM.end..IMAGES_FROM.end + 8;
const INCOMPLETE: Range<usize> = COVERED.end..COVERED.end + 4;
const CRC: Range<usize> = INCOMPLETE.end..INCOMPLETE.end + 4;
const HEADER_SIZE: usize = CRC.end;
const _: () = assert!(HEADER_SIZE == 104);

/// A lock outlives its holder for a moment: while the holder ends, or while a process it was just starting has not become
/// that other program yet.
const LOCK_TRIES: u32 = 20;
const LOCK_PERIOD: Duration = Duration::from_millis(25);

const LOCK_FILE: &str = "LOCK";
const HEADER_FILE: &str = "node";
const HEADER_FILE_NEW: &str = "node.new";
const WAL: &str = "wal";
const IMAGES: &str = "images";
const STATE: &str = "state";
const METADATA: &str = "metadata";
const SET_ASIDE: &str = "set-aside";

/// Who the directory belongs to, and which start of its node this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// The shard whose log is in `wal/`.
    pub shard: ShardId,
    /// The node's newest start.
    pub incarnation: Incarnation,
    /// The boot of the machine in which the log was last known to have everything that the node ever acknowledged: the first
    /// start's, then what [`DataDir::confirm_log`] says. (Not every start's: a process that comes and goes before its node has caught
    /// up after a power cut leaves the next one no wiser.)
    pub boot: BootId,
    /// The lowest image file number that is valid.
    pub images_from: u64,
    /// Every record of the shard's log below it is in the image files.
    pub covered_lsn: Lsn,
    /// Log and images are not a shard's whole data: a copy from a master was begun and not finished.
    pub incomplete: bool,
    /// The node has been in a metadata group: one without anything in `metadata/` has lost it.
    pub in_group: bool,
}

/// Why a data directory cannot be used. Nothing was changed in it, unless the error is [`DataDirError::Io`].
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "data directory {path} is in use by process {pid}: stop that one first, or give this node a directory of its own"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the lock file says.
        pid: String,
    },
    /// It was written by a newer version.
    #[error(
        "{path} has format version {found}, this program knows up to {DATA_DIR_FORMAT_VERSION}: start the newer program that \
         wrote it"
    )]
    Newer {
        /// The header file.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The header is not what was written.
    #[error(
        "{path} is damaged ({what}): restore this file of {HEADER_SIZE} bytes from a backup, or empty the directory and let the \
         node rejoin its cluster; refusing to guess whose data this is"
    )]
    Damaged {
        /// The header file.
        path: PathBuf,
        /// What does not fit.
        what: &'static str,
    },
    /// There are data, but no header.
    #[error(
        "{path} is missing, but {found} holds data: restore it from a backup, or move the directory away; refusing to guess \
         whose data this is"
    )]
    HeaderMissing {
        /// The header file.
        path: PathBuf,
        /// Where data are.
        found: PathBuf,
    },
    /// There is no data directory here.
    #[error("{path} is no data directory: it has no file {HEADER_FILE:?}")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// It belongs to another node.
    #[error("data directory {path} belongs to node {found}, not to {expected}: check `dir`")]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: NodeId,
        /// Who asked.
        expected: NodeId,
    },
    /// The file system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DataDirError + 'a {
    move |source| DataDirError::Io { action, path: path.to_owned(), source }
}

/// An open data directory. The lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Mutex<Identity>,
    previous: Option<Identity>,
    boot: BootId,
    /// `None` when opened to look at only.
    lock: Option<files::File>,
}

impl DataDir {
    /// Opens the directory for this process alone, creating it when there is none, and takes the next incarnation, durably.
    ///
    /// # Errors
    /// When it is in use, damaged, newer, or another node's than `expected`.
    pub fn open_or_create(root: &Path, expected: Option<NodeId>) -> Result<Self, DataDirError> {
        files::create_dir_all(root).map_err(io_error("create", root))?;
        let lock = lock(root)?;
        let previous = match read_header(root) {
            Ok(identity) => Some(identity),
            Err(DataDirError::Missing { .. }) => None,
            Err(other) => return Err(other),
        };
        match (previous, expected) {
            (Some(Identity { node: found, .. }), Some(expected)) if found != expected => {
                return Err(DataDirError::OtherNode { path: root.to_owned(), found, expected });
            }
            (None, _) => refuse_data_without_header(root)?,
            _ => {}
        }
        for name in [WAL, IMAGES, METADATA, SET_ASIDE] {
            let path = root.join(name);
            files::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let mut identity = match previous {
            Some(identity) => identity,
            None => Identity {
                node: expected.map_or_else(|| random_id().map(NodeId), Ok)?,
                shard: ShardId(random_id()?),
                incarnation: Incarnation::ZERO,
                boot: BootId::default(),
                images_from: 1,
                covered_lsn: Lsn::ZERO,
                incomplete: false,
                in_group: false,
            },
        };
        identity.incarnation = identity.incarnation.next();
        let boot = machine::boot_id(root).map_err(io_error("read the boot id of the machine of", root))?;
        let boot = BootId(boot);
        if previous.is_none() {
            // Nothing was acknowledged yet.
            identity.boot = boot;
        }
        write_header(root, &identity)?;
        if previous.is_none()
            && let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty())
        {
            files::sync_directory(parent).map_err(io_error("sync", parent))?;
        }
        Ok(Self { root: root.to_owned(), identity: Mutex::new(identity), previous, boot, lock: Some(lock) })
    }

    /// Opens the directory to look at it, while its node may be running: takes no lock and changes nothing.
    ///
    /// # Errors
    /// When there is no header, or it cannot be read.
    pub fn open_read_only(root: &Path) -> Result<Self, DataDirError> {
        let identity = read_header(root)?;
        Ok(Self {
            root: root.to_owned(),
            identity: Mutex::new(identity),
            previous: Some(identity),
            boot: identity.boot,
            lock: None,
        })
    }

    /// Opens the directory for this process alone, to look at it and to change what is in it while its node does not run: takes
    /// the lock and no incarnation, and creates nothing.
    ///
    /// # Errors
    /// When there is no header, it cannot be read, or the directory is in use.
    pub fn open_offline(root: &Path) -> Result<Self, DataDirError> {
        read_header(root)?;
        let lock = lock(root)?;
        let identity = read_header(root)?;
        let boot = machine::boot_id(root).map_err(io_error("read the boot id of the machine of", root))?;
        Ok(Self {
            root: root.to_owned(),
            identity: Mutex::new(identity),
            previous: Some(identity),
            boot: BootId(boot),
            lock: Some(lock),
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Segments of the shard's log.
    pub fn wal(&self) -> PathBuf {
        self.root.join(WAL)
    }

    /// Image files.
    pub fn images(&self) -> PathBuf {
        self.root.join(IMAGES)
    }

    /// The node's small state.
    pub fn state(&self) -> PathBuf {
        self.root.join(STATE)
    }

    /// The metadata group's log.
    pub fn metadata(&self) -> PathBuf {
        self.root.join(METADATA)
    }

    /// What was put out of the way.
    pub fn set_aside(&self) -> PathBuf {
        self.root.join(SET_ASIDE)
    }

    /// Whose directory this is, and which start.
    pub fn identity(&self) -> Identity {
        *self.identity.lock()
    }

    /// The boot of the machine in which this start is.
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// The identity as the start before this one left it; `None` when this is the first.
    pub fn previous_identity(&self) -> Option<Identity> {
        self.previous
    }

    /// Whether the page cache has survived since the log was last known to be complete, so that it still is.
    pub fn is_same_boot(&self) -> bool {
        let is_same = |previous: Identity| previous.boot == self.boot;
        self.previous.is_some_and(|previous| is_same(previous) || sabotage::is_on(Switch::BootIdIgnored))
    }

    /// The directory becomes that of another node or shard (CLUSTER RESET HARD, joining a shard), durably, and counts as
    /// incomplete until [`DataDir::set_whole`]. The caller has done with the old log and images.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn begin_anew(&self, node: NodeId, shard: ShardId) -> Result<(), DataDirError> {
        self.change(|identity| {
            (identity.node, identity.shard) = (node, shard);
            identity.incomplete = true;
        })
    }

    /// Log and images are the shard's whole data from now on, durably.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn set_whole(&self) -> Result<(), DataDirError> {
        if !self.identity().incomplete {
            return Ok(());
        }
        self.change(|identity| identity.incomplete = false)
    }

    /// The node is in a metadata group from now on, durably.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn set_in_group(&self) -> Result<(), DataDirError> {
        if self.identity().in_group {
            return Ok(());
        }
        self.change(|identity| identity.in_group = true)
    }

    /// The log has everything that this node ever acknowledged, which holds as long as the machine is not booted again.
    ///
    /// # Errors
    /// When the header cannot be written; the next start then takes the log for one that may lack its end.
    pub fn confirm_log(&self) -> Result<(), DataDirError> {
        if self.identity().boot == self.boot {
            return Ok(());
        }
        self.change(|identity| identity.boot = self.boot)
    }

    /// The log may lack its end, whichever boot this is, until [`DataDir::confirm_log`] says otherwise.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn doubt_log(&self) -> Result<(), DataDirError> {
        self.change(|identity| identity.boot = BootId::default())
    }

    /// Declares image files with a number below `first` void, durably, whatever happens to them or to the manifest later.
    /// What they covered of the log is no longer covered.
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn void_images_below(&self, first: u64) -> Result<(), DataDirError> {
        self.change(|identity| {
            identity.images_from = identity.images_from.max(first);
            identity.covered_lsn = Lsn::ZERO;
        })
    }

    /// Every record of the shard's log below `lsn` is durable in the image files, and no smaller LSN will be true again.
    ///
    /// # Errors
    /// When the header cannot be written; the log below must be kept then.
    pub fn raise_covered_lsn(&self, lsn: Lsn) -> Result<(), DataDirError> {
        if lsn <= self.identity().covered_lsn {
            return Ok(());
        }
        self.change(|identity| identity.covered_lsn = identity.covered_lsn.max(lsn))
    }

    fn change(&self, change: impl FnOnce(&mut Identity)) -> Result<(), DataDirError> {
        assert!(self.lock.is_some(), "a data directory opened to look at is not changed");
        let mut identity = self.identity.lock();
        let mut changed = *identity;
        change(&mut changed);
        write_header(&self.root, &changed)?;
        *identity = changed;
        Ok(())
    }

    /// Moves a file or directory of this data directory to `set-aside/<label>-<n>`, durably, and returns where it is.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn put_aside(&self, path: &Path, label: &str) -> Result<PathBuf, DataDirError> {
        let aside = self.set_aside();
        let names = files::list(&aside).map_err(io_error("list", &aside))?;
        let taken = |number: &u64| names.iter().any(|name| *name == format!("{label}-{number}"));
        let number = (1..).find(|number| !taken(number)).unwrap_or(u64::MAX);
        let target = aside.join(format!("{label}-{number}"));
        files::rename(path, &target).map_err(io_error("move", path))?;
        files::sync_directory(&aside).map_err(io_error("sync", &aside))?;
        let parent = path.parent().unwrap_or(&self.root);
        files::sync_directory(parent).map_err(io_error("sync", parent))?;
        Ok(target)
    }
}

fn lock(root: &Path) -> Result<files::File, DataDirError> {
    let path = root.join(LOCK_FILE);
    let file = files::open_read_write(&path).map_err(io_error("open", &path))?;
    let mut tries_left = LOCK_TRIES;
    while !file.try_lock().map_err(io_error("lock", &path))? {
        tries_left -= 1;
        if tries_left > 0 && threads::are_real() {
            threads::sleep(LOCK_PERIOD);
            continue;
        }
        let pid = files::read(&path).map_err(io_error("read", &path))?;
        let pid = String::from_utf8_lossy(&pid).trim().to_owned();
        return Err(DataDirError::Locked { path: root.to_owned(), pid });
    }
    let pid = format!("{}\n", machine::process_id());
    file.set_len(0).map_err(io_error("write", &path))?;
    file.write_all_at(pid.as_bytes(), 0).map_err(io_error("write", &path))?;
    Ok(file)
}

/// A missing header in a directory with data is a loss to report, never a reason to start anew.
fn refuse_data_without_header(root: &Path) -> Result<(), DataDirError> {
    for name in [WAL, IMAGES, METADATA] {
        let found = root.join(name);
        match files::list(&found) {
            Ok(names) if names.is_empty() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(DataDirError::HeaderMissing { path: root.join(HEADER_FILE), found }),
            Err(error) => return Err(io_error("list", &found)(error)),
        }
    }
    Ok(())
}

fn random_id() -> Result<[u8; 20], DataDirError> {
    let mut id = [0; 20];
    random::fill(&mut id).map_err(io_error("draw an id from", Path::new("/dev/urandom")))?;
    Ok(id)
}

fn encode_header(identity: &Identity) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[MAGIC_AT].copy_from_slice(&MAGIC);
    bytes[VERSION].copy_from_slice(&DATA_DIR_FORMAT_VERSION.to_le_bytes());
    bytes[IN_GROUP] = u8::from(identity.in_group);
    bytes[NODE].copy_from_slice(&identity.node.0);
    bytes[SHARD].copy_from_slice(&identity.shard.0);
    bytes[INCARNATION].copy_from_slice(&identity.incarnation.0.to_le_bytes());
    bytes[BOOT].copy_from_slice(&identity.boot.0);
    bytes[IMAGES_FROM].copy_from_slice(&identity.images_from.to_le_bytes());
    bytes[COVERED].copy_from_slice(&identity.covered_lsn.0.to_le_bytes());
    bytes[INCOMPLETE].copy_from_slice(&u32::from(identity.incomplete).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..CRC.start]);
    bytes[CRC].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode_header(path: &Path, bytes: &[u8]) -> Result<Identity, DataDirError> {
    let damaged = |what| DataDirError::Damaged { path: path.to_owned(), what };
    let bytes = <&[u8; HEADER_SIZE]>::try_from(bytes).map_err(|_| damaged("it has another length"))?;
    if bytes[MAGIC_AT] != MAGIC {
        return Err(damaged("it does not begin as a header does"));
    }
    if u32::from_le_bytes(field(bytes, CRC)) != crc32fast::hash(&bytes[..CRC.start]) {
        return Err(damaged("its crc32 differs"));
    }
    let found = u16::from_le_bytes(field(bytes, VERSION));
    if found > DATA_DIR_FORMAT_VERSION {
        return Err(DataDirError::Newer { path: path.to_owned(), found });
    }
    Ok(Identity {
        node: NodeId(field(bytes, NODE)),
        shard: ShardId(field(bytes, SHARD)),
        incarnation: Incarnation(u64::from_le_bytes(field(bytes, INCARNATION))),
        boot: BootId(field(bytes, BOOT)),
        images_from: u64::from_le_bytes(field(bytes, IMAGES_FROM)),
        covered_lsn: Lsn(u64::from_le_bytes(field(bytes, COVERED))),
        incomplete: u32::from_le_bytes(field(bytes, INCOMPLETE)) != 0,
        in_group: bytes[IN_GROUP] != 0,
    })
}

/// The bytes of a field inside a header of known size; both sizes are known when this is compiled.
fn field<const N: usize>(bytes: &[u8; HEADER_SIZE], at: Range<usize>) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at]);
    value
}

fn read_header(root: &Path) -> Result<Identity, DataDirError> {
    let path = root.join(HEADER_FILE);
    match files::read(&path) {
        Ok(bytes) => decode_header(&path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(DataDirError::Missing { path: root.to_owned() })
        }
        Err(error) => Err(io_error("read", &path)(error)),
    }
}

fn write_header(root: &Path, identity: &Identity) -> Result<(), DataDirError> {
    let new = root.join(HEADER_FILE_NEW);
    let path = root.join(HEADER_FILE);
    let file = files::open_read_write(&new).map_err(io_error("create", &new))?;
    file.set_len(0)
        .and_then(|()| file.write_all_at(&encode_header(identity), 0))
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &new))?;
    files::rename(&new, &path).map_err(io_error("rename", &new))?;
    files::sync_directory(root).map_err(io_error("sync", root))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_start_takes_the_next_incarnation_and_keeps_the_identity() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/node");
        let first = DataDir::open_or_create(&root, None).unwrap();
        let was = first.identity();
        assert_eq!((was.incarnation, first.previous_identity()), (Incarnation(1), None));
        assert!(!first.is_same_boot());
        assert!(was.boot != BootId::default() && was.node != NodeId::default());
        drop(first);
        let second = DataDir::open_or_create(&root, Some(was.node)).unwrap();
        assert_eq!(second.identity(), Identity { incarnation: Incarnation(2), ..was });
        assert_eq!(second.previous_identity(), Some(was));
        assert!(second.is_same_boot());
        assert!(
            [second.wal(), second.images(), second.metadata(), second.set_aside()]
                .iter()
                .all(|path| path.is_dir())
        );
    }

    #[test]
    fn a_directory_serves_one_process_and_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open_or_create(dir.path(), None).unwrap();
        let error = DataDir::open_or_create(dir.path(), None).unwrap_err();
        let pid = format!("is in use by process {}:", std::process::id());
        assert!(error.to_string().contains(&pid), "{error}");
        let looked_at = DataDir::open_read_only(dir.path()).unwrap();
        assert_eq!(looked_at.identity(), held.identity());
        drop(held);
        DataDir::open_or_create(dir.path(), None).unwrap();
    }

    #[test]
    fn offline_it_is_locked_and_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DataDir::open_offline(dir.path()), Err(DataDirError::Missing { .. })));
        let identity = DataDir::open_or_create(dir.path(), None).unwrap().identity();
        let offline = DataDir::open_offline(dir.path()).unwrap();
        assert_eq!(offline.identity(), identity);
        assert!(matches!(DataDir::open_or_create(dir.path(), None), Err(DataDirError::Locked { .. })));
        assert!(matches!(DataDir::open_offline(dir.path()), Err(DataDirError::Locked { .. })));
        drop(offline);
        assert_eq!(DataDir::open_read_only(dir.path()).unwrap().identity(), identity);
    }

    #[test]
    fn another_nodes_directory_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let found = DataDir::open_or_create(dir.path(), None).unwrap().identity();
        let error = DataDir::open_or_create(dir.path(), Some(NodeId([9; 20]))).unwrap_err();
        assert!(
            matches!(&error, DataDirError::OtherNode { found: node, .. } if *node == found.node),
            "{error}"
        );
        assert_eq!(DataDir::open_read_only(dir.path()).unwrap().identity(), found);
    }

    #[test]
    fn a_changed_identity_survives() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open_or_create(dir.path(), None).unwrap();
        data.begin_anew(NodeId([1; 20]), ShardId([2; 20])).unwrap();
        data.raise_covered_lsn(Lsn(9)).unwrap();
        data.set_in_group().unwrap();
        data.void_images_below(7).unwrap();
        assert_eq!(data.identity().covered_lsn, Lsn::ZERO);
        data.void_images_below(5).unwrap();
        data.raise_covered_lsn(Lsn(3)).unwrap();
        data.raise_covered_lsn(Lsn(2)).unwrap();
        let changed = data.identity();
        assert_eq!(
            (changed.node, changed.shard, changed.images_from),
            (NodeId([1; 20]), ShardId([2; 20]), 7)
        );
        drop(data);
        let again = DataDir::open_or_create(dir.path(), Some(NodeId([1; 20]))).unwrap().identity();
        assert_eq!(again, Identity { incarnation: Incarnation(2), ..changed });
        assert!(again.in_group);
    }

    #[test]
    fn a_known_header_has_the_bytes_it_had_in_version_1() {
        let identity = Identity {
            node: NodeId([0xaa; 20]),
            shard: ShardId([0xbb; 20]),
            incarnation: Incarnation(3),
            boot: BootId([0xcc; 16]),
            images_from: 4,
            covered_lsn: Lsn(5),
            incomplete: false,
            in_group: false,
        };
        let mut golden = b"HFNODE\0\0\x01\0\0\0\0\0\0\0".to_vec();
        golden.extend([0xaa; 20]);
        golden.extend([0xbb; 20]);
        golden.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([0xcc; 16]);
        golden.extend([4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend(0x3864_6d9e_u32.to_le_bytes());
        assert_eq!(encode_header(&identity).as_slice(), golden);
        assert_eq!(decode_header(Path::new("node"), &golden).unwrap(), identity);
        let incomplete = Identity { incomplete: true, in_group: true, ..identity };
        golden[IN_GROUP] = 1;
        golden[INCOMPLETE].copy_from_slice(&[1, 0, 0, 0]);
        let crc = crc32fast::hash(&golden[..CRC.start]);
        golden[CRC].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(encode_header(&incomplete).as_slice(), golden);
        assert_eq!(decode_header(Path::new("node"), &golden).unwrap(), incomplete);
    }

    #[test]
    fn a_damaged_cut_or_newer_header_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open_or_create(dir.path(), None).unwrap());
        let path = dir.path().join("node");
        let whole = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let error = DataDir::open_or_create(dir.path(), None).unwrap_err();
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
            error
        };
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(matches!(refused(&damaged), DataDirError::Damaged { .. }), "byte {at}");
        }
        assert!(matches!(refused(&whole[..40]), DataDirError::Damaged { .. }));
        assert!(matches!(refused(b""), DataDirError::Damaged { .. }));
        let mut newer = whole;
        newer[VERSION].copy_from_slice(&2u16.to_le_bytes());
        let crc = crc32fast::hash(&newer[..CRC.start]);
        newer[CRC].copy_from_slice(&crc.to_le_bytes());
        assert!(matches!(refused(&newer), DataDirError::Newer { found: 2, .. }));
    }

    #[test]
    fn data_without_a_header_are_not_taken_for_a_new_node() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open_or_create(dir.path(), None).unwrap());
        fs::remove_file(dir.path().join("node")).unwrap();
        // Empty: a creation that a crash interrupted.
        drop(DataDir::open_or_create(dir.path(), None).unwrap());
        fs::remove_file(dir.path().join("node")).unwrap();
        fs::write(dir.path().join("wal/0"), b"data").unwrap();
        let error = DataDir::open_or_create(dir.path(), None).unwrap_err();
        assert!(matches!(error, DataDirError::HeaderMissing { .. }), "{error}");
        assert!(matches!(DataDir::open_read_only(dir.path()), Err(DataDirError::Missing { .. })));
    }

    #[test]
    fn what_is_put_aside_keeps_its_predecessors() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open_or_create(dir.path(), None).unwrap();
        for number in 1..3 {
            fs::create_dir(data.state()).unwrap();
            let place = data.put_aside(&data.state(), "state.broken").unwrap();
            assert_eq!(place, data.set_aside().join(format!("state.broken-{number}")));
        }
        assert!(!data.state().exists());
    }
}
