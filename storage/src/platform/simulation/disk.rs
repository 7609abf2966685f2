//! The disk of a simulated machine: everything below `/simulated/<machine>/`, in memory, with what a disk can do to whoever
//! trusts it. File contents are `contents.rs`; here are names, handles, locks, faults and power cuts.
//!
//! Names: a change of a directory (an entry made, renamed, removed) is durable when the directory has been synced. Until then
//! it stands in a journal, and a power cut keeps or loses it; of the changes of one directory always the earlier ones are
//! kept, as file systems do that have a journal, while different directories are independent. A rename is one change, of one
//! or two directories.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::contents::Contents;

/// Everything below it is simulated: `/simulated/<machine>/…`.
pub const ROOT: &str = "/simulated";

/// What is wrong with the files below some directory.
#[derive(Clone, Copy, Default, Debug)]
pub struct Faults {
    /// Writes and reservations fail with this error number.
    pub write_error: Option<i32>,
    /// Syncs fail with this error number, and what they should have made durable never is.
    pub sync_error: Option<i32>,
    /// How long a sync of the log takes.
    pub sync_delay: Duration,
    /// After so many more bytes the disk is full.
    pub space_left: Option<u64>,
    /// After so many more changes (writes, syncs, names) the disk is as if it were not there, and nothing changes any more: for a
    /// power cut, or a process's death, in the middle of something.
    pub changes_left: Option<u64>,
}

/// What a power cut did to what was not synced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PowerCut {
    /// Sectors that were written all the same.
    pub kept: u32,
    /// Sectors that were not.
    pub lost: u32,
    /// Sectors of which only the first bytes were.
    pub torn: u32,
    /// Changes of directories that were kept.
    pub names_kept: u32,
    /// Changes of directories that were lost.
    pub names_lost: u32,
}

thread_local! {
    static DISKS: RefCell<BTreeMap<String, Arc<Disk>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The disk that has this path, and is there from its first use on; `None` when the path is a real one.
pub(crate) fn of(path: &Path) -> Option<Arc<Disk>> {
    let below = path.strip_prefix(ROOT).ok()?;
    let machine = below.components().next()?;
    super::world()?;
    Some(machine_disk(&machine.as_os_str().to_string_lossy()))
}

/// The disk of a machine.
///
/// # Panics
/// Outside a simulated world.
pub fn machine_disk(machine: &str) -> Arc<Disk> {
    let world = super::world().expect("a simulated disk is part of a simulated world");
    DISKS.with(|disks| {
        let mut disks = disks.borrow_mut();
        let disk = disks.entry(machine.to_owned()).or_insert_with(|| {
            let mut boot = [0; 16];
            world.fill_random(&mut boot);
            Arc::new(Disk::new(machine, boot))
        });
        disk.clone()
    })
}

/// All disks are gone.
pub(super) fn forget_all() {
    let disks = DISKS.try_with(|disks| std::mem::take(&mut *disks.borrow_mut()));
    drop(disks);
}

/// A machine's disk.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    state: Mutex<State>,
}

const ROOT_INODE: u64 = 1;

struct State {
    boot: [u8; 16],
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    journal: Vec<Transaction>,
    handles: BTreeMap<u64, Handle>,
    next_handle: u64,
    faults: BTreeMap<PathBuf, Faults>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} inodes, {} open files", self.inodes.len(), self.handles.len())
    }
}

enum Inode {
    File(FileInode),
    Directory(DirectoryInode),
}

#[derive(Default)]
struct FileInode {
    contents: Contents,
    /// Space below this offset is the file's.
    allocated: u64,
    locked_by: Option<u64>,
    /// Where it was made: whose space it takes.
    place: PathBuf,
}

#[derive(Default)]
struct DirectoryInode {
    entries: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
}

/// Changes of directories that are kept or lost together.
struct Transaction(Vec<Change>);

struct Change {
    directory: u64,
    name: String,
    to: Option<u64>,
}

struct Handle {
    inode: u64,
    path: PathBuf,
    is_writable: bool,
}

fn error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    Read,
    ReadWrite,
    CreateNew,
}

impl Disk {
    fn new(machine: &str, boot: [u8; 16]) -> Self {
        let root = Inode::Directory(DirectoryInode::default());
        Self {
            root: Path::new(ROOT).join(machine),
            state: Mutex::new(State {
                boot,
                inodes: BTreeMap::from([(ROOT_INODE, root)]),
                next_inode: ROOT_INODE + 1,
                journal: Vec::new(),
                handles: BTreeMap::new(),
                next_handle: 1,
                faults: BTreeMap::new(),
            }),
        }
    }

