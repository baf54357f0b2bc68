//! The text of a business bill: `#` lines, a header, rows, `#` lines with totals; all of it GBK (`alipay.md` §9).

use std::io::BufRead;

use encoding_rs::GB18030;

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

/// Lines before the header: four in real files.
const PREAMBLE_MAX: usize = 20;
/// Commas in a name and a remark: both are bounded (`goodName` has 64 characters).
const SURPLUS_MAX: usize = 256;
const ORDER_AMOUNT: &str = "订单金额(元)";
const RECEIVED: &str = "商家实收(元)";

/// The rows of one file.
pub struct Rows<R> {
    lines: Lines<R>,
    columns: Columns,
    account: Option<String>,
    payments: Tally,
    refunds: Tally,
    /// A row could not be read, so that no total can be right; that was told already.
    broken: bool,
    over: bool,
}

#[derive(Default)]
struct Tally {
    rows: i64,
    received_fen: i64,
}

/// Whether a file's header is that of a bill's rows (and not of its summary).
pub fn is_of_rows<R: BufRead>(lines: &mut Lines<R>) -> Result<bool, BillError> {
    Ok(preamble(lines)?.is_some_and(|(columns, _)| columns.has("支付宝交易号") && columns.has("业务类型")))
}

/// The header, and the account above it. `None`: there is no header.
fn preamble<R: BufRead>(lines: &mut Lines<R>) -> Result<Option<(Columns, Option<String>)>, BillError> {
    let mut account = None;
    for _ in 0..PREAMBLE_MAX {
        let Some(line) = lines.next()? else { return Ok(None) };
        let line = text(&line, lines.number())?;
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(told) = comment.strip_prefix("账号：[") {
                account = Some(told.trim_end().trim_end_matches(']').to_owned());
            }
            continue;
        }
        // Brackets come in both widths.
        let plain = |name: &str| name.trim().replace('（', "(").replace('）', ")");
        return Ok(Some((Columns::new(line.split(',').map(plain)), account)));
    }
    Ok(None)
}

impl<R: BufRead> Rows<R> {
    /// Reads up to the header. Errors: [`BillError::Unusable`].
    pub fn open(from: R) -> Result<Self, BillError> {
        let mut lines = Lines::new(from);
        let (columns, account) = preamble(&mut lines)?.ok_or_else(|| unusable("it has no header"))?;
        for name in ["支付宝交易号", "商户订单号", "业务类型", "完成时间", ORDER_AMOUNT] {
            if !columns.has(name) {
                return Err(unusable(format!("it has no column {name}")));
            }
        }
        let (payments, refunds) = (Tally::default(), Tally::default());
        Ok(Self { lines, columns, account, payments, refunds, broken: false, over: false })
    }

    fn step(&mut self) -> Result<Option<BillRow>, BillError> {
        loop {
            let Some(line) = self.lines.next().inspect_err(|_| self.over = true)? else {
                self.over = true;
                return Err(unusable("it ends before its rows do"));
            };
            let number = self.lines.number();
            if line.is_empty() {
                continue;
            }
            if line.first() == Some(&b'#') {
                self.over = true;
                return match text(&line, number)?.contains("列表结束") {
                    true => self.check_totals().map(|()| None),
                    false => Err(unusable(format!("line {number} stands among the rows"))),
                };
            }
            let row = self.row(&GB18030.decode_without_bom_handling(&line).0, number);
            self.broken |= row.is_err();
            return row.map(Some);
        }
    }

    /// Whether commas inside texts are quoted is not known (`alipay.md` §9). Of the texts, the goods' name is the merchant's own, and
    /// the remark may repeat it or give a reason, so fields too many are taken for parts of these two: quoted or not, what stands
    /// beside them is read as it stands there, every amount and time must be one, and the file's own totals must come out.
    /// Whatever else is odd is told, not guessed at; in those texts nothing is, not even a character cut in two.
    fn row(&mut self, line: &str, number: u64) -> Result<BillRow, BillError> {
        // Number-like fields are padded with a tab.
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let surplus = fields.len().checked_sub(self.columns.len()).filter(|surplus| *surplus <= SURPLUS_MAX);
        let odd = || unusable(format!("line {number} has {} fields of {}", fields.len(), self.columns.len()));
        let (row, received_fen) = match (surplus, self.columns.at("商品名称")) {
            (Some(0), _) => self.read(&fields, number),
            (Some(surplus), Some(name_at)) => {
                // The name's parts at first.
                let mut error = None;
                let read = (0..=surplus).rev().find_map(|in_name| {
                    let mut fields = fields.clone();
                    fields.drain(name_at + 1..name_at + 1 + in_name);
                    let read = self.read_in_place(&fields, number);
                    read.map_err(|told| error.get_or_insert(told)).ok()
                });
                read.ok_or_else(|| error.unwrap_or_else(odd))
            }
            _ => Err(odd()),
        }?;
        let tally = if row.kind == BillKind::Pay { &mut self.payments } else { &mut self.refunds };
        tally.rows += 1;
        tally.received_fen = tally.received_fen.saturating_add(received_fen.unwrap_or(0));
        Ok(row)
    }

