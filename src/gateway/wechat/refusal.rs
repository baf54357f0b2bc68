//! WeChat Pay's error codes, and what each of them asks for (`wechat-pay.md` §10). The one table of this room.
//!
//! Both spellings of a code occur (`ORDER_PAID`, `ORDERPAID`), so they are compared without `_`. A code that no table lists is
//! never taken as a definite refusal: the query decides.

use std::time::Duration;

use super::wire::ErrorBody;
use crate::{
    domain::wallet::Wallet,
    gateway::{CloseAnswer, GatewayError, Refused, TradeState},
};

const WALLET: Wallet = Wallet::WechatPay;
/// "After 1 s, growing" (§10.2); the growing is the caller's.
const BUSY: Duration = Duration::from_secs(1);

/// An error answer, read.
pub(super) struct Refusal {
    status: u16,
    /// As WeChat spelled it; safe to log.
    code: String,
    /// `detail.field`, a JSON pointer.
    field: String,
}

impl Refusal {
    /// What is no error body of WeChat Pay (a page of a proxy, an empty body) gives `HTTP_<status>` as its code.
    pub fn read(status: u16, body: &[u8]) -> Self {
        let read: Option<ErrorBody> = serde_json::from_slice(body).ok();
        let code = read.as_ref().map(|body| body.code.as_str()).filter(|code| is_code(code));
        let field = read.as_ref().and_then(|body| detail(body, "field")).unwrap_or_default().to_owned();
        Self { status, code: code.map_or_else(|| format!("HTTP_{status}"), str::to_owned), field }
    }

    /// Tells operators WeChat's words once, without anything that could name a person: `detail.value` is left out, and long runs
    /// of letters and digits are masked.
    pub fn log(status: u16, body: &[u8], request_id: &str) {
        let refusal = Self::read(status, body);
        let read: Option<ErrorBody> = serde_json::from_slice(body).ok();
        let words = read.as_ref().and_then(|body| body.message.as_deref()).map(masked).unwrap_or_default();
        let issue = read.as_ref().and_then(|body| detail(body, "issue")).map(masked).unwrap_or_default();
        let Self { code, field, .. } = refusal;
        let (field, request_id) = (masked_to(&field, 100), printable(request_id, 100));
        if status == 404 {
            tracing::debug!(wallet = "wechat", status, code, field, issue, words, request_id, "answered not found");
        } else {
            tracing::warn!(wallet = "wechat", status, code, field, issue, words, request_id, "refused");
        }
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    /// `ORDER_NOT_EXIST`, `ORDERNOTEXIST`, `ORDER_NOT_EXISTS`: never created, or the pair of mchid and number is wrong.
    pub fn is_no_such_order(&self) -> bool {
        self.status == 404 && matches!(self.normal().as_str(), "ORDERNOTEXIST" | "ORDERNOTEXISTS")
    }

    /// `GET /v3/certificates` of an account that never had a platform certificate.
    pub fn is_no_certificate(&self) -> bool {
        self.status == 404 && matches!(self.normal().as_str(), "RESOURCENOTEXISTS" | "RESOURCENOTEXIST")
    }

    /// A refused prepay. `repeated`: an earlier copy may have arrived, so that nothing definite can be said.
    pub fn of_prepay(&self, repeated: bool) -> GatewayError {
        let error = match self.normal().as_str() {
            // The payer's id is not one of this appid: a fresh login.
            "OPENIDMISMATCH" => self.refused(Refused::Identity),
            "PARAMERROR" if self.field.contains("openid") => self.refused(Refused::Identity),
            "PARAMERROR" if self.field.contains("description") || self.field.contains("amount") => {
                self.refused(Refused::Order)
            }
            // Otherwise a bad parameter is ours or our settings'.
            "PARAMERROR" => self.refused(Refused::Configuration),
            "ACCOUNTERROR" | "RULELIMIT" | "INVALIDTRANSACTIONID" | "INVALIDREQTOOLONG" => self.refused(Refused::Order),
            // INVALID_REQUEST has many causes, differing parameters of a known number among them.
            "INVALIDREQUEST" | "ORDERCLOSED" | "ORDERPAID" | "OUTTRADENOUSED" | "TRADEERROR" | "ORDERNOTEXIST" => {
                self.ask_first()
            }
            _ => match self.of_any_call() {
                Some(error) => error,
                None if self.status < 500 && !self.code.starts_with("HTTP_") => self.ask_first(),
                None => self.unknown(),
            },
        };
        match error {
            GatewayError::Refused { .. } | GatewayError::Busy { .. } if repeated => GatewayError::Unknown {
                wallet: WALLET,
                cause: format!("the main host did not answer, the backup answered {}", self.code),
            },
            error => error,
        }
    }

    /// A refused query. Whatever it was, it says nothing about the number, except that it is not known.
    pub fn of_query(&self) -> Result<TradeState, GatewayError> {
        if self.is_no_such_order() {
            return Ok(TradeState::NotExist);
        }
        Err(match self.normal().as_str() {
            "PARAMERROR" | "INVALIDREQUEST" => self.refused(Refused::Configuration),
            _ => self.of_any_call().unwrap_or_else(|| self.unknown()),
        })
    }

    /// A refused close. "Paid" has no published spelling in V3 (§16): every refusal about the order's state leads to a query.
    pub fn of_close(&self) -> Result<CloseAnswer, GatewayError> {
        if self.is_no_such_order() {
            return Ok(CloseAnswer::NotExist);
        }
        match self.normal().as_str() {
            "ORDERPAID" | "ORDERCLOSED" | "INVALIDREQUEST" | "TRADEERROR" | "RULELIMIT" | "OUTTRADENOUSED" => {
                Ok(CloseAnswer::AskFirst)
            }
            "PARAMERROR" => Err(self.refused(Refused::Configuration)),
            _ => match self.of_any_call() {
                Some(error) => Err(error),
                None if self.status < 500 && !self.code.starts_with("HTTP_") => Ok(CloseAnswer::AskFirst),
                None => Err(self.unknown()),
            },
        }
    }

    /// Codes that mean the same on every call.
    pub fn of_any_call(&self) -> Option<GatewayError> {
        match self.normal().as_str() {
            "FREQUENCYLIMITED" | "RATELIMITEXCEEDED" | "RATELIMITED" => Some(self.busy()),
            "SIGNERROR" | "NOAUTH" | "MCHNOTEXISTS" | "APPIDMCHIDNOTMATCH" => {
                Some(self.refused(Refused::Configuration))
            }
            _ if self.status == 429 => Some(self.busy()),
            // SYSTEM_ERROR, BANK_ERROR, SERVICE_UNAVAILABLE and their like: it may have happened.
            _ if self.status >= 500 => Some(self.unknown()),
            _ => None,
        }
    }

    pub fn unknown(&self) -> GatewayError {
        GatewayError::Unknown { wallet: WALLET, cause: format!("answered {} {}", self.status, self.code) }
    }

    fn refused(&self, why: Refused) -> GatewayError {
        GatewayError::Refused { wallet: WALLET, code: self.code.clone(), why }
    }

    fn ask_first(&self) -> GatewayError {
        GatewayError::AskFirst { wallet: WALLET, code: self.code.clone() }
    }

    fn busy(&self) -> GatewayError {
        GatewayError::Busy { wallet: WALLET, code: self.code.clone(), retry_in: BUSY }
    }

    fn normal(&self) -> String {
        self.code.replace('_', "")
    }
}

/// A call that never left: nothing happened, and it may be tried again soon.
pub(super) fn not_sent(cause: &str) -> GatewayError {
    tracing::warn!(wallet = "wechat", cause, "cannot be reached");
    GatewayError::Busy { wallet: WALLET, code: "UNREACHABLE".into(), retry_in: BUSY }
}

fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn detail<'a>(body: &'a ErrorBody, key: &str) -> Option<&'a str> {
    body.detail.as_ref()?.get(key)?.as_str()
}

