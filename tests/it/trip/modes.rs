//! Every way a merchant can be enrolled: provider or direct, certificates or public keys, while keys move too.

use prepay::{
    domain::{
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId},
        wallet::Wallet,
    },
    enrol::{AccountParts, Enroller, MiniProgramParts},
    gateway::wechat::WechatPublicKeys,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use simulator::{
    Call, Event, FaultKind,
    alipay::{AlipayApp, AppOptions, Kind, Mode},
    wechat::{KeyMode, MerchantOptions, Press, WechatApp, WechatMerchant},
};

use super::{
    harness::{EnrolledAlipay, World, until},
    shop::{Shop, order_body, pay_info},
    sides::Side,
};

/// A further merchant, known to fronts once its first call is let in.
async fn merchant(world: &World, customer_no: &str) -> (MerchantId, Shop) {
    let enroller = enroller(world);
    let customer_no = CustomerNo::parse(customer_no).unwrap();
    let id = enroller.merchant(&customer_no, "另一个商户", None).await.unwrap();
    let key_id = KeyId::parse("k1").unwrap();
    let secret = enroller.hmac_key(id, &key_id).await.unwrap();
    let mut shop = Shop::new(customer_no.as_str(), key_id.as_str(), secret.expose_secret());
    shop.base_url = world.shop.base_url.clone();
    (id, shop)
}

fn enroller(world: &World) -> Enroller<'_> {
    Enroller { store: &world.place.store, vault: &world.vault, clock: &world.clock }
}

/// Makes an order as soon as fronts know the merchant and its mini-program.
pub(super) async fn first_order(shop: &Shop) -> Value {
    until("the fronts know the new merchant", || async {
        shop.post("/api/v1/orders", &order_body("A1")).await.0 == reqwest::StatusCode::OK
    })
    .await;
    shop.new_order("A1").await
}

async fn program(world: &World, account: AccountId, app_id: &str, secrets: Option<Value>) {
    let parts = MiniProgramParts {
        account,
        app_id: AppId::parse(app_id).unwrap(),
        original_id: None,
        path: "pages/pay/index".into(),
        query_template: None,
        env_version: None,
        secrets: secrets.map(|secrets| secrets.to_string().into()),
    };
    enroller(world).mini_program(parts).await.unwrap();
}

async fn wechat_account(
    world: &World,
    merchant: MerchantId,
    theirs: &WechatMerchant,
    mode: Value,
    keys: WechatPublicKeys,
) -> AccountId {
    let parts = AccountParts {
        merchant,
        wallet: Wallet::WechatPay,
        number: theirs.mchid.clone(),
        settings: json!({ "mode": mode, "serial_no": theirs.serial_no, "base_url": world.sim.base_url() }).to_string(),
        public_keys: keys.to_json(),
        secrets: json!({ "private_key": theirs.private_key_pem, "apiv3_key": theirs.apiv3_key }).to_string().into(),
    };
    enroller(world).account(parts).await.unwrap()
}

fn public_key(theirs: &WechatMerchant) -> WechatPublicKeys {
    let mut keys = WechatPublicKeys::default();
    keys.pin_public_key(&theirs.public_key_id, &theirs.public_key_pem).unwrap();
    keys
}

/// Somebody pays while the wallet answers no question: its notice alone tells, and is taken with the account's keys.
async fn is_told_by_notice(world: &World, shop: &Shop, side: Side, order: &Value, pays: impl Future<Output = ()>) {
    let silent = world.fault_always(side, Call::Query, order, FaultKind::HtmlBefore);
    pays.await;
    until("the merchant sees the payment", || async { shop.order("A1").await["payStatus"] == "SUCCESS" }).await;
    let paid = shop.order("A1").await;
    let taken = || {
        let number = paid["outTradeNo"].as_str().unwrap();
        world.sim.ledger().count(number, Call::Notify, Event::NoticeAccepted)
    };
    until("the wallet's notice is taken", || async { taken() > 0 }).await;
    assert!(world.sim.faults().remove(silent));
}

