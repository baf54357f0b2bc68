//! The merchant's order API: create, fresh links, get.

use std::{sync::Arc, time::Duration};

use poem::{Request, Response, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Front,
    answer::json_response,
    auth::authentic,
    error::ApiError,
    keyring::{Keyring, MerchantEntry},
    links::links,
    page::asked_anew,
    refunds,
};
use crate::{
    domain::{
        attempt::AttemptState,
        id::{AppId, OrderId, OrderNo},
        money::{Fen, Sum},
        order::{Order, OrderEvent, OrderState, Step},
        wallet::Wallet,
    },
    keys::mac::sha256,
    store::{Commit, Committed, Inserted},
};

pub(super) const BODY_MAX: usize = 64 * 1024;
const EXPIRE_MINUTES_DEFAULT: i64 = 120;

/// `POST /api/v1/orders`, as sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateOrder {
    order_no: Option<String>,
    order_amount: Option<i64>,
    good_name: Option<String>,
    good_no: Option<String>,
    notify_url: Option<String>,
    expire_minutes: Option<i64>,
    wallets: Option<Vec<Wallet>>,
    mini_programs: Option<MiniPrograms>,
    attach: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MiniPrograms {
    #[serde(rename = "WECHAT")]
    wechat: Option<AppId>,
    #[serde(rename = "ALIPAY")]
    alipay: Option<AppId>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FreshLinks {
    #[serde(default)]
    revoke_old: bool,
}

/// Makes an order, or answers the stored one to the same content.
pub async fn create(front: &Arc<Front>, mut request: Request, trace_id: &str) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let asked: CreateOrder = read_json(&call.body)?;
    let keyring = front.keyring.load_full();
    let order = new_order(front, &asked, &call.merchant, &keyring)?;
    let (order, duplicate) = match front.store.insert_order(&order).await? {
        Inserted::New => (order, false),
        Inserted::Exists(stored) if stored.fingerprint == order.fingerprint => (*stored, true),
        Inserted::Exists(stored) => return Err(ApiError::OtherContent(stored.order_no)),
    };
    let links = live_links(front, &order, &call.merchant, &keyring);
    let data = json!({
        "orderNo": order.order_no.as_str(),
        "serialNo": order.id.to_string(),
        "payStatus": order.pay_status(),
        "orderAmount": order.amount.get(),
        "expireTime": order.expire_at.rfc3339(),
        "duplicate": duplicate,
        "links": if duplicate { links.unwrap_or_default() } else { links? },
    });
    Ok(said(trace_id, data))
}

/// Fresh links of all wallets; with `revokeOld` every link given out before stops working. When their key was retired they stopped
/// already, and there are none to be made again.
pub async fn fresh_links(
    front: &Arc<Front>,
    order_no: &str,
    mut request: Request,
    trace_id: &str,
) -> Result<Response, ApiError> {
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let asked: FreshLinks = if call.body.is_empty() { FreshLinks::default() } else { read_json(&call.body)? };
    let keyring = front.keyring.load_full();
    let mut order = find(front, &call.merchant, order_no).await?;
    let revoked = || OrderEvent::LinksRevoked { key: keyring.pay_info.current(front.clock.now()).clone() };
    if asked.revoke_old {
        order = apply(front, order, |_| Some(revoked())).await?;
    } else {
        // Of two who ask at once, the one makes them anew and the other has them.
        order = apply(front, order, |order| (!keyring.pay_info.has(&order.link_key)).then(revoked)).await?;
    }
    Ok(said(trace_id, json!({ "links": live_links(front, &order, &call.merchant, &keyring)? })))
}

/// The order as it stands; with `?sync=true` the wallet is asked first, and `synced` tells whether it answered in time.
pub async fn get(
    front: &Arc<Front>,
    order_no: &str,
    mut request: Request,
    trace_id: &str,
) -> Result<Response, ApiError> {
    let sync = request.original_uri().query().is_some_and(|query| query.split('&').any(|pair| pair == "sync=true"));
    let call = authentic(front, &mut request, BODY_MAX).await?;
    let mut order = find(front, &call.merchant, order_no).await?;
    let mut synced = None;
    if sync {
        synced = Some(false);
        if let Some(_place) = front.admission.linger(call.merchant.id) {
            let asked = asked_anew(front, order).await?;
            (order, synced) = (asked.order, Some(asked.synced));
        }
    }
    let keyring = front.keyring.load_full();
    // How an order stands is told even when its links cannot be made any more (their payInfo key is retired).
    let links = live_links(front, &order, &call.merchant, &keyring).unwrap_or_default();
    let anomalies = front.store.anomalies(order.id).await?;
    let mut data = order_data(&order);
    if let Some(synced) = synced {
        data["synced"] = json!(synced);
    }
    data["links"] = json!(links);
    data["anomalies"] = anomalies
        .iter()
        .map(|anomaly| {
            json!({
                "kind": anomaly.kind.as_str().to_uppercase(),
                "outTradeNo": order.out_trade_no(anomaly.attempt).to_string(),
                "detail": anomaly.detail,
                "handled": anomaly.handled.as_str().to_uppercase(),
            })
        })
        .collect();
    let refunds = front.store.refunds_of(order.id).await?;
    data["refunds"] = refunds::of_order(&order, &refunds);
    Ok(said(trace_id, data))
}