    /// The id of the machine's boot.
    pub fn boot_id(&self) -> [u8; 16] {
        self.state.lock().boot
    }

    /// The power fails and comes back: what was synced is there, the rest is up to the dice. Open files are dead, locks are
    /// gone, the boot is another one.
    pub fn cut_power(&self, dice: &mut fastrand::Rng) -> PowerCut {
        let cut = self.state.lock().cut_power(dice);
        self.note(format_args!("power cut: {cut:?}"));
        cut
    }

    /// The process that works below `directory` dies: its open files are dead and its locks gone; whatever it wrote is there.
    pub fn kill(&self, directory: &Path) {
        let mut state = self.state.lock();
        let dead = state.handles.iter().filter(|(_, handle)| handle.path.starts_with(directory));
        let dead: Vec<u64> = dead.map(|(number, _)| *number).collect();
        dead.into_iter().for_each(|number| state.close(number));
    }

    /// From now on this is wrong with the files below `directory` (a deeper one with faults of its own excepted).
    pub fn set_faults(&self, directory: &Path, faults: Faults) {
        self.state.lock().faults.insert(directory.to_owned(), faults);
        self.note(format_args!("{}: {faults:?}", directory.display()));
    }

    /// Nothing is wrong any more with the files below `directory`.
    pub fn heal(&self, directory: &Path) {
        self.state.lock().faults.remove(directory);
        self.note(format_args!("{}: healed", directory.display()));
    }

    /// Whether the changes that [`Faults::changes_left`] allows there are used up.
    pub fn is_gone(&self, directory: &Path) -> bool {
        self.state.lock().check_is_there(directory).is_err()
    }

    /// How long a sync of a file there takes.
    pub fn sync_delay(&self, path: &Path) -> Duration {
        self.state.lock().faults_of(path).map_or(Duration::ZERO, |faults| faults.sync_delay)
    }

