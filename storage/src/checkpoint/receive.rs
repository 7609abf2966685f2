//! Images that come from elsewhere (a full copy, a migrated slot, a backup) into image files of our own: verified chunk by
//! chunk, stored as the bytes they are. Images that were made durable need not be sent again when the copy breaks off.
//!
//! Unlike a pass, this does not ask whether the log reaches as far as the images: the caller starts a log behind them.

use std::sync::Arc;

use crate::checkpoint::image_files::{ImageFileError, ImageFileWriter};
use crate::checkpoint::image_format::{Entry, ImageDecoder, ImageError, ImageStamp};
use crate::checkpoint::manifest::{Manifest, ManifestError};
use crate::node_state::{ImageOf, ImageRow};

/// Why an image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The chunk is damaged or not the next one. What was received of its image is forgotten; the images before stay.
    #[error("received image{}: {source}", of.map(|of| format!(" of {of:?}")).unwrap_or_default())]
    Chunk {
        /// Whose image, when that is known.
        of: Option<ImageOf>,
        /// What is wrong.
        source: ImageError,
    },
    /// The images could not be stored. Those since the last [`ImageReceiver::make_durable`] are lost.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// The manifest could not be made durable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Takes images, one after the other.
pub struct ImageReceiver {
    manifest: Arc<Manifest>,
    decoder: ImageDecoder,
    file: Option<ImageFileWriter>,
    rows: Vec<(ImageOf, ImageRow)>,
    /// Where the image that is coming in begins in the file.
    begin: u64,
}

impl ImageReceiver {
    /// A receiver that stores into `manifest`.
    pub fn new(manifest: Arc<Manifest>) -> Self {
        Self { manifest, decoder: ImageDecoder::new(), file: None, rows: Vec::new(), begin: 0 }
    }

    /// Bytes that are not durable yet.
    pub fn pending_bytes(&self) -> u64 {
        self.file.as_ref().map_or(0, ImageFileWriter::len)
    }

    /// Takes one chunk, exactly, and hands its entries to `on_entry`; when it is its image's last one, returns whose.
    ///
    /// # Errors
    /// When the chunk is not the next one of its image, or cannot be stored. What `on_entry` got of the image is void then.
    pub fn push_chunk(
        &mut self,
        chunk: &[u8],
        on_entry: impl FnMut(&ImageStamp, Entry<'_>),
    ) -> Result<Option<ImageOf>, ReceiveError> {
        let begins = self.decoder.stamp().is_none();
        let header = match self.decoder.push_chunk(chunk, on_entry) {
            Ok(header) if header.chunk_length() == chunk.len() as u64 => header,
            outcome => {
                let of = self.decoder.stamp().map(ImageStamp::of);
                self.abandon_image();
                let source = outcome.err().unwrap_or(ImageError::Order("bytes follow the chunk"));
                return Err(ReceiveError::Chunk { of, source });
            }
        };
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(self.manifest.create_file()?),
        };
        if begins {
            self.begin = file.len();
        }
        if let Err(error) = file.append(chunk) {
            (self.file, self.rows) = (None, Vec::new());
            self.decoder.restart();
            return Err(error.into());
        }
        if !header.last {
            return Ok(None);
        }
        let of = header.stamp.of();
        let length = file.len() - self.begin;
        self.rows.push((of, ImageRow::new(&header.stamp, file.number(), self.begin, length, header.keys)));
        self.decoder.restart();
        Ok(Some(of))
    }

    /// Forgets the image that is not complete yet: the sender starts it over, or goes away.
    pub fn abandon_image(&mut self) {
        if self.decoder.stamp().is_some() {
            self.decoder.restart();
            if let Some(file) = &mut self.file
                && self.begin > 0
            {
                file.cut(self.begin);
            }
        }
    }