/// Orders, pays with a code, and sees the payment told by notice.
async fn pays_at_wechat(world: &World, shop: &Shop, app: &WechatApp) {
    let order = first_order(shop).await;
    let openid = world.sim.wechat().new_openid(&app.appid);
    let code = world.sim.wechat().new_code(&app.appid, &openid);
    let body = json!({ "payInfo": pay_info(&order, "WECHAT"), "code": code });
    let mut answer = Value::Null;
    // An account in certificate mode is usable once its certificates were fetched.
    until("the phone is handed parameters", || {
        let body = body.clone();
        async {
            let fresh = world.sim.wechat().new_code(&app.appid, &openid);
            let mut body = body;
            body["code"] = json!(fresh);
            world.pay(body).await.1["code"] == "200"
        }
    })
    .await;
    answer["data"] = world.pay(json!({ "payInfo": body["payInfo"], "identifyId": openid })).await.1["data"].clone();
    assert_eq!(answer["data"]["appId"], json!(app.appid), "signed for the running mini-program");
    let pays = async {
        world.sim.wechat().request_payment(&answer["data"], &openid, Press::Pay).unwrap();
    };
    is_told_by_notice(world, shop, Side::Wechat, &order, pays).await;
}

pub async fn a_wechat_provider_serves_its_merchant(world: World) -> World {
    let (merchant, shop) = merchant(&world, "SP1").await;
    let provider = world.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
    let sub_mchid = world.sim.wechat().new_sub_merchant(&provider.mchid).unwrap();
    let sp_app = world.sim.wechat().new_app(&provider.mchid);
    let sub_app = world.sim.wechat().new_app(&sub_mchid);
    let mode = json!({ "provider": { "sp_mchid": provider.mchid, "sp_appid": sp_app.appid, "sub_mchid": sub_mchid } });
    let account = wechat_account(&world, merchant, &provider, mode, public_key(&provider)).await;
    program(&world, account, &sub_app.appid, Some(json!({ "app_secret": sub_app.app_secret }))).await;
    pays_at_wechat(&world, &shop, &sub_app).await;
    world
}

pub async fn a_providers_own_mini_program_pays_too(world: World) -> World {
    let (merchant, shop) = merchant(&world, "SP2").await;
    let provider = world.sim.wechat().new_merchant(MerchantOptions::default()).unwrap();
    let sub_mchid = world.sim.wechat().new_sub_merchant(&provider.mchid).unwrap();
    let sp_app = world.sim.wechat().new_app(&provider.mchid);
    let mode = json!({ "provider": { "sp_mchid": provider.mchid, "sp_appid": sp_app.appid, "sub_mchid": sub_mchid } });
    let account = wechat_account(&world, merchant, &provider, mode, public_key(&provider)).await;
    program(&world, account, &sp_app.appid, Some(json!({ "app_secret": sp_app.app_secret }))).await;
    pays_at_wechat(&world, &shop, &sp_app).await;
    world
}

/// Nothing is pinned at enrolment: the scheduler fetches the certificates, and every role reads them in the store.
pub async fn platform_certificates_are_fetched_and_used(world: World) -> World {
    let (merchant, shop) = merchant(&world, "CERT").await;
    let options = MerchantOptions { key_mode: KeyMode::Certificate, ..MerchantOptions::default() };
    let theirs = world.sim.wechat().new_merchant(options).unwrap();
    let app = world.sim.wechat().new_app(&theirs.mchid);
    let mode = json!({ "direct": { "mchid": theirs.mchid } });
    let account = wechat_account(&world, merchant, &theirs, mode, WechatPublicKeys::default()).await;
    program(&world, account, &app.appid, Some(json!({ "app_secret": app.app_secret }))).await;
    until("the scheduler fetched the certificates", || async {
        let row = world.place.store.account(account).await.unwrap().unwrap();
        row.public_keys.contains(&theirs.platform_serial_no)
    })
    .await;
    pays_at_wechat(&world, &shop, &app).await;
    world
}

/// WeChat's week of moving from certificates to the public key: both are accepted, chosen by serial.
pub async fn both_kinds_of_key_are_accepted_while_wechat_moves(world: World) -> World {
    let (merchant, shop) = merchant(&world, "MIXED").await;
    let options = MerchantOptions { key_mode: KeyMode::Mixed, ..MerchantOptions::default() };
    let theirs = world.sim.wechat().new_merchant(options).unwrap();
    let app = world.sim.wechat().new_app(&theirs.mchid);
    let mut keys = public_key(&theirs);
    keys.pin_certificate(&theirs.platform_certificate_pem).unwrap();
    let mode = json!({ "direct": { "mchid": theirs.mchid } });
    let account = wechat_account(&world, merchant, &theirs, mode, keys).await;
    program(&world, account, &app.appid, Some(json!({ "app_secret": app.app_secret }))).await;
    pays_at_wechat(&world, &shop, &app).await;
    world
}

