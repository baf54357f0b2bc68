//! `/_sim/alipay/…`: the Rust API of [`Alipay`] for tests in other processes, as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

use super::cashier::Press;
use super::{Alipay, AppOptions, Switches};
use crate::bill::{BillChange, SyntheticBill};
use crate::control::{ControlError, read, write};
use crate::faults::FaultKind;
use crate::keys::{PublicKey, RsaKey};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    app_id: String,
    op_app_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Authorisation {
    provider: String,
    merchant_app: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Phone {
    app_id: String,
    user_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct App {
    app_id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppKey {
    app_id: String,
    public_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlipayKey {
    app_id: String,
    private_key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    app_id: String,
    out_trade_no: String,
    /// Lies of a notice made by hand.
    #[serde(default)]
    faults: Vec<FaultKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefundOf {
    app_id: String,
    out_trade_no: String,
    /// Of a notice made by hand.
    out_request_no: Option<String>,
    /// Of a refund made by hand.
    refund_fen: Option<u64>,
    #[serde(default)]
    faults: Vec<FaultKind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Balance {
    seller_id: String,
    balance_fen: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BillsOf {
    seller_id: String,
    change: Option<BillChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Synthetic {
    seller_id: String,
    date: String,
    bill: SyntheticBill,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    app_id: String,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TradeNo {
    trade_no: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    trade_no: String,
    user_id: String,
    #[serde(default = "pay")]
    press: Press,
}

fn pay() -> Press {
    Press::Pay
}

impl Alipay {
    /// Answers `/_sim/alipay/{path}`; `body` is `null` without one. Method is not looked at: bodies say what is meant.
    pub(crate) async fn control(&self, path: &str, body: Value) -> Result<Value, ControlError> {
        let refused = |error: super::AlipayError| ControlError::Refused(error.to_string());
        let no_key = |error: crate::KeyError| ControlError::Body(error.to_string());
        match path {
            "apps" => write(self.new_app(if body.is_null() { AppOptions::default() } else { read(body)? })),
            "users" => write(self.new_user()),
            "bindings" => {
                let Binding { app_id, op_app_id } = read(body)?;
                self.bind_op_app(&app_id, &op_app_id).map_err(refused)?;
                Ok(Value::Null)
            }
            "unbind" => {
                let Binding { app_id, op_app_id } = read(body)?;
                Ok(json!(self.unbind_op_app(&app_id, &op_app_id)))
            }
            "app_auth_tokens" => {
                let Authorisation { provider, merchant_app } = read(body)?;
                let token = self.new_app_auth_token(&provider, &merchant_app).map_err(refused)?;
                Ok(json!({ "app_auth_token": token }))
            }
            "auth_codes" => {
                let Phone { app_id, user_id } = read(body)?;
                Ok(json!({ "code": self.new_auth_code(&app_id, &user_id).map_err(refused)? }))
            }
            "open_ids" => {
                let Phone { app_id, user_id } = read(body)?;
                Ok(json!({ "open_id": self.open_id(&app_id, &user_id).map_err(refused)? }))
            }
            "renew_cert" => {
                let App { app_id } = read(body)?;
                Ok(json!({ "alipay_cert_sn": self.renew_alipay_cert(&app_id).map_err(refused)? }))
            }
            "app_key" => {
                let AppKey { app_id, public_key } = read(body)?;
                self.set_app_key(&app_id, PublicKey::from_pem(&public_key).map_err(no_key)?).map_err(refused)?;
                Ok(Value::Null)
            }
            "alipay_key" => {
                let AlipayKey { app_id, private_key } = read(body)?;
                self.set_alipay_key(&app_id, RsaKey::from_pkcs8_pem(&private_key).map_err(no_key)?).map_err(refused)?;
                Ok(Value::Null)
            }
            "trade_pay" => {
                let Payment { trade_no, user_id, press } = read(body)?;
                let result = self.trade_pay(&trade_no, &user_id, press).await;
                Ok(json!({ "result_code": result.as_str() }))
            }
            "pay_from_bills" => {
                let Payment { trade_no, user_id, .. } = read(body)?;
                Ok(json!({ "paid": self.pay_from_bills(&trade_no, &user_id) }))
            }
            "pay" => {
                let of: Number = read(body)?;
                Ok(json!({ "trade_no": self.pay_number(&of.app_id, &of.out_trade_no) }))
            }
            "notify_now" => {
                let of: Number = read(body)?;
                let answer = self.notify_now(&of.app_id, &of.out_trade_no, &of.faults).await;
                let (status, body) = answer.map_err(ControlError::Refused)?;
                Ok(json!({ "status": status, "body": String::from_utf8_lossy(&body) }))
            }
            "refund_by_hand" => {
                let of: RefundOf = read(body)?;
                let fen = of.refund_fen.ok_or_else(|| ControlError::Body("refund_fen is missing".into()))?;
                let number = self.refund_by_hand(&of.app_id, &of.out_trade_no, fen).map_err(ControlError::Refused)?;
                Ok(json!({ "out_request_no": number }))
            }
            "notify_refund_now" => {
                let of: RefundOf = read(body)?;
                let number = of.out_request_no.unwrap_or_else(|| of.out_trade_no.clone());
                let answer = self.notify_refund_now(&of.app_id, &of.out_trade_no, &number, &of.faults).await;
                let (status, body) = answer.map_err(ControlError::Refused)?;
                Ok(json!({ "status": status, "body": String::from_utf8_lossy(&body) }))
            }
            "balance" => {
                let of: Balance = read(body)?;
                self.set_seller_balance(&of.seller_id, of.balance_fen);
                Ok(Value::Null)
            }
            "change_bills" => {
                let of: BillsOf = read(body)?;
                let change = of.change.ok_or_else(|| ControlError::Body("change is missing".into()))?;
                self.change_bills(&of.seller_id, change);
                Ok(Value::Null)
            }
            "true_bills" => {
                self.true_bills(&read::<BillsOf>(body)?.seller_id);
                Ok(Value::Null)
            }
            "synthetic_bill" => {
                let of: Synthetic = read(body)?;
                Ok(json!(self.set_synthetic_bill(&of.seller_id, &of.date, of.bill)))
            }
            "trade" => {
                let of: Number = read(body)?;
                write(self.trade(&of.app_id, &of.out_trade_no))
            }
            "trades" => {
                let of: Numbers = read(body)?;
                write(self.trades(&of.app_id, &of.prefix))
            }
            "finish" => {
                let TradeNo { trade_no } = read(body)?;
                self.finish(&trade_no).map_err(refused)?;
                Ok(Value::Null)
            }
            "switches" if body.is_null() => write(self.switches()),
            "switches" => {
                let changed = merged(write(self.switches())?, body);
                let changed: Switches = read(changed)?;
                self.set_switches(|switches| *switches = changed);
                write(self.switches())
            }
            _ => Err(ControlError::Unknown(path.to_owned())),
        }
    }
}

/// Switches that are not named keep their position.
fn merged(mut all: Value, change: Value) -> Value {
    match (all.as_object_mut(), change) {
        (Some(known), Value::Object(change)) => {
            known.extend(change);
            all
        }
        (_, other) => other,
    }
}