    /// Makes all complete images durable and forgets an incomplete one.
    ///
    /// # Errors
    /// When they are not durable.
    pub fn make_durable(&mut self) -> Result<(), ReceiveError> {
        self.abandon_image();
        self.begin = 0;
        let rows = std::mem::take(&mut self.rows);
        if let Some(mut file) = self.file.take()
            && !rows.is_empty()
        {
            file.sync()?;
            let number = file.number();
            file.publish()?;
            self.manifest.commit(&rows, number)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use holdfast_words::{Epoch, Lsn, ShardId, SlotId, SlotSequence};

    use super::*;
    use crate::checkpoint::image_format::{
        CHUNK_RAW_TARGET, ChunkHeader, Compression, ImageBuilder, ImageKind,
    };
    use crate::checkpoint::manifest;
    use crate::data_dir::DataDir;

    fn chunks(slot: u16, size: usize) -> Vec<Vec<u8>> {
        let mut builder = ImageBuilder::new(Compression::None);
        builder.begin(ImageStamp {
            kind: ImageKind::Slot,
            shard: ShardId([7; 20]),
            slot: SlotId::new(slot).unwrap(),
            epoch: Epoch(1),
            sequence: SlotSequence(5),
            lsn: Lsn(6),
            value_version: 1,
        });
        builder.push(b"key", None, &vec![slot as u8; size]);
        let (_, mut image, _) = builder.finish();
        let mut chunks = Vec::new();
        while !image.is_empty() {
            let (chunk, rest) = image.split_at(ChunkHeader::decode(image).unwrap().chunk_length() as usize);
            chunks.push(chunk.to_vec());
            image = rest;
        }
        chunks
    }

    fn receive(receiver: &mut ImageReceiver, chunks: &[Vec<u8>]) -> Option<ImageOf> {
        chunks.iter().map(|chunk| receiver.push_chunk(chunk, |_, _| {}).unwrap()).last().flatten()
    }

    #[test]
    fn complete_images_survive_a_copy_that_breaks_off() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::sync::Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let open = Arc::new(Manifest::open(dir.clone()).unwrap());
        let (one, two, three) = (chunks(1, 10), chunks(2, 3 * CHUNK_RAW_TARGET), chunks(3, 10));
        let mut receiver = ImageReceiver::new(open.clone());
        assert_eq!(receive(&mut receiver, &one), Some(ImageOf::Slot(SlotId::new(1).unwrap())));
        assert_eq!(receive(&mut receiver, &two[..2]), None);
        assert!(receiver.pending_bytes() > 2 << 20);
        receiver.make_durable().unwrap();
        let slots = |manifest: &Manifest| manifest.rows().rows.into_keys().collect::<Vec<_>>();
        assert_eq!(slots(&open), [ImageOf::Slot(SlotId::new(1).unwrap())]);
        // The rest, with one that is broken off and begun anew in the middle of a file.
        receive(&mut receiver, &three);
        receive(&mut receiver, &two[..1]);
        receiver.abandon_image();
        receive(&mut receiver, &two);
        receiver.make_durable().unwrap();
        let rows = open.rows();
        assert_eq!(rows.rows.len(), 3);
        drop((receiver, open));
        assert_eq!(Manifest::open(dir.clone()).unwrap().rows(), rows);
        assert_eq!(manifest::scan(&dir.images(), 1).unwrap().rows, rows.rows);
    }

    #[test]
    fn a_damaged_or_foreign_chunk_costs_its_image_and_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::sync::Arc::new(DataDir::open_or_create(temp.path(), None).unwrap());
        let open = Arc::new(Manifest::open(dir.clone()).unwrap());
        let (one, two) = (chunks(1, 10), chunks(2, 3 * CHUNK_RAW_TARGET));
        let mut receiver = ImageReceiver::new(open.clone());
        receive(&mut receiver, &one);
        let mut damaged = two[1].clone();
        damaged[500] ^= 1;
        let mut longer = two[1].clone();
        longer.push(0);
        for wrong in [&damaged, &longer, &two[2], &one[0]] {
            receive(&mut receiver, &two[..1]);
            let error = receiver.push_chunk(wrong, |_, _| {}).unwrap_err();
            assert!(matches!(error, ReceiveError::Chunk { .. }), "{error}");
        }
        receive(&mut receiver, &two);
        receiver.make_durable().unwrap();
        assert_eq!(manifest::scan(&dir.images(), 1).unwrap().rows, open.rows().rows);
        assert_eq!(open.rows().rows.len(), 2);
    }
}
