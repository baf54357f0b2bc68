//! Orders: inserted once, then changed by one function.

use sea_orm::{
    ActiveValue::{NotSet, Set},
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QueryResult,
    QuerySelect, QueryTrait, Select, Statement, UpdateMany,
    sea_query::{Condition, Expr, ExprTrait, UpdateStatement},
};

use super::{
    entity::{anomalies, attempts, order_events, orders},
    error::StoreError,
    history::AnomalyRow,
    outcomes,
    pool::Store,
    refunds::{hold_payment, open_refunds},
    rows,
    run::Rows,
};
use crate::domain::{
    attempt::Attempt,
    event::MerchantEvent,
    id::{AttemptNo, CommandId, MerchantId, OrderId, OrderNo},
    order::{Anomaly, AnomalyKind, Decision, Handled, Moved, Order, Write},
    outcome::Outcome,
    time::Timestamp,
};

/// What became of an order that was to be inserted.
#[derive(Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    /// The merchant used this number before: here is that order. Whether it is *the same* order, its fingerprint tells.
    Exists(Box<Order>),
}

/// One change, to be written whole or not at all.
#[derive(Debug)]
pub struct Commit<'a> {
    pub moved: &'a Moved,
    /// What the command ended in, if this change ends it.
    pub outcome: Option<(CommandId, &'a Outcome)>,
    pub at: Timestamp,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a stale change was not written"]
pub enum Committed {
    Done,
    /// Somebody was first; nothing was written. Load the order again and decide again.
    Stale,
}

impl Store {
    /// Inserts an order without attempts, unless its merchant used the number before. One statement, two when it exists.
    pub async fn insert_order(&self, order: &Order) -> Result<Inserted, StoreError> {
        if !order.attempts.is_empty() {
            return Err(StoreError::Rejected { cause: super::Cause::new("an order begins without attempts") });
        }
        if self.insert_if_absent(orders::Entity::insert(rows::new_order(order)).into_query()).await? {
            return Ok(Inserted::New);
        }
        match self.load_order_by_no(order.merchant, &order.order_no).await? {
            Some(found) => Ok(Inserted::Exists(Box::new(found))),
            // Not its number but its id was taken: a caller that inserts one id under two numbers.
            None => Err(StoreError::Conflict { what: "an order with this id" }),
        }
    }

    /// An order with all its attempts: one statement, so that both are of one moment.
    pub async fn load_order(&self, id: OrderId) -> Result<Option<Order>, StoreError> {
        self.load(orders::Entity::find_by_id(id.to_string()), id.to_string()).await
    }

    /// An order by its merchant's number.
    pub async fn load_order_by_no(&self, merchant: MerchantId, no: &OrderNo) -> Result<Option<Order>, StoreError> {
        let select = orders::Entity::find()
            .filter(orders::Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(orders::Column::OrderNo.eq(no.as_str()));
        self.load(select, format!("{merchant}/{no}")).await
    }

    async fn load(&self, select: Select<orders::Entity>, id: String) -> Result<Option<Order>, StoreError> {
        let select = select.find_also_related(attempts::Entity).order_by_asc(attempts::Column::No).into_query();
        let statement = self.build(&select);
        let db = self.db();
        self.finish(async move {
            let rows = db.query_all_raw(statement).await?;
            let read = read_joined(&rows).map_err(|err| StoreError::reading(err, ["orders", "attempts"], id))?;
            read.map(|(order, attempts)| rows::order(order, attempts)).transpose()
        })
        .await
    }

    /// Writes a change of an order: the only way to change one after its insert. *Stale* is also the answer when the command
    /// whose outcome comes with it, or which takes the order with it, has an outcome already.
    ///
    /// One transaction, guarded by the state and version the change started from: the order, its changed attempts, a history
    /// row, anomalies, the command's outcome, the event its merchant is told. Deadlocks and the like are run again whole. After
    /// [`StoreError::Unavailable`] it may have been written or not: load the order again.
    pub async fn commit(&self, commit: Commit<'_>) -> Result<Committed, StoreError> {
        let Commit { moved, outcome, at } = commit;
        let mut guard = orders::Entity::update_many()
            .set(rows::order_changes(&moved.order))
            .filter(orders::Column::Id.eq(moved.order.id.to_string()))
            .filter(orders::Column::State.eq(moved.from_state))
            .filter(orders::Column::Version.eq(moved.from_version));
        // A command that a double of it settled meanwhile is not settled twice, and takes no order any more.
        if let Some(command) = outcome.map(|(command, _)| command).or_else(|| moved.taken_by()) {
            let settled = super::entity::outcomes::Entity::find()
                .select_only()
                .column(super::entity::outcomes::Column::CommandId)
                .filter(super::entity::outcomes::Column::CommandId.eq(command.to_string()))
                .into_query();
            guard = guard.filter(Expr::exists(settled).not());
        }
        let mut guards = vec![self.build(&guard.into_query())];
        let mut then = self.attempt_writes(moved);
        then.push((self.build(&order_events::Entity::insert(history(moved, outcome, at)).into_query()), Rows::One));
        if let Some(decision) = &moved.decision {
            let decided = decided(moved.order.id, decision);
            if decision.is_settlement {
                // Nothing but its row ends with it: what a refund made of that meanwhile is not written over. A refund that is being
                // made holds the payment's row, and is seen behind it.
                guards.push(self.build(&hold_payment(moved.order.id, decision.attempt).into_query()));
                let decided = decided.filter(Expr::exists(open_refunds(moved.order.id, decision.attempt)).not());
                guards.push(self.build(&decided.into_query()));
            } else {
                then.push((self.build(&decided.into_query()), Rows::Any));
            }
        }
        let again = moved.anomalies.iter();
        then.extend(again.map(|anomaly| (self.build(&noted_again(moved.order.id, anomaly, at)), Rows::Any)));
        if !moved.anomalies.is_empty() {
            let rows = moved.anomalies.iter().map(|anomaly| anomalies::ActiveModel {
                id: NotSet,
                order_id: Set(moved.order.id.to_string()),
                attempt_no: Set(i32::from(anomaly.attempt.get())),
                kind: Set(anomaly.kind.as_str().to_owned()),
                detail: Set(anomaly.detail.clone()),
                at: Set(at.ms()),
                handled: Set(Handled::at_first(anomaly.kind).as_str().to_owned()),
            });
            // One of a kind per attempt: the wallet says it again and again.
            let insert = anomalies::Entity::insert_many(rows).on_conflict_do_nothing_on([
                anomalies::Column::OrderId,
                anomalies::Column::AttemptNo,
                anomalies::Column::Kind,
            ]);
            then.push((self.build(&insert.into_query()), Rows::Any));
        }
        if let Some((command, outcome)) = outcome {
            let row = outcomes::row(command, moved.order.id, outcome, at)?;
            // A command's first outcome stays: a phone may have been told it.
            let insert = outcomes::insert(row).on_conflict_do_nothing_on([super::entity::outcomes::Column::CommandId]);
            then.push((self.build(&insert.into_query()), Rows::Any));
        }
        let event = MerchantEvent::of(moved);
        if let Some(event) = &event {
            then.extend(self.event_writes(&moved.order, event, at)?);
        }
        let done = self.run_if_all(guards, then).await?.is_none();
        if done && event.is_some() {
            self.wake_senders();
        }
        if done && !moved.anomalies.is_empty() {
            self.tell_unkept_anomalies(moved).await;
        }
        Ok(if done { Committed::Done } else { Committed::Stale })
    }

    /// One anomaly of a kind is kept per attempt. That the wallet repeats itself is no news; another payment of the same number is,
    /// and has no row: it is told here with its number.
    async fn tell_unkept_anomalies(&self, moved: &Moved) {
        let id = moved.order.id;
        let kept = match self.anomalies(id).await {
            Ok(kept) => kept,
            Err(error) => {
                for anomaly in &moved.anomalies {
                    let (attempt, kind) = (anomaly.attempt.get(), anomaly.kind.as_str());
                    tracing::error!(order.id = %id, attempt, kind, detail = anomaly.detail, %error, "unexpected money; its rows cannot be compared");
                }
                return;
            }
        };
        for anomaly in unkept(&moved.anomalies, &kept) {
            let (attempt, kind) = (anomaly.attempt.get(), anomaly.kind.as_str());
            tracing::error!(order.id = %id, attempt, kind, detail = anomaly.detail, "more unexpected money of a kind that is noted already: a person looks at the wallet");
        }
    }

    fn attempt_writes(&self, moved: &Moved) -> Vec<(Statement, Rows)> {
        let mut writes = Vec::with_capacity(moved.attempts.len() + 2);
        for (no, write) in &moved.attempts {
            let Some(attempt) = moved.order.attempt(*no) else { continue };
            let statement = match write {
                Write::Insert => {
                    self.build(&attempts::Entity::insert(rows::new_attempt(moved.order.id, attempt)).into_query())
                }
                Write::Update | Write::Reschedule => self.build(&attempt_update(moved, attempt, *write)),
            };
            writes.push((statement, Rows::One));
        }
        writes
    }
}

/// An order and its attempts from the rows of their join.
///
/// By hand, because SeaORM's own reading of the joined side takes a row it cannot read for no row (`from_query_result_optional`
/// ends in `.ok()`): an attempt would be missing without a word, and its number might be paid beside a new one.
fn read_joined(rows: &[QueryResult]) -> Result<Option<(orders::Model, Vec<attempts::Model>)>, DbErr> {
    let Some(first) = rows.first() else { return Ok(None) };
    let order = orders::Model::from_query_result(first, "A_")?;
    let mut attempts = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<String>>("B_", "order_id")?.is_some() {
            attempts.push(attempts::Model::from_query_result(row, "B_")?);
        }
    }
    Ok(Some((order, attempts)))
}

/// The anomalies that stand in no row, because another of their kind and attempt does.
fn unkept<'a>(met: &'a [Anomaly], kept: &'a [AnomalyRow]) -> impl Iterator<Item = &'a Anomaly> {
    let is_kept = |met: &Anomaly| {
        kept.iter().any(|row| (row.attempt, row.kind, &row.detail) == (met.attempt, met.kind, &met.detail))
    };
    met.iter().filter(move |anomaly| !is_kept(anomaly))
}

fn attempt_update(moved: &Moved, attempt: &Attempt, write: Write) -> UpdateStatement {
    let mut row = rows::attempt_changes(attempt);
    if write == Write::Reschedule {
        rows::query_changes(attempt, &mut row);
    }
    attempts::Entity::update_many()
        .set(row)
        .filter(attempts::Column::OrderId.eq(moved.order.id.to_string()))
        .filter(attempts::Column::No.eq(i32::from(attempt.no.get())))
        .into_query()
}

/// A person's decision about an anomaly: one that waits for a person, or that stays or went as somebody decided before.
fn decided(order: OrderId, decision: &Decision) -> UpdateMany<anomalies::Entity> {
    let open = [Handled::Person, Handled::Kept, Handled::LetGo].map(Handled::as_str);
    let handled = anomalies::ActiveModel { handled: Set(decision.handled.as_str().to_owned()), ..Default::default() };
    anomalies_of(order, decision.attempt, decision.kind).set(handled).filter(anomalies::Column::Handled.is_in(open))
}

/// One anomaly of a kind per attempt: one that was decided gives its place to the next. What it said stands in the history, beside a
/// person's decision. A dispute's detail does not name its trade, so each that is news is one more; of the others, another detail is.
fn noted_again(order: OrderId, anomaly: &Anomaly, at: Timestamp) -> UpdateStatement {
    use anomalies::Column;
    let anew = anomalies::ActiveModel {
        detail: Set(anomaly.detail.clone()),
        at: Set(at.ms()),
        handled: Set(Handled::at_first(anomaly.kind).as_str().to_owned()),
        ..Default::default()
    };
    let is_news = if anomaly.kind == AnomalyKind::Disputed {
        Condition::all().add(Column::Handled.ne(Handled::Person.as_str()))
    } else {
        let decided = [Handled::Kept, Handled::LetGo].map(Handled::as_str);
        Condition::all().add(Column::Handled.is_in(decided)).add(Column::Detail.ne(anomaly.detail.clone()))
    };
    anomalies_of(order, anomaly.attempt, anomaly.kind).set(anew).filter(is_news).into_query()
}

fn anomalies_of(order: OrderId, attempt: AttemptNo, kind: AnomalyKind) -> UpdateMany<anomalies::Entity> {
    anomalies::Entity::update_many()
        .filter(anomalies::Column::OrderId.eq(order.to_string()))
        .filter(anomalies::Column::AttemptNo.eq(i32::from(attempt.get())))
        .filter(anomalies::Column::Kind.eq(kind.as_str()))
}

fn history(moved: &Moved, outcome: Option<(CommandId, &Outcome)>, at: Timestamp) -> order_events::ActiveModel {
    let command = outcome.map(|(command, _)| command).or(moved.order.lease.map(|lease| lease.command));
    order_events::ActiveModel {
        order_id: Set(moved.order.id.to_string()),
        version: Set(moved.order.version),
        events: Set(moved.events.join(",")),
        state: Set(moved.order.state.name().to_owned()),
        command_id: Set(command.map(|command| command.to_string())),
        note: Set(moved.decision.as_ref().map(|decision| decision.note.clone())),
        at: Set(at.ms()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn another_payment_of_a_number_is_not_taken_for_a_repeat() {
        let met = |detail: &str| Anomaly {
            attempt: AttemptNo::FIRST,
            kind: AnomalyKind::SecondPayment,
            detail: detail.to_owned(),
        };
        let kept = AnomalyRow {
            id: 1,
            order: OrderId::from_bytes([1; 16]),
            attempt: AttemptNo::FIRST,
            kind: AnomalyKind::SecondPayment,
            detail: "trade_no 4298".to_owned(),
            at: Timestamp::from_secs(1),
            handled: Handled::Due,
        };
        let met = [met("trade_no 4298"), met("trade_no 4299")];
        let told: Vec<_> = unkept(&met, std::slice::from_ref(&kept)).map(|anomaly| anomaly.detail.as_str()).collect();
        assert_eq!(told, ["trade_no 4299"]);
    }
}
