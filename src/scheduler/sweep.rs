//! What has had its time leaves the store, a bounded number of rows at once.

use std::time::Duration;

use crate::{domain::order::Order, steps::Steps, store::StoreError};

const ROWS_AT_ONCE: u64 = 1_000;

/// A login code lives 5 minutes at WeChat and up to a day at Alipay; after that nobody can ask about it again.
const EXCHANGES_KEPT: Duration = Duration::from_secs(48 * 3600);

/// Closes what nobody paid in time. Replicas may do it beside each other: the row tells who was first.
pub async fn close_expired(steps: &Steps) {
    let before = steps.clock.now().minus(Order::SETTLED_AFTER_EXPIRY);
    let mut after = None;
    loop {
        // From the last one on, closed or not: one that cannot be closed must not stand before the others.
        let (expired, next) = match steps.store.expired_waiting_orders(before, after.as_ref(), ROWS_AT_ONCE).await {
            Ok(page) => page,
            Err(error) => return tracing::warn!(%error, "expired orders cannot be looked for"),
        };
        for order in expired {
            if let Err(error) = steps.close_when_over(order).await {
                tracing::warn!(order.id = %order, %error, "an expired order was not closed");
            }
        }
        match next {
            Some(_) => after = next,
            None => return,
        }
    }
}

/// Sweeps outcomes nobody waits for any more, nonces outside every window, and exchanges whose code is dead.
pub async fn sweep(steps: &Steps, outcomes_kept: Duration) {
    let (store, now) = (&steps.store, steps.clock.now());
    all_of("outcomes", || store.sweep_outcomes(now.minus(outcomes_kept), ROWS_AT_ONCE)).await;
    all_of("nonces", || store.sweep_nonces(now, ROWS_AT_ONCE)).await;
    all_of("exchanges", || store.sweep_exchanges(now.minus(EXCHANGES_KEPT), ROWS_AT_ONCE)).await;
}

async fn all_of<F: Future<Output = Result<u64, StoreError>>>(what: &str, some: impl Fn() -> F) {
    loop {
        match some().await {
            Ok(rows) if rows < ROWS_AT_ONCE => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, what, "rows that have had their time were not swept");
                return;
            }
        }
    }
}