pub(super) async fn find(front: &Front, merchant: &MerchantEntry, order_no: &str) -> Result<Order, ApiError> {
    let order_no = OrderNo::parse(order_no).map_err(|error| ApiError::Invalid(error.to_string()))?;
    // Merchant and number together: another merchant's order is not there.
    let order = front.store.load_order_by_no(merchant.id, &order_no).await?;
    order.ok_or(ApiError::NoSuchOrder(order_no))
}

/// A merchant's wish about an order, decided again whenever somebody else was first. `None`: there is nothing to wish for.
pub(super) async fn apply(
    front: &Front,
    mut order: Order,
    wish: impl Fn(&Order) -> Option<OrderEvent>,
) -> Result<Order, ApiError> {
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let now = front.clock.now();
        let Some(event) = wish(&order) else { return Ok(order) };
        match order.apply(event, now).map_err(|error| ApiError::Invalid(error.to_string()))? {
            Step::AlreadyThere => return Ok(order),
            Step::Moved(moved) => {
                if let Committed::Done = front.store.commit(Commit { moved: &moved, outcome: None, at: now }).await? {
                    return Ok(moved.order);
                }
            }
        }
        order = front.store.load_order(order.id).await?.ok_or(ApiError::NoSuchOrder(order.order_no))?;
    }
    Err(ApiError::TooOften)
}

fn new_order(
    front: &Front,
    asked: &CreateOrder,
    merchant: &MerchantEntry,
    keyring: &Keyring,
) -> Result<Order, ApiError> {
    let invalid = |error: &dyn std::fmt::Display| ApiError::Invalid(error.to_string());
    let order_no = asked.order_no.as_deref().ok_or(ApiError::Missing("orderNo"))?;
    let order_no = OrderNo::parse(order_no).map_err(|error| invalid(&error))?;
    let amount = Fen::new(asked.order_amount.ok_or(ApiError::Missing("orderAmount"))?);
    let amount = amount.map_err(|error| invalid(&format!("orderAmount：{error}")))?;
    let good_name = text("goodName", asked.good_name.as_deref().ok_or(ApiError::Missing("goodName"))?, 64)?;
    if good_name.trim().is_empty() {
        return Err(ApiError::Invalid("goodName 不能为空白".into()));
    }
    let notify_url = asked.notify_url.as_deref().ok_or(ApiError::Missing("notifyUrl"))?;
    check_notify_url(notify_url, front.settings.allow_private_notify_urls)?;
    let minutes = asked.expire_minutes.unwrap_or(EXPIRE_MINUTES_DEFAULT);
    if !(5..=10_080).contains(&minutes) {
        return Err(ApiError::Invalid("expireMinutes 须为 5 至 10080".into()));
    }

    let (wechat, alipay) = wallets(asked, merchant)?;
    if wechat.is_some() {
        if amount > Fen::WECHAT_MAX {
            return Err(ApiError::Invalid(format!("orderAmount：微信支付最多 {} 分", Fen::WECHAT_MAX.get())));
        }
        if good_name.chars().any(|c| c.len_utf8() == 4) {
            return Err(ApiError::Invalid("goodName：微信支付不支持四字节字符（如表情符号）".into()));
        }
    }

    let now = front.clock.now();
    // Whole seconds: payInfo and both wallets carry the expiry without a fraction.
    let expire_at = crate::domain::time::Timestamp::from_secs(now.secs())
        .plus(Duration::from_secs(u64::try_from(minutes * 60).unwrap_or(0)));
    Ok(Order {
        id: OrderId::fresh(),
        merchant: merchant.id,
        order_no,
        fingerprint: fingerprint(asked),
        amount,
        good_name,
        good_no: asked.good_no.as_deref().map(|value| text("goodNo", value, 64)).transpose()?,
        attach: asked.attach.as_deref().map(|value| text("attach", value, 128)).transpose()?,
        notify_url: notify_url.to_owned(),
        wechat_mini_program: wechat,
        alipay_mini_program: alipay,
        created_at: now,
        expire_at,
        link_generation: 0,
        link_key: keyring.pay_info.current(now).clone(),
        state: OrderState::Waiting,
        version: 1,
        lease: None,
        asked_at: None,
        close_wanted_at: None,
        attempts: Vec::new(),
    })
}

