//! What a coordinator decided, the log took, and nobody has read back yet: a power cut may make the log forget it.

/// That the log took a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Its number in the log.
    pub number: u64,
    pub message_id: String,
    /// Which connection it was sent on, by their count.
    pub connection: u64,
}

#[derive(Debug, Default)]
pub struct Receipts(Vec<Receipt>);

impl Receipts {
    pub fn add(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        self.0.extend(receipts);
    }

    /// The log was read up to this number.
    pub fn read(&mut self, number: u64) {
        self.0.retain(|receipt| receipt.number > number);
    }

    /// The last of those sent on the connections before this one: a log loses its end, so where it has that, it has them
    /// all.
    pub fn to_look_for(&self, connection: u64) -> Option<&Receipt> {
        self.0.iter().filter(|receipt| receipt.connection != connection).max_by_key(|receipt| receipt.number)
    }
}
