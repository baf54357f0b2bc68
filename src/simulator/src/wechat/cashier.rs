//! The payment page on the phone: `wx.requestPayment`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Wechat;
use super::orders::order_line;
use super::seal;
use super::state::{OrderKey, PREPAY_LIFE_MS, State, TradeState};
use crate::chance;
use crate::faults::{FaultKind, Keys};
use crate::ground::{Call, Wallet};
use crate::ledger::{Entry, Event};

/// What the payer does on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Press {
    Pay,
    Cancel,
}

/// What `wx.requestPayment` tells the mini-program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CashierResult {
    /// `requestPayment:ok` or `requestPayment:fail cancel`.
    pub err_msg: String,
    /// Set when it was paid. The mini-program is not told; tests are.
    pub transaction_id: Option<String>,
}

/// Why the page did not open or did not let the payer pay; `err_msg` is what the mini-program is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
#[error("{err_msg} ({reason:?})")]
pub struct CashierError {
    pub err_msg: String,
    pub reason: CashierReason,
}

/// Which check of the page failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CashierReason {
    /// A parameter is missing or of the wrong type: all of them are text.
    Parameters,
    /// `signType` is not `RSA`.
    SignType,
    /// No prepay_id of this name.
    UnknownPrepay,
    /// The four lines are not signed by the merchant.
    Signature,
    /// Another app than the one ordered with.
    AppId,
    /// The prepay_id is older than two hours.
    PrepayExpired,
    /// Past `time_expire`.
    OrderExpired,
    AlreadyPaid,
    Closed,
    /// Another person than the one ordered for.
    Payer,
    /// A fault on demand.
    Fault,
}

impl CashierReason {
    fn told(self) -> &'static str {
        match self {
            Self::Parameters => "requestPayment:fail parameter error",
            Self::SignType => "requestPayment:fail 签名类型错误",
            Self::UnknownPrepay => "requestPayment:fail 缺少参数或prepay_id无效",
            Self::Signature => "requestPayment:fail 支付验证签名失败",
            Self::AppId => "requestPayment:fail appid不匹配",
            Self::PrepayExpired | Self::OrderExpired => "requestPayment:fail 订单已过期",
            Self::AlreadyPaid => "requestPayment:fail 该订单已支付",
            Self::Closed => "requestPayment:fail 订单已关闭",
            Self::Payer => "requestPayment:fail 订单与当前用户不匹配",
            Self::Fault => "requestPayment:fail system error",
        }
    }
}

impl From<CashierReason> for CashierError {
    fn from(reason: CashierReason) -> Self {
        Self { err_msg: reason.told().to_owned(), reason }
    }
}

impl Wechat {
    /// Opens the payment page with what the phone got, as the person `openid` (under the app of the mini-program).
    ///
    /// `params` is the JSON object of `appId`, `timeStamp`, `nonceStr`, `package`, `signType`, `paySign`; more keys are
    /// ignored. A payment schedules its notification before this returns.
    pub fn request_payment(&self, params: &Value, openid: &str, press: Press) -> Result<CashierResult, CashierError> {
        let prepay_id = text(params, "package")?.strip_prefix("prepay_id=").ok_or(CashierReason::UnknownPrepay)?;
        let Some((key, issued_ms)) = self.state().prepays.get(prepay_id).cloned() else {
            return Err(CashierReason::UnknownPrepay.into());
        };
        let plan = self.ground.faults.take(
            Wallet::Wechat,
            Call::Cashier,
            Keys { merchant: Some(&key.0), out_trade_no: Some(&key.1), ..Keys::default() },
        );
        let outcome = if plan.0.iter().any(|kind| matches!(kind, FaultKind::FailBefore { .. })) {
            Err(CashierReason::Fault)
        } else {
            self.press(params, openid, press, &key, issued_ms)
        };
        if let Err(reason) = &outcome {
            let line = Entry::new(Wallet::Wechat, Call::Cashier, Event::NotPaid).merchant(&key.0).out_trade_no(&key.1);
            self.ground.ledger.record(line.payer(openid).note(format!("{reason:?}")));
        }
        if plan.0.iter().any(|kind| matches!(kind, FaultKind::FailAfter { .. })) {
            return Err(CashierReason::Fault.into());
        }
        outcome.map_err(CashierError::from)
    }

