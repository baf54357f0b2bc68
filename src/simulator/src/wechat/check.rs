//! Who sends a request: the `Authorization` header, over the raw bytes.

use std::sync::Arc;

use super::Wechat;
use super::refusal::Refusal;
use super::seal;
use super::state::Merchant;
use crate::wire::WireRequest;

const SCHEME: &str = "WECHATPAY2-SHA256-RSA2048 ";
/// How far a merchant's clock may be off.
const WINDOW_S: i64 = 300;

/// The five items of the header.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Authorization<'a> {
    pub mchid: &'a str,
    pub nonce: &'a str,
    pub timestamp: &'a str,
    pub serial_no: &'a str,
    pub signature: &'a str,
}

impl<'a> Authorization<'a> {
    /// Reads the header value; `None` unless it has the scheme, one blank and the five items once each.
    pub(crate) fn read(header: &'a str) -> Option<Self> {
        let items = header.strip_prefix(SCHEME)?;
        let mut read = Self::default();
        let mut count = 0;
        for item in items.split(',') {
            let (key, value) = item.split_once('=')?;
            let value = value.strip_prefix('"')?.strip_suffix('"')?;
            let place = match key {
                "mchid" => &mut read.mchid,
                "nonce_str" => &mut read.nonce,
                "timestamp" => &mut read.timestamp,
                "serial_no" => &mut read.serial_no,
                "signature" => &mut read.signature,
                _ => return None,
            };
            if !place.is_empty() || value.is_empty() {
                return None;
            }
            *place = value;
            count += 1;
        }
        (count == 5).then_some(read)
    }
}

impl Wechat {
    /// The merchant who signed a request.
    pub(crate) fn check(&self, request: &WireRequest) -> Result<Arc<Merchant>, Refusal> {
        for name in ["accept", "user-agent"] {
            if request.header(name).is_none_or(str::is_empty) {
                let issue = format!("Http头缺少{}", if name == "accept" { "Accept" } else { "User-Agent" });
                return Err(Refusal::new(400, "PARAM_ERROR", &issue, "268435461"));
            }
        }
        let header = request.header("authorization").ok_or_else(|| Refusal::sign("Http头Authorization值为空"))?;
        let authorization =
            Authorization::read(header).ok_or_else(|| Refusal::sign("Http头Authorization值格式错误"))?;
        let merchant = self.merchant(authorization.mchid).ok_or_else(|| Refusal::sign("商户号不存在"))?;
        let certificate = merchant
            .certificates
            .iter()
            .find(|certificate| certificate.serial_no == authorization.serial_no)
            .ok_or_else(|| Refusal::sign("商户证书序列号有误"))?;
        let timestamp: i64 = authorization.timestamp.parse().map_err(|_| Refusal::sign("时间戳格式错误"))?;
        if (self.ground.clock.now_s() - timestamp).abs() > WINDOW_S {
            return Err(Refusal::sign("时间戳已过期"));
        }
        let message = seal::request_message(
            request.method.as_str(),
            &request.target(),
            authorization.timestamp,
            authorization.nonce,
            &request.body,
        );
        if !certificate.public.verifies(&message, authorization.signature) {
            return Err(Refusal::sign("签名验证失败"));
        }
        Ok(merchant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_header_is_read() {
        let whole = r#"WECHATPAY2-SHA256-RSA2048 mchid="1",nonce_str="2",timestamp="3",serial_no="4",signature="5=""#;
        let read = Authorization::read(whole).expect("reads");
        assert_eq!(read, Authorization { mchid: "1", nonce: "2", timestamp: "3", serial_no: "4", signature: "5=" });
        for wrong in [
            whole.replace("2048 ", "2048  "),
            whole.replace("SHA256", "SM2"),
            whole.replace(r#",serial_no="4""#, ""),
            whole.replace(r#""4""#, r#""""#),
            whole.replace("nonce_str", "mchid"),
            whole.replace(r#""3""#, "3"),
            whole.replace(",", ", "),
        ] {
            assert_eq!(Authorization::read(&wrong), None, "{wrong}");
        }
    }
}
