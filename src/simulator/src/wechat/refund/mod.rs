//! Refunds: asked for, looked up, sent to a bank card when they were abnormal.

mod ending;
mod record;
mod wanted;

use serde_json::Value;

use super::Wechat;
use super::fields::{self, text};
use super::prepay::new_notice_id;
use super::refusal::Refusal;
use super::state::{Merchant, OrderKey, State, TradeState};
use super::switches::{LimitedRefund, RefundEnding};
use crate::chance;
use crate::faults::FaultKind;
use crate::ground::Call;
use crate::ledger::Event;

pub use record::{Refund, RefundStatus};

use wanted::Wanted;

impl Wechat {
    /// `POST /v3/refund/domestic/refunds`. The number is the key: the same one refunds once, however often it is sent.
    pub(super) fn refund(&self, merchant: &Merchant, body: &[u8], lies: &[FaultKind]) -> Result<Value, Refusal> {
        let wanted = Wanted::read(&fields::read(body, fields::REFUND)?)?;
        let now_ms = self.ground.clock.now_ms();
        let switches = self.switches();
        let mut state = self.state();
        if let Some(sub_mchid) = &wanted.sub_mchid
            && !merchant.subs.contains(sub_mchid)
        {
            return Err(Refusal::new(403, "NO_AUTH", "商户号未与服务商建立受理关系", "268443701"));
        }
        let key = wanted.order_key(&state, &merchant.mchid)?;
        if let Some(known) = state.refunds.get(&(merchant.mchid.clone(), wanted.out_refund_no.clone())) {
            if known.order_key() != key || known.refund_fen != wanted.refund_fen || known.total_fen != wanted.total_fen
            {
                return Err(invalid("订单金额或退款金额与之前请求不一致，请核实后再试"));
            }
            self.ground.ledger.record(known.line(Call::Refund, Event::Repeated).note(known.status.name()));
            return Ok(known.view(lies));
        }
        let order = state.orders.get(&key).filter(|order| order.sub_mchid == wanted.sub_mchid);
        let order = order.ok_or_else(|| not_exist("订单不存在"))?;
        let transaction_id = wanted.check(order, state.refunds_of(&key), now_ms)?;
        let last_ms = state.refunds_of(&key).map(|refund| refund.created_ms).max();
        let too_soon =
            last_ms.is_some_and(|last_ms| now_ms - last_ms < self.ground.clock.scaled_ms(switches.refund_spacing_ms));
        let limited = || Refusal::new(429, "FREQUENCY_LIMITED", "频率超限，请一分钟后再试", "268447840");
        if too_soon && switches.limited_refund == LimitedRefund::NotExecuted {
            return Err(limited());
        }
        let refund = Refund {
            mchid: merchant.mchid.clone(),
            sub_mchid: wanted.sub_mchid,
            out_trade_no: key.1,
            transaction_id,
            out_refund_no: wanted.out_refund_no,
            refund_id: format!("50{}", chance::digits(27)),
            refund_fen: wanted.refund_fen,
            total_fen: wanted.total_fen,
            reason: wanted.reason,
            notify_url: wanted.notify_url,
            created_ms: now_ms,
            success_ms: None,
            status: RefundStatus::Processing,
            notice_id: new_notice_id(),
        };
        if let Some(balance) = state.balances.get_mut(refund.payee()) {
            if *balance < refund.refund_fen {
                return Err(Refusal::new(403, "NOT_ENOUGH", "基本账户余额不足，请充值后重新发起", "268443703"));
            }
            *balance -= refund.refund_fen;
        }
        let answer = refund.view(lies);
        self.keep_refund(&mut state, refund);
        if too_soon { Err(limited()) } else { Ok(answer) }
    }

    /// `GET /v3/refund/domestic/refunds/{out_refund_no}`.
    pub(super) fn refund_query(
        &self,
        merchant: &Merchant,
        out_refund_no: &str,
        query: &[(String, String)],
        lies: &[FaultKind],
    ) -> Result<Value, Refusal> {
        if let Some((unknown, _)) = query.iter().find(|(key, _)| key != "sub_mchid") {
            return Err(Refusal::parameter(&format!("/query/{unknown}"), "未定义的参数").internal("270924358"));
        }
        let sub_mchid = query.first().map(|(_, value)| value.as_str());
        let state = self.state();
        let told = lies.iter().find_map(|lie| match lie {
            FaultKind::AnswerOf { out_trade_no } => {
                state.refunds_of(&(merchant.mchid.clone(), out_trade_no.clone())).next()
            }
            _ => None,
        });
        let asked = state.refunds.get(&(merchant.mchid.clone(), out_refund_no.to_owned()));
        let refund = told.or(asked).ok_or_else(|| not_exist("退款单不存在"))?;
        match (sub_mchid, refund.sub_mchid.as_deref()) {
            (None, Some(_)) => return Err(Refusal::parameter("/query/sub_mchid", "缺少必填参数")),
            (given, known) if given != known => return Err(not_exist("退款单不存在")),
            _ => {}
        }
        self.ground.ledger.record(refund.line(Call::RefundQuery, Event::Queried).note(refund.status.name()));
        Ok(refund.view(lies))
    }

