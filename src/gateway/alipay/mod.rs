//! Alipay gateway v2: one account, JSAPI payments (`alipay.md`).

use std::{collections::HashMap, fs::File, io::BufReader, path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    BillDate, BillError, BillFile, BillRows, CloseAnswer, Examined, ExchangeError, Gateway, GatewayError, Notice,
    NoticeError, PrepayAsk, RawNotice, RefundAsk, RefundFound, RefundSeen, TradeState, Verified,
    bill::download::{self, Limits as BillLimits},
    http::check_base_url,
};
use crate::{
    domain::{
        attempt::{Frozen, Ticket},
        id::{AppId, AttemptNo, OrderId, OutRefundNo, OutTradeNo, TradeNo},
        outcome::PayParams,
        payer::{LoginCode, Payer, PayerKind},
        time::Timestamp,
        wallet::Wallet,
    },
    keys::rsa::RsaSigner,
};

mod bill;
mod certificate;
mod client;
mod envelope;
mod errors;
mod examine;
mod keyring;
pub mod link;
mod notify;
mod refund;
mod settings;
mod sign;
mod signers;
mod wire;

pub use certificate::{cert_sn, root_cert_sn};
pub use notify::AlipayNoticeVerifier;
pub use settings::{
    AlipayApp, AlipayPublicKeys, AlipaySecrets, AlipaySettings, CodeExchange, Mode, OpenIdField, PRODUCTION,
    PreferredId, Signing,
};

use client::{Call, Caller, Client, OAUTH_TOKEN, now};
use errors::CallError;
use keyring::KeyRing;
use signers::Signers;
use wire::{Numbers, QueryAnswer, TokenAnswer};

/// `notify_url` at most (`alipay.md` §1.1).
const NOTIFY_URL_MAX: usize = 256;

/// An Alipay account with the mini-programs that pay through it.
pub struct AlipayGateway {
    settings: AlipaySettings,
    client: Client,
    caller: Caller,
    /// Provider mode: names the merchant in every call about a trade; another token would give TRADE_NOT_EXIST.
    app_auth_token: Option<String>,
    apps: HashMap<AppId, Exchanger>,
    notices: AlipayNoticeVerifier,
}

/// As whom a mini-program's codes are exchanged.
enum Exchanger {
    CallingApp,
    Own(Box<Caller>),
    AppAuthToken(String),
    Never,
}

impl AlipayGateway {
    /// Reads and checks every key before the first call.
    ///
    /// Errors: one line for the operator, without anything secret.
    pub fn new(
        settings: AlipaySettings,
        secrets: AlipaySecrets,
        public_keys: AlipayPublicKeys,
        apps: Vec<AlipayApp>,
        http: reqwest::Client,
    ) -> Result<Self, String> {
        let account = format!("alipay account {}", settings.app_id);
        let told = |error: String| format!("{account}: {error}");
        match (settings.mode, &secrets.app_auth_token) {
            (Mode::Provider, None) => return Err(told("mode provider needs app_auth_token".to_owned())),
            (Mode::Own, Some(_)) => return Err(told("app_auth_token belongs to mode provider".to_owned())),
            _ => {}
        }
        if settings.signing == Signing::Certificate && secrets.older_private_key.is_some() {
            return Err(told("older_private_key belongs to public-key mode".to_owned()));
        }
        let url = check_base_url(&settings.gateway_url).map_err(|error| told(format!("gateway_url: {error}")))?;
        let older = secrets.older_private_key.as_deref();
        let caller =
            caller(&settings.app_id, &secrets.private_key, older, settings.signing, public_keys).map_err(told)?;
        let mut exchangers = HashMap::new();
        for app in apps {
            let exchanger = exchanger(&settings, &app).map_err(|error| told(format!("{}: {error}", app.app_id)))?;
            exchangers.insert(app.app_id, exchanger);
        }
        Ok(Self {
            client: Client::new(http, url),
            app_auth_token: secrets.app_auth_token.clone(),
            apps: exchangers,
            notices: AlipayNoticeVerifier::with_keys(settings.clone(), Arc::clone(&caller.keys)),
            caller,
            settings,
        })
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        params: &[(&str, &str)],
    ) -> Result<Verified<T>, CallError> {
        let call = Call { method, params, app_auth_token: self.app_auth_token.as_deref() };
        self.client.call(&self.caller, call).await
    }
}

