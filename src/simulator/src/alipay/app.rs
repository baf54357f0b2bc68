//! Applications, users and what the console hands out for them.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::cert::{self, Authority};
use super::sign;
use crate::keys::{self, PublicKey, RsaKey, shared_number};

/// How an application and Alipay know each other's keys. One app works in one mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Bare public keys, exchanged in the console.
    #[default]
    PublicKey,
    /// Certificates; requests name their SNs, answers `alipay_cert_sn`.
    Certificate,
}

/// Which names of a user an application is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdMode {
    /// `user_id` only: applications made before 2023.
    UserId,
    /// `open_id` only: what new applications get.
    #[default]
    OpenId,
    /// Both, during a transition.
    Both,
}

impl IdMode {
    pub(crate) fn user_id(self) -> bool {
        matches!(self, Self::UserId | Self::Both)
    }

    pub(crate) fn open_id(self) -> bool {
        matches!(self, Self::OpenId | Self::Both)
    }
}

/// Whose application it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A merchant's own: it calls for itself.
    #[default]
    Own,
    /// A service provider's: it calls for merchants, with their `app_auth_token`.
    ThirdParty,
}

/// How the application's private key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// As the Java tool writes it.
    #[default]
    Pkcs8,
    /// As the tool for other languages writes it.
    Pkcs1,
}

/// What a new application shall be like; the default is a merchant's own mini-program as made today.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AppOptions {
    pub mode: Mode,
    pub id_mode: IdMode,
    pub kind: Kind,
    pub key_format: KeyFormat,
    /// 2088…, 16 digits; a new one when absent. Two apps of one merchant share theirs.
    pub seller_id: Option<String>,
    /// The application is a mini-program bound to its own payment contract.
    pub bound_to_itself: bool,
    /// The payment product is signed; otherwise trade calls are `isv.insufficient-isv-permissions`.
    pub may_collect: bool,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            id_mode: IdMode::default(),
            kind: Kind::default(),
            key_format: KeyFormat::default(),
            seller_id: None,
            bound_to_itself: true,
            may_collect: true,
        }
    }
}

/// An application as its owner knows it: what the console shows and offers for download.
///
/// Certificates are there in certificate mode only. `Debug` hides the private key.
#[derive(Clone, Serialize, Deserialize)]
pub struct AlipayApp {
    /// 16 digits.
    pub app_id: String,
    pub mode: Mode,
    pub id_mode: IdMode,
    pub kind: Kind,
    /// In armour, PKCS#8 or PKCS#1 as asked for.
    pub app_private_key_pem: String,
    /// What the owner uploaded.
    pub app_public_key_pem: String,
    /// Alipay's key for this app as one line of base64, as the console shows it.
    pub alipay_public_key: String,
    pub alipay_public_key_pem: String,
    /// The application's certificate, alone.
    pub app_cert_pem: Option<String>,
    /// Alipay's certificate and the intermediate behind it.
    pub alipay_cert_pem: Option<String>,
    /// SM2, RSA and ECDSA roots in one file; only the RSA one counts for `alipay_root_cert_sn`.
    pub alipay_root_cert_pem: Option<String>,
    pub app_cert_sn: Option<String>,
    pub alipay_cert_sn: Option<String>,
    pub alipay_root_cert_sn: Option<String>,
    /// Who is paid: the owner's 2088… number.
    pub seller_id: String,
}

impl std::fmt::Debug for AlipayApp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlipayApp")
            .field("app_id", &self.app_id)
            .field("mode", &self.mode)
            .field("id_mode", &self.id_mode)
            .field("kind", &self.kind)
            .field("seller_id", &self.seller_id)
            .finish_non_exhaustive()
    }
}

/// A person with an Alipay wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlipayUser {
    /// 2088…, 16 digits; the same for every application.
    pub user_id: String,
    /// Masked, as answers and notices show it.
    pub logon_id: String,
}

