//! The text of a trade bill: a header, back-ticked rows, a summary (`wechat-pay.md` §9.2).

use std::io::BufRead;

use crate::{
    domain::{
        money::{Fen, Sum},
        time::Timestamp,
    },
    gateway::{
        RefundStatus,
        bill::{
            BillError, BillKind, BillRow,
            text::{Columns, Lines, yuan},
            unusable,
        },
    },
};

/// The present name, then the one on old accounts' bills.
const ORDER_AMOUNT: &[&str] = &["订单金额", "总金额"];
const REFUND_ASKED: &[&str] = &["申请退款金额", "退款金额"];
const REFUND_SETTLED: &[&str] = &["退款金额"];

/// The rows of one file.
pub struct Rows<R> {
    lines: Lines<R>,
    columns: Columns,
    tally: Tally,
    over: bool,
}

#[derive(Default)]
struct Tally {
    rows: i64,
    order_fen: i64,
    refund_asked_fen: i64,
    refund_settled_fen: i64,
    /// A row could not be read, so that no sum can be right; that was told already.
    broken: bool,
}

impl<R: BufRead> Rows<R> {
    /// Reads the header. Errors: [`BillError::Unusable`].
    pub fn open(from: R) -> Result<Self, BillError> {
        let mut lines = Lines::new(from);
        let header = text(lines.next()?.unwrap_or_default(), 1)?;
        let header = header.strip_prefix('\u{feff}').unwrap_or(&header);
        let columns = Columns::new(header.split(',').map(|name| name.trim().to_owned()));
        for name in ["交易时间", "微信订单号", "商户订单号", "交易状态"] {
            if !columns.has(name) {
                return Err(unusable(format!("it has no column {name}")));
            }
        }
        Ok(Self { lines, columns, tally: Tally::default(), over: false })
    }

    fn step(&mut self) -> Result<Option<BillRow>, BillError> {
        loop {
            let Some(line) = self.lines.next().inspect_err(|_| self.over = true)? else {
                self.over = true;
                return Err(unusable("it ends without a summary"));
            };
            let number = self.lines.number();
            if line.is_empty() {
                continue;
            }
            if line.first() != Some(&b'`') {
                self.over = true;
                return self.check_summary(&text(line, number)?).map(|()| None);
            }
            self.tally.rows += 1;
            let row = self.row(&String::from_utf8_lossy(&line), number);
            self.tally.broken |= row.is_err();
            return row.map(Some);
        }
    }

