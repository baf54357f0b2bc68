//! The wallets' clock: the machine's, moved by an offset, with a scale for their long schedules.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

#[derive(Clone, Copy, PartialEq)]
struct Setting {
    offset_ms: i64,
    scale: f64,
}

/// Time as the wallets see it.
///
/// Units: Unix milliseconds or seconds. The offset moves what the wallets stamp and how they judge ages; the scale
/// shortens real waiting (`0.001` turns an hour of a notification schedule into 3.6 s), not the time they stamp.
pub struct Clock {
    setting: watch::Sender<Setting>,
}

impl Clock {
    pub(crate) fn new(scale: f64) -> Self {
        Self { setting: watch::Sender::new(Setting { offset_ms: 0, scale }) }
    }

    /// Now in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX).saturating_add(self.setting.borrow().offset_ms)
    }

    /// Now in Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    /// How far the wallets' clock is ahead of the machine's, in milliseconds.
    pub fn offset_ms(&self) -> i64 {
        self.setting.borrow().offset_ms
    }

    /// Puts the wallets' clock `offset_ms` ahead of the machine's (negative: behind). Waits become shorter by a jump ahead.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.setting.send_modify(|setting| setting.offset_ms = offset_ms);
    }

    /// Moves the wallets' clock ahead; whatever was due meanwhile happens at once.
    pub fn advance(&self, span: Duration) {
        let span_ms = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        self.setting.send_modify(|setting| setting.offset_ms = setting.offset_ms.saturating_add(span_ms));
    }

    /// Real seconds that pass for one second of a wallet's schedule (default 1.0; 0.0 means at once).
    pub fn set_schedule_scale(&self, scale: f64) {
        self.setting.send_modify(|setting| setting.scale = scale.max(0.0));
    }

    /// The scale as set.
    pub fn schedule_scale(&self) -> f64 {
        self.setting.borrow().scale
    }

    /// A span of a wallet's schedule in milliseconds of [`Clock::now_ms`]: what the scale leaves of it.
    pub fn scaled_ms(&self, span_ms: u64) -> i64 {
        // Rounded up: a pause that is asked for is never none.
        (span_ms as f64 * self.schedule_scale()).ceil() as i64
    }

    /// Waits for `span` of the wallets' schedule time. Cancel safe.
    pub async fn wait(&self, span: Duration) {
        let mut changes = self.setting.subscribe();
        let mut left_s = span.as_secs_f64();
        loop {
            let before = *changes.borrow_and_update();
            if left_s <= 0.0 || before.scale <= 0.0 {
                return;
            }
            let began = Instant::now();
            let real = Duration::try_from_secs_f64(left_s * before.scale).unwrap_or(Duration::MAX);
            tokio::select! {
                () = tokio::time::sleep(real) => return,
                _ = changes.changed() => {
                    let after = *changes.borrow();
                    left_s -= began.elapsed().as_secs_f64() / before.scale;
                    left_s -= (after.offset_ms - before.offset_ms) as f64 / 1000.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_jump_ahead_ends_a_wait() {
        let clock = std::sync::Arc::new(Clock::new(1.0));
        let waiting = tokio::spawn({
            let clock = clock.clone();
            async move { clock.wait(Duration::from_secs(3600)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(3601));
        tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("in time").expect("no panic");
        assert!(clock.offset_ms() == 3_601_000);
    }

    #[tokio::test]
    async fn a_scale_shortens_a_wait() {
        let clock = Clock::new(0.000_001);
        tokio::time::timeout(Duration::from_secs(5), clock.wait(Duration::from_secs(24 * 3600)))
            .await
            .expect("in time");
    }
}
