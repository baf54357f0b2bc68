//! The demo merchant and its contracts with this run's simulated wallets.
//!
//! The wallets forget everything when the process ends; a kept folder does not. So each start enrols fresh accounts and
//! mini-programs and puts those of earlier runs out of use: the new ones are then the merchant's only, and its default.
//! Earlier orders stay readable, paid ones stay paid; unpaid ones wait for a wallet that no longer knows them.

use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use simulator::{
    Simulator,
    alipay::{AlipayApp, AppOptions},
    wechat::{MerchantOptions, WechatApp},
};

use super::data::Data;
use crate::{
    clock::Clock,
    domain::{
        id::{AppId, CustomerNo, KeyId, MerchantId},
        wallet::Wallet,
    },
    enrol::{AccountParts, Enroller, MiniProgramParts},
    gateway::wechat::WechatPublicKeys,
    keys::{Back, Place, Vault, mac::alphanumerics},
    store::{AccountChange, KeyPurpose, Store, StoreSettings},
};

const CUSTOMER_NO: &str = "DEMO";
const MERCHANT_NAME: &str = "示例咖啡馆";

/// What the merchant's server and the phones need to know.
pub struct Enrolled {
    pub customer_no: CustomerNo,
    pub key_id: KeyId,
    /// Base64, as a merchant is shown it once.
    pub secret: SecretString,
    /// `whsec_…`: what the merchant checks events with.
    pub webhook_secret: SecretString,
    pub wechat: WechatApp,
    pub alipay: AlipayApp,
}

/// Brings the folder's tables up to date and the merchant to this run's wallets.
///
/// Errors: above all a folder whose master keys are not those that sealed it.
pub async fn enrol(data: &Data, simulator: &Simulator) -> anyhow::Result<Enrolled> {
    let store = Store::connect(&StoreSettings::at(data.database_url())).await.context("the database does not open")?;
    let enrolled = enrol_in(&store, data, simulator).await;
    store.close().await;
    enrolled
}

async fn enrol_in(store: &Store, data: &Data, simulator: &Simulator) -> anyhow::Result<Enrolled> {
    store.migrate().await.context("the tables cannot be made")?;
    let vault = Vault::new(Some(&data.front_key), Some(&data.back_key)).context("the folder's master keys")?;
    let clock = Clock::system();
    let enroller = Enroller { store, vault: &vault, clock: &clock };
    deployment_keys(&enroller).await?;
    put_earlier_out_of_use(store).await?;

    let customer_no = CustomerNo::parse(CUSTOMER_NO)?;
    let merchant = match store.merchant_by_customer_no(&customer_no).await? {
        Some(known) => known.id,
        None => enroller.merchant(&customer_no, MERCHANT_NAME, None).await?,
    };
    // A secret is shown once and kept nowhere, so each run's merchant gets its own.
    for key in store.merchant_keys(merchant).await?.into_iter().filter(|key| key.live) {
        store.set_merchant_key_live(merchant, &key.key_id, false).await?;
    }
    let key_id = KeyId::parse(format!("demo-{}", alphanumerics::<12>()))?;
    let secret = enroller.hmac_key(merchant, &key_id).await?;
    let hook_id = KeyId::parse(format!("hook-{}", alphanumerics::<12>()))?;
    let webhook_secret = enroller.webhook_key(merchant, &hook_id).await?;
    Ok(Enrolled {
        customer_no,
        key_id,
        secret,
        webhook_secret,
        wechat: wechat(&enroller, merchant, simulator).await?,
        alipay: alipay(&enroller, merchant, simulator).await?,
    })
}

/// A deployment's first keys; links given out by an earlier run stay good.
async fn deployment_keys(enroller: &Enroller<'_>) -> anyhow::Result<()> {
    let first = KeyId::parse("k1")?;
    if enroller.store.deployment_keys(KeyPurpose::PayInfo).await?.is_empty() {
        enroller.pay_info_key(&first, Duration::ZERO).await?;
    }
    if enroller.store.deployment_keys(KeyPurpose::CodeHash).await?.is_empty() {
        enroller.code_hash_key(&first).await?;
    }
    Ok(())
}

