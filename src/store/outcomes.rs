//! What commands ended in: a row each, written with the change that ended it, found by whoever waits.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, Insert, QueryFilter, QueryTrait,
    sea_query::{DeleteStatement, IntoColumnRef, Order as Sort, Query},
};

use super::{
    entity::outcomes,
    error::{Cause, StoreError},
    pool::{Kind, Store},
};
use crate::domain::{
    id::{CommandId, OrderId},
    outcome::Outcome,
    time::Timestamp,
};

/// So many ids are asked for in one statement.
const CHUNK: usize = 512;

pub(in crate::store) fn row(
    command: CommandId,
    order: OrderId,
    outcome: &Outcome,
    at: Timestamp,
) -> Result<outcomes::ActiveModel, StoreError> {
    let body = serde_json::to_string(outcome)
        .map_err(|_| StoreError::Rejected { cause: Cause::new("an outcome that is no JSON") })?;
    Ok(outcomes::ActiveModel {
        command_id: Set(command.to_string()),
        order_id: Set(order.to_string()),
        body: Set(body),
        at: Set(at.ms()),
    })
}

pub(in crate::store) fn insert(row: outcomes::ActiveModel) -> Insert<outcomes::ActiveModel> {
    outcomes::Entity::insert(row)
}

impl Store {
    /// What this command ended in, if it has.
    pub async fn outcome(&self, command: CommandId) -> Result<Option<Outcome>, StoreError> {
        Ok(self.outcomes(&[command]).await?.pop().map(|(_, outcome)| outcome))
    }

    /// The outcomes there are among these commands, in no order. One statement per 512 commands.
    pub async fn outcomes(&self, commands: &[CommandId]) -> Result<Vec<(CommandId, Outcome)>, StoreError> {
        let mut found = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(CHUNK) {
            // Filled up with its last id to a power of two: each length is a statement of its own, and all lengths together
            // would push the statements of every order out of the connection's cache.
            let fill = chunk.len().next_power_of_two() - chunk.len();
            let ids = chunk.iter().chain(chunk.last().into_iter().cycle().take(fill)).map(CommandId::to_string);
            let select = outcomes::Entity::find().filter(outcomes::Column::CommandId.is_in(ids));
            for row in self.read("outcomes", |db| async move { select.all(&*db).await }).await? {
                // One that a newer release wrote must not hide the others.
                match (CommandId::parse(&row.command_id), serde_json::from_str(&row.body)) {
                    (Ok(command), Ok(outcome)) => found.push((command, outcome)),
                    _ => tracing::error!(command = row.command_id, "an outcome cannot be read"),
                }
            }
        }
        Ok(found)
    }

    /// Keeps what a command ended in without changing an order. Answers the outcome that stands: an earlier one stays.
    pub async fn put_outcome(
        &self,
        command: CommandId,
        order: OrderId,
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<Outcome, StoreError> {
        if self.insert_if_absent(insert(row(command, order, outcome, now)?).into_query()).await? {
            return Ok(outcome.clone());
        }
        // A sweep may have taken it between the two statements; then nobody waits for it any more.
        Ok(self.outcome(command).await?.unwrap_or_else(|| outcome.clone()))
    }

    /// Deletes at most `limit` outcomes older than `before`. Answers how many.
    pub async fn sweep_outcomes(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.sweep("outcomes", ["command_id"], "at", before, limit).await
    }

    /// Deletes at most `limit` rows of a table whose `column` is before a moment, the oldest first.
    pub(in crate::store) async fn sweep<const N: usize>(
        &self,
        table: &'static str,
        key: [&'static str; N],
        column: &'static str,
        before: Timestamp,
        limit: u64,
    ) -> Result<u64, StoreError> {
        use sea_orm::sea_query::{Expr, ExprTrait};

        let mut delete = DeleteStatement::new();
        delete.from_table(table);
        if self.inner.kind == Kind::Mysql {
            // MySQL cannot select from the table it deletes from, but limits the delete itself.
            delete.and_where(Expr::col(column).lt(before.ms())).order_by(column, Sort::Asc).limit(limit);
        } else {
            let old = Query::select()
                .columns(key)
                .from(table)
                .and_where(Expr::col(column).lt(before.ms()))
                .order_by(column, Sort::Asc)
                .limit(limit)
                .take();
            let key = Expr::tuple(key.map(|column| Expr::Column(column.into_column_ref())));
            delete.and_where(key.in_subquery(old));
        }
        self.execute(self.build(&delete)).await
    }
}