type Chosen = (Option<crate::domain::id::MiniProgramId>, Option<crate::domain::id::MiniProgramId>);

/// The mini-program of each wallet that the order is for.
fn wallets(asked: &CreateOrder, merchant: &MerchantEntry) -> Result<Chosen, ApiError> {
    if asked.wallets.as_ref().is_some_and(Vec::is_empty) {
        return Err(ApiError::Invalid("wallets 不能为空数组".into()));
    }
    let named = |wallet| match (&asked.mini_programs, wallet) {
        (None, _) => None,
        (Some(programs), Wallet::WechatPay) => programs.wechat.as_ref(),
        (Some(programs), Wallet::Alipay) => programs.alipay.as_ref(),
    };
    let choose = |wallet| {
        let wanted = asked.wallets.as_ref().map(|wallets| wallets.contains(&wallet));
        if wanted == Some(false) {
            return match named(wallet) {
                Some(_) => Err(ApiError::Invalid(format!("miniPrograms 指定了未选择的钱包 {}", wallet.wire_name()))),
                None => Ok(None),
            };
        }
        let program = merchant.mini_program(wallet, named(wallet));
        match program {
            Some(program) => Ok(Some(program.id)),
            None if wanted == Some(true) || named(wallet).is_some() => {
                Err(ApiError::Invalid(format!("{} 没有这个已登记的小程序", wallet.wire_name())))
            }
            None => Ok(None),
        }
    };
    match (choose(Wallet::WechatPay)?, choose(Wallet::Alipay)?) {
        (None, None) => Err(ApiError::Invalid("商户还没有登记任何小程序".into())),
        chosen => Ok(chosen),
    }
}

/// Of the business fields as sent: the same content again is the same order.
fn fingerprint(asked: &CreateOrder) -> [u8; 32] {
    let programs = asked.mini_programs.as_ref();
    let fields = json!([
        asked.order_amount,
        asked.good_name,
        asked.good_no,
        asked.notify_url,
        asked.expire_minutes,
        asked.wallets.as_ref().map(|wallets| {
            // A set: the order of its names says nothing.
            Wallet::ALL.into_iter().filter(|wallet| wallets.contains(wallet)).map(Wallet::wire_name).collect::<Vec<_>>()
        }),
        programs.and_then(|programs| programs.wechat.as_ref()).map(AppId::as_str),
        programs.and_then(|programs| programs.alipay.as_ref()).map(AppId::as_str),
        asked.attach,
    ]);
    sha256(fields.to_string().as_bytes())
}

pub(super) fn text(name: &str, value: &str, max_chars: usize) -> Result<String, ApiError> {
    if value.chars().count() > max_chars {
        return Err(ApiError::Invalid(format!("{name} 最多 {max_chars} 个字符")));
    }
    if value.chars().any(char::is_control) {
        return Err(ApiError::Invalid(format!("{name} 不能含控制字符")));
    }
    Ok(value.to_owned())
}

