//! Blobs in the object store, each named by the SHA-256 of its bytes and checked against it.

use async_nats::jetstream::object_store::{InfoErrorKind, Object, ObjectMetadata, ObjectStore};
use futures_util::StreamExt;
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
    /// `Away` when the store does not answer or refuses.
    pub async fn put(&self, bytes: Vec<u8>) -> Result<String, BrokerError> {
        let (object, bytes) = hashed(bytes).await?;
        let store = self.store().await?;
        let here = store.info(&object).await;
        if here.is_ok_and(|info| !info.deleted && info.size == bytes.len()) {
            return Ok(object);
        }
        let metadata = ObjectMetadata { name: object.clone(), chunk_size: Some(CHUNK_BYTES), ..Default::default() };
        let mut reader = bytes.as_slice();
        store.put(metadata, &mut reader).await.map_err(BrokerError::away("storing an object"))?;
        Ok(object)
    }

    /// Puts the bytes in the place of whatever the bucket has under this name.
    ///
    /// # Errors
    /// `Away` when the store does not answer or refuses.
    pub async fn replace(&self, object: &str, bytes: &[u8]) -> Result<(), BrokerError> {
        let metadata = ObjectMetadata { name: object.to_owned(), chunk_size: Some(CHUNK_BYTES), ..Default::default() };
        let mut reader = bytes;
        self.store().await?.put(metadata, &mut reader).await.map_err(BrokerError::away("storing an object"))?;
        Ok(())
    }

    /// Fetches an object whole whose name says nothing of its content.
    ///
    /// # Errors
    /// `NoObject`, `Damaged` (larger than `bytes_max`, or cut short), `Away`.
    pub async fn get_named(&self, object: &str, bytes_max: u64) -> Result<Vec<u8>, BrokerError> {
        let (size, mut reader) = self.open(object, bytes_max).await?;
        let mut bytes = Vec::with_capacity(size);
        reader.read_to_end(&mut bytes).await.map_err(|error| self.damaged(object, error.to_string()))?;
        Ok(bytes)
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
    /// As of [`get`](Self::get); `Away` also when the file cannot be written.
    pub async fn copy(
        &self,
        object: &str,
        bytes_max: u64,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), BrokerError> {
        let (_, mut reader) = self.open(object, bytes_max).await?;
        let mut digest = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = reader.read(&mut chunk).await.map_err(|error| self.damaged(object, error.to_string()))?;
            if count == 0 {
                break;
            }
            digest.update(&chunk[..count]);
            into.write_all(&chunk[..count]).await.map_err(BrokerError::away("writing an object to the disk"))?;
        }
        into.flush().await.map_err(BrokerError::away("writing an object to the disk"))?;
        if hex(&digest.finalize()) == object { Ok(()) } else { Err(self.renamed(object)) }
    }

    /// An object's size and content, not checked against its name yet.
    async fn open(&self, object: &str, bytes_max: u64) -> Result<(usize, Object), BrokerError> {
        let store = self.store().await?;
        let info = match store.info(object).await {
            Ok(info) if info.deleted => return Err(self.missing(object)),
            Ok(info) => info,
            Err(error) if error.kind() == InfoErrorKind::NotFound => return Err(self.missing(object)),
            Err(error) => return Err(BrokerError::away("finding an object")(error)),
        };
        if info.size as u64 > bytes_max {
            let problem = format!("it has {} bytes; at most {bytes_max} are read", info.size);
            return Err(self.damaged(object, problem));
        }
        let reader = store.get(object).await.map_err(BrokerError::away("reading an object"))?;
        Ok((info.size, reader))
    }

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// `Away` when the store does not answer.
    pub async fn delete(&self, object: &str) -> Result<(), BrokerError> {
        let store = self.store().await?;
        match store.delete(object).await {
            Ok(()) => Ok(()),
            Err(_) if self.is_gone(&store, object).await => Ok(()),
            Err(error) => Err(BrokerError::away("deleting an object")(error)),
        }
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

    async fn is_gone(&self, store: &ObjectStore, object: &str) -> bool {
        match store.info(object).await {
            Ok(info) => info.deleted,
            Err(error) => error.kind() == InfoErrorKind::NotFound,
        }
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
