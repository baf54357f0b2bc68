//! The envelopes that phones and merchants read: exact, see the published contract.

use poem::{Response, http::StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::outcome::{Outcome, PayParams, Refusal};

/// `application/json; charset=utf-8`, never stored on the way (`mini-program.md`, 13).
pub fn json_response(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .header("cache-control", "no-store")
        .body(body.to_string())
}

/// `{"code":"200","msg":"操作成功","data":…}`.
pub fn success(data: impl Serialize) -> Response {
    let data = serde_json::to_value(data).unwrap_or(Value::Null);
    json_response(StatusCode::OK, &json!({ "code": "200", "msg": "操作成功", "data": data }))
}

/// A business error to a phone: HTTP 200, three keys and no more.
pub fn refusal(refusal: Refusal) -> Response {
    json_response(StatusCode::OK, &json!({ "code": "400", "msg": refusal.msg(), "errCode": refusal.err_code() }))
}

/// Still working: the same payInfo sent again resumes the wait.
pub fn processing() -> Response {
    json_response(StatusCode::OK, &json!({ "code": "202", "msg": "订单处理中，请稍后重试", "errCode": "2102" }))
}

/// Overload or outage (503), or one merchant's excess (429): nothing was accepted.
pub fn busy(status: StatusCode, retry_after_s: u32) -> Response {
    let mut response = json_response(status, &json!({ "code": "503", "msg": "系统繁忙，请稍后重试" }));
    response.headers_mut().insert("retry-after", retry_after_s.into());
    response
}

/// What the framework itself would say (404, 405, 500 …), in the same envelope.
pub fn framework(status: StatusCode) -> Response {
    let msg = match status {
        StatusCode::NOT_FOUND => "接口不存在",
        StatusCode::METHOD_NOT_ALLOWED => "请求方法不支持",
        _ if status.is_client_error() => "请求参数有误",
        _ => "系统异常，请稍后重试",
    };
    json_response(status, &json!({ "code": status.as_str(), "msg": msg }))
}

/// An outcome as the phone is told it.
pub fn outcome(outcome: &Outcome) -> Response {
    match outcome {
        Outcome::Ready { params } => success(pay_data(params)),
        Outcome::Refused { refusal: why } => refusal(*why),
        Outcome::Processing => processing(),
        Outcome::Busy { retry_after_s } => busy(StatusCode::SERVICE_UNAVAILABLE, *retry_after_s),
        // Nobody did anything with it: the phone may post again.
        Outcome::Expired => busy(StatusCode::SERVICE_UNAVAILABLE, 1),
    }
}

/// WeChat: exactly the seven keys of the published sample. Alipay: `tradeNo`.
fn pay_data(params: &PayParams) -> Value {
    match params {
        PayParams::Wechat { app_id, time_stamp, nonce_str, package, sign_type, pay_sign } => json!({
            "appId": app_id.as_str(),
            "timeStamp": time_stamp,
            "nonceStr": nonce_str,
            "signType": sign_type,
            "paySign": pay_sign,
            "codeUrl": null,
            "package": package,
        }),
        PayParams::Alipay { trade_no } => json!({ "tradeNo": trade_no }),
    }
}
