//! Login codes: each is exchanged once, for one order. The row is written before the wallet is asked.

use std::fmt;

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, EntityTrait, QueryFilter, QueryTrait,
};

use super::{
    entity::code_exchanges::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
    rows::{self, In},
};
use crate::domain::{
    id::{AppId, CommandId, OrderId},
    payer::Payer,
    time::Timestamp,
};

/// The keyed hash of a login code: without the key nobody can test codes against the table.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeHash(pub [u8; 32]);

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeHash(***)")
    }
}

/// Who may exchange a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// The caller, now, once; it tells [`Store::finish_exchange`] how it ended.
    Started,
    /// Nobody: it was exchanged for this payer.
    Known(Payer),
    /// Nobody: it belongs to another order.
    OtherOrder,
    /// Nobody: another command is at it.
    Running { command: CommandId, since: Timestamp },
    /// Nobody: this very command began and never ended, so the wallet may have used the code up.
    Burnt,
    /// Nobody: the wallet refused it.
    Refused,
}

const RUNNING: &str = "running";
const DONE: &str = "done";
const REFUSED: &str = "refused";

impl Store {
    /// Asks for the right to exchange a code, and takes it if it is free. One statement, two when it is not.
    pub async fn begin_exchange(
        &self,
        app_id: &AppId,
        code_hash: CodeHash,
        order: OrderId,
        command: CommandId,
        now: Timestamp,
    ) -> Result<Exchange, StoreError> {
        let row = ActiveModel {
            app_id: Set(app_id.to_string()),
            code_hash: Set(code_hash.0.to_vec()),
            order_id: Set(order.to_string()),
            command_id: Set(command.to_string()),
            state: Set(RUNNING.to_owned()),
            payer_kind: NotSet,
            payer_id: NotSet,
            started_at: Set(now.ms()),
            finished_at: NotSet,
        };
        if self.insert_if_absent(Entity::insert(row).into_query()).await? {
            return Ok(Exchange::Started);
        }
        let select = Entity::find_by_id((app_id.to_string(), code_hash.0.to_vec()));
        match self.read("code_exchanges", |db| async move { select.one(&*db).await }).await? {
            Some(row) => {
                // The hash is not told; the order finds the row as well.
                let id = format!("{}/***, order {}", row.app_id, row.order_id);
                found(row, order, command).map_err(|column| column.of("code_exchanges", id))
            }
            // Swept between the two statements: as old as that, no wallet takes the code.
            None => Ok(Exchange::Refused),
        }
    }

    /// Keeps how an exchange ended, at once and by itself: a code is worth one answer. `None` is a refusal.
    ///
    /// Answers whether it was this command's exchange and still running; otherwise nothing was written.
    pub async fn finish_exchange(
        &self,
        app_id: &AppId,
        code_hash: CodeHash,
        command: CommandId,
        payer: Option<&Payer>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel {
            state: Set(if payer.is_some() { DONE } else { REFUSED }.to_owned()),
            payer_kind: Set(payer.map(|payer| payer.kind.as_str().to_owned())),
            payer_id: Set(payer.map(|payer| payer.expose_id().to_owned())),
            finished_at: Set(Some(now.ms())),
            ..Default::default()
        };
        let update = Entity::update_many()
            .set(row)
            .filter(Column::AppId.eq(app_id.as_str()))
            .filter(Column::CodeHash.eq(code_hash.0.to_vec()))
            .filter(Column::CommandId.eq(command.to_string()))
            .filter(Column::State.eq(RUNNING));
        Ok(self.execute(self.build(&update.into_query())).await? == 1)
    }

    /// Whether this very command began the exchange of a code, however it ended.
    pub async fn began_exchange(
        &self,
        app_id: &AppId,
        code_hash: CodeHash,
        command: CommandId,
    ) -> Result<bool, StoreError> {
        let find = Entity::find_by_id((app_id.to_string(), code_hash.0.to_vec()))
            .filter(Column::CommandId.eq(command.to_string()));
        Ok(self.read("code_exchanges", |db| async move { find.one(&*db).await }).await?.is_some())
    }

    /// Gives the right back: the wallet surely was not asked, and the code is still good.
    pub async fn abandon_exchange(
        &self,
        app_id: &AppId,
        code_hash: CodeHash,
        command: CommandId,
    ) -> Result<(), StoreError> {
        let delete = Entity::delete_many()
            .filter(Column::AppId.eq(app_id.as_str()))
            .filter(Column::CodeHash.eq(code_hash.0.to_vec()))
            .filter(Column::CommandId.eq(command.to_string()))
            .filter(Column::State.eq(RUNNING));
        self.execute(self.build(&delete.into_query())).await?;
        Ok(())
    }

    /// Deletes at most `limit` exchanges begun before a moment, the oldest first. Answers how many.
    pub async fn sweep_exchanges(&self, before: Timestamp, limit: u64) -> Result<u64, StoreError> {
        self.sweep("code_exchanges", ["app_id", "code_hash"], "started_at", before, limit).await
    }
}

fn found(row: Model, order: OrderId, command: CommandId) -> Result<Exchange, rows::Column> {
    if OrderId::parse(&row.order_id).at("order_id")? != order {
        return Ok(Exchange::OtherOrder);
    }
    match row.state.as_str() {
        DONE => {
            let kind = row.payer_kind.at("payer_kind")?;
            Ok(Exchange::Known(rows::payer(&kind, row.payer_id.at("payer_id")?)?))
        }
        REFUSED => Ok(Exchange::Refused),
        RUNNING => {
            let holder = CommandId::parse(&row.command_id).at("command_id")?;
            Ok(if holder == command {
                Exchange::Burnt
            } else {
                Exchange::Running { command: holder, since: Timestamp::from_ms(row.started_at) }
            })
        }
        _ => Err(rows::Column("state")),
    }
}
