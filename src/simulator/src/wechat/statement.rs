//! The file of a trade bill: BOM, header, back-ticked rows, summary.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::beijing;
use crate::bill::{BillKind, BillRow, Rows, fee_fen, yuan};

/// Which rows and columns a bill has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum BillType {
    All,
    /// Payments only.
    Success,
    /// Refunds only.
    Refund,
}

const COLUMNS: [&str; 27] = [
    "交易时间",
    "公众账号ID",
    "商户号",
    "特约商户号",
    "设备号",
    "微信订单号",
    "商户订单号",
    "用户标识",
    "交易类型",
    "交易状态",
    "付款银行",
    "货币种类",
    "应结订单金额",
    "代金券金额",
    "微信退款单号",
    "商户退款单号",
    "退款金额",
    "充值券退款金额",
    "退款类型",
    "退款状态",
    "商品名称",
    "商户数据包",
    "手续费",
    "费率",
    "订单金额",
    "申请退款金额",
    "费率备注",
];
/// The first refund column; a bill of payments leaves out six from here and 申请退款金额.
const REFUND_AT: usize = 14;
const ASKED_AT: usize = 25;

impl BillType {
    pub(crate) fn read(text: &str) -> Option<Self> {
        match text {
            "" | "ALL" => Some(Self::All),
            "SUCCESS" => Some(Self::Success),
            "REFUND" => Some(Self::Refund),
            _ => None,
        }
    }

    pub(crate) fn has(self, row: &BillRow) -> bool {
        match self {
            Self::All => true,
            Self::Success => row.kind == BillKind::Payment,
            Self::Refund => row.kind == BillKind::Refund,
        }
    }

    /// Cells of this type's columns, out of those of all columns and the two times of a bill of refunds.
    fn cells(self, all: [String; 27], times: [String; 2]) -> Vec<String> {
        let mut cells: Vec<String> = all.into();
        match self {
            Self::All => {}
            Self::Success => {
                cells.remove(ASKED_AT);
                cells.drain(REFUND_AT..REFUND_AT + 6);
            }
            Self::Refund => {
                cells.splice(REFUND_AT..REFUND_AT, times);
            }
        }
        cells
    }
}

#[derive(Default)]
struct Totals {
    rows: u64,
    paid: i64,
    refunded: i64,
    fees: i64,
}

/// Writes the plain file. `mchid` stands in every row.
pub(crate) fn write(out: &mut dyn Write, bill_type: BillType, mchid: &str, rows: &Rows) -> io::Result<()> {
    let names = COLUMNS.map(str::to_owned);
    let header = bill_type.cells(names, ["退款申请时间".to_owned(), "退款成功时间".to_owned()]);
    write!(out, "\u{feff}{}\r\n", header.join(","))?;
    let mut totals = Totals::default();
    for row in rows.each().filter(|row| bill_type.has(row)) {
        let refund = row.kind == BillKind::Refund;
        let fee = if refund { -fee_fen(row.amount_fen) } else { fee_fen(row.amount_fen) };
        totals.rows += 1;
        totals.fees += fee;
        *(if refund { &mut totals.refunded } else { &mut totals.paid }) += row.amount_fen;
        line(out, &bill_type.cells(cells(&row, mchid, fee), times(&row)))?;
    }
    let (paid, refunded) = (yuan(totals.paid), yuan(totals.refunded));
    // A count with a decimal point, as the file of WeChat's own SDK has it.
    let count = format!("{}.0", totals.rows);
    let fees = format!("{}000", yuan(totals.fees));
    if bill_type == BillType::Success {
        write!(out, "总交易单数,应结订单总金额,手续费总金额,订单总金额\r\n")?;
        line(out, &[count, paid.clone(), fees, paid])
    } else {
        write!(
            out,
            "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n"
        )?;
        line(out, &[count, paid.clone(), refunded.clone(), "0.00".to_owned(), fees, paid, refunded])
    }
}

/// Every cell behind a backtick; nothing is quoted, commas inside of texts stay.
fn line(out: &mut dyn Write, cells: &[String]) -> io::Result<()> {
    write!(out, "`{}\r\n", cells.join(",`"))
}

fn cells(row: &BillRow, mchid: &str, fee_fen: i64) -> [String; 27] {
    let refund = row.kind == BillKind::Refund;
    let (paid, refunded) = if refund { (0, row.amount_fen) } else { (row.amount_fen, 0) };
    let or_zero = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
    let only_refund = |text: &str| if refund { text.to_owned() } else { String::new() };
    [
        written(row.at_ms),
        row.appid.clone(),
        mchid.to_owned(),
        or_zero(row.sub_mchid.as_deref().unwrap_or_default()),
        String::new(),
        row.trade_no.clone(),
        row.out_trade_no.clone(),
        row.payer.clone(),
        "JSAPI".to_owned(),
        if refund { "REFUND".to_owned() } else { row.status.clone() },
        "OTHERS".to_owned(),
        "CNY".to_owned(),
        yuan(paid),
        "0.00".to_owned(),
        or_zero(&row.refund_id),
        or_zero(&row.out_refund_no),
        yuan(refunded),
        "0.00".to_owned(),
        only_refund("ORIGINAL"),
        only_refund(&row.status),
        one_line(&row.description),
        one_line(&row.attach),
        format!("{}000", yuan(fee_fen)),
        "0.60%".to_owned(),
        yuan(paid),
        yuan(refunded),
        String::new(),
    ]
}

fn times(row: &BillRow) -> [String; 2] {
    [written(row.at_ms), row.success_ms.map(written).unwrap_or_default()]
}

/// `YYYY-MM-DD HH:MM:SS`, Beijing time without saying so.
fn written(ms: i64) -> String {
    let at = beijing(ms);
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n', '`'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_columns_and_its_rows() {
        let payment = BillRow {
            at_ms: 1_772_208_000_000,
            out_trade_no: "T1".to_owned(),
            amount_fen: 8888,
            status: "SUCCESS".to_owned(),
            description: "a,b".to_owned(),
            ..BillRow::default()
        };
        let refund = BillRow {
            kind: BillKind::Refund,
            out_refund_no: "R1".to_owned(),
            refund_id: "50".to_owned(),
            amount_fen: 100,
            status: "PROCESSING".to_owned(),
            ..payment.clone()
        };
        let rows = Rows::Kept(vec![payment, refund]);
        for (bill_type, columns, lines, summary) in [
            (BillType::All, 27, 5, "`2.0,`88.88,`1.00,`0.00,`0.52000,`88.88,`1.00"),
            (BillType::Success, 20, 4, "`1.0,`88.88,`0.53000,`88.88"),
            (BillType::Refund, 29, 4, "`1.0,`0.00,`1.00,`0.00,`-0.01000,`0.00,`1.00"),
        ] {
            let mut file = Vec::new();
            write(&mut file, bill_type, "1900000109", &rows).expect("memory takes it");
            let text = String::from_utf8(file).expect("UTF-8");
            let read: Vec<&str> = text.trim_end().split("\r\n").collect();
            assert_eq!((read.len(), read[0].split(',').count()), (lines, columns), "{bill_type:?}");
            assert!(read[0].starts_with("\u{feff}交易时间,"));
            assert_eq!(read[1].split(",`").count(), columns);
            assert_eq!(read.last(), Some(&summary));
        }
    }
}