/// An application as Alipay keeps it.
#[derive(Clone)]
pub(crate) struct App {
    pub app_id: String,
    pub mode: Mode,
    pub id_mode: IdMode,
    pub kind: Kind,
    pub seller_id: String,
    pub may_collect: bool,
    pub app_key: PublicKey,
    pub alipay_key: Arc<RsaKey>,
    pub app_cert_sn: String,
    /// Alipay's certificates for this app, newest last, with their SNs.
    pub alipay_certs: Vec<(String, String)>,
}

impl App {
    /// The SN answers carry: that of the newest certificate.
    pub fn alipay_cert_sn(&self) -> &str {
        self.alipay_certs.last().map_or("", |(sn, _)| sn)
    }
}

/// Makes an application: what Alipay keeps and what the owner is handed.
pub(crate) fn enrol(app_id: String, seller_id: String, nth: usize, options: &AppOptions) -> (App, AlipayApp) {
    let app_key = key(shared_number::ALIPAY_APPS + nth % shared_number::TURNS);
    let alipay_key = key(shared_number::ALIPAY + nth % shared_number::TURNS);
    let mut certs = None;
    if options.mode == Mode::Certificate {
        let app_cert = authority().app_cert(&app_key, &app_id, &seller_id);
        certs = Some((app_cert, authority().alipay_cert(&alipay_key)));
    }
    let sn = |pem: &String| cert::cert_sn(pem).expect("a certificate just made can be read");
    let app_cert_sn = certs.as_ref().map(|(app, _)| sn(app));
    let alipay_cert_sn = certs.as_ref().map(|(_, alipay)| sn(alipay));

    let handed = AlipayApp {
        app_id: app_id.clone(),
        mode: options.mode,
        id_mode: options.id_mode,
        kind: options.kind,
        app_private_key_pem: match options.key_format {
            KeyFormat::Pkcs8 => app_key.private_key_pem(),
            KeyFormat::Pkcs1 => sign::pkcs1_pem(&app_key),
        },
        app_public_key_pem: app_key.public_key_pem(),
        alipay_public_key: alipay_key.public_key_base64(),
        alipay_public_key_pem: alipay_key.public_key_pem(),
        app_cert_pem: certs.as_ref().map(|(app, _)| app.clone()),
        alipay_cert_pem: certs.as_ref().map(|(_, alipay)| alipay.clone()),
        alipay_root_cert_pem: certs.as_ref().map(|_| authority().root_file().to_owned()),
        app_cert_sn: app_cert_sn.clone(),
        alipay_cert_sn: alipay_cert_sn.clone(),
        alipay_root_cert_sn: certs.as_ref().map(|_| root_sn().to_owned()),
        seller_id: seller_id.clone(),
    };
    let kept = App {
        app_id,
        mode: options.mode,
        id_mode: options.id_mode,
        kind: options.kind,
        seller_id,
        may_collect: options.may_collect,
        app_key: app_key.public().clone(),
        alipay_key,
        app_cert_sn: app_cert_sn.unwrap_or_default(),
        alipay_certs: alipay_cert_sn.zip(certs).map(|(sn, (_, pem))| (sn, pem)).into_iter().collect(),
    };
    (kept, handed)
}

/// A successor of Alipay's certificate for an app: same key, new SN.
pub(crate) fn successor(app: &App) -> (String, String) {
    let pem = authority().alipay_cert(&app.alipay_key);
    let sn = cert::cert_sn(&pem).expect("a certificate just made can be read");
    (sn, pem)
}

/// The SN of the root file.
pub(crate) fn root_sn() -> &'static str {
    static SN: OnceLock<String> = OnceLock::new();
    SN.get_or_init(|| cert::root_sn(authority().root_file()))
}

/// A key nobody was told of.
pub(crate) fn stranger() -> Arc<RsaKey> {
    key(shared_number::STRANGER)
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let [root, intermediate] = [0, 1].map(|at| key(shared_number::ALIPAY_AUTHORITY + at));
        Authority::new(&root, &intermediate)
    })
}

fn key(number: usize) -> Arc<RsaKey> {
    keys::shared(number).expect("the system's random source makes keys")
}
