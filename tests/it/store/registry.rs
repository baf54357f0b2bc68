use std::time::Duration;

use prepay::{
    domain::{
        account::MiniProgram,
        id::{AccountId, AppId, CustomerNo, KeyId, MerchantId, OrderId},
        wallet::Wallet,
    },
    keys::Sealed,
    store::{
        AccountChange, DeploymentKey, DeploymentSecret, KeyMaterial, KeyPurpose, KeyState, MerchantKey, NewAccount,
        NewMerchant, NewMiniProgram, Parked, StoreError,
    },
};

use super::{
    place::Place,
    shop::{NOW, secs},
};

fn key_id(id: &str) -> KeyId {
    KeyId::parse(id).unwrap()
}

pub async fn merchants_and_their_keys(place: Place) {
    let store = &place.store;
    let new = |no: &str| NewMerchant {
        customer_no: CustomerNo::parse(no).unwrap(),
        name: "茶店".into(),
        ip_list: None,
        created_at: NOW,
    };
    let id = store.insert_merchant(&new("Shop")).await.unwrap();
    assert_ne!(store.insert_merchant(&new("shop")).await.unwrap(), id, "names differ by a byte");
    let again = store.insert_merchant(&new("Shop")).await.unwrap_err();
    assert!(matches!(again, StoreError::Conflict { .. }), "{again:?}");
    assert_eq!(store.registry_stamp().await.unwrap(), 2, "what was refused is not counted");

    let mut merchant = store.merchant_by_customer_no(&new("Shop").customer_no).await.unwrap().unwrap();
    assert_eq!((merchant.id, merchant.enabled), (id, true));
    merchant.enabled = false;
    merchant.ip_list = Some("10.0.0.0/8".into());
    assert!(store.update_merchant(&merchant).await.unwrap());
    assert_eq!(store.merchant(id).await.unwrap(), Some(merchant.clone()));
    assert_eq!(store.merchants().await.unwrap().len(), 2);
    merchant.id = MerchantId(99);
    assert!(!store.update_merchant(&merchant).await.unwrap());

    let hmac = MerchantKey {
        merchant: id,
        key_id: key_id("k1"),
        material: KeyMaterial::Hmac { secret: Sealed::from_text("s1.front.AAAA") },
        live: true,
        created_at: NOW,
    };
    let rsa = MerchantKey {
        key_id: key_id("k2"),
        material: KeyMaterial::Rsa { public_key: "-----BEGIN PUBLIC KEY-----".into() },
        ..hmac.clone()
    };
    store.insert_merchant_key(&hmac).await.unwrap();
    store.insert_merchant_key(&rsa).await.unwrap();
    let webhook = MerchantKey {
        key_id: key_id("w1"),
        material: KeyMaterial::Webhook { secret: Sealed::from_text("s1.back.AAAA") },
        ..hmac.clone()
    };
    store.insert_merchant_key(&webhook).await.unwrap();
    assert!(matches!(store.insert_merchant_key(&rsa).await, Err(StoreError::Conflict { .. })));
    assert_eq!(store.merchant_keys(id).await.unwrap(), [hmac.clone(), rsa.clone(), webhook.clone()]);
    assert!(store.set_merchant_key_live(id, &key_id("k2"), false).await.unwrap());
    assert!(!store.set_merchant_key_live(id, &key_id("K2"), false).await.unwrap());
    assert_eq!(store.all_merchant_keys().await.unwrap(), [hmac, MerchantKey { live: false, ..rsa }, webhook]);
    assert_eq!(store.registry_stamp().await.unwrap(), 7);
}

