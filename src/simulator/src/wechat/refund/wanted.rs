//! A refund as it is asked for, and whether it may be.

use serde_json::Value;

use super::{Refund, invalid, not_exist};
use crate::wechat::fields::text;
use crate::wechat::prepay::is_notify_url;
use crate::wechat::refusal::Refusal;
use crate::wechat::state::{Order, OrderKey, State};

/// Refunds of one order, closed ones aside.
const REFUNDS_MAX: usize = 50;
/// How long after its payment an order can be refunded.
const PERIOD_MS: i64 = 365 * 24 * 3600 * 1000;

/// A refund as it is asked for.
pub(super) struct Wanted {
    pub out_refund_no: String,
    pub out_trade_no: Option<String>,
    pub transaction_id: Option<String>,
    pub sub_mchid: Option<String>,
    pub refund_fen: i64,
    pub total_fen: i64,
    pub reason: Option<String>,
    pub notify_url: Option<String>,
}

impl Wanted {
    /// Values of a body whose keys were checked.
    pub fn read(body: &Value) -> Result<Self, Refusal> {
        let optional = |pointer: &str| Some(text(body, pointer)).filter(|text| !text.is_empty()).map(str::to_owned);
        let fen = |pointer: &str| body.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
        let wanted = Self {
            out_refund_no: text(body, "/out_refund_no").to_owned(),
            out_trade_no: optional("/out_trade_no"),
            transaction_id: optional("/transaction_id"),
            sub_mchid: optional("/sub_mchid"),
            refund_fen: fen("/amount/refund"),
            total_fen: fen("/amount/total"),
            reason: optional("/reason"),
            notify_url: optional("/notify_url"),
        };
        if !wanted.out_refund_no.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-|*@".contains(&byte)) {
            return Err(Refusal::parameter("/body/out_refund_no", "须为数字、字母或_-|*@"));
        }
        if wanted.out_trade_no.is_some() == wanted.transaction_id.is_some() {
            return Err(Refusal::parameter("/body/transaction_id", "transaction_id与out_trade_no须填一个"));
        }
        for (pointer, fen) in [("/body/amount/refund", wanted.refund_fen), ("/body/amount/total", wanted.total_fen)] {
            if fen <= 0 {
                return Err(Refusal::parameter(pointer, "须大于0").internal("268435464"));
            }
        }
        if text(body, "/amount/currency") != "CNY" {
            return Err(Refusal::parameter("/body/amount/currency", "只支持CNY"));
        }
        if let Some(from) = body.pointer("/amount/from").and_then(Value::as_array) {
            let sum: i64 = from.iter().filter_map(|part| part["amount"].as_i64()).sum();
            if sum != wanted.refund_fen {
                return Err(Refusal::parameter("/body/amount/from", "出资金额之和须等于退款金额"));
            }
        }
        if wanted.notify_url.as_deref().is_some_and(|url| !is_notify_url(url)) {
            return Err(Refusal::parameter("/body/notify_url", "须为不带参数的绝对地址"));
        }
        Ok(wanted)
    }

    pub fn order_key(&self, state: &State, mchid: &str) -> Result<OrderKey, Refusal> {
        match (&self.out_trade_no, &self.transaction_id) {
            (Some(number), _) => Ok((mchid.to_owned(), number.clone())),
            (None, Some(id)) => {
                let known = state.transactions.get(id).filter(|key| key.0 == mchid);
                known.cloned().ok_or_else(|| not_exist("订单不存在"))
            }
            (None, None) => Err(not_exist("订单不存在")),
        }
    }

    /// Whether this much may go back for this order; tells the payment's number.
    pub fn check<'a>(
        &self,
        order: &Order,
        before: impl Iterator<Item = &'a Refund>,
        now_ms: i64,
    ) -> Result<String, Refusal> {
        let (Some(transaction_id), Some(paid_ms)) = (&order.transaction_id, order.success_ms) else {
            return Err(invalid("订单未支付"));
        };
        if now_ms - paid_ms > PERIOD_MS {
            return Err(invalid("订单已超过可退款的最大期限"));
        }
        if self.total_fen != order.total_fen {
            return Err(invalid("订单金额与原订单不一致，请核实后再试"));
        }
        let held: Vec<i64> = before.filter(|refund| refund.holds()).map(|refund| refund.refund_fen).collect();
        if held.len() >= REFUNDS_MAX {
            return Err(invalid("退款次数超过上限"));
        }
        if self.refund_fen > order.total_fen - held.iter().sum::<i64>() {
            return Err(invalid("申请退款金额大于订单剩余可退金额"));
        }
        Ok(transaction_id.clone())
    }
}
