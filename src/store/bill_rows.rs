//! What a bill named of ours, and what of ours no bill named. Every statement is about a bounded number of rows.

use std::collections::HashSet;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{Expr, ExprTrait, Query, SelectStatement},
};

use super::{
    bill_runs::BillRun,
    entity::{attempts, bill_rows, bill_runs, orders, refunds},
    error::StoreError,
    pool::{Kind, Store},
    refund_rows, rows,
    rows::{In, count},
};
use crate::domain::{
    bill::{BillDate, RunState},
    id::{AccountId, OrderId, OutTradeNo, RefundId},
    refund::Refund,
    time::Timestamp,
};

/// A payment of ours as it is compared with a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPayment {
    pub number: OutTradeNo,
    pub account: AccountId,
    /// The attempt's state, by its name.
    pub state: String,
    pub trade_no: Option<String>,
    /// The order's, in fen.
    pub amount_fen: i64,
    pub paid_at: Option<Timestamp>,
}

/// A number as `bill_rows` has it.
pub type BillKey = (String, i32);

/// The key of a payment.
pub fn payment_key(number: OutTradeNo) -> BillKey {
    (number.order.to_string(), i32::from(number.attempt.get()))
}

/// The key of a refund.
pub fn refund_key(id: RefundId) -> BillKey {
    (id.to_string(), 0)
}

/// Where a look at one page of rows ended.
pub type PageEnd = (i64, String, i32);

type PaymentRow = (String, i32, i64, String, Option<String>, i64, Option<i64>);

impl Store {
    /// What we know of these numbers; those that are not there are left out.
    pub async fn payments_by_number(&self, numbers: &[OutTradeNo]) -> Result<Vec<KnownPayment>, StoreError> {
        let wanted: HashSet<OutTradeNo> = numbers.iter().copied().collect();
        let ids: HashSet<String> = numbers.iter().map(|number| number.order.to_string()).collect();
        let select = payments().filter(attempts::Column::OrderId.is_in(ids)).into_tuple::<PaymentRow>();
        let rows = self.read("attempts", |db| async move { select.all(&*db).await }).await?;
        let known = rows.into_iter().map(known).collect::<Result<Vec<_>, _>>()?;
        Ok(known.into_iter().filter(|payment| wanted.contains(&payment.number)).collect())
    }

