//! When the scheduler asks a wallet about an attempt: leased, so that one of many schedulers does; pulled forward, when a
//! page waits.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait, Order as Sort},
};
use uuid::Uuid;

use super::{
    entity::{
        attempts::{ActiveModel, Column, Entity},
        orders,
    },
    error::StoreError,
    pool::{Kind, Store},
};
use crate::domain::{
    id::{AttemptNo, OrderId},
    order::OrderState,
    time::Timestamp,
};

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

impl Store {
    /// Takes up to `limit` attempts whose time has come, the oldest first; nobody else gets them for `lease_for`.
    ///
    /// UPDATE with the token, then SELECT by it: two statements. A lease ends with the commit that schedules the next question
    /// or settles the attempt, or with its time.
    pub async fn lease_due_queries(
        &self,
        now: Timestamp,
        lease_for: Duration,
        limit: u64,
        token: LeaseToken,
    ) -> Result<Vec<(OrderId, AttemptNo)>, StoreError> {
        let is_due = || {
            Condition::all().add(Column::NextQueryAt.lte(now.ms())).add(
                Condition::any().add(Column::QueryLeasedUntil.is_null()).add(Column::QueryLeasedUntil.lte(now.ms())),
            )
        };
        let mut update = Entity::update_many()
            .set(ActiveModel {
                query_token: Set(Some(token.0.to_string())),
                query_leased_until: Set(Some(now.plus(lease_for).ms())),
                ..Default::default()
            })
            // Said again beside the subselect: a row that another worker took meanwhile is seen as it is now.
            .filter(is_due())
            .into_query();
        if self.inner.kind == Kind::Mysql {
            update.order_by(Column::NextQueryAt, Sort::Asc).limit(limit);
        } else {
            let due = Entity::find()
                .select_only()
                .columns([Column::OrderId, Column::No])
                .filter(is_due())
                .order_by_asc(Column::NextQueryAt)
                .limit(limit)
                .into_query();
            update.and_where(Expr::tuple([Expr::col(Column::OrderId), Expr::col(Column::No)]).in_subquery(due));
        }
        let taken = self.execute(self.build(&update)).await?;
        if taken == 0 {
            return Ok(Vec::new());
        }
        // The oldest due rows are ours: in this order the index is left after `taken` hits, however long the backlog.
        let select = Entity::find()
            .select_only()
            .columns([Column::OrderId, Column::No])
            .filter(Column::NextQueryAt.lte(now.ms()))
            .filter(Column::QueryToken.eq(token.0.to_string()))
            .order_by_asc(Column::NextQueryAt)
            .limit(taken)
            .into_tuple::<(String, i32)>();
        let rows = self.read("attempts", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter()
            .map(|(order, no)| {
                let id = OrderId::parse(&order).map_err(|_| StoreError::corrupt("attempts", "order_id", &order))?;
                let no = u8::try_from(no).ok().and_then(AttemptNo::new);
                Ok((id, no.ok_or_else(|| StoreError::corrupt("attempts", "no", &order))?))
            })
            .collect()
    }

    /// A question could not be asked: it is due again then, and its lease is over. Beside the aggregate, like a page's pull.
    pub async fn postpone_query(&self, order: OrderId, no: AttemptNo, until: Timestamp) -> Result<(), StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel {
                next_query_at: Set(Some(until.ms())),
                query_token: Set(None),
                query_leased_until: Set(None),
                ..Default::default()
            })
            .filter(Column::OrderId.eq(order.to_string()))
            .filter(Column::No.eq(i32::from(no.get())))
            .filter(Column::NextQueryAt.is_not_null());
        self.execute(self.build(&update.into_query())).await?;
        Ok(())
    }

    /// Orders past their expiry of which nothing may be payable, the oldest first, at most `limit`.
    pub async fn expired_waiting_orders(&self, before: Timestamp, limit: u64) -> Result<Vec<OrderId>, StoreError> {
        let select = orders::Entity::find()
            .select_only()
            .column(orders::Column::Id)
            .filter(orders::Column::State.eq(OrderState::Waiting.name()))
            .filter(orders::Column::ExpireAt.lt(before.ms()))
            .order_by_asc(orders::Column::ExpireAt)
            .limit(limit)
            .into_tuple::<String>();
        let ids = self.read("orders", |db| async move { select.all(&*db).await }).await?;
        ids.iter().map(|id| OrderId::parse(id).map_err(|_| StoreError::corrupt("orders", "id", id))).collect()
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

    /// A page waits: the next question about the order is due now, at most once per `min_gap`. Answers whether it was moved.
    ///
    /// It is a hint beside the aggregate: nothing but the time of a question moves, the order's version stays.
    pub async fn pull_query_forward(
        &self,
        order: OrderId,
        now: Timestamp,
        min_gap: Duration,
    ) -> Result<bool, StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel {
                next_query_at: Set(Some(now.ms())),
                query_pulled_at: Set(Some(now.ms())),
                ..Default::default()
            })
            .filter(Column::OrderId.eq(order.to_string()))
            .filter(Column::NextQueryAt.gt(now.ms()))
            .filter(
                Condition::any()
                    .add(Column::QueryPulledAt.is_null())
                    .add(Column::QueryPulledAt.lte(now.minus(min_gap).ms())),
            );
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }
}