async fn pays_at_alipay(world: &World, shop: &Shop, mini_program: &AlipayApp) {
    let order = first_order(shop).await;
    let user = world.sim.alipay().new_user();
    let pay_info = pay_info(&order, "ALIPAY");
    let code = world.sim.alipay().new_auth_code(&mini_program.app_id, &user.user_id).unwrap();
    let data = world.pay_patiently(&json!({ "payInfo": pay_info, "code": code })).await;
    let trade_no = data["tradeNo"].as_str().unwrap();
    let pays = async {
        let result = world.sim.alipay().trade_pay(trade_no, &user.user_id, simulator::alipay::Press::Pay).await;
        assert_eq!(result.as_str(), "9000");
    };
    is_told_by_notice(world, shop, Side::Alipay, &order, pays).await;
}

async fn alipay_account(
    world: &World,
    merchant: MerchantId,
    app: &AlipayApp,
    more: Value,
    secrets: Value,
) -> AccountId {
    let mut settings = json!({ "app_id": app.app_id, "gateway_url": format!("{}/gateway.do", world.sim.base_url()) });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let public_keys = match app.mode {
        Mode::PublicKey => json!({ "alipay_public_key": app.alipay_public_key }),
        Mode::Certificate => json!({
            "alipay_certs": [app.alipay_cert_pem],
            "app_cert": app.app_cert_pem,
            "root_cert": app.alipay_root_cert_pem,
        }),
    };
    let parts = AccountParts {
        merchant,
        wallet: Wallet::Alipay,
        number: app.app_id.clone(),
        settings: settings.to_string(),
        public_keys: public_keys.to_string(),
        secrets: secrets.to_string().into(),
    };
    enroller(world).account(parts).await.unwrap()
}

/// A merchant whose application has certificates instead of public keys.
pub(super) async fn merchant_with_certificates(world: &World, customer_no: &str) -> (Shop, EnrolledAlipay) {
    let (merchant, shop) = merchant(world, customer_no).await;
    let app = world.sim.alipay().new_app(AppOptions { mode: Mode::Certificate, ..AppOptions::default() });
    let secrets = json!({ "private_key": app.app_private_key_pem });
    let account = alipay_account(world, merchant, &app, json!({ "signing": "certificate" }), secrets).await;
    program(world, account, &app.app_id, Some(json!({ "as": "calling_app" }))).await;
    (shop, EnrolledAlipay { app, account })
}

/// A merchant for whom a third-party application collects; its own is the mini-program.
pub(super) async fn merchant_of_a_provider(world: &World, customer_no: &str) -> (Shop, EnrolledAlipay) {
    let (merchant, shop) = merchant(world, customer_no).await;
    let provider = world.sim.alipay().new_app(AppOptions { kind: Kind::ThirdParty, ..AppOptions::default() });
    let app = world.sim.alipay().new_app(AppOptions::default());
    world.sim.alipay().bind_op_app(&app.app_id, &app.app_id).unwrap();
    world.sim.alipay().bind_op_app(&provider.app_id, &app.app_id).unwrap();
    let token = world.sim.alipay().new_app_auth_token(&provider.app_id, &app.app_id).unwrap();
    let secrets = json!({ "private_key": provider.app_private_key_pem, "app_auth_token": token });
    let more = json!({ "mode": "provider", "merchant_app_id": app.app_id });
    let account = alipay_account(world, merchant, &provider, more, secrets).await;
    let exchange = json!({ "as": "app_auth_token", "app_auth_token": token });
    program(world, account, &app.app_id, Some(exchange)).await;
    (shop, EnrolledAlipay { app, account })
}

pub async fn alipay_in_certificate_mode(world: World) -> World {
    let (shop, alipay) = merchant_with_certificates(&world, "ALICERT").await;
    pays_at_alipay(&world, &shop, &alipay.app).await;
    world
}

/// Alipay signs with a certificate nobody pinned: it is downloaded, its chain checked, and payments go on.
pub async fn alipays_certificate_gets_a_successor(world: World) -> World {
    let (shop, alipay) = merchant_with_certificates(&world, "ALINEXT").await;
    world.sim.alipay().renew_alipay_cert(&alipay.app.app_id).unwrap();
    pays_at_alipay(&world, &shop, &alipay.app).await;
    world
}

/// A third-party application collects for the merchant in the merchant's mini-program.
pub async fn an_alipay_provider_serves_its_merchant(world: World) -> World {
    let (shop, alipay) = merchant_of_a_provider(&world, "ALIISV").await;
    pays_at_alipay(&world, &shop, &alipay.app).await;
    world
}
