//! External samplers, asked over NATS.

use std::time::Duration;

use regatta_broker::Link;
use regatta_broker::async_nats::{Request, RequestError, RequestErrorKind};
use regatta_schemas::ask::{Ask, Suggestion};
use regatta_schemas::limits::LIMITS;
use regatta_schemas::reasons::AskFailure;
use regatta_schemas::{SamplerId, decode, encode, subjects};

/// Puts one question. If the connection breaks meanwhile it is put again: nobody's fault.
///
/// # Errors
/// Why there is no answer that can be read.
pub async fn ask(link: &Link, service: &SamplerId, timeout: Duration, ask: &Ask) -> Result<Suggestion, AskFailure> {
    let question: bytes::Bytes = encode(ask).into();
    if question.len() > LIMITS.message_bytes_max {
        return Err(AskFailure::AskTooLarge { bytes: question.len() });
    }
    let mut connections = link.connections.clone();
    loop {
        let connection = *connections.borrow_and_update();
        let request = Request::new().payload(question.clone()).timeout(Some(timeout));
        match link.client.send_request(subjects::sampler(service), request).await {
            Ok(answer) => return read(&answer.payload),
            Err(error) if link.is_connected() && *connections.borrow() == connection => {
                return Err(failure(&error, timeout));
            }
            Err(_) => {}
        }
        if !link.is_connected() && connections.changed().await.is_err() {
            return Err(AskFailure::NotSent { detail: "the connection is closed".to_owned() });
        }
    }
}

fn read(answer: &[u8]) -> Result<Suggestion, AskFailure> {
    if answer.len() > LIMITS.suggestion_bytes_max {
        return Err(AskFailure::AnswerTooLarge { bytes: answer.len() });
    }
    decode(answer).map_err(|error| AskFailure::Unreadable { detail: error.to_string() })
}

fn failure(error: &RequestError, timeout: Duration) -> AskFailure {
    match error.kind() {
        RequestErrorKind::NoResponders => AskFailure::Absent,
        RequestErrorKind::TimedOut => {
            AskFailure::TimedOut { timeout_s: u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX) }
        }
        RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded | RequestErrorKind::Other => {
            AskFailure::NotSent { detail: error.to_string() }
        }
    }
}
