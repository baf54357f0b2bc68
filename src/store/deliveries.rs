//! Events on their way: leased fairly over endpoints and merchants, and what became of each try.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QueryTrait, Statement, Value,
    sea_query::{Expr, ExprTrait},
};

use super::{
    entity::merchant_events::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::{Kind, Store},
    queries::LeaseToken,
    rows::{self, In},
};
use crate::domain::{
    event::{EventKind, EventState, NotifyId, deliver_again_in},
    id::{MerchantId, OrderId},
    time::Timestamp,
};

/// How many may be under way at once, over all schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryCaps {
    /// To one endpoint: a slow one takes no more.
    pub per_endpoint: u32,
    /// To all endpoints of one merchant that are not paused.
    pub per_merchant: u32,
}

impl DeliveryCaps {
    /// To the paused endpoints of one merchant: on top, and few, because each is likely to keep a place until its timeout.
    pub fn probes_per_merchant(&self) -> u32 {
        Ord::max(self.per_merchant / 4, 1)
    }
}

/// An event that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueEvent {
    pub id: NotifyId,
    pub merchant: MerchantId,
    pub order: OrderId,
    pub kind: EventKind,
    pub sequence: i64,
    /// See [`crate::domain::event::sent_body`].
    pub facts: String,
    pub url: String,
    pub endpoint: EndpointId,
    /// Tries before this one.
    pub tries: u32,
    pub due_at: Timestamp,
    pub created_at: Timestamp,
    /// It tries a paused endpoint again.
    pub probe: bool,
    pub lease: LeaseToken,
    /// From then on somebody else may send it.
    pub lease_until: Timestamp,
}

/// Names an endpoint: a merchant's origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointId(pub(in crate::store) String);

/// What became of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    /// The HTTP status, when it was answered.
    pub status: Option<u16>,
    pub end: TryEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryEnd {
    Accepted,
    /// Not accepted, for this reason; `None`: that was the last try.
    Not {
        trouble: &'static str,
        again_at: Option<Timestamp>,
    },
    /// Nothing was tried, for a reason of ours: it counts for nothing.
    NotMade {
        again_at: Timestamp,
    },
}

/// Beside these an event waits: an earlier one of its order that is still to go, or on its way.
///
/// A parked one is passed: an order whose payment could not be told for a day must not keep its refunds secret too.
pub(in crate::store) const EARLIER: &str = "SELECT 1 FROM merchant_events b WHERE b.order_id = e.order_id \
     AND b.sequence < e.sequence AND (b.state IN ('pending', 'held') OR b.lease_until > ?)";

impl Store {
    /// Takes up to `limit` events whose time has come; nobody else gets them for `lease_for`.
    ///
    /// First the first of every endpoint, then the second of every endpoint, and so on, among equals first the first of every
    /// merchant, at most so many as may be under way: a look at the queue without writing, UPDATE with the token, SELECT by it. What two schedulers choose at the same moment
    /// may be over a cap by as many.
    pub async fn lease_due_events(
        &self,
        now: Timestamp,
        lease_for: Duration,
        limit: u64,
        caps: DeliveryCaps,
    ) -> Result<Vec<DueEvent>, StoreError> {
        let ids = self.due_events(now, limit, caps).await?;
        self.lease_events(&ids, EventState::Pending, now, lease_for).await
    }