    /// As [`Rows::read`], of fields that were put in their places by a guess; what follows the last column is the remark's.
    fn read_in_place(&self, fields: &[&str], number: u64) -> Result<(BillRow, Option<i64>), BillError> {
        let read = self.read(fields, number)?;
        let odd = |name: &str| unusable(format!("line {number}: {name}"));
        for (name, field) in self.columns.names().zip(fields) {
            let fits = match name {
                "创建时间" => Timestamp::parse_china_text(field).is_some(),
                name if name.ends_with("(元)") => yuan(field).is_some(),
                _ => true,
            };
            if !fits {
                return Err(odd(name));
            }
        }
        if fields.len() > self.columns.len() && self.columns.names().last() != Some("备注") {
            return Err(odd("备注"));
        }
        Ok(read)
    }

    /// A row, and what was received by it.
    fn read(&self, fields: &[&str], number: u64) -> Result<(BillRow, Option<i64>), BillError> {
        let odd = |name: &str| unusable(format!("line {number}: {name}"));
        let filled = |name: &str| self.columns.get(fields, &[name]).filter(|text| !text.is_empty());
        let whole = |text: &&str| !text.contains(char::REPLACEMENT_CHARACTER);
        let need = |name: &str| filled(name).filter(whole).map(str::to_owned).ok_or_else(|| odd(name));
        let (kind, sign) = match filled("业务类型") {
            Some("交易") => (BillKind::Pay, 1),
            // Its amounts are negative.
            Some("退款") => (BillKind::Refund, -1),
            _ => return Err(odd("业务类型")),
        };
        let amount = filled(ORDER_AMOUNT).and_then(yuan).and_then(|fen| Fen::new(sign * fen).ok());
        let received_fen = match filled(RECEIVED) {
            Some(text) => Some(yuan(text).ok_or_else(|| odd(RECEIVED))?),
            None => None,
        };
        let row = BillRow {
            kind,
            out_trade_no: need("商户订单号")?,
            out_refund_no: match kind {
                BillKind::Pay => None,
                BillKind::Refund => filled("退款批次号/请求号").map(str::to_owned),
            },
            wallet_trade_no: need("支付宝交易号")?,
            wallet_refund_no: None,
            amount: amount.ok_or_else(|| odd(ORDER_AMOUNT))?,
            received: received_fen.and_then(|fen| Sum::new(sign * fen).ok()),
            refund_status: (kind == BillKind::Refund).then_some(RefundStatus::Success),
            at: filled("完成时间").and_then(Timestamp::parse_china_text).ok_or_else(|| odd("完成时间"))?,
            app_id: None,
            mchid: self.account.clone(),
            sub_mchid: None,
        };
        Ok((row, received_fen))
    }

    /// `#交易合计：2笔，商家实收共89.88元，…` and `#退款合计：1笔，商家实收退款共-8.80元，…`. What is told must be right; a file that tells
    /// nothing still ended where its rows do, and its checksum was right.
    fn check_totals(&mut self) -> Result<(), BillError> {
        while let Some(line) = self.lines.next()? {
            let line = text(&line, self.lines.number())?;
            let totals =
                [("#交易合计：", "商家实收共", &self.payments), ("#退款合计：", "商家实收退款共", &self.refunds)];
            for (start, sum_name, tally) in totals {
                let Some(told) = line.strip_prefix(start) else { continue };
                if self.broken {
                    continue;
                }
                let rows = told.split('笔').next().and_then(|text| text.trim().parse::<i64>().ok());
                let sum = told.split(sum_name).nth(1).and_then(|text| text.split('元').next());
                let received_fen = sum.and_then(|text| yuan(text.trim()));
                let same_sum = !self.columns.has(RECEIVED) || received_fen == Some(tally.received_fen);
                if rows != Some(tally.rows) || !same_sum {
                    return Err(unusable(format!(
                        "its {} is not the sum of the rows",
                        start.trim_matches(['#', '：'])
                    )));
                }
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

/// GBK read as its superset. A line feed is never a part of one of its characters, so lines are cut before.
fn text(line: &[u8], number: u64) -> Result<String, BillError> {
    match GB18030.decode_without_bom_handling_and_without_replacement(line) {
        Some(text) => Ok(text.into_owned()),
        None => Err(unusable(format!("line {number} is no GBK"))),
    }
}