fn caller(
    app_id: &AppId,
    private_key: &str,
    older_private_key: Option<&str>,
    signing: Signing,
    keys: AlipayPublicKeys,
) -> Result<Caller, String> {
    let read = |name: &str, text: &str| RsaSigner::parse(text).map_err(|error| format!("{name}: {error}"));
    let present = read("private_key", private_key)?;
    let older = older_private_key.map(|text| read("older_private_key", text)).transpose()?;
    let (signers, keys) = (Signers::new(present, older), KeyRing::new(signing, keys)?);
    for signer in signers.each() {
        keys.check_against(signer)?;
    }
    Ok(Caller { app_id: app_id.to_string(), signers, keys: Arc::new(keys) })
}

fn exchanger(settings: &AlipaySettings, app: &AlipayApp) -> Result<Exchanger, String> {
    match &app.exchange {
        CodeExchange::Never => Ok(Exchanger::Never),
        CodeExchange::CallingApp if app.app_id == settings.app_id => Ok(Exchanger::CallingApp),
        CodeExchange::CallingApp => {
            Err("it is not the calling application, so its codes need its own key pair or, under \
             a third-party application, its app_auth_token"
                .to_owned())
        }
        CodeExchange::AppAuthToken { .. } if settings.mode == Mode::Own => {
            Err("app_auth_token needs an account in mode provider".to_owned())
        }
        CodeExchange::AppAuthToken { app_auth_token } => Ok(Exchanger::AppAuthToken(app_auth_token.clone())),
        CodeExchange::OwnKey { private_key, signing, public_keys } => {
            let caller = caller(&app.app_id, private_key, None, *signing, public_keys.clone())?;
            Ok(Exchanger::Own(Box::new(caller)))
        }
    }
}

#[async_trait]
impl Gateway for AlipayGateway {
    fn wallet(&self) -> Wallet {
        Wallet::Alipay
    }

    fn freeze(&self, ask: &PrepayAsk) -> Result<Frozen, String> {
        if !self.apps.contains_key(&ask.app_id) {
            return Err(format!("mini-program {} does not pay through this account", ask.app_id));
        }
        if ask.notify_url.is_empty() || ask.notify_url.len() > NOTIFY_URL_MAX {
            return Err(format!("notify_url must have 1 to {NOTIFY_URL_MAX} characters"));
        }
        let AlipaySettings { app_id, open_id_field, extras, .. } = &self.settings;
        let body = wire::create_body(ask, app_id, *open_id_field, *extras)?;
        Ok(Frozen { body, notify_url: ask.notify_url.clone() })
    }

    async fn prepay(&self, number: &OutTradeNo, frozen: &Frozen) -> Result<Ticket, GatewayError> {
        let params = [("biz_content", frozen.body.as_str()), ("notify_url", frozen.notify_url.as_str())];
        let made: Verified<Numbers> = self.call("alipay.trade.create", &params).await.map_err(errors::of_create)?;
        let made = made.into_inner();
        same_number(made.out_trade_no.as_deref(), number)?;
        // The number goes to the phone, so it is checked for its shape like one that is stored.
        match made.trade_no.map(TradeNo::parse) {
            Some(Ok(trade_no)) => Ok(Ticket(trade_no.into())),
            _ => Err(unknown("a created trade without trade_no")),
        }
    }

    /// The number is bound to its buyer at Alipay: nothing is signed for the phone.
    fn pay_params(&self, _app_id: &AppId, ticket: &Ticket, _now: Timestamp) -> PayParams {
        PayParams::Alipay { trade_no: ticket.0.clone() }
    }

