//! WeChat Pay v3 for mini-programs, direct merchants (普通商户) and service providers (服务商).
//!
//! Requests are signed with the merchant's key, answers verified with WeChat's, notices verified and opened. RSA is done
//! inline (about 0.3 ms per signature, `keys::rsa`).

use std::{fs::File, io::BufReader, path::Path};

use async_trait::async_trait;
use reqwest::Method;
use serde::Serialize;

use self::{
    client::{Answer, CallError, Client},
    refusal::{Refusal, not_sent},
    trade::Payee,
    wire::{CloseBody, PrepayAnswer, Transaction},
};
use super::{
    BillDate, BillError, BillFile, BillRows, CloseAnswer, Examined, ExchangeError, Extras, Gateway, GatewayError,
    Notice, NoticeError, PrepayAsk, RawNotice, RefundAsk, RefundFound, RefundSeen, TradeState, Verified,
    bill::download::{self, Limits as BillLimits},
};
use crate::{
    domain::{
        attempt::{Frozen, Ticket},
        id::{AppId, OrderId, OutRefundNo, OutTradeNo},
        outcome::PayParams,
        payer::{LoginCode, Payer},
        time::Timestamp,
        wallet::Wallet,
    },
    keys::{aead::AesKey, mac::nonce_text},
};

mod bill;
mod certificates;
mod client;
mod examine;
#[cfg(test)]
mod fake;
mod keys;
pub mod link;
mod login;
mod notify;
mod prepay;
mod refund;
mod refusal;
mod settings;
mod sign;
mod trade;
mod wire;

pub use client::{Clock, system_clock};
pub use keys::{KeyKind, WechatPublicKey, WechatPublicKeys};
pub use link::{LinkError, WechatLink, plain_scheme};
pub use notify::WechatNoticeVerifier;
pub use settings::{Mode, WechatApp, WechatSecrets, WechatSettings};

const WALLET: Wallet = Wallet::WechatPay;

/// `prepay_id` is string(64) (`wechat-pay.md` §4.2).
const PREPAY_ID_MAX: usize = 64;

/// One channel account at WeChat Pay.
pub struct WechatGateway {
    client: Client,
    payee: Payee,
    apps: Vec<WechatApp>,
    extras: Extras,
    goods_tag: Option<String>,
    apiv3_keys: Vec<AesKey>,
    /// As they stand in the store.
    public_keys: WechatPublicKeys,
}

impl std::fmt::Debug for WechatGateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WechatGateway({:?}, {:?})", self.payee.mode, self.apps)
    }
}

impl WechatGateway {
    /// `public_keys` may be empty when the account is in certificate mode and nothing was fetched yet.
    ///
    /// Errors: a line for the operator, without any secret.
    pub fn new(
        settings: &WechatSettings,
        secrets: &WechatSecrets,
        public_keys: WechatPublicKeys,
        apps: Vec<WechatApp>,
        http: reqwest::Client,
    ) -> Result<Self, String> {
        let hosts = settings.check()?;
        let client = Client {
            http,
            hosts,
            mchid: settings.mode.signing_mchid().to_owned(),
            serial_no: settings.serial_no.to_ascii_uppercase(),
            signer: secrets.signer()?,
            keys: public_keys.pinned()?,
            clock: system_clock(),
        };
        let payee = Payee { mode: settings.mode.clone(), apps: apps.iter().map(|app| app.app_id.clone()).collect() };
        Ok(Self {
            client,
            payee,
            apps,
            extras: settings.extras,
            goods_tag: settings.goods_tag.clone(),
            apiv3_keys: secrets.apiv3_keys()?,
            public_keys,
        })
    }

    /// With another clock than the machine's.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.client.clock = clock;
        self
    }

    fn app(&self, app_id: &AppId) -> Option<&WechatApp> {
        self.apps.iter().find(|app| app.app_id == *app_id)
    }

    fn prepay_path(&self) -> &'static str {
        match self.payee.mode {
            Mode::Direct { .. } => "/v3/pay/transactions/jsapi",
            Mode::Provider { .. } => "/v3/pay/partner/transactions/jsapi",
        }
    }

    /// Our numbers are letters and digits, mchids digits: nothing here needs encoding.
    fn query_path(&self, number: &OutTradeNo) -> String {
        match &self.payee.mode {
            Mode::Direct { mchid } => format!("/v3/pay/transactions/out-trade-no/{number}?mchid={mchid}"),
            Mode::Provider { sp_mchid, sub_mchid, .. } => {
                format!("/v3/pay/partner/transactions/out-trade-no/{number}?sp_mchid={sp_mchid}&sub_mchid={sub_mchid}")
            }
        }
    }

    fn close_path(&self, number: &OutTradeNo) -> String {
        match self.payee.mode {
            Mode::Direct { .. } => format!("/v3/pay/transactions/out-trade-no/{number}/close"),
            Mode::Provider { .. } => format!("/v3/pay/partner/transactions/out-trade-no/{number}/close"),
        }
    }

    fn close_body(&self) -> String {
        json(&match &self.payee.mode {
            Mode::Direct { mchid } => CloseBody { mchid: Some(mchid), ..CloseBody::default() },
            Mode::Provider { sp_mchid, sub_mchid, .. } => {
                CloseBody { sp_mchid: Some(sp_mchid), sub_mchid: Some(sub_mchid), ..CloseBody::default() }
            }
        })
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> Result<Answer, GatewayError> {
        self.client.call(method, path, body).await.map_err(|error| match error {
            CallError::NotSent(cause) => not_sent(&cause),
            CallError::Unknown(cause) => unknown(cause),
        })
    }
}

