//! Error answers: HTTP status, code, message, detail, and the internal code at the end of `Request-ID`.

use serde_json::{Value, json};

/// A refusal as `/v3` tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub detail: Option<Value>,
    pub internal: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: u16, code: &str, message: &str, internal: &'static str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned(), detail: None, internal }
    }

    /// 400 `PARAM_ERROR` about one field; `pointer` as in `/body/payer/openid`.
    pub(crate) fn parameter(pointer: &str, issue: &str) -> Self {
        let mut parts = pointer.trim_start_matches('/').splitn(2, '/');
        let location = parts.next().unwrap_or_default();
        let field = parts.next().map(|field| format!("/{field}")).unwrap_or_default();
        let mut refusal = Self::new(400, "PARAM_ERROR", &format!("参数错误: {pointer} {issue}"), "268435461");
        refusal.detail = Some(json!({ "field": pointer, "value": field, "issue": issue, "location": location }));
        refusal
    }

    pub(crate) fn internal(mut self, internal: &'static str) -> Self {
        self.internal = internal;
        self
    }

    /// 401 `SIGN_ERROR`.
    pub(crate) fn sign(issue: &str) -> Self {
        let mut refusal = Self::new(401, "SIGN_ERROR", "签名错误", "268443699");
        refusal.detail = Some(json!({ "issue": issue, "location": "authorization" }));
        refusal
    }

    pub(crate) fn order_not_exist() -> Self {
        Self::new(404, "ORDER_NOT_EXIST", "订单不存在", "268512771")
    }

    pub(crate) fn order_closed() -> Self {
        Self::new(400, "ORDER_CLOSED", "订单已关闭", "268447914")
    }

    /// Body of the answer.
    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "code": self.code, "message": self.message });
        if let Some(detail) = &self.detail {
            body["detail"] = detail.clone();
        }
        body
    }
}
