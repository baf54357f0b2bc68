//! A merchant's contract with a wallet, and the mini-programs that pay through it.

use super::{
    id::{AccountId, AppId, MerchantId, MiniProgramId},
    wallet::Wallet,
};

/// A channel account: what everyone may know of it. Its secrets are sealed in the store and known to its gateway alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelAccount {
    pub id: AccountId,
    pub merchant: MerchantId,
    pub wallet: Wallet,
    /// WeChat: the mchid (provider mode: sp_mchid). Alipay: the calling APPID.
    pub number: String,
    pub enabled: bool,
}

/// A mini-program in which a merchant's orders are paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MiniProgram {
    pub id: MiniProgramId,
    pub merchant: MerchantId,
    pub account: AccountId,
    pub wallet: Wallet,
    pub app_id: AppId,
    /// WeChat's `gh_…`, told in the links.
    pub original_id: Option<String>,
    /// The page that pays, without a leading slash or query: `pages/pay/index`.
    pub path: String,
    /// How the page takes its parameters; `{payInfo}` and `{url}` are replaced.
    pub query_template: String,
    /// WeChat's plain scheme: `release`, `trial` or `develop`.
    pub env_version: String,
    /// Whether a code can be exchanged here; without it only `identifyId` is taken.
    pub takes_code: bool,
}

impl MiniProgram {
    pub const DEFAULT_QUERY_TEMPLATE: &'static str = "payInfo={payInfo}&url={url}";
}
