//! What a failed refund, or a failed question about one, asks for (`alipay.md` §8, §15).

use super::{CallError, Meaning, ask_first, busy, refused, unknown, without_answer};
use crate::{
    domain::wallet::Wallet,
    gateway::{GatewayError, RefundFound, Refused},
};

/// A failed `alipay.trade.refund`. One that is in no table asks for a query: the refund may have been made by an earlier send.
pub fn of_refund(error: CallError) -> GatewayError {
    let failure = match without_answer(error) {
        Ok(failure) => failure,
        Err(error) => return error,
    };
    match failure.meaning() {
        Meaning::Unknown => unknown(&failure),
        Meaning::Busy => busy(&failure),
        // Something in the frozen bytes themselves, which stay as they are.
        Meaning::Gateway("suspected-attack" | "illegal-json") => refused(&failure, Refused::Order),
        Meaning::Gateway(_) => refused(&failure, Refused::Configuration),
        // The number is known, with another amount: perhaps that of this very refund, misread; never "made nothing".
        Meaning::Business("DISCORDANT_REPEAT_REQUEST") => {
            GatewayError::AskFirst { wallet: Wallet::Alipay, code: failure.name(), taken: true }
        }
        Meaning::Business(name) => match refund_refusal(name) {
            Some(why) => refused(&failure, why),
            None => ask_first(&failure),
        },
    }
}

/// §8.1, in its order. `None`: only a query can tell.
fn refund_refusal(name: &str) -> Option<Refused> {
    Some(match name {
        // "Later possible": with money on the account, or when the trade is free again.
        "SELLER_BALANCE_NOT_ENOUGH" | "REASON_TRADE_BEEN_FREEZEN" => Refused::NotEnough,
        "REFUND_AMT_NOT_EQUAL_TOTAL"
        | "REFUND_FEE_ERROR"
        | "REASON_TRADE_REFUND_FEE_ERR"
        | "ALLOC_AMOUNT_VALIDATE_ERROR" => Refused::Order,
        // Closed, perhaps by this very refund; or not paid as far as Alipay knows.
        "TRADE_HAS_CLOSE" | "TRADE_STATUS_ERROR" | "REASON_TRADE_STATUS_INVALID" => {
            return None;
        }
        // What was paid is asked for under another application or token than the creator's.
        "TRADE_NOT_EXIST" | "ACCESS_FORBIDDEN" => Refused::Configuration,
        "TRADE_HAS_FINISHED" => Refused::Order,
        "TRADE_NOT_ALLOW_REFUND"
        | "NOT_ALLOW_PARTIAL_REFUND"
        | "ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND"
        | "REFUNDALLOC_UNAUTH_LIMIT" => Refused::Order,
        "BUYER_NOT_EXIST"
        | "BUYER_ENABLE_STATUS_FORBID"
        | "BUYER_ERROR"
        | "USER_NOT_MATCH_ERR"
        | "REFUND_ACCOUNT_NOT_EXIST"
        | "REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST"
        | "CUSTOMER_VALIDATE_ERROR" => Refused::Order,
        "INVALID_PARAMETER" | "ILLEGAL_ARGUMENT" | "CURRENCY_NOT_SUPPORT" => Refused::Order,
        // The merchant's contract; once it is put right, the same bytes may pass.
        "TRADE_SETTLE_ERROR"
        | "REFUND_CHARGE_ERROR"
        | "ENTERPRISE_PAY_BIZ_ERROR"
        | "OVERDRAFT_ASSIGN_ACCOUNT_INVALID"
        | "OVERDRAFT_AGREEMENT_NOT_MATCH" => Refused::Configuration,
        _ => return None,
    })
}

