//! The plain scheme that opens a mini-program from outside WeChat (`wechat-pay.md` §12.2): no server call, no expiry.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::domain::account::MiniProgram;

/// The longest query, in characters. Counted as it is sent, encoded, which is the stricter reading of the page.
pub const QUERY_MAX: usize = 512;

/// Unreserved characters stay; so a value is encoded exactly once.
const VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A page's path keeps its slashes.
const PATH: &AsciiSet = &VALUE.remove(b'/');
/// What the page may receive besides letters and digits.
const QUERY_ALLOWED: &[u8] = b"!#$&'()*+,/:;=?@-._~%`";

/// A link as merchants get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WechatLink {
    /// What the page receives, raw.
    pub query: String,
    pub scheme: String,
}

/// Why there is no link: settings of the mini-program, in words for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the query has {0} characters when encoded; {QUERY_MAX} fit into a plain scheme")]
    Long(usize),
    #[error("the query holds a character that WeChat does not pass on")]
    Character,
    #[error("{0} is no env_version: release, trial or develop")]
    EnvVersion(String),
    #[error("the path must be a page without a leading slash and without a query")]
    Path,
}

/// Fills the mini-program's template and builds the scheme. Pure.
///
/// Errors: [`LinkError`].
pub fn plain_scheme(program: &MiniProgram, pay_info: &str, interface_url: &str) -> Result<WechatLink, LinkError> {
    let query = program.query_template.replace("{payInfo}", pay_info).replace("{url}", interface_url);
    if !query.bytes().all(|byte| byte.is_ascii_alphanumeric() || QUERY_ALLOWED.contains(&byte)) {
        return Err(LinkError::Character);
    }
    let encoded = utf8_percent_encode(&query, VALUE).to_string();
    if encoded.len() > QUERY_MAX {
        return Err(LinkError::Long(encoded.len()));
    }
    if program.path.is_empty() || program.path.starts_with('/') || program.path.contains(['?', '#', '&']) {
        return Err(LinkError::Path);
    }
    if !["release", "trial", "develop"].contains(&program.env_version.as_str()) {
        return Err(LinkError::EnvVersion(program.env_version.clone()));
    }
    let path = utf8_percent_encode(&program.path, PATH);
    let scheme = format!(
        "weixin://dl/business/?appid={}&path={path}&query={encoded}&env_version={}",
        program.app_id, program.env_version
    );
    Ok(WechatLink { query, scheme })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        id::{AccountId, AppId, MerchantId, MiniProgramId},
        wallet::Wallet,
    };

    fn program() -> MiniProgram {
        MiniProgram {
            id: MiniProgramId(1),
            merchant: MerchantId(1),
            account: AccountId(1),
            wallet: Wallet::WechatPay,
            app_id: AppId::parse("wxd678efh567hg6787").unwrap(),
            original_id: None,
            path: "pages/pay/index".into(),
            query_template: MiniProgram::DEFAULT_QUERY_TEMPLATE.into(),
            env_version: "release".into(),
            takes_code: true,
        }
    }

    #[test]
    fn the_whole_query_is_encoded_once() {
        let link = plain_scheme(&program(), "v1.p1.AA_-.BB", "https://pay.example.com/pay").unwrap();
        assert_eq!(link.query, "payInfo=v1.p1.AA_-.BB&url=https://pay.example.com/pay");
        assert_eq!(
            link.scheme,
            "weixin://dl/business/?appid=wxd678efh567hg6787&path=pages/pay/index\
             &query=payInfo%3Dv1.p1.AA_-.BB%26url%3Dhttps%3A%2F%2Fpay.example.com%2Fpay&env_version=release"
        );
        let short = MiniProgram { query_template: "a=1&b=2".into(), ..program() };
        assert!(plain_scheme(&short, "", "").unwrap().scheme.contains("query=a%3D1%26b%3D2&"));
    }

    #[test]
    fn what_wechat_would_refuse_is_refused_here() {
        let with = |change: fn(&mut MiniProgram)| {
            let mut program = program();
            change(&mut program);
            plain_scheme(&program, "v1.p1.AA.BB", "https://pay.example.com/pay").unwrap_err()
        };
        assert_eq!(with(|p| p.query_template = "订单={payInfo}".into()), LinkError::Character);
        assert_eq!(with(|p| p.query_template = "a b".into()), LinkError::Character);
        assert_eq!(with(|p| p.query_template = "x".repeat(513)), LinkError::Long(513));
        assert_eq!(with(|p| p.path = "/pages/pay".into()), LinkError::Path);
        assert_eq!(with(|p| p.path = "pages/pay?a=1".into()), LinkError::Path);
        assert_eq!(with(|p| p.env_version = "prod".into()), LinkError::EnvVersion("prod".into()));
        let most = MiniProgram { query_template: "x".repeat(512), ..program() };
        assert!(plain_scheme(&most, "", "").is_ok());
    }
}
