//! One refund, as WeChat keeps and tells it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::faults::FaultKind;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};
use crate::wechat::rfc3339;
use crate::wechat::state::OrderKey;

/// State of a refund: `status` of an answer, `refund_status` of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RefundStatus {
    Processing,
    Success,
    /// Ended without its money; a further one needs a number of its own.
    Closed,
    /// The money could not reach the payer; `apply-abnormal-refund` sends it to a bank card.
    Abnormal,
}

impl RefundStatus {
    /// As on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Processing => "PROCESSING",
            Self::Success => "SUCCESS",
            Self::Closed => "CLOSED",
            Self::Abnormal => "ABNORMAL",
        }
    }

    /// Whether a refund may go from here to there: its end is an end, except that an abnormal one can be settled.
    pub(crate) fn leads_to(self, next: Self) -> bool {
        match self {
            Self::Processing => next != Self::Processing,
            Self::Abnormal => next != Self::Abnormal,
            Self::Success | Self::Closed => false,
        }
    }
}

/// A refund as WeChat has it, for assertions too. Times are Unix milliseconds, amounts fen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refund {
    /// mchid or sp_mchid.
    pub mchid: String,
    pub sub_mchid: Option<String>,
    pub out_trade_no: String,
    pub transaction_id: String,
    pub out_refund_no: String,
    /// WeChat's number, 50 and 27 digits.
    pub refund_id: String,
    pub refund_fen: i64,
    /// What was paid.
    pub total_fen: i64,
    pub reason: Option<String>,
    /// Its own, or none.
    pub notify_url: Option<String>,
    pub created_ms: i64,
    pub success_ms: Option<i64>,
    pub status: RefundStatus,
    /// Same on every delivery about one ending.
    pub notice_id: String,
}

impl Refund {
    pub(crate) fn order_key(&self) -> OrderKey {
        (self.mchid.clone(), self.out_trade_no.clone())
    }

    /// Whose balance pays it.
    pub(crate) fn payee(&self) -> &str {
        self.sub_mchid.as_deref().unwrap_or(&self.mchid)
    }

    /// A ledger line about it.
    pub(crate) fn line(&self, call: Call, event: Event) -> Entry {
        Entry::new(Wallet::Wechat, call, event)
            .merchant(&self.mchid)
            .out_trade_no(&self.out_trade_no)
            .trade_no(&self.transaction_id)
            .out_refund_no(&self.out_refund_no)
            .amount_fen(self.refund_fen)
    }

    /// As create and query answer it.
    pub(crate) fn view(&self, lies: &[FaultKind]) -> Value {
        let mut view = json!({
            "refund_id": self.refund_id,
            "out_refund_no": self.out_refund_no,
            "transaction_id": self.transaction_id,
            "out_trade_no": self.out_trade_no,
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": rfc3339(self.created_ms),
            "status": self.status.name(),
            "funds_account": "AVAILABLE",
            "amount": {
                "total": self.total_fen,
                "refund": self.refund_fen,
                "from": [],
                "payer_total": self.total_fen,
                "payer_refund": self.refund_fen,
                "settlement_refund": self.refund_fen,
                "settlement_total": self.total_fen,
                "discount_refund": 0,
                "currency": "CNY",
                "refund_fee": 0,
            },
            "promotion_detail": [],
        });
        if let Some(success_ms) = self.success_ms {
            view["success_time"] = json!(rfc3339(success_ms));
        }
        lie(view, lies)
    }

    /// As a notification tells it: another key for the state, and no `channel`.
    pub(crate) fn told(&self, lies: &[FaultKind]) -> Value {
        let mut told = match &self.sub_mchid {
            Some(sub_mchid) => json!({ "sp_mchid": self.mchid, "sub_mchid": sub_mchid }),
            None => json!({ "mchid": self.mchid }),
        };
        told["out_trade_no"] = json!(self.out_trade_no);
        told["transaction_id"] = json!(self.transaction_id);
        told["out_refund_no"] = json!(self.out_refund_no);
        told["refund_id"] = json!(self.refund_id);
        told["refund_status"] = json!(self.status.name());
        told["user_received_account"] = json!("支付用户零钱");
        told["amount"] = json!({
            "total": self.total_fen, "refund": self.refund_fen,
            "payer_total": self.total_fen, "payer_refund": self.refund_fen,
        });
        if let Some(success_ms) = self.success_ms {
            told["success_time"] = json!(rfc3339(success_ms));
        }
        lie(told, lies)
    }
}

/// Puts the lies of a plan into a refund's view: the amount that is wrong is the refund's own.
fn lie(mut view: Value, lies: &[FaultKind]) -> Value {
    for lie in lies {
        match lie {
            FaultKind::WrongAmount { fen } => {
                for name in ["refund", "payer_refund"] {
                    view["amount"][name] = json!(fen);
                }
            }
            FaultKind::WrongMerchant { merchant } => {
                for name in ["sp_mchid", "mchid"] {
                    if view.get(name).is_some() {
                        view[name] = json!(merchant);
                    }
                }
            }
            _ => {}
        }
    }
    view
}