    /// Fields begin with a back-tick and are not quoted: product names may hold commas, and back-ticks behind them. What stands on
    /// either side of a name is read as it stands there, and the sums of the file must come out.
    fn row(&mut self, line: &str, number: u64) -> Result<BillRow, BillError> {
        let mut fields: Vec<&str> = line.strip_prefix('`').unwrap_or(line).split(",`").collect();
        if let (Some(surplus), Some(name_at)) =
            (fields.len().checked_sub(self.columns.len()), self.columns.at("商品名称"))
        {
            fields.drain(name_at + 1..name_at + 1 + surplus);
        }
        if fields.len() != self.columns.len() {
            return Err(unusable(format!("line {number} has {} fields of {}", fields.len(), self.columns.len())));
        }
        let at = |names: &[&str]| self.columns.get(&fields, names).map(str::trim);
        // Numbers that are not there are written as 0.
        let filled = |names: &[&str]| at(names).filter(|text| !matches!(*text, "" | "0")).map(str::to_owned);
        let odd = |names: &[&str]| unusable(format!("line {number}: {}", names.first().unwrap_or(&"a column")));
        // In a text, a character that was cut in two does no harm.
        let whole = |text: &String| !text.contains(char::REPLACEMENT_CHARACTER);
        let need = |names: &[&str]| filled(names).filter(whole).ok_or_else(|| odd(names));
        let fen = |names: &[&str]| match at(names).filter(|text| !text.is_empty()) {
            Some(text) => yuan(text).map(Some).ok_or_else(|| odd(names)),
            None => Ok(None),
        };
        let (order, asked, settled) = (fen(ORDER_AMOUNT)?, fen(REFUND_ASKED)?, fen(REFUND_SETTLED)?);
        let kind = match at(&["交易状态"]) {
            Some("SUCCESS") => BillKind::Pay,
            // REVOKED: a code payment taken back.
            Some("REFUND" | "REVOKED") => BillKind::Refund,
            _ => return Err(odd(&["交易状态"])),
        };
        let (names, amount, received) = match kind {
            BillKind::Pay => (ORDER_AMOUNT, order, fen(&["应结订单金额"])?),
            BillKind::Refund => (REFUND_ASKED, asked, settled),
        };
        let row = BillRow {
            kind,
            out_trade_no: need(&["商户订单号"])?,
            out_refund_no: filled(&["商户退款单号"]),
            wallet_trade_no: need(&["微信订单号"])?,
            wallet_refund_no: filled(&["微信退款单号"]),
            amount: amount.and_then(|fen| Fen::new(fen).ok()).ok_or_else(|| odd(names))?,
            received: received.and_then(|fen| Sum::new(fen).ok()),
            refund_status: match (kind, at(&["退款状态"])) {
                (BillKind::Pay, _) => None,
                (_, Some("SUCCESS")) => Some(RefundStatus::Success),
                (_, Some("PROCESSING")) => Some(RefundStatus::Processing),
                (_, Some("ABNORMAL" | "CHANGE")) => Some(RefundStatus::Abnormal),
                (_, Some("CLOSED" | "FAIL")) => Some(RefundStatus::Closed),
                _ => None,
            },
            at: at(&["交易时间"]).and_then(Timestamp::parse_china_text).ok_or_else(|| odd(&["交易时间"]))?,
            app_id: filled(&["公众账号ID"]),
            mchid: filled(&["商户号"]),
            sub_mchid: filled(&["特约商户号"]),
        };
        self.tally.order_fen = self.tally.order_fen.saturating_add(order.unwrap_or(0));
        self.tally.refund_asked_fen = self.tally.refund_asked_fen.saturating_add(asked.unwrap_or(0));
        self.tally.refund_settled_fen = self.tally.refund_settled_fen.saturating_add(settled.unwrap_or(0));
        Ok(row)
    }

    /// The totals say that nothing is missing, and that we read the amounts as they were meant.
    fn check_summary(&mut self, header: &str) -> Result<(), BillError> {
        let columns = Columns::new(header.split(',').map(|name| name.trim().to_owned()));
        let number = self.lines.number() + 1;
        let line = text(self.lines.next()?.unwrap_or_default(), number)?;
        let fields: Vec<&str> = line.strip_prefix('`').unwrap_or(&line).split(",`").collect();
        let told = |name: &str| columns.get(&fields, &[name]).and_then(|text| yuan(text.trim()));
        // The count is written like an amount: 45.0.
        let rows = told("总交易单数").ok_or_else(|| unusable("its summary cannot be read"))?;
        if rows != self.tally.rows.saturating_mul(100) {
            return Err(unusable(format!("its summary counts {} rows, the file has {}", rows / 100, self.tally.rows)));
        }
        if self.tally.broken {
            return Ok(());
        }
        let sums = [
            ("订单总金额", self.tally.order_fen),
            ("申请退款总金额", self.tally.refund_asked_fen),
            ("退款总金额", self.tally.refund_settled_fen),
        ];
        for (name, sum) in sums {
            if columns.has(name) && told(name) != Some(sum) {
                return Err(unusable(format!("its {name} is not the sum of the rows")));
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<BillRow, BillError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        self.step().transpose()
    }
}

fn text(line: Vec<u8>, number: u64) -> Result<String, BillError> {
    String::from_utf8(line).map_err(|_| unusable(format!("line {number} is no UTF-8")))
}
