//! Rows to what they mean and back. A value that no version of this program wrote is named by its column.

use std::time::{SystemTime, UNIX_EPOCH};

use sea_orm::ActiveValue::{NotSet, Set};

use super::{
    entity::{attempts, orders},
    error::StoreError,
};
use crate::domain::{
    attempt::{Attempt, AttemptState, Dispute, Frozen, Mismatch, Payment, Retirement, Ticket},
    id::{AccountId, AppId, AttemptNo, CommandId, KeyId, MerchantId, MiniProgramId, OrderId, OrderNo, TradeNo},
    money::{Fen, Sum},
    order::{Lease, Order, OrderState},
    payer::{Payer, PayerKind},
    time::Timestamp,
    wallet::Wallet,
};

/// The column whose value cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Column(pub &'static str);

impl Column {
    pub fn of(self, table: &'static str, id: impl std::fmt::Display) -> StoreError {
        StoreError::corrupt(table, self.0, id)
    }
}

type Read<T> = Result<T, Column>;

/// Names the column of a value that cannot be read.
pub(in crate::store) trait In<T> {
    fn at(self, column: &'static str) -> Read<T>;
}

impl<T> In<T> for Option<T> {
    fn at(self, column: &'static str) -> Read<T> {
        self.ok_or(Column(column))
    }
}

impl<T, E> In<T> for Result<T, E> {
    fn at(self, column: &'static str) -> Read<T> {
        self.map_err(|_| Column(column))
    }
}

/// This machine's clock: the one SQLite has.
pub(in crate::store) fn machine_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(in crate::store) fn merchant_id(id: i64) -> Read<MerchantId> {
    u32::try_from(id).map(MerchantId).at("merchant_id")
}

pub(in crate::store) fn account_id(id: i64) -> Read<AccountId> {
    u32::try_from(id).map(AccountId).at("account_id")
}

fn mini_program_id(id: i64, column: &'static str) -> Read<MiniProgramId> {
    u32::try_from(id).map(MiniProgramId).at(column)
}

pub(in crate::store) fn moment(ms: Option<i64>) -> Option<Timestamp> {
    ms.map(Timestamp::from_ms)
}

pub(in crate::store) fn attempt_no(no: i32, column: &'static str) -> Read<AttemptNo> {
    u8::try_from(no).ok().and_then(AttemptNo::new).at(column)
}

pub(in crate::store) fn payer(kind: &str, id: String) -> Read<Payer> {
    Payer::new(PayerKind::parse(kind).at("payer_kind")?, id).at("payer_id")
}

/// An order from its row and its attempts' rows, oldest first. Errors: [`StoreError::Corrupt`].
pub(in crate::store) fn order(row: orders::Model, attempts: Vec<attempts::Model>) -> Result<Order, StoreError> {
    let mut all = Vec::with_capacity(attempts.len());
    for row in attempts {
        let (order, no) = (row.order_id.clone(), row.no);
        all.push(attempt(row).map_err(|column| column.of("attempts", format_args!("{order}/{no}")))?);
    }
    let id = row.id.clone();
    order_with(row, all).and_then(is_whole).map_err(|column| column.of("orders", id))
}

/// An order whose attempts are not what its state says lost a row: nothing may be decided on it.
fn is_whole(order: Order) -> Read<Order> {
    match order.state {
        OrderState::Open if order.payable_attempt().is_none() => Err(Column("state")),
        OrderState::Paid { by } => {
            let paid = order.attempt(by).is_some_and(|attempt| matches!(attempt.state, AttemptState::Paid { .. }));
            if paid { Ok(order) } else { Err(Column("paid_by")) }
        }
        _ => Ok(order),
    }
}

fn order_with(row: orders::Model, attempts: Vec<Attempt>) -> Read<Order> {
    let state = match row.state.as_str() {
        "waiting" => OrderState::Waiting,
        "open" => OrderState::Open,
        "paid" => OrderState::Paid { by: attempt_no(row.paid_by.at("paid_by")?, "paid_by")? },
        "closed" => OrderState::Closed { at: moment(row.closed_at).at("closed_at")? },
        _ => return Err(Column("state")),
    };
    let lease = match (row.lease_command_id, row.lease_until) {
        (None, None) => None,
        (Some(command), until) => Some(Lease {
            command: CommandId::parse(&command).at("lease_command_id")?,
            until: moment(until).at("lease_until")?,
        }),
        (None, Some(_)) => return Err(Column("lease_command_id")),
    };
    let mini_program = |id: Option<i64>, column| id.map(|id| mini_program_id(id, column)).transpose();
    Ok(Order {
        id: OrderId::parse(&row.id).at("id")?,
        merchant: merchant_id(row.merchant_id)?,
        order_no: OrderNo::parse(row.order_no).at("order_no")?,
        fingerprint: row.fingerprint.try_into().at("fingerprint")?,
        amount: Fen::new(row.amount_fen).at("amount_fen")?,
        good_name: row.good_name,
        good_no: row.good_no,
        attach: row.attach,
        notify_url: row.notify_url,
        wechat_mini_program: mini_program(row.wechat_mini_program_id, "wechat_mini_program_id")?,
        alipay_mini_program: mini_program(row.alipay_mini_program_id, "alipay_mini_program_id")?,
        created_at: Timestamp::from_ms(row.created_at),
        expire_at: Timestamp::from_ms(row.expire_at),
        link_generation: u16::try_from(row.link_generation).at("link_generation")?,
        link_key: KeyId::parse(row.link_key_id).at("link_key_id")?,
        state,
        version: row.version,
        lease,
        asked_at: moment(row.asked_at),
        close_wanted_at: moment(row.close_wanted_at),
        attempts,
    })
}

fn attempt(row: attempts::Model) -> Read<Attempt> {
    let trade_no = row.trade_no.map(TradeNo::parse).transpose().at("trade_no")?;
    let payer_amount = || row.payer_amount_fen.map(Sum::new).transpose().at("payer_amount_fen");
    let dispute = |what: Option<String>| {
        let what = what.as_deref().and_then(Mismatch::parse).at("dispute")?;
        Ok(Dispute { what, payer_amount: payer_amount()?, paid_at: moment(row.paid_at) })
    };
    let state = match row.state.as_str() {
        "sent" => AttemptState::Sent,
        "open" => AttemptState::Open {
            ticket: row.ticket.map(Ticket).at("ticket")?,
            ticket_at: moment(row.ticket_at).at("ticket_at")?,
        },
        "closed" => AttemptState::Retired { how: Retirement::Closed },
        "refused" => AttemptState::Retired { how: Retirement::Refused },
        "lapsed" => AttemptState::Retired { how: Retirement::Lapsed },
        "paid" => AttemptState::Paid {
            payment: Payment {
                trade_no: trade_no.at("trade_no")?,
                payer_amount: payer_amount()?,
                paid_at: moment(row.paid_at).at("paid_at")?,
            },
        },
        "disputed" => AttemptState::Disputed { trade_no: trade_no.at("trade_no")?, dispute: dispute(row.dispute)? },
        "let_go" => AttemptState::LetGo { trade_no: trade_no.at("trade_no")?, dispute: dispute(row.dispute)? },
        _ => return Err(Column("state")),
    };
    Ok(Attempt {
        no: attempt_no(row.no, "no")?,
        wallet: Wallet::parse(&row.wallet).at("wallet")?,
        account: account_id(row.account_id)?,
        mini_program: mini_program_id(row.mini_program_id, "mini_program_id")?,
        app_id: AppId::parse(row.app_id).at("app_id")?,
        payer: payer(&row.payer_kind, row.payer_id)?,
        frozen: Frozen { body: row.frozen_body, notify_url: row.frozen_notify_url },
        state,
        started_at: Timestamp::from_ms(row.started_at),
        sends: u32::try_from(row.sends).at("sends")?,
        refusals: u32::try_from(row.refusals).at("refusals")?,
        handed_out_at: moment(row.handed_out_at),
        next_query_at: moment(row.next_query_at),
        queries: u32::try_from(row.queries).at("queries")?,
        refunded: refunded(&row.order_id, row.no, row.refunded_fen),
    })
}

/// What went back of a payment. A wallet that gave back more than there is must not make the payment unreadable: it is cut to
/// what a sum can be, and told.
fn refunded(order: &str, no: i32, fen: i64) -> Sum {
    Sum::new(fen).unwrap_or_else(|_| {
        tracing::error!(
            order.id = order,
            attempt = no,
            fen,
            "what went back of a payment is out of range: compare it with the wallet"
        );
        if fen < 0 { Sum::NOTHING } else { Sum::MAX }
    })
}

/// A count as its column has it; a count beyond two thousand million stays there.
pub(in crate::store) fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The columns of an order that a commit may change.
pub(in crate::store) fn order_changes(order: &Order) -> orders::ActiveModel {
    let (paid_by, closed_at) = match order.state {
        OrderState::Waiting | OrderState::Open => (None, None),
        OrderState::Paid { by } => (Some(i32::from(by.get())), None),
        OrderState::Closed { at } => (None, Some(at.ms())),
    };
    orders::ActiveModel {
        link_generation: Set(i32::from(order.link_generation)),
        link_key_id: Set(order.link_key.to_string()),
        state: Set(order.state.name().to_owned()),
        paid_by: Set(paid_by),
        closed_at: Set(closed_at),
        version: Set(order.version),
        lease_command_id: Set(order.lease.map(|lease| lease.command.to_string())),
        lease_until: Set(order.lease.map(|lease| lease.until.ms())),
        asked_at: Set(order.asked_at.map(Timestamp::ms)),
        close_wanted_at: Set(order.close_wanted_at.map(Timestamp::ms)),
        ..Default::default()
    }
}

/// All columns of an order, for its insert.
pub(in crate::store) fn new_order(order: &Order) -> orders::ActiveModel {
    orders::ActiveModel {
        id: Set(order.id.to_string()),
        merchant_id: Set(i64::from(order.merchant.0)),
        order_no: Set(order.order_no.to_string()),
        fingerprint: Set(order.fingerprint.to_vec()),
        amount_fen: Set(order.amount.get()),
        good_name: Set(order.good_name.clone()),
        good_no: Set(order.good_no.clone()),
        attach: Set(order.attach.clone()),
        notify_url: Set(order.notify_url.clone()),
        wechat_mini_program_id: Set(order.wechat_mini_program.map(|id| i64::from(id.0))),
        alipay_mini_program_id: Set(order.alipay_mini_program.map(|id| i64::from(id.0))),
        created_at: Set(order.created_at.ms()),
        expire_at: Set(order.expire_at.ms()),
        ..order_changes(order)
    }
}

/// The columns of an attempt that a commit may change. `next_query_at` is not among them, see [`query_changes`].
pub(in crate::store) fn attempt_changes(attempt: &Attempt) -> attempts::ActiveModel {
    let mut row = attempts::ActiveModel {
        state: Set(attempt.state.name().to_owned()),
        sends: Set(count(attempt.sends)),
        refusals: Set(count(attempt.refusals)),
        handed_out_at: Set(attempt.handed_out_at.map(Timestamp::ms)),
        queries: Set(count(attempt.queries)),
        ..Default::default()
    };
    // What a state leaves behind stays in its columns for people: a paid attempt still shows its ticket.
    match &attempt.state {
        AttemptState::Sent | AttemptState::Retired { .. } => {}
        AttemptState::Open { ticket, ticket_at } => {
            row.ticket = Set(Some(ticket.0.clone()));
            row.ticket_at = Set(Some(ticket_at.ms()));
        }
        AttemptState::Paid { payment } => {
            row.trade_no = Set(Some(payment.trade_no.to_string()));
            row.payer_amount_fen = Set(payment.payer_amount.map(Sum::get));
            row.paid_at = Set(Some(payment.paid_at.ms()));
        }
        AttemptState::Disputed { trade_no, dispute } | AttemptState::LetGo { trade_no, dispute } => {
            row.trade_no = Set(Some(trade_no.to_string()));
            row.dispute = Set(Some(dispute.what.to_string()));
            row.payer_amount_fen = Set(dispute.payer_amount.map(Sum::get));
            row.paid_at = Set(dispute.paid_at.map(Timestamp::ms));
        }
    }
    row
}

/// A new time for the next question; it ends the lease under which the last was asked.
pub(in crate::store) fn query_changes(attempt: &Attempt, row: &mut attempts::ActiveModel) {
    row.next_query_at = Set(attempt.next_query_at.map(Timestamp::ms));
    row.query_wanted = Set(false);
    row.query_token = Set(None);
    row.query_leased_until = Set(None);
}

/// All columns of an attempt, for its insert.
pub(in crate::store) fn new_attempt(order: OrderId, attempt: &Attempt) -> attempts::ActiveModel {
    let mut row = attempts::ActiveModel {
        order_id: Set(order.to_string()),
        no: Set(i32::from(attempt.no.get())),
        wallet: Set(attempt.wallet.as_str().to_owned()),
        account_id: Set(i64::from(attempt.account.0)),
        mini_program_id: Set(i64::from(attempt.mini_program.0)),
        app_id: Set(attempt.app_id.to_string()),
        payer_kind: Set(attempt.payer.kind.as_str().to_owned()),
        payer_id: Set(attempt.payer.expose_id().to_owned()),
        frozen_body: Set(attempt.frozen.body.clone()),
        frozen_notify_url: Set(attempt.frozen.notify_url.clone()),
        started_at: Set(attempt.started_at.ms()),
        query_pulled_at: NotSet,
        refund_reserved_fen: NotSet,
        refunded_fen: NotSet,
        refund_count: NotSet,
        refund_sent_at: NotSet,
        ..attempt_changes(attempt)
    };
    query_changes(attempt, &mut row);
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_that_was_over_refunded_stays_readable() {
        for (fen, read) in [(0, 0), (1999, 1999), (-1, 0), (i64::MAX, Sum::MAX.get())] {
            assert_eq!(refunded("O", 1, fen).get(), read);
        }
    }
}
