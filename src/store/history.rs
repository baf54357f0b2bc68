//! What happened to an order, for people.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, UpdateMany,
    sea_query::Expr,
};

use super::{
    entity::{anomalies, attempts, order_events},
    error::StoreError,
    pool::Store,
};
use crate::domain::{
    id::{AttemptNo, CommandId, OrderId},
    money::Fen,
    order::{AnomalyKind, Handled},
    time::Timestamp,
};

/// One commit of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// The order's version after it; without gaps, as every commit writes one.
    pub version: i64,
    /// What happened, in order.
    pub events: Vec<String>,
    /// The order's state after it.
    pub state: String,
    pub command: Option<CommandId>,
    /// What a person said who decided something with it.
    pub note: Option<String>,
    pub at: Timestamp,
}

/// Money that needs an eye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnomalyRow {
    pub id: i64,
    pub order: OrderId,
    pub attempt: AttemptNo,
    pub kind: AnomalyKind,
    pub detail: String,
    pub at: Timestamp,
    pub handled: Handled,
}

impl Store {
    /// All commits of an order, oldest first.
    pub async fn history(&self, order: OrderId) -> Result<Vec<HistoryRow>, StoreError> {
        let select = order_events::Entity::find()
            .filter(order_events::Column::OrderId.eq(order.to_string()))
            .order_by_asc(order_events::Column::Version);
        let rows = self.read("order_events", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter()
            .map(|row| {
                let command = row.command_id.as_deref().map(CommandId::parse).transpose().map_err(|_| {
                    StoreError::corrupt("order_events", "command_id", format_args!("{order}/{}", row.version))
                })?;
                Ok(HistoryRow {
                    version: row.version,
                    events: row.events.split(',').map(str::to_owned).collect(),
                    state: row.state,
                    command,
                    note: row.note,
                    at: Timestamp::from_ms(row.at),
                })
            })
            .collect()
    }

    /// The anomalies of an order, oldest first.
    pub async fn anomalies(&self, order: OrderId) -> Result<Vec<AnomalyRow>, StoreError> {
        let select = anomalies::Entity::find()
            .filter(anomalies::Column::OrderId.eq(order.to_string()))
            .order_by_asc(anomalies::Column::Id);
        let rows = self.read("anomalies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(anomaly).collect()
    }

    /// Anomalies that wait for their merchant's policy, the oldest first, at most `limit`, those behind number `after`.
    pub async fn due_anomalies(&self, after: i64, limit: u64) -> Result<Vec<AnomalyRow>, StoreError> {
        let select = anomalies::Entity::find()
            .filter(anomalies::Column::Handled.eq(Handled::Due.as_str()))
            .filter(anomalies::Column::Id.gt(after))
            .order_by_asc(anomalies::Column::Id)
            .limit(limit);
        let rows = self.read("anomalies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(anomaly).collect()
    }

    /// Notes what became of an anomaly. Answers whether it was still due.
    pub async fn handle_anomaly(&self, id: i64, handled: Handled) -> Result<bool, StoreError> {
        Ok(self.execute(self.build(&handling(id, handled).into_query())).await? > 0)
    }

    /// Notes an anomaly as given back, if nothing of its payment of `paid` is free: a refund that fails in that moment comes before
    /// it, and is seen here, or after it, and takes it to a person. Answers false when it does not, or it was not due any more.
    pub async fn note_given_back(&self, row: &AnomalyRow, paid: Fen) -> Result<bool, StoreError> {
        // Changes nothing, and holds the row that every refund's change goes through.
        let all_set_aside = attempts::Entity::update_many()
            .col_expr(attempts::Column::RefundCount, Expr::col(attempts::Column::RefundCount))
            .filter(attempts::Column::OrderId.eq(row.order.to_string()))
            .filter(attempts::Column::No.eq(i32::from(row.attempt.get())))
            .filter(attempts::Column::RefundReservedFen.gte(paid.get()))
            .into_query();
        let guards = vec![self.build(&all_set_aside), self.build(&handling(row.id, Handled::Refunded).into_query())];
        Ok(self.run_if_all(guards, Vec::new()).await?.is_none())
    }

    /// The newest anomalies of all orders, at most `limit`; only those handled so, unless all are wanted.
    pub async fn list_anomalies(&self, handled: Option<Handled>, limit: u64) -> Result<Vec<AnomalyRow>, StoreError> {
        let mut select = anomalies::Entity::find().order_by_desc(anomalies::Column::Id).limit(limit);
        if let Some(handled) = handled {
            select = select.filter(anomalies::Column::Handled.eq(handled.as_str()));
        }
        let rows = self.read("anomalies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(anomaly).collect()
    }
}

/// Of one that is due.
fn handling(id: i64, handled: Handled) -> UpdateMany<anomalies::Entity> {
    let row = anomalies::ActiveModel { handled: Set(handled.as_str().to_owned()), ..Default::default() };
    anomalies::Entity::update_many()
        .set(row)
        .filter(anomalies::Column::Id.eq(id))
        .filter(anomalies::Column::Handled.eq(Handled::Due.as_str()))
}

fn anomaly(row: anomalies::Model) -> Result<AnomalyRow, StoreError> {
    let corrupt = |column| StoreError::corrupt("anomalies", column, row.id);
    Ok(AnomalyRow {
        id: row.id,
        order: OrderId::parse(&row.order_id).map_err(|_| corrupt("order_id"))?,
        attempt: u8::try_from(row.attempt_no).ok().and_then(AttemptNo::new).ok_or_else(|| corrupt("attempt_no"))?,
        kind: AnomalyKind::parse(&row.kind).ok_or_else(|| corrupt("kind"))?,
        detail: row.detail,
        at: Timestamp::from_ms(row.at),
        handled: Handled::parse(&row.handled).ok_or_else(|| corrupt("handled"))?,
    })
}