    /// `POST …/{refund_id}/apply-abnormal-refund`: the money goes to a bank card, and the refund is on its way again.
    pub(super) fn refund_repair(&self, merchant: &Merchant, refund_id: &str, body: &[u8]) -> Result<Value, Refusal> {
        let body = fields::read(body, fields::REFUND_REPAIR)?;
        match text(&body, "/type") {
            "MERCHANT_BANK_CARD" => {}
            "USER_BANK_CARD" => {
                for name in ["bank_type", "bank_account", "real_name"] {
                    if text(&body, &format!("/{name}")).is_empty() {
                        return Err(Refusal::parameter(&format!("/body/{name}"), "退款至用户银行卡时必填"));
                    }
                }
            }
            _ => return Err(Refusal::parameter("/body/type", "无效的异常退款处理方式")),
        }
        let mut state = self.state();
        let number = text(&body, "/out_refund_no").to_owned();
        let refund = state.refunds.get_mut(&(merchant.mchid.clone(), number)).filter(|refund| {
            refund.refund_id == refund_id
                && refund.sub_mchid.as_deref().unwrap_or_default() == text(&body, "/sub_mchid")
        });
        let refund = refund.ok_or_else(|| not_exist("退款单不存在"))?;
        if refund.status != RefundStatus::Abnormal {
            return Err(invalid("退款单状态非退款异常"));
        }
        refund.status = RefundStatus::Processing;
        refund.notice_id = new_notice_id();
        self.ground.ledger.record(refund.line(Call::RefundRepair, Event::RefundAccepted));
        let refund = refund.clone();
        drop(state);
        self.end_in_time(&refund, RefundEnding::Success);
        Ok(refund.view(&[]))
    }

    /// A refund is accepted: it is on its way, and its order says REFUND from now on.
    fn keep_refund(&self, state: &mut State, refund: Refund) {
        let order_key = refund.order_key();
        self.ground.ledger.record(refund.line(Call::Refund, Event::RefundAccepted));
        if let Some(order) = state.orders.get_mut(&order_key) {
            order.state = TradeState::Refund;
        }
        let key = (refund.mchid.clone(), refund.out_refund_no.clone());
        state.refunds_by_order.entry(order_key).or_default().push(key.1.clone());
        self.end_in_time(&refund, self.switches().refund_ending);
        state.refunds.insert(key, refund);
    }

    /// A refund made by hand in the merchant platform, of all that is left; it succeeds at once.
    ///
    /// False unless the order was paid; true without an effect when nothing was left.
    pub fn refund_by_hand(&self, mchid: &str, out_trade_no: &str) -> bool {
        let key: OrderKey = (mchid.to_owned(), out_trade_no.to_owned());
        let now_ms = self.ground.clock.now_ms();
        let mut state = self.state();
        let Some(order) = state.orders.get(&key) else { return false };
        let Some(transaction_id) = order.transaction_id.clone() else { return false };
        let (total_fen, sub_mchid) = (order.total_fen, order.sub_mchid.clone());
        let left_fen =
            total_fen - state.refunds_of(&key).filter(|known| known.holds()).map(|known| known.refund_fen).sum::<i64>();
        if left_fen <= 0 {
            return true;
        }
        let refund = Refund {
            mchid: key.0.clone(),
            sub_mchid,
            out_trade_no: key.1.clone(),
            transaction_id,
            out_refund_no: format!("BYHAND{}", chance::digits(20)),
            refund_id: format!("50{}", chance::digits(27)),
            refund_fen: left_fen,
            total_fen,
            reason: None,
            notify_url: None,
            created_ms: now_ms,
            success_ms: None,
            status: RefundStatus::Processing,
            notice_id: new_notice_id(),
        };
        let number = refund.out_refund_no.clone();
        self.ground.ledger.record(refund.line(Call::Other, Event::RefundAccepted).note("by hand"));
        if let Some(order) = state.orders.get_mut(&key) {
            order.state = TradeState::Refund;
        }
        state.refunds_by_order.entry(key).or_default().push(number.clone());
        state.refunds.insert((mchid.to_owned(), number.clone()), refund);
        drop(state);
        self.end_refund(mchid, &number, RefundStatus::Success)
    }

    /// One refund.
    pub fn refund_of(&self, mchid: &str, out_refund_no: &str) -> Option<Refund> {
        self.state().refunds.get(&(mchid.to_owned(), out_refund_no.to_owned())).cloned()
    }

    /// All refunds of an order, oldest first.
    pub fn refunds_of(&self, mchid: &str, out_trade_no: &str) -> Vec<Refund> {
        self.state().refunds_of(&(mchid.to_owned(), out_trade_no.to_owned())).cloned().collect()
    }

    /// What a merchant (a sub-merchant by its own number) has left to refund from; `None`, the default, is enough.
    ///
    /// Refunds take from it when they are accepted, closed ones give back; payments do not add to it.
    pub fn set_balance(&self, mchid: &str, balance_fen: Option<i64>) {
        let mut state = self.state();
        match balance_fen {
            Some(fen) => state.balances.insert(mchid.to_owned(), fen),
            None => state.balances.remove(mchid),
        };
    }

    /// Where notifications of refunds without a `notify_url` go, as set in the merchant platform; `None`: nowhere.
    pub fn set_refund_notify_url(&self, mchid: &str, url: Option<&str>) {
        let mut state = self.state();
        match url {
            Some(url) => state.refund_urls.insert(mchid.to_owned(), url.to_owned()),
            None => state.refund_urls.remove(mchid),
        };
    }
}

impl Refund {
    /// Whether its money is gone or on its way.
    pub(crate) fn holds(&self) -> bool {
        self.status != RefundStatus::Closed
    }
}

impl State {
    /// Refunds of an order, oldest first.
    pub(crate) fn refunds_of(&self, key: &OrderKey) -> impl Iterator<Item = &Refund> {
        let numbers = self.refunds_by_order.get(key).into_iter().flatten();
        numbers.filter_map(|number| self.refunds.get(&(key.0.clone(), number.clone())))
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(400, "INVALID_REQUEST", message, "268449546")
}

fn not_exist(message: &str) -> Refusal {
    Refusal::new(404, "RESOURCE_NOT_EXISTS", message, "268512772")
}