/// What can be told from the text alone; names are resolved and judged again whenever we connect.
pub(super) fn check_notify_url(url: &str, allow_private: bool) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::Invalid(format!("notifyUrl {why}")));
    if url.len() > 256 {
        return refuse("最多 256 个字符");
    }
    let Ok(parsed) = reqwest::Url::parse(url) else { return refuse("不是有效的地址") };
    if parsed.scheme() != "https" && !(allow_private && parsed.scheme() == "http") {
        return refuse("须以 https:// 开头");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.fragment().is_some() {
        return refuse("不能含用户名、密码或 # 片段");
    }
    let Some(host) = parsed.host_str() else { return refuse("缺少主机名") };
    if allow_private {
        return Ok(());
    }
    // As whoever connects judges it: no port of another service.
    if !parsed.port_or_known_default().is_some_and(|port| port == 443 || port >= 1024) {
        return refuse("的端口须为 443 或不小于 1024");
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    // The URL parser has already turned odd forms (0x7f.1, 2130706433) into plain addresses.
    if name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>().is_ok() {
        return refuse("须使用域名，不能是 IP 地址");
    }
    let local = ["localhost", "local", "internal", "localdomain"];
    if !name.contains('.') || local.iter().any(|tail| name == *tail || name.ends_with(&format!(".{tail}"))) {
        return refuse("须为公网域名");
    }
    Ok(())
}

fn order_data(order: &Order) -> Value {
    let mut data = json!({
        "orderNo": order.order_no.as_str(),
        "serialNo": order.id.to_string(),
        "payStatus": order.pay_status(),
        "orderAmount": order.amount.get(),
        "expireTime": order.expire_at.rfc3339(),
        "goodName": order.good_name,
        "refundedAmount": order.paying_attempt().map_or(0, |attempt| attempt.refunded.get()),
        "attempts": order.attempts.iter().map(|attempt| json!({
            "outTradeNo": order.out_trade_no(attempt.no).to_string(),
            "payType": attempt.wallet.wire_name(),
            "appId": attempt.app_id.as_str(),
            "status": attempt.state.name().to_uppercase(),
            "startTime": attempt.started_at.rfc3339(),
        })).collect::<Vec<_>>(),
    });
    if let Some(attach) = &order.attach {
        data["attach"] = json!(attach);
    }
    if let OrderState::Closed { at } = order.state {
        data["closeTime"] = json!(at.rfc3339());
    }
    if let OrderState::Paid { by } = order.state
        && let Some(attempt) = order.attempt(by)
        && let AttemptState::Paid { payment } = &attempt.state
    {
        data["payType"] = json!(attempt.wallet.wire_name());
        data["payAmount"] = json!(payment.payer_amount.map_or(order.amount.get(), Sum::get));
        data["payTime"] = json!(payment.paid_at.rfc3339());
        data["channelTradeNo"] = json!(payment.trade_no.as_str());
        data["outTradeNo"] = json!(order.out_trade_no(by).to_string());
        data["payerId"] = json!(attempt.payer.expose_id());
    }
    data
}

/// The order's links while they can still open something.
fn live_links(
    front: &Front,
    order: &Order,
    merchant: &MerchantEntry,
    keyring: &Keyring,
) -> Result<Vec<Value>, ApiError> {
    let over = matches!(order.state, OrderState::Paid { .. } | OrderState::Closed { .. });
    if over || order.is_disputed() || order.is_closing() || order.expire_at <= front.clock.now() {
        return Ok(Vec::new());
    }
    links(order, merchant, keyring, &front.settings.public_url).map_err(ApiError::Internal)
}

pub(super) fn read_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // serde's words name the field and the place; they quote at most the sender's own text.
    serde_json::from_slice(body).map_err(|error| ApiError::Invalid(format!("JSON：{error}")))
}

pub(super) fn said(trace_id: &str, data: Value) -> Response {
    json_response(
        StatusCode::OK,
        &json!({ "code": "200", "msg": "操作成功", "errCode": null, "data": data, "traceId": trace_id }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_notify_urls_are_refused_before_anything_is_stored() {
        for fine in ["https://shop.example.com/notify", "https://例子.cn/a?b=c", "https://shop.example.com:8443/n"] {
            assert!(check_notify_url(fine, false).is_ok(), "{fine}");
        }
        let long = format!("https://shop.example.com/{}", "a".repeat(256));
        for unsafe_url in [
            "http://shop.example.com/",
            "ftp://shop.example.com/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost/",
            "https://a.localhost./",
            "https://intranet/",
            "https://db.internal/",
            "https://user:pw@shop.example.com/",
            "https://shop.example.com/#x",
            "https://shop.example.com:22/",
            "https://shop.example.com:80/",
            "https://shop.example.com:0/",
            "javascript:alert(1)",
            "not an address",
            "",
            &long,
        ] {
            assert!(check_notify_url(unsafe_url, false).is_err(), "{unsafe_url}");
        }
        assert!(check_notify_url("http://127.0.0.1:9/", true).is_ok());
    }

    #[test]
    fn amounts_are_whole_json_integers() {
        for wrong in ["1.0", "1.5", "\"100\"", "1e2", "null", "99999999999999999999", "true"] {
            let body = format!(r#"{{"orderNo":"A","orderAmount":{wrong}}}"#);
            let read = read_json::<CreateOrder>(body.as_bytes());
            assert!(read.is_err() || read.unwrap().order_amount.is_none(), "{wrong}");
        }
        assert!(read_json::<CreateOrder>(br#"{"orderNo":"A","orderNo":"B"}"#).is_err(), "a field twice");
        assert!(read_json::<CreateOrder>(br#"{"orderNo":"A","amount":1}"#).is_err(), "an unknown field");
    }
}
