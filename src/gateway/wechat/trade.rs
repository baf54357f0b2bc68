//! Reading what WeChat Pay says about a number, and comparing it with the account.

use super::{settings::Mode, wire::Transaction};
use crate::{
    domain::{
        id::{AppId, OutTradeNo, TradeNo},
        money::{Fen, Sum},
        time::Timestamp,
    },
    gateway::{PaidTrade, TradeState},
};

/// Who the account is, for comparing.
#[derive(Debug)]
pub(super) struct Payee {
    pub mode: Mode,
    pub apps: Vec<AppId>,
}

impl Payee {
    /// The answer to a query of `number`. Errors: why it cannot be used, safe to log.
    pub fn read_answer(
        &self,
        number: &OutTradeNo,
        transaction: &Transaction,
        now: Timestamp,
    ) -> Result<TradeState, String> {
        if transaction.out_trade_no != number.to_string() {
            return Err("the answer is about another out_trade_no".into());
        }
        self.read(transaction, now)
    }

    /// The state of a transaction. `now` stands in for a payment's time where WeChat leaves it out.
    ///
    /// Errors: why it cannot be used, safe to log.
    pub fn read(&self, transaction: &Transaction, now: Timestamp) -> Result<TradeState, String> {
        let foreign = self.foreign(transaction);
        let unpaid = |state| match &foreign {
            None => Ok(state),
            Some(what) => Err(format!("the answer names another {what}")),
        };
        match transaction.trade_state.as_str() {
            // SUCCESS may become REFUND, whatever part was refunded: it was paid (§6.1).
            "SUCCESS" | "REFUND" => paid(transaction, foreign, now).map(TradeState::Paid),
            // USERPAYING belongs to code payment; it is pending.
            "NOTPAY" | "USERPAYING" => unpaid(TradeState::Unpaid),
            "CLOSED" => unpaid(TradeState::Closed),
            // REVOKED and PAYERROR belong to code payment and cannot be ours; what they leave payable is not known here.
            "REVOKED" | "PAYERROR" => Err(format!("trade_state {} is none of a mini-program", transaction.trade_state)),
            _ => Err("trade_state is not a known one".into()),
        }
    }

    /// The first field that names somebody else. Numbers that the page calls always present are needed; `sub_appid`, `trade_type`
    /// and `currency` are compared where they are there.
    fn foreign(&self, t: &Transaction) -> Option<String> {
        let differs = |name: &str, found: &Option<String>, wanted: &str| {
            (found.as_deref() != Some(wanted)).then(|| name.to_owned())
        };
        let is_app = |found: &str| self.apps.iter().any(|app| app.as_str() == found);
        let of_mode = match &self.mode {
            Mode::Direct { mchid } => differs("mchid", &t.mchid, mchid)
                .or_else(|| (!t.appid.as_deref().is_some_and(is_app)).then(|| "appid".to_owned())),
            Mode::Provider { sp_mchid, sp_appid, sub_mchid } => differs("sp_mchid", &t.sp_mchid, sp_mchid)
                .or_else(|| differs("sub_mchid", &t.sub_mchid, sub_mchid))
                .or_else(|| differs("sp_appid", &t.sp_appid, sp_appid.as_str()))
                .or_else(|| {
                    let sub_appid = t.sub_appid.as_deref().filter(|sub_appid| !sub_appid.is_empty())?;
                    (!is_app(sub_appid)).then(|| "sub_appid".to_owned())
                }),
        };
        let other = |name: &str, found: Option<&str>, wanted: &str| {
            found.filter(|found| !found.is_empty() && *found != wanted).map(|_| name.to_owned())
        };
        let currency = t.amount.as_ref().and_then(|amount| amount.currency.as_deref());
        // The currency first: without it an amount says nothing.
        other("currency", currency, "CNY").or(of_mode).or_else(|| other("trade_type", t.trade_type.as_deref(), "JSAPI"))
    }
}

