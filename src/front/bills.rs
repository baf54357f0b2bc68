//! `GET /api/v1/bills/{date}?type=PAY|REFUND`: what one merchant was paid, or paid back, on one day in China, as CSV.
//!
//! Columns are only ever appended, so they may be read by place as well as by name:
//!
//! | type | columns |
//! |---|---|
//! | `PAY` (default) | `orderNo`, `serialNo`, `payType`, `outTradeNo`, `channelTradeNo`, `orderAmount`, `payAmount`, `payTime`, `goodNo`, `goodName`, `attach` |
//! | `REFUND` | `refundNo`, `serialNo`, `orderNo`, `payType`, `outTradeNo`, `channelRefundNo`, `refundAmount`, `orderAmount`, `initiator`, `refundTime`, `reason` |
//!
//! Amounts are whole fen, times RFC 3339, names those of the API. RFC 4180 with CRLF, UTF-8 without a byte order mark: programs read
//! it, and a mark would become a part of the first column's name. Free texts that a spreadsheet would take for a formula begin with
//! an apostrophe; numbers and identifiers never do. Rows come account by account, in each by time.
//!
//! A day is the wallet's: the one in which it says that money moved. A day that is not over is 409 (2110), because half a day looks
//! like a whole one. A day without rows is the header alone. A payment that is heard of late still appears in its own day: the header
//! `X-Bill-Matched` says `true` once every account's bill of the day was matched with our rows, and nothing is open that a question to the
//! wallet may still settle.
//!
//! A merchant writes out two bills at once at most, and all of it within half an hour: one that does not read keeps nobody else from theirs.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use poem::{Body, Request, Response, http::StatusCode};
use tokio::time::Instant;

use super::{Front, auth::authentic, downloads::Download, error::ApiError, orders::BODY_MAX};
use crate::{
    domain::{
        bill::BillDate,
        id::{AccountId, MerchantId},
        money::Sum,
    },
    store::{PageEnd, PaidRow, RefundedRow, Store, StoreError},
};

/// Rows in memory at once.
const PAGE: u64 = 1_000;
/// One that reads more slowly asks again. One that does not read at all is cut off by the listener.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30 * 60);
const PAY: &str =
    "orderNo,serialNo,payType,outTradeNo,channelTradeNo,orderAmount,payAmount,payTime,goodNo,goodName,attach\r\n";
const REFUND: &str = "refundNo,serialNo,orderNo,payType,outTradeNo,channelRefundNo,refundAmount,orderAmount,initiator,refundTime,reason\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Pay,
    Refund,
}

/// A bill while it is written out.
struct Writing {
    store: Store,
    merchant: MerchantId,
    date: BillDate,
    of: Of,
    /// Still to be told, the present one last.
    accounts: Vec<AccountId>,
    after: Option<PageEnd>,
    until: Instant,
    _place: Download,
}

/// A merchant's own bill of a day.
pub async fn get(front: &Arc<Front>, date: &str, mut request: Request) -> Result<Response, ApiError> {
    let query = request.original_uri().query().unwrap_or_default().to_owned();
    let merchant = authentic(front, &mut request, BODY_MAX).await?.merchant.id;
    let date = BillDate::parse(date).map_err(|_| ApiError::Invalid("日期格式须为 YYYY-MM-DD".to_owned()))?;
    let of = wanted(&query)?;
    if front.clock.now() < date.end() {
        return Err(ApiError::DayNotOver(date));
    }
    let place = front.downloads.take(merchant).ok_or(ApiError::Busy)?;
    let own = front.store.accounts().await?.into_iter().filter(|row| row.account.merchant == merchant);
    let mut accounts = Vec::new();
    let mut matched = true;
    for row in own {
        accounts.push(row.account.id);
        if row.secrets.is_some() && row.created_at < date.end() {
            let run = front.store.bill_run(row.account.id, date).await?;
            matched &= run.is_some_and(|run| run.state.is_done());
            matched = matched && !front.store.is_to_be_asked(row.account.id, date).await?;
        }
    }
    accounts.reverse();
    let heading = match of {
        Of::Pay => PAY,
        Of::Refund => REFUND,
    };
    let (store, until) = (front.store.clone(), Instant::now() + WRITTEN_WITHIN);
    let mut writing = Writing { store, merchant, date, of, accounts, after: None, until, _place: place };
    // The first page before the answer begins: a store that is away is then told by its status.
    let first = writing.page().await?.unwrap_or_default();
    let first = Bytes::from(format!("{heading}{first}"));
    let rest = stream::unfold(Some(writing), |writing| async {
        let mut writing = writing?;
        if Instant::now() >= writing.until {
            tracing::warn!(merchant = %writing.merchant, "a merchant took too long to read its bill");
            return Some((Err(std::io::Error::other("the bill took too long")), None));
        }
        match writing.page().await {
            Ok(Some(page)) => Some((Ok(Bytes::from(page)), Some(writing))),
            Ok(None) => None,
            Err(error) => {
                // The connection is cut before the end of the body: a bill that is not whole does not look whole.
                tracing::error!(%error, "a merchant's bill ended half-way");
                Some((Err(std::io::Error::other("the bill cannot be read on")), None))
            }
        }
    });
    let body = stream::once(async { Ok::<_, std::io::Error>(first) }).chain(rest);
    let name = match of {
        Of::Pay => format!("attachment; filename=\"pay-{date}.csv\""),
        Of::Refund => format!("attachment; filename=\"refund-{date}.csv\""),
    };
    Ok(Response::builder()
        .status(StatusCode::OK)
        .header("content-type", "text/csv; charset=utf-8; header=present")
        .header("content-disposition", name)
        .header("cache-control", "no-store")
        .header("x-bill-matched", if matched { "true" } else { "false" })
        .body(Body::from_bytes_stream(body)))
}