    /// A bit turns over in the durable contents of the file; returns at which byte, `None` when there is none.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn rot(&self, path: &Path, dice: &mut fastrand::Rng) -> io::Result<Option<u64>> {
        let at = self.state.lock().file_at(&self.parts(path)?)?.contents.rot(dice);
        self.note(format_args!("{}: a bit of byte {at:?} turned over", path.display()));
        Ok(at)
    }

    /// The files below `directory`, in order.
    ///
    /// # Errors
    /// When there is no such directory.
    pub fn files(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for name in self.list(directory)? {
            let path = directory.join(name);
            match self.files(&path) {
                Ok(below) => found.extend(below),
                Err(error) if error.raw_os_error() == Some(libc::ENOTDIR) => found.push(path),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// A number that is the same for equal contents of the whole disk, synced and not.
    pub fn fingerprint(&self) -> u32 {
        let state = self.state.lock();
        let mut hasher = crc32fast::Hasher::new();
        for (number, inode) in &state.inodes {
            hasher.update(&number.to_le_bytes());
            match inode {
                Inode::File(file) => file.contents.fingerprint(&mut hasher),
                Inode::Directory(directory) => {
                    for (name, inode) in directory.entries.iter().chain(&directory.durable) {
                        hasher.update(name.as_bytes());
                        hasher.update(&inode.to_le_bytes());
                    }
                }
            }
        }
        hasher.finalize()
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        if let Some(world) = super::world() {
            world.note(format_args!("disk {}: {what}", self.root.display()));
        }
    }

    fn parts<'p>(&self, path: &'p Path) -> io::Result<Vec<&'p str>> {
        let below = path.strip_prefix(&self.root).map_err(|_| error(libc::EXDEV))?;
        let part = |component| match component {
            Component::Normal(name) => name.to_str().ok_or_else(|| error(libc::EINVAL)),
            _ => Err(error(libc::EINVAL)),
        };
        below.components().map(part).collect()
    }

    pub(crate) fn open(self: &Arc<Self>, path: &Path, how: Open) -> io::Result<File> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        state.check_is_there(path)?;
        let inode = match (state.find(&parts), how) {
            (Ok(_), Open::CreateNew) => return Err(error(libc::EEXIST)),
            (Ok(inode), _) => {
                state.file(inode)?;
                inode
            }
            (Err(missing), Open::Read) => return Err(missing),
            (Err(_), _) => {
                state.check_writes(path)?;
                let file = FileInode { place: path.to_owned(), ..FileInode::default() };
                state.make(&parts, Inode::File(file))?
            }
        };
        let number = state.next_handle;
        state.next_handle += 1;
        let handle = Handle { inode, path: path.to_owned(), is_writable: how != Open::Read };
        state.handles.insert(number, handle);
        Ok(File { disk: self.clone(), number })
    }

    pub(crate) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state.lock();
        state.check_is_there(path)?;
        let file = state.file_at(&self.parts(path)?)?;
        let mut bytes = vec![0; file.contents.length() as usize];
        file.contents.read(&mut bytes, 0);
        Ok(bytes)
    }

    pub(crate) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        let inode = state.find(&parts)?;
        state.directory(inode)?;
        state.begin_change(path)?;
        if let Some(number) = state.faults_of(path).and_then(|faults| faults.sync_error) {
            return Err(error(number));
        }
        state.commit_directory(inode);
        state.sweep();
        Ok(())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parts, to_parts) = (self.parts(from)?, self.parts(to)?);
        let mut state = self.state.lock();
        let inode = state.find(&from_parts)?;
        state.check_writes(to)?;
        if let Ok(replaced) = state.find(&to_parts)
            && let Inode::Directory(directory) = &state.inodes[&replaced]
            && !directory.entries.is_empty()
        {
            return Err(error(libc::ENOTEMPTY));
        }
        let (from_directory, from_name) = state.parent(&from_parts)?;
        let (to_directory, to_name) = state.parent(&to_parts)?;
        state.change(vec![
            Change { directory: from_directory, name: from_name, to: None },
            Change { directory: to_directory, name: to_name, to: Some(inode) },
        ]);
        Ok(())
    }

    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        state.file_at(&parts)?;
        state.begin_change(path)?;
        state.unlink(&parts)
    }

    pub(crate) fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        let inode = state.find(&parts)?;
        let names: Vec<String> = state.directory(inode)?.entries.keys().cloned().collect();
        drop(state);
        for name in names {
            let below = path.join(name);
            match self.remove_file(&below) {
                Err(error) if error.raw_os_error() == Some(libc::EISDIR) => self.remove_directory(&below)?,
                other => other?,
            }
        }
        let mut state = self.state.lock();
        state.begin_change(path)?;
        state.unlink(&parts)
    }

    pub(crate) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        for end in 1..=parts.len() {
            match state.find(&parts[..end]) {
                Ok(inode) => drop(state.directory(inode)?),
                Err(_) => {
                    state.check_writes(path)?;
                    state.make(&parts[..end], Inode::Directory(DirectoryInode::default()))?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state.lock();
        state.check_is_there(path)?;
        match state.find(&self.parts(path)?) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let parts = self.parts(path)?;
        let mut state = self.state.lock();
        state.check_is_there(path)?;
        let inode = state.find(&parts)?;
        Ok(state.directory(inode)?.entries.keys().cloned().collect())
    }
}

impl State {
    fn find(&self, parts: &[&str]) -> io::Result<u64> {
        let mut inode = ROOT_INODE;
        for part in parts {
            let Inode::Directory(directory) = &self.inodes[&inode] else {
                return Err(error(libc::ENOTDIR));
            };
            inode = *directory.entries.get(*part).ok_or_else(|| error(libc::ENOENT))?;
        }
        Ok(inode)
    }

    /// The directory that a path is in, and its name there.
    fn parent(&mut self, parts: &[&str]) -> io::Result<(u64, String)> {
        let (name, above) = parts.split_last().ok_or_else(|| error(libc::EINVAL))?;
        let directory = self.find(above)?;
        self.directory(directory)?;
        Ok((directory, (*name).to_owned()))
    }

    fn directory(&mut self, inode: u64) -> io::Result<&mut DirectoryInode> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Directory(directory)) => Ok(directory),
            _ => Err(error(libc::ENOTDIR)),
        }
    }

    fn file(&mut self, inode: u64) -> io::Result<&mut FileInode> {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(file)) => Ok(file),
            _ => Err(error(libc::EISDIR)),
        }
    }

    fn file_at(&mut self, parts: &[&str]) -> io::Result<&mut FileInode> {
        let inode = self.find(parts)?;
        self.file(inode)
    }

    fn faults_of(&self, path: &Path) -> Option<&Faults> {
        path.ancestors().find_map(|above| self.faults.get(above))
    }

    /// Whether the disk is there at all.
    fn check_is_there(&self, path: &Path) -> io::Result<()> {
        match self.faults_of(path).and_then(|faults| faults.changes_left) {
            Some(0) => Err(error(libc::EIO)),
            _ => Ok(()),
        }
    }

    /// Something is about to change.
    fn begin_change(&mut self, path: &Path) -> io::Result<()> {
        self.check_is_there(path)?;
        let above = path.ancestors().find(|above| self.faults.contains_key(*above));
        if let Some(above) = above
            && let Some(Faults { changes_left: Some(left), .. }) = self.faults.get_mut(above)
        {
            *left -= 1;
        }
        Ok(())
    }

    fn check_writes(&mut self, path: &Path) -> io::Result<()> {
        self.begin_change(path)?;
        match self.faults_of(path).and_then(|faults| faults.write_error) {
            Some(number) => Err(error(number)),
            None => Ok(()),
        }
    }

    /// Takes space for a file up to `end`, or as far as there is any; returns how far the file's space reaches.
    fn allocate(&mut self, inode: u64, end: u64) -> io::Result<u64> {
        let file = self.file(inode)?;
        let (allocated, place) = (file.allocated, file.place.clone());
        let mut more = end.saturating_sub(allocated);
        let above = place.ancestors().find(|above| self.faults.contains_key(*above));
        if let Some(above) = above
            && let Some(faults) = self.faults.get_mut(above)
            && let Some(left) = &mut faults.space_left
        {
            more = more.min(*left);
            *left -= more;
        }
        let reached = allocated + more;
        self.file(inode)?.allocated = reached;
        Ok(reached)
    }

    fn give_back(&mut self, place: &Path, bytes: u64) {
        let above = place.ancestors().find(|above| self.faults.contains_key(*above));
        if let Some(above) = above
            && let Some(faults) = self.faults.get_mut(above)
            && let Some(left) = &mut faults.space_left
        {
            *left += bytes;
        }
    }

    fn make(&mut self, parts: &[&str], inode: Inode) -> io::Result<u64> {
        let (directory, name) = self.parent(parts)?;
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        self.change(vec![Change { directory, name, to: Some(number) }]);
        Ok(number)
    }

    fn unlink(&mut self, parts: &[&str]) -> io::Result<()> {
        let (directory, name) = self.parent(parts)?;
        self.change(vec![Change { directory, name, to: None }]);
        Ok(())
    }

    fn change(&mut self, changes: Vec<Change>) {
        for Change { directory, name, to } in &changes {
            let entries = self.directory(*directory).map(|directory| &mut directory.entries);
            match (entries, to) {
                (Ok(entries), Some(to)) => drop(entries.insert(name.clone(), *to)),
                (Ok(entries), None) => drop(entries.remove(name)),
                (Err(_), _) => {}
            }
        }
        self.journal.push(Transaction(changes));
    }

    fn make_durable(&mut self, transaction: Transaction) {
        for Change { directory, name, to } in transaction.0 {
            let Ok(directory) = self.directory(directory) else { continue };
            match to {
                Some(to) => drop(directory.durable.insert(name, to)),
                None => drop(directory.durable.remove(&name)),
            }
        }
    }

    /// The directory's changes are durable, and those before them that they rest on.
    fn commit_directory(&mut self, inode: u64) {
        let mut touched = BTreeSet::from([inode]);
        let (mut rest, mut durable) = (Vec::new(), Vec::new());
        for transaction in std::mem::take(&mut self.journal).into_iter().rev() {
            if transaction.0.iter().any(|change| touched.contains(&change.directory)) {
                touched.extend(transaction.0.iter().map(|change| change.directory));
                durable.push(transaction);
            } else {
                rest.push(transaction);
            }
        }
        rest.reverse();
        self.journal = rest;
        durable.into_iter().rev().for_each(|transaction| self.make_durable(transaction));
    }

    /// Inodes that no name, change or open file leads to are gone.
    fn sweep(&mut self) {
        let mut reached = BTreeSet::new();
        let mut next: Vec<u64> = self.handles.values().map(|handle| handle.inode).collect();
        next.push(ROOT_INODE);
        for change in self.journal.iter().flat_map(|transaction| &transaction.0) {
            next.extend(change.to.into_iter().chain([change.directory]));
        }
        while let Some(inode) = next.pop() {
            if reached.insert(inode)
                && let Some(Inode::Directory(directory)) = self.inodes.get(&inode)
            {
                next.extend(directory.entries.values().chain(directory.durable.values()));
            }
        }
        let gone: Vec<u64> = self.inodes.keys().filter(|inode| !reached.contains(inode)).copied().collect();
        for inode in gone {
            if let Some(Inode::File(file)) = self.inodes.remove(&inode) {
                self.give_back(&file.place, file.allocated);
            }
        }
    }

    fn close(&mut self, number: u64) {
        let Some(handle) = self.handles.remove(&number) else { return };
        if let Ok(file) = self.file(handle.inode)
            && file.locked_by == Some(number)
        {
            file.locked_by = None;
        }
    }

    fn cut_power(&mut self, dice: &mut fastrand::Rng) -> PowerCut {
        let mut cut = PowerCut::default();
        dice.fill(&mut self.boot);
        let open: Vec<u64> = self.handles.keys().copied().collect();
        open.into_iter().for_each(|number| self.close(number));
        let chance = [0.0, 0.5, 0.9, 1.0][dice.usize(..4)];
        let mut broken_off = BTreeSet::new();
        for transaction in std::mem::take(&mut self.journal) {
            let follows_a_loss = transaction.0.iter().any(|change| broken_off.contains(&change.directory));
            if !follows_a_loss && dice.f64() < chance {
                cut.names_kept += 1;
                self.make_durable(transaction);
            } else {
                cut.names_lost += 1;
                broken_off.extend(transaction.0.iter().map(|change| change.directory));
            }
        }
        for inode in self.inodes.values_mut() {
            match inode {
                Inode::Directory(directory) => directory.entries = directory.durable.clone(),
                Inode::File(file) => {
                    let [kept, lost, torn] = file.contents.cut_power(dice);
                    (cut.kept, cut.lost, cut.torn) = (cut.kept + kept, cut.lost + lost, cut.torn + torn);
                }
            }
        }
        self.sweep();
        cut
    }
}