    async fn due_events(&self, now: Timestamp, limit: u64, caps: DeliveryCaps) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "SELECT id FROM ( \
               SELECT id, next_at, leased, place, ROW_NUMBER() OVER ( \
                 PARTITION BY merchant_id ORDER BY leased DESC, place, next_at) AS place_of_merchant FROM ( \
                 SELECT e.id, e.merchant_id, e.next_at, CASE WHEN e.lease_until > ? THEN 1 ELSE 0 END AS leased, \
                   ROW_NUMBER() OVER (PARTITION BY e.endpoint \
                     ORDER BY CASE WHEN e.lease_until > ? THEN 0 ELSE 1 END, e.next_at, e.sequence) AS place \
                 FROM merchant_events e WHERE e.state = 'pending' AND e.next_at <= ? \
                   AND NOT EXISTS (SELECT 1 FROM endpoints p WHERE p.id = e.endpoint AND p.paused) \
                   AND NOT EXISTS ({EARLIER}) \
               ) due WHERE place <= ? \
             ) fair WHERE leased = 0 AND place_of_merchant <= ? ORDER BY place, place_of_merchant, next_at LIMIT ?"
        );
        let now = Value::from(now.ms());
        let (endpoint, merchant) = (i64::from(caps.per_endpoint), i64::from(caps.per_merchant));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let values = [now.clone(), now.clone(), now.clone(), now, endpoint.into(), merchant.into(), limit.into()];
        let statement = self.sql(&sql, values);
        let rows = self.read("merchant_events", |db| async move { db.query_all_raw(statement).await }).await?;
        rows.iter().map(|row| row.try_get("", "id").map_err(StoreError::from)).collect()
    }

    /// Takes those of these events that nobody took meanwhile.
    pub(in crate::store) async fn lease_events(
        &self,
        ids: &[String],
        state: EventState,
        now: Timestamp,
        lease_for: Duration,
    ) -> Result<Vec<DueEvent>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut ids = ids.to_vec();
        // Everybody takes rows in the same order, or two who take the same ones may wait for each other.
        ids.sort_unstable();
        let lease = LeaseToken::fresh();
        let update = Entity::update_many()
            .set(ActiveModel {
                lease_token: Set(Some(lease.to_string())),
                lease_until: Set(Some(now.plus(lease_for).ms())),
                ..Default::default()
            })
            .filter(Column::Id.is_in(filled_up(&ids)))
            .filter(Column::State.eq(state.as_str()))
            .filter(Column::NextAt.lte(now.ms()))
            .filter(free(now));
        if self.execute(self.build(&update.into_query())).await? == 0 {
            return Ok(Vec::new());
        }
        let select = Entity::find()
            .filter(Column::Id.is_in(filled_up(&ids)))
            .filter(Column::LeaseToken.eq(lease.to_string()))
            .order_by_asc(Column::NextAt);
        let rows = self.read("merchant_events", |db| async move { select.all(&*db).await }).await?;
        let probe = state == EventState::Held;
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, tries) = (row.id.clone(), u32::try_from(row.tries).unwrap_or(0));
            match due_event(row, (lease, now.plus(lease_for)), probe) {
                Ok(event) => due.push(event),
                // A later release may have written it. The others of its batch do not wait for whoever can read it, nor do those
                // of its endpoint or its order for ever: it counts as tried.
                Err(error) => {
                    tracing::error!(%error, "an event that cannot be read is not sent");
                    let again_at = deliver_again_in(tries.saturating_add(1)).map(|gap| now.plus(gap));
                    let end = TryEnd::Not { trouble: "unreadable", again_at };
                    if let Err(error) = self.record(&id, lease, Tried { status: None, end }, now).await {
                        tracing::warn!(%error, "that an event cannot be read is not written down");
                    }
                }
            }
        }
        Ok(due)
    }

    /// Writes down what became of a try, unless its lease went to somebody else meanwhile. An event that was withdrawn while it
    /// was on its way stays so unless it was accepted.
    pub async fn record_try(&self, event: &DueEvent, tried: Tried, now: Timestamp) -> Result<(), StoreError> {
        self.record(&event.id.to_string(), event.lease, tried, now).await
    }

    async fn record(&self, id: &str, lease: LeaseToken, tried: Tried, now: Timestamp) -> Result<(), StoreError> {
        let freed = ActiveModel { lease_token: Set(None), lease_until: Set(None), ..Default::default() };
        let written = ActiveModel {
            last_status: Set(tried.status.map(i32::from)),
            last_trouble: Set(None),
            last_at: Set(Some(now.ms())),
            ..freed.clone()
        };
        let ours = |row: ActiveModel| {
            Entity::update_many().set(row).filter(Column::Id.eq(id)).filter(Column::LeaseToken.eq(lease.to_string()))
        };
        let counted = |row: ActiveModel| ours(row).col_expr(Column::Tries, Expr::col(Column::Tries).add(1));
        let update = match tried.end {
            TryEnd::Accepted => {
                counted(ActiveModel { state: Set(EventState::Delivered.as_str().to_owned()), ..written })
            }
            TryEnd::NotMade { again_at } => ours(ActiveModel { next_at: Set(again_at.ms()), ..freed }),
            TryEnd::Not { trouble, again_at } => {
                let written = ActiveModel { last_trouble: Set(Some(trouble.to_owned())), ..written };
                let on_its_way = [EventState::Pending, EventState::Held].map(EventState::as_str);
                let row = match again_at {
                    Some(at) => ActiveModel { next_at: Set(at.ms()), ..written.clone() },
                    None => ActiveModel { state: Set(EventState::Parked.as_str().to_owned()), ..written.clone() },
                };
                let update = counted(row).filter(Column::State.is_in(on_its_way)).into_query();
                if self.execute(self.build(&update)).await? > 0 {
                    return Ok(());
                }
                counted(written)
            }
        };
        self.execute(self.build(&update.into_query())).await?;
        Ok(())
    }

    pub(in crate::store) async fn event_ids(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<String>, StoreError> {
        let statement = self.sql(sql, values);
        let rows = self.read("merchant_events", |db| async move { db.query_all_raw(statement).await }).await?;
        rows.iter().map(|row| row.try_get("", "id").map_err(StoreError::from)).collect()
    }

    /// A statement written by hand; `?` stands for its values, in order, on every database.
    pub(in crate::store) fn sql(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> Statement {
        let text = match self.inner.kind {
            Kind::Sqlite | Kind::Mysql => sql.to_owned(),
            Kind::Postgres => {
                let mut parts = sql.split('?');
                let first = parts.next().unwrap_or_default().to_owned();
                parts.enumerate().fold(first, |text, (at, part)| format!("{text}${}{part}", at + 1))
            }
        };
        Statement::from_sql_and_values(self.inner.kind.backend(), text, values)
    }
}

/// So many ids are named in one statement.
pub(in crate::store) const CHUNK: usize = 512;

/// Filled up with its last id to a power of two: each length is a statement of its own in the connection's cache.
pub(in crate::store) fn filled_up(ids: &[String]) -> Vec<&str> {
    let fill = ids.len().next_power_of_two() - ids.len();
    ids.iter().chain(ids.last().into_iter().cycle().take(fill)).map(String::as_str).collect()
}

/// Nobody is sending it.
pub(in crate::store) fn free(now: Timestamp) -> sea_orm::Condition {
    sea_orm::Condition::any().add(Column::LeaseUntil.is_null()).add(Column::LeaseUntil.lte(now.ms()))
}

fn due_event(row: Model, (lease, lease_until): (LeaseToken, Timestamp), probe: bool) -> Result<DueEvent, StoreError> {
    let id = row.id.clone();
    let read = || {
        Ok(DueEvent {
            id: NotifyId::parse(&row.id).at("id")?,
            merchant: rows::merchant_id(row.merchant_id)?,
            order: OrderId::parse(&row.order_id).at("order_id")?,
            kind: EventKind::parse(&row.kind).at("kind")?,
            sequence: row.sequence,
            facts: row.facts,
            url: row.url,
            endpoint: EndpointId(row.endpoint),
            tries: u32::try_from(row.tries).at("tries")?,
            due_at: Timestamp::from_ms(row.next_at),
            created_at: Timestamp::from_ms(row.created_at),
            probe,
            lease,
            lease_until,
        })
    };
    read().map_err(|column: rows::Column| column.of("merchant_events", id))
}
