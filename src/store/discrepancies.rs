//! What bills and our rows do not agree on: found once per account, day, number and kind, and settled by people or by later looks.

use std::collections::{HashMap, HashSet};

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::{CaseStatement, Expr, ExprTrait, OnConflict},
};

use super::{
    bill_runs::BillRun,
    entity::discrepancies::{ActiveModel, Column, Entity, Model},
    error::StoreError,
    pool::Store,
    rows::{self, In, count, moment},
};
use crate::{
    domain::{
        bill::{BillDate, DiscrepancyKind, DiscrepancyState, Repair},
        id::{AccountId, OrderId},
        time::Timestamp,
    },
    keys::mac::sha256,
};

/// One thing that a bill and our rows do not agree on, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub kind: DiscrepancyKind,
    pub out_trade_no: String,
    pub out_refund_no: Option<String>,
    pub order: Option<OrderId>,
    /// What we have, in words for people: a state, an amount.
    pub ours: String,
    pub theirs: String,
    pub repair: Repair,
}

impl Found {
    /// The number it is about: the refund's, or the payment's.
    pub fn number(&self) -> &str {
        self.out_refund_no.as_deref().unwrap_or(&self.out_trade_no)
    }
}

/// A discrepancy with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    pub id: i64,
    pub account: AccountId,
    pub date: BillDate,
    pub found: Found,
    pub state: DiscrepancyState,
    /// What the wallet said when it was asked, or why a person dismissed it.
    pub note: Option<String>,
    /// When it was found; repaired and found again, when that was.
    pub at: Timestamp,
    pub settled_at: Option<Timestamp>,
    /// When the wallet is asked about it by itself; `None`: it was not yet.
    pub ask_at: Option<Timestamp>,
}

impl Store {
    /// Records what a run found. What was found before is brought up to date; repaired and found again, it is open again;
    /// dismissed, it stays so.
    pub async fn record_discrepancies(&self, run: &BillRun, found: &[Found], now: Timestamp) -> Result<(), StoreError> {
        if found.is_empty() {
            return Ok(());
        }
        // PostgreSQL takes a key once per statement.
        let mut taken = HashSet::new();
        let once = found.iter().filter(|found| taken.insert((found.number(), found.kind)));
        let rows = once.map(|found| ActiveModel {
            id: NotSet,
            account_id: Set(i64::from(run.account.0)),
            date: Set(run.date.to_string()),
            kind: Set(found.kind.as_str().to_owned()),
            out_trade_no: Set(found.out_trade_no.clone()),
            number_hash: Set(hash(found.number())),
            out_refund_no: Set(found.out_refund_no.clone()),
            order_id: Set(found.order.map(|order| order.to_string())),
            ours: Set(found.ours.clone()),
            theirs: Set(found.theirs.clone()),
            repair: Set(found.repair.as_str().to_owned()),
            state: Set(DiscrepancyState::Open.as_str().to_owned()),
            seen_try: Set(count(run.tries)),
            note: Set(None),
            at: Set(now.ms()),
            settled_at: Set(None),
            ask_at: Set(None),
        });
        let tries = count(run.tries);
        let col = |column: Column| Expr::col((Entity, column));
        // A look that lost its bill to a later one and does not know it yet neither opens anything nor makes it look older.
        let reopened = || {
            let was_settled = col(Column::State).eq(DiscrepancyState::Repaired.as_str());
            was_settled.and(col(Column::SeenTry).lte(tries))
        };
        let ask_at = CaseStatement::new().case(reopened(), Expr::val(None::<i64>)).finally(col(Column::AskAt));
        // It is asked about anew, and for as long as any other.
        let at = CaseStatement::new().case(reopened(), now.ms()).finally(col(Column::At));
        let state = CaseStatement::new().case(reopened(), DiscrepancyState::Open.as_str()).finally(col(Column::State));
        let seen = CaseStatement::new().case(col(Column::SeenTry).lt(tries), tries).finally(col(Column::SeenTry));
        // MySQL sets one after the other: what is looked at is set last.
        let insert = Entity::insert_many(rows).on_conflict(
            OnConflict::columns([Column::AccountId, Column::Date, Column::NumberHash, Column::Kind])
                .value(Column::AskAt, ask_at)
                .value(Column::At, at)
                .value(Column::State, state)
                .value(Column::SeenTry, seen)
                .update_columns([Column::Ours, Column::Theirs, Column::Repair])
                .to_owned(),
        );
        self.execute(self.build(&insert.into_query())).await?;
        Ok(())
    }