/// A failed `alipay.trade.fastpay.refund.query`.
///
/// A trade that is not there has no refund either; sending it then meets the same code as an alarm.
pub fn of_refund_query(error: CallError) -> Result<RefundFound, GatewayError> {
    let failure = without_answer(error)?;
    match failure.meaning() {
        Meaning::Business("TRADE_NOT_EXIST") => Ok(RefundFound::NotExist),
        Meaning::Unknown => Err(unknown(&failure)),
        Meaning::Busy => Err(busy(&failure)),
        Meaning::Gateway(_) | Meaning::Business("INVALID_PARAMETER" | "ILLEGAL_ARGUMENT" | "ACCESS_FORBIDDEN") => {
            Err(refused(&failure, Refused::Configuration))
        }
        Meaning::Business(_) => Err(unknown(&failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{class, failed},
        *,
    };

    #[test]
    fn a_refused_refund_is_read_by_its_sub_code() {
        for (code, sub_code, wanted) in [
            ("40004", "ACQ.SYSTEM_ERROR", "unknown"),
            ("40004", "aop.ACQ.SYSTEM_ERROR", "unknown"),
            ("20000", "isp.unknow-error", "unknown"),
            ("", "", "unknown"),
            ("40005", "isv.app-call-limited", "busy"),
            ("40005", "isv.method-call-limited", "busy"),
            ("40004", "ACQ.SELLER_BALANCE_NOT_ENOUGH", "not enough"),
            ("40004", "ACQ.REASON_TRADE_BEEN_FREEZEN", "not enough"),
            ("40004", "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL", "order"),
            ("40004", "ACQ.REFUND_FEE_ERROR", "order"),
            ("40004", "ACQ.REASON_TRADE_REFUND_FEE_ERR", "order"),
            ("40004", "ACQ.ALLOC_AMOUNT_VALIDATE_ERROR", "order"),
            ("40004", "ACQ.TRADE_HAS_FINISHED", "order"),
            ("40004", "ACQ.TRADE_NOT_ALLOW_REFUND", "order"),
            ("40004", "ACQ.NOT_ALLOW_PARTIAL_REFUND", "order"),
            ("40004", "ACQ.ONLINE_TRADE_VOUCHER_NOT_ALLOW_REFUND", "order"),
            ("40004", "ACQ.REFUNDALLOC_UNAUTH_LIMIT", "order"),
            ("40004", "ACQ.BUYER_NOT_EXIST", "order"),
            ("40004", "ACQ.BUYER_ENABLE_STATUS_FORBID", "order"),
            ("40004", "ACQ.BUYER_ERROR", "order"),
            ("40004", "ACQ.USER_NOT_MATCH_ERR", "order"),
            ("40004", "ACQ.REFUND_ACCOUNT_NOT_EXIST", "order"),
            ("40004", "ACQ.REFUND_ROYALTY_PAYEE_ACCOUNT_NOT_EXIST", "order"),
            ("40004", "ACQ.CUSTOMER_VALIDATE_ERROR", "order"),
            ("40004", "ACQ.INVALID_PARAMETER", "order"),
            ("40004", "ACQ.CURRENCY_NOT_SUPPORT", "order"),
            ("40002", "isv.suspected-attack", "order"),
            ("40004", "ACQ.DISCORDANT_REPEAT_REQUEST", "taken"),
            ("40004", "ACQ.TRADE_HAS_CLOSE", "ask"),
            ("40004", "ACQ.TRADE_STATUS_ERROR", "ask"),
            ("40004", "ACQ.REASON_TRADE_STATUS_INVALID", "ask"),
            ("40004", "ACQ.NEVER_HEARD_OF", "ask"),
            ("40004", "", "ask"),
            ("40004", "ACQ.TRADE_NOT_EXIST", "configuration"),
            ("40004", "TRADE_NOT_EXIST", "configuration"),
            ("40004", "ACQ.TRADE_SETTLE_ERROR", "configuration"),
            ("40004", "ACQ.REFUND_CHARGE_ERROR", "configuration"),
            ("40004", "ACQ.ENTERPRISE_PAY_BIZ_ERROR", "configuration"),
            ("40004", "ACQ.OVERDRAFT_ASSIGN_ACCOUNT_INVALID", "configuration"),
            ("40004", "ACQ.OVERDRAFT_AGREEMENT_NOT_MATCH", "configuration"),
            ("40002", "isv.invalid-signature", "configuration"),
            ("40006", "isv.insufficient-isv-permissions", "configuration"),
            ("20001", "aop.invalid-app-auth-token", "configuration"),
        ] {
            assert_eq!(class(&of_refund(failed(code, sub_code))), wanted, "{code} {sub_code}");
        }
        assert_eq!(class(&of_refund(CallError::NotExecuted("429".into()))), "busy");
        assert_eq!(class(&of_refund(CallError::Unknown("timeout".into()))), "unknown");
    }

    #[test]
    fn a_question_about_a_refund_tells_not_exist_from_not_known() {
        let query = |code, sub| of_refund_query(failed(code, sub)).map_err(|error| class(&error));
        assert_eq!(query("40004", "ACQ.TRADE_NOT_EXIST"), Ok(RefundFound::NotExist));
        assert_eq!(query("40004", "TRADE_NOT_EXIST"), Ok(RefundFound::NotExist));
        assert_eq!(query("20000", "ACQ.TRADE_NOT_EXIST"), Err("unknown"));
        assert_eq!(query("40004", "ACQ.SYSTEM_ERROR"), Err("unknown"));
        assert_eq!(query("40004", "ACQ.ENTERPRISE_PAY_BIZ_ERROR"), Err("unknown"));
        assert_eq!(query("40004", "ACQ.INVALID_PARAMETER"), Err("configuration"));
        assert_eq!(query("40002", "isv.invalid-signature"), Err("configuration"));
        assert_eq!(query("40005", "isv.app-call-limited"), Err("busy"));
    }
}
