//! The failures the gateway answers: code, sub_code and the texts that come with them.

use super::answer::{Field, text};

/// One failure as it stands in an answer node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The gateway's class, `40004` and so on.
    pub code: &'static str,
    /// What a client branches on, `ACQ.TRADE_NOT_EXIST` and so on.
    pub sub_code: String,
    /// The Chinese text beside it.
    pub sub_msg: String,
    /// Never signed, in no position of the switch: the gateway does not know whose key to use.
    pub unsigned: bool,
}

impl Failure {
    /// A failure of the gateway itself.
    pub fn gateway(code: &'static str, sub_code: &str, sub_msg: &str) -> Self {
        Self { code, sub_code: sub_code.to_owned(), sub_msg: sub_msg.to_owned(), unsigned: false }
    }

    /// A business failure: code 40004 and `ACQ.` before the name.
    pub fn business(name: &str) -> Self {
        Self::gateway("40004", &format!("ACQ.{name}"), business_text(name))
    }

    /// `ACQ.INVALID_PARAMETER` that says which field.
    pub fn field(why: &str) -> Self {
        let mut failure = Self::business("INVALID_PARAMETER");
        failure.sub_msg = format!("参数无效：{why}");
        failure
    }

    /// 40001: a parameter every call needs is not there.
    pub fn missing(sub_code: &str) -> Self {
        Self::gateway("40001", sub_code, "缺少必要的参数")
    }

    /// 20000: the outcome is unknown to the caller.
    pub fn unknown() -> Self {
        Self::gateway("20000", "isp.unknow-error", "系统繁忙")
    }

    /// 40005: not executed, come again later.
    pub fn limited() -> Self {
        Self::gateway("40005", "isv.app-call-limited", "应用调用次数超限")
    }

    /// A copy that is never signed.
    pub fn without_signature(mut self) -> Self {
        self.unsigned = true;
        self
    }

    /// The four fields every failure node begins with.
    pub fn fields(&self) -> Vec<Field> {
        vec![
            text("code", self.code),
            text("msg", message(self.code)),
            text("sub_code", &self.sub_code),
            text("sub_msg", &self.sub_msg),
        ]
    }
}

/// The `msg` that goes with a `code`. Source: Alipay gateway v2, common answer codes.
pub fn message(code: &str) -> &'static str {
    match code {
        "10000" => "Success",
        "20000" => "Service Currently Unavailable",
        "20001" => "Insufficient Token Permissions",
        "40001" => "Missing Required Arguments",
        "40002" => "Invalid Arguments",
        "40003" => "Insufficient Conditions",
        "40005" => "Call Limited",
        "40006" => "Insufficient Permissions",
        _ => "Business Failed",
    }
}

fn business_text(name: &str) -> &'static str {
    match name {
        "SYSTEM_ERROR" => "系统错误",
        "TRADE_NOT_EXIST" => "交易不存在",
        "TRADE_HAS_SUCCESS" => "交易已被支付",
        "TRADE_HAS_CLOSE" => "交易已经关闭",
        "TRADE_STATUS_ERROR" => "交易状态不合法",
        "REASON_TRADE_STATUS_INVALID" => "交易状态异常",
        "TRADE_HAS_FINISHED" => "交易已结束",
        "DISCORDANT_REPEAT_REQUEST" => "不一致的请求",
        "REFUND_AMT_NOT_EQUAL_TOTAL" => "退款金额超限",
        "SELLER_BALANCE_NOT_ENOUGH" => "卖家余额不足",
        "CONTEXT_INCONSISTENT" => "交易信息被篡改",
        "TRADE_BUYER_NOT_MATCH" => "交易买家不匹配",
        "BUYER_NOT_EXIST" => "买家不存在",
        "BUYER_SELLER_EQUAL" => "买卖家不能相同",
        "NOW_TIME_AFTER_EXPIRE_TIME_ERROR" => "当前时间已超过允许支付的时间",
        "OPEN_ID_NOT_TINY_APP" => "opAppId不是小程序",
        "UNBOUND_APPLICATION" => "opAppId未绑定支付产品",
        "PRODUCT_NOT_SUPPORT_IN_TINY_APP" => "产品码不支持在小程序内使用",
        "INVALID_RECEIVE_ACCOUNT" => "收款账户不正确",
        "INVALID_PARAMETER" => "参数无效",
        _ => "业务处理失败",
    }
}
