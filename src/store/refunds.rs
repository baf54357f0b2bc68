//! Refunds: inserted with their part of the payment set aside, then changed by one function.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, Statement,
    UpdateMany,
    sea_query::{Expr, ExprTrait, Query, SelectStatement},
};

use super::{
    entity::{
        anomalies, attempts,
        refunds::{ActiveModel, Column, Entity},
    },
    error::{Cause, StoreError},
    pool::Store,
    refund_rows::{self as rows, refund},
    run::Rows,
};
use crate::domain::{
    event::MerchantEvent,
    id::{AttemptNo, MerchantId, OrderId, RefundId, RefundNo, TradeNo},
    order::{AnomalyKind, Handled, Order},
    refund::{Initiator, Refund, RefundMoved, RefundState},
    time::Timestamp,
};

/// What became of a refund that was to be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefundInserted {
    New,
    /// The merchant used this number before: here is that refund. Whether it is *the same* one, its fingerprint tells.
    Exists(Box<Refund>),
    /// Nothing was set aside: the payment has only so much left (fen), less than was wanted.
    Exceeds {
        left: i64,
    },
    /// Nothing was set aside: the payment has as many refunds as it may have.
    TooMany,
    /// Nothing was set aside: a person settled the payment's money as gone back at the wallet. Only a refund by hand is held to that.
    WentBack,
}

/// One change of a refund, to be written whole or not at all.
#[derive(Debug)]
pub struct RefundCommit<'a> {
    pub moved: &'a RefundMoved,
    /// How far apart two sends about one payment must be.
    pub spacing: Duration,
    /// What the merchant is told of it, with the order it belongs to.
    pub told: Option<(&'a Order, &'a MerchantEvent)>,
    pub at: Timestamp,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "only a change that is done was written"]
pub enum RefundCommitted {
    Done,
    /// Somebody was first; nothing was written. Load the refund again and decide again.
    Stale,
    /// The payment's last send is too near; nothing was written. A send is allowed then.
    TooSoon {
        free_at: Timestamp,
    },
    /// More is set aside of the payment than was paid, because a refund that had failed is made after all; nothing was written,
    /// and no refund of it is sent until a person has looked.
    OverReserved,
}

/// What a refund by hand brings to its insert: a guard behind the reserve, and what is noted of the payment.
#[derive(Clone)]
struct ByHand {
    guard: Statement,
    then: Statement,
}

enum SetAside {
    Done,
    /// There is not so much left, or the payment has as many refunds as it may.
    NotSoMuch,
    WentBack,
}

impl Store {
    /// Sets a part of a payment aside and inserts the refund that has it, in one transaction: the sum of a payment's refunds
    /// never passes what was paid, whatever races.
    pub async fn insert_refund(&self, new: &Refund) -> Result<RefundInserted, StoreError> {
        self.insert_with(new, None).await
    }

    /// As [`Store::insert_refund`], for a refund that a person makes of this payment: once all of it is set aside, its anomalies
    /// are noted as refunded in the same transaction. Of it and a person who settles that money as gone back, one is first, and the
    /// other one is refused.
    pub async fn insert_refund_by_hand(&self, new: &Refund, payment: &TradeNo) -> Result<RefundInserted, StoreError> {
        let by_hand = ByHand { guard: self.did_not_go_back(new), then: self.refunded_by_hand(new, payment) };
        self.insert_with(new, Some(by_hand)).await
    }

