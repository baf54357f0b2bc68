//! `/demo…`: the page, and what it needs besides the published interface.
//!
//! | route | does |
//! |---|---|
//! | `GET /demo` | the page |
//! | `GET /demo/order?wallet=wechat\|alipay` | makes a fresh order: `{orderNo, interfaceUrl, payInfo, code, links}`; the code is of `person=` (1) |
//! | `GET /demo/order/{orderNo}` | `order`: as the merchant sees it; `wallet`: what the wallet noted about its numbers |
//! | `POST /demo/login` | `{wallet, person}` → `{code}` |
//! | `POST /demo/cashier` | `{wallet, params, person, press: pay\|cancel}` → what the client API answers, and the cashier's checks |
//! | `POST /demo/notified` | the merchant's notify URL: answers `OK` |

use std::{sync::Arc, time::Duration};

use poem::{
    Endpoint, Request, Response,
    endpoint::make,
    http::{Method, StatusCode},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    cashier::{Phones, Press},
    shop::Shop,
};
use crate::domain::wallet::Wallet;

const PAGE: &str = include_str!("page.html");
const BODY_MAX: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything below `/demo`.
pub fn endpoint(shop: Arc<Shop>, phones: Arc<Phones>) -> impl Endpoint<Output = Response> + 'static {
    make(move |request: Request| {
        let (shop, phones) = (shop.clone(), phones.clone());
        async move { answer(&shop, &phones, request).await.unwrap_or_else(Refused::into_response) }
    })
}

/// Why a call of the demo is not answered.
enum Refused {
    NoSuchCall,
    NoSuchOrder,
    Asked(String),
    Failed(anyhow::Error),
}

impl Refused {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NoSuchCall => (StatusCode::NOT_FOUND, "there is no such call: see /demo".to_owned()),
            Self::NoSuchOrder => (StatusCode::NOT_FOUND, "there is no such order".to_owned()),
            Self::Asked(why) => (StatusCode::BAD_REQUEST, why),
            Self::Failed(error) => {
                tracing::warn!(error = format!("{error:#}"), "the demo's own call failed");
                (StatusCode::BAD_GATEWAY, format!("{error:#}"))
            }
        };
        json_response(status, &json!({ "error": error }))
    }
}

async fn answer(shop: &Shop, phones: &Phones, mut request: Request) -> Result<Response, Refused> {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    let data = match (request.method(), parts.as_slice()) {
        (&Method::GET | &Method::HEAD, []) => return Ok(page()),
        (&Method::GET, ["order"]) => fresh_order(shop, phones, &request).await?,
        (&Method::GET, ["order", order_no]) => order(shop, phones, order_no).await?,
        (&Method::POST, ["login"]) => {
            let asked: Login = read(&mut request).await?;
            json!({ "code": phones.login(asked.wallet()?, asked.person).map_err(told)? })
        }
        (&Method::POST, ["cashier"]) => {
            let Cashier { wallet, params, person, press } = read(&mut request).await?;
            phones.press(named(&wallet)?, person, &params, press).await.map_err(told)?
        }
        // Nothing is verified and nothing is done: a merchant's own server is not what is shown here.
        (&Method::POST, ["notified"]) => return Ok(Response::builder().body("OK")),
        _ => return Err(Refused::NoSuchCall),
    };
    Ok(json_response(StatusCode::OK, &data))
}

async fn fresh_order(shop: &Shop, phones: &Phones, request: &Request) -> Result<Value, Refused> {
    let asked: Login = request.params().map_err(|_| Refused::Asked("?wallet=wechat or ?wallet=alipay".to_owned()))?;
    let wallet = asked.wallet()?;
    // The person first: an order that nobody opens is of no use.
    let code = phones.login(wallet, asked.person).map_err(told)?;
    let order = shop.new_order(wallet).await.map_err(Refused::Failed)?;
    let link = &order["links"][0];
    Ok(json!({
        "orderNo": order["orderNo"],
        "interfaceUrl": link["interfaceUrl"],
        "payInfo": link["payInfo"],
        "code": code,
        "links": order["links"],
    }))
}

async fn order(shop: &Shop, phones: &Phones, order_no: &str) -> Result<Value, Refused> {
    // It becomes part of a path that is signed: nothing but what an order number is made of.
    if !order_no.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(Refused::NoSuchOrder);
    }
    let order = shop.order(order_no).await.map_err(Refused::Failed)?.ok_or(Refused::NoSuchOrder)?;
    let attempts = order["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let numbers: Vec<&str> = attempts.iter().filter_map(|attempt| attempt["outTradeNo"].as_str()).collect();
    Ok(json!({ "order": order, "wallet": phones.noted(&numbers) }))
}

#[derive(Deserialize)]
struct Login {
    wallet: String,
    #[serde(default = "first")]
    person: u8,
}

impl Login {
    fn wallet(&self) -> Result<Wallet, Refused> {
        named(&self.wallet)
    }
}

#[derive(Deserialize)]
struct Cashier {
    wallet: String,
    params: Value,
    #[serde(default = "first")]
    person: u8,
    press: Press,
}

const fn first() -> u8 {
    1
}

fn named(wallet: &str) -> Result<Wallet, Refused> {
    Wallet::parse(wallet).ok_or_else(|| Refused::Asked("wallet is wechat or alipay".to_owned()))
}

fn told(error: anyhow::Error) -> Refused {
    Refused::Asked(format!("{error:#}"))
}

async fn read<T: DeserializeOwned>(request: &mut Request) -> Result<T, Refused> {
    let body = tokio::time::timeout(BODY_TIMEOUT, request.take_body().into_bytes_limit(BODY_MAX)).await;
    let body =
        body.ok().and_then(Result::ok).ok_or_else(|| Refused::Asked("the body is too long or too slow".to_owned()))?;
    serde_json::from_slice(&body).map_err(|error| Refused::Asked(format!("JSON: {error}")))
}

fn page() -> Response {
    Response::builder()
        .header("content-type", "text/html; charset=utf-8")
        .header("cache-control", "no-store")
        // The page talks to this origin and to nobody else.
        .header(
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        .body(PAGE)
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store")
        .body(body.to_string())
}
