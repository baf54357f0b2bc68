//! Bills of accounts and days: whose turn it is, and what came of each.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{CaseStatement, Expr, ExprTrait, Order as Sort},
};

use super::{
    entity::bill_runs::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::{Kind, Store},
    queries::LeaseToken,
    rows::{self, In, moment},
};
use crate::domain::{
    bill::{BillDate, RunState},
    id::AccountId,
    time::Timestamp,
};

/// What a bill came to, in rows and fen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BillTotals {
    pub payments: i64,
    pub pay_fen: i64,
    pub refunds: i64,
    pub refund_fen: i64,
    /// Rows of other systems or other accounts of ours: counted and not compared.
    pub of_others: i64,
    /// Rows that could not be read.
    pub unreadable: i64,
    /// Found by this look, dismissed ones too.
    pub discrepancies: i64,
}

impl BillTotals {
    pub const fn rows(&self) -> i64 {
        self.payments + self.refunds
    }
}

/// One account's bill of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillRun {
    pub id: i64,
    pub account: AccountId,
    pub date: BillDate,
    pub state: RunState,
    /// Counts the looks; the rows of a bill are noted under it.
    pub tries: u32,
    pub totals: BillTotals,
    /// When it is due, again or for the first time.
    pub next_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub matched_at: Option<Timestamp>,
}

/// How a look at a bill ended. With an error, a day that was done before stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    pub state: RunState,
    pub totals: BillTotals,
    pub next_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

impl RunEnd {
    /// Whether this look itself found out what the wallet says about the day.
    pub const fn is_good(&self) -> bool {
        self.state.is_done() && self.last_error.is_none()
    }
}

impl Store {
    /// Has an account's bill of a day fetched from `at` on, unless that was wanted before. Answers whether it was not.
    pub async fn want_bill(
        &self,
        account: AccountId,
        date: BillDate,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = ActiveModel {
            id: NotSet,
            account_id: Set(i64::from(account.0)),
            date: Set(date.to_string()),
            state: Set(RunState::Due.as_str().to_owned()),
            tries: Set(0),
            payments: Set(0),
            pay_fen: Set(0),
            refunds: Set(0),
            refund_fen: Set(0),
            of_others: Set(0),
            unreadable: Set(0),
            discrepancies: Set(0),
            lease_token: Set(None),
            leased_until: Set(None),
            next_at: Set(Some(at.ms())),
            last_error: Set(None),
            matched_at: Set(None),
            created_at: Set(now.ms()),
        };
        self.insert_if_absent(Entity::insert(row).into_query()).await
    }

    /// Takes the bill that is due for longest; nobody else gets it for `hold`.
    pub async fn lease_due_bill(
        &self,
        now: Timestamp,
        hold: BillHold,
        token: LeaseToken,
    ) -> Result<Option<BillRun>, StoreError> {
        let is_due = || Condition::all().add(Column::NextAt.lte(now.ms())).add(is_free(now));
        let mut update = taking(now, hold, token).filter(is_due()).into_query();
        if self.inner.kind == Kind::Mysql {
            update.order_by(Column::NextAt, Sort::Asc).limit(1);
        } else {
            let due = Entity::find()
                .select_only()
                .column(Column::Id)
                .filter(is_due())
                .order_by_asc(Column::NextAt)
                .limit(1)
                .into_query();
            update.and_where(Expr::col(Column::Id).in_subquery(due));
        }
        self.taken(self.execute(self.build(&update)).await?, token).await
    }

    /// Takes an account's bill of a day, due or done already. `None`: somebody is at it, or it was never wanted.
    pub async fn lease_bill(
        &self,
        account: AccountId,
        date: BillDate,
        now: Timestamp,
        hold: BillHold,
        token: LeaseToken,
    ) -> Result<Option<BillRun>, StoreError> {
        let update = taking(now, hold, token).filter(day(account, date)).filter(is_free(now)).into_query();
        self.taken(self.execute(self.build(&update)).await?, token).await
    }

    async fn taken(&self, rows: u64, token: LeaseToken) -> Result<Option<BillRun>, StoreError> {
        if rows == 0 {
            return Ok(None);
        }
        let select = Entity::find().filter(Column::LeaseToken.eq(token.text()));
        self.read("bill_runs", |db| async move { select.one(&*db).await }).await?.map(run).transpose()
    }

    /// Holds a bill for longer. Answers whether it was still held.
    pub async fn hold_bill(&self, id: i64, until: Timestamp, token: LeaseToken) -> Result<bool, StoreError> {
        let row = ActiveModel { leased_until: Set(Some(until.ms())), ..Default::default() };
        let update = Entity::update_many().set(row).filter(held(id, token));
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }

    /// Writes how a look ended so far and goes on holding the bill. Answers whether it was still held; if not, nothing was written.
    pub async fn settle_bill(
        &self,
        id: i64,
        end: &RunEnd,
        now: Timestamp,
        token: LeaseToken,
    ) -> Result<bool, StoreError> {
        let update = Entity::update_many().set(ending(end, now)).filter(held(id, token));
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }

    /// Writes how a look ended and lets the bill go. Answers whether it was still held; if not, nothing was written.
    pub async fn end_bill(&self, id: i64, end: &RunEnd, now: Timestamp, token: LeaseToken) -> Result<bool, StoreError> {
        let row = ActiveModel {
            lease_token: Set(None),
            leased_until: Set(None),
            next_at: Set(end.next_at.map(Timestamp::ms)),
            last_error: Set(end.last_error.clone()),
            ..ending(end, now)
        };
        let update = Entity::update_many().set(row).filter(held(id, token));
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }

