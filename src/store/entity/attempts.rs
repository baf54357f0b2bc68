//! Table `attempts`. One try of an order at a wallet. The `query_*` columns are the scheduler's lease and the page's pull; the aggregate does not
//! know them. `query_wanted`: a page waits for the next answer, and the question goes before the others of its account.
//! The `refund*` columns are written by a refund's own transaction alone: what is set aside, what was paid back, how many hold a
//! part, and when one was last sent. `payer_amount_fen` and `paid_at` are of what the wallet calls paid, disputed or not.

use sea_orm::entity::prelude::*;

// No `Debug` that prints: the row holds what may not reach a log.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "attempts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub order_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub no: i32,
    pub wallet: String,
    pub account_id: i64,
    pub mini_program_id: i64,
    pub app_id: String,
    pub payer_kind: String,
    pub payer_id: String,
    pub frozen_body: String,
    pub frozen_notify_url: String,
    pub state: String,
    pub ticket: Option<String>,
    pub ticket_at: Option<i64>,
    pub trade_no: Option<String>,
    pub payer_amount_fen: Option<i64>,
    pub paid_at: Option<i64>,
    pub dispute: Option<String>,
    pub started_at: i64,
    pub sends: i32,
    pub refusals: i32,
    pub handed_out_at: Option<i64>,
    pub next_query_at: Option<i64>,
    pub queries: i32,
    pub query_token: Option<String>,
    pub query_leased_until: Option<i64>,
    pub query_pulled_at: Option<i64>,
    pub query_wanted: bool,
    pub refund_reserved_fen: i64,
    pub refunded_fen: i64,
    pub refund_count: i32,
    pub refund_sent_at: Option<i64>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("attempts row (***)")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(belongs_to = "super::orders::Entity", from = "Column::OrderId", to = "super::orders::Column::Id")]
    Order,
}

impl Related<super::orders::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Order.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
