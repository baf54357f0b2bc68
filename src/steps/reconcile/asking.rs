//! What bills brought to light is asked about without a person, a few at a time.

use std::time::Duration;

use crate::{
    domain::time::Timestamp,
    steps::{StepError, Steps},
};

/// A wallet that did not settle it is asked again after this, then after twice as long each time.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// What no answer settled for so long is left to people.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
const NEVER: Timestamp = Timestamp::from_ms(i64::MAX);

impl Steps {
    /// Asks the wallets about the discrepancies that a question may settle and whose turn it is, at most `limit`, which the
    /// accounts share. Answers how many it asked about.
    ///
    /// Errors: [`StepError`], when the store does not tell whose turn it is.
    pub async fn ask_about_bills(&self, limit: u64) -> Result<u64, StepError> {
        let mut asked = 0;
        for row in self.store.due_discrepancies(self.now(), limit).await? {
            let now = self.now();
            if !self.store.take_discrepancy(&row, next_ask(row.at, now)).await? {
                continue;
            }
            asked += 1;
            if let Err(error) = self.repair(row.id).await {
                // An account without room, or one that is not known here, keeps nobody else's waiting.
                tracing::warn!(id = row.id, account = %row.account, %error, "a discrepancy is asked about later");
            }
        }
        Ok(asked)
    }
}

/// When it is asked about again if this time settles nothing.
fn next_ask(found_at: Timestamp, now: Timestamp) -> Timestamp {
    let age = now.since(found_at);
    if age > GIVEN_UP_AFTER { NEVER } else { now.plus(age.max(AGAIN_AFTER)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rarer_and_end() {
        let found = Timestamp::from_secs(1_772_337_600);
        let (mut at, mut asks) = (found, 0);
        while at != NEVER {
            at = next_ask(found, at);
            asks += 1;
        }
        assert_eq!(asks, 12, "10, 20, 40 minutes, and so on for a week");
    }
}
