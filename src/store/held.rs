//! Events that wait for their endpoint and not for a time: *held*, outside the queue that every look goes through.
//!
//! What is due for a paused endpoint is held, and what is beyond that which a slow endpoint, or one merchant, will take soon;
//! it comes back a part at a time.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryResult, QuerySelect,
    QueryTrait, Value, sea_query::ExprTrait,
};

use super::{
    deliveries::{CHUNK, EARLIER, EndpointId, filled_up},
    entity::merchant_events::{ActiveModel, Column, Entity},
    error::StoreError,
    pool::Store,
    rows,
};
use crate::domain::{event::EventState, time::Timestamp};

/// A merchant may have so many times as much waiting as one endpoint: it has more than one, but no end of them.
const MERCHANT_TIMES: u64 = 4;
/// Endpoints that one call lets events out for.
const ENDPOINTS_AT_ONCE: u64 = 64;

impl Store {
    /// Holds up to `limit` events that are due for a paused endpoint. Answers how many.
    pub async fn hold_paused_events(&self, now: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let sql = "SELECT e.id FROM endpoints p JOIN merchant_events e ON e.endpoint = p.id \
             WHERE p.paused AND e.state = 'pending' AND e.next_at <= ? \
             AND (e.lease_until IS NULL OR e.lease_until <= ?) LIMIT ?";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ids = self.event_ids(sql, [now.ms().into(), now.ms().into(), limit.into()]).await?;
        self.move_events(&ids, EventState::Pending, EventState::Held).await
    }

    /// Holds what is due for an endpoint beyond twice `keep`, the newest first, until `keep` are left, and for a merchant beyond
    /// four times as many: a long queue of one merchant must not make every look at the others' slow. At most `limit` in all.
    /// Answers how many.
    pub async fn hold_excess_events(&self, now: Timestamp, keep: u64, limit: u64) -> Result<u64, StoreError> {
        let mut held = 0;
        for (crowd, keep) in [(Column::Endpoint, keep), (Column::MerchantId, keep.saturating_mul(MERCHANT_TIMES))] {
            held += self.hold_excess_of(crowd, now, keep, limit.saturating_sub(held)).await?;
        }
        Ok(held)
    }

    async fn hold_excess_of(&self, crowd: Column, now: Timestamp, keep: u64, limit: u64) -> Result<u64, StoreError> {
        let due = || Column::State.eq(EventState::Pending.as_str()).and(Column::NextAt.lte(now.ms()));
        // One event stands for its crowd.
        let crowded = Entity::find()
            .select_only()
            .column_as(Column::Id.max(), "one")
            .column_as(Column::Id.count(), "waiting")
            .filter(due())
            .group_by(crowd)
            .having(Column::Id.count().gt(i64::try_from(keep.saturating_mul(2)).unwrap_or(i64::MAX)))
            .into_tuple::<(String, i64)>();
        let mut held = 0;
        for (one, waiting) in self.read("merchant_events", |db| async move { crowded.all(&*db).await }).await? {
            let excess = Ord::min(u64::try_from(waiting).unwrap_or(0).saturating_sub(keep), limit - held);
            held += beside_others(self.hold_newest_of(crowd, one, now, excess).await)?;
        }
        Ok(held)
    }

    /// Holds so many of the crowd that this event stands for.
    async fn hold_newest_of(&self, crowd: Column, one: String, now: Timestamp, excess: u64) -> Result<u64, StoreError> {
        let one = Entity::find_by_id(one);
        let one = self.read("merchant_events", |db| async move { one.one(&*db).await }).await?;
        let Some(one) = one.filter(|_| excess > 0) else { return Ok(0) };
        let (whose, who): (_, Value) = match crowd {
            Column::Endpoint => ("endpoint", one.endpoint.into()),
            _ => ("merchant_id", one.merchant_id.into()),
        };
        let newest = self.newest_due(whose, who, now, excess).await?;
        let mut known = std::collections::HashSet::new();
        for (id, endpoint, url, merchant) in &newest {
            // Only a known endpoint's events are let out again.
            if known.insert(endpoint) {
                let merchant = rows::merchant_id(*merchant).map_err(|column| column.of("merchant_events", id))?;
                self.know_endpoint(merchant, url, now).await?;
            }
        }
        let ids: Vec<String> = newest.into_iter().map(|(id, ..)| id).collect();
        self.move_events(&ids, EventState::Pending, EventState::Held).await
    }

