//! Endpoints that fail: paused, tried by one event at a time, and resumed.
//!
//! What is due for a paused endpoint, or beyond what a slow one will take soon, is *held*: it leaves the queue that every look
//! goes through, and comes back a part at a time.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{
    deliveries::{CHUNK, DueEvent, EARLIER, EndpointId, filled_up, free},
    entity::{endpoints, merchant_events},
    error::StoreError,
    merchant_events::endpoint,
    pool::Store,
    rows::{self, In},
};
use crate::domain::{
    event::{EventState, origin},
    id::MerchantId,
    time::Timestamp,
};

/// How an endpoint is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    pub merchant: MerchantId,
    /// Scheme, host and port.
    pub origin: String,
    /// Tries in a row that were not accepted.
    pub failures: u32,
    pub paused: bool,
    /// Paused by a person, until a person resumes it.
    pub by_hand: bool,
    /// When one event tries it again.
    pub probe_at: Option<Timestamp>,
    pub changed_at: Timestamp,
}

/// When an endpoint is paused, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PauseRule {
    /// So many failures in a row pause it.
    pub after_failures: u32,
    /// The first pause; each further failure doubles it.
    pub first: Duration,
    pub most: Duration,
}

impl PauseRule {
    /// How long it is left alone after so many failures in a row; `None`: it is not.
    pub fn pause(&self, failures: u32) -> Option<Duration> {
        let beyond = failures.checked_sub(self.after_failures)?;
        let doubled = self.first.saturating_mul(1 << Ord::min(beyond, 20));
        Some(Ord::min(doubled, self.most))
    }
}

impl Store {
    /// Its last try was not accepted. Answers whether it is paused by now.
    pub async fn endpoint_failed(&self, event: &DueEvent, rule: PauseRule, now: Timestamp) -> Result<bool, StoreError> {
        use endpoints::{Column, Entity};

        let id = &event.endpoint.0;
        self.know_endpoint(event.merchant, &event.url, now).await?;
        let count = Entity::update_many()
            .set(endpoints::ActiveModel { changed_at: Set(now.ms()), ..Default::default() })
            .col_expr(Column::Failures, Expr::col(Column::Failures).add(1))
            .filter(Column::Id.eq(id))
            .into_query();
        self.execute(self.build(&count)).await?;
        let select = Entity::find_by_id(id);
        let row = self.read("endpoints", |db| async move { select.one(&*db).await }).await?;
        let Some(row) = row else { return Ok(false) };
        let Some(pause) = rule.pause(u32::try_from(row.failures).unwrap_or(u32::MAX)) else { return Ok(row.paused) };
        let update = Entity::update_many()
            .set(endpoints::ActiveModel {
                paused: Set(true),
                probe_at: Set(Some(now.plus(pause).ms())),
                ..Default::default()
            })
            .filter(Column::Id.eq(id))
            .filter(Column::ByHand.eq(false))
            // Whoever got through meanwhile is right.
            .filter(Column::Failures.gte(row.failures))
            .into_query();
        Ok(self.execute(self.build(&update)).await? > 0 || row.paused)
    }

    /// Its last try was accepted. Costs a read when it never failed.
    pub async fn endpoint_answered(&self, endpoint: &EndpointId, now: Timestamp) -> Result<(), StoreError> {
        use endpoints::{Column, Entity};

        let select = Entity::find_by_id(&endpoint.0).filter(Column::Failures.gt(0));
        if self.read("endpoints", |db| async move { select.one(&*db).await }).await?.is_none() {
            return Ok(());
        }
        let update = Entity::update_many()
            .set(endpoints::ActiveModel {
                failures: Set(0),
                paused: Set(false),
                probe_at: Set(None),
                changed_at: Set(now.ms()),
                ..Default::default()
            })
            .filter(Column::Id.eq(&endpoint.0))
            .filter(Column::ByHand.eq(false))
            .into_query();
        self.execute(self.build(&update)).await?;
        Ok(())
    }

    /// Holds up to `limit` events that are due for a paused endpoint. Answers how many.
    pub async fn hold_paused_events(&self, now: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let sql = "SELECT e.id FROM endpoints p JOIN merchant_events e ON e.endpoint = p.id \
             WHERE p.paused AND e.state = 'pending' AND e.next_at <= ? \
             AND (e.lease_until IS NULL OR e.lease_until <= ?) LIMIT ?";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let ids = self.event_ids(sql, [now.ms().into(), now.ms().into(), limit.into()]).await?;
        self.move_events(&ids, EventState::Pending, EventState::Held).await
    }

