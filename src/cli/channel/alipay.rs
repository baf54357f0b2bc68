//! Accounts at Alipay.

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize;

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
        alipay::{
            AlipayPublicKeys, AlipaySecrets, AlipaySettings, Mode, OpenIdField, PRODUCTION, PreferredId, Signing,
        },
    },
    keys::rsa::{RsaSigner, RsaVerifier, public_of},
};

#[derive(Debug, Args)]
pub struct AddArgs {
    /// The merchant
    #[arg(value_parser = names::customer_no)]
    customer_no: CustomerNo,
    /// APPID of the calling application
    #[arg(long, value_parser = names::app_id)]
    app_id: AppId,
    /// The application's private key, PEM or base64; - is stdin
    #[arg(long, value_name = "FILE")]
    private_key_file: Source,
    #[command(flatten)]
    public_keys: PublicKeyArgs,
    /// The application is a third party's, calling on the merchant's behalf
    #[arg(long, requires = "app_auth_token_file")]
    provider: bool,
    /// The merchant's authorisation of that third party; - is stdin
    #[arg(long, value_name = "FILE", requires = "provider")]
    app_auth_token_file: Option<Source>,
    /// The merchant's own APPID, as notices name it (auth_app_id)
    #[arg(long, requires = "provider", value_parser = names::app_id)]
    merchant_app_id: Option<AppId>,
    /// Who is paid: 2088…, compared with what notices say
    #[arg(long)]
    seller_id: Option<String>,
    /// Instead of https://openapi.alipay.com/gateway.do
    #[arg(long, value_name = "URL")]
    gateway_url: Option<String>,
    #[command(flatten)]
    extras: ExtrasArgs,
}

/// How both sides sign: a public key, or certificates.
#[derive(Debug, Args)]
pub struct PublicKeyArgs {
    /// Alipay's public key for this APPID, not the application's own; - is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["app_cert_file", "alipay_cert_file", "root_cert_file"])]
    alipay_public_key_file: Option<Source>,
    /// Certificate mode: the application's certificate (appCertPublicKey_….crt)
    #[arg(long, value_name = "FILE", requires_all = ["alipay_cert_file", "root_cert_file"])]
    app_cert_file: Option<Source>,
    /// Certificate mode: Alipay's certificate (alipayCertPublicKey_RSA2.crt)
    #[arg(long, value_name = "FILE", requires_all = ["app_cert_file", "root_cert_file"])]
    alipay_cert_file: Option<Source>,
    /// Certificate mode: Alipay's root certificates (alipayRootCert.crt)
    #[arg(long, value_name = "FILE", requires_all = ["app_cert_file", "alipay_cert_file"])]
    root_cert_file: Option<Source>,
}

impl PublicKeyArgs {
    /// `None`: no key was given. Errors: half of them were.
    pub fn read(&self, inputs: &mut Inputs) -> anyhow::Result<Option<(Signing, AlipayPublicKeys)>> {
        if let Some(source) = &self.alipay_public_key_file {
            let key = inputs.text("--alipay-public-key-file", source)?;
            let keys = AlipayPublicKeys { alipay_public_key: Some(key), ..AlipayPublicKeys::default() };
            return Ok(Some((Signing::PublicKey, keys)));
        }
        let (Some(app), Some(alipay), Some(root)) = (&self.app_cert_file, &self.alipay_cert_file, &self.root_cert_file)
        else {
            return Ok(None);
        };
        let keys = AlipayPublicKeys {
            alipay_public_key: None,
            older_alipay_public_key: None,
            alipay_certs: vec![inputs.text("--alipay-cert-file", alipay)?],
            app_cert: Some(inputs.text("--app-cert-file", app)?),
            root_cert: Some(inputs.text("--root-cert-file", root)?),
        };
        Ok(Some((Signing::Certificate, keys)))
    }

    /// Errors: none was given.
    pub fn required(&self, inputs: &mut Inputs) -> anyhow::Result<(Signing, AlipayPublicKeys)> {
        self.read(inputs)?.ok_or_else(|| {
            anyhow::anyhow!(
                "give --alipay-public-key-file, or --app-cert-file with --alipay-cert-file and --root-cert-file"
            )
        })
    }
}

