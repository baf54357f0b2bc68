//! Phones, and the orders they open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use simulator::{
    Simulator,
    wechat::{Press, WechatApp},
};

use super::shop::{Shop, order_body, pay_info};

/// An order as a phone is given it.
pub struct Link {
    order_no: String,
    /// Its first number at the wallet.
    number: String,
    pay_info: String,
}

/// An order with parameters in a phone's hand.
pub struct Opened {
    pub order_no: String,
    number: String,
    pub took: Duration,
    /// How often it was told 503 first.
    pub shed: usize,
    openid: String,
    data: Value,
}

pub async fn create_orders(shop: &Shop, inbox: &str, prefix: &str, orders: usize, at_once: usize) -> Vec<Link> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..at_once {
        let (shop, next, inbox, prefix) = (shop.clone(), next.clone(), inbox.to_owned(), prefix.to_owned());
        tasks.spawn(async move {
            let mut links = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= orders {
                    return links;
                }
                let order_no = format!("{prefix}{number}");
                let mut body = order_body(&order_no);
                body["notifyUrl"] = json!(inbox);
                let order = shop.create(&body).await;
                let number = format!("{}01", order["serialNo"].as_str().unwrap());
                links.push(Link { pay_info: pay_info(&order, "WECHAT"), order_no, number });
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// What all phones share.
pub struct Street {
    pub http: reqwest::Client,
    pub sim: Simulator,
    pub app: WechatApp,
    pub fronts: [String; 2],
}

impl Street {
    /// So many phones at once open all orders. A phone's time runs from its first post to its parameters.
    pub async fn open_all(&self, links: Vec<Link>, phones: usize) -> Vec<Opened> {
        let (links, next) = (Arc::new(links), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for phone in 0..phones {
            let (http, sim, app) = (self.http.clone(), self.sim.clone(), self.app.clone());
            let (links, next) = (links.clone(), next.clone());
            let url = format!("http://{}/pay", self.fronts[phone % 2]);
            tasks.spawn(async move {
                let mut opened = Vec::new();
                loop {
                    let Some(link) = links.get(next.fetch_add(1, Ordering::Relaxed)) else { return opened };
                    let openid = sim.wechat().new_openid(&app.appid);
                    let code = sim.wechat().new_code(&app.appid, &openid);
                    let (began, mut shed) = (Instant::now(), 0);
                    let data = loop {
                        let body = json!({ "payInfo": link.pay_info, "code": code });
                        let answer = http.post(&url).json(&body).send().await.unwrap();
                        let wait = answer.headers().get("retry-after").and_then(|s| s.to_str().ok()?.parse().ok());
                        let answer: Value = answer.json().await.unwrap();
                        match answer["code"].as_str() {
                            Some("200") => break answer["data"].clone(),
                            Some("503") => {
                                shed += 1;
                                tokio::time::sleep(Duration::from_secs(wait.unwrap_or(1))).await;
                            }
                            _ => panic!("{answer}"),
                        }
                    };
                    let (order_no, number) = (link.order_no.clone(), link.number.clone());
                    opened.push(Opened { order_no, number, took: began.elapsed(), shed, openid, data });
                }
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }

    /// How long the wallet waited for the answer to a notification of each, told once more.
    pub async fn answered(&self, mchid: &str, opened: &[Opened]) -> Vec<Duration> {
        let mut took = Vec::new();
        for opened in opened {
            let began = Instant::now();
            let answer = self.sim.wechat().notify_now(mchid, &opened.number, &[]).await.unwrap();
            assert_eq!(answer.status, 200);
            took.push(began.elapsed());
        }
        took.sort_unstable();
        took
    }

    /// The payer presses pay.
    pub fn pay(&self, opened: &Opened) {
        let result = self.sim.wechat().request_payment(&opened.data, &opened.openid, Press::Pay).unwrap();
        assert!(result.transaction_id.is_some(), "{}", result.err_msg);
    }
}
