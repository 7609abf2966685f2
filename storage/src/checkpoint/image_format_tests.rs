//! Facts about the image format.

use proptest::prelude::*;

use super::*;

fn stamp() -> ImageStamp {
    ImageStamp {
        kind: ImageKind::Slot,
        shard: ShardId([7; 20]),
        slot: SlotId::new(300).unwrap(),
        epoch: Epoch(3),
        sequence: SlotSequence(41),
        lsn: Lsn(0x1122),
        value_version: 1,
    }
}

type Owned = (Vec<u8>, Option<u64>, Vec<u8>);

fn encoded(entries: &[Owned], compression: Compression) -> Vec<u8> {
    let mut builder = ImageBuilder::new(compression);
    builder.begin(stamp());
    for (key, expiry_ms, value) in entries {
        builder.push(key, *expiry_ms, value);
    }
    let (of, bytes, size) = builder.finish();
    assert_eq!(*of, stamp());
    assert_eq!((size.keys, size.stored_bytes), (entries.len() as u64, bytes.len() as u64));
    bytes.to_vec()
}

fn decoded(mut bytes: &[u8]) -> Result<Vec<Owned>, ImageError> {
    let mut decoder = ImageDecoder::new();
    let mut entries = Vec::new();
    while !decoder.is_done() {
        let header = decoder.push_chunk(bytes, |of, entry| {
            assert_eq!(*of, stamp());
            entries.push((entry.key.to_vec(), entry.expiry_ms, entry.value.to_vec()));
        })?;
        bytes = &bytes[header.chunk_length() as usize..];
    }
    assert!(bytes.is_empty());
    Ok(entries)
}

fn chunk_count(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        bytes = &bytes[ChunkHeader::decode(bytes).unwrap().chunk_length() as usize..];
        count += 1;
    }
    count
}