    /// The refunds of these ids; those that are not there are left out.
    pub async fn refunds_by_id(&self, ids: &[RefundId]) -> Result<Vec<Refund>, StoreError> {
        let select = refunds::Entity::find().filter(refunds::Column::Id.is_in(ids.iter().map(RefundId::to_string)));
        let rows = self.read("refunds", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(refund_rows::refund).collect()
    }

    /// Notes that a run's bill named these. Answers those it had named before: a row that came twice.
    pub async fn note_bill_rows(
        &self,
        run: &BillRun,
        named: &[(BillKey, bool)],
    ) -> Result<HashSet<BillKey>, StoreError> {
        if named.is_empty() {
            return Ok(HashSet::new());
        }
        let (id, tries) = (run.id, count(run.tries));
        let ids: HashSet<String> = named.iter().map(|((id, _), _)| id.clone()).collect();
        let select = bill_rows::Entity::find()
            .select_only()
            .columns([bill_rows::Column::Id, bill_rows::Column::No])
            .filter(bill_rows::Column::Id.is_in(ids))
            .filter(bill_rows::Column::RunId.eq(id))
            .filter(bill_rows::Column::RunTry.eq(tries))
            .into_tuple::<BillKey>();
        let mut seen: HashSet<BillKey> =
            self.read("bill_rows", |db| async move { select.all(&*db).await }).await?.into_iter().collect();
        let mut twice = HashSet::new();
        let mut fresh = Vec::with_capacity(named.len());
        for (key, kept) in named {
            if !seen.insert(key.clone()) {
                twice.insert(key.clone());
                continue;
            }
            fresh.push(bill_rows::ActiveModel {
                id: Set(key.0.clone()),
                no: Set(key.1),
                run_id: Set(id),
                run_try: Set(tries),
                kept: Set(*kept),
            });
        }
        if !fresh.is_empty() {
            use bill_rows::Column;
            // A statement that is run again after a lost answer finds its own rows.
            let insert = bill_rows::Entity::insert_many(fresh).on_conflict_do_nothing_on([
                Column::Id,
                Column::No,
                Column::RunId,
                Column::RunTry,
            ]);
            self.execute(self.build(&insert.into_query())).await?;
        }
        Ok(twice)
    }

    /// Payments of a run's account in `[from, until)` that neither its bill nor any other that ended well named, in their
    /// order, at most `limit` after `after`.
    pub async fn unbilled_payments(
        &self,
        run: &BillRun,
        from: Timestamp,
        until: Timestamp,
        after: Option<PageEnd>,
        limit: u64,
    ) -> Result<Vec<KnownPayment>, StoreError> {
        use attempts::Column;
        let key = [Expr::col((attempts::Entity, Column::OrderId)), Expr::col((attempts::Entity, Column::No))];
        let select = payments()
            .filter(Column::AccountId.eq(i64::from(run.account.0)))
            .filter(Column::PaidAt.gte(from.ms()))
            .filter(Column::PaidAt.lt(until.ms()))
            .filter(Column::State.eq("paid"))
            .filter(Expr::exists(named_by(run, key)).not());
        let select = select
            .filter(match after {
                Some(end) => past([Column::PaidAt, Column::OrderId, Column::No], &end),
                None => Condition::all(),
            })
            .order_by_asc(Column::PaidAt)
            .order_by_asc(Column::OrderId)
            .order_by_asc(Column::No)
            .limit(limit)
            .into_tuple::<PaymentRow>();
        let rows = self.read("attempts", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(known).collect()
    }

    /// As [`Store::unbilled_payments`], refunds by when their money was back.
    pub async fn unbilled_refunds(
        &self,
        run: &BillRun,
        from: Timestamp,
        until: Timestamp,
        after: Option<PageEnd>,
        limit: u64,
    ) -> Result<Vec<Refund>, StoreError> {
        use refunds::Column;
        let key = [Expr::col((refunds::Entity, Column::Id)), Expr::value(0)];
        let mut select = refunds::Entity::find()
            .filter(Column::AccountId.eq(i64::from(run.account.0)))
            .filter(Column::RefundedAt.gte(from.ms()))
            .filter(Column::RefundedAt.lt(until.ms()))
            .filter(Column::State.eq("succeeded"))
            .filter(Expr::exists(named_by(run, key)).not());
        if let Some((at, id, _)) = after {
            let same = Condition::all().add(Column::RefundedAt.eq(at)).add(Column::Id.gt(id));
            select = select.filter(Condition::any().add(Column::RefundedAt.gt(at)).add(same));
        }
        let select = select.order_by_asc(Column::RefundedAt).order_by_asc(Column::Id).limit(limit);
        let rows = self.read("refunds", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(refund_rows::refund).collect()
    }

    /// Deletes at most `limit` of a run's rows, once its try `keep_try` ended well: all of earlier ones, and of that one those that
    /// need not be kept. A later one may be under way. Answers how many.
    pub async fn forget_bill_rows(&self, run: i64, keep_try: u32, limit: u64) -> Result<u64, StoreError> {
        use bill_rows::Column;
        let going = || {
            let its = Condition::all().add(Column::Kept.eq(false)).add(Column::RunTry.eq(count(keep_try)));
            let others = Condition::any().add(its).add(Column::RunTry.lt(count(keep_try)));
            Condition::all().add(Column::RunId.eq(run)).add(others)
        };
        self.delete_bill_rows(going, limit).await
    }

    /// Deletes at most `limit` rows of a try that came to nothing. Answers how many.
    pub async fn forget_failed_rows(&self, run: i64, failed: u32, limit: u64) -> Result<u64, StoreError> {
        use bill_rows::Column;
        let going = || Condition::all().add(Column::RunId.eq(run)).add(Column::RunTry.eq(count(failed)));
        self.delete_bill_rows(going, limit).await
    }

    /// Deletes at most `limit` kept rows of days before a date, none of a bill that somebody is at.
    pub async fn sweep_bill_rows(&self, before: BillDate, now: Timestamp, limit: u64) -> Result<u64, StoreError> {
        let held = bill_runs::Column::LeasedUntil;
        let old = bill_runs::Entity::find()
            .select_only()
            .column(bill_runs::Column::Id)
            .filter(bill_runs::Column::Date.lt(before.to_string()))
            .filter(Condition::any().add(held.is_null()).add(held.lte(now.ms())))
            .into_query();
        self.delete_bill_rows(|| Condition::all().add(bill_rows::Column::RunId.in_subquery(old.clone())), limit).await
    }

    async fn delete_bill_rows(&self, going: impl Fn() -> Condition, limit: u64) -> Result<u64, StoreError> {
        use bill_rows::Column;
        let key = [Column::Id, Column::No, Column::RunId, Column::RunTry];
        let mut delete = Query::delete();
        delete.from_table(bill_rows::Entity).cond_where(going());
        if self.inner.kind == Kind::Mysql {
            delete.limit(limit);
        } else {
            let some = bill_rows::Entity::find().select_only().columns(key).filter(going()).limit(limit).into_query();
            delete.and_where(Expr::tuple(key.map(Expr::col)).in_subquery(some));
        }
        self.execute(self.build(&delete)).await
    }
}

/// Attempts with their orders' amounts.
fn payments() -> sea_orm::Select<attempts::Entity> {
    use attempts::Column;
    attempts::Entity::find()
        .inner_join(orders::Entity)
        .select_only()
        .columns([Column::OrderId, Column::No, Column::AccountId, Column::State, Column::TradeNo])
        .column(orders::Column::AmountFen)
        .column(Column::PaidAt)
}

/// Rows of this run's try, and of whichever other bills ended well, that have this key. A bill that is looked at again has rows of
/// two tries, and each of them was named by a bill that was whole.
fn named_by(run: &BillRun, [id, no]: [Expr; 2]) -> SelectStatement {
    use bill_rows::Column;
    let of = |column: Column| Expr::col((bill_rows::Entity, column));
    let its = |column: bill_runs::Column| Expr::col((bill_runs::Entity, column));
    let this = its(bill_runs::Column::Id).eq(run.id).and(of(Column::RunTry).eq(count(run.tries)));
    let matched = its(bill_runs::Column::State).eq(RunState::Matched.as_str());
    let other = its(bill_runs::Column::Id).ne(run.id).and(matched);
    Query::select()
        .expr(Expr::value(1))
        .from(bill_rows::Entity)
        .inner_join(bill_runs::Entity, of(Column::RunId).eq(its(bill_runs::Column::Id)))
        .and_where(of(Column::Id).eq(id))
        .and_where(of(Column::No).eq(no))
        .and_where(this.or(other))
        .take()
}

/// Rows after the last one of a page, in the order of three columns.
pub(in crate::store) fn past<C: ColumnTrait>(columns: [C; 3], (at, id, no): &PageEnd) -> Condition {
    let [first, second, third] = columns;
    Condition::any()
        .add(first.gt(*at))
        .add(Condition::all().add(first.eq(*at)).add(second.gt(id.clone())))
        .add(Condition::all().add(first.eq(*at)).add(second.eq(id.clone())).add(third.gt(*no)))
}

fn known((order, no, account, state, trade_no, amount_fen, paid_at): PaymentRow) -> Result<KnownPayment, StoreError> {
    let read = || {
        let order = OrderId::parse(&order).at("order_id")?;
        Ok(KnownPayment {
            number: OutTradeNo { order, attempt: rows::attempt_no(no, "no")? },
            account: rows::account_id(account)?,
            state,
            trade_no,
            amount_fen,
            paid_at: rows::moment(paid_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("attempts", format_args!("{order}/{no}")))
}