pub async fn accounts_and_mini_programs(place: Place) {
    let store = &place.store;
    let new = NewAccount {
        merchant: MerchantId(1),
        wallet: Wallet::WechatPay,
        number: "1900000109".into(),
        settings: r#"{"mode":"direct"}"#.into(),
        public_keys: "[]".into(),
        created_at: NOW,
    };
    let id = store.insert_account(&new).await.unwrap();
    let account = store.account(id).await.unwrap().unwrap();
    assert_eq!((account.account.enabled, &account.secrets, account.version), (false, &None, 0));
    let change =
        AccountChange { secrets: Some(Sealed::from_text("s1.back.BBBB")), enabled: Some(true), ..Default::default() };
    assert!(store.update_account(id, 0, change.clone()).await.unwrap());
    assert!(!store.update_account(id, 0, change).await.unwrap(), "of another version");
    assert!(store.set_public_keys(id, 1, "[1]".into(), secs(1)).await.unwrap());
    assert!(!store.set_public_keys(id, 1, "[2]".into(), secs(1)).await.unwrap(), "of another version");
    let account = &store.accounts().await.unwrap()[0];
    assert_eq!(
        (account.public_keys.as_str(), account.settings.as_str(), account.version),
        ("[1]", r#"{"mode":"direct"}"#, 2)
    );
    assert_eq!(account.secrets, Some(Sealed::from_text("s1.back.BBBB")));

    let minute = Duration::from_secs(60);
    assert!(!store.claim_key_check(id, secs(60), minute).await.unwrap());
    assert!(store.claim_key_check(id, secs(61), minute).await.unwrap());
    assert!(!store.claim_key_check(id, secs(61), minute).await.unwrap());

    let new = NewMiniProgram {
        merchant: MerchantId(1),
        account: id,
        wallet: Wallet::WechatPay,
        app_id: AppId::parse("wxd678efh567hg6787").unwrap(),
        original_id: Some("gh_0123456789ab".into()),
        path: "pages/pay/index".into(),
        query_template: MiniProgram::DEFAULT_QUERY_TEMPLATE.into(),
        env_version: "release".into(),
        takes_code: true,
        enabled: true,
    };
    let program = store.insert_mini_program(&new).await.unwrap();
    assert!(matches!(store.insert_mini_program(&new).await, Err(StoreError::Conflict { .. })));
    let mut row = store.mini_program(program).await.unwrap().unwrap();
    assert_eq!(row.program.original_id, new.original_id);
    row.secrets = Some(Sealed::from_text("s1.back.CCCC"));
    row.program.account = AccountId(9);
    assert!(store.update_mini_program(&row).await.unwrap());
    assert!(!store.update_mini_program(&row).await.unwrap(), "of another version");
    row.version = 1;
    let found = store.mini_program_by_app(MerchantId(1), Wallet::WechatPay, &new.app_id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&row));
    assert_eq!(store.mini_programs().await.unwrap(), [row]);
}

pub async fn keys_of_the_deployment(place: Place) {
    let store = &place.store;
    let pay_info = DeploymentKey {
        key_id: key_id("p1"),
        secret: DeploymentSecret::PayInfo(Sealed::from_text("s1.front.AAAA")),
        state: KeyState::Verifying,
        created_at: NOW,
        signs_from: secs(120),
    };
    let code_hash =
        DeploymentKey { secret: DeploymentSecret::CodeHash(Sealed::from_text("s1.back.BBBB")), ..pay_info.clone() };
    store.insert_deployment_key(&pay_info).await.unwrap();
    store.insert_deployment_key(&code_hash).await.unwrap();
    assert!(matches!(store.insert_deployment_key(&code_hash).await, Err(StoreError::Conflict { .. })));
    assert!(store.set_deployment_key_state(KeyPurpose::PayInfo, &key_id("p1"), KeyState::Signing).await.unwrap());
    let signing = DeploymentKey { state: KeyState::Signing, ..pay_info };
    assert_eq!(store.deployment_keys(KeyPurpose::PayInfo).await.unwrap(), [signing]);
    assert_eq!(store.deployment_keys(KeyPurpose::CodeHash).await.unwrap(), [code_hash]);
}