/// The image of one key in a version, with its body and zlib.crc32 of the body and of the header, little-endian.
fn golden(version: u8, body: &[u8], crcs: [u8; 8]) -> Vec<u8> {
    let mut golden = Vec::new();
    golden.extend_from_slice(b"HFSI");
    golden.extend_from_slice(&[version, 2, 0x2c, 1]);
    golden.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[12, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[7; 20]);
    golden.extend_from_slice(&[0; 4]);
    golden.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&[0x22, 0x11, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    golden.extend_from_slice(&crcs);
    golden.extend_from_slice(body);
    golden
}

#[test]
fn a_known_image_has_the_bytes_it_had_in_version_2_and_one_of_version_1_is_read() {
    let entries = [(b"key".to_vec(), Some(300), b"value".to_vec())];
    let now = golden(2, b"\x06key\xac\x02\x05value", GOLDEN_CRCS);
    assert_eq!(encoded(&entries, Compression::Lz4), now);
    assert_eq!(decoded(&now).unwrap(), entries);
    let before = golden(1, b"\x03key\xac\x02\x05value", [41, 98, 149, 245, 162, 98, 221, 198]);
    assert_eq!(decoded(&before).unwrap(), entries);
}

#[test]
fn an_image_taken_out_in_pieces_is_the_same_and_further_parts_are_no_keys() {
    let build = |takes: bool| {
        let (mut builder, mut bytes) = (ImageBuilder::new(Compression::None), Vec::new());
        builder.begin(stamp());
        builder.push(b"large", None, &vec![1; CHUNK_RAW_TARGET]);
        for part in 0..4 {
            builder.push_more(b"large", None, &vec![part; CHUNK_RAW_TARGET / 2]);
            if takes {
                builder.pack();
                let (is_first, chunks) = builder.take_chunks();
                assert_eq!(is_first, bytes.is_empty());
                bytes.extend(chunks);
            }
        }
        let (_, rest, size) = builder.finish();
        bytes.extend_from_slice(rest);
        assert_eq!((size.keys, size.stored_bytes), (1, bytes.len() as u64));
        bytes
    };
    assert_eq!(build(true), build(false));
    assert_eq!(decoded(&build(true)).unwrap().len(), 5);
}

/// Of version 2.
const GOLDEN_CRCS: [u8; 8] = [57, 21, 54, 109, 159, 103, 203, 68];

/// Bytes that make many chunks.
const PLAIN: usize = 16 << 20;

#[test]
fn an_empty_slot_has_an_image_of_one_header() {
    let bytes = encoded(&[], Compression::Lz4);
    assert_eq!(bytes.len(), CHUNK_HEADER_SIZE);
    assert_eq!(decoded(&bytes).unwrap(), []);
}

#[test]
fn a_large_slot_comes_in_chunks_and_back_whole() {
    let mut dice = fastrand::Rng::with_seed(1);
    let mut entries: Vec<Owned> =
        (0..300).map(|i| (vec![i as u8; 20], None, (0..9000).map(|_| dice.u8(..)).collect())).collect();
    // One value that is longer than a chunk, and one that compresses.
    entries.push((b"big".to_vec(), Some(1), (0..3 * CHUNK_RAW_TARGET).map(|_| dice.u8(..)).collect()));
    entries.push((b"zeros".to_vec(), None, vec![0; 2 * PLAIN]));
    entries.push((vec![], Some(u64::MAX), vec![]));
    for compression in [Compression::None, Compression::Lz4] {
        let bytes = encoded(&entries, compression);
        assert!(chunk_count(&bytes) >= 5 + 2 * PLAIN / CHUNK_RAW_TARGET);
        assert_eq!(bytes.len() < 9 << 20, compression == Compression::Lz4);
        assert!(decoded(&bytes).unwrap() == entries);
    }
}

#[test]
fn a_builder_starts_each_image_anew() {
    let mut builder = ImageBuilder::new(Compression::Lz4);
    builder.begin(stamp());
    builder.push(b"unfinished", None, &vec![1; 2 * PLAIN]);
    builder.begin(stamp());
    builder.push(b"k", None, b"v");
    let (_, bytes, size) = builder.finish();
    assert_eq!(size.keys, 1);
    assert_eq!(decoded(bytes).unwrap(), [(b"k".to_vec(), None, b"v".to_vec())]);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = encoded(&[(b"key".to_vec(), Some(300), vec![b'a'; 100])], Compression::Lz4);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(decoded(&damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn an_image_cut_anywhere_is_an_error() {
    let bytes = encoded(&[(b"key".to_vec(), None, vec![b'a'; 100])], Compression::None);
    for cut in 0..bytes.len() {
        assert!(matches!(decoded(&bytes[..cut]), Err(ImageError::Short { .. })), "cut at {cut}");
    }
}

#[test]
fn chunks_of_other_images_or_out_of_order_are_refused() {
    let entries: Vec<Owned> = vec![(b"k".to_vec(), None, vec![5; 3 * CHUNK_RAW_TARGET])];
    let bytes = encoded(&entries, Compression::None);
    let first = ChunkHeader::decode(&bytes).unwrap().chunk_length() as usize;
    let mut decoder = ImageDecoder::new();
    assert!(matches!(decoder.push_chunk(&bytes[first..], |_, _| {}), Err(ImageError::Order(_))));
    decoder.restart();
    decoder.push_chunk(&bytes, |_, _| {}).unwrap();
    assert!(matches!(decoder.push_chunk(&bytes, |_, _| {}), Err(ImageError::Order(_))));

    let mut builder = ImageBuilder::new(Compression::None);
    builder.begin(ImageStamp { sequence: SlotSequence(42), ..stamp() });
    builder.push(b"k", None, &vec![5; 3 * CHUNK_RAW_TARGET]);
    let (_, other, _) = builder.finish();
    let mut decoder = ImageDecoder::new();
    decoder.push_chunk(&bytes, |_, _| {}).unwrap();
    assert_eq!(
        decoder.push_chunk(&other[first..], |_, _| {}),
        Err(ImageError::Order("it is of another image"))
    );
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = encoded(&[], Compression::None);
    bytes[VERSION] = IMAGE_FORMAT_VERSION + 1;
    assert_eq!(ChunkHeader::decode(&bytes), Err(ImageError::Header("crc32 differs")));
    let crc = crc32fast::hash(&bytes[..HEADER_CRC.start]);
    bytes[HEADER_CRC].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(ChunkHeader::decode(&bytes), Err(ImageError::Newer { found: IMAGE_FORMAT_VERSION + 1 }));
}

#[test]
fn a_header_cannot_make_the_reader_take_much_memory() {
    let mut header = ChunkHeader::decode(&encoded(&[], Compression::None)).unwrap();
    header.raw_length = CHUNK_RAW_MAX as u32 + 1;
    assert_eq!(ChunkHeader::decode(&header.encode()), Err(ImageError::Header("impossible length")));
}

proptest! {
    #[test]
    fn images_decode_to_what_was_pushed(
        entries in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..30), prop::option::of(1u64..), prop::collection::vec(0u8..4, 0..400)),
            0..50,
        ),
        lz4 in any::<bool>(),
    ) {
        let compression = if lz4 { Compression::Lz4 } else { Compression::None };
        prop_assert_eq!(decoded(&encoded(&entries, compression)).unwrap(), entries);
    }

    #[test]
    fn random_bytes_behind_true_crcs_never_panic(body in prop::collection::vec(any::<u8>(), 0..300), lz4 in any::<bool>()) {
        let header = ChunkHeader {
            stamp: stamp(),
            index: 0,
            last: true,
            stored_length: body.len() as u32,
            keys: 1,
            version: IMAGE_FORMAT_VERSION,
            compressed: lz4,
            raw_length: body.len() as u32 + if lz4 { 40 } else { 0 },
            raw_offset: 0,
            body_crc: crc32fast::hash(&body),
        };
        let mut chunk = header.encode().to_vec();
        chunk.extend_from_slice(&body);
        let _ = ImageDecoder::new().push_chunk(&chunk, |_, _| {});
    }
}
