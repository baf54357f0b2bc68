//! The request of gateway v2: its common parameters, the string to sign, the form that is sent.

use std::collections::BTreeMap;

use crate::{domain::time::Timestamp, keys::rsa::RsaSigner};

/// The value of `charset`, spelled the same where it is signed and where it is sent: `UTF-8` signed and `utf-8` sent fails
/// (`alipay.md` §1.3).
pub const CHARSET: &str = "utf-8";

/// The parameters of one request, sorted by name in ascending bytes as the signature wants them.
///
/// All of them travel in the body, none in the URL: an auth code or `app_auth_token` in a URL ends up in access logs. The
/// official SDKs put everything but `biz_content` into the query; both work (`alipay.md` §1.3).
pub struct Request {
    params: BTreeMap<String, String>,
}

impl Request {
    /// The common parameters; `now` is our own clock, written in GMT+8.
    pub fn new(app_id: &str, method: &str, now: Timestamp) -> Self {
        let mut request = Self { params: BTreeMap::new() };
        request.set("app_id", app_id);
        request.set("method", method);
        request.set("format", "JSON");
        request.set("charset", CHARSET);
        request.set("sign_type", "RSA2");
        request.set("timestamp", now.china_text());
        request.set("version", "1.0");
        request
    }

    /// Sets a parameter. Empty values are left out: SDKs differ in whether they are signed, so none is ever sent.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.params.insert(name.to_owned(), value);
        }
    }

    /// `name=value` joined with `&`, values raw; `sign_type` is part of it in requests (`alipay.md` §1.2).
    pub fn string_to_sign(&self) -> String {
        let pairs: Vec<String> = self.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }

    /// The signed form body, `application/x-www-form-urlencoded`.
    pub fn into_form(mut self, signer: &RsaSigner) -> String {
        let sign = signer.sign(self.string_to_sign().as_bytes());
        self.set("sign", sign);
        form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.params).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::alipay::testing;

    #[test]
    fn every_request_vector_is_signed_and_encoded_byte_for_byte() {
        let signer = RsaSigner::parse(&testing::read("keys/derived/app_private_pkcs8.pem")).unwrap();
        let also = RsaSigner::parse(&testing::read("keys/derived/app_private_pkcs1.pem")).unwrap();
        let vectors = testing::json("request_sign.json");
        let cases = vectors["cases"].as_array().unwrap();
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let mut request = Request { params: BTreeMap::new() };
            for (key, value) in case["params"].as_object().unwrap() {
                request.set(key, value.as_str().unwrap());
            }
            let text = request.string_to_sign();
            assert_eq!(text, case["string_to_sign"].as_str().unwrap(), "{name}");
            assert_eq!(signer.sign(text.as_bytes()), case["sign"].as_str().unwrap(), "{name}");
            assert_eq!(also.sign(text.as_bytes()), case["sign"].as_str().unwrap(), "{name}");
            assert_eq!(request.into_form(&signer), case["all_in_body"].as_str().unwrap(), "{name}");
        }
        assert_eq!(cases.len(), 6);
    }

    #[test]
    fn the_common_parameters_are_those_of_the_vectors() {
        let mut request = Request::new("2021000000000001", "alipay.trade.query", Timestamp::from_secs(1_772_337_600));
        request.set("biz_content", r#"{"out_trade_no":"T20260301000001"}"#);
        assert_eq!(
            request.string_to_sign(),
            testing::json("request_sign.json")["cases"][0]["string_to_sign"].as_str().unwrap()
        );
    }
}
