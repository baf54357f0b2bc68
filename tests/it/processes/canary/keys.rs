//! The canary's keys: those that merchants and accounts have, those that were changed, and the deployment's own.

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
use simulator::{
    RsaKey,
    alipay::{AlipayApp, AppOptions, Kind},
};

use crate::{
    cli::deployment::{Deployment, Enrolled, field},
    store::place::Place,
    trip::shop::Shop,
};

/// Keys that were changed, so that the ones before are kept beside them.
pub async fn older_keys(at: &mut Deployment, enrolled: &Enrolled) {
    let apiv3 = uuid::Uuid::now_v7().simple().to_string();
    at.secret_file("apiv3.next", &apiv3);
    at.ok(&["channel", "set-wechat", "1", "--apiv3-key-file", "apiv3.next"]).await;
    assert!(at.sim.wechat().set_apiv3_key(&enrolled.wechat.mchid, &apiv3));
    let own = RsaKey::generate().unwrap();
    at.secret_file("own.next", &own.private_key_pem());
    at.ok(&["channel", "set-alipay", "2", "--private-key-file", "own.next"]).await;
    at.sim.alipay().set_app_key(&enrolled.alipay_app.app_id, own.public().clone()).unwrap();
}

/// A merchant that a provider collects for at Alipay, its codes exchanged with the token too. Its shop and mini-program.
pub async fn provided(at: &mut Deployment) -> (Shop, AlipayApp) {
    let provider = at.sim.alipay().new_app(AppOptions { kind: Kind::ThirdParty, ..AppOptions::default() });
    let app = at.sim.alipay().new_app(AppOptions::default());
    at.sim.alipay().bind_op_app(&app.app_id, &app.app_id).unwrap();
    at.sim.alipay().bind_op_app(&provider.app_id, &app.app_id).unwrap();
    let token = at.sim.alipay().new_app_auth_token(&provider.app_id, &app.app_id).unwrap();
    at.secret_file("provider.pem", &provider.app_private_key_pem);
    at.secret_file("token", &token);
    at.file("provider.pub", &provider.alipay_public_key);

    at.ok(&["merchant", "add", "C2", "--name", "测试商户"]).await;
    let key = at.ok(&["merchant", "key", "add", "C2", "--hmac"]).await;
    let gateway = format!("{}/gateway.do", at.sim.base_url());
    let mut account = vec!["channel", "add-alipay", "C2", "--app-id", &provider.app_id, "--provider"];
    account.extend(["--private-key-file", "provider.pem", "--alipay-public-key-file", "provider.pub"]);
    account.extend(["--app-auth-token-file", "token", "--merchant-app-id", &app.app_id, "--gateway-url", &gateway]);
    let channel = field(&at.ok(&account).await, "channel account");
    let mut program = vec!["mini-program", "add", "C2", "--channel", &channel, "--app-id", &app.app_id];
    program.extend(["--path", "pages/pay/index", "--exchange", "app-auth-token", "--app-auth-token-file", "token"]);
    at.ok(&program).await;
    (Shop::new("C2", &field(&key, "key id"), &field(&key, "secret")), app)
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
            written.extend(as_written(opened.expose_secret()));
        }
    }
    assert!(written.len() >= 2 * as_written(&[]).len(), "one of each");
    written
}

/// Bytes as somebody might write them.
pub fn as_written(bytes: &[u8]) -> [String; 3] {
    [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), bytes.iter().map(|byte| format!("{byte:02x}")).collect()]
}
