//! Names and numbers as arguments.

use crate::domain::{
    id::{AccountId, AppId, AttemptNo, CustomerNo, IdError, KeyId, MiniProgramId, OrderNo, RefundNo},
    money::Fen,
    policy::MoneyPolicy,
};

pub fn customer_no(text: &str) -> Result<CustomerNo, IdError> {
    CustomerNo::parse(text)
}

pub fn order_no(text: &str) -> Result<OrderNo, IdError> {
    OrderNo::parse(text)
}

pub fn refund_no(text: &str) -> Result<RefundNo, IdError> {
    RefundNo::parse(text)
}

pub fn attempt_no(text: &str) -> Result<AttemptNo, &'static str> {
    let no = text.parse().ok().and_then(AttemptNo::new);
    no.ok_or("1 to 99: the last two digits of the OUT_TRADE_NO that `prepay order show` shows")
}

pub fn fen(text: &str) -> Result<Fen, String> {
    let fen: i64 = text.parse().map_err(|_| "whole fen".to_owned())?;
    Fen::new(fen).map_err(|error| error.to_string())
}

/// What a person says, for the next one: one line.
pub fn note(text: &str) -> Result<String, &'static str> {
    const NOTE_MAX: usize = 200;
    let text = text.trim();
    if text.is_empty() || text.chars().count() > NOTE_MAX || text.chars().any(char::is_control) {
        return Err("one line of at most 200 characters");
    }
    Ok(text.to_owned())
}

/// What the payer reads in the wallet beside money that comes back.
pub fn reason(text: &str) -> Result<String, &'static str> {
    const REASON_MAX: usize = 80;
    note(text).ok().filter(|text| text.chars().count() <= REASON_MAX).ok_or("one line of at most 80 characters")
}

pub fn money_policy(text: &str) -> Result<MoneyPolicy, &'static str> {
    MoneyPolicy::parse(text).ok_or("`keep` or `refund`")
}

pub fn on_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("`on` or `off`"),
    }
}

pub fn app_id(text: &str) -> Result<AppId, IdError> {
    AppId::parse(text)
}

pub fn key_id(text: &str) -> Result<KeyId, IdError> {
    KeyId::parse(text)
}

pub fn account_id(text: &str) -> Result<AccountId, String> {
    text.parse().map(AccountId).map_err(|_| "the number that `prepay channel list` shows".to_owned())
}

pub fn mini_program_id(text: &str) -> Result<MiniProgramId, String> {
    text.parse().map(MiniProgramId).map_err(|_| "the number that `prepay mini-program list` shows".to_owned())
}
