//! A whole deployment in one process: real roles on a real database and broker, simulated wallets over HTTP.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use prepay::{
    app::{App, Roles},
    clock::Clock,
    config::Settings,
    domain::{
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId},
        wallet::Wallet,
    },
    enrol::{AccountParts, Enroller, MiniProgramParts},
    keys::{Vault, vault::fresh_master_key},
    telemetry,
};
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use simulator::{
    Options, Simulator,
    alipay::{AlipayApp, AlipayUser, AppOptions},
    wechat::{MerchantOptions, WechatApp, WechatMerchant},
};
use tokio::time::{Instant, sleep};

use super::{invariants::assert_all_hold, shop::Shop};
use crate::store::place::{On, Place};

/// What a test waits for comes within this, on a busy machine too.
pub const SOON: Duration = Duration::from_secs(20);

/// Which broker carries the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    Embedded,
    Rabbitmq,
}

/// Everything one test needs.
pub struct World {
    pub place: Place,
    pub via: Via,
    pub sim: Simulator,
    pub settings: Settings,
    pub apps: Vec<App>,
    pub phone: reqwest::Client,
    pub shop: Shop,
    pub wechat: EnrolledWechat,
    pub alipay: EnrolledAlipay,
    pub vault: Vault,
    pub clock: Clock,
}

/// One merchant's WeChat side, as the wallet and as we know it.
pub struct EnrolledWechat {
    pub merchant: WechatMerchant,
    pub app: WechatApp,
    pub account: AccountId,
}

/// One merchant's Alipay side.
pub struct EnrolledAlipay {
    pub app: AlipayApp,
    pub account: AccountId,
}

impl World {
    /// Runs a test on a deployment of its own; everything is stopped and dropped whatever the test does.
    pub async fn run<F, Fut>(on: On, via: Via, test: F)
    where
        F: FnOnce(World) -> Fut + Send + 'static,
        Fut: Future<Output = World> + Send + 'static,
    {
        crate::store::place::run(on, move |place| async move {
            let world = Self::start(place, via).await;
            test(world).await.stop().await;
        })
        .await;
    }

    async fn start(place: Place, via: Via) -> Self {
        telemetry::install_metrics().unwrap();
        // `PREPAY_TEST_LOG=info,prepay=debug` shows what the roles say; set up once, whoever is first.
        if let Ok(filter) = std::env::var("PREPAY_TEST_LOG") {
            let _ = telemetry::log_to_stderr(&filter, telemetry::LogFormat::Text);
        }
        let sim = Simulator::start(Options { schedule_scale: 0.01, ..Options::default() }).await.unwrap();
        let (front_key, back_key) = (fresh_master_key(), fresh_master_key());
        let vault = Vault::new(Some(&front_key), Some(&back_key)).unwrap();
        let clock = Clock::system();
        let mut world = Enrolment { place: &place, vault: &vault, clock: &clock, sim: &sim };
        let (shop, wechat, alipay) = world.shop("C1").await;

        let settings = settings(&place.url, via, &front_key, &back_key);
        // No kept connections: a restarted front has closed them.
        let phone = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build().unwrap();
        let mut world = Self { place, via, sim, settings, apps: Vec::new(), phone, shop, wechat, alipay, vault, clock };
        world.start_roles().await;
        world
    }

    /// All roles: in one process on the embedded broker; a front, a worker and a scheduler apart on RabbitMQ.
    async fn start_roles(&mut self) {
        let roles = match self.via {
            Via::Embedded => vec![Roles::ALL],
            Via::Rabbitmq => vec![Roles::FRONT, Roles::WORKER, Roles::SCHEDULER],
        };
        // The address that links and notify URLs carry must be known before the front is bound; a restart keeps it.
        if self.settings.front.public_url.is_empty() {
            let addr = free_addr();
            self.settings.front.listen = addr;
            self.settings.front.public_url = format!("http://{addr}");
        }
        for roles in roles {
            let app = App::start(&self.settings, roles).await.unwrap();
            self.apps.push(app);
        }
        self.shop.base_url = self.settings.front.public_url.clone();
        self.until_ready().await;
    }

    /// The same deployment with other settings: every role leaves in order and starts again on its address.
    pub async fn restart(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        self.stop_roles().await;
        change(&mut self.settings);
        self.start_roles().await;
        self
    }

    pub async fn stop_roles(&mut self) {
        for app in self.apps.drain(..) {
            app.stop().await;
        }
    }