async fn put_earlier_out_of_use(store: &Store) -> anyhow::Result<()> {
    for mut program in store.mini_programs().await?.into_iter().filter(|row| row.enabled) {
        program.enabled = false;
        store.update_mini_program(&program).await?;
    }
    for account in store.accounts().await?.into_iter().filter(|row| row.account.enabled) {
        let disable = AccountChange { enabled: Some(false), ..AccountChange::default() };
        store.update_account(account.account.id, account.version, disable).await?;
    }
    Ok(())
}

/// A direct merchant at WeChat Pay, checking answers with WeChat's public key.
async fn wechat(enroller: &Enroller<'_>, merchant: MerchantId, simulator: &Simulator) -> anyhow::Result<WechatApp> {
    let theirs = simulator.wechat().new_merchant(MerchantOptions::default())?;
    let app = simulator.wechat().new_app(&theirs.mchid);
    let mut public_keys = WechatPublicKeys::default();
    public_keys.pin_public_key(&theirs.public_key_id, &theirs.public_key_pem).map_err(anyhow::Error::msg)?;
    let account = AccountParts {
        merchant,
        wallet: Wallet::WechatPay,
        number: theirs.mchid.clone(),
        settings: json!({
            "mode": { "direct": { "mchid": theirs.mchid } },
            "serial_no": theirs.serial_no,
            "base_url": simulator.base_url(),
            "backup_url": simulator.backup_url(),
        })
        .to_string(),
        public_keys: public_keys.to_json(),
        secrets: json!({ "private_key": theirs.private_key_pem, "apiv3_key": theirs.apiv3_key }).to_string().into(),
    };
    let secrets = json!({ "app_secret": app.app_secret }).to_string();
    mini_program(enroller, account, &app.appid, Some("gh_0123456789ab"), secrets.into()).await?;
    Ok(app)
}

/// An application of the merchant's own that is its mini-program too.
async fn alipay(enroller: &Enroller<'_>, merchant: MerchantId, simulator: &Simulator) -> anyhow::Result<AlipayApp> {
    let app = simulator.alipay().new_app(AppOptions::default());
    let account = AccountParts {
        merchant,
        wallet: Wallet::Alipay,
        number: app.app_id.clone(),
        settings: json!({ "app_id": app.app_id, "gateway_url": format!("{}/gateway.do", simulator.base_url()) })
            .to_string(),
        public_keys: json!({ "alipay_public_key": app.alipay_public_key }).to_string(),
        secrets: json!({ "private_key": app.app_private_key_pem }).to_string().into(),
    };
    mini_program(enroller, account, &app.app_id, None, r#"{"as":"calling_app"}"#.to_owned().into()).await?;
    Ok(app)
}

async fn mini_program(
    enroller: &Enroller<'_>,
    account: AccountParts,
    app_id: &str,
    original_id: Option<&str>,
    secrets: SecretString,
) -> anyhow::Result<()> {
    let (merchant, wallet, app_id) = (account.merchant, account.wallet, AppId::parse(app_id)?);
    let account = enroller.account(account).await?;
    let known = enroller.store.mini_program_by_app(merchant, wallet, &app_id).await?;
    let Some(mut known) = known else {
        let program = MiniProgramParts {
            account,
            app_id,
            original_id: original_id.map(str::to_owned),
            path: "pages/pay/index".into(),
            query_template: None,
            env_version: None,
            secrets: Some(secrets),
        };
        enroller.mini_program(program).await?;
        return Ok(());
    };
    // The simulated Alipay counts its numbers from one again, so the appid is an old one's: its row moves over.
    let row = known.program.id.to_string();
    let place = Place { table: "mini_programs", column: "secrets", row: &row };
    known.secrets = Some(enroller.vault.seal::<Back>(place, secrets.expose_secret().as_bytes())?);
    known.program.account = account;
    known.enabled = true;
    anyhow::ensure!(
        enroller.store.update_mini_program(&known).await?,
        "somebody else changed mini-program {row} meanwhile"
    );
    Ok(())
}
