//! The process's clock and the database's: where it begins, and how it is kept.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::{
    clock::{Clock, OFFSET_ALARM},
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
        let why = match read(store).await {
            Ok(Some((now, round_trip))) => {
                clock.begin(now, round_trip);
                tell_offset(clock);
                return Ok(());
            }
            Ok(None) => format!("an answer takes more than {} ms", ROUND_TRIP_MAX.as_millis()),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > BEGINS_WITHIN {
            bail!("the database's time cannot be read: {why}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The database's time and how long it took to be read. `None`: it waited for a connection, say, and tells little about now.
async fn read(store: &Store) -> Result<Option<(Timestamp, Duration)>, StoreError> {
    let asked = Instant::now();
    let now = store.now().await?;
    let round_trip = asked.elapsed();
    Ok((round_trip <= ROUND_TRIP_MAX).then_some((now, round_trip)))
}

async fn follow(clock: &Clock, store: &Store) {
    match read(store).await {
        Ok(None) => {}
        Ok(Some((now, round_trip))) => match clock.follow(now, round_trip) {
            Ok(_) => tell_offset(clock),
            Err(jump_ms) => tracing::error!(
                jump_ms,
                "the database's time jumped, and this machine's did not: it is not followed; set the database server's clock right, or restart this process if it is"
            ),
        },
        Err(error) => tracing::warn!(%error, "the database's time cannot be read"),
    }
}

fn tell_offset(clock: &Clock) {
    let offset_ms = clock.offset_ms();
    metrics::gauge!("prepay_clock_offset_ms").set(i32::try_from(offset_ms).unwrap_or(i32::MAX));
    if u128::from(offset_ms.unsigned_abs()) > OFFSET_ALARM.as_millis() {
        tracing::error!(offset_ms, "this machine's clock and the database's are apart: check NTP on both");
    }
}

pub async fn keep(clock: Clock, store: Store) {
    loop {
        tokio::time::sleep(EVERY).await;
        follow(&clock, &store).await;
    }
}
