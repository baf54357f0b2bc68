//! What Alipay keeps: applications, users, codes, tokens and trades.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::app::{AlipayUser, App, Kind};
use super::bill::BillFile;
use super::failure::Failure;
use super::order::Buyer;
use super::trade::{Owner, Trade};
use crate::bill::{BillChange, SyntheticBill};
use crate::chance;

/// How many of each kind are kept; a simulator that is asked for more answers that the system is busy.
pub(crate) const KEPT_MAX: usize = 1_000_000;

/// A code of `my.getAuthCode`.
pub(crate) struct Code {
    pub app_id: String,
    pub user_id: String,
    pub issued_ms: i64,
    pub used: bool,
}

/// What a merchant's `app_auth_token` allows.
#[derive(Clone)]
pub(crate) struct Token {
    pub provider: String,
    pub merchant_app: String,
}

#[derive(Default)]
pub(crate) struct Book {
    pub apps: HashMap<String, Arc<App>>,
    pub users: HashMap<String, AlipayUser>,
    pub codes: HashMap<String, Code>,
    pub tokens: HashMap<String, Token>,
    /// (contract's app, mini-program): the cashier may open there.
    pub bound: HashSet<(String, String)>,
    /// (app, open_id) → user_id, filled whenever an open_id is told.
    open_ids: HashMap<(String, String), String>,
    pub trades: HashMap<String, Trade>,
    /// Fen a seller can refund from, where that is limited.
    pub balances: HashMap<String, u64>,
    /// By seller.
    pub bill_changes: HashMap<String, Vec<BillChange>>,
    /// By seller and date.
    pub synthetic_bills: HashMap<(String, String), SyntheticBill>,
    /// By token.
    pub bill_files: HashMap<String, BillFile>,
    /// Trades of one number, newest last; more than one only by switch.
    numbers: HashMap<(Owner, String), Vec<String>>,
    /// When trades close by themselves, soonest first; those paid or closed before are skipped then.
    due: BTreeSet<(i64, String)>,
    counter: u64,
}

impl Book {
    /// The next of a row of numbers.
    pub fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// A 16-digit number with this start, unique in this book.
    pub fn number16(&mut self, start: &str) -> String {
        let next = self.next();
        format!("{start}{next:0width$}", width = 16 - start.len())
    }

