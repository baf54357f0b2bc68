//! The canary's other secrets, those of the deployment itself and of keys that are changed; and what people and merchants'
//! servers do beside the phones.

use std::fs;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use prepay::{
    keys::{Place as Sealing, Vault},
    store::{DeploymentSecret, KeyPurpose},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use simulator::{
    RsaKey,
    alipay::{AppOptions, Kind},
};

use crate::{
    cli::deployment::{Deployment, Enrolled},
    store::place::{On, Place},
    trip::harness::until,
};

/// A user of PostgreSQL with a password that nobody else has.
pub struct DatabaseUser {
    pub url: String,
    name: Option<String>,
}

impl DatabaseUser {
    /// Elsewhere it is the test's own: SQLite has none.
    pub async fn of(place: &Place, at: &mut Deployment) -> Self {
        if place.on != On::Postgres {
            return Self { url: place.url.clone(), name: None };
        }
        let mut url = reqwest::Url::parse(&place.url).unwrap();
        let [name, password] = ["u", "pw"].map(|kind| format!("{kind}{}", uuid::Uuid::now_v7().simple()));
        let database = url.path().trim_start_matches('/').to_owned();
        place.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'")).await;
        place.sql(&format!("ALTER DATABASE {database} OWNER TO {name}")).await;
        url.set_username(&name).unwrap();
        url.set_password(Some(&password)).unwrap();
        at.is_secret(&password);
        Self { url: url.to_string(), name: Some(name) }
    }

    pub async fn forget(self, place: &Place) {
        let Some(name) = self.name else { return };
        place.sql(&format!("REASSIGN OWNED BY {name} TO CURRENT_USER")).await;
        place.sql(&format!("DROP ROLE {name}")).await;
    }
}

/// Keys that were changed, so that the ones before are kept beside them, and an authorisation of a provider's merchant.
pub async fn more_secrets(at: &mut Deployment, enrolled: &Enrolled) {
    let apiv3 = uuid::Uuid::now_v7().simple().to_string();
    at.secret_file("apiv3.next", &apiv3);
    at.ok(&["channel", "set-wechat", "1", "--apiv3-key-file", "apiv3.next"]).await;
    assert!(at.sim.wechat().set_apiv3_key(&enrolled.wechat.mchid, &apiv3));
    let own = RsaKey::generate().unwrap();
    at.secret_file("own.next", &own.private_key_pem());
    at.ok(&["channel", "set-alipay", "2", "--private-key-file", "own.next"]).await;
    at.sim.alipay().set_app_key(&enrolled.alipay_app.app_id, own.public().clone()).unwrap();

    let provider = at.sim.alipay().new_app(AppOptions { kind: Kind::ThirdParty, ..AppOptions::default() });
    at.secret_file("provider.pem", &provider.app_private_key_pem);
    at.secret_file("token", &format!("token-{}", uuid::Uuid::now_v7().simple()));
    at.file("provider.pub", &provider.alipay_public_key);
    at.ok(&["merchant", "add", "C2", "--name", "测试商户"]).await;
    let gateway = format!("{}/gateway.do", at.sim.base_url());
    let mut account = vec!["channel", "add-alipay", "C2", "--app-id", &provider.app_id, "--provider"];
    account.extend(["--private-key-file", "provider.pem", "--alipay-public-key-file", "provider.pub"]);
    account.extend(["--app-auth-token-file", "token", "--gateway-url", &gateway]);
    at.ok(&account).await;
    // What is refused is not quoted.
    at.secret_file("short", "not-thirty-two-characters");
    at.fails(&["channel", "set-wechat", "1", "--apiv3-key-file", "short"]).await;
}

/// The keys that sign payInfo and hash login codes, as they might be written.
pub async fn deployment_keys(place: &Place, at: &Deployment) -> Vec<String> {
    let master = |name| SecretString::from(fs::read_to_string(at.path(name)).unwrap());
    let vault = Vault::new(Some(&master("front.key")), Some(&master("back.key"))).unwrap();
    let mut written = Vec::new();
    for purpose in [KeyPurpose::PayInfo, KeyPurpose::CodeHash] {
        for key in place.store.deployment_keys(purpose).await.unwrap() {
            let name = format!("{}/{}", purpose.as_str(), key.key_id);
            let sealing = Sealing { table: "deployment_keys", column: "secret", row: &name };
            let opened = match &key.secret {
                DeploymentSecret::PayInfo(sealed) => vault.open(sealing, sealed),
                DeploymentSecret::CodeHash(sealed) => vault.open(sealing, sealed),
            };
            let opened = opened.unwrap();
            let bytes = opened.expose_secret();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            written.extend([STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), hex]);
        }
    }
    assert!(written.len() >= 6, "one of each");
    written
}

/// A refund, a close, events sent again, a look at a bill. What the merchant was answered.
pub async fn merchants_and_people(at: &Deployment, enrolled: &Enrolled) -> String {
    let shop = &enrolled.shop;
    let refund = json!({ "refundNo": "R1", "orderNo": "WECHAT0", "refundAmount": 7 });
    let mut answers = shop.post("/api/v1/refunds", &refund).await.1.to_string();
    until("it is refunded", || async { shop.get("/api/v1/refunds/R1").await.1["data"]["refundStatus"] == "SUCCESS" })
        .await;
    shop.new_order("CLOSED").await;
    answers += &shop.post("/api/v1/orders/CLOSED/close", &json!({})).await.1.to_string();
    answers += &shop.get("/api/v1/orders/WECHAT0/notifications").await.1.to_string();
    let span = ["--from", "2020-01-01T00:00:00+08:00", "--to", "2100-01-01T00:00:00+08:00"];
    at.ok(&[&["event", "resend", "--customer", "C1"][..], &span].concat()).await;
    // Yesterday has none, and that is told.
    at.run(&["reconcile", "--date", "2026-01-01"]).await;
    answers
}
