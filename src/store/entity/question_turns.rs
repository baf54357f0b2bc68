//! Table `question_turns`. How often one number's wallet may be asked, over all schedulers: the next question of an evenly
//! paced row of them falls on `free_at_us` (Unix microseconds), and each that is taken moves it on.
//!
//! By `number` and not by account: accounts of many merchants share a service provider's, and the wallet counts who calls.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "question_turns")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub wallet: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: String,
    pub free_at_us: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
