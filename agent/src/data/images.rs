//! An archive of PNG and JPEG files, a folder a class.
//!
//! The classes are the folders' names in their order; the rows are the files in the order of their names. A picture
//! comes from a stranger: how large it may become is known before it is decoded.

use std::collections::BTreeSet;
use std::io::Read;

use image::imageops::{FilterType, resize};
use image::{DynamicImage, GenericImageView, ImageReader, Limits};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::recipe::Data;

use super::error::DataError;
use super::store::Store;
use super::tape;
use crate::training::{Feature, Split, Target, Values};

const FEATURE: &str = "images";
/// Pixels of a side of one picture.
const SIDE_MAX: u32 = LIMITS.image_side_max;
/// Bytes that decoding one picture may take.
const DECODING_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of one file.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where each picture lies, and what all become.
#[derive(Debug)]
pub struct Images {
    entries: Vec<Entry>,
    classes: Vec<String>,
    channels: usize,
    height: u32,
    width: u32,
    resized: bool,
}

#[derive(Debug)]
struct Entry {
    name: String,
    class: usize,
    place: Place,
}

/// Where a file lies in its archive.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// As it is, in a tar archive.
    Bytes { start: u64, bytes: u64 },
    /// Compressed, in a zip archive.
    Deflated { start: u64, bytes: u64 },
}

impl Images {
    /// Reads the archive's names and the first picture: all have its channels, and its size where the recipe says none.
    pub fn open(data: &Data, store: &Store) -> Result<Self, DataError> {
        let mut files = listed(store)?;
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        let folder = |name: &str| name.rsplit('/').nth(1).map(str::to_owned);
        let mut pictures = Vec::with_capacity(files.len());
        for (name, place) in files {
            let folder = folder(&name).ok_or_else(|| DataError::NoFolder { name: name.clone() })?;
            pictures.push((name, folder, place));
        }
        let folders: BTreeSet<String> = pictures.iter().map(|(_, folder, _)| folder.clone()).collect();
        let folders: Vec<String> = folders.into_iter().collect();
        let entry = |(name, folder, place): (String, String, Place)| {
            let class = folders.partition_point(|known| *known < folder);
            Entry { name, class, place }
        };
        let entries: Vec<Entry> = pictures.into_iter().map(entry).collect();
        let first = decode(store, entries.first().ok_or(DataError::NoImages)?)?;
        let [height, width] = data.image_size.unwrap_or([first.height(), first.width()]);
        if !(1..=SIDE_MAX).contains(&height) || !(1..=SIDE_MAX).contains(&width) {
            return Err(DataError::ImageSize { height, width, max: SIDE_MAX });
        }
        let channels = if first.color().has_color() { 3 } else { 1 };
        let resized = data.image_size.is_some();
        Ok(Self { entries, classes: folders, channels, height, width, resized })
    }

    pub fn rows(&self) -> usize {
        self.entries.len()
    }

    /// Numbers of one picture.
    pub fn row_width(&self) -> usize {
        self.channels * self.height as usize * self.width as usize
    }

    /// These pictures, in this order.
    pub fn read(&self, store: &Store, rows: &[usize]) -> Result<Split, DataError> {
        let mut values = Vec::with_capacity(rows.len() * self.row_width());
        let mut labels = Vec::with_capacity(rows.len());
        for row in rows {
            let entry = &self.entries[*row];
            let picture = decode(store, entry)?;
            self.append(entry, &picture, &mut values)?;
            labels.push(i64::try_from(entry.class).expect("classes are few"));
        }
        let shape = vec![self.channels, self.height as usize, self.width as usize];
        let feature = Feature { values: Values::U8(values), ..Feature::numbers(FEATURE, shape, Vec::new()) };
        let target =
            Target::Classes { labels, shape: Vec::new(), classes: self.classes.len(), names: self.classes.clone() };
        Ok(Split { features: vec![feature], target })
    }

    /// Appends the picture, channel by channel.
    fn append(&self, entry: &Entry, picture: &DynamicImage, values: &mut Vec<u8>) -> Result<(), DataError> {
        let (width, height) = picture.dimensions();
        let is_fit = (width, height) == (self.width, self.height);
        if !is_fit && !self.resized {
            let found = [height, width];
            return Err(DataError::ImagesDiffer { name: entry.name.clone(), found, first: [self.height, self.width] });
        }
        if self.channels == 1 {
            let grey = picture.to_luma8();
            let grey = if is_fit { grey } else { resize(&grey, self.width, self.height, FilterType::Triangle) };
            values.extend_from_slice(grey.as_raw());
        } else {
            let colour = picture.to_rgb8();
            let colour = if is_fit { colour } else { resize(&colour, self.width, self.height, FilterType::Triangle) };
            for channel in 0..self.channels {
                values.extend(colour.as_raw().iter().skip(channel).step_by(self.channels));
            }
        }
        Ok(())
    }
}

fn decode(store: &Store, entry: &Entry) -> Result<DynamicImage, DataError> {
    let bad = |reason: String| DataError::BadImage { name: entry.name.clone(), reason };
    let bytes = contents(store, entry.place).map_err(&bad)?;
    let mut reader =
        ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().map_err(|error| bad(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODING_BYTES_MAX);
    reader.limits(limits);
    reader.decode().map_err(|error| bad(error.to_string()))
}

/// Every picture in the archive by its name.
fn listed(store: &Store) -> Result<Vec<(String, Place)>, DataError> {
    let mut mark = [0; 4];
    let is_zip = store.whole().read_exact(&mut mark).is_ok() && mark == *b"PK\x03\x04";
    let files = if is_zip { zipped(store)? } else { taped(store)? };
    Ok(files.into_iter().filter(|(name, _)| is_picture(name)).collect())
}

/// Whether its name says so; hidden files, which some systems add, are none.
fn is_picture(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    let ending = file.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    !file.starts_with('.') && matches!(ending.as_str(), "png" | "jpg" | "jpeg")
}

fn taped(store: &Store) -> Result<Vec<(String, Place)>, DataError> {
    let files = tape::files(store).map_err(|error| DataError::NotImages { reason: error.to_string() })?;
    let place = |file: tape::File| (file.name, Place::Bytes { start: file.start, bytes: file.bytes });
    Ok(files.into_iter().map(place).collect())
}

fn zipped(store: &Store) -> Result<Vec<(String, Place)>, DataError> {
    let bad = |error: zip::result::ZipError| DataError::NotImages { reason: error.to_string() };
    let mut archive = zip::ZipArchive::new(store.whole()).map_err(bad)?;
    let mut files = Vec::with_capacity(archive.len());
    for position in 0..archive.len() {
        let entry = archive.by_index_raw(position).map_err(bad)?;
        let (start, bytes) = (entry.data_start(), entry.compressed_size());
        let place = match entry.compression() {
            zip::CompressionMethod::Stored => Place::Bytes { start, bytes },
            zip::CompressionMethod::Deflated => Place::Deflated { start, bytes },
            other => return Err(DataError::NotImages { reason: format!("{} is compressed by {other}", entry.name()) }),
        };
        if entry.is_file() {
            files.push((entry.name().to_owned(), place));
        }
    }
    Ok(files)
}

fn contents(store: &Store, place: Place) -> Result<Vec<u8>, String> {
    match place {
        Place::Bytes { start, bytes } => limited(store.part(start, bytes)),
        Place::Deflated { start, bytes } => limited(flate2::read::DeflateDecoder::new(store.part(start, bytes))),
    }
}

fn limited(from: impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}