pub async fn nonces_are_taken_once(place: Place) {
    let store = &place.store;
    let take = |merchant, nonce| async move { store.take_nonce(MerchantId(merchant), nonce, secs(300)).await.unwrap() };
    assert!(take(1, "aB").await);
    assert!(!take(1, "aB").await);
    assert!(take(1, "ab").await);
    assert!(take(2, "aB").await);
    assert_eq!(store.sweep_nonces(secs(300), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_nonces(secs(301), 2).await.unwrap(), 2);
    assert_eq!(store.sweep_nonces(secs(301), 2).await.unwrap(), 1);
}

pub async fn a_message_is_parked_once(place: Place) {
    let store = &place.store;
    let message = Parked {
        id: "0198f3a4".into(),
        queue: "prepay.orders".into(),
        kind: Some("prepay".into()),
        order: Some(OrderId::fresh()),
        reason: "delivered five times".into(),
        body_masked: "{}".into(),
        body_sealed: Some(Sealed::from_text("s1.k.x")),
        received_at: NOW,
    };
    assert!(store.park(&message, secs(1)).await.unwrap());
    assert!(!store.park(&message, secs(2)).await.unwrap());
    let poison = Parked { id: "other".into(), kind: None, order: None, ..message.clone() };
    assert!(store.park(&poison, secs(3)).await.unwrap());
    assert_eq!(store.list_parked(10).await.unwrap(), [poison.clone(), message]);
    assert_eq!(store.list_parked(1).await.unwrap(), [poison]);
}

/// MySQL's `text` ends at 64 KiB: a notice of that size is twice as long once it was wrapped and sealed.
pub async fn the_largest_message_is_parked_whole(place: Place) {
    let store = &place.store;
    let sealed = Sealed::from_text(format!("s1.k.{}", "x".repeat(400 * 1024)));
    let message = Parked { body_sealed: Some(sealed), ..notice("1", "too large for a text column") };
    assert!(store.park(&message, NOW).await.unwrap());
    assert_eq!(store.parked("1").await.unwrap(), Some(message));
}

pub async fn parked_messages_are_found_and_go(place: Place) {
    let store = &place.store;
    assert_eq!(store.parked("1").await.unwrap(), None);
    for (id, reason) in [("3", "no order 100%"), ("1", "no order 100%"), ("2", "no order 100x"), ("4", "NO ORDER 100%")]
    {
        assert!(store.park(&notice(id, reason), NOW).await.unwrap());
    }
    let command = Parked { kind: Some("prepay".into()), ..notice("5", "no order 100%") };
    let bodiless = Parked { body_sealed: None, ..notice("6", "no order 100%") };
    for other in [&command, &bodiless] {
        assert!(store.park(other, NOW).await.unwrap());
    }
    assert_eq!(store.parked_notices_because("order 100%", 10).await.unwrap(), ["1", "3"]);
    assert_eq!(store.parked_notices_because("order 100", 2).await.unwrap().len(), 2);
    let ids = |page: Vec<Parked>| page.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(store.parked_after("", 4).await.unwrap()), ["1", "2", "3", "4"]);
    assert_eq!(ids(store.parked_after("4", 4).await.unwrap()), ["5", "6"]);

    let (old, new) = (Sealed::from_text("s1.k.x"), Sealed::from_text("s1.k2.y"));
    assert!(!store.reseal_parked("1", &new, &old).await.unwrap(), "it is not what was read");
    assert!(store.reseal_parked("1", &old, &new).await.unwrap());
    assert_eq!(store.parked("1").await.unwrap().unwrap().body_sealed, Some(new));
    assert!(store.unpark("1").await.unwrap());
    assert!(!store.unpark("1").await.unwrap());
    assert_eq!(store.parked_notices_because("no order 100%", 10).await.unwrap(), ["3"]);
}

fn notice(id: &str, reason: &str) -> Parked {
    Parked {
        id: id.into(),
        queue: "prepay.notifications".into(),
        kind: Some("notice".into()),
        order: None,
        reason: reason.into(),
        body_masked: "{}".into(),
        body_sealed: Some(Sealed::from_text("s1.k.x")),
        received_at: NOW,
    }
}
