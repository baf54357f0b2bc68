//! A RabbitMQ to test with: our own prefix on it, and its management API.

use std::{sync::Arc, time::Duration};

use prepay::queue::{
    Broker, Health, QueueName,
    rabbitmq::{BrokerUrl, RabbitBroker, RabbitSettings},
    topology::{TopologySettings, definitions},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use uuid::Uuid;

use super::{SOON, until};

/// One prefix on one node. Dropping it deletes every queue and policy under the prefix.
pub struct Rabbit {
    url: String,
    admin: String,
    pub prefix: String,
}

pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/run"))
}

impl Rabbit {
    /// The node that all tests share.
    pub fn shared() -> Self {
        Self::at(setting("PREPAY_TEST_AMQP_URL"), setting("PREPAY_TEST_AMQP_ADMIN_URL"))
    }

    pub fn at(url: String, admin: String) -> Self {
        Self { url, admin, prefix: format!("test-{}", Uuid::now_v7().simple()) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn settings(&self) -> RabbitSettings {
        RabbitSettings {
            url: BrokerUrl::parse(&self.url).unwrap(),
            connection_name: self.prefix.clone(),
            topology: TopologySettings { prefix: self.prefix.clone(), ..TopologySettings::default() },
            ..RabbitSettings::default()
        }
    }

    /// A broker object that is ready.
    pub async fn broker(&self) -> Arc<RabbitBroker> {
        self.broker_with(self.settings()).await
    }

    pub async fn broker_with(&self, settings: RabbitSettings) -> Arc<RabbitBroker> {
        let broker = Arc::new(RabbitBroker::start(settings));
        ready(&broker).await;
        // The consuming connection too: who listens waits two seconds for it, and goes on without.
        until("both connections stand", async || broker.depth(QueueName::Orders).await.is_some()).await;
        broker
    }

    pub fn queue(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Asks the management API.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = reqwest::Client::new().request(method, format!("{}/api/{path}", self.admin));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("the management API answers");
        let text = answer.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Sets the length of our order queue as an operator does, with the printed policies, and waits until the queue has it.
    pub async fn limit_orders(&self, max: u32) {
        let topology = TopologySettings { drain_per_s: max, wait_budget_s: 1, ..self.settings().topology };
        self.ask(Method::POST, "definitions", Some(definitions(&topology))).await;
        let path = format!("queues/%2f/{}", self.queue("orders"));
        until("the policy is in force", || async {
            self.ask(Method::GET, &path, None).await["effective_policy_definition"]["max-length"] == json!(max)
        })
        .await;
    }

    pub async fn delete_queue(&self, name: &str) {
        self.ask(Method::DELETE, &format!("queues/%2f/{}", self.queue(name)), None).await;
    }

    /// The names by which the API knows our connections of one role (`publishing`, `consuming`).
    pub async fn connections(&self, role: &str) -> Vec<String> {
        let ours = format!("{} {role}", self.prefix);
        let all = self.ask(Method::GET, "connections", None).await;
        let all = all.as_array().cloned().unwrap_or_default();
        all.iter()
            .filter(|connection| connection["user_provided_name"] == json!(ours))
            .filter_map(|connection| connection["name"].as_str().map(str::to_owned))
            .collect()
    }

    /// Closes our connections of one role, as an operator does. The API learns of a connection after a second or so.
    pub async fn close_connections(&self, role: &str) {
        until("the connection is known", || async { !self.connections(role).await.is_empty() }).await;
        for name in self.connections(role).await {
            let name = name.replace(' ', "%20").replace('>', "%3E");
            self.ask(Method::DELETE, &format!("connections/{name}"), None).await;
        }
    }

    async fn sweep(&self) {
        for (list, path) in [("policies/%2f", "policies/%2f/"), ("queues/%2f?columns=name", "queues/%2f/")] {
            let found = self.ask(Method::GET, list, None).await;
            for name in found.as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()) {
                if name.starts_with(&self.prefix) {
                    self.ask(Method::DELETE, &format!("{path}{name}"), None).await;
                }
            }
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        let sweeper = Self { url: String::new(), admin: std::mem::take(&mut self.admin), prefix: self.prefix.clone() };
        if sweeper.admin.is_empty() {
            return;
        }
        // A runtime of its own: this drop may run inside one, and in a test that fails.
        let swept = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let _ = runtime.block_on(async { timeout(Duration::from_secs(10), sweeper.sweep()).await });
            std::mem::forget(sweeper);
        });
        let _ = swept.join();
    }
}

pub async fn ready(broker: &Arc<RabbitBroker>) {
    let mut health = broker.health_changes();
    let waited = timeout(SOON, health.wait_for(|health| *health == Health::Ready)).await;
    assert!(waited.is_ok_and(|ready| ready.is_ok()), "the broker is ready");
}