    /// Another merchant with mini-programs of its own, known to the fronts when this returns.
    pub async fn another_shop(&self, customer_no: &str) -> (Shop, EnrolledWechat, EnrolledAlipay) {
        let mut enrolment = Enrolment { place: &self.place, vault: &self.vault, clock: &self.clock, sim: &self.sim };
        let (mut shop, wechat, alipay) = enrolment.shop(customer_no).await;
        shop.base_url = self.settings.front.public_url.clone();
        let mut probe = super::shop::order_body("probe");
        probe["wallets"] = json!(["WECHAT", "ALIPAY"]);
        until("the fronts know the new merchant and both mini-programs", || async {
            shop.post("/api/v1/orders", &probe).await.0 == StatusCode::OK
        })
        .await;
        (shop, wechat, alipay)
    }

    pub fn enroller(&self) -> Enroller<'_> {
        Enroller { store: &self.place.store, vault: &self.vault, clock: &self.clock }
    }

    pub async fn until_ready(&self) {
        for app in &self.apps {
            let url = format!("http://{}/readyz", app.operations_addr);
            until("every role is ready", || async {
                self.phone.get(&url).send().await.is_ok_and(|answer| answer.status() == StatusCode::OK)
            })
            .await;
        }
    }

    pub async fn stop(mut self) {
        self.stop_roles().await;
        assert_all_hold(&self).await;
        self.sim.shutdown().await;
        if self.via == Via::Rabbitmq {
            delete_queues(self.settings.broker.prefix.as_str()).await;
        }
    }

    /// What a phone posts to the interface address, and what it is answered.
    pub async fn pay(&self, body: Value) -> (StatusCode, Value) {
        self.post("/pay", &body).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.settings.front.public_url);
        let answer = self.phone.post(url).json(body).send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap())
    }

    /// A payer of the WeChat mini-program and a code of theirs.
    pub fn wechat_login(&self) -> (String, String) {
        let openid = self.sim.wechat().new_openid(&self.wechat.app.appid);
        let code = self.sim.wechat().new_code(&self.wechat.app.appid, &openid);
        (openid, code)
    }

    /// A payer of the Alipay mini-program and a code of theirs.
    pub fn alipay_login(&self) -> (AlipayUser, String) {
        let user = self.sim.alipay().new_user();
        let code = self.sim.alipay().new_auth_code(&self.alipay.app.app_id, &user.user_id).unwrap();
        (user, code)
    }

    /// Waits until the merchant sees this status of its order.
    pub async fn until_status(&self, order_no: &str, status: &str) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let order = self.shop.order(order_no).await;
            if order["payStatus"] == status {
                return order;
            }
            assert!(Instant::now() < deadline, "{order_no} did not become {status}: {order:#}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Enrols shops, as an operator would.
pub struct Enrolment<'a> {
    pub place: &'a Place,
    pub vault: &'a Vault,
    pub clock: &'a Clock,
    pub sim: &'a Simulator,
}

impl Enrolment<'_> {
    /// A merchant with an HMAC key and a mini-program in each wallet; the deployment's keys too, for the first one.
    pub async fn shop(&mut self, customer_no: &str) -> (Shop, EnrolledWechat, EnrolledAlipay) {
        let enroller = Enroller { store: &self.place.store, vault: self.vault, clock: self.clock };
        let key_id = KeyId::parse("k1").unwrap();
        // Conflict: an earlier shop brought them.
        let _ = enroller.pay_info_key(&key_id, Duration::ZERO).await;
        let _ = enroller.code_hash_key(&key_id).await;
        let customer_no = CustomerNo::parse(customer_no).unwrap();
        let merchant = enroller.merchant(&customer_no, "测试商户", None).await.unwrap();
        let secret = enroller.hmac_key(merchant, &key_id).await.unwrap();
        let shop = Shop::new(customer_no.as_str(), key_id.as_str(), secret.expose_secret());
        let wechat = self.wechat(&enroller, merchant).await;
        let alipay = self.alipay(&enroller, merchant).await;
        (shop, wechat, alipay)
    }

    async fn wechat(&self, enroller: &Enroller<'_>, merchant: MerchantId) -> EnrolledWechat {
        let theirs = self.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
        let app = self.sim.wechat().new_app(&theirs.mchid);
        let account = enroller.account(wechat_parts(merchant, &theirs, self.sim)).await.unwrap();
        let program = MiniProgramParts {
            account,
            app_id: AppId::parse(app.appid.clone()).unwrap(),
            original_id: Some("gh_0123456789ab".into()),
            path: "pages/pay/index".into(),
            query_template: None,
            env_version: None,
            secrets: Some(json!({ "app_secret": app.app_secret }).to_string().into()),
        };
        enroller.mini_program(program).await.unwrap();
        EnrolledWechat { merchant: theirs, app, account }
    }

    async fn alipay(&self, enroller: &Enroller<'_>, merchant: MerchantId) -> EnrolledAlipay {
        let app = self.sim.alipay().new_app(AppOptions::default());
        let parts = AccountParts {
            merchant,
            wallet: Wallet::Alipay,
            number: app.app_id.clone(),
            settings: json!({
                "app_id": app.app_id,
                "seller_id": app.seller_id,
                "gateway_url": format!("{}/gateway.do", self.sim.base_url()),
            })
            .to_string(),
            public_keys: json!({ "alipay_public_key": app.alipay_public_key }).to_string(),
            secrets: json!({ "private_key": app.app_private_key_pem }).to_string().into(),
        };
        let account = enroller.account(parts).await.unwrap();
        let program = MiniProgramParts {
            account,
            app_id: AppId::parse(app.app_id.clone()).unwrap(),
            original_id: None,
            path: "pages/pay/index".into(),
            query_template: None,
            env_version: None,
            secrets: Some(r#"{"as":"calling_app"}"#.to_owned().into()),
        };
        enroller.mini_program(program).await.unwrap();
        EnrolledAlipay { app, account }
    }
}