    async fn exchange(&self, app_id: &AppId, code: &LoginCode) -> Result<Payer, ExchangeError> {
        let configuration = |code: &str| ExchangeError::Configuration { wallet: Wallet::Alipay, code: code.to_owned() };
        let (caller, app_auth_token) = match self.apps.get(app_id) {
            Some(Exchanger::CallingApp) => (&self.caller, None),
            Some(Exchanger::Own(caller)) => (caller.as_ref(), None),
            Some(Exchanger::AppAuthToken(token)) => (&self.caller, Some(token.as_str())),
            Some(Exchanger::Never) => return Err(configuration("no code exchange is set up for this mini-program")),
            None => return Err(configuration("this mini-program does not pay through this account")),
        };
        let params = [("grant_type", "authorization_code"), ("code", code.expose())];
        let call = Call { method: OAUTH_TOKEN, params: &params, app_auth_token };
        let token: Verified<TokenAnswer> = self.client.call(caller, call).await.map_err(errors::of_exchange)?;
        payer(token.into_inner(), self.settings.preferred_id)
            .map_err(|cause| ExchangeError::Unknown { wallet: Wallet::Alipay, cause })
    }

    async fn query(&self, number: &OutTradeNo) -> Result<TradeState, GatewayError> {
        let body = wire::number_body(number);
        let answer: Verified<QueryAnswer> = match self.call("alipay.trade.query", &[("biz_content", &body)]).await {
            Ok(answer) => answer,
            Err(error) => return errors::of_query(error),
        };
        same_number(answer.get().out_trade_no.as_deref(), number)?;
        answer.get().state(now()).map_err(|cause| GatewayError::Unknown { wallet: Wallet::Alipay, cause })
    }

    async fn close(&self, number: &OutTradeNo) -> Result<CloseAnswer, GatewayError> {
        let body = wire::number_body(number);
        let closed: Verified<Numbers> = match self.call("alipay.trade.close", &[("biz_content", &body)]).await {
            Ok(closed) => closed,
            Err(error) => return errors::of_close(error),
        };
        same_number(closed.get().out_trade_no.as_deref(), number)?;
        Ok(CloseAnswer::Closed)
    }

    fn freeze_refund(&self, ask: &RefundAsk) -> Result<Frozen, String> {
        refund::freeze(ask)
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
        self.notices.open(raw)
    }

    /// In certificate mode an answer names its certificate, and a new one is fetched with the answer that brings it: a
    /// question that costs nothing makes Alipay show the present one. The keys of a mini-program's own identity are kept in
    /// memory only.
    async fn fetch_public_keys(&self) -> Result<Option<String>, GatewayError> {
        if !self.caller.keys.is_certificates() {
            return Ok(None);
        }
        let nobody = OutTradeNo { order: OrderId::from_bytes([0; 16]), attempt: AttemptNo::FIRST };
        let asked = self.query(&nobody).await;
        match self.caller.keys.grown() {
            Some(keys) => Ok(Some(keys.to_json())),
            None => asked.map(|_| None),
        }
    }

    async fn examine(&self, probe: OrderId) -> Vec<Examined> {
        self.examined(probe).await
    }
}

/// An answer about another number than the one asked for says nothing about ours.
fn same_number(told: Option<&str>, asked: &OutTradeNo) -> Result<(), GatewayError> {
    if told == Some(asked.to_string().as_str()) {
        Ok(())
    } else {
        Err(unknown("the answer's out_trade_no is not the one asked for"))
    }
}

fn unknown(cause: &str) -> GatewayError {
    GatewayError::Unknown { wallet: Wallet::Alipay, cause: cause.to_owned() }
}

/// The payer, under the name that the answer used: which request field it goes to depends on that (`alipay.md` §4.2).
fn payer(token: TokenAnswer, preferred: PreferredId) -> Result<Payer, String> {
    let (kind, id) = match (token.user_id, token.open_id, preferred) {
        (Some(user_id), None, _) | (Some(user_id), Some(_), PreferredId::UserId) => (PayerKind::AlipayUserId, user_id),
        (None, Some(open_id), _) | (Some(_), Some(open_id), PreferredId::OpenId) => (PayerKind::AlipayOpenId, open_id),
        (None, None, _) => return Err("a token without user_id and open_id".to_owned()),
    };
    Payer::new(kind, id).map_err(|error| error.to_string())
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
