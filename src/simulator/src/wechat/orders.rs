//! Query and close of an order.

use serde_json::{Value, json};

use super::Wechat;
use super::fields::{self, text};
use super::refusal::Refusal;
use super::state::{Merchant, Order, OrderKey, TradeState};
use super::switches::UnknownClose;
use crate::faults::FaultKind;
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};

/// How an order is named in a path.
pub(super) enum Named {
    OutTradeNo(String),
    TransactionId(String),
}

impl Wechat {
    pub(super) fn query(
        &self,
        merchant: &Merchant,
        partner: bool,
        named: &Named,
        query: &[(String, String)],
        lies: &[FaultKind],
    ) -> Result<Value, Refusal> {
        let wanted: &[&str] = if partner { &["sp_mchid", "sub_mchid"] } else { &["mchid"] };
        for (key, _) in query {
            if !wanted.contains(&key.as_str()) {
                return Err(Refusal::parameter(&format!("/query/{key}"), "未定义的参数").internal("270924358"));
            }
        }
        let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        for name in wanted {
            if parameter(name).is_none_or(str::is_empty) {
                return Err(Refusal::parameter(&format!("/query/{name}"), "缺少必填参数"));
            }
        }
        if parameter(wanted[0]) != Some(&merchant.mchid) {
            return Err(Refusal::sign("Http头Authorization中的mchid与query中的mchid不一致"));
        }
        let now_ms = self.ground.clock.now_ms();
        let switches = self.switches();
        let mut state = self.state();
        let mut key = match named {
            Named::OutTradeNo(number) => (merchant.mchid.clone(), number.clone()),
            Named::TransactionId(id) => match state.transactions.get(id) {
                Some(key) if key.0 == merchant.mchid => key.clone(),
                _ => return Err(Refusal::order_not_exist()),
            },
        };
        for lie in lies {
            if let FaultKind::AnswerOf { out_trade_no } = lie {
                key.1.clone_from(out_trade_no);
            }
        }
        self.settle(&mut state, &key, now_ms);
        let order = state.orders.get(&key).ok_or_else(Refusal::order_not_exist)?;
        if order.partner != partner || order.sub_mchid.as_deref() != parameter("sub_mchid") {
            return Err(Refusal::order_not_exist().internal("268447845"));
        }
        self.ground.ledger.record(order_line(Call::Query, Event::Queried, order).note(order.state.name()));
        let amount = order.transaction_id.is_some() || switches.unpaid_amount;
        Ok(lie_about(view(order, amount), lies))
    }

    /// `Ok` is 204.
    pub(super) fn close(
        &self,
        merchant: &Merchant,
        partner: bool,
        out_trade_no: &str,
        body: &[u8],
    ) -> Result<(), Refusal> {
        let fields = if partner { fields::PARTNER_CLOSE } else { fields::CLOSE };
        let body = fields::read(body, fields)?;
        let mchid = text(&body, if partner { "/sp_mchid" } else { "/mchid" });
        if mchid != merchant.mchid {
            return Err(Refusal::sign("Http头Authorization中的mchid与body中的mchid不一致"));
        }
        let now_ms = self.ground.clock.now_ms();
        let unknown = self.switches().unknown_close;
        let key: OrderKey = (merchant.mchid.clone(), out_trade_no.to_owned());
        let mut state = self.state();
        self.settle(&mut state, &key, now_ms);
        let sub_mchid = Some(text(&body, "/sub_mchid")).filter(|sub_mchid| !sub_mchid.is_empty());
        let order = state
            .orders
            .get_mut(&key)
            .filter(|order| order.partner == partner && order.sub_mchid.as_deref() == sub_mchid);
        let Some(order) = order else {
            return match unknown {
                UnknownClose::NotExist => Err(Refusal::order_not_exist()),
                UnknownClose::NoContent => Ok(()),
            };
        };
        match order.state {
            TradeState::Success | TradeState::Refund => {
                Err(Refusal::new(400, "ORDER_PAID", "该订单已支付", "268449538"))
            }
            TradeState::Closed => Ok(()),
            TradeState::NotPay => {
                order.state = TradeState::Closed;
                self.ground.ledger.record(order_line(Call::Close, Event::Closed, order));
                Ok(())
            }
        }
    }
}

/// A line about an order.
pub(super) fn order_line(call: Call, event: Event, order: &Order) -> Entry {
    let line = Entry::new(Wallet::Wechat, call, event).merchant(&order.mchid).out_trade_no(&order.out_trade_no);
    let line = line.amount_fen(order.total_fen);
    match &order.transaction_id {
        Some(transaction_id) => line.trade_no(transaction_id),
        None => line,
    }
}

/// An order as a query and a notification tell it.
pub(super) fn view(order: &Order, amount: bool) -> Value {
    let mut view = if order.partner {
        let mut view = json!({ "sp_appid": order.appid, "sp_mchid": order.mchid, "sub_mchid": order.sub_mchid });
        if let Some(sub_appid) = &order.sub_appid {
            view["sub_appid"] = json!(sub_appid);
        }
        view
    } else {
        json!({ "appid": order.appid, "mchid": order.mchid })
    };
    view["out_trade_no"] = json!(order.out_trade_no);
    view["trade_state"] = json!(order.state.name());
    view["trade_state_desc"] = json!(order.state.description());
    if let Some(attach) = &order.attach {
        view["attach"] = json!(attach);
    }
    if amount {
        view["amount"] = json!({ "total": order.total_fen, "currency": "CNY" });
    }
    if let (Some(transaction_id), Some(success_ms)) = (&order.transaction_id, order.success_ms) {
        view["transaction_id"] = json!(transaction_id);
        view["trade_type"] = json!("JSAPI");
        view["bank_type"] = json!("OTHERS");
        view["success_time"] = json!(super::rfc3339(success_ms));
        view["payer"] = payer(order);
        view["amount"]["payer_total"] = json!(order.total_fen);
        view["amount"]["payer_currency"] = json!("CNY");
    }
    view
}

fn payer(order: &Order) -> Value {
    if !order.partner {
        return json!({ "openid": order.openid });
    }
    let mut payer = json!({});
    // A payer known by one app only is told by that app's openid only; that is all we remember of them.
    let sp_openid = text(&order.body, "/payer/sp_openid");
    if !sp_openid.is_empty() {
        payer["sp_openid"] = json!(sp_openid);
    }
    if order.sub_payer {
        payer["sub_openid"] = json!(order.openid);
    }
    payer
}

/// Puts the lies of a plan into an order's view.
pub(super) fn lie_about(mut view: Value, lies: &[FaultKind]) -> Value {
    for lie in lies {
        match lie {
            FaultKind::WrongAmount { fen } => {
                view["amount"]["total"] = json!(fen);
                if view["amount"].get("payer_total").is_some() {
                    view["amount"]["payer_total"] = json!(fen);
                }
            }
            FaultKind::WrongMerchant { merchant } => {
                let key = if view.get("sp_mchid").is_some() { "sp_mchid" } else { "mchid" };
                view[key] = json!(merchant);
            }
            _ => {}
        }
    }
    view
}
