//! Snapshots of the metadata group's state machine: opaque bytes in an image of their own. The newest one replaces the one
//! before.

use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};
use parking_lot::Mutex;

use crate::checkpoint::image_format::{Compression, Entry, ImageBuilder, ImageKind, ImageStamp};
use crate::checkpoint::load::{ImageVisitor, LoadError, load_one};
use crate::checkpoint::manifest::{Manifest, ManifestError};
use crate::node_state::ImageOf;

/// A snapshot and the entry of the metadata log that it goes up to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataSnapshot {
    /// Term of the last entry in it.
    pub term: u64,
    /// Index of the last entry in it.
    pub index: u64,
    /// The state machine, in its own format.
    pub bytes: Vec<u8>,
}

/// Stores a snapshot, durably.
///
/// # Errors
/// When it is not durable; the one before stays.
pub fn save(manifest: &Manifest, snapshot: &MetadataSnapshot) -> Result<(), ManifestError> {
    let mut builder = ImageBuilder::new(Compression::Lz4);
    builder.begin(ImageStamp {
        kind: ImageKind::Metadata,
        shard: ShardId::default(),
        slot: SlotId::default(),
        epoch: Epoch(snapshot.term),
        sequence: SlotSequence(snapshot.index),
        lsn: Lsn::ZERO,
        value_version: 0,
    });
    builder.push(b"snapshot", None, &snapshot.bytes);
    let (stamp, image, size) = builder.finish();
    let mut file = manifest.create_file()?;
    let row = file.append_image(stamp, image, size)?;
    file.sync()?;
    let number = file.number();
    file.publish()?;
    manifest.commit(&[(ImageOf::Metadata, row)], number)
}

/// The newest snapshot, if there is one.
///
/// # Errors
/// When it is damaged.
pub fn load(manifest: &Manifest) -> Result<Option<MetadataSnapshot>, LoadError> {
    struct Found(Mutex<Option<MetadataSnapshot>>);
    impl ImageVisitor for Found {
        fn on_image(&self, _: &ImageStamp) {}
        fn on_entry(&self, stamp: &ImageStamp, entry: Entry<'_>) -> Result<(), String> {
            let (term, index, bytes) = (stamp.epoch.0, stamp.sequence.0, entry.value.to_vec());
            *self.0.lock() = Some(MetadataSnapshot { term, index, bytes });
            Ok(())
        }
    }
    let found = Found(Mutex::new(None));
    load_one(manifest, ImageOf::Metadata, &found)?;
    Ok(found.0.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest;
    use crate::data_dir::DataDir;

    #[test]
    fn the_newest_snapshot_comes_back_and_the_one_before_is_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::sync::Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let open = Manifest::open(dir.clone()).unwrap();
        assert_eq!(load(&open).unwrap(), None);
        for index in 1..4 {
            let snapshot = MetadataSnapshot { term: 2, index, bytes: vec![index as u8; 3 << 20] };
            save(&open, &snapshot).unwrap();
            assert!(load(&open).unwrap() == Some(snapshot));
        }
        assert_eq!(std::fs::read_dir(dir.images()).unwrap().count(), 1);
        let rows = open.rows().rows;
        drop(open);
        assert_eq!(manifest::scan(&dir.images(), 1).unwrap().rows, rows);
        assert_eq!(load(&Manifest::open(dir.clone()).unwrap()).unwrap().unwrap().index, 3);
    }
}
