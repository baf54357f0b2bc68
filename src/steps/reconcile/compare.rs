//! One row of a bill against our row. Pure.

use crate::{
    domain::{
        bill::{DiscrepancyKind, Repair},
        id::{AccountId, OutTradeNo},
        refund::{Refund, RefundState},
    },
    gateway::{BillRow, RefundStatus},
    store::{BillKey, Found, KnownPayment, payment_key, refund_key},
};

/// What came of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// Not our business: another system's, or another account's of ours.
    OfOthers,
    /// Ours; with what is wrong about it, if anything.
    Ours { key: BillKey, wrong: Option<Found> },
    /// It should be ours and we have no row of it.
    Unknown(Found),
}

/// A payment's row; `known` is our row of its number.
pub(super) fn payment(row: &BillRow, account: AccountId, known: Option<&KnownPayment>) -> Compared {
    let Ok(number) = OutTradeNo::parse(&row.out_trade_no) else { return Compared::OfOthers };
    let theirs = format!("paid {} fen, {}", row.amount.get(), row.wallet_trade_no);
    let Some(known) = known else {
        return Compared::Unknown(found(DiscrepancyKind::UnknownNumber, row, Repair::Person, "no such number", theirs));
    };
    if known.account != account {
        return Compared::OfOthers;
    }
    let wrong = |kind, repair| Some(found(kind, row, repair, describe(known), theirs.clone()));
    let same_trade = known.trade_no.as_deref() == Some(row.wallet_trade_no.as_str());
    let settled_here = match known.state.as_str() {
        "paid" | "disputed" => true,
        // Another trade than the one that was let go is news.
        "let_go" => same_trade,
        _ => false,
    };
    let wrong = if settled_here && known.state == "let_go" {
        // In no books of ours, and a person knows of it: not missing, whatever its amount is.
        wrong(DiscrepancyKind::StatusDiffers, Repair::Person)
    } else if known.amount_fen != row.amount.get() {
        // Not heard of yet, it becomes disputed when the wallet is asked.
        wrong(DiscrepancyKind::AmountDiffers, if settled_here { Repair::Person } else { Repair::AskPayment })
    } else if !settled_here {
        wrong(DiscrepancyKind::MissingHere, Repair::AskPayment)
    } else if known.state == "disputed" || !same_trade {
        wrong(DiscrepancyKind::StatusDiffers, Repair::Person)
    } else {
        None
    };
    Compared::Ours { key: payment_key(number), wrong: wrong.map(|found| Found { order: Some(number.order), ..found }) }
}

/// A refund's row; `known` is our row of its number, `payment` that of the payment it gives back.
pub(super) fn refund(
    row: &BillRow,
    account: AccountId,
    known: Option<&Refund>,
    payment: Option<&KnownPayment>,
) -> Compared {
    let theirs = match row.refund_status {
        Some(status) => format!("{} fen back, {}", row.amount.get(), name(status)),
        None => format!("{} fen back", row.amount.get()),
    };
    let Some(known) = known else {
        let ours = match payment {
            Some(payment) if payment.account != account => return Compared::OfOthers,
            // Money of a payment of ours went back by another hand: the merchant's, in the wallet's own pages, say.
            Some(_) => "no such refund",
            // A number of our form that nobody knows, just as that of a payment's own row.
            None if OutTradeNo::parse(&row.out_trade_no).is_ok() => "no such payment, no such refund",
            None => return Compared::OfOthers,
        };
        let unknown = found(DiscrepancyKind::UnknownNumber, row, Repair::Person, ours, theirs);
        return Compared::Unknown(Found { order: payment.map(|payment| payment.number.order), ..unknown });
    };
    if known.account != account {
        return Compared::OfOthers;
    }
    let ours = format!("{} fen back, {}", known.amount.get(), known.state.name());
    let wrong = if known.amount.get() != row.amount.get() {
        Some(found(DiscrepancyKind::AmountDiffers, row, Repair::Person, ours, theirs))
    } else if known.out_trade_no().to_string() != row.out_trade_no {
        Some(found(DiscrepancyKind::StatusDiffers, row, Repair::Person, known.out_trade_no(), theirs))
    } else if agree(&known.state, row.refund_status) {
        None
    } else {
        Some(found(DiscrepancyKind::StatusDiffers, row, Repair::AskRefund, ours, theirs))
    };
    Compared::Ours { key: refund_key(known.id), wrong: wrong.map(|found| Found { order: Some(known.order), ..found }) }
}

/// A row that came before.
pub(super) fn twice(row: &BillRow) -> Found {
    let order = OutTradeNo::parse(&row.out_trade_no).ok().map(|number| number.order);
    let theirs = format!("{} fen, and the same again", row.amount.get());
    Found { order, ..found(DiscrepancyKind::StatusDiffers, row, Repair::Person, "once", theirs) }
}

/// A payment of ours that the bill should have named.
pub(super) fn payment_missing_there(known: &KnownPayment) -> Found {
    Found {
        kind: DiscrepancyKind::MissingThere,
        out_trade_no: known.number.to_string(),
        out_refund_no: None,
        order: Some(known.number.order),
        ours: describe(known),
        theirs: "not in the bill".to_owned(),
        repair: Repair::AskPayment,
    }
}

/// A refund of ours that a bill should have named.
pub(super) fn refund_missing_there(known: &Refund) -> Found {
    Found {
        kind: DiscrepancyKind::MissingThere,
        out_trade_no: known.out_trade_no().to_string(),
        out_refund_no: Some(known.out_refund_no().to_string()),
        order: Some(known.order),
        ours: format!("{} fen back, {}", known.amount.get(), known.state.name()),
        theirs: "in no bill".to_owned(),
        repair: Repair::AskRefund,
    }
}

/// A bill's status is of the end of its day and never updated (`wechat-pay.md` §9.2): what is further here is no difference.
fn agree(ours: &RefundState, theirs: Option<RefundStatus>) -> bool {
    match theirs {
        None => true,
        Some(RefundStatus::Success) => matches!(ours, RefundState::Succeeded { .. }),
        Some(RefundStatus::Processing) => !matches!(ours, RefundState::Waiting | RefundState::Failed { .. }),
        Some(RefundStatus::Abnormal) => matches!(ours, RefundState::Abnormal | RefundState::Succeeded { .. }),
        Some(RefundStatus::Closed) => matches!(ours, RefundState::Failed { .. }),
    }
}

const fn name(status: RefundStatus) -> &'static str {
    match status {
        RefundStatus::Processing => "processing",
        RefundStatus::Success => "success",
        RefundStatus::Abnormal => "abnormal",
        RefundStatus::Closed => "closed",
    }
}

fn describe(known: &KnownPayment) -> String {
    let state = if known.state == "let_go" { "let go by a person, of" } else { known.state.as_str() };
    match (&known.trade_no, known.paid_at) {
        (Some(trade_no), Some(at)) => format!("{state} {} fen, {trade_no}, {}", known.amount_fen, at.rfc3339()),
        _ => format!("{state} {} fen", known.amount_fen),
    }
}

fn found(kind: DiscrepancyKind, row: &BillRow, repair: Repair, ours: impl ToString, theirs: impl ToString) -> Found {
    Found {
        kind,
        out_trade_no: row.out_trade_no.clone(),
        out_refund_no: row.out_refund_no.clone(),
        order: None,
        ours: ours.to_string(),
        theirs: theirs.to_string(),
        repair,
    }
}

#[cfg(test)]
mod tests;