pub async fn add(desk: &Desk, args: AddArgs) -> anyhow::Result<()> {
    desk.needs_back_key()?;
    let mut inputs = Inputs::default();
    let (signing, public_keys) = args.public_keys.required(&mut inputs)?;
    let mut settings = AlipaySettings {
        app_id: args.app_id.clone(),
        mode: if args.provider { Mode::Provider } else { Mode::Own },
        merchant_app_id: args.merchant_app_id,
        signing,
        seller_id: args.seller_id,
        gateway_url: args.gateway_url.unwrap_or_else(|| PRODUCTION.to_owned()),
        open_id_field: OpenIdField::default(),
        preferred_id: PreferredId::default(),
        extras: Extras::default(),
    };
    args.extras.write_into(&mut settings.extras);
    let private_key = inputs.secret("--private-key-file", &args.private_key_file)?;
    let token = inputs.optional_secret("--app-auth-token-file", args.app_auth_token_file.as_ref())?;
    let secrets = AlipaySecrets {
        private_key: private_key.expose_secret().to_owned(),
        older_private_key: None,
        app_auth_token: token.map(|token| token.expose_secret().to_owned()),
    };
    let parts = parts(&settings, &public_keys, &secrets)?;
    add_parts(desk, &args.customer_no, Wallet::Alipay, args.app_id.to_string(), parts).await
}

fn parts(settings: &AlipaySettings, public_keys: &AlipayPublicKeys, secrets: &AlipaySecrets) -> anyhow::Result<Parts> {
    let settings = serde_json::to_string(settings)?;
    // Read back, because that is where the numbers are checked.
    AlipaySettings::from_json(&settings).map_err(anyhow::Error::msg)?;
    let secrets = SecretString::from(serde_json::to_string(secrets)?);
    Ok(Parts { settings, public_keys: public_keys.to_json(), secrets })
}

#[derive(Debug, Args)]
pub struct SetArgs {
    /// The account's number in `prepay channel list`
    #[arg(value_parser = names::account_id)]
    id: AccountId,
    /// The application's new private key, like Alipay's new public key here first and then at the wallet's console: the ones before are used as long as the wallet does; in certificate mode give the new certificates with it; - is stdin
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<Source>,
    #[command(flatten)]
    public_keys: PublicKeyArgs,
    /// Forget the private key before and Alipay's public key before
    #[arg(long, conflicts_with_all = ["private_key_file", "alipay_public_key_file", "app_cert_file"])]
    drop_older_keys: bool,
    /// The merchant's new authorisation; - is stdin
    #[arg(long, value_name = "FILE")]
    app_auth_token_file: Option<Source>,
    /// Who is paid: 2088…
    #[arg(long)]
    seller_id: Option<String>,
    /// Instead of https://openapi.alipay.com/gateway.do
    #[arg(long, value_name = "URL")]
    gateway_url: Option<String>,
    #[command(flatten)]
    extras: ExtrasArgs,
}

