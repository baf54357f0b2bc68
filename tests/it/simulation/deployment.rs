//! What all histories of one thread stand on: a database in memory, keys, two enrolled accounts.

use std::{sync::Arc, time::Duration};

use prepay::{
    clock::Clock,
    domain::{
        id::{AccountId, AppId, AttemptNo, CustomerNo, KeyId, MerchantId, MiniProgramId, OrderId},
        policy::MoneyPolicies,
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

/// Notes, in the middle of the commit, whoever takes an order, or takes it for longer, with its outcome stored already.
const WATCH: &str = "CREATE TABLE simulation_took_in_spite (command_id TEXT NOT NULL); \
    CREATE TRIGGER simulation_watch BEFORE UPDATE ON orders \
    WHEN NEW.lease_command_id IS NOT NULL \
     AND (NEW.lease_command_id IS NOT OLD.lease_command_id OR NEW.lease_until > OLD.lease_until) \
     AND EXISTS (SELECT 1 FROM outcomes WHERE command_id = NEW.lease_command_id) \
    BEGIN INSERT INTO simulation_took_in_spite VALUES (NEW.lease_command_id); END;";

/// An event as its row has it.
#[derive(Debug)]
pub struct EventRow {
    pub id: String,
    pub kind: String,
    pub refund_no: String,
    pub state: String,
    pub created_at: Timestamp,
}

/// What is set aside of a payment for its refunds.
pub struct Reserve {
    pub attempt: AttemptNo,
    pub fen: i64,
    pub count: i64,
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
        raw.execute_unprepared(WATCH).await.unwrap();
        let vault = Arc::new(Vault::new(Some(&fresh_master_key()), Some(&fresh_master_key())).unwrap());
        let clock = Clock::manual(BEGINS);
        let enroller = Enroller { store: &store, vault: &vault, clock: &clock };
        enroller.code_hash_key(&KeyId::parse("k1").unwrap()).await.unwrap();
        let merchant = enroller.merchant(&CustomerNo::parse("C1").unwrap(), "shop", None).await.unwrap();
        enroller.webhook_key(merchant, &KeyId::parse("w1").unwrap()).await.unwrap();
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
    pub async fn steps(&self, wallets: &Wallets, store: Store) -> Steps {
        let (real, wallets_of) = (self.real.clone(), wallets.clone());
        let opener: Opener = Arc::new(move |wallet, _, _, _, _| {
            let real = real[usize::from(wallet == Wallet::Alipay)].clone();
            Ok(Arc::new(SimulatedGateway { real, wallets: wallets_of.clone() }))
        });
        let clock = wallets.clock.clone();
        let in_flight_max = if wallets.books().is_tight { 1 } else { 32 };
        let budget = BudgetSettings { in_flight_max, failures_to_open: 5, open_for: Duration::from_secs(2) };
        let registry = Registry::new(store.clone(), self.vault.clone(), self.http.clone(), clock.clone(), budget);
        let registry = registry.opening_with(opener);
        assert!(registry.reload().await.unwrap());
        let settings = StepSettings { public_url: "https://us.example".into(), ..StepSettings::default() };
        Steps { store, registry, clock, settings }
    }

    /// What a merchant is to be told of an order.
    pub async fn events_of(&self, order: OrderId) -> Vec<EventRow> {
        let columns = "id, kind, refund_no, state, created_at";
        let rows = self
            .look(format!("SELECT {columns} FROM merchant_events WHERE order_id = '{order}' ORDER BY sequence"))
            .await;
        let text = |row: &QueryResult, at: usize| row.try_get_by_index::<String>(at).unwrap();
        let row = |row: &QueryResult| EventRow {
            id: text(row, 0),
            kind: text(row, 1),
            refund_no: text(row, 2),
            state: text(row, 3),
            created_at: Timestamp::from_ms(row.try_get_by_index(4).unwrap()),
        };
        rows.iter().map(row).collect()
    }

    /// When something may be done about an event that is still on its way.
    pub async fn next_event(&self) -> Option<Timestamp> {
        let sql = "SELECT MIN(MAX(e.next_at, COALESCE(e.lease_until, 0), COALESCE(p.probe_at, 0))) FROM merchant_events e \
             LEFT JOIN endpoints p ON p.id = e.endpoint AND p.paused WHERE e.state IN ('pending', 'held')";
        let rows = self.look(sql.to_owned()).await;
        rows[0].try_get_by_index::<Option<i64>>(0).unwrap().map(Timestamp::from_ms)
    }

    /// When a wallet is asked next about what bills brought to light.
    pub async fn next_bill_question(&self) -> Option<Timestamp> {
        let rows = self.look("SELECT MIN(COALESCE(ask_at, 0)) FROM discrepancies WHERE state = 'open'".into()).await;
        rows[0].try_get_by_index::<Option<i64>>(0).unwrap().map(Timestamp::from_ms)
    }

    /// What is set aside of the payments of an order.
    pub async fn reserves_of(&self, order: OrderId) -> Vec<Reserve> {
        let columns = "no, refund_reserved_fen, refund_count";
        let rows = self.look(format!("SELECT {columns} FROM attempts WHERE order_id = '{order}'")).await;
        let row = |row: &QueryResult| Reserve {
            attempt: AttemptNo::new(row.try_get_by_index::<i32>(0).unwrap().try_into().unwrap()).unwrap(),
            fen: row.try_get_by_index(1).unwrap(),
            count: i64::from(row.try_get_by_index::<i32>(2).unwrap()),
        };
        rows.iter().map(row).collect()
    }

    /// Commands that took an order although they had their outcome, as the database saw it.
    pub async fn took_in_spite(&self) -> Vec<String> {
        let rows = self.look("SELECT command_id FROM simulation_took_in_spite".into()).await;
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    async fn look(&self, sql: String) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.raw.get_database_backend(), sql);
        let (raw, runtime) = (self.raw.clone(), Handle::current());
        let work = move || runtime.block_on(async move { raw.query_all_raw(statement).await });
        tokio::task::spawn_blocking(work).await.unwrap().unwrap()
    }

    /// Somebody else took the order when its lease was over, and is done with it.
    pub async fn free(&self, order: OrderId) {
        let sql = format!("UPDATE orders SET lease_command_id = NULL, lease_until = NULL WHERE id = '{order}'");
        self.raw.execute_unprepared(&sql).await.unwrap();
    }

    /// Forgets the history before; the merchant's policies are these from now on.
    pub async fn begin(&self, policies: MoneyPolicies) {
        const TABLES: [&str; 13] = [
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
            "discrepancies",
            "simulation_took_in_spite",
        ];
        let mut all: String = TABLES.iter().map(|table| format!("DELETE FROM {table};")).collect();
        let (late, second) = (policies.late.as_str(), policies.second.as_str());
        all.push_str(&format!("UPDATE merchants SET late_policy = '{late}', second_policy = '{second}';"));
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
