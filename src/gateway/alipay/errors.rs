//! What Alipay's failure codes ask for (`alipay.md` §2.4, §4.1, §5.3, §6, §15).
//!
//! `sub_code` decides, not `code`: which code accompanies it is not stable between doc pages. Prefixes (`ACQ.`, `AQC.`,
//! `isv.`, `isp.`, `aop.`, `aop.ACQ.`) vary too, so names are compared without them.

use std::time::Duration;

use crate::{
    domain::wallet::Wallet,
    gateway::{BillError, CloseAnswer, ExchangeError, GatewayError, Refused, TradeState},
};

mod refund;

pub use refund::{of_refund, of_refund_query};

/// Where a caller goes on after a throttled call; it backs off further by itself (`alipay.md` publishes no figures).
pub const RETRY_IN: Duration = Duration::from_secs(1);

/// A failure as the wallet names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `10000`, `40004` …; empty when absent.
    pub code: String,
    /// `ACQ.…`, `isv.…`; empty when absent.
    pub sub_code: String,
}

/// A call that brought no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Surely not executed: no connection, or told to come later (HTTP 429).
    NotExecuted(String),
    /// It may have been executed: no answer, a 5xx, an answer that cannot be believed.
    Unknown(String),
    /// The wallet said no.
    Failed(Failure),
}

/// What a failure means whatever was asked.
enum Meaning<'a> {
    Unknown,
    Busy,
    /// A business refusal, its name without prefix.
    Business(&'a str),
    /// A refusal of the gateway, its name without prefix.
    Gateway(&'a str),
}

impl Failure {
    /// What is safe to log and to show to an operator: the code alone, never the message.
    pub fn name(&self) -> String {
        let name = if self.sub_code.is_empty() { &self.code } else { &self.sub_code };
        let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        if name.is_empty() { "no code".to_owned() } else { name }
    }

    /// The gateway did not take our signature. Nothing was executed: it looks at `app_id`, then at the signature, and at what is
    /// asked for only then (`alipay.md` §2.4), so the same call may be sent again under another key.
    ///
    /// The second name is in the platform's list alone (§15): a key whose days beside its successor (§1.1) are over.
    pub fn is_wrong_signature(&self) -> bool {
        matches!(self.meaning(), Meaning::Gateway("invalid-signature" | "unsupported-expired-app-key-sign"))
    }

    fn meaning(&self) -> Meaning<'_> {
        let sub = self.sub_code.as_str();
        // `isp.unknow-error` is the wallet's spelling.
        let unknown = ["SYSTEM_ERROR", "unknow-error", "unknown-error", "UNKNOWN_ERROR"];
        if self.code == "20000" || unknown.iter().any(|part| sub.contains(part)) {
            return Meaning::Unknown;
        }
        let limited = ["app-call-limited", "method-call-limited", "app-auth-invoke-limit", "RATE_LIMIT"];
        if self.code == "40005" || limited.iter().any(|part| sub.contains(part)) {
            return Meaning::Busy;
        }
        let name = sub.rsplit('.').next().unwrap_or(sub);
        let prefixed = sub.contains("ACQ.") || sub.contains("AQC.");
        // Without a prefix, capitals are a business code (`TRADE_NOT_EXIST`), lower case the gateway's.
        let bare = !sub.is_empty() && sub.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        let by_code = self.code == "40004" && !sub.starts_with("isv.") && !sub.starts_with("aop.");
        if prefixed || bare || by_code {
            Meaning::Business(name)
        } else if sub.is_empty() && !self.code.starts_with('4') && self.code != "20001" {
            // A failure that does not say what it is: nothing may be concluded from it.
            Meaning::Unknown
        } else {
            Meaning::Gateway(name)
        }
    }
}

const WALLET: Wallet = Wallet::Alipay;

fn refused(failure: &Failure, why: Refused) -> GatewayError {
    GatewayError::Refused { wallet: WALLET, code: failure.name(), why }
}

fn ask_first(failure: &Failure) -> GatewayError {
    GatewayError::AskFirst { wallet: WALLET, code: failure.name(), taken: false }
}

fn unknown(failure: &Failure) -> GatewayError {
    GatewayError::Unknown { wallet: WALLET, cause: failure.name() }
}

fn busy(failure: &Failure) -> GatewayError {
    GatewayError::Busy { wallet: WALLET, code: failure.name(), retry_in: RETRY_IN }
}

fn without_answer(error: CallError) -> Result<Failure, GatewayError> {
    match error {
        CallError::NotExecuted(code) => Err(GatewayError::Busy { wallet: WALLET, code, retry_in: RETRY_IN }),
        CallError::Unknown(cause) => Err(GatewayError::Unknown { wallet: WALLET, cause }),
        CallError::Failed(failure) => Ok(failure),
    }
}

