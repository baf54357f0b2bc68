//! Which order and refund a request claims to be about, for the ledger and the faults.

use serde_json::Value;

use super::Wechat;
use super::orders::Named;
use super::route::Route;

/// What a request claims to be about.
#[derive(Default)]
pub(super) struct About {
    pub out_trade_no: Option<String>,
    pub out_refund_no: Option<String>,
}

impl Wechat {
    /// The numbers a request is about, before anything of it is believed.
    pub(super) fn about(&self, route: &Route, claimed: Option<&str>, body: &[u8]) -> About {
        let body: Value = match route {
            Route::Prepay { .. } | Route::Refund | Route::RefundRepair { .. } => {
                serde_json::from_slice(body).unwrap_or_default()
            }
            _ => Value::Null,
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let paid = |id: &str| self.state().transactions.get(id).map(|key| key.1.clone());
        let refunded = |number: &str| self.refund_of(claimed?, number).map(|refund| refund.out_trade_no);
        match route {
            Route::Prepay { .. } => About { out_trade_no: text("out_trade_no"), out_refund_no: None },
            Route::Query { named: Named::OutTradeNo(number), .. } | Route::Close { out_trade_no: number, .. } => {
                About { out_trade_no: Some(number.clone()), out_refund_no: None }
            }
            Route::Query { named: Named::TransactionId(id), .. } => {
                About { out_trade_no: paid(id), out_refund_no: None }
            }
            Route::Refund => About {
                out_trade_no: text("out_trade_no").or_else(|| paid(&text("transaction_id")?)),
                out_refund_no: text("out_refund_no"),
            },
            Route::RefundQuery { out_refund_no } => {
                About { out_trade_no: refunded(out_refund_no), out_refund_no: Some(out_refund_no.clone()) }
            }
            Route::RefundRepair { .. } => {
                let out_refund_no = text("out_refund_no");
                About { out_trade_no: out_refund_no.as_deref().and_then(refunded), out_refund_no }
            }
            Route::Bill | Route::BillFile | Route::Certificates => About::default(),
        }
    }
}
