//! Asks wallets about numbers as the questions become due, fairly over accounts and within each number's pace.

use tokio_util::sync::CancellationToken;

use super::{
    SchedulerSettings,
    lane::{Lane, run_lane},
};
use crate::{
    domain::id::{AttemptNo, OrderId},
    steps::{
        Steps,
        turns::{LeaseTerms, Turns},
    },
    store::{Leased, Pace, StoreError},
};

struct Questions {
    pace: Pace,
}

impl Lane for Questions {
    type Due = (OrderId, AttemptNo);

    async fn lease(
        &self,
        steps: &Steps,
        turns: &mut Turns,
        terms: LeaseTerms,
    ) -> Result<Leased<Self::Due>, StoreError> {
        steps.lease_questions(turns, terms, self.pace).await
    }

    async fn work(steps: Steps, (order, attempt): Self::Due) {
        if let Err(error) = steps.question(order, attempt).await {
            tracing::warn!(order.id = %order, %error, "a question was not asked; its lease runs out and it is asked again");
        }
    }
}

/// Looks for due questions until `soft`, then finishes those under way; `hard` gives them up, their leases run out.
pub async fn ask_due(steps: Steps, settings: SchedulerSettings, soft: CancellationToken, hard: CancellationToken) {
    let questions = Questions { pace: Pace { per_second: settings.questions_per_s } };
    run_lane(questions, settings.question_concurrency, steps, settings, soft, hard).await;
}
