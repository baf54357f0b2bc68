//! A phone at the tills of two merchants, and what it hears.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use simulator::{Simulator, Wallet, alipay, wechat};

use crate::trip::{
    harness::SOON,
    shop::{Shop, pay_info},
};

/// One mini-program of a merchant.
pub struct Till<'a> {
    pub shop: &'a Shop,
    pub wallet: Wallet,
    pub app_id: &'a str,
    /// Its orders' numbers begin so.
    pub orders: &'static str,
}

impl Till<'_> {
    /// As its link says.
    pub fn wallet_name(&self) -> &'static str {
        match self.wallet {
            Wallet::Wechat => "WECHAT",
            Wallet::Alipay => "ALIPAY",
        }
    }
}

/// Everything of its own that nobody may read in a log.
pub struct Phone {
    pub sim: Simulator,
    pub front: SocketAddr,
    pub client: reqwest::Client,
    /// Codes, and what was signed for it.
    pub heard: Vec<String>,
    /// As the wallets name them.
    pub payers: Vec<String>,
}

impl Phone {
    pub fn at(front: SocketAddr, sim: &Simulator) -> Self {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sim: sim.clone(), front, client, heard: Vec::new(), payers: Vec::new() }
    }

    /// A payer's name for the cashier, and a login code.
    pub fn code(&mut self, till: &Till<'_>) -> (String, String) {
        let (user, named, code) = match till.wallet {
            Wallet::Wechat => {
                let openid = self.sim.wechat().new_openid(till.app_id);
                let code = self.sim.wechat().new_code(till.app_id, &openid);
                (openid.clone(), openid, code)
            }
            Wallet::Alipay => {
                let user = self.sim.alipay().new_user().user_id;
                let open_id = self.sim.alipay().open_id(till.app_id, &user).unwrap();
                let code = self.sim.alipay().new_auth_code(till.app_id, &user).unwrap();
                (user, open_id, code)
            }
        };
        self.heard.push(code.clone());
        self.payers.extend([user.clone(), named]);
        (user, code)
    }

    pub async fn post(&mut self, body: &Value) -> Value {
        let posted = self.client.post(format!("http://{}/pay", self.front)).json(body).send().await.unwrap();
        let answer: Value = posted.json().await.unwrap();
        let data = &answer["data"];
        self.heard.extend(["paySign", "package"].iter().filter_map(|key| Some(data[*key].as_str()?.to_owned())));
        answer
    }

    /// Taps, and pays if it may: what it was answered, and the answer to a second tap.
    pub async fn tap(&mut self, till: &Till<'_>, order: &Value) -> [Value; 2] {
        let (user, code) = self.code(till);
        let body = json!({ "payInfo": pay_info(order, till.wallet_name()), "code": code });
        let answer = self.post(&body).await;
        if answer["code"] == "200" {
            self.press_pay(till.wallet, &answer["data"], &user).await;
        }
        [answer, self.post(&body).await]
    }

    /// Taps until it may pay: a wallet that was away is left alone for a moment.
    pub async fn pay(&mut self, till: &Till<'_>, order: &Value) {
        let deadline = Instant::now() + SOON;
        loop {
            let [answer, _] = self.tap(till, order).await;
            if answer["code"] == "200" {
                return;
            }
            assert!(Instant::now() < deadline, "{answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn press_pay(&self, wallet: Wallet, data: &Value, user: &str) {
        match wallet {
            Wallet::Wechat => {
                self.sim.wechat().request_payment(data, user, wechat::Press::Pay).unwrap();
            }
            Wallet::Alipay => {
                let trade_no = data["tradeNo"].as_str().unwrap();
                let paid = self.sim.alipay().trade_pay(trade_no, user, alipay::Press::Pay).await;
                assert_eq!(paid.as_str(), "9000");
            }
        }
    }
}
