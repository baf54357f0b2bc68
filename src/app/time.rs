//! The process's clock and the database's: where it begins, and how it is kept.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{
    clock::{Clock, OFFSET_ALARM, machine_now},
    domain::time::Timestamp,
    store::{Store, StoreError},
};

/// A sample of the database's time that took longer is not taken.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// A database that is slow for so long at the start is no place to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(20);
/// How often the database's time is sampled.
const EVERY: Duration = Duration::from_secs(30);

/// The first sample: nothing is done on a time that nobody else has. Errors: no reading that says much within [`BEGINS_WITHIN`].
pub async fn begin(clock: &Clock, store: &Store) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        // A database that stays slow is far away: half of its way is known less well, and still well enough.
        let patient = began.elapsed() > BEGINS_WITHIN / 2;
        let why = match read(store, if patient { ROUND_TRIP_MAX * 5 } else { ROUND_TRIP_MAX }).await {
            Ok(Some((now, round_trip))) => {
                clock.begin(now, round_trip);
                return Ok(());
            }
            Ok(None) => "it answers slowly".to_owned(),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > BEGINS_WITHIN {
            bail!("the database's time cannot be read: {why}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The database's time and how long it took to be read. `None`: it waited for a connection, say, and tells little about now.
async fn read(store: &Store, round_trip_max: Duration) -> Result<Option<(Timestamp, Duration)>, StoreError> {
    let asked = Instant::now();
    let now = store.now().await?;
    let round_trip = asked.elapsed();
    if round_trip > round_trip_max {
        return Ok(None);
    }
    tell_offset(now.plus(round_trip / 2).ms().saturating_sub(machine_now().ms()));
    Ok(Some((now, round_trip)))
}

/// Of the database's time from this machine's, followed or not.
fn tell_offset(offset_ms: i64) {
    metrics::gauge!("prepay_clock_offset_ms").set(i32::try_from(offset_ms).unwrap_or(i32::MAX));
    if u128::from(offset_ms.unsigned_abs()) > OFFSET_ALARM.as_millis() {
        tracing::error!(offset_ms, "this machine's clock and the database's are apart: check NTP on both");
    }
}

pub async fn keep(clock: Clock, store: Store) {
    loop {
        tokio::time::sleep(EVERY).await;
        match read(&store, ROUND_TRIP_MAX).await {
            Ok(None) => {}
            Ok(Some((now, round_trip))) => {
                if let Err(jump_ms) = clock.follow(now, round_trip) {
                    tracing::error!(
                        jump_ms,
                        "the database's time jumped, and this machine's did not: it is not followed; set the database server's clock right, or restart this process if it is"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "the database's time cannot be read"),
        }
    }
}
