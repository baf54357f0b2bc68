//! The wallets' bills from the command line.

mod on_sqlite {
    use prepay::domain::{
        bill::BillDate,
        id::{AttemptNo, OrderId, OutTradeNo},
        time::Timestamp,
    };
    use simulator::{BillChange, BillRow};

    use crate::{cli::deployment::Deployment, trip::shop::now_s};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn bills_are_matched_listed_and_dismissed_by_hand() {
        let mut at = Deployment::empty().await;
        at.set_up().await;
        let enrolled = at.enrol().await;
        let today = BillDate::of(Timestamp::from_secs(i64::try_from(now_s()).unwrap()));
        let date = today.previous().previous();
        let out_trade_no = OutTradeNo { order: OrderId::fresh(), attempt: AttemptNo::FIRST }.to_string();
        let added = |date: BillDate, trade_no: &str| {
            let row = BillRow {
                at_ms: date.begin().ms(),
                created_ms: date.begin().ms(),
                out_trade_no: out_trade_no.clone(),
                trade_no: trade_no.into(),
                amount_fen: 1999,
                status: "SUCCESS".into(),
                ..BillRow::default()
            };
            BillChange::Add { row: Box::new(row) }
        };
        let theirs = added(date, "4200000000000000000000000001");
        at.sim.wechat().change_bills(&enrolled.wechat.mchid, theirs);

        assert!(at.fails(&["reconcile", "--date", &today.next().to_string()]).await.contains("is not over"));
        assert!(at.fails(&["reconcile", "--date", &date.to_string(), "--channel", "9"]).await.contains("channel list"));
        let told = at.ok(&["reconcile", "--date", &date.to_string()]).await;
        assert!(told.contains("1 payments of 1999 fen") && told.contains("1 do not agree"), "{told}");
        assert!(told.contains("the wallet has no bill, and nothing happened"), "{told}");
        let seen = at.on_terminal(&["reconcile", "--date", &date.to_string()]).await;
        for step in ["1 wechat: fetching the bill", "comparing", " 1/4 ", "looking for what it lacks"] {
            assert!(seen.contains(step), "{step:?} is not on the bar: {seen:?}");
        }
        let days = at.ok(&["reconcile", "days"]).await;
        assert!(days.contains("matched") && days.contains("none"), "{days}");
        let list = at.ok(&["reconcile", "list"]).await;
        assert!(list.contains("unknown_number") && list.contains(&out_trade_no), "{list}");
        assert!(at.fails(&["reconcile", "repair", "1"]).await.contains("reconcile dismiss 1"));
        assert!(at.fails(&["reconcile", "repair", "2"]).await.contains("there is no discrepancy 2"));
        assert_eq!(at.ok(&["reconcile", "dismiss", "1", "--because", "a test"]).await.trim(), "dismissed");
        assert!(at.ok(&["reconcile", "dismiss", "1", "--because", "again"]).await.contains("dismissed already"));
        assert!(!at.ok(&["reconcile", "list"]).await.contains(&out_trade_no));
        assert!(at.ok(&["reconcile", "list", "--all"]).await.contains("a test"));

        let theirs = added(date.previous(), "2026030122001400000000000001");
        at.sim.alipay().change_bills(&enrolled.alipay_app.seller_id, theirs);
        let told = at.ok(&["reconcile", "--date", &date.previous().to_string(), "--channel", "2"]).await;
        assert!(told.contains("channel 2: 1 payments of 1999 fen") && told.contains("1 do not agree"), "{told}");
        at.stop().await;
    }
}
