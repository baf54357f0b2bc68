//! Accounts at WeChat Pay.

use clap::Args;
use secrecy::SecretString;

use super::{Parts, add_parts, extras::ExtrasArgs, open_parts, write_parts};
use crate::{
    cli::{
        desk::Desk,
        input::{Inputs, Source},
        names,
    },
    domain::{
        id::{AccountId, AppId, CustomerNo},
        wallet::Wallet,
    },
    gateway::{
        Extras,
        wechat::{Mode, WechatPublicKeys, WechatSecrets, WechatSettings},
    },
};

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The merchant
    #[arg(value_parser = names::customer_no)]
    customer_no: CustomerNo,
    /// Its number at WeChat Pay; with --sub-mchid, the service provider's
    #[arg(long)]
    mchid: String,
    /// Serial of the merchant API certificate, in hex
    #[arg(long)]
    serial_no: String,
    /// Private key of the merchant API certificate (apiclient_key.pem); - is stdin
    #[arg(long, value_name = "FILE")]
    private_key_file: Source,
    /// The APIv3 key: 32 characters; - is stdin
    #[arg(long, value_name = "FILE")]
    apiv3_key_file: Source,
    #[command(flatten)]
    public_keys: PublicKeyArgs,
    /// The service provider's own appid
    #[arg(long, requires = "sub_mchid", value_parser = names::app_id)]
    sp_appid: Option<AppId>,
    /// The merchant's number under a service provider
    #[arg(long, requires = "sp_appid")]
    sub_mchid: Option<String>,
    #[command(flatten)]
    hosts: HostArgs,
    #[command(flatten)]
    prepay: PrepayArgs,
}

/// WeChat Pay's public keys. Several are kept together; each answer names the one that signed it.
#[derive(Debug, Args)]
struct PublicKeyArgs {
    /// Id of WeChat Pay's public key: PUB_KEY_ID_…
    #[arg(long, value_name = "ID", requires = "public_key_file")]
    public_key_id: Option<String>,
    /// WeChat Pay's public key (pub_key.pem); - is stdin
    #[arg(long, value_name = "FILE", requires = "public_key_id")]
    public_key_file: Option<Source>,
    /// A platform certificate, for accounts without public key; may be given several times
    #[arg(long, value_name = "FILE")]
    platform_certificate_file: Vec<Source>,
}

impl PublicKeyArgs {
    fn pin_into(&self, keys: &mut WechatPublicKeys, inputs: &mut Inputs) -> anyhow::Result<()> {
        if let (Some(id), Some(source)) = (&self.public_key_id, &self.public_key_file) {
            let text = inputs.text("--public-key-file", source)?;
            keys.pin_public_key(id, &text).map_err(anyhow::Error::msg)?;
        }
        for source in &self.platform_certificate_file {
            let text = inputs.text("--platform-certificate-file", source)?;
            keys.pin_certificate(&text).map_err(anyhow::Error::msg)?;
        }
        Ok(())
    }
}

/// Where the wallet is: the real hosts unless told.
#[derive(Debug, Args)]
struct HostArgs {
    /// Instead of https://api.mch.weixin.qq.com
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Instead of https://api2.mch.weixin.qq.com; empty for none
    #[arg(long, value_name = "URL")]
    backup_url: Option<String>,
    /// Instead of https://api.weixin.qq.com
    #[arg(long, value_name = "URL")]
    login_url: Option<String>,
}

impl HostArgs {
    fn write_into(self, settings: &mut WechatSettings) {
        for (given, kept) in [
            (self.base_url, &mut settings.base_url),
            (self.backup_url, &mut settings.backup_url),
            (self.login_url, &mut settings.login_url),
        ] {
            if given.is_some() {
                *kept = given;
            }
        }
    }
}

/// What is added to prepays.
#[derive(Debug, Args)]
struct PrepayArgs {
    #[command(flatten)]
    extras: ExtrasArgs,
    /// Names WeChat's promotions that may apply, at most 32 characters; empty for none
    #[arg(long, value_name = "TEXT")]
    goods_tag: Option<String>,
}

impl PrepayArgs {
    fn write_into(self, settings: &mut WechatSettings) {
        self.extras.write_into(&mut settings.extras);
        if let Some(tag) = self.goods_tag {
            settings.goods_tag = Some(tag).filter(|tag| !tag.is_empty());
        }
    }
}

