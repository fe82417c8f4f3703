//! Blobs in the object store, each named by the SHA-256 of its bytes and checked against it.

mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::jetstream::object_store::{InfoErrorKind, Object, ObjectInfo, ObjectStore};
use futures_util::{StreamExt, TryStreamExt};
use regatta_schemas::subjects::jetstream::{object_parts, objects_parts, read_object_parts};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{BrokerError, Link};

/// The objects of one bucket.
#[derive(Clone)]
pub struct Objects {
    bucket: &'static str,
    link: Link,
}

/// Bytes of a chunk: large enough that a checkpoint of a few MiB takes few messages, below the size limit of NATS.
const CHUNK_BYTES: usize = 512 * 1024;
/// When the store sends nothing of an object for so long, it is looked whether it still has all of it.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// An object's name.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of these bytes, made where large ones keep nobody waiting.
async fn hashed(bytes: Vec<u8>) -> Result<(String, Vec<u8>), BrokerError> {
    tokio::task::spawn_blocking(move || (sha256_hex(&bytes), bytes))
        .await
        .map_err(BrokerError::away("naming an object"))
}

impl Objects {
    pub fn new(link: &Link, bucket: &'static str) -> Self {
        Self { bucket, link: link.clone() }
    }

    /// Stores the bytes, unless they are there already, and answers with their name.
    ///
    /// # Errors
    /// `NoRoom` when the store is full: then nothing of them is left there. `Away` when it does not answer.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<String, BrokerError> {
        let (object, bytes) = hashed(bytes).await?;
        let here = self.info(&object).await?;
        if let Some(info) = &here
            && info.size == bytes.len()
            && self.parts_missing(info).await? == 0
        {
            return Ok(object);
        }
        upload::upload(&self.link, self.bucket, &object, &bytes, here).await?;
        Ok(object)
    }

    /// Puts the bytes in the place of whatever the bucket has under this name.
    ///
    /// # Errors
    /// As of [`put`](Self::put).
    pub async fn replace(&self, object: &str, bytes: &[u8]) -> Result<(), BrokerError> {
        let here = self.info(object).await?;
        upload::upload(&self.link, self.bucket, object, bytes, here).await
    }

    /// Fetches an object whole whose name says nothing of its content.
    ///
    /// # Errors
    /// `NoObject`, `Damaged` (larger than `bytes_max`, or cut short), `Away`.
    pub async fn get_named(&self, object: &str, bytes_max: u64) -> Result<Vec<u8>, BrokerError> {
        let (info, mut reader) = self.open(object, bytes_max).await?;
        let mut bytes = Vec::with_capacity(info.size);
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = self.read(&info, &mut reader, &mut chunk).await?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&chunk[..count]);
        }
    }

    /// Fetches an object whole and checks it against its name.
    ///
    /// # Errors
    /// `NoObject`, `Damaged` (larger than `bytes_max`, cut short, or other content than its name says), `Away`.
    pub async fn get(&self, object: &str, bytes_max: u64) -> Result<Vec<u8>, BrokerError> {
        let (name, bytes) = hashed(self.get_named(object, bytes_max).await?).await?;
        if name == object { Ok(bytes) } else { Err(self.renamed(object)) }
    }

    /// Fetches an object into a file, never holding more than a chunk of it, and checks it against its name.
    ///
    /// # Errors
    /// As of [`get`](Self::get); `Unwritable` when the file cannot be written.
    pub async fn copy(
        &self,
        object: &str,
        bytes_max: u64,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), BrokerError> {
        let (info, mut reader) = self.open(object, bytes_max).await?;
        let mut digest = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = self.read(&info, &mut reader, &mut chunk).await?;
            if count == 0 {
                break;
            }
            digest.update(&chunk[..count]);
            into.write_all(&chunk[..count]).await.map_err(BrokerError::Unwritable)?;
        }
        into.flush().await.map_err(BrokerError::Unwritable)?;
        if hex(&digest.finalize()) == object { Ok(()) } else { Err(self.renamed(object)) }
    }

    /// What an object is and its content, not checked against its name yet.
    async fn open(&self, object: &str, bytes_max: u64) -> Result<(ObjectInfo, Object), BrokerError> {
        let info = self.info(object).await?.ok_or_else(|| self.missing(object))?;
        if info.size as u64 > bytes_max {
            let problem = format!("it has {} bytes; at most {bytes_max} are read", info.size);
            return Err(self.damaged(object, problem));
        }
        self.make_sure_of(&info).await?;
        let reader = self.store().await?.get(object).await.map_err(BrokerError::away("reading an object"))?;
        Ok((info, reader))
    }

    /// The next bytes of an object; none at its end. A store that is away or slow is waited for.
    async fn read(&self, info: &ObjectInfo, reader: &mut Object, into: &mut [u8]) -> Result<usize, BrokerError> {
        loop {
            match tokio::time::timeout(SILENCE_MAX, reader.read(into)).await {
                Ok(read) => return read.map_err(|error| self.damaged(&info.name, error.to_string())),
                // What was deleted meanwhile never comes.
                Err(_) if self.link.is_connected() => self.make_sure_of(info).await?,
                Err(_) => {}
            }
        }
    }

    /// # Errors
    /// `Damaged` when parts of the object are not in the store.
    async fn make_sure_of(&self, info: &ObjectInfo) -> Result<(), BrokerError> {
        match self.parts_missing(info).await? {
            0 => Ok(()),
            missing => Err(self.damaged(&info.name, format!("{missing} of its {} parts are missing", info.chunks))),
        }
    }

    async fn parts_missing(&self, info: &ObjectInfo) -> Result<usize, BrokerError> {
        let parts = self.parts(&object_parts(self.bucket, &info.nuid)).await?;
        Ok(info.chunks.saturating_sub(parts.into_values().sum()))
    }

    /// How many parts there are of each upload with such a subject.
    async fn parts(&self, subject: &str) -> Result<BTreeMap<String, usize>, BrokerError> {
        const WHAT: &str = "counting the parts of an object";
        let stream = upload::stream_of(&self.link, self.bucket).await?;
        let parts = stream.info_with_subjects(subject).await.map_err(BrokerError::away(WHAT))?;
        parts.try_collect().await.map_err(BrokerError::away(WHAT))
    }

    /// Removes an object; one that is not there is no error. It needs no room, so that a full store can be emptied.
    ///
    /// # Errors
    /// `Away` when the store does not answer.
    pub async fn delete(&self, object: &str) -> Result<(), BrokerError> {
        const WHAT: &str = "deleting an object";
        let Some(info) = self.info(object).await? else { return Ok(()) };
        let stream = upload::stream_of(&self.link, self.bucket).await?;
        // Nobody finds an object whose parts are about to go.
        for subject in [upload::metadata_of(self.bucket, object), object_parts(self.bucket, &info.nuid)] {
            upload::purge(&stream, &subject).await.map_err(BrokerError::away(WHAT))?;
        }
        Ok(())
    }

    /// Every object of the bucket, and when it was stored, in microseconds since 1970.
    ///
    /// # Errors
    /// `Away` when the store does not answer.
    pub async fn list(&self) -> Result<Vec<(String, u64)>, BrokerError> {
        const WHAT: &str = "listing objects";
        let mut infos = self.store().await?.list().await.map_err(BrokerError::away(WHAT))?;
        let mut objects = Vec::new();
        while let Some(info) = infos.next().await {
            let info = info.map_err(BrokerError::away(WHAT))?;
            let micros = info.modified.map_or(0, |at| at.unix_timestamp_nanos() / 1_000);
            objects.push((info.name, u64::try_from(micros).unwrap_or_default()));
        }
        Ok(objects)
    }

    /// None where there is no such object.
    async fn info(&self, object: &str) -> Result<Option<ObjectInfo>, BrokerError> {
        match self.store().await?.info(object).await {
            Ok(info) => Ok(Some(info).filter(|info| !info.deleted)),
            Err(error) if error.kind() == InfoErrorKind::NotFound => Ok(None),
            Err(error) => Err(BrokerError::away("finding an object")(error)),
        }
    }

    /// Removes what uploads left that broke off: parts that no object has, the last of them so old. The answer says of how many.
    ///
    /// # Errors
    /// `Away` when the store does not answer.
    pub async fn remove_remains(&self, age: Duration) -> Result<usize, BrokerError> {
        const WHAT: &str = "removing what uploads left";
        // In this order: whatever becomes an object meanwhile is young.
        let parts = self.parts(&objects_parts(self.bucket)).await?;
        let infos = self.store().await?.list().await.map_err(BrokerError::away(WHAT))?;
        let whole: BTreeSet<String> =
            infos.map_ok(|info| info.nuid).try_collect().await.map_err(BrokerError::away(WHAT))?;
        let stream = upload::stream_of(&self.link, self.bucket).await?;
        let mut removed = 0;
        for subject in parts.keys() {
            if read_object_parts(subject, self.bucket).is_some_and(|upload| whole.contains(upload)) {
                continue;
            }
            let last = stream.get_last_raw_message_by_subject(subject).await.map_err(BrokerError::away(WHAT))?;
            if async_nats::datetime::now() - last.time >= age {
                upload::purge(&stream, subject).await.map_err(BrokerError::away(WHAT))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    async fn store(&self) -> Result<ObjectStore, BrokerError> {
        self.link.jetstream.get_object_store(self.bucket).await.map_err(BrokerError::away(self.bucket))
    }

    fn damaged(&self, object: &str, problem: String) -> BrokerError {
        BrokerError::Damaged { bucket: self.bucket, object: object.to_owned(), problem }
    }

    fn renamed(&self, object: &str) -> BrokerError {
        self.damaged(object, "its content is not what its name says".to_owned())
    }

    fn missing(&self, object: &str) -> BrokerError {
        BrokerError::NoObject { bucket: self.bucket, object: object.to_owned() }
    }
}