    /// Holds what is due for an endpoint beyond twice `keep`, the newest first, until `keep` are left: a long queue of one
    /// merchant must not make every look at the others' slow. Answers how many.
    pub async fn hold_excess_events(&self, now: Timestamp, keep: u64) -> Result<u64, StoreError> {
        use merchant_events::{Column, Entity};

        let due = || Column::State.eq(EventState::Pending.as_str()).and(Column::NextAt.lte(now.ms()));
        let crowded = Entity::find()
            .select_only()
            .column(Column::Endpoint)
            .column_as(Column::Id.count(), "waiting")
            .filter(due())
            .group_by(Column::Endpoint)
            .having(Column::Id.count().gt(i64::try_from(2 * keep).unwrap_or(i64::MAX)))
            .into_tuple::<(String, i64)>();
        let mut held = 0;
        for (endpoint, waiting) in self.read("merchant_events", |db| async move { crowded.all(&*db).await }).await? {
            let one = Entity::find().filter(Column::Endpoint.eq(&endpoint)).filter(due());
            let one = self.read("merchant_events", |db| async move { one.one(&*db).await }).await?;
            let Some(one) = one else { continue };
            // Only a known endpoint's events are let out again.
            let merchant =
                rows::merchant_id(one.merchant_id).map_err(|column| column.of("merchant_events", &one.id))?;
            self.know_endpoint(merchant, &one.url, now).await?;
            let newest = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(Column::Endpoint.eq(endpoint))
                .filter(due())
                .filter(free(now))
                .order_by_desc(Column::NextAt)
                .limit(u64::try_from(waiting).unwrap_or(0).saturating_sub(keep))
                .into_tuple::<String>();
            let ids = self.read("merchant_events", |db| async move { newest.all(&*db).await }).await?;
            held += self.move_events(&ids, EventState::Pending, EventState::Held).await?;
        }
        Ok(held)
    }

    /// Lets up to `per_endpoint` held events go out for each endpoint that is not paused, as long as no more than that wait
    /// there already. Answers how many.
    pub async fn release_held_events(&self, per_endpoint: u64) -> Result<u64, StoreError> {
        use merchant_events::{Column, Entity};

        // The endpoints that hold something are few, and `endpoint, state` is the head of an index.
        let select = Entity::find()
            .select_only()
            .column(Column::Endpoint)
            .filter(Column::State.eq(EventState::Held.as_str()))
            .filter(
                Column::Endpoint.in_subquery(
                    endpoints::Entity::find()
                        .select_only()
                        .column(endpoints::Column::Id)
                        .filter(endpoints::Column::Paused.eq(false))
                        .into_query(),
                ),
            )
            .distinct()
            .limit(64)
            .into_tuple::<String>();
        let mut released = 0;
        for endpoint in self.read("merchant_events", |db| async move { select.all(&*db).await }).await? {
            let waiting = Entity::find()
                .filter(Column::Endpoint.eq(&endpoint))
                .filter(Column::State.eq(EventState::Pending.as_str()))
                .limit(per_endpoint);
            let waiting = self.read("merchant_events", |db| async move { waiting.count(&*db).await }).await?;
            let oldest = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(Column::Endpoint.eq(endpoint))
                .filter(Column::State.eq(EventState::Held.as_str()))
                .order_by_asc(Column::NextAt)
                .limit(per_endpoint.saturating_sub(waiting))
                .into_tuple::<String>();
            let ids = self.read("merchant_events", |db| async move { oldest.all(&*db).await }).await?;
            released += self.move_events(&ids, EventState::Held, EventState::Pending).await?;
        }
        Ok(released)
    }

