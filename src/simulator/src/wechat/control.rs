//! Control routes below `/_sim/wechat/`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::cashier::Press;
use super::enrol::MerchantOptions;
use super::refund::RefundStatus;
use super::state::KeyMode;
use super::{Switches, Wechat};
use crate::bill::{BillChange, SyntheticBill};
use crate::control::{ControlError, read, write};
use crate::faults::FaultKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfMerchant {
    mchid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfNumber {
    mchid: String,
    out_trade_no: String,
    /// Lies of a notification made by hand.
    #[serde(default)]
    faults: Vec<FaultKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRefund {
    mchid: String,
    out_refund_no: String,
    /// How it ends.
    status: Option<RefundStatus>,
    /// Lies of a notification made by hand.
    #[serde(default)]
    faults: Vec<FaultKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balance {
    mchid: String,
    balance_fen: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundUrl {
    mchid: String,
    url: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BillsOf {
    mchid: String,
    change: Option<BillChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Synthetic {
    mchid: String,
    date: String,
    bill: SyntheticBill,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    appid: String,
    mchid: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    appid: String,
    /// A new person without it.
    openid: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    params: Value,
    openid: String,
    press: Press,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModeOf {
    mchid: String,
    key_mode: KeyMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyOf {
    mchid: String,
    serial_no: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Serial {
    serial_no: String,
}

impl Wechat {
    /// Answers `/_sim/wechat/{path}`; `body` is `null` without one.
    pub(crate) async fn control(self: &Arc<Self>, path: &str, body: Value) -> Result<Value, ControlError> {
        let unknown = |what: &str| ControlError::Refused(format!("no such {what}"));
        let failed = |error: crate::keys::KeyError| ControlError::Refused(error.to_string());
        match path {
            "merchants" => {
                let options = if body.is_null() { MerchantOptions::default() } else { read(body)? };
                write(self.new_merchant(options).map_err(failed)?)
            }
            "sub_merchants" => {
                let of: OfMerchant = read(body)?;
                Ok(json!({ "sub_mchid": self.new_sub_merchant(&of.mchid).ok_or_else(|| unknown("merchant"))? }))
            }
            "merchant_keys" => {
                let of: OfMerchant = read(body)?;
                write(self.new_merchant_key(&of.mchid).map_err(failed)?.ok_or_else(|| unknown("merchant"))?)
            }
            "merchant_keys/revoke" => {
                let of: KeyOf = read(body)?;
                Ok(json!(self.revoke_merchant_key(&of.mchid, &of.serial_no)))
            }
            "apiv3_key" => {
                let of: OfMerchant = read(body)?;
                Ok(json!({ "apiv3_key": self.new_apiv3_key(&of.mchid).ok_or_else(|| unknown("merchant"))? }))
            }
            "key_mode" => {
                let of: ModeOf = read(body)?;
                Ok(json!(self.set_key_mode(&of.mchid, of.key_mode)))
            }
            "apps" => write(self.new_app(&read::<OfMerchant>(body)?.mchid)),
            "apps/bind" => {
                let of: Binding = read(body)?;
                Ok(json!(self.bind_app(&of.appid, &of.mchid)))
            }
            "openids" => Ok(json!({ "openid": self.new_openid(&read::<Login>(body)?.appid) })),
            "codes" => {
                let login: Login = read(body)?;
                let openid = login.openid.unwrap_or_else(|| self.new_openid(&login.appid));
                Ok(json!({ "code": self.new_code(&login.appid, &openid), "openid": openid }))
            }
            "request_payment" => {
                let payment: Payment = read(body)?;
                match self.request_payment(&payment.params, &payment.openid, payment.press) {
                    Ok(result) => write(result),
                    Err(error) => write(error),
                }
            }
            "pay" => {
                let of: OfNumber = read(body)?;
                let transaction_id = self.pay(&of.mchid, &of.out_trade_no);
                Ok(json!({ "transaction_id": transaction_id.ok_or_else(|| unknown("payable order"))? }))
            }
            "refund_by_hand" => {
                let of: OfNumber = read(body)?;
                Ok(json!(self.refund_by_hand(&of.mchid, &of.out_trade_no)))
            }
            "notify_now" => {
                let of: OfNumber = read(body)?;
                let answer = self.notify_now(&of.mchid, &of.out_trade_no, &of.faults).await;
                let answer = answer.map_err(ControlError::Refused)?;
                Ok(json!({ "status": answer.status, "body": String::from_utf8_lossy(&answer.body) }))
            }
            "refund" => {
                let of: OfRefund = read(body)?;
                write(self.refund_of(&of.mchid, &of.out_refund_no).ok_or_else(|| unknown("refund"))?)
            }
            "refunds" => {
                let of: OfNumber = read(body)?;
                write(self.refunds_of(&of.mchid, &of.out_trade_no))
            }
            "end_refund" => {
                let of: OfRefund = read(body)?;
                let status = of.status.ok_or_else(|| ControlError::Body("status is missing".into()))?;
                Ok(json!(self.end_refund(&of.mchid, &of.out_refund_no, status)))
            }
            "notify_refund_now" => {
                let of: OfRefund = read(body)?;
                let answer = self.notify_refund_now(&of.mchid, &of.out_refund_no, &of.faults).await;
                let answer = answer.map_err(ControlError::Refused)?;
                Ok(json!({ "status": answer.status, "body": String::from_utf8_lossy(&answer.body) }))
            }
            "balance" => {
                let of: Balance = read(body)?;
                self.set_balance(&of.mchid, of.balance_fen);
                Ok(Value::Null)
            }
            "refund_notify_url" => {
                let of: RefundUrl = read(body)?;
                self.set_refund_notify_url(&of.mchid, of.url.as_deref());
                Ok(Value::Null)
            }
            "order" => {
                let of: OfNumber = read(body)?;
                write(self.order(&of.mchid, &of.out_trade_no).ok_or_else(|| unknown("order"))?)
            }
            "switches" => {
                // Only the switches named are changed.
                let mut now = write(self.switches())?;
                if let (Some(now), Value::Object(changes)) = (now.as_object_mut(), body) {
                    now.extend(changes);
                }
                let switches: Switches = read(now)?;
                self.set_switches(|now| *now = switches.clone());
                write(switches)
            }
            "change_bills" => {
                let of: BillsOf = read(body)?;
                let change = of.change.ok_or_else(|| ControlError::Body("change is missing".into()))?;
                self.change_bills(&of.mchid, change);
                Ok(Value::Null)
            }
            "true_bills" => {
                self.true_bills(&read::<OfMerchant>(body)?.mchid);
                Ok(Value::Null)
            }
            "synthetic_bill" => {
                let Synthetic { mchid, date, bill } = read(body)?;
                // Its hash takes a moment.
                let this = self.clone();
                let set = tokio::task::spawn_blocking(move || this.set_synthetic_bill(&mchid, &date, bill)).await;
                Ok(json!(set.unwrap_or(false)))
            }
            "certificates/add" => Ok(json!({ "serial_no": self.add_platform_certificate().map_err(failed)? })),
            "certificates/sign_with" => Ok(json!(self.sign_with_certificate(&read::<Serial>(body)?.serial_no))),
            "certificates/remove" => Ok(json!(self.remove_platform_certificate(&read::<Serial>(body)?.serial_no))),
            _ => Err(ControlError::Unknown(path.to_owned())),
        }
    }
}
