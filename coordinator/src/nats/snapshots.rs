//! The coordinator's snapshot in the object store: kept by whoever leads, read by whoever starts.

use regatta_broker::{BrokerError, Link, Objects};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::snapshot::{SNAPSHOT_VERSION, Snapshot};
use regatta_schemas::streams::{LOG, SNAPSHOT_OBJECT, SNAPSHOTS_BUCKET};

use super::reader::still_holds;

/// Stores it in the place of the last one.
///
/// # Errors
/// `Away` when the store does not answer or refuses.
pub async fn keep(link: &Link, snapshot: &Snapshot) -> Result<(), BrokerError> {
    let bytes = serde_json::to_vec(snapshot).map_err(BrokerError::away("writing a snapshot"))?;
    Objects::new(link, SNAPSHOTS_BUCKET).replace(SNAPSHOT_OBJECT, &bytes).await
}

/// The last snapshot; None where there is none that this version can use: then the whole log says the same.
///
/// # Errors
/// `Away` when the store does not answer.
pub async fn last(link: &Link) -> Result<Option<Snapshot>, BrokerError> {
    let store = Objects::new(link, SNAPSHOTS_BUCKET);
    let bytes = match store.get_named(SNAPSHOT_OBJECT, LIMITS.snapshot_bytes_max).await {
        Ok(bytes) => bytes,
        Err(BrokerError::NoObject { .. }) => return Ok(None),
        Err(BrokerError::Damaged { problem, .. }) => {
            tracing::warn!(problem, "the snapshot is damaged; reading the whole log instead");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let snapshot = match serde_json::from_slice::<Snapshot>(&bytes) {
        Ok(snapshot) if snapshot.version == SNAPSHOT_VERSION => snapshot,
        Ok(Snapshot { version, .. }) => {
            tracing::info!(version, "the snapshot is another version's; reading the whole log instead");
            return Ok(None);
        }
        Err(error) => {
            tracing::warn!(%error, "the snapshot cannot be read; reading the whole log instead");
            return Ok(None);
        }
    };
    if !still_holds(link, &LOG, snapshot.position).await? {
        tracing::warn!(
            sequence = snapshot.position.sequence,
            "the log has lost what its snapshot ends with; reading all that there is"
        );
        return Ok(None);
    }
    Ok(Some(snapshot))
}