    /// An account's bill of a day.
    pub async fn bill_run(&self, account: AccountId, date: BillDate) -> Result<Option<BillRun>, StoreError> {
        let select = Entity::find().filter(day(account, date));
        self.read("bill_runs", |db| async move { select.one(&*db).await }).await?.map(run).transpose()
    }

    /// The newest days first, at most `limit`.
    pub async fn bill_runs(&self, limit: u64) -> Result<Vec<BillRun>, StoreError> {
        let select = Entity::find().order_by_desc(Column::Date).order_by_asc(Column::AccountId).limit(limit);
        let rows = self.read("bill_runs", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(run).collect()
    }

    /// Those of an account's days, both included, about which it is known what the wallet says.
    pub async fn done_bill_days(
        &self,
        account: AccountId,
        from: BillDate,
        to: BillDate,
    ) -> Result<HashSet<BillDate>, StoreError> {
        let select = Entity::find()
            .select_only()
            .columns([Column::Id, Column::Date])
            .filter(Column::AccountId.eq(i64::from(account.0)))
            .filter(Column::Date.between(from.to_string(), to.to_string()))
            .filter(is_done())
            .into_tuple::<(i64, String)>();
        let rows = self.read("bill_runs", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter()
            .map(|(id, date)| BillDate::parse(&date).map_err(|_| StoreError::corrupt("bill_runs", "date", id)))
            .collect()
    }

    /// How the days from this one on stand, account by account.
    pub async fn bill_states_since(
        &self,
        from: BillDate,
    ) -> Result<HashMap<(AccountId, BillDate), RunState>, StoreError> {
        let select = Entity::find()
            .select_only()
            .columns([Column::Id, Column::AccountId, Column::Date, Column::State])
            .filter(Column::Date.gte(from.to_string()))
            .into_tuple::<(i64, i64, String, String)>();
        let rows = self.read("bill_runs", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter()
            .map(|(id, account, date, state)| {
                let read = || {
                    let key = (rows::account_id(account)?, BillDate::parse(&date).at("date")?);
                    Ok((key, RunState::parse(&state).at("state")?))
                };
                read().map_err(|column: rows::Column| column.of("bill_runs", id))
            })
            .collect()
    }
}

/// How a look is held.
#[derive(Debug, Clone, Copy)]
pub struct BillHold {
    /// Nobody else takes it for so long.
    pub lease_for: Duration,
    /// A look that does not end is taken again no sooner than this, just as one that failed: whatever killed its process (a bill
    /// too large for its disk, say) does not kill one replica after the other.
    pub again_after: Duration,
}

fn ending(end: &RunEnd, now: Timestamp) -> ActiveModel {
    let totals = end.totals;
    ActiveModel {
        state: Set(end.state.as_str().to_owned()),
        payments: Set(totals.payments),
        pay_fen: Set(totals.pay_fen),
        refunds: Set(totals.refunds),
        refund_fen: Set(totals.refund_fen),
        of_others: Set(totals.of_others),
        unreadable: Set(totals.unreadable),
        discrepancies: Set(totals.discrepancies),
        matched_at: if end.is_good() { Set(Some(now.ms())) } else { NotSet },
        ..Default::default()
    }
}

fn is_done() -> Condition {
    Condition::all().add(Column::State.is_in([RunState::Matched.as_str(), RunState::None.as_str()]))
}

/// Each look is a try of its own: rows that an earlier one noted are not this one's. A day that is done stays so while it is looked
/// at again, and whatever comes of that.
fn taking(now: Timestamp, hold: BillHold, token: LeaseToken) -> sea_orm::UpdateMany<Entity> {
    let row = ActiveModel {
        lease_token: Set(Some(token.text())),
        leased_until: Set(Some(now.plus(hold.lease_for).ms())),
        next_at: Set(Some(now.plus(hold.again_after).ms())),
        ..Default::default()
    };
    let state = CaseStatement::new().case(is_done(), Expr::col(Column::State)).finally(RunState::Fetching.as_str());
    Entity::update_many()
        .set(row)
        .col_expr(Column::State, state.into())
        .col_expr(Column::Tries, Expr::col(Column::Tries).add(1))
}

fn is_free(now: Timestamp) -> Condition {
    Condition::any().add(Column::LeasedUntil.is_null()).add(Column::LeasedUntil.lte(now.ms()))
}

fn day(account: AccountId, date: BillDate) -> Condition {
    Condition::all().add(Column::AccountId.eq(i64::from(account.0))).add(Column::Date.eq(date.to_string()))
}

fn held(id: i64, token: LeaseToken) -> Condition {
    Condition::all().add(Column::Id.eq(id)).add(Column::LeaseToken.eq(token.text()))
}

fn run(row: Model) -> Result<BillRun, StoreError> {
    let id = row.id;
    let read = || {
        Ok(BillRun {
            id,
            account: rows::account_id(row.account_id)?,
            date: BillDate::parse(&row.date).at("date")?,
            state: RunState::parse(&row.state).at("state")?,
            tries: u32::try_from(row.tries).at("tries")?,
            totals: BillTotals {
                payments: row.payments,
                pay_fen: row.pay_fen,
                refunds: row.refunds,
                refund_fen: row.refund_fen,
                of_others: row.of_others,
                unreadable: row.unreadable,
                discrepancies: row.discrepancies,
            },
            next_at: moment(row.next_at),
            last_error: row.last_error,
            matched_at: moment(row.matched_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("bill_runs", id))
}
