//! A street of shoppers: orders and payments without a pause, and every refusal is a panic.

use std::{
    net::SocketAddr,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use simulator::{Call, Event, Simulator, alipay, wechat};
use tokio::task::JoinSet;

use super::{fleet::Fleet, phones::until_parameters};
use crate::trip::{
    harness::until,
    shop::{Shop, order_body, pay_info},
};

const SHOPPERS: usize = 4;

/// With what they pay: the mini-program at its wallet.
pub enum With {
    Wechat { appid: String },
    Alipay { app_id: String },
}

/// What all shoppers share.
pub struct Street {
    fronts: [SocketAddr; 2],
    sim: Simulator,
    with: With,
    /// Signs with the key that is the merchant's own choice right now.
    pub shop: RwLock<Shop>,
    /// Where the merchant is told of payments, if anywhere of its own.
    notify_url: Option<String>,
    closing: AtomicBool,
    /// How many orders each shopper has paid.
    paid: [AtomicUsize; SHOPPERS],
}

/// The shoppers on it.
pub struct Crowd(JoinSet<Vec<String>>);

impl Street {
    pub async fn open(fleet: &Fleet, with: With, shop: Shop, notify_url: Option<String>) -> (Arc<Self>, Crowd) {
        let street = Arc::new(Self {
            fronts: fleet.fronts,
            sim: fleet.sim().clone(),
            with,
            shop: RwLock::new(shop),
            notify_url,
            closing: AtomicBool::new(false),
            paid: Default::default(),
        });
        let mut crowd = JoinSet::new();
        for number in 0..SHOPPERS {
            crowd.spawn(street.clone().shopper(number));
        }
        street.goes_on().await;
        (street, Crowd(crowd))
    }

    /// Some more orders of each shopper went through on whatever keys there are now, and those that were under way before.
    pub async fn goes_on(&self) {
        let paid = || self.paid.each_ref().map(|paid| paid.load(Ordering::Relaxed));
        let before = paid();
        until("orders go through", || async { paid().iter().zip(before).all(|(now, before)| *now >= before + 2) })
            .await;
    }

    /// Each payment so far was told by its wallet, and our worker has taken that.
    pub async fn is_told(&self) {
        let ledger = self.sim.ledger();
        for (number, _) in ledger.payments("") {
            until("the wallet's notice is taken", async || {
                ledger.count(&number, Call::Notify, Event::NoticeAccepted) > 0
            })
            .await;
        }
        self.goes_on().await;
    }

    /// The shoppers go home, the merchant sees each payment, and each was told by its wallet. The orders' numbers.
    pub async fn close(&self, crowd: Crowd) -> Vec<String> {
        self.closing.store(true, Ordering::Relaxed);
        let bought: Vec<String> = crowd.0.join_all().await.into_iter().flatten().collect();
        let shop = self.shop.read().unwrap().clone();
        for order_no in &bought {
            until("the merchant sees the payment", || async { shop.order(order_no).await["payStatus"] == "SUCCESS" })
                .await;
        }
        // Paid does not prove that a notice was taken: were all refused, the scheduler would ask.
        let ledger = self.sim.ledger();
        let payments = ledger.payments("");
        assert_eq!(payments.len(), bought.len(), "{payments:?}");
        for (number, _) in &payments {
            let taken = || ledger.count(number, Call::Notify, Event::NoticeAccepted);
            until("the wallet's notice is taken", || async { taken() > 0 }).await;
        }
        bought
    }

    /// At both fronts in turn.
    async fn shopper(self: Arc<Self>, number: usize) -> Vec<String> {
        let client = Client::builder().no_proxy().build().unwrap();
        let mut bought = Vec::new();
        while !self.closing.load(Ordering::Relaxed) {
            let at = bought.len();
            let order_no = format!("S{number}-{at}");
            let [one, other] = self.fronts;
            let fronts = if (number + at).is_multiple_of(2) { [one, other] } else { [other, one] };
            let order = self.order(&client, &fronts, &order_no).await;
            self.pay(&client, &fronts, &order).await;
            self.paid[number].fetch_add(1, Ordering::Relaxed);
            bought.push(order_no);
        }
        bought
    }

    /// A merchant's server: it comes again only when nobody answered at all.
    async fn order(&self, client: &Client, fronts: &[SocketAddr], order_no: &str) -> Value {
        let mut body = order_body(order_no);
        if let Some(url) = &self.notify_url {
            body["notifyUrl"] = json!(url);
        }
        let body = body.to_string();
        let deadline = Instant::now() + Duration::from_secs(30);
        for front in fronts.iter().cycle() {
            let call = self.shop.read().unwrap().call(Method::POST, "/api/v1/orders", body.as_bytes());
            let mut request = client.post(format!("http://{front}{}", call.target)).body(call.body);
            for (name, value) in call.headers {
                request = request.header(name, value);
            }
            match request.send().await {
                Ok(answer) => {
                    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
                    if let Ok(answer) = serde_json::from_str::<Value>(&text) {
                        assert_eq!(answer["code"], "200", "{status} {answer:#}");
                        return answer["data"].clone();
                    }
                }
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        unreachable!("fronts are cycled for ever")
    }

    async fn pay(&self, client: &Client, fronts: &[SocketAddr], order: &Value) {
        match &self.with {
            With::Wechat { appid } => {
                let wallet = self.sim.wechat();
                let openid = wallet.new_openid(appid);
                let code = wallet.new_code(appid, &openid);
                let data = until_parameters(client, fronts, &pay_info(order, "WECHAT"), &code).await;
                let result = wallet.request_payment(&data, &openid, wechat::Press::Pay).unwrap();
                assert!(result.transaction_id.is_some(), "{}", result.err_msg);
            }
            With::Alipay { app_id } => {
                let wallet = self.sim.alipay();
                let user = wallet.new_user().user_id;
                let code = wallet.new_auth_code(app_id, &user).unwrap();
                let data = until_parameters(client, fronts, &pay_info(order, "ALIPAY"), &code).await;
                let trade_no = data["tradeNo"].as_str().unwrap();
                let pressed = wallet.trade_pay(trade_no, &user, alipay::Press::Pay).await;
                assert_eq!(pressed.as_str(), "9000", "{data:#}");
            }
        }
    }
}