pub async fn add(desk: &Desk, args: AddArgs) -> anyhow::Result<()> {
    desk.needs_back_key()?;
    let mut inputs = Inputs::default();
    let mut keys = WechatPublicKeys::default();
    args.public_keys.pin_into(&mut keys, &mut inputs)?;
    let mode = match (args.sp_appid, args.sub_mchid) {
        (Some(sp_appid), Some(sub_mchid)) => Mode::Provider { sp_mchid: args.mchid.clone(), sp_appid, sub_mchid },
        _ => Mode::Direct { mchid: args.mchid.clone() },
    };
    let mut settings = WechatSettings {
        mode,
        serial_no: args.serial_no,
        base_url: None,
        backup_url: None,
        login_url: None,
        extras: Extras::default(),
        goods_tag: None,
    };
    args.hosts.write_into(&mut settings);
    args.prepay.write_into(&mut settings);
    let secrets = WechatSecrets {
        private_key: inputs.secret("--private-key-file", &args.private_key_file)?,
        apiv3_key: inputs.secret("--apiv3-key-file", &args.apiv3_key_file)?,
        older_apiv3_key: None,
    };
    let parts = Parts { settings: settings.to_json(), public_keys: keys.to_json(), secrets: secrets.to_json() };
    add_parts(desk, &args.customer_no, Wallet::WechatPay, args.mchid, parts).await
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The account's number in `prepay channel list`
    #[arg(value_parser = names::account_id)]
    id: AccountId,
    /// Serial of the new merchant API certificate
    #[arg(long, requires = "private_key_file")]
    serial_no: Option<String>,
    /// Private key of the new merchant API certificate; - is stdin
    #[arg(long, value_name = "FILE", requires = "serial_no")]
    private_key_file: Option<Source>,
    /// The new APIv3 key, here first and then in the merchant platform; the one before still opens notices sealed with it; - is stdin
    #[arg(long, value_name = "FILE")]
    apiv3_key_file: Option<Source>,
    /// Forget the APIv3 key before
    #[arg(long, conflicts_with = "apiv3_key_file")]
    drop_older_apiv3_key: bool,
    #[command(flatten)]
    public_keys: PublicKeyArgs,
    /// Unpin a public key or certificate by its id
    #[arg(long, value_name = "ID")]
    drop_public_key: Vec<String>,
    #[command(flatten)]
    hosts: HostArgs,
    #[command(flatten)]
    prepay: PrepayArgs,
}

/// Public keys are pinned in addition, so that both sides may change at their own time.
pub async fn set(desk: &Desk, args: SetArgs) -> anyhow::Result<()> {
    let (account, parts) = open_parts(desk, args.id, Wallet::WechatPay).await?;
    let mut inputs = Inputs::default();
    let mut settings = WechatSettings::from_json(&parts.settings).map_err(anyhow::Error::msg)?;
    let mut keys = WechatPublicKeys::from_json(&parts.public_keys).map_err(anyhow::Error::msg)?;
    let mut secrets = WechatSecrets::from_json(&parts.secrets).map_err(anyhow::Error::msg)?;

    args.hosts.write_into(&mut settings);
    args.prepay.write_into(&mut settings);
    if let (Some(serial_no), Some(source)) = (args.serial_no, &args.private_key_file) {
        settings.serial_no = serial_no;
        secrets.private_key = inputs.secret("--private-key-file", source)?;
    }
    if let Some(source) = &args.apiv3_key_file {
        rotate_apiv3_key(&mut secrets, inputs.secret("--apiv3-key-file", source)?);
    }
    if args.drop_older_apiv3_key {
        secrets.older_apiv3_key = None;
    }
    for id in &args.drop_public_key {
        let before = keys.0.len();
        keys.0.retain(|key| key.id != *id);
        anyhow::ensure!(keys.0.len() < before, "--drop-public-key: {id} is not pinned");
    }
    args.public_keys.pin_into(&mut keys, &mut inputs)?;
    let parts = Parts { settings: settings.to_json(), public_keys: keys.to_json(), secrets: secrets.to_json() };
    write_parts(desk, &account, parts).await
}

/// The same key again changes nothing: the one before must not be lost by running the command twice.
fn rotate_apiv3_key(secrets: &mut WechatSecrets, fresh: SecretString) {
    use secrecy::ExposeSecret;
    if fresh.expose_secret() != secrets.apiv3_key.expose_secret() {
        secrets.older_apiv3_key = Some(std::mem::replace(&mut secrets.apiv3_key, fresh));
    }
}