fn masked(text: &str) -> String {
    masked_to(text, 200)
}

fn masked_to(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut run = String::new();
    let flush = |run: &mut String, out: &mut String| {
        // Openids have 28 characters; nothing of 16 or more is needed to understand an error.
        out.push_str(if run.len() < 16 { run } else { "***" });
        run.clear();
    };
    for c in printable(text, max).chars() {
        if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
            run.push(c);
        } else {
            flush(&mut run, &mut out);
            out.push(c);
        }
    }
    if text.chars().count() > max && !run.is_empty() {
        // What was cut here may have been long.
        out.push_str("***");
    } else {
        flush(&mut run, &mut out);
    }
    out
}

fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        Refusal::read(status, format!(r#"{{"code":"{code}","message":"m"}}"#).as_bytes())
    }

    fn name(error: &GatewayError) -> String {
        match error {
            GatewayError::Refused { why, .. } => format!("{why:?}"),
            GatewayError::AskFirst { .. } => "AskFirst".into(),
            GatewayError::Busy { .. } => "Busy".into(),
            GatewayError::Unknown { .. } => "Unknown".into(),
        }
    }

    #[test]
    fn every_code_has_its_reaction() {
        // status, code, prepay, query, close
        let table = [
            (400, "PARAM_ERROR", "Configuration", "Configuration", "Configuration"),
            (400, "INVALID_REQUEST", "AskFirst", "Configuration", "ask"),
            (400, "APPID_MCHID_NOT_MATCH", "Configuration", "Configuration", "Configuration"),
            (400, "MCH_NOT_EXISTS", "Configuration", "Configuration", "Configuration"),
            (400, "ORDER_CLOSED", "AskFirst", "Unknown", "ask"),
            (400, "ORDERCLOSED", "AskFirst", "Unknown", "ask"),
            (400, "ORDERPAID", "AskFirst", "Unknown", "ask"),
            (400, "ORDER_PAID", "AskFirst", "Unknown", "ask"),
            (401, "SIGN_ERROR", "Configuration", "Configuration", "Configuration"),
            (403, "NO_AUTH", "Configuration", "Configuration", "Configuration"),
            (403, "NOAUTH", "Configuration", "Configuration", "Configuration"),
            (403, "OUT_TRADE_NO_USED", "AskFirst", "Unknown", "ask"),
            (403, "ACCOUNT_ERROR", "Order", "Unknown", "ask"),
            (403, "ACCOUNTERROR", "Order", "Unknown", "ask"),
            (403, "TRADE_ERROR", "AskFirst", "Unknown", "ask"),
            (403, "RULE_LIMIT", "Order", "Unknown", "ask"),
            (403, "RULELIMIT", "Order", "Unknown", "ask"),
            (404, "ORDER_NOT_EXIST", "AskFirst", "not exist", "not exist"),
            (404, "ORDERNOTEXIST", "AskFirst", "not exist", "not exist"),
            (404, "ORDER_NOT_EXISTS", "AskFirst", "not exist", "not exist"),
            (404, "RESOURCE_NOT_EXISTS", "AskFirst", "Unknown", "ask"),
            (400, "ORDER_NOT_EXIST", "AskFirst", "Unknown", "ask"),
            (429, "FREQUENCY_LIMITED", "Busy", "Busy", "Busy"),
            (429, "RATELIMIT_EXCEEDED", "Busy", "Busy", "Busy"),
            (429, "RATE_LIMITED", "Busy", "Busy", "Busy"),
            (429, "WHATEVER", "Busy", "Busy", "Busy"),
            (500, "SYSTEM_ERROR", "Unknown", "Unknown", "Unknown"),
            (500, "SYSTEMERROR", "Unknown", "Unknown", "Unknown"),
            (500, "BANK_ERROR", "Unknown", "Unknown", "Unknown"),
            (500, "OPENID_MISMATCH", "Identity", "Unknown", "Unknown"),
            (500, "INVALID_TRANSACTIONID", "Order", "Unknown", "Unknown"),
            (502, "SERVICE_UNAVAILABLE", "Unknown", "Unknown", "Unknown"),
            (503, "SERVICE_UNAVAILABLE", "Unknown", "Unknown", "Unknown"),
            (400, "INVALID_REQ_TOO_LONG", "Order", "Unknown", "ask"),
            (403, "BRAND_NEW_CODE", "AskFirst", "Unknown", "ask"),
        ];
        for (status, code, prepay, query, close) in table {
            let refusal = refusal(status, code);
            assert_eq!(name(&refusal.of_prepay(false)), prepay, "prepay {status} {code}");
            let found = match refusal.of_query() {
                Ok(TradeState::NotExist) => "not exist".into(),
                Ok(other) => format!("{other:?}"),
                Err(error) => name(&error),
            };
            assert_eq!(found, query, "query {status} {code}");
            let found = match refusal.of_close() {
                Ok(CloseAnswer::NotExist) => "not exist".into(),
                Ok(CloseAnswer::AskFirst) => "ask".into(),
                Ok(CloseAnswer::Closed) => "closed".into(),
                Err(error) => name(&error),
            };
            assert_eq!(found, close, "close {status} {code}");
            // After a copy that may have arrived nothing is definite.
            let repeated = name(&refusal.of_prepay(true));
            assert!(["AskFirst", "Unknown"].contains(&repeated.as_str()), "{code}: {repeated}");
        }
    }

    #[test]
    fn a_page_of_somebody_else_decides_nothing() {
        for (status, body) in [(403, "<html>blocked</html>"), (404, ""), (301, ""), (400, r#"{"code":7}"#), (404, "{}")]
        {
            let refusal = Refusal::read(status, body.as_bytes());
            assert_eq!(refusal.code(), format!("HTTP_{status}"));
            assert_eq!(name(&refusal.of_prepay(false)), "Unknown");
            assert_eq!(name(&refusal.of_query().unwrap_err()), "Unknown");
            assert_eq!(name(&refusal.of_close().unwrap_err()), "Unknown");
        }
        // A code is logged, so it must look like one.
        assert_eq!(refusal(400, "a\\nb").code(), "HTTP_400");
    }

    #[test]
    fn a_bad_parameter_is_told_by_its_field() {
        for (field, why) in [
            ("/payer/openid", "Identity"),
            ("/payer/sub_openid", "Identity"),
            ("/description", "Order"),
            ("/amount/total", "Order"),
            ("/mchid", "Configuration"),
        ] {
            let body = format!(r#"{{"code":"PARAM_ERROR","message":"m","detail":{{"field":"{field}","value":1}}}}"#);
            assert_eq!(name(&Refusal::read(400, body.as_bytes()).of_prepay(false)), why, "{field}");
        }
    }

    #[test]
    fn words_for_the_log_name_nobody() {
        assert_eq!(masked("openid oUpF8uMuAJO_M2pxb1Q9zNjWeS6o 不符\n"), "openid *** 不符 ");
        assert_eq!(masked("appid和mchid不匹配"), "appid和mchid不匹配");
        assert_eq!(masked(&"长".repeat(500)).chars().count(), 200);
        assert!(masked(&format!("{}oUpF8uMuAJO_M2pxb1Q9zNjWeS6o", "长".repeat(195))).ends_with("长***"));
    }
}