fn wanted(query: &str) -> Result<Of, ApiError> {
    let mut wanted = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "type") {
        let of = match value.as_ref() {
            "PAY" => Of::Pay,
            "REFUND" => Of::Refund,
            _ => return Err(ApiError::Invalid("type 须为 PAY 或 REFUND".to_owned())),
        };
        if wanted.replace(of).is_some() {
            return Err(ApiError::Invalid(format!("{name} 出现多次")));
        }
    }
    Ok(wanted.unwrap_or(Of::Pay))
}

impl Writing {
    /// The next lines. `None`: all were told.
    async fn page(&mut self) -> Result<Option<String>, StoreError> {
        while let Some(account) = self.accounts.last().copied() {
            let (merchant, date, after) = (self.merchant, self.date, self.after.take());
            let (lines, end) = match self.of {
                Of::Pay => {
                    let rows = self.store.paid_on(merchant, account, date, after, PAGE).await?;
                    (rows.iter().map(paid_line).collect::<Vec<_>>(), rows.last().map(PaidRow::end))
                }
                Of::Refund => {
                    let rows = self.store.refunded_on(merchant, account, date, after, PAGE).await?;
                    (rows.iter().map(refunded_line).collect(), rows.last().map(RefundedRow::end))
                }
            };
            if lines.len() as u64 == PAGE {
                self.after = end;
            } else {
                self.accounts.pop();
            }
            if !lines.is_empty() {
                return Ok(Some(lines.concat()));
            }
        }
        Ok(None)
    }
}

fn paid_line(row: &PaidRow) -> String {
    line(&[
        &row.order_no,
        &row.number.order.to_string(),
        row.wallet.wire_name(),
        &row.number.to_string(),
        &row.trade_no,
        &row.amount_fen.to_string(),
        &row.payer_amount.map(Sum::get).map(|fen| fen.to_string()).unwrap_or_default(),
        &row.paid_at.rfc3339(),
        &text(row.good_no.as_deref()),
        &text(Some(&row.good_name)),
        &text(row.attach.as_deref()),
    ])
}

fn refunded_line(row: &RefundedRow) -> String {
    let refund = &row.refund;
    line(&[
        refund.refund_no.as_str(),
        &refund.id.to_string(),
        &row.order_no,
        refund.wallet.wire_name(),
        &refund.out_trade_no().to_string(),
        refund.wallet_refund_no.as_deref().unwrap_or_default(),
        &refund.amount.get().to_string(),
        &refund.total.get().to_string(),
        &refund.initiator.as_str().to_uppercase(),
        &row.refunded_at.rfc3339(),
        &text(refund.reason.as_deref()),
    ])
}

/// A text that people wrote: a spreadsheet is not to run it.
fn text(of: Option<&str>) -> String {
    let of = of.unwrap_or_default();
    if of.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']) {
        format!("'{of}")
    } else {
        of.to_owned()
    }
}

fn line(fields: &[&str]) -> String {
    let mut line = fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_meant() {
        assert_eq!(
            line(&["a", "", "b,c", "say \"hi\"", "two\nlines"]),
            "a,,\"b,c\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n"
        );
    }

    #[test]
    fn no_text_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1"] {
            assert_eq!(text(Some(formula)), format!("'{formula}"));
        }
        assert_eq!(text(Some("一杯咖啡 = 1")), "一杯咖啡 = 1");
        assert_eq!(text(None), "");
    }

    #[test]
    fn the_type_is_one_of_two() {
        assert_eq!(wanted("").unwrap(), Of::Pay);
        assert_eq!(wanted("a=b&type=REFUND").unwrap(), Of::Refund);
        for wrong in ["type=pay", "type=", "type=PAY&type=PAY"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }
}