/// A failed `alipay.trade.create`.
///
/// A code of the business system that is in no table asks for a query: the trade may have been made (`alipay.md` §2.4).
pub fn of_create(error: CallError) -> GatewayError {
    let failure = match without_answer(error) {
        Ok(failure) => failure,
        Err(error) => return error,
    };
    match failure.meaning() {
        Meaning::Unknown => unknown(&failure),
        Meaning::Busy => busy(&failure),
        // The application's open id was refused: a fresh login, not an alarm, because a phone may have sent it.
        Meaning::Gateway("invalid-openid" | "openid-error" | "app-invalid-oid") => refused(&failure, Refused::Identity),
        Meaning::Gateway(_) => refused(&failure, Refused::Configuration),
        Meaning::Business(name) => match create_refusal(name) {
            Some(why) => refused(&failure, why),
            None => ask_first(&failure),
        },
    }
}

/// §5.3, in its order. `None`: only a query can tell.
fn create_refusal(name: &str) -> Option<Refused> {
    Some(match name {
        "TRADE_HAS_SUCCESS" | "TRADE_HAS_CLOSE" | "CONTEXT_INCONSISTENT" | "TRADE_BUYER_NOT_MATCH" => return None,
        // Perhaps our bug, perhaps an identifyId of the wrong kind: a phone must not be able to raise the alarm.
        "INVALID_PARAMETER" | "ILLEGAL_ARGUMENT" => Refused::Order,
        // The send made nothing; whether the number exists from an earlier one is for the caller's count of sends.
        "NOW_TIME_AFTER_EXPIRE_TIME_ERROR" => Refused::Order,
        "EXIST_FORBIDDEN_WORD"
        | "TOTAL_FEE_EXCEED"
        | "BEYOND_PER_RECEIPT_SINGLE_RESTRICTION"
        | "SUB_GOODS_SIZE_MAX_COUNT" => Refused::Order,
        "BUYER_NOT_EXIST" => Refused::Identity,
        "BUYER_ENABLE_STATUS_FORBID"
        | "ERROR_BUYER_CERTIFY_LEVEL_LIMIT"
        | "BUYER_SELLER_EQUAL"
        | "PAYER_UNMATCHED"
        | "CUSTOMER_VALIDATE_ERROR"
        | "USER_LOGONID_DUP"
        | "NOT_SUPPORT_PAYMENT_INST"
        | "BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR"
        | "BUYER_PAYMENT_AMOUNT_MONTH_LIMIT_ERROR"
        | "BEYOND_PAY_RESTRICTION" => Refused::Order,
        "ACCESS_FORBIDDEN"
        | "PARTNER_ERROR"
        | "OPEN_ID_NOT_TINY_APP"
        | "UNBOUND_APPLICATION"
        | "PRODUCT_NOT_SUPPORT_IN_TINY_APP"
        | "BIZ_PRODUCT_NOT_ALLOWED"
        | "RISK_MERCHANT_IP_NOT_EXIST"
        | "SELLER_NOT_EXIST"
        | "INVALID_RECEIVE_ACCOUNT"
        | "SELLER_BEEN_BLOCKED"
        | "ERROR_SELLER_CERTIFY_LEVEL_LIMIT"
        | "MERCHANT_STATUS_NOT_NORMAL"
        | "MERCHANT_PERM_RECEIPT_SUSPEND_LIMIT"
        | "MERCHANT_PERM_RECEIPT_SINGLE_LIMIT"
        | "MERCHANT_PERM_RECEIPT_DAY_LIMIT"
        | "INVALID_STORE_ID"
        | "STORE_INFO_INVALID"
        | "SUB_MERCHANT_CREATE_FAIL"
        | "SUB_MERCHANT_TYPE_INVALID"
        | "SECONDARY_MERCHANT_STATUS_ERROR"
        | "SECONDARY_MERCHANT_NOT_MATCH"
        | "SECONDARY_MERCHANT_ID_BLANK"
        | "SECONDARY_MERCHANT_ID_INVALID"
        | "SECONDARY_MERCHANT_ALIPAY_ACCOUNT_INVALID"
        | "SECONDARY_MERCHANT_ISV_PUNISH_INDIRECT"
        | "SECONDARY_MERCHANT_CARD_ALIAS_NO_INVALID"
        | "PLATFORM_BUSINESS_ACQUIRE_MODE_MUST_MERCHANT_ID"
        | "TRADE_SETTLE_ERROR"
        | "DEFAULT_SETTLE_RULE_NOT_EXIST" => Refused::Configuration,
        _ => return None,
    })
}

