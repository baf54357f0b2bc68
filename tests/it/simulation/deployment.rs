//! What all histories of one thread stand on: a database in memory, keys, two enrolled accounts.

use std::{sync::Arc, time::Duration};

use prepay::{
    clock::Clock,
    domain::{
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId, MiniProgramId, OrderId},
        time::Timestamp,
        wallet::Wallet,
    },
    enrol::{AccountParts, Enroller, MiniProgramParts},
    gateway::{
        Gateway,
        http::{self, HttpSettings},
        open,
        wechat::WechatPublicKeys,
    },
    keys::{Vault, vault::fresh_master_key},
    steps::{Registry, StepSettings, Steps, budget::BudgetSettings, registry::Opener},
    store::{Store, StoreSettings},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement, sqlx::SqlitePool};
use serde_json::json;
use tokio::runtime::Handle;

use super::{gateway::SimulatedGateway, wallet::Wallets};

/// When every history begins.
pub const BEGINS: Timestamp = Timestamp::from_secs(1_800_000_000);
pub const MCHID: &str = "1900000109";
pub const WECHAT_APP: &str = "wxd678efh567hg6787";
pub const ALIPAY_APP: &str = "2021000000000001";
pub const APIV3_KEY: &str = "0123456789abcdef0123456789abcdef";
pub const WECHAT_KEY_ID: &str = "PUB_KEY_ID_01";