    /// What a run's earlier looks found and this one did not is repaired, but for `except`. Answers how many.
    pub async fn settle_unseen(
        &self,
        run: &BillRun,
        except: &[DiscrepancyKind],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let update = Entity::update_many()
            .set(settled(DiscrepancyState::Repaired, GONE, now))
            .filter(unseen(run))
            .filter(Column::Kind.is_not_in(except.iter().map(|kind| kind.as_str())));
        self.execute(self.build(&update.into_query())).await
    }

    /// What a run's earlier looks missed in the bill and this one did not name again, by id, at most `limit` after `after`.
    pub async fn unseen_missing(&self, run: &BillRun, after: i64, limit: u64) -> Result<Vec<Discrepancy>, StoreError> {
        let select = Entity::find()
            .filter(unseen(run))
            .filter(Column::Kind.eq(DiscrepancyKind::MissingThere.as_str()))
            .filter(Column::Id.gt(after))
            .order_by_asc(Column::Id)
            .limit(limit);
        let rows = self.read("discrepancies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(discrepancy).collect()
    }

    /// Settles these of a run that this look could have found and did not.
    pub async fn settle_missing(&self, run: &BillRun, ids: &[i64], now: Timestamp) -> Result<u64, StoreError> {
        let update = Entity::update_many()
            .set(settled(DiscrepancyState::Repaired, GONE, now))
            .filter(unseen(run))
            .filter(Column::Id.is_in(ids.iter().copied()));
        self.execute(self.build(&update.into_query())).await
    }

    /// Which of these numbers another day's bill was found to lack, and this day's was not: one of them is enough.
    pub async fn missed_elsewhere(&self, run: &BillRun, numbers: &[String]) -> Result<HashSet<String>, StoreError> {
        if numbers.is_empty() {
            return Ok(HashSet::new());
        }
        let of: HashMap<Vec<u8>, &String> = numbers.iter().map(|number| (hash(number), number)).collect();
        let select = Entity::find()
            .select_only()
            .columns([Column::NumberHash, Column::Date])
            .filter(Column::AccountId.eq(i64::from(run.account.0)))
            .filter(Column::Kind.eq(DiscrepancyKind::MissingThere.as_str()))
            .filter(Column::NumberHash.is_in(of.keys().cloned()))
            .into_tuple::<(Vec<u8>, String)>();
        let rows = self.read("discrepancies", |db| async move { select.all(&*db).await }).await?;
        let here: HashSet<_> =
            rows.iter().filter(|(_, date)| *date == run.date.to_string()).map(|(hash, _)| hash.clone()).collect();
        let elsewhere = rows.into_iter().filter(|(hash, _)| !here.contains(hash));
        Ok(elsewhere.filter_map(|(hash, _)| of.get(&hash).map(|number| (*number).clone())).collect())
    }

    /// Whether other days of an account lack something that a bill may still name.
    pub async fn lacks_elsewhere(&self, run: &BillRun) -> Result<bool, StoreError> {
        let select = Entity::find().select_only().column(Column::Id).filter(lacking(run)).limit(1).into_tuple::<i64>();
        Ok(self.read("discrepancies", |db| async move { select.one(&*db).await }).await?.is_some())
    }

    /// Other days missed these numbers, and this run's bill has them.
    pub async fn found_on_another_day(
        &self,
        run: &BillRun,
        numbers: &[String],
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let note = format!("the bill of {} has it", run.date);
        let update = Entity::update_many()
            .set(settled(DiscrepancyState::Repaired, &note, now))
            .filter(lacking(run))
            .filter(Column::NumberHash.is_in(numbers.iter().map(|number| hash(number))));
        self.execute(self.build(&update.into_query())).await
    }

    /// The newest first, at most `limit`; only the open ones unless all are wanted.
    pub async fn list_discrepancies(&self, all: bool, limit: u64) -> Result<Vec<Discrepancy>, StoreError> {
        let mut select = Entity::find().order_by_desc(Column::Id).limit(limit);
        if !all {
            select = select.filter(Column::State.eq(DiscrepancyState::Open.as_str()));
        }
        let rows = self.read("discrepancies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(discrepancy).collect()
    }

    pub async fn discrepancy(&self, id: i64) -> Result<Option<Discrepancy>, StoreError> {
        let select = Entity::find_by_id(id);
        self.read("discrepancies", |db| async move { select.one(&*db).await }).await?.map(discrepancy).transpose()
    }

    /// Notes what came of asking; `to` settles an open one. Answers whether it was open.
    pub async fn note_discrepancy(
        &self,
        id: i64,
        to: DiscrepancyState,
        note: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let row = match to {
            DiscrepancyState::Open => ActiveModel { note: Set(Some(note.to_owned())), ..Default::default() },
            settled_as => settled(settled_as, note, now),
        };
        let update = Entity::update_many()
            .set(row)
            .filter(Column::Id.eq(id))
            .filter(Column::State.eq(DiscrepancyState::Open.as_str()));
        Ok(self.execute(self.build(&update.into_query())).await? > 0)
    }

    /// How many are open, by kind.
    pub async fn open_discrepancies(&self) -> Result<Vec<(DiscrepancyKind, u64)>, StoreError> {
        let select = Entity::find()
            .select_only()
            .column(Column::Kind)
            .column_as(Expr::col(Column::Id).count(), "found")
            .filter(Column::State.eq(DiscrepancyState::Open.as_str()))
            .group_by(Column::Kind)
            .into_tuple::<(String, i64)>();
        let rows = self.read("discrepancies", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter()
            .map(|(kind, found)| {
                let kind =
                    DiscrepancyKind::parse(&kind).ok_or_else(|| StoreError::corrupt("discrepancies", "kind", "?"))?;
                Ok((kind, u64::try_from(found).unwrap_or(0)))
            })
            .collect()
    }
}

const GONE: &str = "a later look at the bill found nothing wrong";

/// Open, and not found by this try of a run or a later one.
fn unseen(run: &BillRun) -> Condition {
    Condition::all()
        .add(Column::AccountId.eq(i64::from(run.account.0)))
        .add(Column::Date.eq(run.date.to_string()))
        .add(Column::State.eq(DiscrepancyState::Open.as_str()))
        .add(Column::SeenTry.lt(count(run.tries)))
}

fn hash(number: &str) -> Vec<u8> {
    sha256(number.as_bytes()).to_vec()
}

fn settled(state: DiscrepancyState, note: &str, now: Timestamp) -> ActiveModel {
    ActiveModel {
        state: Set(state.as_str().to_owned()),
        note: Set(Some(note.to_owned())),
        settled_at: Set(Some(now.ms())),
        ..Default::default()
    }
}

fn lacking(run: &BillRun) -> Condition {
    Condition::all()
        .add(Column::State.eq(DiscrepancyState::Open.as_str()))
        .add(Column::AccountId.eq(i64::from(run.account.0)))
        .add(Column::Kind.eq(DiscrepancyKind::MissingThere.as_str()))
        .add(Column::Date.ne(run.date.to_string()))
}

pub(super) fn discrepancy(row: Model) -> Result<Discrepancy, StoreError> {
    let id = row.id;
    let read = || {
        Ok(Discrepancy {
            id,
            account: rows::account_id(row.account_id)?,
            date: BillDate::parse(&row.date).at("date")?,
            found: Found {
                kind: DiscrepancyKind::parse(&row.kind).at("kind")?,
                out_trade_no: row.out_trade_no,
                out_refund_no: row.out_refund_no,
                order: row.order_id.as_deref().map(OrderId::parse).transpose().at("order_id")?,
                ours: row.ours,
                theirs: row.theirs,
                repair: Repair::parse(&row.repair).at("repair")?,
            },
            state: DiscrepancyState::parse(&row.state).at("state")?,
            note: row.note,
            at: Timestamp::from_ms(row.at),
            settled_at: moment(row.settled_at),
            ask_at: moment(row.ask_at),
        })
    };
    read().map_err(|column: rows::Column| column.of("discrepancies", id))
}
