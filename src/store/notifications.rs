//! Events as merchants and operators see them: how each stands, and sending them again.

use std::collections::BTreeSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, UpdateMany,
    sea_query::{Expr, ExprTrait, UpdateStatement},
};

use super::{
    deliveries::{CHUNK, filled_up},
    entity::{
        endpoints,
        merchant_events::{ActiveModel, Column, Entity, Model},
        orders,
    },
    error::StoreError,
    merchant_events::SEQUENCE,
    pool::Store,
    rows::{self, In},
};
use crate::domain::{
    event::{EventKind, EventState, NotifyId},
    id::{MerchantId, OrderId},
    time::Timestamp,
};

/// One event and how its delivery stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    pub id: NotifyId,
    pub merchant: MerchantId,
    pub order: OrderId,
    pub kind: EventKind,
    pub refund_no: Option<String>,
    pub sequence: i64,
    pub facts: String,
    pub url: String,
    pub state: EventState,
    pub tries: u32,
    /// When it is tried next, while it is to go.
    pub next_at: Option<Timestamp>,
    /// The HTTP status of the last try, when it was answered.
    pub last_status: Option<u16>,
    /// Why the last try was not accepted, in one word.
    pub last_trouble: Option<String>,
    pub last_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// Which events, newest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventFilter {
    pub merchant: Option<MerchantId>,
    pub state: Option<EventState>,
}

/// Which events of a merchant are sent again: those of one state, written from then until before then.
#[derive(Debug, Clone, Copy)]
pub struct ResendMany {
    pub merchant: MerchantId,
    pub state: EventState,
    pub from: Timestamp,
    pub to: Timestamp,
    /// At most so many, the oldest first.
    pub limit: u64,
}

/// What became of a wish to send an event again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resent {
    /// Its schedule begins anew, now.
    Done,
    /// A close that a payment overtook is never sent: it would be untrue.
    Withdrawn,
    /// The merchant has none of this number.
    NoSuch,
}

impl Store {
    /// The events of an order, in sequence.
    pub async fn events_of_order(&self, order: OrderId) -> Result<Vec<EventRow>, StoreError> {
        let select = Entity::find().filter(Column::OrderId.eq(order.to_string())).order_by_asc(Column::Sequence);
        self.read_events(select).await
    }

    /// The newest events of a kind that a person looks for.
    pub async fn list_events(&self, filter: EventFilter, limit: u64) -> Result<Vec<EventRow>, StoreError> {
        let mut select = Entity::find().order_by_desc(Column::CreatedAt).order_by_desc(Column::Id).limit(limit);
        if let Some(merchant) = filter.merchant {
            select = select.filter(Column::MerchantId.eq(i64::from(merchant.0)));
        }
        if let Some(state) = filter.state {
            select = select.filter(Column::State.eq(state.as_str()));
        }
        self.read_events(select).await
    }

    /// One event, by its number.
    pub async fn event(&self, id: NotifyId) -> Result<Option<EventRow>, StoreError> {
        Ok(self.read_events(Entity::find_by_id(id.to_string())).await?.pop())
    }

