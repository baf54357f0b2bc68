//! How long the queues in this process are, and what is to go wrong with them.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of the embedded broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddedSettings {
    /// Commands that may wait.
    pub orders_max: usize,
    /// Notifications that may wait.
    pub notifications_max: usize,
    /// Parked messages that may wait; past that, parking fails and the message comes again.
    pub parked_max: usize,
    /// Replies that a front may leave untaken.
    pub replies_max: usize,
    /// Set by tests alone.
    #[serde(skip)]
    pub faults: EmbeddedFaults,
}

impl Default for EmbeddedSettings {
    fn default() -> Self {
        Self {
            orders_max: 2_400,
            notifications_max: 10_000,
            parked_max: 10_000,
            replies_max: 10_000,
            faults: EmbeddedFaults::default(),
        }
    }
}

/// What goes wrong, each in so many of 1000 cases. The same seed and the same order of calls give the same faults; time
/// is tokio's, so a paused clock works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbeddedFaults {
    pub seed: u64,
    /// A publish is refused as full, and surely not taken.
    pub refuse: u16,
    /// An answer is lost: a publish ends as *unknown*, and every second of them is not taken. Replies are just lost.
    pub drop: u16,
    /// A message arrives twice; neither copy says so.
    pub double: u16,
    /// A message is put at any place among those that wait.
    pub reorder: u16,
    /// A message or a reply arrives up to `delay_max` later than it was kept.
    pub delay: u16,
    pub delay_max: Duration,
}
