//! What one merchant was paid, and paid back, on one day; page by page.

use std::collections::{HashMap, HashSet};

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{
    bill_rows::{PageEnd, past},
    entity::{attempts, orders, refunds},
    error::StoreError,
    pool::Store,
    refund_rows,
    rows::{self, In},
};
use crate::domain::{
    bill::BillDate,
    id::{AccountId, MerchantId, OrderId, OutTradeNo},
    money::Sum,
    refund::Refund,
    time::Timestamp,
    wallet::Wallet,
};

/// One payment with what its merchant knows of the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaidRow {
    pub number: OutTradeNo,
    pub order_no: String,
    pub wallet: Wallet,
    pub trade_no: String,
    pub amount_fen: i64,
    pub payer_amount: Option<Sum>,
    pub paid_at: Timestamp,
    pub good_no: Option<String>,
    pub good_name: String,
    pub attach: Option<String>,
}

impl PaidRow {
    /// Where the next page begins.
    pub fn end(&self) -> PageEnd {
        (self.paid_at.ms(), self.number.order.to_string(), i32::from(self.number.attempt.get()))
    }
}

/// One refund that was paid back, with its order's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundedRow {
    pub refund: Refund,
    pub order_no: String,
    pub refunded_at: Timestamp,
}

impl RefundedRow {
    /// Where the next page begins.
    pub fn end(&self) -> PageEnd {
        (self.refunded_at.ms(), self.refund.id.to_string(), 0)
    }
}

type PaidTuple = (
    String,
    i32,
    String,
    String,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<String>,
    String,
    Option<String>,
);

impl Store {
    /// A merchant's payments at one of its accounts on a day, by the wallet's time, at most `limit` after `after`.
    pub async fn paid_on(
        &self,
        merchant: MerchantId,
        account: AccountId,
        date: BillDate,
        after: Option<PageEnd>,
        limit: u64,
    ) -> Result<Vec<PaidRow>, StoreError> {
        use attempts::Column;
        let select = attempts::Entity::find()
            .inner_join(orders::Entity)
            .select_only()
            .columns([Column::OrderId, Column::No])
            .column(orders::Column::OrderNo)
            .columns([Column::Wallet, Column::TradeNo])
            .column(orders::Column::AmountFen)
            .columns([Column::PayerAmountFen, Column::PaidAt])
            .columns([orders::Column::GoodNo, orders::Column::GoodName, orders::Column::Attach])
            .filter(orders::Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(Column::AccountId.eq(i64::from(account.0)))
            .filter(Column::PaidAt.gte(date.begin().ms()))
            .filter(Column::PaidAt.lt(date.end().ms()))
            .filter(Column::State.eq("paid"))
            .filter(match after {
                Some(end) => past([Column::PaidAt, Column::OrderId, Column::No], &end),
                None => Condition::all(),
            })
            .order_by_asc(Column::PaidAt)
            .order_by_asc(Column::OrderId)
            .order_by_asc(Column::No)
            .limit(limit)
            .into_tuple::<PaidTuple>();
        let rows = self.read("attempts", |db| async move { select.all(&*db).await }).await?;
        rows.into_iter().map(paid).collect()
    }

    /// As [`Store::paid_on`], refunds by when their money was back.
    pub async fn refunded_on(
        &self,
        merchant: MerchantId,
        account: AccountId,
        date: BillDate,
        after: Option<PageEnd>,
        limit: u64,
    ) -> Result<Vec<RefundedRow>, StoreError> {
        use refunds::Column;
        let mut select = refunds::Entity::find()
            .filter(Column::MerchantId.eq(i64::from(merchant.0)))
            .filter(Column::AccountId.eq(i64::from(account.0)))
            .filter(Column::RefundedAt.gte(date.begin().ms()))
            .filter(Column::RefundedAt.lt(date.end().ms()))
            .filter(Column::State.eq("succeeded"));
        if let Some((at, id, _)) = after {
            let same = Condition::all().add(Column::RefundedAt.eq(at)).add(Column::Id.gt(id));
            select = select.filter(Condition::any().add(Column::RefundedAt.gt(at)).add(same));
        }
        let select = select.order_by_asc(Column::RefundedAt).order_by_asc(Column::Id).limit(limit);
        let rows = self.read("refunds", |db| async move { select.all(&*db).await }).await?;
        let orders = orders::Entity::find()
            .select_only()
            .columns([orders::Column::Id, orders::Column::OrderNo])
            .filter(orders::Column::Id.is_in(rows.iter().map(|row| row.order_id.clone()).collect::<HashSet<_>>()))
            .into_tuple::<(String, String)>();
        let orders = self.read("orders", |db| async move { orders.all(&*db).await }).await?;
        let orders: HashMap<_, _> = orders.into_iter().collect();
        let mut page = Vec::with_capacity(rows.len());
        for row in rows {
            let corrupt = |column| StoreError::corrupt("refunds", column, &row.id);
            let refunded_at = rows::moment(row.refunded_at).ok_or_else(|| corrupt("refunded_at"))?;
            let order_no = orders.get(&row.order_id).cloned().ok_or_else(|| corrupt("order_id"))?;
            page.push(RefundedRow { refund: refund_rows::refund(row)?, order_no, refunded_at });
        }
        Ok(page)
    }
}

fn paid(row: PaidTuple) -> Result<PaidRow, StoreError> {
    let (order, no, order_no, wallet, trade_no, amount_fen, payer_fen, paid_at, good_no, good_name, attach) = row;
    let read = || {
        let attempt = rows::attempt_no(no, "no")?;
        Ok(PaidRow {
            number: OutTradeNo { order: OrderId::parse(&order).at("order_id")?, attempt },
            order_no,
            wallet: Wallet::parse(&wallet).at("wallet")?,
            trade_no: trade_no.at("trade_no")?,
            amount_fen,
            payer_amount: payer_fen.map(Sum::new).transpose().at("payer_amount_fen")?,
            paid_at: rows::moment(paid_at).at("paid_at")?,
            good_no,
            good_name,
            attach,
        })
    };
    read().map_err(|column: rows::Column| column.of("attempts", format_args!("{order}/{no}")))
}
