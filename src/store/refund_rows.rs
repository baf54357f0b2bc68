//! A refund's row to what it means and back.

use sea_orm::ActiveValue::{NotSet, Set};

use super::{
    entity::refunds,
    error::StoreError,
    rows::{self, In, count, moment},
};
use crate::domain::{
    attempt::Frozen,
    id::{OrderId, RefundId, RefundNo},
    money::Fen,
    refund::{Initiator, Refund, RefundState},
    time::Timestamp,
    wallet::Wallet,
};

/// Errors: [`StoreError::Corrupt`].
pub(in crate::store) fn refund(row: refunds::Model) -> Result<Refund, StoreError> {
    let id = row.id.clone();
    let read = || {
        let state = match row.state.as_str() {
            "waiting" => RefundState::Waiting,
            "sent" => RefundState::Sent,
            "processing" => RefundState::Processing,
            "succeeded" => RefundState::Succeeded { at: moment(row.refunded_at).at("refunded_at")? },
            "failed" => RefundState::Failed { why: row.failure.at("failure")? },
            "abnormal" => RefundState::Abnormal,
            _ => return Err(rows::Column("state")),
        };
        let frozen = match (row.frozen_body, row.frozen_notify_url) {
            (Some(body), Some(notify_url)) => Some(Frozen { body, notify_url }),
            (None, None) if row.sends == 0 => None,
            _ => return Err(rows::Column("frozen_body")),
        };
        Ok(Refund {
            id: RefundId::parse(&row.id).at("id")?,
            merchant: rows::merchant_id(row.merchant_id)?,
            refund_no: RefundNo::parse(row.refund_no).at("refund_no")?,
            fingerprint: row.fingerprint.try_into().at("fingerprint")?,
            order: OrderId::parse(&row.order_id).at("order_id")?,
            attempt: rows::attempt_no(row.attempt_no, "attempt_no")?,
            wallet: Wallet::parse(&row.wallet).at("wallet")?,
            account: rows::account_id(row.account_id)?,
            amount: Fen::new(row.amount_fen).at("amount_fen")?,
            total: Fen::new(row.total_fen).at("total_fen")?,
            reason: row.reason,
            notify_url: row.notify_url,
            initiator: Initiator::parse(&row.initiator).at("initiator")?,
            state,
            frozen,
            sends: u32::try_from(row.sends).at("sends")?,
            refusals: u32::try_from(row.refusals).at("refusals")?,
            asks: u32::try_from(row.asks).at("asks")?,
            sent_at: moment(row.sent_at),
            doubtful_at: moment(row.doubtful_at),
            denied_at: moment(row.denied_at),
            known_at: moment(row.known_at),
            wallet_refund_no: row.wallet_refund_no,
            hint: row.hint,
            created_at: Timestamp::from_ms(row.created_at),
            next_at: moment(row.next_at),
            version: row.version,
        })
    };
    read().map_err(|column: rows::Column| column.of("refunds", id))
}

/// The columns of a refund that a commit may change. It ends the lease under which the scheduler worked.
pub(in crate::store) fn changes(refund: &Refund) -> refunds::ActiveModel {
    let (refunded_at, failure) = match &refund.state {
        RefundState::Succeeded { at } => (Some(at.ms()), None),
        RefundState::Failed { why } => (None, Some(why.clone())),
        RefundState::Waiting | RefundState::Sent | RefundState::Processing | RefundState::Abnormal => (None, None),
    };
    let frozen = refund.frozen.clone();
    refunds::ActiveModel {
        state: Set(refund.state.name().to_owned()),
        refunded_at: Set(refunded_at),
        failure: Set(failure),
        frozen_body: Set(frozen.as_ref().map(|frozen| frozen.body.clone())),
        frozen_notify_url: Set(frozen.map(|frozen| frozen.notify_url)),
        sends: Set(count(refund.sends)),
        refusals: Set(count(refund.refusals)),
        asks: Set(count(refund.asks)),
        sent_at: Set(refund.sent_at.map(Timestamp::ms)),
        doubtful_at: Set(refund.doubtful_at.map(Timestamp::ms)),
        denied_at: Set(refund.denied_at.map(Timestamp::ms)),
        known_at: Set(refund.known_at.map(Timestamp::ms)),
        wallet_refund_no: Set(refund.wallet_refund_no.clone()),
        hint: Set(refund.hint.clone()),
        next_at: Set(refund.next_at.map(Timestamp::ms)),
        lease_token: Set(None),
        leased_until: Set(None),
        version: Set(refund.version),
        ..Default::default()
    }
}

/// All columns of a refund, for its insert.
pub(in crate::store) fn new(refund: &Refund) -> refunds::ActiveModel {
    refunds::ActiveModel {
        id: Set(refund.id.to_string()),
        merchant_id: Set(i64::from(refund.merchant.0)),
        refund_no: Set(refund.refund_no.to_string()),
        fingerprint: Set(refund.fingerprint.to_vec()),
        order_id: Set(refund.order.to_string()),
        attempt_no: Set(i32::from(refund.attempt.get())),
        wallet: Set(refund.wallet.as_str().to_owned()),
        account_id: Set(i64::from(refund.account.0)),
        amount_fen: Set(refund.amount.get()),
        total_fen: Set(refund.total.get()),
        reason: Set(refund.reason.clone()),
        notify_url: Set(refund.notify_url.clone()),
        initiator: Set(refund.initiator.as_str().to_owned()),
        created_at: Set(refund.created_at.ms()),
        lease_token: NotSet,
        leased_until: NotSet,
        ..changes(refund)
    }
}