/// An open file of a simulated disk. After its process or machine has died, every operation fails.
#[derive(Debug)]
pub(crate) struct File {
    disk: Arc<Disk>,
    number: u64,
}

impl File {
    /// Runs `work` on the file's inode.
    fn with<R>(&self, work: impl FnOnce(&mut State, u64, &Path) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.disk.state.lock();
        let handle = state.handles.get(&self.number).ok_or_else(|| error(libc::EIO))?;
        let (inode, path) = (handle.inode, handle.path.clone());
        state.check_is_there(&path)?;
        work(&mut state, inode, &path)
    }

    fn to_write<R>(&self, work: impl FnOnce(&mut State, u64) -> io::Result<R>) -> io::Result<R> {
        self.with(|state, inode, path| {
            if !state.handles.get(&self.number).is_some_and(|handle| handle.is_writable) {
                return Err(error(libc::EBADF));
            }
            state.check_writes(path)?;
            work(state, inode)
        })
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.to_write(|state, inode| {
            let end = offset + bytes.len() as u64;
            let room = state.allocate(inode, end)?.min(end).saturating_sub(offset) as usize;
            state.file(inode)?.contents.write(&bytes[..room], offset);
            if room < bytes.len() { Err(error(libc::ENOSPC)) } else { Ok(()) }
        })
    }

    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state, inode, _| Ok(state.file(inode)?.contents.read(bytes, offset)))
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        self.with(|state, inode, _| Ok(state.file(inode)?.contents.length()))
    }

    pub(crate) fn set_len(&self, length: u64) -> io::Result<()> {
        self.to_write(|state, inode| {
            let file = state.file(inode)?;
            file.contents.set_length(length);
            let freed = file.allocated.saturating_sub(length);
            file.allocated -= freed;
            let place = file.place.clone();
            state.give_back(&place, freed);
            Ok(())
        })
    }

    pub(crate) fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.to_write(|state, inode| {
            let end = offset + length;
            let before = state.file(inode)?.allocated;
            let reached = state.allocate(inode, end)?;
            if reached < end {
                let file = state.file(inode)?;
                file.allocated = before;
                let place = file.place.clone();
                state.give_back(&place, reached - before);
                return Err(error(libc::ENOSPC));
            }
            let contents = &mut state.file(inode)?.contents;
            contents.set_length(contents.length().max(end));
            Ok(())
        })
    }

    pub(crate) fn try_lock(&self) -> io::Result<bool> {
        self.with(|state, inode, _| {
            let owner = &mut state.file(inode)?.locked_by;
            Ok(*owner.get_or_insert(self.number) == self.number)
        })
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.with(|state, inode, path| {
            state.begin_change(path)?;
            let failure = state.faults_of(path).and_then(|faults| faults.sync_error);
            let contents = &mut state.file(inode)?.contents;
            match failure {
                Some(number) => {
                    contents.fail_to_sync();
                    Err(error(number))
                }
                None => {
                    contents.sync();
                    Ok(())
                }
            }
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.disk.state.lock().close(self.number);
    }
}