#[async_trait]
impl Gateway for WechatGateway {
    fn wallet(&self) -> Wallet {
        WALLET
    }

    fn freeze(&self, ask: &PrepayAsk) -> Result<Frozen, String> {
        prepay::freeze(self, ask)
    }

    async fn prepay(&self, _number: &OutTradeNo, frozen: &Frozen) -> Result<Ticket, GatewayError> {
        let answer = self.call(Method::POST, self.prepay_path(), &frozen.body).await?;
        if answer.status != 200 {
            return Err(other_success(&answer)
                .unwrap_or_else(|| Refusal::read(answer.status, &answer.body).of_prepay(answer.repeated)));
        }
        let read: PrepayAnswer =
            serde_json::from_slice(&answer.body).map_err(|_| unknown("a prepay's answer without prepay_id".into()))?;
        // It becomes a line of a signed text, so it must not hold a line end.
        let prepay_id = read.prepay_id;
        if !(1..=PREPAY_ID_MAX).contains(&prepay_id.len()) || !prepay_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unknown("a prepay's answer with an odd prepay_id".into()));
        }
        Ok(Ticket(prepay_id))
    }

    fn pay_params(&self, app_id: &AppId, ticket: &Ticket, now: Timestamp) -> PayParams {
        let (time_stamp, nonce_str) = (now.secs().to_string(), nonce_text());
        let package = format!("prepay_id={}", ticket.0);
        let text = sign::payment_text(app_id.as_str(), &time_stamp, &nonce_str, &package);
        let pay_sign = self.client.signer.sign(text.as_bytes());
        // The client's default is MD5, so RSA is said (§5).
        PayParams::Wechat { app_id: app_id.clone(), time_stamp, nonce_str, package, sign_type: "RSA".into(), pay_sign }
    }

    async fn exchange(&self, app_id: &AppId, code: &LoginCode) -> Result<Payer, ExchangeError> {
        let Some(app_secret) = self.app(app_id).and_then(|app| app.app_secret.as_ref()) else {
            return Err(ExchangeError::Configuration { wallet: WALLET, code: "NO_APP_SECRET".into() });
        };
        login::exchange(&self.client.http, &self.client.hosts.login, app_id, app_secret, code).await
    }

    async fn query(&self, number: &OutTradeNo) -> Result<TradeState, GatewayError> {
        let answer = self.call(Method::GET, &self.query_path(number), "").await?;
        if answer.status != 200 {
            return match other_success(&answer) {
                Some(error) => Err(error),
                None => Refusal::read(answer.status, &answer.body).of_query(),
            };
        }
        let transaction: Transaction =
            serde_json::from_slice(&answer.body).map_err(|_| unknown("a query's answer cannot be read".into()))?;
        self.payee.read_answer(number, &transaction, (self.client.clock)()).map_err(unknown)
    }

    async fn close(&self, number: &OutTradeNo) -> Result<CloseAnswer, GatewayError> {
        let answer = self.call(Method::POST, &self.close_path(number), &self.close_body()).await?;
        if answer.status == 204 {
            return Ok(CloseAnswer::Closed);
        }
        match other_success(&answer) {
            Some(error) => Err(error),
            None => Refusal::read(answer.status, &answer.body).of_close(),
        }
    }

    fn freeze_refund(&self, ask: &RefundAsk) -> Result<Frozen, String> {
        refund::freeze(&self.payee.mode, ask)
    }

    async fn refund(
        &self,
        trade: &OutTradeNo,
        refund: &OutRefundNo,
        frozen: &Frozen,
    ) -> Result<RefundSeen, GatewayError> {
        refund::send(self, trade, refund, frozen).await
    }

    async fn refund_query(&self, trade: &OutTradeNo, refund: &OutRefundNo) -> Result<RefundFound, GatewayError> {
        refund::query(self, trade, refund).await
    }

    async fn bill(&self, date: BillDate, into: &Path, limits: BillLimits) -> Result<BillFile, BillError> {
        bill::fetch(self, date, into, limits).await
    }

    fn read_bill(&self, file: &BillFile) -> Result<BillRows, BillError> {
        let opened = File::open(&file.path).map_err(|error| download::on_disk(&error))?;
        Ok(Box::new(bill::Rows::open(BufReader::new(opened))?))
    }

    fn open_notice(&self, raw: &RawNotice) -> Result<Verified<Notice>, NoticeError> {
        notify::open(&self.client.keys, &self.apiv3_keys, &self.payee, raw)
    }

    async fn fetch_public_keys(&self) -> Result<Option<String>, GatewayError> {
        let keys = certificates::fetch(&self.client, &self.apiv3_keys, &self.public_keys).await?;
        Ok(keys.map(|keys| keys.to_json()))
    }

    async fn examine(&self, probe: OrderId) -> Vec<Examined> {
        examine::examine(self, probe).await
    }
}

fn json<T: Serialize>(body: &T) -> String {
    serde_json::to_string(body).expect("texts and numbers serialize")
}

fn unknown(cause: String) -> GatewayError {
    GatewayError::Unknown { wallet: WALLET, cause }
}

/// A 2xx (202: accepted and not final) or 3xx that this call does not have decides nothing.
fn other_success(answer: &Answer) -> Option<GatewayError> {
    (answer.status < 400).then(|| unknown(format!("answered {}, which this call does not have", answer.status)))
}

#[cfg(test)]
mod tests;
