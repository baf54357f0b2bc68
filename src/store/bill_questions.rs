//! Which discrepancies a wallet is asked about, and when.

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait, Query},
};

use super::{
    discrepancies::{Discrepancy, discrepancy},
    due::scattered,
    entity::{
        bill_runs,
        discrepancies::{ActiveModel, Column, Entity},
    },
    error::StoreError,
    pool::Store,
};
use crate::domain::{
    bill::{BillDate, DiscrepancyKind, DiscrepancyState, Repair, RunState},
    id::AccountId,
    time::Timestamp,
};

impl Store {
    /// Open ones about which a wallet is to be asked by now, at most `limit`. What a bill lacks waits until its day is done, or
    /// given up: until then the wallet may still bring it.
    ///
    /// The accounts share `limit`, and each has first what was never asked about, then what is due for longest: a backlog costs
    /// its own account alone. With more accounts than `limit`, others are first at another moment.
    pub async fn due_discrepancies(&self, now: Timestamp, limit: u64) -> Result<Vec<Discrepancy>, StoreError> {
        let mut accounts = self.accounts_to_ask_about(now).await?;
        let count = u64::try_from(accounts.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return Ok(Vec::new());
        }
        accounts.rotate_left(usize::try_from(scattered(now) % count).unwrap_or(0));
        let share = limit.div_ceil(count);
        let (mut due, mut left) = (Vec::new(), limit);
        for account in accounts {
            if left == 0 {
                break;
            }
            let select = Entity::find()
                .filter(is_due(now))
                .filter(Column::AccountId.eq(account))
                // Databases differ in where they sort what is empty.
                .order_by_asc(Column::AskAt.is_not_null())
                .order_by_asc(Column::AskAt)
                .order_by_asc(Column::Id)
                .limit(std::cmp::min(share, left));
            for row in self.read("discrepancies", |db| async move { select.all(&*db).await }).await? {
                due.push(discrepancy(row)?);
                left -= 1;
            }
        }
        Ok(due)
    }

    /// The accounts for which something is due, by their numbers.
    async fn accounts_to_ask_about(&self, now: Timestamp) -> Result<Vec<i64>, StoreError> {
        let select = Entity::find()
            .select_only()
            .column(Column::AccountId)
            .distinct()
            .filter(is_due(now))
            .order_by_asc(Column::AccountId)
            .into_tuple::<i64>();
        self.read("discrepancies", |db| async move { select.all(&*db).await }).await
    }

    /// Takes one that is due, and has it due again at `next`. Answers whether nobody else was first.
    pub async fn take_discrepancy(&self, row: &Discrepancy, next: Timestamp) -> Result<bool, StoreError> {
        let as_seen = match row.ask_at {
            Some(at) => Column::AskAt.eq(at.ms()),
            None => Column::AskAt.is_null(),
        };
        let update = Entity::update_many()
            .set(ActiveModel { ask_at: Set(Some(next.ms())), ..Default::default() })
            .filter(Column::Id.eq(row.id))
            .filter(to_ask())
            .filter(as_seen);
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }

    /// Whether something of an account's day is open that a question to the wallet may settle.
    pub async fn is_to_be_asked(&self, account: AccountId, date: BillDate) -> Result<bool, StoreError> {
        let select = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(to_ask())
            .filter(Column::AccountId.eq(i64::from(account.0)))
            .filter(Column::Date.eq(date.to_string()))
            .limit(1)
            .into_tuple::<i64>();
        Ok(self.read("discrepancies", |db| async move { select.one(&*db).await }).await?.is_some())
    }
}

/// Open, and a question to the wallet may settle it.
fn to_ask() -> Condition {
    Condition::all()
        .add(Column::State.eq(DiscrepancyState::Open.as_str()))
        .add(Column::Repair.is_in([Repair::AskPayment.as_str(), Repair::AskRefund.as_str()]))
}

/// To be asked about by now.
fn is_due(now: Timestamp) -> Condition {
    let run = |column: bill_runs::Column| Expr::col((bill_runs::Entity, column));
    let its = |column: Column| Expr::col((Entity, column));
    let over = [RunState::Matched, RunState::None, RunState::Failed].map(RunState::as_str);
    let is_over = Query::select()
        .expr(Expr::value(1))
        .from(bill_runs::Entity)
        .and_where(run(bill_runs::Column::AccountId).eq(its(Column::AccountId)))
        .and_where(run(bill_runs::Column::Date).eq(its(Column::Date)))
        .and_where(run(bill_runs::Column::State).is_in(over))
        .take();
    let ripe = Condition::any().add(Column::Kind.ne(DiscrepancyKind::MissingThere.as_str())).add(Expr::exists(is_over));
    to_ask().add(Condition::any().add(Column::AskAt.is_null()).add(Column::AskAt.lte(now.ms()))).add(ripe)
}
