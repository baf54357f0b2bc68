//! The merchant's endpoint: when it hears of which order.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use poem::{EndpointExt, Request, endpoint::make};
use prepay::listen::{ListenSettings, Listening};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::phones::{Opened, Street};

pub struct Inbox {
    pub url: String,
    heard: Arc<Mutex<HashMap<String, Instant>>>,
    _leaving: DropGuard,
}

impl Inbox {
    pub async fn open() -> Self {
        let (heard, leaving) = (Arc::new(Mutex::new(HashMap::new())), CancellationToken::new());
        let there = heard.clone();
        let endpoint = make(move |mut request: Request| {
            let heard = there.clone();
            async move {
                let body: Value = serde_json::from_slice(&request.take_body().into_bytes().await.unwrap()).unwrap();
                let order_no = body["orderNo"].as_str().unwrap().to_owned();
                heard.lock().unwrap().entry(order_no).or_insert_with(Instant::now);
                "OK"
            }
        });
        let settings = ListenSettings::on(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listening = Listening::start(settings, endpoint.map_to_response(), leaving.clone()).await.unwrap();
        Self { url: format!("http://{}/notify", listening.addr), heard, _leaving: leaving.drop_guard() }
    }

    /// Pays some orders, forty a second, and prints how long after its payment the merchant heard of each.
    pub async fn told_after(&self, how: &str, street: &Street, opened: &[Opened]) {
        let mut paid = Vec::new();
        for opened in opened {
            street.pay(opened);
            paid.push((opened.order_no.clone(), Instant::now()));
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while paid.iter().any(|(order_no, _)| !self.heard.lock().unwrap().contains_key(order_no)) {
            assert!(Instant::now() < deadline, "a merchant was not told within a minute");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let heard = self.heard.lock().unwrap();
        let after = |(order_no, at): &(String, Instant)| heard[order_no].saturating_duration_since(*at).as_millis();
        let mut took: Vec<u128> = paid.iter().map(after).collect();
        took.sort_unstable();
        let at = |share: usize| took[(took.len() - 1) * share / 100];
        println!(
            "{} payments {how}: the merchant was told after p50 {} ms, p99 {} ms, at most {} ms",
            paid.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}
