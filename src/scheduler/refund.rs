//! Refunds whose time has come, and unexpected money that waits for its merchant's policy.

use tokio_util::sync::CancellationToken;

use super::{
    SchedulerSettings,
    lane::{Lane, run_lane},
};
use crate::{
    domain::id::RefundId,
    steps::{
        Steps,
        turns::{LeaseTerms, Turns},
    },
    store::{Leased, StoreError},
};

/// So many anomalies are decided on at one look.
const ANOMALIES_AT_ONCE: u64 = 100;

struct Refunds;

impl Lane for Refunds {
    type Due = RefundId;

    async fn lease(&self, steps: &Steps, turns: &mut Turns, terms: LeaseTerms) -> Result<Leased<RefundId>, StoreError> {
        steps.lease_refunds(turns, terms).await
    }

    async fn work(steps: Steps, refund: RefundId) {
        if let Err(error) = steps.refund(refund).await {
            tracing::warn!(refund.id = %refund, %error, "a refund was not worked on; its lease runs out and it is looked at again");
        }
    }
}

/// Looks for due refunds until `soft`, then finishes those under way; `hard` gives them up, their leases run out.
pub async fn refund_due(steps: Steps, settings: SchedulerSettings, soft: CancellationToken, hard: CancellationToken) {
    run_lane(Refunds, settings.refund_concurrency, steps, settings, soft, hard).await;
}

/// Puts late and second money to its merchants' policies. Replicas may do it beside each other: a refund by policy has one number.
///
/// What stays due, because others' refunds of it are under way, does not keep later money waiting.
pub async fn decide_anomalies(steps: &Steps) {
    let mut after = 0;
    loop {
        let due = match steps.store.due_anomalies(after, ANOMALIES_AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "unexpected money cannot be looked for"),
        };
        let Some(last) = due.last() else { return };
        after = last.id;
        for anomaly in due {
            if let Err(error) = steps.decide_anomaly(&anomaly).await {
                tracing::warn!(order.id = %anomaly.order, %error, "unexpected money was not decided on; it stays due");
            }
        }
    }
}
