//! The gateway against a stand-in on the loopback address: what its tests share.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    fake::{NOW_S, Reply, public_key_id},
    *,
};
use crate::{
    domain::{id::AttemptNo, money::Fen, payer::PayerKind},
    gateway::http::HttpSettings,
    keys::test_vectors::{read, wechat_json},
};

mod around;
mod bills;
mod calls;
mod extras;
mod refunds;

const MCHID: &str = "1900000109";
const APP: &str = "wxd678efh567hg6787";
const APIV3_KEY: &str = "a7cde1ZJB1kG2e7VfTs3jQzaWizur8Gb";
const OPENID: &str = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o";
const NOW: Timestamp = Timestamp::from_secs(NOW_S);
const APP_SECRET: &str = "0123456789abcdef0123456789hushed";

fn app(app_id: &str) -> AppId {
    AppId::parse(app_id).unwrap()
}

fn number() -> OutTradeNo {
    OutTradeNo { order: OrderId::from_bytes([1; 16]), attempt: AttemptNo::FIRST }
}

fn refund_number() -> OutRefundNo {
    OutRefundNo::parse("01hzy3v9k2m4n6p8q0r2s4t6v8").unwrap()
}

fn direct() -> Mode {
    Mode::Direct { mchid: MCHID.into() }
}

fn provider() -> Mode {
    Mode::Provider { sp_mchid: "1900000100".into(), sp_appid: app("wx8888888888888888"), sub_mchid: MCHID.into() }
}

fn pinned() -> WechatPublicKeys {
    let mut keys = WechatPublicKeys::default();
    keys.pin_public_key(&public_key_id(), &read("wechat/java/wechat_pay_public_key.pem")).unwrap();
    keys
}

fn settings_of(mode: Mode, base_url: &str, backup_url: &str) -> WechatSettings {
    WechatSettings {
        mode,
        serial_no: "5f1c72e2a8931b72a2e13af8dee92471eb397115".into(),
        base_url: Some(base_url.into()),
        backup_url: Some(backup_url.into()),
        login_url: None,
        extras: Extras::default(),
        goods_tag: None,
    }
}

fn gateway_of(mode: Mode, base_url: &str, backup_url: &str, keys: WechatPublicKeys) -> WechatGateway {
    gateway_with(&settings_of(mode, base_url, backup_url), keys)
}

fn gateway_with(settings: &WechatSettings, keys: WechatPublicKeys) -> WechatGateway {
    let secrets = WechatSecrets {
        private_key: SecretString::from(read("wechat/java/merchant_private_key.pem")),
        apiv3_key: SecretString::from(APIV3_KEY),
        older_apiv3_key: None,
    };
    let apps = vec![
        WechatApp { app_id: app(APP), app_secret: Some(SecretString::from(APP_SECRET)) },
        WechatApp { app_id: app("wx8888888888888888"), app_secret: None },
    ];
    let http = crate::gateway::http::client(&HttpSettings::default()).unwrap();
    WechatGateway::new(settings, &secrets, keys, apps, http).unwrap().with_clock(Arc::new(|| NOW))
}

fn gateway(base_url: &str) -> WechatGateway {
    gateway_of(direct(), base_url, "", pinned())
}

fn ask() -> PrepayAsk {
    PrepayAsk {
        out_trade_no: number(),
        amount: Fen::new(100).unwrap(),
        good_name: "咖啡（大杯）& \"甜\"".into(),
        good_no: None,
        app_id: app(APP),
        payer: Payer::new(PayerKind::WechatOpenid, OPENID).unwrap(),
        payer_ip: None,
        expire_at: Timestamp::from_secs(NOW_S + 1800),
        notify_url: "https://pay.example.com/notify/wechat/1".into(),
    }
}

fn ok(body: &str) -> Reply {
    Reply::Signed(200, body.into())
}

fn refusal(status: u16, code: &str) -> Reply {
    Reply::Signed(status, format!(r#"{{"code":"{code}","message":"m"}}"#))
}

const TICKET: &str = r#"{"prepay_id":"wx01090000000000abcdef0123456789ab00"}"#;

fn paid_body(mchid: &str) -> Value {
    json!({
        "mchid": mchid, "appid": APP, "out_trade_no": number().to_string(), "trade_type": "JSAPI",
        "transaction_id": "4200001234202509010123456789", "trade_state": "SUCCESS", "trade_state_desc": "支付成功",
        "success_time": "2025-09-01T16:00:00+08:00", "amount": {"total": 100, "payer_total": 90, "currency": "CNY"}
    })
}

#[test]
fn the_vectors_identifiers_are_those_used_here() {
    let derived = wechat_json("derived.json");
    assert_eq!(derived["mchid"], MCHID);
    assert_eq!(derived["merchant_serial_no"], "5F1C72E2A8931B72A2E13AF8DEE92471EB397115");
    assert_eq!(derived["responses"][0]["body"], TICKET);
}

#[test]
fn nothing_secret_is_shown() {
    let text = format!("{:?}", gateway("http://127.0.0.1:1"));
    for secret in [APP_SECRET, APIV3_KEY, "MII"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(gateway("http://127.0.0.1:1").wallet(), Wallet::WechatPay);
}