/// A direct merchant's account at the simulated WeChat Pay, in public-key mode.
pub fn wechat_parts(merchant: MerchantId, theirs: &WechatMerchant, sim: &Simulator) -> AccountParts {
    let mut keys = prepay::gateway::wechat::WechatPublicKeys::default();
    keys.pin_public_key(&theirs.public_key_id, &theirs.public_key_pem).unwrap();
    AccountParts {
        merchant,
        wallet: Wallet::WechatPay,
        number: theirs.mchid.clone(),
        settings: json!({
            "mode": { "direct": { "mchid": theirs.mchid } },
            "serial_no": theirs.serial_no,
            "base_url": sim.base_url(),
            "backup_url": sim.backup_url(),
        })
        .to_string(),
        public_keys: keys.to_json(),
        secrets: json!({ "private_key": theirs.private_key_pem, "apiv3_key": theirs.apiv3_key }).to_string().into(),
    }
}

fn settings(url: &str, via: Via, front_key: &SecretString, back_key: &SecretString) -> Settings {
    let mut settings = Settings::default();
    settings.database.url = url.to_owned().into();
    settings.database.acquire_timeout_ms = 10_000;
    settings.broker.url = match via {
        Via::Embedded => "embedded".to_owned().into(),
        Via::Rabbitmq => {
            let url = std::env::var("PREPAY_TEST_AMQP_URL");
            url.unwrap_or_else(|_| panic!("PREPAY_TEST_AMQP_URL is not set: run tests/run")).into()
        }
    };
    settings.broker.prefix = format!("trip-{}", uuid::Uuid::now_v7().simple());
    settings.operations.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.front.allow_private_notify_urls = true;
    // Tests tap faster than people; the rates have tests of their own.
    settings.front.order_burst = NonZeroU32::new(100).unwrap();
    settings.keys.front = Some(front_key.clone());
    settings.keys.back = Some(back_key.clone());
    settings.reload_every_ms = 200;
    settings.scheduler.look_every_ms = 100;
    settings.scheduler.keys_every_ms = 200;
    // Whoever looks at bills does so by itself: a look of the scheduler's would be in its way.
    settings.scheduler.bills_every_ms = 3_600_000;
    // A little more than the simulated wallets' own, whose minute is 0.6 s.
    settings.scheduler.wechat_refund_spacing_ms = 1_000;
    settings.scheduler.alipay_refund_spacing_ms = 200;
    settings
}

/// A payment before China's midnight and a look after it are about two days, so a test about a day begins after it.
pub async fn until_midnight_is_not_near() {
    const DAY_S: u64 = 24 * 3600;
    const NEAR_S: u64 = 60;
    loop {
        let left_s = DAY_S - (super::shop::now_s() + 8 * 3600) % DAY_S;
        if left_s > NEAR_S {
            return;
        }
        // Over in that long; a test is stopped long after.
        sleep(Duration::from_secs(left_s)).await;
    }
}

/// A port that was free a moment ago: not of those that the system gives to whoever connects or listens meanwhile, and not the
/// one that another test was given at this moment.
pub fn free_addr() -> SocketAddr {
    use std::{
        net::TcpListener,
        sync::atomic::{AtomicU32, Ordering},
    };
    const FIRST: u32 = 12_000;
    // The servers that tests start take theirs from 20000 on.
    const COUNT: u32 = 8_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (std::process::id().wrapping_mul(61) + step) % COUNT;
        let addr = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// Waits for a condition, and says which one did not come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn delete_queues(prefix: &str) {
    let Ok(admin) = std::env::var("PREPAY_TEST_AMQP_ADMIN_URL") else { return };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for queue in ["orders", "notifications", "parked"] {
        let _ = client.delete(format!("{admin}/api/queues/%2f/{prefix}.{queue}")).send().await;
    }
}