/// A failed `alipay.trade.query`. A question may always be asked again, so an unlisted business code is no more than unknown.
pub fn of_query(error: CallError) -> Result<TradeState, GatewayError> {
    let failure = without_answer(error)?;
    match failure.meaning() {
        Meaning::Business("TRADE_NOT_EXIST") => Ok(TradeState::NotExist),
        Meaning::Unknown => Err(unknown(&failure)),
        Meaning::Busy => Err(busy(&failure)),
        Meaning::Gateway(_) | Meaning::Business("INVALID_PARAMETER" | "ILLEGAL_ARGUMENT" | "ACCESS_FORBIDDEN") => {
            Err(refused(&failure, Refused::Configuration))
        }
        Meaning::Business(_) => Err(unknown(&failure)),
    }
}

/// A failed `alipay.trade.close`. Closing again is a status error at Alipay, like closing what was paid: a query decides.
pub fn of_close(error: CallError) -> Result<CloseAnswer, GatewayError> {
    let failure = without_answer(error)?;
    match failure.meaning() {
        Meaning::Business("TRADE_NOT_EXIST") => Ok(CloseAnswer::NotExist),
        Meaning::Unknown => Err(unknown(&failure)),
        Meaning::Busy => Err(busy(&failure)),
        Meaning::Gateway(_) | Meaning::Business("INVALID_PARAMETER" | "ILLEGAL_ARGUMENT" | "ACCESS_FORBIDDEN") => {
            Err(refused(&failure, Refused::Configuration))
        }
        // TRADE_STATUS_ERROR, REASON_TRADE_STATUS_INVALID, REASON_ILLEGAL_STATUS, and whatever else is no success.
        Meaning::Business(_) => Ok(CloseAnswer::AskFirst),
    }
}

/// A failed question for a bill (`alipay.md` §9). Its names come in both cases: `isp.bill_not_exist`, `BILL_NOT_EXIST`.
pub fn of_bill(error: CallError) -> BillError {
    let failure = match without_answer(error) {
        Ok(failure) => failure,
        Err(error) => return error.into(),
    };
    let name = failure.sub_code.to_ascii_lowercase();
    let none = ["bill_not_exist", "no_bill_data", "bill_date_before_registration"];
    if none.iter().any(|part| name.contains(part)) {
        return BillError::None;
    }
    match failure.meaning() {
        Meaning::Unknown => unknown(&failure).into(),
        Meaning::Busy => busy(&failure).into(),
        // TYPE_NOT_SUPPORTED, INVAILID_ARGUMENTS (sic), and whatever else: nothing that asking again would mend.
        Meaning::Gateway(_) | Meaning::Business(_) => refused(&failure, Refused::Configuration).into(),
    }
}