    /// For each paused endpoint whose time has come, at most `limit`, the event that waited longest: nobody else gets it, nor
    /// another of its endpoint, for `lease_for`.
    pub async fn lease_probes(
        &self,
        now: Timestamp,
        lease_for: Duration,
        limit: u64,
    ) -> Result<Vec<DueEvent>, StoreError> {
        use endpoints::{Column, Entity};

        let due = || Column::Paused.eq(true).and(Column::ProbeAt.lte(now.ms()));
        let select = Entity::find().select_only().column(Column::Id).filter(due()).limit(limit).into_tuple::<String>();
        let mut probes = Vec::new();
        for endpoint in self.read("endpoints", |db| async move { select.all(&*db).await }).await? {
            let sql = format!(
                "SELECT e.id FROM merchant_events e WHERE e.endpoint = ? AND e.state = 'held' AND e.next_at <= ? \
                 AND NOT EXISTS ({EARLIER}) ORDER BY e.next_at LIMIT 1"
            );
            let ids = self.event_ids(&sql, [endpoint.clone().into(), now.ms().into(), now.ms().into()]).await?;
            if ids.is_empty() {
                continue;
            }
            let claim = Entity::update_many()
                .set(endpoints::ActiveModel { probe_at: Set(Some(now.plus(lease_for).ms())), ..Default::default() })
                .filter(Column::Id.eq(endpoint))
                .filter(due())
                .into_query();
            if self.execute(self.build(&claim)).await? > 0 {
                probes.extend(self.lease_events(&ids, EventState::Held, now, lease_for).await?);
            }
        }
        Ok(probes)
    }

    /// Pauses a merchant's endpoint until [`Store::resume_endpoint`]: its events wait and are not given up.
    pub async fn pause_endpoint(&self, merchant: MerchantId, url: &str, now: Timestamp) -> Result<(), StoreError> {
        self.know_endpoint(merchant, url, now).await?;
        let paused = endpoints::ActiveModel {
            paused: Set(true),
            by_hand: Set(true),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
            ..Default::default()
        };
        self.change_endpoint(merchant, url, paused).await?;
        Ok(())
    }

    /// Resumes an endpoint, whoever paused it. Answers whether there was anything to resume.
    pub async fn resume_endpoint(&self, merchant: MerchantId, url: &str, now: Timestamp) -> Result<bool, StoreError> {
        let resumed = endpoints::ActiveModel {
            failures: Set(0),
            paused: Set(false),
            by_hand: Set(false),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
            ..Default::default()
        };
        self.change_endpoint(merchant, url, resumed).await
    }

    /// Endpoints that failed or were paused, by merchant.
    pub async fn list_endpoints(&self, limit: u64) -> Result<Vec<EndpointRow>, StoreError> {
        let select = endpoints::Entity::find()
            .order_by_asc(endpoints::Column::MerchantId)
            .order_by_asc(endpoints::Column::Id)
            .limit(limit);
        let rows = self.read("endpoints", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(endpoint_row).collect()
    }

    async fn know_endpoint(&self, merchant: MerchantId, url: &str, now: Timestamp) -> Result<(), StoreError> {
        let row = endpoints::ActiveModel {
            id: Set(endpoint(merchant, url)),
            merchant_id: Set(i64::from(merchant.0)),
            origin: Set(origin(url)),
            failures: Set(0),
            paused: Set(false),
            by_hand: Set(false),
            probe_at: Set(None),
            changed_at: Set(now.ms()),
        };
        self.insert_if_absent(endpoints::Entity::insert(row).into_query()).await?;
        Ok(())
    }

    async fn change_endpoint(
        &self,
        merchant: MerchantId,
        url: &str,
        row: endpoints::ActiveModel,
    ) -> Result<bool, StoreError> {
        let update = endpoints::Entity::update_many()
            .set(row)
            .filter(endpoints::Column::Id.eq(endpoint(merchant, url)))
            .into_query();
        Ok(self.execute(self.build(&update)).await? > 0)
    }

    async fn move_events(&self, ids: &[String], from: EventState, to: EventState) -> Result<u64, StoreError> {
        use merchant_events::{ActiveModel, Column, Entity};

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

fn endpoint_row(row: endpoints::Model) -> Result<EndpointRow, StoreError> {
    let id = row.id;
    let read = || {
        Ok(EndpointRow {
            merchant: rows::merchant_id(row.merchant_id)?,
            origin: row.origin,
            failures: u32::try_from(row.failures).at("failures")?,
            paused: row.paused,
            by_hand: row.by_hand,
            probe_at: row.probe_at.map(Timestamp::from_ms),
            changed_at: Timestamp::from_ms(row.changed_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("endpoints", id))
}
