//! What the coordinator reads: its snapshot, the logs of the studies that went on then, and all that came after.

use std::time::Duration;

use regatta_broker::{BrokerError, Link};
use regatta_schemas::StudyId;
use regatta_schemas::snapshot::{LogPosition, Snapshot};
use regatta_search::{Recorded, Time};
use tokio::sync::mpsc;

use crate::nats::{Asked, Entry, LogReader, Read, Until};

/// After the log could not be read.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Reads for ever, or until the log has lost what was read of it: with a snapshot, first the studies that go on, one after the other, up to where the snapshot stands.
pub async fn read_log(link: Link, snapshot: Option<Snapshot>, to: mpsc::Sender<Read>) -> anyhow::Result<()> {
    let mut after = LogPosition::default();
    if let Some(snapshot) = snapshot {
        after = snapshot.position;
        for study in &snapshot.going_on {
            let mut log = LogReader::open(&link, Some(study), Until::Now).await?;
            while let Some(entry) = next_record(&mut log).await? {
                if entry.sequence > after.sequence {
                    break;
                }
                to.send(Read::Record(Box::new(entry))).await?;
            }
        }
    }
    let mut log = LogReader::open_after(&link, after).await?;
    loop {
        match log.next().await {
            Ok(Read::End) => return Ok(()),
            Ok(read) => to.send(read).await?,
            Err(error) => wait_after(error).await?,
        }
    }
}

/// The next record of one study's log, for as long as it takes to get it; None at its end.
async fn next_record(log: &mut LogReader) -> Result<Option<Entry>, BrokerError> {
    loop {
        match log.next().await {
            Ok(Read::Record(entry)) => return Ok(Some(*entry)),
            Ok(Read::Elected { .. } | Read::Foreign) => {}
            Ok(Read::End) => return Ok(None),
            Err(error) => wait_after(error).await?,
        }
    }
}

/// Waits before the log is asked again; passes on that there is nothing to wait for.
async fn wait_after(error: BrokerError) -> Result<(), BrokerError> {
    if let BrokerError::TailLost { .. } = error {
        return Err(error);
    }
    tracing::warn!(%error, "the log cannot be read; trying again");
    tokio::time::sleep(RETRY_AFTER).await;
    Ok(())
}

/// A study that is over, read again because somebody asked for it.
pub struct Recalled {
    pub study: StudyId,
    pub records: Vec<Recorded>,
    pub asked: Asked,
}

/// Reads the logs of studies that are asked for, one after the other.
pub async fn recall_studies(
    link: Link,
    mut wanted: mpsc::Receiver<(StudyId, Asked)>,
    to: mpsc::Sender<Recalled>,
) -> anyhow::Result<()> {
    while let Some((study, asked)) = wanted.recv().await {
        let mut records = Vec::new();
        let mut log = LogReader::open(&link, Some(&study), Until::Now).await?;
        while let Some(Entry { place, record, at_us, .. }) = next_record(&mut log).await? {
            records.push((place.trial, record, Time::from_micros(at_us)));
        }
        to.send(Recalled { study, records, asked }).await?;
    }
    Ok(())
}
