//! The files of a business bill, in GBK: what was sold and refunded, and its sums.

use std::io::{self, Write};

use encoding_rs::GBK;

use super::time8;
use super::zip::Zip;
use crate::bill::{BillKind, BillRow, Day, Rows, fee_fen, yuan};

const DETAIL_COLUMNS: &str = "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,\
                              订单金额（元）,商家实收（元）,支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,\
                              券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注";
const SUMMARY_COLUMNS: &str = "门店编号,门店名称,交易订单总笔数,退款订单总笔数,订单金额（元）,商家实收（元）,支付宝优惠（元）,商家优惠（元）,\
                               卡消费金额（元）,服务费（元）,分润（元）,实收净额（元）";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A bill of one seller and day.
#[derive(Clone)]
pub(super) struct Statement {
    pub seller_id: String,
    pub day: Day,
    pub rows: Rows,
    /// When it was made, Unix milliseconds.
    pub made_ms: i64,
}

#[derive(Default)]
struct Totals {
    paid: u64,
    refunded: u64,
    paid_fen: i64,
    refunded_fen: i64,
    fees_fen: i64,
}

impl Totals {
    fn add(&mut self, row: &BillRow) {
        self.fees_fen += fee(row);
        if row.kind == BillKind::Refund {
            self.refunded += 1;
            self.refunded_fen += row.amount_fen;
        } else {
            self.paid += 1;
            self.paid_fen += row.amount_fen;
        }
    }
}

impl Statement {
    /// The account as it stands in names and heads: 20 digits.
    fn account(&self) -> String {
        format!("{}0156", self.seller_id)
    }

    /// Writes the ZIP: the summary in front, as often as not. A made-up bill is walked twice and never held.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let held = matches!(self.rows, Rows::Kept(_));
        let name = |kind: &str| gbk(&format!("{}_{}_{kind}.csv", self.account(), self.day.digits()));
        let mut totals = Totals::default();
        self.rows.each().for_each(|row| totals.add(&row));
        let mut zip = Zip::new(out);
        zip.add(&name("业务明细(汇总)"), held, |out| self.summary(out, &totals))?;
        zip.add(&name("业务明细"), held, |out| self.detail(out, &totals))?;
        zip.finish()
    }

    fn head(&self, out: &mut dyn Write, title: &str, list: &str) -> io::Result<()> {
        let (from, to) = (time8::write(self.day.start_ms), time8::write(self.day.start_ms + DAY_MS));
        line(out, title)?;
        line(out, &format!("#账号：[{}]", self.account()))?;
        line(out, &format!("#起始日期：[{}]   终止日期：[{}]", in_words(&from), in_words(&to)))?;
        line(out, &format!("#-----------------------------------------{list}----------------------------------------"))
    }

    fn detail(&self, out: &mut dyn Write, totals: &Totals) -> io::Result<()> {
        self.head(out, "#支付宝业务明细查询", "业务明细列表")?;
        line(out, DETAIL_COLUMNS)?;
        for row in self.rows.each() {
            let refund = row.kind == BillKind::Refund;
            let amount = yuan(if refund { -row.amount_fen } else { row.amount_fen });
            let number = |text: &str| if text.is_empty() { String::new() } else { format!("{text}\t") };
            line(
                out,
                &format!(
                    "{},{},{},{},{},{},,,,,{},{amount},{amount},0.00,0.00,0.00,0.00,0.00,,0.00,0.00,{},{},0.00,{}",
                    number(&row.trade_no),
                    number(&row.out_trade_no),
                    if refund { "退款" } else { "交易" },
                    cell(&row.description),
                    time8::write(row.created_ms),
                    time8::write(row.at_ms),
                    cell(&row.payer),
                    number(&row.out_refund_no),
                    yuan(fee(&row)),
                    cell(&row.attach),
                ),
            )?;
        }
        line(out, "#-----------------------------------------业务明细列表结束------------------------------------")?;
        let (paid, refunded) = (yuan(totals.paid_fen), yuan(-totals.refunded_fen));
        line(out, &format!("#交易合计：{}笔，商家实收共{paid}元，商家优惠共0.00元", totals.paid))?;
        line(out, &format!("#退款合计：{}笔，商家实收退款共{refunded}元，商家优惠退款共0.00元", totals.refunded))?;
        line(out, &format!("#导出时间：[{}]", in_words(&time8::write(self.made_ms))))
    }

    fn summary(&self, out: &mut dyn Write, totals: &Totals) -> io::Result<()> {
        self.head(out, "#支付宝业务汇总查询", "业务汇总列表")?;
        line(out, SUMMARY_COLUMNS)?;
        let net = totals.paid_fen - totals.refunded_fen;
        line(
            out,
            &format!(
                "合计,,{},{},{net},{net},0.00,0.00,0.00,{},0.00,{}",
                totals.paid,
                totals.refunded,
                yuan(totals.fees_fen),
                yuan(net + totals.fees_fen),
                net = yuan(net),
            ),
        )?;
        line(out, "#-----------------------------------------业务汇总列表结束------------------------------------")
    }
}