/// The published and derived test keys.
pub fn vector(path: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/vectors/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

pub struct Deployment {
    pub store: Store,
    vault: Arc<Vault>,
    http: reqwest::Client,
    /// The same database without the store, to wipe it.
    raw: DatabaseConnection,
    pub merchant: MerchantId,
    pub wechat: (AccountId, MiniProgramId),
    pub alipay: (AccountId, MiniProgramId),
    /// The real gateways: keys are read once, not once a history.
    real: [Arc<dyn Gateway>; 2],
}

impl Deployment {
    pub async fn new(name: &str) -> Self {
        let url = format!("sqlite://file:{name}?mode=memory&cache=shared");
        let store = Store::connect(&StoreSettings::at(&url)).await.unwrap();
        store.migrate().await.unwrap();
        let raw: DatabaseConnection = SqlitePool::connect(&url).await.unwrap().into();
        let vault = Arc::new(Vault::new(Some(&fresh_master_key()), Some(&fresh_master_key())).unwrap());
        let clock = Clock::manual(BEGINS);
        let enroller = Enroller { store: &store, vault: &vault, clock: &clock };
        enroller.code_hash_key(&KeyId::parse("k1").unwrap()).await.unwrap();
        let merchant = enroller.merchant(&CustomerNo::parse("C1").unwrap(), "shop", None).await.unwrap();
        let (wechat, alipay) = (wechat_parts(merchant), alipay_parts(merchant));
        let http = http::client(&HttpSettings::default()).unwrap();
        let real = [(&wechat, WECHAT_APP, WECHAT_APP_SECRETS), (&alipay, ALIPAY_APP, ALIPAY_APP_SECRETS)];
        let real = real.map(|(parts, app, secrets)| {
            let app = open::OpenApp { app_id: AppId::parse(app).unwrap(), secrets: Some(secrets.to_owned().into()) };
            let keys = (&parts.settings, &parts.public_keys, &parts.secrets);
            open::gateway(parts.wallet, keys.0, keys.1, keys.2, vec![app], http.clone()).unwrap()
        });
        let wechat = enrolled(&enroller, wechat, WECHAT_APP, WECHAT_APP_SECRETS).await;
        let alipay = enrolled(&enroller, alipay, ALIPAY_APP, ALIPAY_APP_SECRETS).await;
        Self { store, vault, http, raw, merchant, wechat, alipay, real }
    }

    /// The real steps over a model of the wallets.
    pub async fn steps(&self, wallets: &Wallets) -> Steps {
        let (real, wallets_of) = (self.real.clone(), wallets.clone());
        let opener: Opener = Arc::new(move |wallet, _, _, _, _| {
            let real = real[usize::from(wallet == Wallet::Alipay)].clone();
            Ok(Arc::new(SimulatedGateway { real, wallets: wallets_of.clone() }))
        });
        let (store, clock) = (self.store.clone(), wallets.clock.clone());
        let budget =
            BudgetSettings { failures_to_open: 5, open_for: Duration::from_secs(2), ..BudgetSettings::default() };
        let registry = Registry::new(store.clone(), self.vault.clone(), self.http.clone(), clock.clone(), budget);
        let registry = registry.opening_with(opener);
        assert!(registry.reload().await.unwrap());
        let settings = StepSettings { public_url: "https://us.example".into(), ..StepSettings::default() };
        Steps { store, registry, clock, settings }
    }

    /// What a merchant is to be told of an order: the kind, and the refund it is about.
    pub async fn events_of(&self, order: OrderId) -> Vec<(String, String)> {
        let sql = format!("SELECT kind, refund_no FROM merchant_events WHERE order_id = '{order}' ORDER BY sequence");
        let statement = Statement::from_string(self.raw.get_database_backend(), sql);
        let (raw, runtime) = (self.raw.clone(), Handle::current());
        let work = move || runtime.block_on(async move { raw.query_all_raw(statement).await });
        let rows = tokio::task::spawn_blocking(work).await.unwrap().unwrap();
        let text = |row: &QueryResult, at: usize| row.try_get_by_index::<String>(at).unwrap();
        rows.iter().map(|row| (text(row, 0), text(row, 1))).collect()
    }

    /// Forgets the history before.
    pub async fn wipe(&self) {
        const TABLES: [&str; 11] = [
            "orders",
            "attempts",
            "order_events",
            "anomalies",
            "code_exchanges",
            "outcomes",
            "parked",
            "refunds",
            "merchant_events",
            "endpoints",
            "question_turns",
        ];
        let all: String = TABLES.iter().map(|table| format!("DELETE FROM {table};")).collect();
        let (raw, runtime) = (self.raw.clone(), Handle::current());
        // As the store does it: paused timers jump while nothing but a database thread works.
        let work = move || runtime.block_on(async move { raw.execute_unprepared(&all).await });
        tokio::task::spawn_blocking(work).await.unwrap().unwrap();
    }
}

const WECHAT_APP_SECRETS: &str = r#"{"app_secret":"00000000000000000000000000000000"}"#;
const ALIPAY_APP_SECRETS: &str = r#"{"as":"calling_app"}"#;

fn wechat_parts(merchant: MerchantId) -> AccountParts {
    let mut keys = WechatPublicKeys::default();
    keys.pin_public_key(WECHAT_KEY_ID, &vector("wechat/java/wechat_pay_public_key.pem")).unwrap();
    AccountParts {
        merchant,
        wallet: Wallet::WechatPay,
        number: MCHID.into(),
        settings: json!({ "mode": { "direct": { "mchid": MCHID } }, "serial_no": "5F1C72E2" }).to_string(),
        public_keys: keys.to_json(),
        secrets: json!({ "private_key": vector("wechat/java/merchant_private_key.pem"), "apiv3_key": APIV3_KEY })
            .to_string()
            .into(),
    }
}

fn alipay_parts(merchant: MerchantId) -> AccountParts {
    AccountParts {
        merchant,
        wallet: Wallet::Alipay,
        number: ALIPAY_APP.into(),
        settings: json!({ "app_id": ALIPAY_APP }).to_string(),
        public_keys: json!({ "alipay_public_key": vector("alipay/keys/derived/alipay_public.pem") }).to_string(),
        secrets: json!({ "private_key": vector("alipay/keys/derived/app_private_pkcs8.pem") }).to_string().into(),
    }
}

async fn enrolled(
    enroller: &Enroller<'_>,
    parts: AccountParts,
    app: &str,
    secrets: &str,
) -> (AccountId, MiniProgramId) {
    let account = enroller.account(parts).await.unwrap();
    let program = MiniProgramParts {
        account,
        app_id: AppId::parse(app).unwrap(),
        original_id: None,
        path: "pages/pay/index".into(),
        query_template: None,
        env_version: None,
        secrets: Some(secrets.to_owned().into()),
    };
    (account, enroller.mini_program(program).await.unwrap())
}