    /// Events of an endpoint or a merchant that are due and on nobody's way: first those that wait for an earlier one of their
    /// order, which could not go anyway, then the newest. Held without it they would keep its place.
    async fn newest_due(
        &self,
        whose: &str,
        who: Value,
        now: Timestamp,
        limit: u64,
    ) -> Result<Vec<(String, String, String, i64)>, StoreError> {
        let sql = format!(
            "SELECT e.id, e.endpoint, e.url, e.merchant_id FROM merchant_events e \
             WHERE e.{whose} = ? AND e.state = 'pending' AND e.next_at <= ? AND (e.lease_until IS NULL OR e.lease_until <= ?) \
             ORDER BY CASE WHEN EXISTS ({EARLIER}) THEN 0 ELSE 1 END, e.next_at DESC LIMIT ?"
        );
        let (at, limit) = (Value::from(now.ms()), i64::try_from(limit).unwrap_or(i64::MAX));
        let statement = self.sql(&sql, [who, at.clone(), at.clone(), at, limit.into()]);
        let rows = self.read("merchant_events", |db| async move { db.query_all_raw(statement).await }).await?;
        let read =
            |row: &QueryResult| Ok((row.try_get_by(0)?, row.try_get_by(1)?, row.try_get_by(2)?, row.try_get_by(3)?));
        rows.iter().map(|row| read(row).map_err(|error: DbErr| StoreError::from(error))).collect()
    }

    /// Lets up to `per_endpoint` held events go out for each endpoint that is not paused, as long as no more than that are due
    /// there already, nor four times as many for its merchant.
    ///
    /// Looks at some endpoints, from the one after `after` on. Answers how many went out, and where the next call begins; `None`:
    /// at the first again.
    pub async fn release_held_events(
        &self,
        now: Timestamp,
        per_endpoint: u64,
        after: Option<&EndpointId>,
    ) -> Result<(u64, Option<EndpointId>), StoreError> {
        let sql = "SELECT p.id FROM endpoints p WHERE NOT p.paused AND p.id > ? \
             AND EXISTS (SELECT 1 FROM merchant_events e WHERE e.endpoint = p.id AND e.state = 'held') \
             ORDER BY p.id LIMIT ?";
        let limit = i64::try_from(ENDPOINTS_AT_ONCE).unwrap_or(i64::MAX);
        let after = after.map_or("", |endpoint| endpoint.0.as_str());
        let endpoints = self.event_ids(sql, [after.into(), limit.into()]).await?;
        let more = u64::try_from(endpoints.len()).is_ok_and(|found| found == ENDPOINTS_AT_ONCE);
        let next = endpoints.last().filter(|_| more).cloned().map(EndpointId);
        let mut released = 0;
        for endpoint in endpoints {
            released += beside_others(self.release_held_of(endpoint, now, per_endpoint).await)?;
        }
        Ok((released, next))
    }

    async fn release_held_of(&self, endpoint: String, now: Timestamp, per_endpoint: u64) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT e.id FROM merchant_events e WHERE e.endpoint = ? AND e.state = 'held' AND NOT EXISTS ({EARLIER}) \
             ORDER BY e.next_at LIMIT ?"
        );
        let (who, limit) = (Value::from(endpoint), i64::try_from(per_endpoint).unwrap_or(i64::MAX));
        let held = self.event_ids(&sql, [who.clone(), now.ms().into(), limit.into()]).await?;
        let Some(first) = held.first() else { return Ok(0) };
        let first = Entity::find_by_id(first);
        let first = self.read("merchant_events", |db| async move { first.one(&*db).await }).await?;
        let Some(first) = first else { return Ok(0) };
        let room = self.room("endpoint", who, now, per_endpoint).await?;
        let most = per_endpoint.saturating_mul(MERCHANT_TIMES);
        let room = Ord::min(room, self.room("merchant_id", first.merchant_id.into(), now, most).await?);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let ids: Vec<String> = held.into_iter().take(room).collect();
        self.move_events(&ids, EventState::Held, EventState::Pending).await
    }

    /// How many fewer than `most` could go there now. What waits for its next try takes nobody's place, nor does what waits for
    /// an earlier event of its order, which may itself be held.
    async fn room(&self, whose: &str, who: Value, now: Timestamp, most: u64) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT e.id FROM merchant_events e WHERE e.{whose} = ? AND e.state = 'pending' AND e.next_at <= ? \
             AND NOT EXISTS ({EARLIER}) LIMIT ?"
        );
        let (at, limit) = (Value::from(now.ms()), i64::try_from(most).unwrap_or(i64::MAX));
        let due = self.event_ids(&sql, [who, at.clone(), at, limit.into()]).await?;
        Ok(most.saturating_sub(u64::try_from(due.len()).unwrap_or(u64::MAX)))
    }

    async fn move_events(&self, ids: &[String], from: EventState, to: EventState) -> Result<u64, StoreError> {
        let mut moved = 0;
        for chunk in ids.chunks(CHUNK) {
            let update = Entity::update_many()
                .set(ActiveModel { state: Set(to.as_str().to_owned()), ..Default::default() })
                .filter(Column::Id.is_in(filled_up(chunk)))
                .filter(Column::State.eq(from.as_str()))
                .into_query();
            moved += self.execute(self.build(&update)).await?;
        }
        Ok(moved)
    }
}

/// What one endpoint's or merchant's rows have against it keeps nobody else's waiting; a database that is away does.
fn beside_others(moved: Result<u64, StoreError>) -> Result<u64, StoreError> {
    match moved {
        Err(error) if !error.is_passing() => {
            tracing::error!(%error, "the events of one endpoint or merchant cannot be held or let out");
            Ok(0)
        }
        moved => moved,
    }
}
