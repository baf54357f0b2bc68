//! Events as merchants and operators see them: how each stands, and sending them again.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{
    deliveries::{CHUNK, filled_up},
    entity::{
        merchant_events::{ActiveModel, Column, Entity, Model},
        orders,
    },
    error::StoreError,
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

    /// Sends an event again, delivered or not. A merchant's own only: another's is not there.
    pub async fn resend_event(&self, merchant: MerchantId, id: NotifyId, now: Timestamp) -> Result<Resent, StoreError> {
        let update = Entity::update_many()
            .set(anew(now))
            .filter(Column::Id.eq(id.to_string()))
            .filter(Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(Column::State.ne(EventState::Withdrawn.as_str()))
            .filter(still_true())
            .into_query();
        if self.execute(self.build(&update)).await? > 0 {
            self.wake_senders();
            return Ok(Resent::Done);
        }
        let found = self.event(id).await?.filter(|event| event.merchant == merchant);
        Ok(if found.is_some() { Resent::Withdrawn } else { Resent::NoSuch })
    }

    /// Sends many events again. Answers how many, and whether there are more than `limit`.
    pub async fn resend_events(&self, which: ResendMany, now: Timestamp) -> Result<(u64, bool), StoreError> {
        if which.state == EventState::Withdrawn {
            return Ok((0, false));
        }
        let select = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::MerchantId.eq(i64::from(which.merchant.0)))
            .filter(Column::State.eq(which.state.as_str()))
            .filter(Column::CreatedAt.gte(which.from.ms()))
            .filter(Column::CreatedAt.lt(which.to.ms()))
            .order_by_asc(Column::CreatedAt)
            .limit(which.limit.saturating_add(1))
            .into_tuple::<String>();
        let mut ids = self.read("merchant_events", |db| async move { select.all(&*db).await }).await?;
        let most = usize::try_from(which.limit).unwrap_or(usize::MAX);
        let more = ids.len() > most;
        ids.truncate(most);
        let mut resent = 0;
        for chunk in ids.chunks(CHUNK) {
            let update = Entity::update_many()
                .set(anew(now))
                .filter(Column::Id.is_in(filled_up(chunk)))
                .filter(Column::State.eq(which.state.as_str()))
                .filter(still_true())
                .into_query();
            resent += self.execute(self.build(&update)).await?;
        }
        if resent > 0 {
            self.wake_senders();
        }
        Ok((resent, more))
    }
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

/// A schedule that begins now. A try that is under way is not the one that was asked for: what becomes of it is not written.
fn anew(now: Timestamp) -> ActiveModel {
    ActiveModel {
        state: Set(EventState::Pending.as_str().to_owned()),
        tries: Set(0),
        next_at: Set(now.ms()),
        scheduled_from: Set(now.ms()),
        lease_token: Set(None),
        lease_until: Set(None),
        ..Default::default()
    }
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