    async fn read_events(&self, select: sea_orm::Select<Entity>) -> Result<Vec<EventRow>, StoreError> {
        let rows = self.read("merchant_events", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(event_row).collect()
    }

    /// Sends an event again, delivered or not. A merchant's own only: another's is not there. A paused endpoint is tried at once,
    /// unless a person paused it.
    pub async fn resend_event(&self, merchant: MerchantId, id: NotifyId, now: Timestamp) -> Result<Resent, StoreError> {
        let select = Entity::find_by_id(id.to_string()).filter(Column::MerchantId.eq(i64::from(merchant.0)));
        let found = self.read("merchant_events", |db| async move { select.one(&*db).await }).await?;
        let Some(found) = found else { return Ok(Resent::NoSuch) };
        let resent = self.resend(&[Wished::from(found)], None, now).await?;
        Ok(if resent > 0 { Resent::Done } else { Resent::Withdrawn })
    }

    /// Sends many events again. Answers how many, and whether there are more than `limit`.
    pub async fn resend_events(&self, which: ResendMany, now: Timestamp) -> Result<(u64, bool), StoreError> {
        if which.state == EventState::Withdrawn {
            return Ok((0, false));
        }
        let select = Entity::find()
            .filter(Column::MerchantId.eq(i64::from(which.merchant.0)))
            .filter(Column::State.eq(which.state.as_str()))
            .filter(Column::CreatedAt.gte(which.from.ms()))
            .filter(Column::CreatedAt.lt(which.to.ms()))
            .order_by_asc(Column::CreatedAt)
            .limit(which.limit.saturating_add(1));
        let found = self.read("merchant_events", |db| async move { select.all(&*db).await }).await?;
        let most = usize::try_from(which.limit).unwrap_or(usize::MAX);
        let more = found.len() > most;
        let wished: Vec<Wished> = found.into_iter().take(most).map(Wished::from).collect();
        let mut resent = 0;
        for chunk in wished.chunks(CHUNK) {
            resent += self.resend(chunk, Some(which.state), now).await?;
        }
        Ok((resent, more))
    }

    /// Begins the schedules of these events anew, of those that are in this state, in one transaction. Answers how many.
    async fn resend(&self, wished: &[Wished], state: Option<EventState>, now: Timestamp) -> Result<u64, StoreError> {
        let mut script = Vec::new();
        // A payment that is being committed decides whether a close is still true: its row is waited for first, and what is
        // read after is what it left.
        let closes = sorted(wished.iter().filter(|event| event.is_close).map(|event| &event.order));
        if !closes.is_empty() {
            let lock = orders::Entity::update_many()
                .col_expr(SEQUENCE, Expr::col(SEQUENCE))
                .filter(orders::Column::Id.is_in(filled_up(&closes)))
                .filter(orders::Column::State.eq("closed"));
            script.push(self.build(&lock.into_query()));
        }
        let endpoints = sorted(wished.iter().map(|event| &event.endpoint));
        script.push(self.build(&probe_now(&endpoints, now)));
        let ids = sorted(wished.iter().map(|event| &event.id));
        let mut update = anew(now)
            .filter(Column::Id.is_in(filled_up(&ids)))
            .filter(Column::State.ne(EventState::Withdrawn.as_str()))
            .filter(still_true());
        if let Some(state) = state {
            update = update.filter(Column::State.eq(state.as_str()));
        }
        script.push(self.build(&update.into_query()));
        let resent = self.run_all(script).await?;
        if resent > 0 {
            self.wake_senders();
        }
        Ok(resent)
    }
}

/// An event that is to be sent again.
struct Wished {
    id: String,
    order: String,
    endpoint: String,
    is_close: bool,
}

impl From<Model> for Wished {
    fn from(row: Model) -> Self {
        let is_close = row.kind == EventKind::Close.as_str();
        Self { id: row.id, order: row.order_id, endpoint: row.endpoint, is_close }
    }
}

/// Each once. Everybody takes rows in the same order, or two who take the same ones may wait for each other.
fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whoever asks for an event again has mended the server: it is not left alone any longer. A try that is under way is not doubled.
fn probe_now(endpoints: &[String], now: Timestamp) -> UpdateStatement {
    use endpoints::Column;

    let under_way = Column::ProbedUntil.gt(now.ms());
    endpoints::Entity::update_many()
        .set(endpoints::ActiveModel { probe_at: Set(Some(now.ms())), ..Default::default() })
        .filter(Column::Id.is_in(filled_up(endpoints)))
        .filter(Column::Paused.eq(true))
        .filter(Column::ByHand.eq(false))
        .filter(Column::ProbeAt.gt(now.ms()))
        .filter(Condition::any().add(Column::ProbedUntil.is_null()).add(under_way.not()))
        .into_query()
}

/// A close is told only while its order is closed: one that was delivered, or on its way, before a payment came is as untrue
/// as one that was withdrawn.
fn still_true() -> Condition {
    let closed = orders::Entity::find()
        .select_only()
        .column(orders::Column::Id)
        .filter(Expr::col((orders::Entity, orders::Column::Id)).equals((Entity, Column::OrderId)))
        .filter(orders::Column::State.eq("closed"))
        .into_query();
    Condition::any().add(Column::Kind.ne(EventKind::Close.as_str())).add(Expr::exists(closed))
}

/// A schedule that begins now. A try that is under way is not the one that was asked for: what becomes of it is not written. But it
/// may be arriving, so its lease goes on, for this event and for those after it.
fn anew(now: Timestamp) -> UpdateMany<Entity> {
    let lease_until = || Expr::col(Column::LeaseUntil);
    Entity::update_many()
        .set(ActiveModel {
            state: Set(EventState::Pending.as_str().to_owned()),
            tries: Set(0),
            scheduled_from: Set(now.ms()),
            lease_token: Set(None),
            ..Default::default()
        })
        .col_expr(Column::NextAt, Expr::case(lease_until().gt(now.ms()), lease_until()).finally(now.ms()).into())
}

fn event_row(row: Model) -> Result<EventRow, StoreError> {
    let id = row.id.clone();
    let read = || {
        let state = EventState::parse(&row.state).at("state")?;
        let to_go = matches!(state, EventState::Pending | EventState::Held);
        Ok(EventRow {
            id: NotifyId::parse(&row.id).at("id")?,
            merchant: rows::merchant_id(row.merchant_id)?,
            order: OrderId::parse(&row.order_id).at("order_id")?,
            kind: EventKind::parse(&row.kind).at("kind")?,
            refund_no: (!row.refund_no.is_empty()).then_some(row.refund_no),
            sequence: row.sequence,
            facts: row.facts,
            url: row.url,
            state,
            tries: u32::try_from(row.tries).at("tries")?,
            next_at: to_go.then(|| Timestamp::from_ms(row.next_at)),
            last_status: row.last_status.map(u16::try_from).transpose().at("last_status")?,
            last_trouble: row.last_trouble,
            last_at: row.last_at.map(Timestamp::from_ms),
            created_at: Timestamp::from_ms(row.created_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("merchant_events", id))
}
