//! Messages set aside for a person, with the reason.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, sea_query::Expr,
};

use super::{
    entity::parked::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
};
use crate::{
    domain::{id::OrderId, time::Timestamp},
    keys::{Back, Sealed},
};

/// A message nobody could handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The message's id, or any name that its redelivery has too: it is parked once. At most 64 ASCII characters.
    pub id: String,
    pub queue: String,
    /// The kind of message, when it could be read.
    pub kind: Option<String>,
    pub order: Option<OrderId>,
    pub reason: String,
    /// Its body with identities masked by whoever parks it.
    pub body_masked: String,
    /// The whole body, sealed under the message's id as row name.
    pub body_sealed: Option<Sealed<Back>>,
    pub received_at: Timestamp,
}

impl Store {
    /// Parks a message. Answers `false` when it was parked before.
    pub async fn park(&self, message: &Parked, now: Timestamp) -> Result<bool, StoreError> {
        let row = ActiveModel {
            id: Set(message.id.clone()),
            queue: Set(message.queue.clone()),
            kind: Set(message.kind.clone()),
            order_id: Set(message.order.map(|order| order.to_string())),
            reason: Set(message.reason.clone()),
            body_masked: Set(message.body_masked.clone()),
            body_sealed: Set(message.body_sealed.as_ref().map(|sealed| sealed.as_text().to_owned())),
            received_at: Set(message.received_at.ms()),
            parked_at: Set(now.ms()),
        };
        self.insert_if_absent(Entity::insert(row).into_query()).await
    }

    /// What was parked last, at most `limit`.
    pub async fn list_parked(&self, limit: u64) -> Result<Vec<Parked>, StoreError> {
        let select = Entity::find().order_by_desc(Column::ParkedAt).limit(limit);
        let rows = self.read("parked", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(read).collect()
    }

    /// One parked message.
    pub async fn parked(&self, id: &str) -> Result<Option<Parked>, StoreError> {
        let select = Entity::find_by_id(id);
        let row = self.read("parked", |db| async move { select.one(&*db).await }).await?;
        row.map(read).transpose()
    }

    /// Parked messages by id, at most `limit`, from the one after `after` on: pages of all of them.
    pub async fn parked_after(&self, after: &str, limit: u64) -> Result<Vec<Parked>, StoreError> {
        let select = Entity::find().filter(Column::Id.gt(after)).order_by_asc(Column::Id).limit(limit);
        let rows = self.read("parked", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(read).collect()
    }

    /// The ids of notifications with a whole body whose reason has this text in it, oldest first, at most `limit`.
    pub async fn parked_notices_because(&self, reason: &str, limit: u64) -> Result<Vec<String>, StoreError> {
        let select = Entity::find()
            .select_only()
            .columns([Column::Id, Column::Reason])
            .filter(Column::Kind.eq("notice"))
            .filter(Column::BodySealed.is_not_null())
            .filter(Column::Reason.contains(reason))
            .order_by_asc(Column::Id)
            .limit(limit)
            .into_tuple::<(String, String)>();
        let rows = self.read("parked", |db| async move { select.all(&*db).await }).await?;
        // LIKE has wildcards, and SQLite's does not tell `A` from `a`.
        Ok(rows.into_iter().filter(|(_, why)| why.contains(reason)).map(|(id, _)| id).collect())
    }

    /// Forgets a message that is on its way again. Answers `false` when somebody else did.
    pub async fn unpark(&self, id: &str) -> Result<bool, StoreError> {
        let delete = Entity::delete_by_id(id).into_query();
        Ok(self.execute(self.build(&delete)).await? == 1)
    }

    /// Replaces a sealed body, if it is still as it was read. Answers whether it was.
    pub async fn reseal_parked(&self, id: &str, from: &Sealed<Back>, to: &Sealed<Back>) -> Result<bool, StoreError> {
        let update = Entity::update_many()
            .col_expr(Column::BodySealed, Expr::value(to.as_text()))
            .filter(Column::Id.eq(id))
            .filter(Column::BodySealed.eq(from.as_text()))
            .into_query();
        Ok(self.execute(self.build(&update)).await? == 1)
    }
}

fn read(row: Model) -> Result<Parked, StoreError> {
    let order = row.order_id.as_deref().map(OrderId::parse).transpose();
    Ok(Parked {
        order: order.map_err(|_| StoreError::corrupt("parked", "order_id", &row.id))?,
        id: row.id,
        queue: row.queue,
        kind: row.kind,
        reason: row.reason,
        body_masked: row.body_masked,
        body_sealed: row.body_sealed.map(Sealed::from_text),
        received_at: Timestamp::from_ms(row.received_at),
    })
}
