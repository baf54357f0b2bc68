//! Names and numbers as arguments.

use crate::domain::{
    id::{AccountId, AppId, CustomerNo, IdError, KeyId, MiniProgramId, OrderNo, RefundNo},
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

pub fn money_policy(text: &str) -> Result<MoneyPolicy, &'static str> {
    MoneyPolicy::parse(text).ok_or("`keep` or `refund`")
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
