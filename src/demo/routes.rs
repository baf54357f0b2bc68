//! `/demo…`: the page, and what it needs besides the published interface.
//!
//! | route | does |
//! |---|---|
//! | `GET /demo` | the page |
//! | `GET /demo/order?wallet=wechat\|alipay` | makes a fresh order: `{orderNo, interfaceUrl, payInfo, code, links}`; the code is of `person=` (1) |
//! | `GET /demo/order/{orderNo}` | `order`: as the merchant sees it; `wallet`: what the wallet noted about its numbers |
//! | `POST /demo/order/{orderNo}/refund` | `{amount}`, in fen: the merchant gives money back → what the merchant API answers |
//! | `POST /demo/order/{orderNo}/close` | the merchant closes an unpaid order → what the merchant API answers |
//! | `GET /demo/events?after=0` | the merchant's event log: what came to its notify URL after that `nth`, newest first, the last 200 |
//! | `GET`, `POST /demo/notices` | `{mode: usual\|late\|lost\|doubled\|forged}`: how the wallets' notifications travel |
//! | `GET`, `POST /demo/bills` | `{leaveOut: true\|false}`: the latest payment is left out of its wallet's bill → `{leftOut}` |
//! | `POST /demo/bills/look` | fetches today's bills and matches them → `{date, wallets}`, see `Bills::look` |
//! | `POST /demo/login` | `{wallet, person}` → `{code}` |
//! | `POST /demo/cashier` | `{wallet, params, person, press: pay\|cancel}` → what the client API answers, and the cashier's checks |
//! | `POST /demo/notified` | the merchant's notify URL: answers `OK` to what is signed with its secret, 401 to the rest |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use poem::{
    Endpoint, Request, Response,
    endpoint::make,
    http::{Method, StatusCode},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    bills::Bills,
    cashier::{Phones, Press},
    events::EventLog,
    notices::{Mode, Notices},
    page,
    shop::Shop,
};
use crate::domain::wallet::Wallet;

const BODY_MAX: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Who takes part besides the roles of the app.
pub struct Scene {
    pub shop: Arc<Shop>,
    pub phones: Arc<Phones>,
    pub events: EventLog,
    pub notices: Notices,
    pub bills: Arc<Bills>,
}

/// Everything below `/demo`.
pub fn endpoint(scene: Scene) -> impl Endpoint<Output = Response> + 'static {
    let scene = Arc::new(scene);
    make(move |request: Request| {
        let scene = scene.clone();
        async move { answer(&scene, request).await.unwrap_or_else(Refused::into_response) }
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

async fn answer(scene: &Scene, mut request: Request) -> Result<Response, Refused> {
    let Scene { shop, phones, events, notices, bills } = scene;
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let parts: Vec<&str> = path.split('/').skip(2).collect();
    let data = match (request.method(), parts.as_slice()) {
        (&Method::GET | &Method::HEAD, []) => return Ok(page::response()),
        (&Method::GET, ["order"]) => fresh_order(shop, phones, &request).await?,
        (&Method::GET, ["order", order_no]) => order(shop, phones, order_no).await?,
        (&Method::POST, ["order", order_no, "refund"]) => {
            let Amount { amount } = read(&mut request).await?;
            return as_answered(shop.refund(order_no, amount).await);
        }
        (&Method::POST, ["order", order_no, "close"]) => return as_answered(shop.close(number(order_no)?).await),
        (&Method::GET, ["events"]) => {
            let After { after } = request.params().map_err(|_| Refused::Asked("?after= is a number".to_owned()))?;
            json!({ "events": events.since(after) })
        }
        (&Method::GET, ["notices"]) => json!({ "mode": notices.mode() }),
        (&Method::POST, ["notices"]) => {
            let Travel { mode } = read(&mut request).await?;
            notices.set(mode);
            json!({ "mode": mode })
        }
        (&Method::GET, ["bills"]) => bills.left_out(),
        (&Method::POST, ["bills"]) => {
            let BillsTell { leave_out } = read(&mut request).await?;
            if leave_out { bills.leave_out() } else { bills.restore() }
        }
        (&Method::POST, ["bills", "look"]) => bills.look().await.map_err(Refused::Failed)?,
        (&Method::POST, ["login"]) => {
            let asked: Login = read(&mut request).await?;
            json!({ "code": phones.login(asked.wallet()?, asked.person).map_err(told)? })
        }
        (&Method::POST, ["cashier"]) => {
            let Cashier { wallet, params, person, press } = read(&mut request).await?;
            phones.press(named(&wallet)?, person, &params, press).await.map_err(told)?
        }
        (&Method::POST, ["notified"]) => {
            let body = body(&mut request).await?;
            let answer = match events.arrived(request.headers(), &body) {
                true => Response::builder().body("OK"),
                false => Response::builder().status(StatusCode::UNAUTHORIZED).body("not signed by prepay"),
            };
            return Ok(answer);
        }
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
    let order = shop.order(number(order_no)?).await.map_err(Refused::Failed)?.ok_or(Refused::NoSuchOrder)?;
    let attempts = order["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let numbers: Vec<&str> = attempts.iter().filter_map(|attempt| attempt["outTradeNo"].as_str()).collect();
    Ok(json!({ "order": order, "wallet": phones.noted(&numbers) }))
}

/// It becomes part of a path that is signed: nothing but what an order number is made of.
fn number(order_no: &str) -> Result<&str, Refused> {
    let fits = order_no.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    fits.then_some(order_no).ok_or(Refused::NoSuchOrder)
}

/// The merchant API's own status and words.
fn as_answered(answer: anyhow::Result<(StatusCode, Value)>) -> Result<Response, Refused> {
    let (status, answer) = answer.map_err(Refused::Failed)?;
    Ok(json_response(status, &answer))
}

#[derive(Deserialize)]
struct Amount {
    amount: i64,
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

#[derive(Deserialize)]
struct Travel {
    mode: Mode,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BillsTell {
    leave_out: bool,
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
    let body = body(request).await?;
    serde_json::from_slice(&body).map_err(|error| Refused::Asked(format!("JSON: {error}")))
}

async fn body(request: &mut Request) -> Result<Bytes, Refused> {
    let body = tokio::time::timeout(BODY_TIMEOUT, request.take_body().into_bytes_limit(BODY_MAX)).await;
    body.ok().and_then(Result::ok).ok_or_else(|| Refused::Asked("the body is too long or too slow".to_owned()))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store")
        .body(body.to_string())
}