    fn press(
        &self,
        params: &Value,
        openid: &str,
        press: Press,
        key: &OrderKey,
        issued_ms: i64,
    ) -> Result<CashierResult, CashierReason> {
        let (app_id, timestamp) = (text(params, "appId")?, text(params, "timeStamp")?);
        let (nonce, package) = (text(params, "nonceStr")?, text(params, "package")?);
        if text(params, "signType")? != "RSA" {
            return Err(CashierReason::SignType);
        }
        let message = seal::pay_message(app_id, timestamp, nonce, package);
        let pay_sign = text(params, "paySign")?;
        let merchant = self.merchant(&key.0).ok_or(CashierReason::UnknownPrepay)?;
        if timestamp.parse::<i64>().is_err() || nonce.is_empty() || nonce.len() > 32 || package.len() > 128 {
            return Err(CashierReason::Parameters);
        }
        if !merchant.certificates.iter().any(|certificate| certificate.public.verifies(&message, pay_sign)) {
            return Err(CashierReason::Signature);
        }
        let now_ms = self.ground.clock.now_ms();
        let mut state = self.state();
        self.settle(&mut state, key, now_ms);
        let order = state.orders.get(key).ok_or(CashierReason::UnknownPrepay)?;
        if order.paying_appid() != app_id {
            return Err(CashierReason::AppId);
        }
        match order.state {
            TradeState::Success | TradeState::Refund => return Err(CashierReason::AlreadyPaid),
            TradeState::Closed => return Err(CashierReason::Closed),
            TradeState::NotPay => {}
        }
        if now_ms - issued_ms > PREPAY_LIFE_MS {
            return Err(CashierReason::PrepayExpired);
        }
        if now_ms > order.expires_ms {
            return Err(CashierReason::OrderExpired);
        }
        if order.openid != openid {
            return Err(CashierReason::Payer);
        }
        if press == Press::Cancel {
            let line = order_line(Call::Cashier, Event::NotPaid, order).payer(openid);
            self.ground.ledger.record(line.note("Cancel"));
            return Ok(CashierResult { err_msg: "requestPayment:fail cancel".to_owned(), transaction_id: None });
        }
        let transaction_id = self.take_money(&mut state, key, now_ms);
        drop(state);
        self.announce(key);
        Ok(CashierResult { err_msg: "requestPayment:ok".to_owned(), transaction_id })
    }

    /// Pays an order as its payer, past the page: for races between a payment and a close.
    ///
    /// `None` when there is no such order or it is not payable.
    pub fn pay(&self, mchid: &str, out_trade_no: &str) -> Option<String> {
        let key = (mchid.to_owned(), out_trade_no.to_owned());
        let transaction_id = self.take_money(&mut self.state(), &key, self.ground.clock.now_ms())?;
        self.announce(&key);
        Some(transaction_id)
    }

    fn take_money(&self, state: &mut State, key: &OrderKey, now_ms: i64) -> Option<String> {
        let order = state.orders.get_mut(key).filter(|order| order.state == TradeState::NotPay)?;
        let transaction_id = format!("4200{}", chance::digits(24));
        order.state = TradeState::Success;
        order.transaction_id = Some(transaction_id.clone());
        order.success_ms = Some(now_ms);
        self.ground.ledger.record(order_line(Call::Cashier, Event::Paid, order).payer(&order.openid));
        state.transactions.insert(transaction_id.clone(), key.clone());
        Some(transaction_id)
    }
}

/// A parameter, which must be text: a number fails on some phones, so it fails here.
fn text<'a>(params: &'a Value, name: &str) -> Result<&'a str, CashierReason> {
    params.get(name).and_then(Value::as_str).ok_or(CashierReason::Parameters)
}
