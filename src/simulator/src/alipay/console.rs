//! The console: applications, users, codes and tokens are handed out here, and trades can be looked at.

use std::sync::Arc;

use super::Alipay;
use super::app::{self, AlipayApp, AlipayUser, App, AppOptions, Kind, Mode};
use super::book::{Code, Token};
use super::trade::Trade;
use crate::chance;
use crate::keys::{PublicKey, RsaKey};

/// Why the console refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlipayError {
    #[error("no application {0}")]
    NoApp(String),
    #[error("no user {0}")]
    NoUser(String),
    #[error("no trade {0}")]
    NoTrade(String),
    /// A token needs a service provider's application.
    #[error("application {0} is not a service provider's")]
    NotThirdParty(String),
    /// The trade's state does not allow it.
    #[error("trade {0} is {1}")]
    State(String, &'static str),
    #[error("too much is kept already")]
    Full,
}

impl Alipay {
    /// Enrols an application. The first of each kind costs making a key.
    pub fn new_app(&self, options: AppOptions) -> AlipayApp {
        let (app_id, seller_id, nth) = {
            let mut book = self.book();
            let nth = book.apps.len();
            let app_id = book.number16("2021");
            let seller_id = options.seller_id.clone().unwrap_or_else(|| book.number16("20881"));
            (app_id, seller_id, nth)
        };
        // Keys and certificates are CPU work: outside of the lock.
        let (kept, handed) = app::enrol(app_id.clone(), seller_id, nth, &options);
        let mut book = self.book();
        book.apps.insert(app_id.clone(), Arc::new(kept));
        if options.bound_to_itself {
            book.bound.insert((app_id.clone(), app_id));
        }
        handed
    }

    /// Lets the contract of `app_id` (the merchant's or the provider's app) open its cashier in `op_app_id`.
    ///
    /// Errors: [`AlipayError::NoApp`] for either.
    pub fn bind_op_app(&self, app_id: &str, op_app_id: &str) -> Result<(), AlipayError> {
        let mut book = self.book();
        for id in [app_id, op_app_id] {
            if !book.apps.contains_key(id) {
                return Err(AlipayError::NoApp(id.to_owned()));
            }
        }
        book.bound.insert((app_id.to_owned(), op_app_id.to_owned()));
        Ok(())
    }

    /// Takes such a binding back; false when there was none.
    pub fn unbind_op_app(&self, app_id: &str, op_app_id: &str) -> bool {
        self.book().bound.remove(&(app_id.to_owned(), op_app_id.to_owned()))
    }

    /// A merchant authorises a provider; an earlier token of the same pair ends.
    ///
    /// Errors: [`AlipayError::NoApp`], [`AlipayError::NotThirdParty`].
    pub fn new_app_auth_token(&self, provider: &str, merchant_app: &str) -> Result<String, AlipayError> {
        let mut book = self.book();
        let app = book.apps.get(provider).ok_or_else(|| AlipayError::NoApp(provider.to_owned()))?;
        if app.kind != Kind::ThirdParty {
            return Err(AlipayError::NotThirdParty(provider.to_owned()));
        }
        if !book.apps.contains_key(merchant_app) {
            return Err(AlipayError::NoApp(merchant_app.to_owned()));
        }
        book.tokens.retain(|_, token| token.provider != provider || token.merchant_app != merchant_app);
        let token = format!("202603BB{}", chance::text(32));
        let of = Token { provider: provider.to_owned(), merchant_app: merchant_app.to_owned() };
        book.tokens.insert(token.clone(), of);
        Ok(token)
    }

    /// Ends a token; false when it was none.
    pub fn revoke_app_auth_token(&self, token: &str) -> bool {
        self.book().tokens.remove(token).is_some()
    }

    /// A person signs up.
    pub fn new_user(&self) -> AlipayUser {
        let mut book = self.book();
        let user_id = book.number16("20882");
        let user = AlipayUser { logon_id: format!("{}***@example.com", &user_id[13..]), user_id };
        book.users.insert(user.user_id.clone(), user.clone());
        user
    }

    /// The user's open_id at an application. Errors: [`AlipayError::NoApp`], [`AlipayError::NoUser`].
    pub fn open_id(&self, app_id: &str, user_id: &str) -> Result<String, AlipayError> {
        let mut book = self.book();
        if !book.apps.contains_key(app_id) {
            return Err(AlipayError::NoApp(app_id.to_owned()));
        }
        if !book.users.contains_key(user_id) {
            return Err(AlipayError::NoUser(user_id.to_owned()));
        }
        Ok(book.open_id(app_id, user_id))
    }

