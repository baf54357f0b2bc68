//! One time for all processes: the database's, sampled every 30 s, monotonic in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::domain::time::Timestamp;

/// An offset above this alarms: deadlines made here would be misread there.
pub const OFFSET_ALARM: Duration = Duration::from_secs(2);
/// A process at work does not follow the database further than this at once, unless its machine went there too: after a failover to a
/// server whose clock is wrong, every waiting order would be over. WeChat refuses whoever is further off, too.
pub const JUMP_MAX: Duration = Duration::from_secs(300);

/// What time it is. Cheap to clone; all clones share the offset.
#[derive(Debug, Clone)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    /// Local wall clock at start, monotonic since, plus the sampled offset to the database.
    Running { started: Instant, started_ms: i64, offset_ms: AtomicI64 },
    /// A test's clock: it moves when it is told to.
    Manual { now_ms: AtomicI64 },
}

impl Clock {
    pub fn system() -> Self {
        Self {
            source: Arc::new(Source::Running {
                started: Instant::now(),
                started_ms: machine_now().ms(),
                offset_ms: AtomicI64::new(0),
            }),
        }
    }

    pub fn manual(now: Timestamp) -> Self {
        Self { source: Arc::new(Source::Manual { now_ms: AtomicI64::new(now.ms()) }) }
    }

    pub fn now(&self) -> Timestamp {
        match &*self.source {
            Source::Running { started, started_ms, offset_ms } => {
                let elapsed = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                Timestamp::from_ms(started_ms.saturating_add(elapsed).saturating_add(offset_ms.load(Ordering::Relaxed)))
            }
            Source::Manual { now_ms } => Timestamp::from_ms(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// Takes over the database's time, whatever it is, before anything is done by this clock: `database_now` was read `round_trip` ago
    /// at most. Answers the correction made, in milliseconds.
    ///
    /// Half a round trip is the best guess of how old the reading is.
    pub fn begin(&self, database_now: Timestamp, round_trip: Duration) -> i64 {
        let correction = self.correction(database_now, round_trip);
        self.correct(correction);
        correction
    }

    /// As [`Clock::begin`], later: `Err` with the correction that was not made, because it was further than [`JUMP_MAX`] and this
    /// machine's own time does not agree. A machine that slept stands still here, and its own time went on.
    pub fn follow(&self, database_now: Timestamp, round_trip: Duration) -> Result<i64, i64> {
        self.follow_beside(machine_now(), database_now, round_trip)
    }

    fn follow_beside(&self, machine: Timestamp, database: Timestamp, round_trip: Duration) -> Result<i64, i64> {
        let correction = self.correction(database, round_trip);
        let far = |ms: i64| u128::from(ms.unsigned_abs()) > JUMP_MAX.as_millis();
        if far(correction) && far(database.ms().saturating_sub(machine.ms())) {
            return Err(correction);
        }
        self.correct(correction);
        Ok(correction)
    }

    fn correction(&self, database_now: Timestamp, round_trip: Duration) -> i64 {
        match &*self.source {
            Source::Running { .. } => database_now.plus(round_trip / 2).ms().saturating_sub(self.now().ms()),
            Source::Manual { .. } => 0,
        }
    }

    fn correct(&self, by_ms: i64) {
        if let Source::Running { offset_ms, .. } = &*self.source {
            offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// Moves a manual clock on; a running one moves by itself.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual { now_ms } = &*self.source {
            now_ms.fetch_add(i64::try_from(span.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

/// This machine's own time, which nothing is decided by.
pub fn machine_now() -> Timestamp {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(20);
    const HOURS: Duration = Duration::from_secs(7_200);

    /// Or a little after, on a machine that stands still for a while.
    fn is_at(clock: &Clock, time: Timestamp) -> bool {
        let now = clock.now();
        time.since(now) < Duration::from_secs(1) && now.since(time) < Duration::from_secs(60)
    }

    #[test]
    fn a_process_begins_at_the_databases_time_and_follows_it() {
        let clock = Clock::system();
        let database = clock.now().plus(HOURS);
        let correction = clock.begin(database, QUICK);
        assert!((7_140_000..=7_201_000).contains(&correction), "{correction}");
        assert!(is_at(&clock, database));
        let later = database.plus(Duration::from_secs(240));
        assert!(clock.follow(later, QUICK).is_ok_and(|by| (180_000..=241_000).contains(&by)));
        assert!(is_at(&clock, later));
    }

    /// After a failover, say. What was begun on one time is not ended on another.
    #[test]
    fn a_jump_that_the_machine_did_not_make_is_not_followed() {
        let clock = Clock::system();
        let (machine, before) = (machine_now(), clock.now());
        for database in [machine.plus(HOURS), machine.minus(HOURS)] {
            let refused = clock.follow_beside(machine, database, QUICK).unwrap_err();
            assert!((7_140_000..=7_260_000).contains(&refused.abs()), "{refused}");
            assert!(is_at(&clock, before));
        }
        // This machine slept for hours.
        let database = machine.plus(HOURS);
        assert!(clock.follow_beside(database, database, QUICK).is_ok());
        assert!(is_at(&clock, database));
    }
}
