//! The bytes of a prepay (`wechat-pay.md` §4.1).

use super::{
    Mode, WechatGateway, json,
    wire::{AmountBody, DetailBody, GoodsBody, PayerBody, PrepayBody, SceneBody, SettleBody},
};
use crate::{
    domain::{attempt::Frozen, money::Fen, payer::PayerKind},
    gateway::{PrepayAsk, extras::goods_id, http::check_base_url},
};

/// `description` is string(127), `notify_url` string(255).
const DESCRIPTION_MAX: usize = 127;
const NOTIFY_URL_MAX: usize = 255;

/// "Seen in the 2025 public OpenAPI description", for merchants that WeChat permits; the word is that of its older interface (U).
const NO_CREDIT: &[&str] = &["no_credit"];

pub(super) fn freeze(gateway: &WechatGateway, ask: &PrepayAsk) -> Result<Frozen, String> {
    if gateway.app(&ask.app_id).is_none() {
        return Err(format!("mini-program {} does not pay through this account", ask.app_id));
    }
    if ask.payer.kind != PayerKind::WechatOpenid {
        return Err("the payer is no openid of WeChat".into());
    }
    if ask.amount > Fen::WECHAT_MAX {
        return Err(format!("WeChat Pay takes at most {}", Fen::WECHAT_MAX));
    }
    let description = ask.good_name.as_str();
    let length = description.chars().count();
    if description.trim().is_empty() || length > DESCRIPTION_MAX {
        return Err(format!("a description has 1 to {DESCRIPTION_MAX} characters, this one {length}"));
    }
    // Characters of four bytes are refused by WeChat (§0, encoding).
    if description.chars().any(|c| c.len_utf8() > 3 || c.is_control()) {
        return Err("a description holds neither characters of four bytes (emoji) nor control characters".into());
    }
    check_base_url(&ask.notify_url).map_err(|error| format!("notify_url: {error}"))?;
    if ask.notify_url.chars().count() > NOTIFY_URL_MAX {
        return Err(format!("notify_url has more than {NOTIFY_URL_MAX} characters"));
    }
    let openid = ask.payer.expose_id();
    let app_id = ask.app_id.as_str();
    let out_trade_no = ask.out_trade_no.to_string();
    let time_expire = ask.expire_at.rfc3339();
    let extras = gateway.extras;
    let goods = goods_id(ask.good_no.as_deref()).filter(|_| extras.goods_detail);
    let mut body = PrepayBody {
        appid: None,
        mchid: None,
        sp_appid: None,
        sp_mchid: None,
        sub_appid: None,
        sub_mchid: None,
        description,
        out_trade_no: &out_trade_no,
        time_expire: &time_expire,
        notify_url: &ask.notify_url,
        amount: AmountBody { total: ask.amount.get(), currency: "CNY" },
        payer: PayerBody::default(),
        goods_tag: gateway.goods_tag.as_deref(),
        limit_pay: extras.no_credit.then_some(NO_CREDIT),
        detail: goods.map(|merchant_goods_id| DetailBody {
            goods_detail: [GoodsBody {
                merchant_goods_id,
                goods_name: description,
                quantity: 1,
                unit_price: ask.amount.get(),
            }],
        }),
        scene_info: ask.payer_ip.filter(|_| extras.payer_ip).map(|ip| SceneBody { payer_client_ip: ip.expose() }),
        settle_info: extras.profit_sharing.then_some(SettleBody { profit_sharing: true }),
    };
    match &gateway.payee.mode {
        Mode::Direct { mchid } => {
            body.appid = Some(app_id);
            body.mchid = Some(mchid);
            body.payer.openid = Some(openid);
        }
        Mode::Provider { sp_mchid, sp_appid, sub_mchid } => {
            body.sp_appid = Some(sp_appid.as_str());
            body.sp_mchid = Some(sp_mchid);
            body.sub_mchid = Some(sub_mchid);
            // An openid belongs to one appid: which field names it follows from where the phone logged in.
            if *sp_appid == ask.app_id {
                body.payer.sp_openid = Some(openid);
            } else {
                body.sub_appid = Some(app_id);
                body.payer.sub_openid = Some(openid);
            }
        }
    }
    Ok(Frozen { body: json(&body), notify_url: ask.notify_url.clone() })
}
