//! Reads the streams in their order, from the beginning, across every loss of the connection.

use futures_util::StreamExt;
use regatta_broker::async_nats::header::NATS_MESSAGE_ID;
use regatta_broker::async_nats::jetstream::ErrorCode;
use regatta_broker::async_nats::jetstream::consumer::{DeliverPolicy, pull};
use regatta_broker::async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use regatta_broker::async_nats::jetstream::message::StreamMessage;
use regatta_broker::async_nats::jetstream::stream::RawMessageErrorKind;
use regatta_broker::{BrokerError, Link, is_copy};
use regatta_schemas::leader::Elected;
use regatta_schemas::log::{Place, Record};
use regatta_schemas::output::Output;
use regatta_schemas::snapshot::LogPosition;
use regatta_schemas::streams::{LOG, OUTPUT, StreamSpec};
use regatta_schemas::{StudyId, TrialId, decode, subjects};
use tokio::sync::watch;

/// When reading ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// With what is there now.
    Now,
    /// Never.
    Forever,
}

/// One record of the log.
#[derive(Debug)]
pub struct Entry {
    pub place: Place,
    pub record: Record,
    /// Microseconds since 1970, by the server's clock.
    pub at_us: u64,
    /// Its number in the stream.
    pub sequence: u64,
}

/// What lay next in the log.
#[derive(Debug)]
pub enum Read {
    Record(Box<Entry>),
    /// Another coordinator leads from here on.
    Elected {
        elected: Elected,
        sequence: u64,
        /// When the server stored it, in microseconds since 1970.
        at_us: u64,
    },
    /// A message that is no record: it changes nothing, but it may have been the last.
    Foreign,
    /// With `Until::Now`: all of what was there is read.
    End,
}

/// Reads messages of one stream in order; a lost position is taken up again.
struct StreamReader {
    link: Link,
    spec: StreamSpec,
    filter: String,
    messages: Option<pull::Ordered>,
    connections: watch::Receiver<u64>,
    /// The last message read.
    read: LogPosition,
    /// The number of the stream's last message when reading began.
    head: u64,
    until: Until,
}

struct Message {
    subject: String,
    payload: bytes::Bytes,
    at_us: u64,
    sequence: u64,
    pending: u64,
    /// Not sent by anybody who may publish on its subject.
    is_copy: bool,
}

impl StreamReader {
    async fn open(link: &Link, spec: StreamSpec, filter: String, until: Until) -> Result<Self, BrokerError> {
        let connections = link.connections.clone();
        let mut reader = Self {
            link: link.clone(),
            spec,
            filter,
            messages: None,
            connections,
            read: LogPosition::default(),
            head: 0,
            until,
        };
        reader.head = reader.matching_head().await?;
        Ok(reader)
    }

    /// The number of the last message that the filter lets through now; 0 where there is none.
    async fn matching_head(&mut self) -> Result<u64, BrokerError> {
        use regatta_broker::async_nats::jetstream::stream::LastRawMessageErrorKind;
        let stream =
            self.link.jetstream.get_stream_no_info(self.spec.name).await.map_err(|error| away(error.into()))?;
        match stream.get_last_raw_message_by_subject(&self.filter).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(away(error.into())),
        }
    }

    fn is_at_head(&self) -> bool {
        self.read.sequence >= self.head
    }

    /// The next message. None only with `Until::Now`, when all of what was there is read.
    async fn next(&mut self) -> Result<Option<Message>, BrokerError> {
        if self.until == Until::Now && self.is_at_head() {
            return Ok(None);
        }
        let next = loop {
            if self.messages.is_none() {
                self.connections.mark_unchanged();
                if !still_holds(&self.link, &self.spec, self.read).await? {
                    return Err(BrokerError::TailLost { stream: self.spec.name });
                }
                self.messages = Some(self.subscribe().await?);
            }
            let Some(messages) = &mut self.messages else { continue };
            tokio::select! {
                next = messages.next() => break next,
                // A restarted server has forgotten the subscription; to wait until that is noticed takes long.
                Ok(()) = self.connections.changed() => self.messages = None,
            }
        };
        match next {
            Some(Ok(message)) => {
                let info = message.info().map_err(away)?;
                let (sequence, pending) = (info.stream_sequence, info.pending);
                let at_us = micros(info.published.unix_timestamp_nanos());
                self.read = LogPosition { sequence, at_us };
                Ok(Some(Message {
                    subject: message.subject.to_string(),
                    payload: message.payload.clone(),
                    at_us,
                    sequence,
                    pending,
                    is_copy: is_copy(message.headers.as_ref()),
                }))
            }
            Some(Err(error)) => {
                self.messages = None;
                Err(away(error.into()))
            }
            None => {
                self.messages = None;
                Err(away("the server ended the subscription".into()))
            }
        }
    }

    async fn subscribe(&mut self) -> Result<pull::Ordered, BrokerError> {
        let config = pull::OrderedConfig {
            // Without a filter the server need not look for what matches, among all subjects, for each message.
            filter_subject: if self.filter == self.spec.subject { String::new() } else { self.filter.clone() },
            deliver_policy: if self.read.sequence == 0 {
                DeliverPolicy::All
            } else {
                DeliverPolicy::ByStartSequence { start_sequence: self.read.sequence + 1 }
            },
            ..Default::default()
        };
        self.link
            .jetstream
            .create_consumer_on_stream(config, self.spec.name)
            .await
            .map_err(|error| away(error.into()))?
            .messages()
            .await
            .map_err(|error| away(error.into()))
    }
}

/// Reads the log.
pub struct LogReader(StreamReader);