/// What Alipay keeps of a payment, below zero; what it gives back of it with a refund.
fn fee(row: &BillRow) -> i64 {
    let fee = fee_fen(row.amount_fen);
    if row.kind == BillKind::Refund { fee } else { -fee }
}

/// `2026-02-28 00:00:00` as `2026年02月28日 00:00:00`.
fn in_words(time: &str) -> String {
    format!("{}年{}月{}日{}", &time[..4], &time[5..7], &time[8..10], &time[10..])
}

/// Nothing is quoted, so nothing may hold a comma or a line's end.
fn cell(text: &str) -> String {
    text.replace(',', "，").replace(['\r', '\n', '\t'], " ")
}

fn gbk(text: &str) -> Vec<u8> {
    GBK.encode(text).0.into_owned()
}

fn line(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(&GBK.encode(text).0)?;
    out.write_all(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// Offsets of the entries and their plain texts, read by the directory at the end.
    fn entries(zip: &[u8]) -> Vec<(String, String)> {
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
        let u32_at = |at: usize| u32::from_le_bytes(zip[at..at + 4].try_into().unwrap()) as usize;
        let end = zip.len() - 22;
        let mut at = u32_at(end + 16);
        (0..u16_at(end + 10))
            .map(|_| {
                let (length, name_length, start) = (u32_at(at + 20), u16_at(at + 28), u32_at(at + 42));
                let name = GBK.decode(&zip[at + 46..at + 46 + name_length]).0.into_owned();
                at += 46 + name_length;
                let content = start + 30 + u16_at(start + 26) + u16_at(start + 28);
                let mut plain = Vec::new();
                let packed = &zip[content..content + length];
                flate2::read::DeflateDecoder::new(packed).read_to_end(&mut plain).unwrap();
                (name, GBK.decode(&plain).0.into_owned())
            })
            .collect()
    }

    fn written(rows: Rows) -> Vec<(String, String)> {
        let day = Day::read("2026-02-28").unwrap();
        let statement = Statement {
            seller_id: "2088000000000000".to_owned(),
            day,
            rows,
            made_ms: time8::read("2026-03-01 09:00:00").unwrap(),
        };
        let mut zip = Vec::new();
        statement.write(&mut zip).unwrap();
        entries(&zip)
    }

    #[test]
    fn a_bill_is_written_as_the_vector_has_it() {
        let at = |time: &str| time8::read(time).unwrap();
        let first = BillRow {
            created_ms: at("2026-02-28 10:00:00"),
            at_ms: at("2026-02-28 10:00:30"),
            out_trade_no: "T20260228000001".to_owned(),
            trade_no: "2026022822001400000000000001".to_owned(),
            amount_fen: 8888,
            payer: "*三(abc***@example.com)".to_owned(),
            description: "测试商品 A".to_owned(),
            attach: "测试商品 A".to_owned(),
            ..BillRow::default()
        };
        let refund = BillRow {
            kind: BillKind::Refund,
            at_ms: at("2026-02-28 11:00:00"),
            out_refund_no: "R1".to_owned(),
            amount_fen: 880,
            ..first.clone()
        };
        let second = BillRow {
            created_ms: at("2026-02-28 12:00:00"),
            at_ms: at("2026-02-28 12:00:21"),
            out_trade_no: "T20260228000002".to_owned(),
            trade_no: "2026022822001400000000000002".to_owned(),
            amount_fen: 100,
            payer: "*四(138****0000)".to_owned(),
            description: "含逗号,名称".to_owned(),
            attach: String::new(),
            ..first.clone()
        };
        let written = written(Rows::Kept(vec![first, refund, second]));
        let expected = |text: &str| text.replace("\r\n", "\n").replace('\n', "\r\n");
        let detail = expected(include_str!("../../tests/data/alipay/bill/trade_detail_utf8.txt"));
        let summary = expected(include_str!("../../tests/data/alipay/bill/trade_summary_utf8.txt"));
        assert_eq!(written[0], ("20880000000000000156_20260228_业务明细(汇总).csv".to_owned(), summary));
        assert_eq!(written[1], ("20880000000000000156_20260228_业务明细.csv".to_owned(), detail));
    }

    #[test]
    fn a_made_up_bill_has_all_its_rows() {
        let day_ms = Day::read("2026-02-28").unwrap().start_ms;
        let bill =
            crate::bill::SyntheticBill { prefix: "M".to_owned(), suffix: String::new(), rows: 1_000, refund_every: 10 };
        let written = written(Rows::Synthetic { bill, day_ms });
        assert_eq!(written[1].1.lines().filter(|line| !line.starts_with('#')).count(), 1_001);
        assert!(written[1].1.contains("#退款合计：100笔"));
    }
}
