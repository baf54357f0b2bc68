//! What the page does, done by a test.

use reqwest::StatusCode;
use serde_json::{Value, json};

/// Knows the demo's address and nothing else.
pub struct Phone {
    base_url: String,
    client: reqwest::Client,
}

impl Phone {
    pub fn at(base_url: &str) -> Self {
        Self { base_url: base_url.to_owned(), client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub async fn text(&self, path: &str) -> (StatusCode, String) {
        let answer = self.client.get(format!("{}{path}", self.base_url)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// A fresh order of this wallet, with a code of person 1.
    pub async fn order(&self, wallet: &str) -> Value {
        self.get(&format!("/demo/order?wallet={wallet}")).await
    }

    /// The order as its merchant sees it, and what the wallet noted.
    pub async fn seen(&self, order: &Value) -> Value {
        self.get(&path(order)).await
    }

    pub async fn login(&self, wallet: &str, person: u8) -> Value {
        self.post("/demo/login", json!({ "wallet": wallet, "person": person })).await["code"].clone()
    }

    pub async fn pay(&self, pay_info: &Value, code: &Value) -> Value {
        self.post("/pay", json!({ "payInfo": pay_info, "code": code })).await
    }

    pub async fn cashier(&self, wallet: &str, params: &Value, person: u8, press: &str) -> Value {
        let body = json!({ "wallet": wallet, "params": params, "person": person, "press": press });
        self.post("/demo/cashier", body).await
    }

    /// Polls as the page does after the client API returned.
    pub async fn until_paid(&self, order: &Value) {
        super::until("the order is paid", || async {
            let answer = self.post("/pay/result", json!({ "payInfo": order["payInfo"] })).await;
            answer["data"]["payStatus"] == "SUCCESS"
        })
        .await;
    }

    /// The merchant gives money back; the merchant API's own answer.
    pub async fn refund(&self, order: &Value, amount: i64) -> (StatusCode, Value) {
        self.ask(&format!("{}/refund", path(order)), json!({ "amount": amount })).await
    }

    /// The merchant closes an order; the merchant API's own answer.
    pub async fn close(&self, order: &Value) -> (StatusCode, Value) {
        self.ask(&format!("{}/close", path(order)), json!({})).await
    }

    /// What came to the merchant's notify URL, newest first.
    pub async fn events(&self, after: u64) -> Vec<Value> {
        self.get(&format!("/demo/events?after={after}")).await["events"].as_array().unwrap().clone()
    }

    /// What came about this order, newest first.
    pub async fn events_of(&self, order: &Value) -> Vec<Value> {
        self.events(0).await.into_iter().filter(|event| event["orderNo"] == order["orderNo"]).collect()
    }

    /// How the wallets' notifications travel from now on.
    pub async fn travel(&self, mode: &str) {
        let set = self.post("/demo/notices", json!({ "mode": mode })).await;
        assert_eq!((&set, &self.get("/demo/notices").await), (&json!({ "mode": mode }), &set));
    }

    /// An order of this wallet that person 1 has paid at the cashier; whether anybody here knows is another question.
    pub async fn order_paid_at_the_cashier(&self, wallet: &str) -> Value {
        let order = self.order(wallet).await;
        let answer = self.pay(&order["payInfo"], &order["code"]).await;
        assert_eq!(answer["code"], "200", "{answer:#}");
        self.cashier(wallet, &answer["data"], 1, "pay").await;
        order
    }

    async fn get(&self, path: &str) -> Value {
        let (status, text) = self.text(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer:#}");
        answer
    }

    /// Whatever is answered, as long as it is JSON.
    pub async fn ask(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let answer = self.client.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}")))
    }
}

fn path(order: &Value) -> String {
    format!("/demo/order/{}", order["orderNo"].as_str().unwrap())
}
