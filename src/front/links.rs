//! The links that a merchant gives to its payer: one per wallet, made anew from the order's row whenever asked.

use serde_json::{Value, json};

use super::keyring::{Keyring, MerchantEntry};
use crate::{
    domain::{order::Order, wallet::Wallet},
    gateway::{alipay::link::Target, wechat::link::plain_scheme},
};

/// The links of an order, for every wallet it was made for.
///
/// Errors: a link that would not fit, in words for the merchant.
pub fn links(
    order: &Order,
    merchant: &MerchantEntry,
    keyring: &Keyring,
    public_url: &str,
) -> Result<Vec<Value>, String> {
    let interface_url = interface_url(public_url);
    let mut links = Vec::new();
    for wallet in Wallet::ALL {
        let Some(program) = order.mini_program(wallet).and_then(|id| merchant.mini_program_by_id(id)) else { continue };
        let info = order.pay_info(wallet);
        let pay_info = keyring
            .pay_info
            .mint(&order.link_key, &info)
            .ok_or_else(|| format!("payInfo 密钥 {} 已停用，请重新生成链接", order.link_key))?;
        let mut link = json!({
            "wallet": wallet.wire_name(),
            "appId": program.app_id.as_str(),
            "path": program.path,
            "payInfo": pay_info,
            "interfaceUrl": interface_url,
            "expireTime": order.expire_at.rfc3339(),
        });
        if let Some(original_id) = &program.original_id {
            link["originalId"] = json!(original_id);
        }
        match wallet {
            Wallet::WechatPay => {
                let made = plain_scheme(program, &pay_info, &interface_url).map_err(|error| error.to_string())?;
                link["query"] = json!(made.query);
                link["scheme"] = json!(made.scheme);
            }
            Wallet::Alipay => {
                let query = program.query_template.replace("{payInfo}", &pay_info).replace("{url}", &interface_url);
                let app_id = program.app_id.as_str();
                let target = Target { app_id, page: Some(&program.path), page_query: None, query: Some(&query) };
                link["scheme"] = json!(target.scheme());
                link["url"] = json!(target.https());
                link["query"] = json!(query);
            }
        }
        links.push(link);
    }
    Ok(links)
}

/// Where the mini-program posts.
pub fn interface_url(public_url: &str) -> String {
    format!("{}/pay", public_url.trim_end_matches('/'))
}