/// A failed `alipay.system.oauth.token`.
pub fn of_exchange(error: CallError) -> ExchangeError {
    let failure = match error {
        CallError::NotExecuted(code) => return ExchangeError::Busy { wallet: WALLET, code },
        CallError::Unknown(cause) => return ExchangeError::Unknown { wallet: WALLET, cause },
        CallError::Failed(failure) => failure,
    };
    let code = failure.name();
    match failure.meaning() {
        // The code may be consumed already (`alipay.md` §4.1).
        Meaning::Unknown => ExchangeError::Unknown { wallet: WALLET, cause: code },
        Meaning::Busy => ExchangeError::Busy { wallet: WALLET, code },
        // Unknown, expired, used or of another APPID; `code-expired` is in no official list and would mean the same.
        Meaning::Gateway("code-invalid" | "code-expired") => ExchangeError::CodeRefused { wallet: WALLET, code },
        Meaning::Gateway(_) | Meaning::Business(_) => ExchangeError::Configuration { wallet: WALLET, code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn failed(code: &str, sub_code: &str) -> CallError {
        CallError::Failed(Failure { code: code.to_owned(), sub_code: sub_code.to_owned() })
    }

    pub(super) fn class(error: &GatewayError) -> &'static str {
        match error {
            GatewayError::Refused { why: Refused::Order, .. } => "order",
            GatewayError::Refused { why: Refused::Identity, .. } => "identity",
            GatewayError::Refused { why: Refused::Configuration, .. } => "configuration",
            GatewayError::Refused { why: Refused::NotEnough, .. } => "not enough",
            GatewayError::AskFirst { taken: true, .. } => "taken",
            GatewayError::AskFirst { .. } => "ask",
            GatewayError::Busy { .. } => "busy",
            GatewayError::Unknown { .. } => "unknown",
        }
    }

    #[test]
    fn a_refused_create_is_read_by_its_sub_code() {
        for (code, sub_code, wanted) in [
            ("40004", "ACQ.SYSTEM_ERROR", "unknown"),
            ("40004", "aop.ACQ.SYSTEM_ERROR", "unknown"),
            ("40004", "AQC.SYSTEM_ERROR", "unknown"),
            ("20000", "isp.unknow-error", "unknown"),
            ("20000", "aop.unknow-error", "unknown"),
            ("20000", "", "unknown"),
            ("40002", "isp.unknow-error", "unknown"),
            ("40005", "isv.app-call-limited", "busy"),
            ("40005", "isv.method-call-limited", "busy"),
            ("40005", "", "busy"),
            ("40004", "USER_RATE_LIMIT", "busy"),
            ("40004", "ACQ.TRADE_HAS_SUCCESS", "ask"),
            ("40004", "TRADE_HAS_SUCCESS", "ask"),
            ("40004", "ACQ.TRADE_HAS_CLOSE", "ask"),
            ("40004", "ACQ.CONTEXT_INCONSISTENT", "ask"),
            ("40004", "ACQ.TRADE_BUYER_NOT_MATCH", "ask"),
            ("40004", "ACQ.NEVER_HEARD_OF", "ask"),
            ("40004", "isp.never_heard_of", "ask"),
            ("40004", "", "ask"),
            ("40004", "ACQ.INVALID_PARAMETER", "order"),
            ("40004", "ACQ.ILLEGAL_ARGUMENT", "order"),
            ("40004", "ACQ.NOW_TIME_AFTER_EXPIRE_TIME_ERROR", "order"),
            ("40004", "ACQ.EXIST_FORBIDDEN_WORD", "order"),
            ("40004", "ACQ.TOTAL_FEE_EXCEED", "order"),
            ("40004", "ACQ.BUYER_ENABLE_STATUS_FORBID", "order"),
            ("40004", "ACQ.BUYER_SELLER_EQUAL", "order"),
            ("40004", "ACQ.BUYER_PAYMENT_AMOUNT_DAY_LIMIT_ERROR", "order"),
            ("40004", "ACQ.BUYER_NOT_EXIST", "identity"),
            ("40002", "isv.invalid-openid", "identity"),
            ("40004", "ACQ.ACCESS_FORBIDDEN", "configuration"),
            ("40004", "ACQ.OPEN_ID_NOT_TINY_APP", "configuration"),
            ("40004", "ACQ.UNBOUND_APPLICATION", "configuration"),
            ("40004", "ACQ.MERCHANT_PERM_RECEIPT_DAY_LIMIT", "configuration"),
            ("40004", "ACQ.SECONDARY_MERCHANT_ISV_PUNISH_INDIRECT", "configuration"),
            ("40002", "isv.invalid-signature", "configuration"),
            ("40002", "isv.invalid-app-id", "configuration"),
            ("40001", "isv.missing-app-cert-sn", "configuration"),
            ("40006", "isv.insufficient-isv-permissions", "configuration"),
            ("20001", "aop.invalid-app-auth-token", "configuration"),
            ("40003", "", "configuration"),
            ("20001", "", "configuration"),
            ("", "", "unknown"),
            ("10003", "", "unknown"),
        ] {
            assert_eq!(class(&of_create(failed(code, sub_code))), wanted, "{code} {sub_code}");
        }
        assert_eq!(class(&of_create(CallError::NotExecuted("429".into()))), "busy");
        assert_eq!(class(&of_create(CallError::Unknown("timeout".into()))), "unknown");
    }

    #[test]
    fn a_query_tells_not_exist_from_not_known() {
        let query = |code, sub| of_query(failed(code, sub)).map_err(|error| class(&error));
        assert_eq!(query("40004", "ACQ.TRADE_NOT_EXIST"), Ok(TradeState::NotExist));
        assert_eq!(query("40004", "TRADE_NOT_EXIST"), Ok(TradeState::NotExist));
        assert_eq!(query("40004", "ACQ.SYSTEM_ERROR"), Err("unknown"));
        assert_eq!(query("20000", "ACQ.TRADE_NOT_EXIST"), Err("unknown"), "an unavailable service knows nothing");
        assert_eq!(query("40004", "ACQ.ENTERPRISE_PAY_BIZ_ERROR"), Err("unknown"));
        assert_eq!(query("40004", "ACQ.INVALID_PARAMETER"), Err("configuration"));
        assert_eq!(query("40002", "isv.invalid-signature"), Err("configuration"));
        assert_eq!(query("40005", "isv.app-call-limited"), Err("busy"));
    }

    #[test]
    fn a_refused_close_asks_first() {
        let close = |code, sub| of_close(failed(code, sub)).map_err(|error| class(&error));
        for sub_code in [
            "ACQ.TRADE_STATUS_ERROR",
            "ACQ.REASON_TRADE_STATUS_INVALID",
            "ACQ.REASON_ILLEGAL_STATUS",
            "REASON_TRADE_STATUS_INVALID",
            "ACQ.TRADE_HAS_SUCCESS",
            "ACQ.NEVER_HEARD_OF",
        ] {
            assert_eq!(close("40004", sub_code), Ok(CloseAnswer::AskFirst), "{sub_code}");
        }
        assert_eq!(close("40004", "ACQ.TRADE_NOT_EXIST"), Ok(CloseAnswer::NotExist));
        assert_eq!(close("40004", "ACQ.SYSTEM_ERROR"), Err("unknown"));
        assert_eq!(close("40004", "ACQ.INVALID_PARAMETER"), Err("configuration"));
        assert_eq!(close("40006", "isv.insufficient-isv-permissions"), Err("configuration"));
    }

    #[test]
    fn a_refused_code_is_read_by_its_sub_code() {
        let exchange = |code, sub_code| match of_exchange(failed(code, sub_code)) {
            ExchangeError::CodeRefused { .. } => "code",
            ExchangeError::Configuration { .. } => "configuration",
            ExchangeError::Busy { .. } => "busy",
            ExchangeError::Unknown { .. } => "unknown",
            other => panic!("{other:?}"),
        };
        assert_eq!(exchange("40002", "isv.code-invalid"), "code");
        assert_eq!(exchange("40004", "isv.code-invalid"), "code");
        assert_eq!(exchange("40002", "isv.grant-type-invalid"), "configuration");
        assert_eq!(exchange("40002", "isv.invalid-signature"), "configuration");
        assert_eq!(exchange("40006", "isv.insufficient-isv-permissions"), "configuration");
        assert_eq!(exchange("20000", "isp.unknow-error"), "unknown");
        assert_eq!(exchange("40005", "isv.method-call-limited"), "busy");
    }

    #[test]
    fn a_refused_bill_is_read_in_both_cases() {
        let bill = |code, sub_code| match of_bill(failed(code, sub_code)) {
            BillError::None => "none",
            BillError::Gateway(error) => class(&error),
            other => panic!("{other:?}"),
        };
        for none in [
            "isp.bill_not_exist",
            "BILL_NOT_EXIST",
            "ACQ.BILL_NOT_EXIST",
            "NO_BILL_DATA",
            "BILL_DATE_BEFORE_REGISTRATION",
        ] {
            assert_eq!(bill("40004", none), "none", "{none}");
        }
        for configuration in ["invalid_arguments", "INVAILID_ARGUMENTS", "TYPE_NOT_SUPPORTED"] {
            assert_eq!(bill("40004", configuration), "configuration", "{configuration}");
        }
        assert_eq!(bill("40006", "isv.insufficient-isv-permissions"), "configuration");
        assert_eq!(bill("40004", "UNKNOWN_ERROR"), "unknown");
        assert_eq!(bill("20000", "isp.unknow-error"), "unknown");
        assert_eq!(bill("40004", "SYSTEM_RATE_LIMIT"), "busy");
    }

    #[test]
    fn only_the_gateways_own_word_is_a_wrong_signature() {
        let is_wrong = |code: &str, sub_code: &str| {
            Failure { code: code.to_owned(), sub_code: sub_code.to_owned() }.is_wrong_signature()
        };
        assert!(is_wrong("40002", "isv.invalid-signature"));
        assert!(is_wrong("40002", "isv.unsupported-expired-app-key-sign"));
        for (code, sub_code) in [
            ("40002", "isv.invalid-signature-type"),
            ("40001", "isv.missing-signature"),
            ("40002", "isv.invalid-app-id"),
            ("40002", ""),
            ("40004", "ACQ.SYSTEM_ERROR"),
            ("20000", "isv.invalid-signature"),
        ] {
            assert!(!is_wrong(code, sub_code), "{code} {sub_code}");
        }
    }

    #[test]
    fn a_name_for_the_log_is_short_and_plain() {
        let failure = |sub_code: &str| Failure { code: "40004".into(), sub_code: sub_code.into() }.name();
        assert_eq!(failure(""), "40004");
        assert_eq!(failure("ACQ.X\n交易"), "ACQ.X");
        assert_eq!(failure(&"x".repeat(100)).len(), 64);
    }
}
