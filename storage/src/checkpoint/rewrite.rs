//! Image files that are mostly dead: the images that are still some slot's newest are moved together into new files, byte for
//! byte, so that the old ones can go. Runs at the end of a pass, never beside one.

use std::collections::BTreeMap;

use crate::checkpoint::image_files::ImageFile;
use crate::checkpoint::manifest::{FileUsage, Manifest, ManifestError};
use crate::node_state::{ImageOf, ImageRow};

/// Which files are worth rewriting: those with less than half of their bytes in use, and, when there are many small ones,
/// those below a sixteenth of the usual size.
pub fn choose(usage: &BTreeMap<u64, FileUsage>, file_size: u64) -> Vec<u64> {
    let small: Vec<u64> =
        usage.iter().filter(|(_, file)| file.length < file_size / 16).map(|(number, _)| *number).collect();
    let mostly_dead = usage.iter().filter(|(_, file)| file.live < file.length / 2).map(|(number, _)| *number);
    let mut chosen: Vec<u64> = mostly_dead.collect();
    if small.len() > 16 {
        chosen.extend(small);
        chosen.sort_unstable();
        chosen.dedup();
    }
    chosen
}

/// Rewrites what [`choose`] chooses and returns how many files that were.
///
/// # Errors
/// When an image cannot be read (it is damaged: named by file, offset and slot) or the new file cannot be made durable. The
/// old files stay then.
pub fn run(manifest: &Manifest, file_size: u64) -> Result<u64, ManifestError> {
    let chosen = choose(&manifest.usage()?, file_size);
    if chosen.is_empty() {
        return Ok(0);
    }
    let rows = manifest.rows().rows;
    let mut moving = rows.into_iter().filter(|(_, row)| chosen.contains(&row.file)).collect::<Vec<_>>();
    moving.sort_unstable_by_key(|(_, row)| (row.file, row.offset));
    let mut rest = moving.as_slice();
    while !rest.is_empty() {
        let moved = move_some(manifest, rest, file_size)?;
        rest = rest.get(moved..).unwrap_or_default();
    }
    Ok(chosen.len() as u64)
}

/// Moves as many of `rows` as one file takes.
fn move_some(
    manifest: &Manifest,
    rows: &[(ImageOf, ImageRow)],
    file_size: u64,
) -> Result<usize, ManifestError> {
    let mut writer = manifest.create_file()?;
    let mut source: Option<(u64, ImageFile)> = None;
    let mut moved: Vec<(ImageOf, ImageRow)> = Vec::new();
    let mut chunk = Vec::new();
    for (of, row) in rows {
        if writer.len() >= file_size {
            break;
        }
        let file = match source.take() {
            Some((number, file)) if number == row.file => file,
            _ => ImageFile::open(manifest.directory(), row.file)?,
        };
        let offset = writer.len();
        file.for_each_chunk(*of, row, &mut chunk, |bytes| writer.append(bytes))?;
        moved.push((*of, ImageRow { file: writer.number(), offset, ..*row }));
        source = Some((row.file, file));
    }
    let number = writer.number();
    writer.sync()?;
    writer.publish()?;
    manifest.commit_moved(rows, &moved, number)?;
    Ok(moved.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mostly_dead_and_many_small_files_are_chosen_and_full_ones_left() {
        let file = |length, live| FileUsage { length, live };
        let mut usage = BTreeMap::from([
            (1, file(1000, 499)),
            (2, file(1000, 500)),
            (3, file(10, 10)),
            (4, file(1000, 1000)),
        ]);
        assert_eq!(choose(&usage, 1000), [1]);
        usage.extend((10..30).map(|number| (number, file(10, 10))));
        let chosen = choose(&usage, 1000);
        assert_eq!(chosen.len(), 22);
        assert!(chosen.starts_with(&[1, 3, 10]));
    }
}