impl LogReader {
    /// One study, or all.
    ///
    /// # Errors
    /// `Away` when the server is, or the streams do not exist.
    pub async fn open(link: &Link, study: Option<&StudyId>, until: Until) -> Result<Self, BrokerError> {
        let filter = study.map_or_else(|| subjects::LOG_ALL.to_owned(), subjects::log_of_study);
        Ok(Self(StreamReader::open(link, LOG, filter, until).await?))
    }

    /// All studies, from behind this record.
    ///
    /// # Errors
    /// `Away` when the server is, or the streams do not exist.
    pub async fn open_after(link: &Link, position: LogPosition) -> Result<Self, BrokerError> {
        let mut reader = StreamReader::open(link, LOG, subjects::LOG_ALL.to_owned(), Until::Forever).await?;
        reader.read = position;
        Ok(Self(reader))
    }

    /// The next message of the log.
    ///
    /// # Errors
    /// `Away`: ask again. `TailLost`: open another.
    pub async fn next(&mut self) -> Result<Read, BrokerError> {
        let Some(message) = self.0.next().await? else { return Ok(Read::End) };
        if message.is_copy {
            tracing::warn!(
                subject = message.subject,
                sequence = message.sequence,
                "a copy of another message; left out"
            );
            return Ok(Read::Foreign);
        }
        if message.subject == subjects::LEADER
            && let Ok(elected) = decode(&message.payload)
        {
            return Ok(Read::Elected { elected, sequence: message.sequence, at_us: message.at_us });
        }
        let Some(place) = subjects::read_log(&message.subject) else {
            tracing::warn!(subject = message.subject, "no subject of the log; left out");
            return Ok(Read::Foreign);
        };
        match decode::<Record>(&message.payload) {
            Ok(record) if !subjects::is_log_of(&message.subject, &place, &record) => {
                tracing::warn!(
                    subject = message.subject,
                    sequence = message.sequence,
                    kind = record.kind(),
                    "a record on the subject of another kind; left out"
                );
                Ok(Read::Foreign)
            }
            Ok(record) => {
                let Message { at_us, sequence, .. } = message;
                Ok(Read::Record(Box::new(Entry { place, record, at_us, sequence })))
            }
            Err(error) => {
                tracing::warn!(%error, subject = message.subject, sequence = message.sequence, "no record; left out");
                Ok(Read::Foreign)
            }
        }
    }
}

/// Reads what trials print.
pub struct OutputReader(StreamReader);

impl OutputReader {
    /// One trial's output, or that of all trials of a study.
    ///
    /// # Errors
    /// `Away` when the server is, or the streams do not exist.
    pub async fn open(link: &Link, study: &StudyId, trial: Option<TrialId>, until: Until) -> Result<Self, BrokerError> {
        let filter = trial.map_or_else(|| subjects::output_of_study(study), |trial| subjects::output(study, trial));
        Ok(Self(StreamReader::open(link, OUTPUT, filter, until).await?))
    }

    /// The next line, its trial, and how many more lie ready. None only with `Until::Now`.
    ///
    /// # Errors
    /// `Away`: ask again. `TailLost`: open another.
    pub async fn next(&mut self) -> Result<Option<(TrialId, Output, u64)>, BrokerError> {
        while let Some(message) = self.0.next().await? {
            let place = subjects::read_output(&message.subject);
            if let (Some((_, trial)), Ok(output)) = (place, decode::<Output>(&message.payload)) {
                return Ok(Some((trial, output, message.pending)));
            }
            tracing::warn!(subject = message.subject, "no line of output; left out");
        }
        Ok(None)
    }
}

/// What a stream has under a number.
enum Found {
    Message(Box<StreamMessage>),
    /// It was deleted on purpose.
    Deleted,
    /// It is not that far.
    Nothing,
}

async fn find(link: &Link, spec: &StreamSpec, sequence: u64) -> Result<Found, BrokerError> {
    let mut stream = match link.jetstream.get_stream(spec.name).await {
        Ok(stream) => stream,
        Err(error) if is_no_stream(&error) => return Ok(Found::Nothing),
        Err(error) => return Err(away(error.into())),
    };
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(Found::Message(Box::new(message))),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
            let info = stream.info().await.map_err(|error| away(error.into()))?;
            Ok(if sequence <= info.state.last_sequence { Found::Deleted } else { Found::Nothing })
        }
        Err(error) => Err(away(error.into())),
    }
}

/// Whether this message is still in its stream, unless it was deleted on purpose.
///
/// # Errors
/// `Away` when the server is.
pub async fn still_holds(link: &Link, spec: &StreamSpec, position: LogPosition) -> Result<bool, BrokerError> {
    let LogPosition { sequence, at_us } = position;
    if sequence == 0 {
        return Ok(true);
    }
    Ok(match find(link, spec, sequence).await? {
        Found::Message(message) => micros(message.time.unix_timestamp_nanos()) == at_us,
        Found::Deleted => true,
        Found::Nothing => false,
    })
}

/// Whether the log has this decision under this number, unless it was deleted on purpose.
///
/// # Errors
/// `Away` when the server is.
pub async fn holds_decision(link: &Link, sequence: u64, message_id: &str) -> Result<bool, BrokerError> {
    Ok(match find(link, &LOG, sequence).await? {
        Found::Message(message) => {
            message.headers.get(NATS_MESSAGE_ID).is_some_and(|stored| stored.as_str() == message_id)
        }
        Found::Deleted => true,
        Found::Nothing => false,
    })
}

fn is_no_stream(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Of nanoseconds since 1970.
fn micros(nanos: i128) -> u64 {
    u64::try_from(nanos / 1_000).unwrap_or_default()
}

fn away(error: Box<dyn std::error::Error + Send + Sync>) -> BrokerError {
    BrokerError::away("reading a stream")(error)
}