fn paid(t: &Transaction, foreign: Option<String>, now: Timestamp) -> Result<PaidTrade, String> {
    let trade_no = t.transaction_id.as_deref().map(TradeNo::parse);
    let Some(Ok(trade_no)) = trade_no else {
        return Err("a paid answer without a usable transaction_id".into());
    };
    let total = t.amount.as_ref().and_then(|amount| amount.total);
    let amount = total.map(Fen::new).transpose().map_err(|_| "amount.total is out of range".to_owned())?;
    let payer_total = t.amount.as_ref().and_then(|amount| amount.payer_total);
    Ok(PaidTrade {
        trade_no,
        amount,
        payer_amount: payer_total.and_then(|total| Sum::new(total).ok()),
        // A payment must not be lost for want of its time.
        paid_at: t.success_time.as_deref().and_then(Timestamp::parse_rfc3339).unwrap_or(now),
        foreign,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{AttemptNo, OrderId};

    fn payee() -> Payee {
        Payee {
            mode: Mode::Direct { mchid: "1900000109".into() },
            apps: vec![AppId::parse("wxd678efh567hg6787").unwrap()],
        }
    }

    fn number() -> OutTradeNo {
        OutTradeNo { order: OrderId::from_bytes([1; 16]), attempt: AttemptNo::FIRST }
    }

    fn transaction(change: impl FnOnce(&mut serde_json::Value)) -> Transaction {
        let mut value = serde_json::json!({
            "mchid": "1900000109", "appid": "wxd678efh567hg6787", "out_trade_no": number().to_string(),
            "transaction_id": "4200001234202509010123456789", "trade_type": "JSAPI", "trade_state": "SUCCESS",
            "trade_state_desc": "支付成功", "bank_type": "OTHERS", "attach": "", "success_time": "2025-09-01T16:00:00+08:00",
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            "amount": {"total": 100, "payer_total": 90, "currency": "CNY", "payer_currency": "CNY"}, "brand_new": [1]
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    const NOW: Timestamp = Timestamp::from_secs(1_756_713_600);

    #[test]
    fn every_state_is_read() {
        let state =
            |state: &str| payee().read_answer(&number(), &transaction(|t| t["trade_state"] = state.into()), NOW);
        for paid in ["SUCCESS", "REFUND"] {
            let Ok(TradeState::Paid(paid)) = state(paid) else { panic!("{paid}") };
            assert_eq!((paid.amount.unwrap().get(), paid.payer_amount.unwrap().get()), (100, 90));
            assert_eq!((paid.paid_at, paid.foreign), (NOW, None));
        }
        assert_eq!(state("NOTPAY"), Ok(TradeState::Unpaid));
        assert_eq!(state("USERPAYING"), Ok(TradeState::Unpaid));
        assert_eq!(state("CLOSED"), Ok(TradeState::Closed));
        for unknown in ["REVOKED", "PAYERROR", "", "success", "BRAND_NEW"] {
            assert!(state(unknown).is_err(), "{unknown}");
        }
    }

    #[test]
    fn what_is_not_ours_is_foreign_when_paid_and_useless_otherwise() {
        type Change = fn(&mut serde_json::Value);
        let changes: [(&str, Change); 6] = [
            ("mchid", |t| t["mchid"] = "1900000110".into()),
            ("mchid", |t| _ = t.as_object_mut().unwrap().remove("mchid")),
            ("appid", |t| t["appid"] = "wx0000000000000000".into()),
            ("appid", |t| t["appid"] = serde_json::Value::Null),
            ("currency", |t| t["amount"]["currency"] = "HKD".into()),
            ("trade_type", |t| t["trade_type"] = "NATIVE".into()),
        ];
        for (field, change) in changes {
            let Ok(TradeState::Paid(paid)) = payee().read(&transaction(change), NOW) else { panic!("{field}") };
            assert_eq!(paid.foreign.as_deref(), Some(field));
            let unpaid = transaction(|t| {
                change(t);
                t["trade_state"] = "CLOSED".into();
            });
            assert!(payee().read(&unpaid, NOW).is_err(), "{field}");
        }
        let other = transaction(|t| t["out_trade_no"] = "x".into());
        assert!(payee().read_answer(&number(), &other, NOW).is_err());
    }

    #[test]
    fn a_provider_compares_both_merchants() {
        let payee = Payee {
            mode: Mode::Provider {
                sp_mchid: "1900000100".into(),
                sp_appid: AppId::parse("wx8888888888888888").unwrap(),
                sub_mchid: "1900000109".into(),
            },
            apps: vec![AppId::parse("wxd678efh567hg6787").unwrap()],
        };
        let foreign = |change: fn(&mut serde_json::Value)| {
            let transaction = transaction(|t| {
                t["mchid"] = serde_json::Value::Null;
                t["appid"] = serde_json::Value::Null;
                t["sp_mchid"] = "1900000100".into();
                t["sp_appid"] = "wx8888888888888888".into();
                t["sub_mchid"] = "1900000109".into();
                t["sub_appid"] = "wxd678efh567hg6787".into();
                change(t);
            });
            match payee.read(&transaction, NOW) {
                Ok(TradeState::Paid(paid)) => paid.foreign,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(foreign(|_| ()), None);
        assert_eq!(foreign(|t| t["sub_appid"] = serde_json::Value::Null), None);
        assert_eq!(foreign(|t| t["sub_appid"] = "".into()), None);
        assert_eq!(foreign(|t| t["sub_appid"] = "wx1".into()).as_deref(), Some("sub_appid"));
        assert_eq!(foreign(|t| t["sub_mchid"] = "1900000110".into()).as_deref(), Some("sub_mchid"));
        assert_eq!(foreign(|t| t["sp_mchid"] = serde_json::Value::Null).as_deref(), Some("sp_mchid"));
        assert_eq!(foreign(|t| t["sp_appid"] = "wx1".into()).as_deref(), Some("sp_appid"));
    }

    #[test]
    fn odd_money_is_not_guessed_at() {
        let read = |change: fn(&mut serde_json::Value)| payee().read(&transaction(change), NOW);
        assert!(read(|t| t["amount"]["total"] = 0.into()).is_err());
        assert!(read(|t| t["amount"]["total"] = (-1).into()).is_err());
        assert!(read(|t| t["transaction_id"] = "".into()).is_err());
        assert!(read(|t| t["transaction_id"] = serde_json::Value::Null).is_err());
        let Ok(TradeState::Paid(paid)) = read(|t| t["amount"]["payer_total"] = 0.into()) else { panic!() };
        assert_eq!(paid.payer_amount, Some(Sum::NOTHING));
        let Ok(TradeState::Paid(paid)) = read(|t| t["amount"] = serde_json::Value::Null) else { panic!() };
        assert_eq!(paid.amount, None);
        let Ok(TradeState::Paid(paid)) = read(|t| t["success_time"] = "nonsense".into()) else { panic!() };
        assert_eq!(paid.paid_at, NOW);
    }
}
