//! Merchant events as they are written: in the transaction of the change that they tell of.

use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryTrait, Statement,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{
    entity::{
        merchant_events::{Column, Entity},
        orders,
    },
    error::{Cause, StoreError},
    pool::Store,
    run::Rows,
};
use crate::{
    domain::{
        event::{EventKind, EventState, MerchantEvent, NotifyId, origin},
        id::MerchantId,
        order::Order,
        time::Timestamp,
    },
    keys::mac::{hex, sha256},
};

/// The column of `orders` that counts its events. The aggregate does not know it, and no commit sets it but by these writes.
pub(in crate::store) const SEQUENCE: &str = "event_sequence";

/// Names an endpoint: a merchant's origin. Two merchants on one server are two endpoints.
pub(in crate::store) fn endpoint(merchant: MerchantId, url: &str) -> String {
    hex(&sha256(format!("{merchant}\n{}", origin(url)).as_bytes())[..16])
}

impl Store {
    /// The statements that tell a merchant of a change, for the transaction that makes it; call [`Store::wake_senders`] once
    /// it is committed.
    ///
    /// The order's row is locked by the first of them, if it was not before: that puts the events of one order in order. An
    /// event of the same order, kind and refund that exists already stays as it is. A payment withdraws a close that was not
    /// delivered; news of a refund makes what waits for its next try go first, at once, and takes the place of earlier news of
    /// the same refund.
    pub(in crate::store) fn event_writes(
        &self,
        order: &Order,
        event: &MerchantEvent,
        at: Timestamp,
    ) -> Result<Vec<(Statement, Rows)>, StoreError> {
        let order_id = order.id.to_string();
        let count = orders::Entity::update_many()
            .col_expr(SEQUENCE, Expr::col(SEQUENCE).add(1))
            .filter(orders::Column::Id.eq(&order_id))
            .into_query();
        let mut writes = vec![(self.build(&count), Rows::One)];

        let undelivered = |states: &[EventState]| {
            Entity::update_many()
                .filter(Column::OrderId.eq(&order_id))
                .filter(Column::State.is_in(states.iter().map(|state| state.as_str())))
        };
        match event.kind() {
            EventKind::Pay => {
                // One that is on its way at this moment stays withdrawn unless the merchant takes it; it is not sent again.
                let withdraw = undelivered(&[EventState::Pending, EventState::Held, EventState::Parked])
                    .col_expr(Column::State, Expr::value(EventState::Withdrawn.as_str()))
                    .filter(Column::Kind.eq(EventKind::Close.as_str()));
                writes.push((self.build(&withdraw.into_query()), Rows::Any));
            }
            EventKind::Refund => {
                let now = undelivered(&[EventState::Pending])
                    .col_expr(Column::NextAt, Expr::value(at.ms()))
                    .filter(Column::NextAt.gt(at.ms()));
                // One that was not tried yet waits for the end of a try, see `earlier_news`. The try that it is given now is on top:
                // a payment that cannot be told for a day must not be given up in minutes, because twelve refunds are told.
                let now = now.col_expr(Column::Tries, Expr::col(Column::Tries).sub(1)).filter(Column::Tries.gt(0));
                writes.push((self.build(&now.into_query()), Rows::Any));
                writes.push((self.earlier_news(order, event, at)?, Rows::Any));
            }
            EventKind::Close => {}
        }
        writes.push((self.event_insert(order, event, at)?, Rows::Any));
        Ok(writes)
    }

    /// A refund has one event. What was told of it before (not delivered, failed) is no longer so: the new event takes its row,
    /// under a number of its own, so that whoever drops repeats hears it.
    ///
    /// A try of the earlier one may be under way: the new one waits for its end, or the merchant might hear it first.
    fn earlier_news(&self, order: &Order, event: &MerchantEvent, at: Timestamp) -> Result<Statement, StoreError> {
        let mut update = Entity::update_many()
            .filter(Column::OrderId.eq(order.id.to_string()))
            .filter(Column::Kind.eq(event.kind().as_str()))
            .filter(Column::RefundNo.eq(event.refund_no()));
        let lease_until = || Expr::col(Column::LeaseUntil);
        // MySQL sets one after the other: the lease is read before it is taken away.
        for (column, value) in columns(order, event, at)? {
            let value = match column {
                Column::NextAt => Expr::case(lease_until().gt(at.ms()), lease_until()).finally(value).into(),
                _ => value,
            };
            update = update.col_expr(column, value);
        }
        for (column, none) in [
            (Column::LeaseToken, Expr::value(None::<String>)),
            (Column::LeaseUntil, Expr::value(None::<i64>)),
            (Column::LastStatus, Expr::value(None::<i32>)),
            (Column::LastTrouble, Expr::value(None::<String>)),
            (Column::LastAt, Expr::value(None::<i64>)),
        ] {
            update = update.col_expr(column, none);
        }
        Ok(self.build(&update.into_query()))
    }

    fn event_insert(&self, order: &Order, event: &MerchantEvent, at: Timestamp) -> Result<Statement, StoreError> {
        let (names, values): (Vec<_>, Vec<_>) = columns(order, event, at)?.into_iter().unzip();
        let insert = Query::insert()
            .into_table(Entity)
            .columns(names)
            .values_panic(values)
            // Named columns: MySQL then keeps its strictness about values, which `INSERT IGNORE` would drop.
            .on_conflict(
                OnConflict::columns([Column::OrderId, Column::Kind, Column::RefundNo])
                    .do_nothing_on([Column::OrderId])
                    .to_owned(),
            )
            .take();
        Ok(self.build(&insert))
    }

    /// There may be something to send that nobody in this process saw yet: an event was committed.
    pub fn wake_senders(&self) {
        self.inner.events_written.notify_one();
    }

    /// Returns when this process has committed an event, perhaps one that was sent meanwhile. Cancel safe.
    pub async fn event_written(&self) {
        self.inner.events_written.notified().await;
    }
}

/// A fresh event, to go at once.
fn columns(order: &Order, event: &MerchantEvent, at: Timestamp) -> Result<[(Column, Expr); 14], StoreError> {
    let facts =
        event.facts(order).map_err(|_| StoreError::Rejected { cause: Cause::new("an event that is no JSON") })?;
    let url = event.url(order);
    let sequence = Query::select()
        .column(SEQUENCE)
        .from(orders::Entity)
        .and_where(Expr::col(orders::Column::Id).eq(order.id.to_string()))
        .take();
    Ok([
        (Column::Id, Expr::value(NotifyId::fresh().to_string())),
        (Column::MerchantId, Expr::value(i64::from(order.merchant.0))),
        (Column::OrderId, Expr::value(order.id.to_string())),
        (Column::Kind, Expr::value(event.kind().as_str())),
        (Column::RefundNo, Expr::value(event.refund_no())),
        (Column::Sequence, Expr::SubQuery(None, Box::new(sequence.into()))),
        (Column::Facts, Expr::value(facts)),
        (Column::Url, Expr::value(url)),
        (Column::Endpoint, Expr::value(endpoint(order.merchant, url))),
        (Column::State, Expr::value(EventState::Pending.as_str())),
        (Column::Tries, Expr::value(0)),
        (Column::NextAt, Expr::value(at.ms())),
        (Column::ScheduledFrom, Expr::value(at.ms())),
        (Column::CreatedAt, Expr::value(at.ms())),
    ])
}
