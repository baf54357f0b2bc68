//! The phones: people who log in, and the wallets' cashiers that they press buttons in.

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use simulator::{
    Entry, Simulator,
    alipay::{Press as AlipayPress, TradeStatus},
    wechat::{CashierError, CashierReason, Press as WechatPress},
};

use super::enrolment::Enrolled;
use crate::domain::wallet::Wallet;

/// How many people the demo knows; person 1 is the first.
pub const PEOPLE: u8 = 9;

/// What a person does at the cashier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Press {
    Pay,
    Cancel,
}

/// The same people in both wallets.
pub struct Phones {
    simulator: Simulator,
    wechat_app: String,
    alipay_app: String,
    openids: Vec<String>,
    user_ids: Vec<String>,
}

impl Phones {
    pub fn new(simulator: &Simulator, enrolled: &Enrolled) -> Self {
        let (wechat, alipay) = (simulator.wechat(), simulator.alipay());
        Self {
            simulator: simulator.clone(),
            wechat_app: enrolled.wechat.appid.clone(),
            alipay_app: enrolled.alipay.app_id.clone(),
            openids: (0..PEOPLE).map(|_| wechat.new_openid(&enrolled.wechat.appid)).collect(),
            user_ids: (0..PEOPLE).map(|_| alipay.new_user().user_id).collect(),
        }
    }

    /// `wx.login` or `my.getAuthCode` on this person's phone: a code that is good once.
    ///
    /// Errors: no such person; a wallet that is full.
    pub fn login(&self, wallet: Wallet, person: u8) -> anyhow::Result<String> {
        match wallet {
            Wallet::WechatPay => {
                Ok(self.simulator.wechat().new_code(&self.wechat_app, of_person(&self.openids, person)?))
            }
            Wallet::Alipay => {
                let user_id = of_person(&self.user_ids, person)?;
                Ok(self.simulator.alipay().new_auth_code(&self.alipay_app, user_id)?)
            }
        }
    }

    /// `wx.requestPayment` or `my.tradePay` on this person's phone, with what our answer held as `data`.
    ///
    /// Answers what the client API tells the mini-program, and beside it each check of the wallet: passed, failed, or not
    /// reached (`null`).
    ///
    /// Errors: no such person.
    pub async fn press(&self, wallet: Wallet, person: u8, params: &Value, press: Press) -> anyhow::Result<Value> {
        match wallet {
            Wallet::WechatPay => {
                let openid = of_person(&self.openids, person)?;
                let press = match press {
                    Press::Pay => WechatPress::Pay,
                    Press::Cancel => WechatPress::Cancel,
                };
                let result = self.simulator.wechat().request_payment(params, openid, press);
                let checks = wechat_checks(result.as_ref().err());
                let told = result.map_or_else(|refused| refused.err_msg, |done| done.err_msg);
                Ok(json!({ "api": "wx.requestPayment", "errMsg": told, "checks": checks }))
            }
            Wallet::Alipay => {
                let user_id = of_person(&self.user_ids, person)?;
                let trade_no = params["tradeNo"].as_str().unwrap_or_default();
                let checks = self.alipay_checks(trade_no, user_id);
                let press = match press {
                    Press::Pay => AlipayPress::Pay,
                    Press::Cancel => AlipayPress::Cancel,
                };
                let result = self.simulator.alipay().trade_pay(trade_no, user_id, press).await;
                Ok(json!({ "api": "my.tradePay", "resultCode": result.as_str(), "checks": checks }))
            }
        }
    }

    /// What the wallets noted about these numbers, oldest first: calls that came, and notifications that left.
    pub fn noted(&self, out_trade_nos: &[&str]) -> Vec<Entry> {
        let mut lines: Vec<Entry> =
            out_trade_nos.iter().flat_map(|number| self.simulator.ledger().of_number(number)).collect();
        lines.sort_by_key(|line| line.sequence);
        lines
    }

    /// The cashier of Alipay tells its client a code and no reason; what it looks at is looked at here, just before.
    fn alipay_checks(&self, trade_no: &str, user_id: &str) -> Value {
        let trade = self.simulator.alipay().trade_by_no(trade_no);
        let is_own = trade.as_ref().map(|trade| trade.user_id == user_id);
        let is_payable = trade.as_ref().map(|trade| trade.status == TradeStatus::WaitBuyerPay);
        json!([
            { "check": "tradeNO 是支付宝发出的交易号", "passed": trade.is_some() },
            { "check": "付款人就是下单时的买家", "passed": is_own },
            { "check": "交易未付款、未关闭、未过期", "passed": is_payable.filter(|_| is_own == Some(true)) },
        ])
    }
}

fn of_person(ids: &[String], person: u8) -> anyhow::Result<&String> {
    let at = person.checked_sub(1).map(usize::from);
    at.and_then(|at| ids.get(at)).with_context(|| format!("person is 1 to {PEOPLE}"))
}

/// The page's checks in the order in which it makes them; it stops at the first that fails.
fn wechat_checks(refused: Option<&CashierError>) -> Value {
    const CHECKS: [&str; 8] = [
        "prepay_id 是微信发出的",
        "参数齐全，全部是文本",
        "signType 为 RSA",
        "paySign 由商户私钥签名（RSA-SHA256，四行原文）",
        "appId 与下单时一致",
        "订单未付款、未关闭",
        "prepay_id 与订单未过期",
        "付款人就是下单时的 openid",
    ];
    let failed_at = refused.map(|refused| match refused.reason {
        CashierReason::UnknownPrepay | CashierReason::Fault => 0,
        CashierReason::Parameters => 1,
        CashierReason::SignType => 2,
        CashierReason::Signature => 3,
        CashierReason::AppId => 4,
        CashierReason::AlreadyPaid | CashierReason::Closed => 5,
        CashierReason::PrepayExpired | CashierReason::OrderExpired => 6,
        CashierReason::Payer => 7,
    });
    let checks = CHECKS.iter().enumerate().map(|(at, check)| {
        let passed = match failed_at {
            Some(failed) if at == failed => Some(false),
            Some(failed) if at > failed => None,
            _ => Some(true),
        };
        json!({ "check": check, "passed": passed })
    });
    checks.collect()
}