    /// `my.getAuthCode` in the mini-program `app_id` on the user's phone.
    ///
    /// Errors: [`AlipayError::NoApp`], [`AlipayError::NoUser`], [`AlipayError::Full`].
    pub fn new_auth_code(&self, app_id: &str, user_id: &str) -> Result<String, AlipayError> {
        let now_ms = self.now_ms();
        let ttl_s = self.read_switches(|switches| switches.auth_code_ttl_s);
        let oldest_ms = now_ms - i64::try_from(ttl_s).unwrap_or(i64::MAX / 2000) * 1000;
        let mut book = self.book();
        if !book.apps.contains_key(app_id) {
            return Err(AlipayError::NoApp(app_id.to_owned()));
        }
        if !book.users.contains_key(user_id) {
            return Err(AlipayError::NoUser(user_id.to_owned()));
        }
        let code = chance::hex(&chance::bytes::<16>());
        let of = Code { app_id: app_id.to_owned(), user_id: user_id.to_owned(), issued_ms: now_ms, used: false };
        if book.keep_code(code.clone(), of, oldest_ms) { Ok(code) } else { Err(AlipayError::Full) }
    }

    /// Alipay renews its certificate for an app: same key, new SN, offered by `alipay.open.app.alipaycert.download`.
    ///
    /// Answers the new SN. Errors: [`AlipayError::NoApp`], also for an app in public-key mode.
    pub fn renew_alipay_cert(&self, app_id: &str) -> Result<String, AlipayError> {
        let missing = || AlipayError::NoApp(app_id.to_owned());
        let app = self.book().apps.get(app_id).cloned().ok_or_else(missing)?;
        if app.alipay_certs.is_empty() {
            return Err(missing());
        }
        let (sn, pem) = app::successor(&app);
        let mut renewed = App::clone(&app);
        renewed.alipay_certs.push((sn.clone(), pem));
        self.book().apps.insert(app_id.to_owned(), Arc::new(renewed));
        Ok(sn)
    }

    /// The owner enters a new public key for an app: what is signed with the one before is `isv.invalid-signature` at once,
    /// where the real console leaves it some days.
    ///
    /// Errors: [`AlipayError::NoApp`], also for an app in certificate mode.
    pub fn set_app_key(&self, app_id: &str, key: PublicKey) -> Result<(), AlipayError> {
        self.change_keys(app_id, |app| app.app_key = key)
    }

    /// Alipay signs with another key towards an app: answers to requests, and notices, that are made from now on.
    ///
    /// Errors: [`AlipayError::NoApp`], also for an app in certificate mode.
    pub fn set_alipay_key(&self, app_id: &str, key: RsaKey) -> Result<(), AlipayError> {
        self.change_keys(app_id, |app| app.alipay_key = Arc::new(key))
    }

    fn change_keys(&self, app_id: &str, change: impl FnOnce(&mut App)) -> Result<(), AlipayError> {
        let mut book = self.book();
        match book.apps.get_mut(app_id) {
            Some(app) if app.mode == Mode::PublicKey => {
                change(Arc::make_mut(app));
                Ok(())
            }
            _ => Err(AlipayError::NoApp(app_id.to_owned())),
        }
    }

    /// A trade as Alipay sees it now; of several with one number the paid one, else the newest.
    ///
    /// In provider mode any merchant's number of the provider's app is found.
    pub fn trade(&self, app_id: &str, out_trade_no: &str) -> Option<Trade> {
        let now_ms = self.now_ms();
        let mut book = self.book();
        let trade_no = book.newest_of(app_id, out_trade_no)?;
        self.settle(&mut book, &trade_no, now_ms)
    }

    /// All trades of an application whose number starts with `prefix`, by number.
    pub fn trades(&self, app_id: &str, prefix: &str) -> Vec<Trade> {
        let now_ms = self.now_ms();
        let mut book = self.book();
        let mut trades: Vec<Trade> = book
            .trades_of(app_id, prefix)
            .into_iter()
            .filter_map(|trade_no| self.settle(&mut book, &trade_no, now_ms))
            .collect();
        trades.sort_by(|one, two| one.out_trade_no.cmp(&two.out_trade_no));
        trades
    }

    /// A trade by Alipay's number.
    pub fn trade_by_no(&self, trade_no: &str) -> Option<Trade> {
        let now_ms = self.now_ms();
        self.settle(&mut self.book(), trade_no, now_ms)
    }

    /// The refund period of a paid trade is over: `TRADE_FINISHED`.
    ///
    /// Errors: [`AlipayError::NoTrade`], [`AlipayError::State`] when it is not paid.
    pub fn finish(&self, trade_no: &str) -> Result<(), AlipayError> {
        let mut book = self.book();
        let trade = book.trades.get_mut(trade_no).ok_or_else(|| AlipayError::NoTrade(trade_no.to_owned()))?;
        if trade.finish() { Ok(()) } else { Err(AlipayError::State(trade_no.to_owned(), trade.status.as_str())) }
    }
}
