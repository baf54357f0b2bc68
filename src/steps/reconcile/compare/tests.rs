use super::*;
use crate::{
    domain::{
        id::{AttemptNo, MerchantId, OrderId, RefundId, RefundNo},
        money::Fen,
        refund::Initiator,
        time::Timestamp,
        wallet::Wallet,
    },
    gateway::BillKind,
};

const ACCOUNT: AccountId = AccountId(7);
const AT: Timestamp = Timestamp::from_secs(1_772_337_600);

fn known(state: &str) -> KnownPayment {
    let settled = matches!(state, "paid" | "disputed" | "let_go");
    KnownPayment {
        number: OutTradeNo { order: OrderId::from_bytes([1; 16]), attempt: AttemptNo::FIRST },
        account: ACCOUNT,
        state: state.to_owned(),
        trade_no: settled.then(|| "4200".to_owned()),
        amount_fen: 1999,
        paid_at: settled.then_some(AT),
    }
}

fn row(kind: BillKind, number: &str) -> BillRow {
    BillRow {
        kind,
        out_trade_no: number.to_owned(),
        out_refund_no: None,
        wallet_trade_no: "4200".to_owned(),
        wallet_refund_no: None,
        amount: Fen::new(1999).unwrap(),
        received: None,
        refund_status: None,
        at: AT,
        app_id: None,
        mchid: None,
        sub_mchid: None,
    }
}

fn wrong(compared: &Compared) -> Option<(DiscrepancyKind, Repair)> {
    match compared {
        Compared::OfOthers => None,
        Compared::Ours { wrong, .. } => wrong.as_ref().map(|found| (found.kind, found.repair)),
        Compared::Unknown(found) => Some((found.kind, found.repair)),
    }
}

#[test]
fn every_state_of_a_payment_against_a_row_that_says_paid() {
    let number = known("paid").number.to_string();
    let paid = row(BillKind::Pay, &number);
    let dearer = BillRow { amount: Fen::new(2000).unwrap(), ..paid.clone() };
    let other_trade = BillRow { wallet_trade_no: "4201".to_owned(), ..paid.clone() };
    let same = |state: &str| wrong(&payment(&paid, ACCOUNT, Some(&known(state))));
    let missing = Some((DiscrepancyKind::MissingHere, Repair::AskPayment));
    assert_eq!(same("paid"), None);
    for state in ["sent", "open", "closed", "refused", "lapsed"] {
        assert_eq!(same(state), missing, "{state}");
        let found = wrong(&payment(&dearer, ACCOUNT, Some(&known(state))));
        assert_eq!(found, Some((DiscrepancyKind::AmountDiffers, Repair::AskPayment)), "{state}");
    }
    assert_eq!(same("disputed"), Some((DiscrepancyKind::StatusDiffers, Repair::Person)));
    for state in ["paid", "disputed"] {
        let found = wrong(&payment(&dearer, ACCOUNT, Some(&known(state))));
        assert_eq!(found, Some((DiscrepancyKind::AmountDiffers, Repair::Person)), "{state}");
    }
    // Not missing: a person let it go, whatever its amount is. Another trade of the number is news.
    let let_go = known("let_go");
    for row in [&paid, &dearer] {
        let compared = payment(row, ACCOUNT, Some(&let_go));
        assert_eq!(wrong(&compared), Some((DiscrepancyKind::StatusDiffers, Repair::Person)));
        let Compared::Ours { wrong: Some(found), .. } = compared else { panic!("{compared:?}") };
        assert!(found.ours.starts_with("let go by a person, of 1999 fen, 4200"), "{}", found.ours);
    }
    assert_eq!(wrong(&payment(&other_trade, ACCOUNT, Some(&let_go))), missing);
    let found = wrong(&payment(&other_trade, ACCOUNT, Some(&known("paid"))));
    assert_eq!(found, Some((DiscrepancyKind::StatusDiffers, Repair::Person)));
    let found = wrong(&payment(&paid, ACCOUNT, None));
    assert_eq!(found, Some((DiscrepancyKind::UnknownNumber, Repair::Person)));
}

