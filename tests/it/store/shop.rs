//! Orders and attempts to test with.

use std::time::Duration;

use prepay::{
    domain::{
        attempt::{Attempt, AttemptState, Frozen, Payment, Ticket},
        id::{AccountId, AppId, AttemptNo, CommandId, KeyId, MerchantId, MiniProgramId, OrderId, OrderNo, TradeNo},
        money::{Fen, Sum},
        order::{Moved, Order, OrderEvent, OrderState, Step},
        payer::{Payer, PayerKind},
        time::Timestamp,
        wallet::Wallet,
    },
    store::{Commit, Committed, Inserted, NewAccount, Store},
};

pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub fn secs(after: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(after))
}

pub fn order() -> Order {
    Order {
        id: OrderId::fresh(),
        merchant: MerchantId(7),
        order_no: OrderNo::parse(format!("No-{}", CommandId::fresh())).unwrap(),
        fingerprint: [0xab; 32],
        amount: Fen::new(9_999_999_999).unwrap(),
        good_name: "一杯茶".into(),
        good_no: Some("SKU-1".into()),
        attach: None,
        notify_url: "https://merchant.example/notify".into(),
        wechat_mini_program: Some(MiniProgramId(u32::MAX)),
        alipay_mini_program: None,
        created_at: NOW,
        expire_at: secs(1800),
        link_generation: 65_535,
        link_key: KeyId::parse("k1").unwrap(),
        state: OrderState::Waiting,
        version: 0,
        lease: None,
        asked_at: None,
        close_wanted_at: None,
        attempts: Vec::new(),
    }
}

pub async fn inserted(store: &Store) -> Order {
    let order = order();
    assert_eq!(store.insert_order(&order).await.unwrap(), Inserted::New);
    order
}

pub fn attempt(no: u8) -> Attempt {
    Attempt {
        no: AttemptNo::new(no).unwrap(),
        wallet: Wallet::WechatPay,
        account: AccountId(3),
        mini_program: MiniProgramId(4),
        app_id: AppId::parse("wxd678efh567hg6787").unwrap(),
        payer: Payer::new(PayerKind::WechatOpenid, "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o").unwrap(),
        frozen: Frozen {
            body: r#"{"description":"一杯茶"}"#.into(), notify_url: "https://us.example/notify/3".into()
        },
        state: AttemptState::Sent,
        started_at: NOW,
        sends: 1,
        refusals: 0,
        handed_out_at: None,
        next_query_at: Some(secs(5)),
        queries: 0,
        refunded: Sum::NOTHING,
    }
}

pub fn started(no: u8) -> OrderEvent {
    OrderEvent::AttemptStarted {
        attempt: Box::new(attempt(no)),
        // One command starts them all: another would wait for its lease.
        command: CommandId::parse("0198f3a4-0000-7000-8000-000000000001").unwrap(),
        lease_until: secs(20),
    }
}

/// An account under a number of its wallet's, which several may share.
pub async fn account(store: &Store, number: &str) -> AccountId {
    let account = NewAccount {
        merchant: MerchantId(7),
        wallet: Wallet::WechatPay,
        number: number.into(),
        settings: "{}".into(),
        public_keys: "{}".into(),
        created_at: NOW,
    };
    store.insert_account(&account).await.unwrap()
}

/// The account of all attempts here, so that what is due for it is looked for.
pub async fn enrolled(store: &Store) {
    while account(store, "1900000109").await < attempt(1).account {}
}

pub fn ticket(no: u8) -> OrderEvent {
    OrderEvent::TicketIssued { attempt: attempt(no).no, ticket: Ticket("wx201410272009395522657a690389285100".into()) }
}

pub fn payment(no: u8) -> OrderEvent {
    OrderEvent::PaymentConfirmed {
        attempt: attempt(no).no,
        payment: Payment {
            trade_no: TradeNo::parse("1217752501201407033233368018").unwrap(),
            payer_amount: Some(Sum::new(1).unwrap()),
            paid_at: secs(9),
        },
    }
}

pub fn moved(order: &Order, event: OrderEvent) -> Box<Moved> {
    moved_at(order, event, NOW)
}

fn moved_at(order: &Order, event: OrderEvent, now: Timestamp) -> Box<Moved> {
    match order.apply(event, now).unwrap() {
        Step::Moved(moved) => moved,
        Step::AlreadyThere => panic!("the event changes nothing"),
    }
}

/// Applies and commits an event; the order loaded afterwards is the one that was meant.
pub async fn step(store: &Store, order: &Order, event: OrderEvent) -> Order {
    step_at(store, order, event, NOW).await
}

/// The same at another moment.
pub async fn step_at(store: &Store, order: &Order, event: OrderEvent, now: Timestamp) -> Order {
    let moved = moved_at(order, event, now);
    let commit = Commit { moved: &moved, outcome: None, at: NOW };
    assert_eq!(store.commit(commit).await.unwrap(), Committed::Done);
    let loaded = store.load_order(order.id).await.unwrap().expect("the order is there");
    assert_eq!(loaded, moved.order);
    loaded
}
