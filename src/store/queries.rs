//! When the scheduler asks a wallet about an attempt: put off, or pulled forward when a page waits. Who asks what is due, and
//! in which order, is in `due.rs`.

use std::time::Duration;

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

use super::{
    entity::{
        attempts::{ActiveModel, Column, Entity},
        orders,
    },
    error::StoreError,
    pool::Store,
};
use crate::domain::{attempt::Attempt, id::OrderId, order::OrderState, time::Timestamp};

/// Names one round of leases; nobody else's rows carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseToken(Uuid);

impl LeaseToken {
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    pub(in crate::store) fn text(self) -> String {
        self.0.to_string()
    }
}

impl std::fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Why a question is put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Postponed {
    /// Nobody asked: a page that waits for it still goes first.
    NoRoom,
    /// The wallet was asked and did not tell: it had its turn.
    NoAnswer,
}

/// An order's place among the expired ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredOrder {
    expire_at: i64,
    id: String,
}

impl Store {
    /// A question was not asked, or not answered: it is due again then, and its lease is over. Beside the aggregate, like a page's
    /// pull.
    ///
    /// `attempt` is as it was read before the question: one that a close or a prepay scheduled anew meanwhile keeps its new time.
    pub async fn postpone_query(
        &self,
        order: OrderId,
        attempt: &Attempt,
        until: Timestamp,
        why: Postponed,
    ) -> Result<(), StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel {
                next_query_at: Set(Some(until.ms())),
                query_wanted: match why {
                    Postponed::NoRoom => NotSet,
                    Postponed::NoAnswer => Set(false),
                },
                query_token: Set(None),
                query_leased_until: Set(None),
                ..Default::default()
            })
            .filter(Column::OrderId.eq(order.to_string()))
            .filter(Column::No.eq(i32::from(attempt.no.get())))
            .filter(Column::NextQueryAt.eq(attempt.next_query_at.map(Timestamp::ms)));
        self.execute(self.build(&update.into_query())).await?;
        Ok(())
    }

    /// Orders past their expiry of which nothing may be payable, the oldest first, at most `limit` from the one after `after`
    /// on. Disputed ones are not among them: a person decides about those.
    ///
    /// Answers them, and where the next page begins; `None`: there is none.
    pub async fn expired_waiting_orders(
        &self,
        before: Timestamp,
        after: Option<&ExpiredOrder>,
        limit: u64,
    ) -> Result<(Vec<OrderId>, Option<ExpiredOrder>), StoreError> {
        let disputed = Entity::find()
            .select_only()
            .column(Column::No)
            .filter(Expr::col((Entity, Column::OrderId)).equals((orders::Entity, orders::Column::Id)))
            .filter(Column::State.eq("disputed"))
            .into_query();
        let mut select = orders::Entity::find()
            .select_only()
            .columns([orders::Column::ExpireAt, orders::Column::Id])
            .filter(orders::Column::State.eq(OrderState::Waiting.name()))
            .filter(orders::Column::ExpireAt.lt(before.ms()))
            .filter(Expr::exists(disputed).not())
            .order_by_asc(orders::Column::ExpireAt)
            .order_by_asc(orders::Column::Id)
            .limit(limit);
        if let Some(ExpiredOrder { expire_at, id }) = after {
            select = select
                .filter(orders::Column::ExpireAt.gte(*expire_at))
                .filter(Condition::any().add(orders::Column::ExpireAt.gt(*expire_at)).add(orders::Column::Id.gt(id)));
        }
        let select = select.into_tuple::<(i64, String)>();
        let rows = self.read("orders", |db| async move { select.all(&*db).await }).await?;
        let full = u64::try_from(rows.len()).is_ok_and(|found| found == limit);
        let next =
            rows.last().filter(|_| full).map(|(expire_at, id)| ExpiredOrder { expire_at: *expire_at, id: id.clone() });
        // One that cannot be read keeps no other open.
        let readable = rows.iter().filter_map(|(_, id)| match OrderId::parse(id) {
            Ok(id) => Some(id),
            Err(_) => {
                let error = StoreError::corrupt("orders", "id", id);
                tracing::error!(%error, "an expired order that cannot be read is not closed");
                None
            }
        });
        Ok((readable.collect(), next))
    }

    /// Orders that a command holds, in no order.
    pub async fn leased_orders(&self) -> Result<Vec<OrderId>, StoreError> {
        let select = orders::Entity::find()
            .select_only()
            .column(orders::Column::Id)
            .filter(orders::Column::LeaseCommandId.is_not_null())
            .into_tuple::<String>();
        let ids = self.read("orders", |db| async move { select.all(&*db).await }).await?;
        ids.iter().map(|id| OrderId::parse(id).map_err(|_| StoreError::corrupt("orders", "id", id))).collect()
    }

    /// A page waits: the next question about the order is due now and goes before all others of its account, at most once per
    /// `min_gap`. Answers whether it will; a question that is being asked is left alone.
    ///
    /// It is a hint beside the aggregate: nothing but the time of a question moves, the order's version stays.
    pub async fn pull_query_forward(
        &self,
        order: OrderId,
        now: Timestamp,
        min_gap: Duration,
    ) -> Result<bool, StoreError> {
        // What has been due for longer keeps its time: the page is not the first who waits for it.
        let due_at =
            Expr::case(Expr::col(Column::NextQueryAt).gt(now.ms()), now.ms()).finally(Expr::col(Column::NextQueryAt));
        let update = Entity::update_many()
            .set(ActiveModel { query_pulled_at: Set(Some(now.ms())), query_wanted: Set(true), ..Default::default() })
            .col_expr(Column::NextQueryAt, due_at.into())
            .filter(Column::OrderId.eq(order.to_string()))
            .filter(Column::NextQueryAt.is_not_null())
            .filter(
                Condition::any()
                    .add(Column::NextQueryAt.gt(now.ms()))
                    .add(Column::QueryLeasedUntil.is_null())
                    .add(Column::QueryLeasedUntil.lte(now.ms())),
            )
            .filter(
                Condition::any()
                    .add(Column::QueryPulledAt.is_null())
                    .add(Column::QueryPulledAt.lte(now.minus(min_gap).ms())),
            );
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }
}