    /// The user's name within one application. Stable, 47 characters of base64url, different for every app.
    pub fn open_id(&mut self, app_id: &str, user_id: &str) -> String {
        use base64::Engine as _;
        let seed = format!("open_id|{app_id}|{user_id}");
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes());
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.as_ref());
        let open_id = format!("0{}{text}", &chance::sha256(seed.as_bytes())[..3]);
        if self.open_ids.len() < KEPT_MAX {
            self.open_ids.insert((app_id.to_owned(), open_id.clone()), user_id.to_owned());
        }
        open_id
    }

    /// Keeps a code, making room by forgetting dead ones. False when there is no room.
    pub fn keep_code(&mut self, code: String, of: Code, oldest_ms: i64) -> bool {
        if self.codes.len() >= KEPT_MAX {
            self.codes.retain(|_, code| !code.used && code.issued_ms >= oldest_ms);
        }
        let room = self.codes.len() < KEPT_MAX;
        if room {
            self.codes.insert(code, of);
        }
        room
    }

    /// The buyer a create names.
    ///
    /// Errors: `ACQ.BUYER_NOT_EXIST` for unknown ids and for the kind of id the application is not told.
    pub fn buyer(&self, caller: &App, op_app_id: &str, buyer: &Buyer) -> Result<String, Failure> {
        let told = |app_id: &str, open_id: &str| {
            let open_ids = self.apps.get(app_id).is_some_and(|app| app.id_mode.open_id());
            let user = self.open_ids.get(&(app_id.to_owned(), open_id.to_owned()));
            user.filter(|_| open_ids).cloned()
        };
        match buyer {
            // A user_id is the same everywhere, so a provider may use it when the mini-program was told it.
            Buyer::User(id) => {
                let user_ids = self.apps.get(op_app_id).map_or(caller.id_mode, |app| app.id_mode).user_id();
                self.users.contains_key(id).then(|| id.clone()).filter(|_| user_ids)
            }
            Buyer::OpenId(id) => told(&caller.app_id, id),
            Buyer::OpOpenId(id) => told(op_app_id, id),
        }
        .ok_or_else(|| Failure::business("BUYER_NOT_EXIST"))
    }

    /// Who a call speaks for, and by which seller. Errors: token and permission failures of the gateway.
    pub fn owner(
        &self,
        caller: &App,
        app_auth_token: Option<&String>,
        collects: bool,
    ) -> Result<(Owner, String), Failure> {
        let owner = |auth_app_id: &str| Owner { app_id: caller.app_id.clone(), auth_app_id: auth_app_id.to_owned() };
        let Some(text) = app_auth_token else {
            if caller.kind == Kind::ThirdParty && collects {
                return Err(Failure::gateway("40006", "isv.self-invoke-forbidden", "第三方应用不允许自调用"));
            }
            return Ok((owner(&caller.app_id), caller.seller_id.clone()));
        };
        let token = self
            .tokens
            .get(text)
            .ok_or_else(|| Failure::gateway("20001", "aop.invalid-app-auth-token", "无效的应用授权令牌"))?;
        if token.provider != caller.app_id {
            return Err(Failure::gateway("40003", "isv.invalid-auth-relations", "无效的授权关系"));
        }
        let seller = self.apps.get(&token.merchant_app).map(|app| app.seller_id.clone()).unwrap_or_default();
        Ok((owner(&token.merchant_app), seller))
    }

    /// Whether the cashier of a contract may open in a mini-program: by the contract's app or the calling one.
    pub fn is_bound(&self, owner: &Owner, op_app_id: &str) -> bool {
        [&owner.auth_app_id, &owner.app_id]
            .iter()
            .any(|app| self.bound.contains(&((*app).clone(), op_app_id.to_owned())))
    }

    /// A fresh trade number: day, 22001, then a row; 28 digits.
    pub fn new_trade_no(&mut self, now_ms: i64) -> String {
        let next = self.next();
        format!("{}22001{next:015}", super::time8::day(now_ms))
    }

    /// Keeps a trade under its numbers. False when there is no room.
    pub fn keep_trade(&mut self, trade: Trade) -> bool {
        if self.trades.len() >= KEPT_MAX {
            return false;
        }
        let key = (trade.owner.clone(), trade.out_trade_no.clone());
        self.numbers.entry(key).or_default().push(trade.trade_no.clone());
        self.due.insert((trade.expires_ms, trade.trade_no.clone()));
        self.trades.insert(trade.trade_no.clone(), trade);
        true
    }

    /// The next trade whose time is over; each is answered once.
    pub fn next_due(&mut self, now_ms: i64) -> Option<String> {
        let first = self.due.first().filter(|(expires_ms, _)| *expires_ms <= now_ms)?.clone();
        self.due.remove(&first);
        Some(first.1)
    }

    /// The trade_nos of a number: usually one.
    pub fn of_number(&self, owner: &Owner, out_trade_no: &str) -> Vec<String> {
        let key = (owner.clone(), out_trade_no.to_owned());
        self.numbers.get(&key).cloned().unwrap_or_default()
    }

    /// The trade a query or close means: `trade_no` wins; of several of one number the paid one, else the newest.
    pub fn find(&self, owner: &Owner, out_trade_no: Option<&str>, trade_no: Option<&str>) -> Option<String> {
        if let Some(trade_no) = trade_no {
            return self.trades.get(trade_no).filter(|trade| trade.owner == *owner).map(|trade| trade.trade_no.clone());
        }
        let candidates = self.of_number(owner, out_trade_no?);
        let paid =
            candidates.iter().find(|trade_no| self.trades.get(*trade_no).is_some_and(|trade| trade.paid_ms.is_some()));
        paid.or(candidates.last()).cloned()
    }

    /// The trade of an application's number whatever merchant it is for; the paid one, else the newest.
    pub fn newest_of(&self, app_id: &str, out_trade_no: &str) -> Option<String> {
        let own = Owner { app_id: app_id.to_owned(), auth_app_id: app_id.to_owned() };
        // A walk over all trades is for providers only, whose merchant is not named here.
        self.find(&own, Some(out_trade_no), None).or_else(|| {
            let of_app = |trade: &&Trade| trade.owner.app_id == app_id && trade.out_trade_no == out_trade_no;
            let trade = self.trades.values().filter(of_app);
            let best = trade.max_by_key(|trade| (trade.paid_ms.is_some(), trade.trade_no.as_str()))?;
            Some(best.trade_no.clone())
        })
    }

    /// The trade_nos of an application whose number starts with `prefix`.
    pub fn trades_of(&self, app_id: &str, prefix: &str) -> Vec<String> {
        let of_app = |trade: &&Trade| trade.owner.app_id == app_id && trade.out_trade_no.starts_with(prefix);
        self.trades.values().filter(of_app).map(|trade| trade.trade_no.clone()).collect()
    }

    /// Any trade with this number, whoever owns it.
    pub fn any_of_number(&self, out_trade_no: &str) -> Option<&Trade> {
        // A walk over all: only faults that ask for another order's answer come here.
        self.trades.values().find(|trade| trade.out_trade_no == out_trade_no)
    }
}
