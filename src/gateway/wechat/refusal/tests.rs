use super::*;

fn refusal(status: u16, code: &str) -> Refusal {
    Refusal::read(status, format!(r#"{{"code":"{code}","message":"m"}}"#).as_bytes())
}

fn name(error: &GatewayError) -> String {
    match error {
        GatewayError::Refused { why, .. } => format!("{why:?}"),
        GatewayError::AskFirst { taken: true, .. } => "Taken".into(),
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
fn every_code_of_a_refund_has_its_reaction() {
    // status, code, refund, question
    let table = [
        (400, "PARAM_ERROR", "Order", "Configuration"),
        (400, "INVALID_REQUEST", "AskFirst", "Configuration"),
        (401, "SIGN_ERROR", "Configuration", "Configuration"),
        (403, "NO_AUTH", "Configuration", "Configuration"),
        (403, "NOAUTH", "Configuration", "Configuration"),
        (403, "NOT_ENOUGH", "NotEnough", "Unknown"),
        (403, "NOTENOUGH", "NotEnough", "Unknown"),
        (403, "USER_ACCOUNT_ABNORMAL", "Order", "Unknown"),
        (403, "REQUEST_BLOCKED", "Configuration", "Unknown"),
        (404, "MCH_NOT_EXISTS", "Configuration", "Configuration"),
        (404, "RESOURCE_NOT_EXISTS", "Configuration", "not exist"),
        (404, "ORDER_NOT_EXIST", "Configuration", "Unknown"),
        (400, "RESOURCE_NOT_EXISTS", "Configuration", "Unknown"),
        (404, "REFUND_NOT_EXIST", "AskFirst", "not exist"),
        (400, "REFUND_NOT_EXIST", "AskFirst", "not exist"),
        (400, "REFUND_FEE_INVALID", "AskFirst", "Unknown"),
        (400, "TRANSACTION_NOT_SUPPORT_REFUND", "AskFirst", "Unknown"),
        (400, "OUT_REFUND_NO_USED", "Taken", "Unknown"),
        (400, "RESOURCE_ALREADY_EXISTS", "Taken", "Unknown"),
        (403, "BRAND_NEW_CODE", "AskFirst", "Unknown"),
        (429, "FREQUENCY_LIMITED", "Unknown", "Busy"),
        (429, "RATELIMIT_EXCEEDED", "Unknown", "Busy"),
        (429, "RATE_LIMITED", "Unknown", "Busy"),
        (429, "WHATEVER", "Unknown", "Busy"),
        (500, "SYSTEM_ERROR", "Unknown", "Unknown"),
        (500, "BIZ_ERR_NEED_RETRY", "Unknown", "Unknown"),
        (500, "BANK_ERROR", "Unknown", "Unknown"),
        (502, "SERVICE_UNAVAILABLE", "Unknown", "Unknown"),
        (503, "SERVICE_UNAVAILABLE", "Unknown", "Unknown"),
    ];
    for (status, code, refund, question) in table {
        let refusal = refusal(status, code);
        assert_eq!(name(&refusal.of_refund(false)), refund, "refund {status} {code}");
        let found = match refusal.of_refund_query() {
            Ok(RefundFound::NotExist) => "not exist".into(),
            Ok(other) => format!("{other:?}"),
            Err(error) => name(&error),
        };
        assert_eq!(found, question, "question {status} {code}");
        // The first copy may have made it, whatever is said to the second.
        assert_eq!(name(&refusal.of_refund(true)), "Unknown", "repeated {status} {code}");
    }
}

#[test]
fn every_code_of_a_bill_has_its_reaction() {
    for (status, code, wanted) in [
        (400, "STATEMENT_CREATING", "not ready"),
        (400, "BILL_CREATING", "not ready"),
        (404, "FILE_NOT_EXIST", "not ready"),
        (400, "NO_STATEMENT_EXIST", "none"),
        (400, "NO_BILL_EXIST", "none"),
        (400, "BILL_NOT_EXIST", "none"),
        (400, "PARAM_ERROR", "Configuration"),
        (400, "INVALID_REQUEST", "Configuration"),
        (403, "NO_AUTH", "Configuration"),
        (429, "FREQUENCY_LIMITED", "Busy"),
        (500, "SYSTEM_ERROR", "Unknown"),
        (400, "BRAND_NEW_CODE", "Unknown"),
    ] {
        let told = match refusal(status, code).of_bill() {
            BillError::NotReady => "not ready".into(),
            BillError::None => "none".into(),
            BillError::Gateway(error) => name(&error),
            BillError::Unusable(why) => why,
        };
        assert_eq!(told, wanted, "{status} {code}");
    }
}

#[test]
fn a_page_of_somebody_else_decides_nothing() {
    for (status, body) in [(403, "<html>blocked</html>"), (404, ""), (301, ""), (400, r#"{"code":7}"#), (404, "{}")] {
        let refusal = Refusal::read(status, body.as_bytes());
        assert_eq!(refusal.code(), format!("HTTP_{status}"));
        assert_eq!(name(&refusal.of_prepay(false)), "Unknown");
        assert_eq!(name(&refusal.of_query().unwrap_err()), "Unknown");
        assert_eq!(name(&refusal.of_close().unwrap_err()), "Unknown");
        assert_eq!(name(&refusal.of_refund(false)), "Unknown");
        assert_eq!(name(&refusal.of_refund_query().unwrap_err()), "Unknown");
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
    assert_eq!(masked("payer_client_ip:1.1.1.1. 无效"), "payer_client_ip*** 无效");
    assert_eq!(masked("2400:3200::1，::ffff:1.1.1.1"), "***，***");
    assert_eq!(masked("at 12:30, 1.5 of 3.20: added"), "at 12:30, 1.5 of 3.20: added");
}