#[test]
fn rows_of_others_are_not_compared() {
    assert_eq!(payment(&row(BillKind::Pay, "SHOP-1"), ACCOUNT, None), Compared::OfOthers);
    let number = known("open").number.to_string();
    assert_eq!(payment(&row(BillKind::Pay, &number), AccountId(8), Some(&known("open"))), Compared::OfOthers);
    let foreign = BillRow { out_refund_no: Some("R1".to_owned()), ..row(BillKind::Refund, "SHOP-1") };
    assert_eq!(refund(&foreign, ACCOUNT, None, None), Compared::OfOthers);
}

#[test]
fn a_refund_that_nobody_here_made_of_a_payment_of_ours_is_told() {
    let paid = known("paid");
    let by_hand =
        BillRow { out_refund_no: Some("BY-HAND".to_owned()), ..row(BillKind::Refund, &paid.number.to_string()) };
    let told = refund(&by_hand, ACCOUNT, None, Some(&paid));
    let Compared::Unknown(found) = &told else { panic!("{told:?}") };
    assert_eq!((found.kind, found.order), (DiscrepancyKind::UnknownNumber, Some(paid.number.order)));
    assert_eq!(found.number(), "BY-HAND");
    // Of another account's payment it is that account's business; of a payment of our form that nobody knows it is not.
    assert_eq!(refund(&by_hand, AccountId(8), None, Some(&paid)), Compared::OfOthers);
    let told = refund(&by_hand, ACCOUNT, None, None);
    let Compared::Unknown(found) = &told else { panic!("{told:?}") };
    assert_eq!((found.kind, found.order, found.number()), (DiscrepancyKind::UnknownNumber, None, "BY-HAND"));
}

#[test]
fn every_state_of_a_refund_against_every_status_of_a_bill() {
    let ours = |state: RefundState| Refund {
        id: RefundId::from_bytes([2; 16]),
        merchant: MerchantId(1),
        refund_no: RefundNo::parse("R1").unwrap(),
        fingerprint: [0; 32],
        order: OrderId::from_bytes([1; 16]),
        attempt: AttemptNo::FIRST,
        wallet: Wallet::WechatPay,
        account: ACCOUNT,
        amount: Fen::new(1999).unwrap(),
        total: Fen::new(1999).unwrap(),
        reason: None,
        notify_url: None,
        initiator: Initiator::Merchant,
        state,
        frozen: None,
        sends: 1,
        refusals: 0,
        asks: 0,
        sent_at: None,
        doubtful_at: None,
        denied_at: None,
        known_at: None,
        wallet_refund_no: None,
        hint: None,
        created_at: AT,
        next_at: None,
        version: 1,
    };
    let states = [
        RefundState::Waiting,
        RefundState::Sent,
        RefundState::Processing,
        RefundState::Succeeded { at: AT },
        RefundState::Failed { why: "x".to_owned() },
        RefundState::Abnormal,
    ];
    // Columns as above: waiting, sent, processing, succeeded, failed, abnormal; y agrees.
    for (status, agreeing) in [
        (RefundStatus::Processing, "nyyyny"),
        (RefundStatus::Success, "nnnynn"),
        (RefundStatus::Abnormal, "nnnyny"),
        (RefundStatus::Closed, "nnnnyn"),
    ] {
        for (state, agrees) in states.iter().zip(agreeing.chars()) {
            let known = ours(state.clone());
            let mut theirs = row(BillKind::Refund, &known.out_trade_no().to_string());
            theirs.out_refund_no = Some(known.out_refund_no().to_string());
            theirs.refund_status = Some(status);
            let expected = (agrees == 'n').then_some((DiscrepancyKind::StatusDiffers, Repair::AskRefund));
            assert_eq!(wrong(&refund(&theirs, ACCOUNT, Some(&known), None)), expected, "{state:?} {status:?}");
            theirs.amount = Fen::new(1).unwrap();
            let found = wrong(&refund(&theirs, ACCOUNT, Some(&known), None));
            assert_eq!(found, Some((DiscrepancyKind::AmountDiffers, Repair::Person)));
        }
    }
}
