//! Events that wait too long: given up, or shown.

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryTrait, Value};

use super::{
    deliveries::{CHUNK, EARLIER, filled_up, free},
    entity::merchant_events::{ActiveModel, Column, Entity},
    error::StoreError,
    pool::Store,
};
use crate::domain::{event::EventState, time::Timestamp};

impl Store {
    /// Parks at most `limit` events whose schedule began before then and whose endpoints are paused still, after a try that
    /// failed: a scheduler that was away tries them first. Those that a person paused wait for that person, and an event whose
    /// endpoint is not paused has its twelve tries, however long it waited for them. Answers how many.
    pub async fn park_overdue_events(
        &self,
        scheduled_before: Timestamp,
        now: Timestamp,
        limit: u64,
    ) -> Result<u64, StoreError> {
        // An endpoint's next try is in the past only while nobody makes it.
        let sql = "SELECT e.id FROM endpoints p JOIN merchant_events e ON e.endpoint = p.id \
             WHERE p.paused AND NOT p.by_hand AND p.probe_at > ? AND e.state IN ('pending', 'held') AND e.scheduled_from < ? \
             AND (e.lease_until IS NULL OR e.lease_until <= ?) LIMIT ?";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [now.ms().into(), scheduled_before.ms().into(), now.ms().into(), limit.into()];
        let ids = self.event_ids(sql, values).await?;
        let mut parked = 0;
        for chunk in ids.chunks(CHUNK) {
            let update = Entity::update_many()
                .set(ActiveModel { state: Set(EventState::Parked.as_str().to_owned()), ..Default::default() })
                .filter(Column::Id.is_in(filled_up(chunk)))
                .filter(Column::State.is_in([EventState::Pending.as_str(), EventState::Held.as_str()]))
                .filter(Column::ScheduledFrom.lt(scheduled_before.ms()))
                .filter(free(now));
            parked += self.execute(self.build(&update.into_query())).await?;
        }
        Ok(parked)
    }

    /// When the event that waits longest for a sender should have gone out; `None`: none is late. What waits for an earlier one
    /// of its order, or for a paused endpoint, waits for no sender.
    pub async fn oldest_due_event(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!(
            "SELECT e.next_at AS oldest FROM merchant_events e WHERE e.state = 'pending' AND e.next_at <= ? \
             AND NOT EXISTS (SELECT 1 FROM endpoints p WHERE p.id = e.endpoint AND p.paused) \
             AND NOT EXISTS ({EARLIER}) ORDER BY e.next_at LIMIT 1"
        );
        self.moment(&sql, [now.ms().into(), now.ms().into()]).await
    }

    /// When the event that is held longest should have gone out although its endpoint is not paused; `None`: there is none.
    pub async fn oldest_held_event(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT MIN(oldest) AS oldest FROM (SELECT (SELECT MIN(e.next_at) FROM merchant_events e \
             WHERE e.endpoint = p.id AND e.state = 'held') AS oldest FROM endpoints p WHERE NOT p.paused) waiting";
        self.moment(sql, []).await
    }

    async fn moment(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<Timestamp>, StoreError> {
        let statement = self.sql(sql, values);
        let row = self.read("merchant_events", |db| async move { db.query_one_raw(statement).await }).await?;
        let ms = row.map(|row| row.try_get::<Option<i64>>("", "oldest")).transpose()?.flatten();
        Ok(ms.map(Timestamp::from_ms))
    }
}