/// Certificates of Alipay are pinned in addition. In public-key mode each side's key before is kept beside the new one: the
/// console has one of each and changes it at its own time. In certificate mode nothing older is kept, because an
/// application's certificate belongs to its key.
pub async fn set(desk: &Desk, args: SetArgs) -> anyhow::Result<()> {
    let (account, before) = open_parts(desk, args.id, Wallet::Alipay).await?;
    let mut inputs = Inputs::default();
    let mut settings = AlipaySettings::from_json(&before.settings).map_err(anyhow::Error::msg)?;
    let mut keys = AlipayPublicKeys::from_json(&before.public_keys).map_err(anyhow::Error::msg)?;
    let mut secrets = AlipaySecrets::from_json(before.secrets.expose_secret()).map_err(anyhow::Error::msg)?;

    let signed_before = settings.signing;
    if let Some(source) = &args.private_key_file {
        rotate_private_key(&mut secrets, &inputs.secret("--private-key-file", source)?);
    }
    if let Some((signing, fresh)) = args.public_keys.read(&mut inputs)? {
        settings.signing = signing;
        keys = match signing {
            Signing::PublicKey => rotated(keys, fresh),
            Signing::Certificate => pinned_beside(keys, fresh),
        };
    }
    let keeps_older = (signed_before, settings.signing) == (Signing::PublicKey, Signing::PublicKey);
    if args.drop_older_keys || !keeps_older {
        // Leaves none behind.
        secrets.older_private_key.zeroize();
        keys.older_alipay_public_key = None;
    }
    if let Some(source) = &args.app_auth_token_file {
        let token = inputs.secret("--app-auth-token-file", source)?;
        secrets.app_auth_token = Some(token.expose_secret().to_owned());
    }
    if args.seller_id.is_some() {
        settings.seller_id = args.seller_id;
    }
    if let Some(url) = args.gateway_url {
        settings.gateway_url = url;
    }
    args.extras.write_into(&mut settings.extras);
    write_parts(desk, &account, parts(&settings, &keys, &secrets)?).await
}

/// The same key again, in whatever form, changes nothing: the one before must not be lost by running the command twice.
fn rotate_private_key(secrets: &mut AlipaySecrets, fresh: &SecretString) {
    let public = |text: &str| RsaSigner::parse(text).ok().map(|signer| public_of(&signer).clone());
    let known = public(&secrets.private_key);
    if known.is_none() || known != public(fresh.expose_secret()) {
        let before = std::mem::replace(&mut secrets.private_key, fresh.expose_secret().to_owned());
        secrets.older_private_key.zeroize();
        secrets.older_private_key = Some(before);
    }
}

/// As [`rotate_private_key`].
fn rotated(known: AlipayPublicKeys, fresh: AlipayPublicKeys) -> AlipayPublicKeys {
    let read = |keys: &AlipayPublicKeys| RsaVerifier::parse(keys.alipay_public_key.as_deref()?).ok();
    let before = read(&known);
    if before.is_some() && before == read(&fresh) {
        return known;
    }
    AlipayPublicKeys { older_alipay_public_key: known.alipay_public_key, ..fresh }
}

fn pinned_beside(known: AlipayPublicKeys, mut fresh: AlipayPublicKeys) -> AlipayPublicKeys {
    for certificate in known.alipay_certs {
        if !fresh.alipay_certs.contains(&certificate) {
            fresh.alipay_certs.push(certificate);
        }
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::test_vectors;

    fn key(name: &str) -> String {
        test_vectors::read(&format!("alipay/keys/derived/{name}.pem"))
    }

    #[test]
    fn a_private_key_makes_way_for_a_new_one_and_comes_back() {
        let mut secrets =
            AlipaySecrets { private_key: key("app_private_pkcs8"), older_private_key: None, app_auth_token: None };
        let mut rotate = |name: &str| {
            rotate_private_key(&mut secrets, &SecretString::from(key(name)));
            (secrets.private_key.clone(), secrets.older_private_key.clone())
        };
        // The same key in its other form.
        assert_eq!(rotate("app_private_pkcs1"), (key("app_private_pkcs8"), None));
        for _ in 0..2 {
            assert_eq!(rotate("other_private_pkcs8"), (key("other_private_pkcs8"), Some(key("app_private_pkcs8"))));
        }
        assert_eq!(rotate("app_private_pkcs1"), (key("app_private_pkcs1"), Some(key("other_private_pkcs8"))));
    }

    #[test]
    fn alipays_public_key_makes_way_for_a_new_one() {
        let given = |name: &str| AlipayPublicKeys { alipay_public_key: Some(key(name)), ..AlipayPublicKeys::default() };
        let once = rotated(given("alipay_public"), given("other_public"));
        assert_eq!(once.alipay_public_key, Some(key("other_public")));
        assert_eq!(once.older_alipay_public_key, Some(key("alipay_public")));
        assert_eq!(rotated(once.clone(), given("other_public")), once);
        // From certificate mode there is none before.
        assert_eq!(rotated(AlipayPublicKeys::default(), given("other_public")), given("other_public"));
    }
}
