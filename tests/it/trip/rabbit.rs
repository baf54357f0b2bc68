//! The broker's management API, for tests that disturb this deployment's own queues and connections.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    task::spawn_blocking,
    time::{Duration, Instant, sleep},
};

use super::harness::{SOON, World, until};

impl World {
    pub async fn rabbit(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let admin =
            std::env::var("PREPAY_TEST_AMQP_ADMIN_URL").expect("PREPAY_TEST_AMQP_ADMIN_URL is not set: run tests/run");
        let mut request = self.phone.request(method, format!("{admin}/api/{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("the management API answers");
        let status = answer.status();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null))
    }

    fn orders_queue(&self) -> String {
        format!("queues/%2f/{}.orders", self.settings.broker.prefix)
    }

    /// What `prepay queue definitions` prints with this deployment's settings.
    async fn printed_definitions(&self) -> Value {
        let broker = &self.settings.broker;
        let mut command = Command::new(env!("CARGO_BIN_EXE_prepay"));
        command
            .args(["queue", "definitions"])
            .env("PREPAY_BROKER__PREFIX", &broker.prefix)
            .env("PREPAY_BROKER__ORDER_QUEUES", broker.order_queues.to_string())
            .env("PREPAY_BROKER__DRAIN_PER_S", broker.drain_per_s.to_string())
            .env("PREPAY_BROKER__WAIT_BUDGET_S", broker.wait_budget_s.to_string());
        let printed = spawn_blocking(move || command.output()).await.unwrap().unwrap();
        assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
        serde_json::from_slice(&printed.stdout).expect("definitions are JSON")
    }

    /// Imports the printed policies as an operator does, and waits until the orders queue has its length of them.
    pub async fn import_definitions(&self) {
        let printed = self.printed_definitions().await;
        let (status, answer) = self.rabbit(Method::POST, "definitions", Some(printed)).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
        let max = self.settings.broker.drain_per_s * self.settings.broker.wait_budget_s;
        until("the policy is in force", || async {
            let (_, queue) = self.rabbit(Method::GET, &self.orders_queue(), None).await;
            queue["effective_policy_definition"]["max-length"] == json!(max)
        })
        .await;
    }

    pub async fn remove_policies(&self) {
        for queue in ["orders", "notifications", "parked"] {
            let path = format!("policies/%2f/{}-{queue}", self.settings.broker.prefix);
            self.rabbit(Method::DELETE, &path, None).await;
        }
    }

    pub async fn delete_orders_queue(&self) {
        let (status, answer) = self.rabbit(Method::DELETE, &self.orders_queue(), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    }

    /// The connection that hears this front's replies, by the name the API knows it by. It learns of one after a second or so.
    pub async fn replies_connection(&self) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(name) = self.known_replies_connection().await {
                return name;
            }
            assert!(Instant::now() < deadline, "the front's reply queue is not known");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn known_replies_connection(&self) -> Option<String> {
        let prefix = format!("{}.reply.", self.settings.broker.prefix);
        let (_, queues) = self.rabbit(Method::GET, "queues/%2f", None).await;
        let ours = |queue: &&Value| queue["name"].as_str().is_some_and(|name| name.starts_with(&prefix));
        let name = queues.as_array()?.iter().find(ours)?["name"].as_str()?.to_owned();
        let (_, queue) = self.rabbit(Method::GET, &format!("queues/%2f/{name}"), None).await;
        queue["owner_pid_details"]["name"].as_str().map(str::to_owned)
    }

    pub async fn close_connection(&self, name: &str) {
        let name = name.replace(' ', "%20").replace('>', "%3E");
        let (status, answer) = self.rabbit(Method::DELETE, &format!("connections/{name}"), None).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    }
}
