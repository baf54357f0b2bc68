//! Whose call it is: the merchant's request signature (`merchant-api.md`, signature of a request).

use std::net::IpAddr;

use poem::{Request, http::HeaderMap};

use super::{Front, error::ApiError, keyring::MerchantEntry, request};
use crate::{
    domain::{
        id::{CustomerNo, KeyId},
        time::Timestamp,
    },
    keys::mac::sha256_hex,
};
use std::{sync::Arc, time::Duration};

/// How far the merchant's clock may be off, either way.
const WINDOW: Duration = Duration::from_secs(300);
/// A nonce is remembered for longer than any request that carries it could still be in the window.
const NONCE_KEPT: Duration = Duration::from_secs(11 * 60);
/// Unknown merchant, unknown key and wrong signature are told alike: a forger learns nothing by trying names.
const NOT_SIGNED: &str = "商户号、密钥编号或签名不正确，请检查待签名串、密钥与 X-Key-Id";

/// A call whose signature was checked.
pub struct Authentic {
    pub merchant: Arc<MerchantEntry>,
    pub body: Vec<u8>,
}

/// Reads and checks a call. Errors: [`ApiError`], 401 for everything about the signature.
pub async fn authentic(front: &Front, request: &mut Request, body_max: usize) -> Result<Authentic, ApiError> {
    let claim = Claim::read(request.headers())?;
    let now = front.clock.now();
    claim.check_window(now)?;
    let target = request.original_uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let method = request.method().as_str().to_owned();
    let ip = request::client_ip(request, &front.settings.trusted_proxies);
    let body = request::body(request, body_max, front.settings.body_timeout)
        .await
        .map_err(|why| ApiError::Invalid(format!("请求体无法读取（{why:?}），最大 {body_max} 字节")))?;

    let text = signed_text(&method, &target, &claim, &body);
    let merchant = front.keyring.load().merchant(&claim.customer_no).filter(|merchant| {
        merchant.keys.get(&claim.key_id).is_some_and(|key| key.verify(text.as_bytes(), &claim.signature).is_ok())
    });
    let Some(merchant) = merchant else {
        // Whoever names a merchant without its key uses up a budget that the merchant does not need; a name that nobody has is
        // answered alike, or the answers would tell which ones exist.
        front.admission.admit_unsigned(&claim.customer_no).map_err(|_| ApiError::TooOften)?;
        return Err(ApiError::Unauthorized(NOT_SIGNED));
    };

    // Only after the signature: nobody else may use up a merchant's calls and nonces, or learn its address list.
    front.admission.admit_call(merchant.id).map_err(|_| ApiError::TooOften)?;
    if !allowed(&merchant.ip_list, ip) {
        return Err(ApiError::Forbidden("来源 IP 不在白名单内"));
    }
    if !front.store.take_nonce(merchant.id, &claim.nonce, now.plus(NONCE_KEPT)).await? {
        return Err(ApiError::Unauthorized("X-Nonce 已被使用，请为每次请求（包括重试）生成新的随机串"));
    }
    Ok(Authentic { merchant, body })
}

fn allowed(list: &[IpAddr], ip: Option<IpAddr>) -> bool {
    list.is_empty() || ip.is_some_and(|ip| list.contains(&ip))
}

/// What a caller says of itself.
struct Claim {
    customer_no: CustomerNo,
    key_id: KeyId,
    timestamp: String,
    nonce: String,
    signature: String,
}

impl Claim {
    fn read(headers: &HeaderMap) -> Result<Self, ApiError> {
        let one = |name: &'static str, missing: &'static str| {
            let mut values = headers.get_all(name).iter();
            match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
                (Some(value), None) => Ok(value.trim().to_owned()),
                _ => Err(ApiError::Unauthorized(missing)),
            }
        };
        let customer_no = one("x-customer-no", "缺少请求头 X-Customer-No 或出现多次")?;
        let key_id = one("x-key-id", "缺少请求头 X-Key-Id 或出现多次")?;
        let nonce = one("x-nonce", "缺少请求头 X-Nonce 或出现多次")?;
        if !(16..=32).contains(&nonce.len()) || !nonce.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ApiError::Unauthorized("X-Nonce 须为 16 至 32 个可见 ASCII 字符"));
        }
        Ok(Self {
            customer_no: CustomerNo::parse(customer_no).map_err(|_| ApiError::Unauthorized(NOT_SIGNED))?,
            key_id: KeyId::parse(key_id).map_err(|_| ApiError::Unauthorized(NOT_SIGNED))?,
            timestamp: one("x-timestamp", "缺少请求头 X-Timestamp 或出现多次")?,
            nonce,
            signature: one("x-signature", "缺少请求头 X-Signature 或出现多次")?,
        })
    }

    fn check_window(&self, now: Timestamp) -> Result<(), ApiError> {
        let refused = ApiError::Unauthorized("X-Timestamp 须为秒级时间戳，且与服务器时间相差不超过 300 秒");
        let digits = self.timestamp.bytes().all(|b| b.is_ascii_digit());
        let Some(secs) = digits.then(|| self.timestamp.parse::<i64>().ok()).flatten() else { return Err(refused) };
        let off = now.secs().abs_diff(secs);
        if off > WINDOW.as_secs() { Err(refused) } else { Ok(()) }
    }
}

/// Five lines, each ended by LF: method, path with query as sent, timestamp, nonce, hex SHA-256 of the raw body.
fn signed_text(method: &str, target: &str, claim: &Claim, body: &[u8]) -> String {
    format!("{method}\n{target}\n{}\n{}\n{}\n", claim.timestamp, claim.nonce, sha256_hex(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signed_text_is_five_ended_lines() {
        let claim = Claim {
            customer_no: CustomerNo::parse("C1").unwrap(),
            key_id: KeyId::parse("k1").unwrap(),
            timestamp: "1772337600".into(),
            nonce: "abcdefghijklmnop".into(),
            signature: String::new(),
        };
        assert_eq!(
            signed_text("GET", "/api/v1/orders/A1?sync=true", &claim, b""),
            "GET\n/api/v1/orders/A1?sync=true\n1772337600\nabcdefghijklmnop\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
        );
    }

    #[test]
    fn the_window_is_300_seconds_either_way() {
        let at = |secs: &str| Claim {
            customer_no: CustomerNo::parse("C1").unwrap(),
            key_id: KeyId::parse("k1").unwrap(),
            timestamp: secs.into(),
            nonce: String::new(),
            signature: String::new(),
        };
        let now = Timestamp::from_secs(10_000);
        for fine in ["9700", "10300", "10000"] {
            assert!(at(fine).check_window(now).is_ok(), "{fine}");
        }
        for off in ["9699", "10301", "", "-1", "1e4", "10000.0", "99999999999999999999"] {
            assert!(at(off).check_window(now).is_err(), "{off}");
        }
    }
}
