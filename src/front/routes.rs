//! The paths of the public listener. Whatever happens, the answer is JSON in our envelope.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt, IntoResponse, Request, Response, Route,
    endpoint::make,
    http::{Method, StatusCode},
};

use super::{Front, answer, bills, close, error::ApiError, notifications, notify::notify, orders, page, pay, refunds};
use crate::domain::{id::AccountId, wallet::Wallet};

/// Every route of a front.
pub fn endpoint(front: Arc<Front>) -> impl Endpoint + 'static {
    let phone = |at: PhoneCall| {
        let front = front.clone();
        make(move |request: Request| {
            let front = front.clone();
            async move { phone(&front, at, request).await }
        })
    };
    let notices = {
        let front = front.clone();
        make(move |request: Request| {
            let front = front.clone();
            async move { notice(&front, request).await }
        })
    };
    let api = {
        let front = front.clone();
        make(move |request: Request| {
            let front = front.clone();
            async move { api(&front, request).await }
        })
    };
    Route::new()
        .at("/pay", phone(PhoneCall::Pay))
        .at("/pay/info", phone(PhoneCall::Info))
        .at("/pay/result", phone(PhoneCall::Result))
        .at("/notify/:wallet/:account", notices)
        .at("/api/v1/*call", api)
        .catch_all_error(|error| async move { answer::framework(error.status()) })
        .map_to_response()
}

#[derive(Debug, Clone, Copy)]
enum PhoneCall {
    Pay,
    Info,
    Result,
}

async fn phone(front: &Arc<Front>, at: PhoneCall, request: Request) -> Response {
    if request.method() != Method::POST {
        let mut response = answer::framework(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert("allow", poem::http::HeaderValue::from_static("POST"));
        return response;
    }
    match at {
        PhoneCall::Pay => pay::pay(front, request).await,
        PhoneCall::Info => page::info(front, request).await,
        PhoneCall::Result => page::result(front, request).await,
    }
}

async fn notice(front: &Arc<Front>, request: Request) -> Response {
    if request.method() != Method::POST {
        return answer::framework(StatusCode::METHOD_NOT_ALLOWED);
    }
    let wallet = request.path_params::<(String, u32)>().ok();
    let Some((wallet, account)) =
        wallet.and_then(|(wallet, account)| Some((Wallet::parse(&wallet)?, AccountId(account))))
    else {
        return answer::framework(StatusCode::NOT_FOUND);
    };
    notify(front, wallet, account, request).await
}

/// The merchant API: one signature check, one error envelope.
async fn api(front: &Arc<Front>, request: Request) -> Response {
    let trace_id = uuid::Uuid::now_v7().simple().to_string();
    let call = request.path_params::<String>().unwrap_or_default();
    let parts: Vec<&str> = call.split('/').collect();
    let answered = match (request.method().as_str(), parts.as_slice()) {
        ("POST", ["orders"]) => orders::create(front, request, &trace_id).await,
        ("GET", ["orders", order_no]) => orders::get(front, order_no, request, &trace_id).await,
        ("POST", ["orders", order_no, "links"]) => orders::fresh_links(front, order_no, request, &trace_id).await,
        ("POST", ["orders", order_no, "close"]) => close::close(front, order_no, request, &trace_id).await,
        ("POST", ["refunds"]) => refunds::create(front, request, &trace_id).await,
        ("GET", ["refunds", refund_no]) => refunds::get(front, refund_no, request, &trace_id).await,
        ("GET", ["orders", order_no, "notifications"]) => {
            notifications::of_order(front, order_no, request, &trace_id).await
        }
        ("POST", ["notifications", "resend"]) => notifications::resend_many(front, request, &trace_id).await,
        ("POST", ["notifications", id, "resend"]) => notifications::resend(front, id, request, &trace_id).await,
        ("GET", ["bills", date]) => bills::get(front, date, request).await,
        _ => Err(ApiError::NoSuchCall),
    };
    answered.unwrap_or_else(|error| error.into_response(&trace_id, front.clock.now())).into_response()
}
