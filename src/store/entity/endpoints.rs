//! Table `endpoints`. Where merchants' events go and fail; an endpoint that never failed has no row.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub merchant_id: i64,
    pub origin: String,
    /// In a row, over all its events.
    pub failures: i32,
    pub paused: bool,
    pub by_hand: bool,
    /// When one event tries it again; none while it is paused by hand.
    pub probe_at: Option<i64>,
    pub changed_at: i64,
    /// The end of the lease of the event that tries it while it is paused; the past, or none: no such try is under way.
    pub probed_until: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
