//! The node's small state in a simulated world, where there is no thread for sled: the same rows in one file that is replaced
//! as a whole. What was put survives a power cut, as it does with sled; a file that does not read is an error, as a broken sled.
//!
//! ```text
//! rows   u32 little-endian count of entries; each: u8 tree (0 images, 1 notes)  u32 length, key  u32 length, value;
//!        then u32 crc32 of all before
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::files;

const FILE: &str = "rows";
const FILE_NEW: &str = "rows.new";

/// Which tree an entry is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tree {
    Images = 0,
    Notes = 1,
}

type Entries = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// The open state.
pub(super) struct Rows {
    path: PathBuf,
    entries: Entries,
}

impl Rows {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        files::create_dir_all(path)?;
        if let Some(parent) = path.parent() {
            files::sync_directory(parent)?;
        }
        let entries = match files::read(&path.join(FILE)) {
            Ok(bytes) => decode(&bytes).ok_or_else(|| io::Error::other("the rows do not read"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Entries::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), entries })
    }

    pub(super) fn of(&self, tree: Tree) -> impl Iterator<Item = (&[u8], &[u8])> {
        let entries = self.entries.iter().filter(move |((in_tree, _), _)| *in_tree == tree);
        entries.map(|((_, key), value)| (key.as_slice(), value.as_slice()))
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(&(tree, key.to_vec())).map(Vec::as_slice)
    }

    /// Changes entries (`None` removes), all or none, and returns when that is durable.
    pub(super) fn put(
        &mut self,
        tree: Tree,
        changes: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> io::Result<()> {
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.entries.insert((tree, key), value)),
                None => drop(self.entries.remove(&(tree, key))),
            }
        }
        let new = self.path.join(FILE_NEW);
        let file = files::open_read_write(&new)?;
        file.set_len(0)?;
        file.write_all_at(&encode(&self.entries), 0)?;
        file.sync_all()?;
        files::rename(&new, &self.path.join(FILE))?;
        files::sync_directory(&self.path)
    }
}

fn encode(entries: &Entries) -> Vec<u8> {
    let mut bytes = (entries.len() as u32).to_le_bytes().to_vec();
    for ((tree, key), value) in entries {
        bytes.push(*tree as u8);
        for part in [key, value] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
    }
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Entries> {
    let (mut rest, crc) = bytes.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(rest) {
        return None;
    }
    let mut entries = Entries::new();
    for _ in 0..take_u32(&mut rest)? {
        let tree = match rest.split_off_first()? {
            0 => Tree::Images,
            1 => Tree::Notes,
            _ => return None,
        };
        let key = take_bytes(&mut rest)?;
        entries.insert((tree, key), take_bytes(&mut rest)?);
    }
    rest.is_empty().then_some(entries)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_u32(rest)? as usize;
    Some(rest.split_off(..length)?.to_vec())
}
