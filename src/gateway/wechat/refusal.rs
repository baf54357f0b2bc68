//! WeChat Pay's error codes, and what each of them asks for (`wechat-pay.md` §10). The one table of this room.
//!
//! Both spellings of a code occur (`ORDER_PAID`, `ORDERPAID`), so they are compared without `_`. A code that no table lists is
//! never taken as a definite refusal: the query decides.

use std::{net::IpAddr, time::Duration};

use super::wire::ErrorBody;
use crate::{
    domain::wallet::Wallet,
    gateway::{BillError, CloseAnswer, GatewayError, RefundFound, Refused, TradeState},
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
    /// of letters and digits are masked, and addresses.
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
        self.after_a_copy(error, repeated)
    }

    /// A refused refund (§8.4, §10.2). `repeated` as in [`Refusal::of_prepay`].
    pub fn of_refund(&self, repeated: bool) -> GatewayError {
        let error = match self.normal().as_str() {
            // Our frozen bytes say the same for ever.
            "PARAMERROR" | "INVALIDREQTOOLONG" => self.refused(Refused::Order),
            // The payer's account takes no money back: settled by hand.
            "USERACCOUNTABNORMAL" => self.refused(Refused::Order),
            "NOTENOUGH" => self.refused(Refused::NotEnough),
            // A paid number that is not found belongs to another merchant number than ours.
            "REQUESTBLOCKED" | "ORDERNOTEXIST" | "ORDERNOTEXISTS" | "RESOURCENOTEXISTS" | "RESOURCENOTEXIST" => {
                self.refused(Refused::Configuration)
            }
            // Throttled, and perhaps accepted: asked about, and sent again under the same number a minute later.
            "FREQUENCYLIMITED" | "RATELIMITEXCEEDED" | "RATELIMITED" => self.unknown(),
            _ if self.status == 429 => self.unknown(),
            // Many causes: the rest is smaller, 365 days are over, 50 refunds were made, another amount under this number. With
            // REFUND_FEE_INVALID, TRANSACTION_NOT_SUPPORT_REFUND, OUT_REFUND_NO_USED and RESOURCE_ALREADY_EXISTS "permanent after a query".
            "INVALIDREQUEST" => self.ask_first(),
            "OUTREFUNDNOUSED" | "RESOURCEALREADYEXISTS" if self.status < 500 => {
                GatewayError::AskFirst { wallet: WALLET, code: self.code.clone(), taken: true }
            }
            _ => match self.of_any_call() {
                Some(error) => error,
                None if self.status < 500 && !self.code.starts_with("HTTP_") => self.ask_first(),
                None => self.unknown(),
            },
        };
        match self.after_a_copy(error, repeated) {
            // A number's own question settles a doubtful prepay; a doubtful refund may be executed and not be found yet.
            GatewayError::AskFirst { .. } if repeated => self.of_a_copy(),
            error => error,
        }
    }

    /// A refused question about a refund: it says nothing about the refund, except that it is not known.
    pub fn of_refund_query(&self) -> Result<RefundFound, GatewayError> {
        match self.normal().as_str() {
            "RESOURCENOTEXISTS" | "RESOURCENOTEXIST" if self.status == 404 => Ok(RefundFound::NotExist),
            // Of a newer list, its status unconfirmed (§8.4).
            "REFUNDNOTEXIST" | "REFUNDNOTEXISTS" if (400..500).contains(&self.status) => Ok(RefundFound::NotExist),
            "PARAMERROR" | "INVALIDREQUEST" => Err(self.refused(Refused::Configuration)),
            _ => Err(self.of_any_call().unwrap_or_else(|| self.unknown())),
        }
    }

    /// A refused question for a bill (§9.1).
    pub fn of_bill(&self) -> BillError {
        match self.normal().as_str() {
            "STATEMENTCREATING" | "BILLCREATING" | "FILENOTEXIST" => BillError::NotReady,
            "NOSTATEMENTEXIST" | "NOBILLEXIST" | "BILLNOTEXIST" => BillError::None,
            "PARAMERROR" | "INVALIDREQUEST" => self.refused(Refused::Configuration).into(),
            _ => self.of_any_call().unwrap_or_else(|| self.unknown()).into(),
        }
    }

    /// A refusal of the second copy decides nothing about the first, which may have arrived.
    fn after_a_copy(&self, error: GatewayError, repeated: bool) -> GatewayError {
        match error {
            GatewayError::Refused { .. } | GatewayError::Busy { .. } if repeated => self.of_a_copy(),
            error => error,
        }
    }

    fn of_a_copy(&self) -> GatewayError {
        let cause = format!("the main host did not answer, the backup answered {}", self.code);
        GatewayError::Unknown { wallet: WALLET, cause }
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
        GatewayError::AskFirst { wallet: WALLET, code: self.code.clone(), taken: false }
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
    let text = &without_addresses(text);
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

/// A refusal may quote `payer_client_ip`.
fn without_addresses(text: &str) -> String {
    let of_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(of_address) {
        let (before, found) = rest.split_at(at);
        let (word, after) = found.split_at(found.find(|c: char| !of_address(c)).unwrap_or(found.len()));
        out.push_str(before);
        // A full stop or a colon beside it is the sentence's.
        let is_address = [word, word.trim_matches(['.', ':'])].iter().any(|word| word.parse::<IpAddr>().is_ok());
        out.push_str(if is_address { "***" } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn printable(text: &str, max: usize) -> String {
    text.chars().take(max).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