    async fn insert_with(&self, new: &Refund, by_hand: Option<ByHand>) -> Result<RefundInserted, StoreError> {
        const ROUNDS: usize = 10;
        for _ in 0..ROUNDS {
            if let Some(found) = self.load_refund_by_no(new.merchant, &new.refund_no).await? {
                return Ok(RefundInserted::Exists(Box::new(found)));
            }
            match self.set_aside(new, by_hand.clone()).await {
                Ok(SetAside::Done) => return Ok(RefundInserted::New),
                Ok(SetAside::WentBack) => return Ok(RefundInserted::WentBack),
                Ok(SetAside::NotSoMuch) => {
                    let (left, count) = self.left_of_payment(new).await?;
                    if left < new.amount.get() {
                        return Ok(RefundInserted::Exceeds { left });
                    }
                    if count >= i64::from(Refund::PER_PAYMENT_MAX) {
                        return Ok(RefundInserted::TooMany);
                    }
                    // Another refund failed meanwhile, and there is enough now.
                }
                // The whole transaction was rolled back, the part set aside with it: a double of this call was first.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Busy { cause: Cause::new("what is left of a payment changes all the time") })
    }

    /// The part and its row, or neither.
    async fn set_aside(&self, new: &Refund, by_hand: Option<ByHand>) -> Result<SetAside, StoreError> {
        let amount = new.amount.get();
        let reserve = attempts::Entity::update_many()
            .col_expr(attempts::Column::RefundReservedFen, Expr::col(attempts::Column::RefundReservedFen).add(amount))
            .col_expr(attempts::Column::RefundCount, Expr::col(attempts::Column::RefundCount).add(1))
            .filter(payment(new.order, new.attempt))
            .filter(attempts::Column::State.eq("paid"))
            .filter(Expr::col(attempts::Column::RefundReservedFen).add(amount).lte(new.total.get()))
            .filter(attempts::Column::RefundCount.lt(Refund::PER_PAYMENT_MAX))
            .into_query();
        let insert = Entity::insert(rows::new(new)).into_query();
        let (mut guards, mut then) = (vec![self.build(&reserve)], vec![(self.build(&insert), Rows::One)]);
        if let Some(by_hand) = by_hand {
            // Behind the reserve, which holds the payment's row: whoever settles holds it too, and is seen here or waits.
            guards.push(by_hand.guard);
            then.push((by_hand.then, Rows::Any));
        }
        Ok(match self.run_if_all(guards, then).await? {
            None => SetAside::Done,
            Some(0) => SetAside::NotSoMuch,
            Some(_) => SetAside::WentBack,
        })
    }

    /// What is left of a refund's payment, in fen, and how many refunds have a part of it.
    async fn left_of_payment(&self, refund: &Refund) -> Result<(i64, i64), StoreError> {
        let select = attempts::Entity::find()
            .select_only()
            .column(attempts::Column::RefundReservedFen)
            .column(attempts::Column::RefundCount)
            .filter(payment(refund.order, refund.attempt))
            .filter(attempts::Column::State.eq("paid"))
            .into_tuple::<(i64, i32)>();
        let row = self.read("attempts", |db| async move { select.one(&*db).await }).await?;
        Ok(row.map_or((0, 0), |(reserved, count)| {
            (std::cmp::Ord::max(refund.total.get() - reserved, 0), i64::from(count))
        }))
    }

    pub async fn load_refund(&self, id: RefundId) -> Result<Option<Refund>, StoreError> {
        self.one_refund(Entity::find_by_id(id.to_string())).await
    }

    /// A refund by its merchant's number.
    pub async fn load_refund_by_no(&self, merchant: MerchantId, no: &RefundNo) -> Result<Option<Refund>, StoreError> {
        let select = Entity::find()
            .filter(Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(Column::RefundNo.eq(no.as_str()));
        self.one_refund(select).await
    }

    /// The refunds of an order, oldest first.
    pub async fn refunds_of(&self, order: OrderId) -> Result<Vec<Refund>, StoreError> {
        let select = Entity::find().filter(Column::OrderId.eq(order.to_string())).order_by_asc(Column::Id);
        self.some_refunds(select).await
    }

    /// The newest refunds in these states (all without any), at most `limit`.
    pub async fn list_refunds(&self, states: &[&str], limit: u64) -> Result<Vec<Refund>, StoreError> {
        let mut select = Entity::find().order_by_desc(Column::Id).limit(limit);
        if !states.is_empty() {
            select = select.filter(Column::State.is_in(states.iter().copied()));
        }
        self.some_refunds(select).await
    }

    async fn one_refund(&self, select: Select<Entity>) -> Result<Option<Refund>, StoreError> {
        self.read("refunds", |db| async move { select.one(&*db).await }).await?.map(refund).transpose()
    }

    async fn some_refunds(&self, select: Select<Entity>) -> Result<Vec<Refund>, StoreError> {
        self.read("refunds", |db| async move { select.all(&*db).await }).await?.into_iter().map(refund).collect()
    }

    /// Writes a change of a refund: the only way to change one after its insert.
    ///
    /// One transaction, guarded by the state and version the change started from: the refund, and what its payment has set aside
    /// and paid back, the event its merchant is told. A send also takes the payment's turn. After [`StoreError::Unavailable`] it may have been written or
    /// not: load the refund again.
    pub async fn commit_refund(&self, commit: RefundCommit<'_>) -> Result<RefundCommitted, StoreError> {
        let RefundCommit { moved, spacing, told, at } = commit;
        let to = &moved.refund;
        let change = Entity::update_many()
            .set(rows::changes(to))
            .filter(Column::Id.eq(to.id.to_string()))
            .filter(Column::State.eq(moved.from_state))
            .filter(Column::Version.eq(moved.from_version))
            .into_query();
        let mut guards = vec![self.build(&change)];
        if moved.sends {
            let turn = attempts::Entity::update_many()
                .set(attempts::ActiveModel { refund_sent_at: Set(Some(at.ms())), ..Default::default() })
                .filter(payment(to.order, to.attempt))
                .filter(attempts::Column::RefundReservedFen.lte(to.total.get()))
                .filter(
                    Condition::any()
                        .add(attempts::Column::RefundSentAt.is_null())
                        .add(attempts::Column::RefundSentAt.lte(at.minus(spacing).ms())),
                )
                .into_query();
            guards.push(self.build(&turn));
        }
        let mut then = Vec::new();
        // The order's row before its payment's, as a commit of the order takes them.
        if let Some((order, event)) = told {
            then.extend(self.event_writes(order, event, at)?);
        }
        then.extend(self.shift(moved).map(|shift| (shift, Rows::One)));
        then.extend(self.failed_to_give_back(moved).map(|write| (write, Rows::Any)));
        match self.run_if_all(guards, then).await? {
            None => {
                if told.is_some() {
                    self.wake_senders();
                }
                Ok(RefundCommitted::Done)
            }
            Some(0) => Ok(RefundCommitted::Stale),
            Some(_) => {
                let (sent_at, reserved) = self.turn_of(to).await?;
                if reserved > to.total.get() {
                    return Ok(RefundCommitted::OverReserved);
                }
                Ok(RefundCommitted::TooSoon { free_at: sent_at.unwrap_or(at).plus(spacing) })
            }
        }
    }

    /// Changes one row unless the payment's money was settled as gone back.
    fn did_not_go_back(&self, new: &Refund) -> Statement {
        use anomalies::Column;
        let went_back = Query::select()
            .expr(Expr::value(1))
            .from(anomalies::Entity)
            .and_where(Column::OrderId.eq(new.order.to_string()))
            .and_where(Column::AttemptNo.eq(i32::from(new.attempt.get())))
            .and_where(Column::Kind.ne(AnomalyKind::Disputed.as_str()))
            .and_where(Column::Handled.eq(Handled::LetGo.as_str()))
            .take();
        self.build(&hold_payment(new.order, new.attempt).filter(Expr::exists(went_back).not()).into_query())
    }

    /// Of a payment of which all is set aside: its anomalies that were decided to stay, or left to a person. One about another payment of the same
    /// number is not given back by this refund.
    fn refunded_by_hand(&self, new: &Refund, payment: &TradeNo) -> Statement {
        use anomalies::Column;
        let refunded =
            anomalies::ActiveModel { handled: Set(Handled::Refunded.as_str().to_owned()), ..Default::default() };
        let update = anomalies::Entity::update_many()
            .set(refunded)
            .filter(Column::OrderId.eq(new.order.to_string()))
            .filter(Column::AttemptNo.eq(i32::from(new.attempt.get())))
            .filter(Column::Detail.is_in([AnomalyKind::of_payment(payment), AnomalyKind::of_payment_let_go(payment)]))
            // A closed number's was kept because the anomaly beside it counts.
            .filter(unexpected(&[Handled::Kept, Handled::Person], &[Handled::Person]))
            // With a part of it free it is not given back; this runs behind the part that was set aside.
            .filter(Expr::exists(
                Query::select()
                    .expr(Expr::value(1))
                    .from(attempts::Entity)
                    .cond_where(self::payment(new.order, new.attempt))
                    .and_where(Expr::col(attempts::Column::RefundReservedFen).gte(new.total.get()))
                    .take(),
            ));
        self.build(&update.into_query())
    }

    /// A refund that failed leaves its part of unexpected money where it is: a person's, when the anomaly was noted as refunded
    /// on the strength of it. One by policy or by hand takes it there before it was noted, too, and when a person settled it meanwhile
    /// as gone back; after one by the merchant the policy goes on.
    fn failed_to_give_back(&self, moved: &RefundMoved) -> Option<Statement> {
        let refund = &moved.refund;
        let fails = matches!(refund.state, RefundState::Failed { .. }) && moved.from_state != refund.state.name();
        if !fails {
            return None;
        }
        let relied_on: &[Handled] = match refund.initiator {
            Initiator::System => &[Handled::Due, Handled::Refunded, Handled::LetGo],
            Initiator::Merchant => &[Handled::Refunded],
        };
        let to_person =
            anomalies::ActiveModel { handled: Set(Handled::Person.as_str().to_owned()), ..Default::default() };
        let update = anomalies::Entity::update_many()
            .set(to_person)
            .filter(anomalies::Column::OrderId.eq(refund.order.to_string()))
            .filter(anomalies::Column::AttemptNo.eq(i32::from(refund.attempt.get())))
            .filter(unexpected(relied_on, &[Handled::Refunded]));
        Some(self.build(&update.into_query()))
    }

    /// The payment's part of a change. Not conditional: what a wallet says happened has happened.
    fn shift(&self, moved: &RefundMoved) -> Option<Statement> {
        let shift = moved.shift;
        if shift == Default::default() {
            return None;
        }
        let count = shift.reserved.signum();
        let update = attempts::Entity::update_many()
            .col_expr(
                attempts::Column::RefundReservedFen,
                Expr::col(attempts::Column::RefundReservedFen).add(shift.reserved),
            )
            .col_expr(attempts::Column::RefundedFen, Expr::col(attempts::Column::RefundedFen).add(shift.refunded))
            .col_expr(attempts::Column::RefundCount, Expr::col(attempts::Column::RefundCount).add(count))
            .filter(payment(moved.refund.order, moved.refund.attempt));
        Some(self.build(&update.into_query()))
    }

    /// When something was sent last about a refund's payment, and what is set aside of it, in fen.
    async fn turn_of(&self, refund: &Refund) -> Result<(Option<Timestamp>, i64), StoreError> {
        let select = attempts::Entity::find()
            .select_only()
            .column(attempts::Column::RefundSentAt)
            .column(attempts::Column::RefundReservedFen)
            .filter(payment(refund.order, refund.attempt))
            .into_tuple::<(Option<i64>, i64)>();
        let row = self.read("attempts", |db| async move { select.one(&*db).await }).await?;
        Ok(row.map_or((None, 0), |(sent_at, reserved)| (sent_at.map(Timestamp::from_ms), reserved)))
    }

    /// Nothing could be done about a refund: it is due again then, and its lease is over. Beside its versions.
    pub async fn postpone_refund(&self, id: RefundId, until: Timestamp) -> Result<(), StoreError> {
        let update = Entity::update_many()
            .set(ActiveModel {
                next_at: Set(Some(until.ms())),
                lease_token: Set(None),
                leased_until: Set(None),
                ..Default::default()
            })
            .filter(Column::Id.eq(id.to_string()))
            .filter(Column::NextAt.is_not_null());
        self.execute(self.build(&update.into_query())).await?;
        Ok(())
    }
}

/// Anomalies that are money of the order which it did not wait for: late and second payments handled as the first list says,
/// payments of closed numbers as the second says.
fn unexpected(money: &[Handled], closed_number: &[Handled]) -> Condition {
    use anomalies::Column;
    let kinds = [AnomalyKind::LatePayment, AnomalyKind::SecondPayment].map(AnomalyKind::as_str);
    let handled = |by: &[Handled]| Column::Handled.is_in(by.iter().map(|handled| handled.as_str()));
    Condition::any()
        .add(Condition::all().add(Column::Kind.is_in(kinds)).add(handled(money)))
        .add(Condition::all().add(Column::Kind.eq(AnomalyKind::ClosedNumberPaid.as_str())).add(handled(closed_number)))
}

/// Changes nothing: its row is locked until the transaction ends, and counted as changed by every database here.
pub(in crate::store) fn hold_payment(order: OrderId, no: AttemptNo) -> UpdateMany<attempts::Entity> {
    let count = attempts::Column::RefundCount;
    attempts::Entity::update_many().col_expr(count, Expr::col(count)).filter(payment(order, no))
}

/// The refunds of a payment that are under way, or did not arrive ([`RefundState::is_open`]).
pub(in crate::store) fn open_refunds(order: OrderId, no: AttemptNo) -> SelectStatement {
    Query::select()
        .expr(Expr::value(1))
        .from(Entity)
        .and_where(Column::OrderId.eq(order.to_string()))
        .and_where(Column::AttemptNo.eq(i32::from(no.get())))
        .and_where(Column::State.is_not_in(["succeeded", "failed"]))
        .take()
}

fn payment(order: OrderId, no: AttemptNo) -> Condition {
    Condition::all()
        .add(attempts::Column::OrderId.eq(order.to_string()))
        .add(attempts::Column::No.eq(i32::from(no.get())))
}
