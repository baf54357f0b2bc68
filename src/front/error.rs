//! The one place that turns what went wrong in the merchant API into an answer.

use poem::{Response, http::StatusCode};
use serde_json::{Value, json};

use super::answer::json_response;
use crate::{
    domain::{
        bill::BillDate,
        id::{OrderNo, RefundNo},
        time::Timestamp,
    },
    store::StoreError,
};

/// What a merchant's call can end in besides success. Each names what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400 / 1003
    #[error("缺少参数：{0}")]
    Missing(&'static str),
    /// 400 / 1008
    #[error("请求参数有误：{0}")]
    Invalid(String),
    /// 401 / 1005
    #[error("签名验证失败：{0}")]
    Unauthorized(&'static str),
    /// 403 / 1006
    #[error("没有权限：{0}")]
    Forbidden(&'static str),
    /// 404 / 2104
    #[error("订单不存在：{0}")]
    NoSuchOrder(OrderNo),
    /// 404 / 2104
    #[error("退款单不存在：{0}")]
    NoSuchRefund(RefundNo),
    /// 409 / 2107
    #[error("商户退款单号重复，且业务参数与原退款不一致：{0}")]
    OtherRefund(RefundNo),
    /// 409 / 2108
    #[error("订单未支付，不能退款：{0}")]
    NotPaid(OrderNo),
    /// 409 / 2109
    #[error("退款金额超过可退金额，还可退 {0} 分")]
    Exceeds(i64),
    /// 409 / 2109
    #[error("该订单的退款次数已达上限")]
    TooManyRefunds,
    /// 404 / 2104
    #[error("通知不存在")]
    NoSuchNotification,
    /// 409 / 2107
    #[error("订单关闭后已支付成功，该关单通知已撤回，不能重发")]
    Withdrawn,
    /// 409 / 2110
    #[error("{0} 的账单尚未生成，请于次日下载")]
    DayNotOver(BillDate),
    /// 404
    #[error("接口不存在")]
    NoSuchCall,
    /// 409 / 2107
    #[error("商户订单号重复，且业务参数与原订单不一致：{0}")]
    OtherContent(OrderNo),
    /// 429 / 3005
    #[error("操作过于频繁，请稍后再试")]
    TooOften,
    /// 503 / 1001: as many as may are under way.
    #[error("系统繁忙，请稍后重试")]
    Busy,
    /// 503 / 1001
    #[error("系统繁忙，请稍后重试")]
    Unavailable(#[source] StoreError),
    /// 500 / 1001: ours.
    #[error("系统异常，请稍后重试")]
    Internal(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { .. } => Self::Internal(error.to_string()),
            _ => Self::Unavailable(error),
        }
    }
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Missing(_) => (StatusCode::BAD_REQUEST, "1003"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "1008"),
            Self::Unauthorized(_) => (StatusCode::UNAUTHORIZED, "1005"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "1006"),
            Self::NoSuchOrder(_) => (StatusCode::NOT_FOUND, "2104"),
            Self::NoSuchRefund(_) => (StatusCode::NOT_FOUND, "2104"),
            Self::OtherRefund(_) => (StatusCode::CONFLICT, "2107"),
            Self::NotPaid(_) => (StatusCode::CONFLICT, "2108"),
            Self::Exceeds(_) | Self::TooManyRefunds => (StatusCode::CONFLICT, "2109"),
            Self::NoSuchNotification => (StatusCode::NOT_FOUND, "2104"),
            Self::Withdrawn => (StatusCode::CONFLICT, "2107"),
            Self::DayNotOver(_) => (StatusCode::CONFLICT, "2110"),
            Self::NoSuchCall => (StatusCode::NOT_FOUND, "1008"),
            Self::OtherContent(_) => (StatusCode::CONFLICT, "2107"),
            Self::TooOften => (StatusCode::TOO_MANY_REQUESTS, "3005"),
            Self::Busy | Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "1001"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "1001"),
        }
    }

    /// The answer; logged here, once.
    pub fn into_response(self, trace_id: &str, now: Timestamp) -> Response {
        match &self {
            Self::Unavailable(cause) => tracing::error!(trace_id, %cause, "a merchant's call found no store"),
            Self::Internal(cause) => tracing::error!(trace_id, cause, "a merchant's call failed here"),
            other => tracing::info!(trace_id, error = %other, "a merchant's call was refused"),
        }
        let (status, err_code) = self.status_and_code();
        // A clock that is wrong is the most frequent reason for 401: our time is in the answer.
        let data = match self {
            Self::Unauthorized(_) => json!({ "serverTime": now.secs() }),
            _ => Value::Null,
        };
        let mut response = json_response(
            status,
            &json!({
                "code": status.as_str(),
                "msg": self.to_string(),
                "errCode": err_code,
                "data": data,
                "traceId": trace_id,
            }),
        );
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert("retry-after", 1.into());
        }
        response
    }
}
