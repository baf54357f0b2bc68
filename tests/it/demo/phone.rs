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
        self.get(&format!("/demo/order/{}", order["orderNo"].as_str().unwrap())).await
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

    async fn get(&self, path: &str) -> Value {
        let (status, text) = self.text(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.client.post(format!("{}{path}", self.base_url)).json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}
