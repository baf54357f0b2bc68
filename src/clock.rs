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
        let started_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            source: Arc::new(Source::Running {
                started: Instant::now(),
                started_ms: i64::try_from(started_ms).unwrap_or(i64::MAX),
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

    /// Takes over the database's time: `database_now` was read `round_trip` ago at most. Answers the correction made.
    ///
    /// Half a round trip is the best guess of how old the reading is.
    pub fn follow(&self, database_now: Timestamp, round_trip: Duration) -> i64 {
        match &*self.source {
            Source::Running { offset_ms, .. } => {
                let there = database_now.plus(round_trip / 2);
                let correction = there.ms().saturating_sub(self.now().ms());
                offset_ms.fetch_add(correction, Ordering::Relaxed);
                correction
            }
            Source::Manual { .. } => 0,
        }
    }

    /// How far the database's time is from this machine's, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        match &*self.source {
            Source::Running { offset_ms, .. } => offset_ms.load(Ordering::Relaxed),
            Source::Manual { .. } => 0,
        }
    }

    /// Moves a manual clock on; a running one moves by itself.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual { now_ms } = &*self.source {
            now_ms.fetch_add(i64::try_from(span.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_follows_the_database() {
        let clock = Clock::system();
        let database = clock.now().plus(Duration::from_secs(600));
        let correction = clock.follow(database, Duration::from_millis(20));
        assert!((599_000..=601_000).contains(&correction), "{correction}");
        assert!(clock.now().since(database) < Duration::from_secs(1));
    }
}
