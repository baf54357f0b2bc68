//! What a person does about money that waits for one: disputes decided, refunds cancelled and made.

mod on_sqlite {
    use std::time::Duration;

    use prepay::{
        domain::{
            attempt::{Dispute, Frozen, Mismatch, Retirement},
            id::{MerchantId, OrderId, RefundNo, TradeNo},
            money::Fen,
            order::{AnomalyKind, Handled, Order, OrderEvent},
            refund::{Initiator, Refund, RefundEvent, RefundStep, RefundWish},
        },
        store::{RefundCommit, RefundCommitted, RefundInserted, Store},
    };
    use sea_orm::{ConnectionTrait, Database};

    use crate::{
        cli::deployment::Deployment,
        store::{
            place,
            shop::{self, NOW, attempt, payment, started, step},
        },
    };

    /// A merchant C1 and its orders.
    struct Desk {
        at: Deployment,
        store: Store,
    }

    impl Desk {
        async fn open() -> Self {
            let mut at = Deployment::empty().await;
            at.set_up().await;
            at.ok(&["merchant", "add", "C1", "--name", "测试商户"]).await;
            let store = place::connect(&format!("sqlite://{}", at.path("prepay.db").display()), 2).await;
            Self { at, store }
        }

        async fn sql(&self, sql: &str) {
            let db = Database::connect(format!("sqlite://{}", self.at.path("prepay.db").display())).await.unwrap();
            db.execute_unprepared(sql).await.unwrap();
            db.close().await.unwrap();
        }

        /// An order with its first number at the wallet.
        async fn open_order(&self) -> Order {
            let order = Order { merchant: MerchantId(1), amount: Fen::new(1999).unwrap(), ..shop::order() };
            self.store.insert_order(&order).await.unwrap();
            step(&self.store, &order, started(1)).await
        }

        async fn disputed(&self, what: Mismatch) -> Order {
            let dispute = Dispute { what, payer_amount: None, paid_at: Some(NOW) };
            let trade_no = TradeNo::parse("4200").unwrap();
            let event = OrderEvent::PaymentDisputed { attempt: attempt(1).no, trade_no, dispute };
            step(&self.store, &self.open_order().await, event).await
        }

        async fn paid(&self) -> Order {
            step(&self.store, &self.open_order().await, payment(1)).await
        }

        /// Paid by its second number, then by the first; nobody has decided about that.
        async fn paid_twice(&self) -> Order {
            let closed = OrderEvent::AttemptRetired { attempt: attempt(1).no, how: Retirement::Closed };
            let order = step(&self.store, &self.open_order().await, closed).await;
            let order = step(&self.store, &order, started(2)).await;
            let order = step(&self.store, &order, payment(2)).await;
            step(&self.store, &order, payment(1)).await
        }

        async fn decide_anomalies(&self, order: &Order, handled: Handled) {
            for row in self.store.anomalies(order.id).await.unwrap() {
                self.store.handle_anomaly(row.id, handled).await.unwrap();
            }
        }

        async fn refund(&self, order: &Order, no: &str, amount: i64, events: &[RefundEvent]) -> Refund {
            let wish = RefundWish {
                refund_no: RefundNo::parse(no).unwrap(),
                fingerprint: [7; 32],
                amount: Fen::new(amount).unwrap(),
                reason: None,
                notify_url: None,
                initiator: Initiator::Merchant,
            };
            let mut refund = Refund::new(order, &order.attempts[0], wish, NOW);
            assert_eq!(self.store.insert_refund(&refund).await.unwrap(), RefundInserted::New);
            for event in events {
                let RefundStep::Moved(moved) = refund.apply(event.clone(), NOW) else { panic!("nothing changes") };
                let commit = RefundCommit { moved: &moved, spacing: Duration::ZERO, told: None, at: NOW };
                assert_eq!(self.store.commit_refund(commit).await.unwrap(), RefundCommitted::Done);
                refund = moved.refund;
            }
            refund
        }

        /// The merchant's events of an order, by the database.
        async fn told(&self, order: OrderId) -> Vec<(String, String)> {
            let events = self.store.list_events(Default::default(), 100).await.unwrap();
            let of_it = events.into_iter().filter(|event| event.order == order);
            of_it.map(|event| (event.kind.as_str().to_owned(), event.facts)).collect()
        }

        async fn close(self) {
            self.store.close().await;
            self.at.assert_no_secret_printed();
            self.at.stop().await;
        }
    }

    fn sent() -> RefundEvent {
        RefundEvent::SendRecorded { frozen: Frozen { body: "{}".into(), notify_url: String::new() } }
    }

    fn refused(send: u32) -> RefundEvent {
        RefundEvent::SendRefused { send, hint: "NOT_ENOUGH".into(), again_in: Duration::from_secs(60) }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_dispute_is_decided_by_a_person_who_says_why() {
        let desk = Desk::open().await;
        let at = &desk.at;
        let amount = Mismatch::Amount { paid: Fen::new(1).unwrap(), ordered: Fen::new(1999).unwrap() };
        let order = desk.disputed(amount).await;
        let decide = |order: &Order, how: &[&str]| {
            let no = order.order_no.to_string();
            let args = [&["order", "decide", &no, "--customer", "C1", "--attempt"][..], how].concat();
            args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>()
        };
        let run = async |order: &Order, how: &[&str]| {
            let args = decide(order, how);
            at.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
        };
        for wrong in [
            &["1", "--note", "x"][..],
            &["1", "--take", "--let-go", "--note", "x"],
            &["1", "--take"],
            &["1", "--take", "--note", " "],
            &["0", "--take", "--note", "x"],
        ] {
            assert_eq!(run(&order, wrong).await.code, 2, "{wrong:?}");
        }
        let taken = run(&order, &["1", "--take", "--note", "x"]).await;
        assert!(taken.code == 1 && taken.err.contains("give it back"), "{taken:?}");
        assert!(taken.err.contains("paid 1 fen, ordered 1999 fen"), "{taken:?}");
        assert!(run(&order, &["2", "--let-go", "--note", "x"]).await.err.contains("has no"));
        let go = ["1", "--let-go", "--note", "王: refunded by hand on 3 March"];
        for _ in 0..2 {
            let done = run(&order, &go).await;
            assert!(done.code == 0 && done.out.contains("waiting (WAITPAY)"), "{done:?}");
        }
        assert!(run(&order, &["1", "--take", "--note", "x"]).await.err.contains("is let_go and not disputed"));
        let shown = at.ok(&["order", "show", order.order_no.as_str(), "--customer", "C1"]).await;
        for word in ["let_go 4200", "dispute_let_go", "王: refunded by hand on 3 March", "paid 1 fen, ordered 1999 fen"]
        {
            assert!(shown.contains(word), "{word}: {shown}");
        }
        assert_eq!(shown.matches("dispute_let_go").count(), 1, "{shown}");
        assert_eq!(desk.told(order.id).await.len(), 0);

        let order = desk.disputed(Mismatch::Foreign { field: "mchid".into() }).await;
        let taken = run(&order, &["1", "--take", "--note", "王: our other account"]).await;
        assert!(taken.code == 0 && taken.out.contains("paid (SUCCESS)"), "{taken:?}");
        assert_eq!(desk.told(order.id).await.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["PAY"]);
        assert!(run(&order, &["1", "--let-go", "--note", "x"]).await.err.contains("is paid and not disputed"));
        desk.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_refund_is_cancelled_while_nothing_of_it_can_have_arrived() {
        let desk = Desk::open().await;
        let order = desk.paid().await;
        let cancel = async |no: &str| desk.at.run(&["refund", "cancel", no, "--customer", "C1"]).await;
        desk.refund(&order, "R1", 500, &[]).await;
        desk.refund(&order, "R2", 500, &[sent(), refused(1)]).await;
        for no in ["R1", "R2"] {
            let done = cancel(no).await;
            assert!(done.code == 0 && done.out.contains("500 fen"), "{done:?}");
            assert!(cancel(no).await.err.contains("it failed already"));
        }
        let told = desk.told(order.id).await;
        assert_eq!(told.iter().filter(|(_, facts)| facts.contains("\"refundStatus\":\"FAIL\"")).count(), 2);
        // Their parts are free: all of the payment is left for others.
        desk.refund(&order, "R3", 1000, &[sent()]).await;
        desk.refund(&order, "R4", 999, &[sent(), RefundEvent::Known { hint: None }]).await;
        assert!(cancel("R3").await.err.contains("may have arrived"));
        assert!(cancel("R4").await.err.contains("the wallet has it"));
        assert!(cancel("R5").await.err.contains("has no refund R5"));
        desk.close().await;
    }

    /// Only wanted here: the scheduler asks, and sends nothing that the wallet has.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_person_has_the_wallet_asked_about_a_refund() {
        let desk = Desk::open().await;
        let order = desk.paid().await;
        let retry = async |no: &str| desk.at.run(&["refund", "retry", no, "--customer", "C1"]).await;
        let before = desk.refund(&order, "R1", 500, &[sent()]).await;
        let done = retry("R1").await;
        assert!(done.code == 0 && done.out == "the wallet is asked about refund R1 now\n", "{done:?}");
        let after = desk.store.load_refund(before.id).await.unwrap().unwrap();
        assert_eq!(after, Refund { next_at: after.next_at, version: before.version + 1, ..before.clone() });
        assert_ne!(after.next_at, before.next_at);
        let paid_back = RefundEvent::PaidBack { at: NOW, wallet_refund_no: None };
        desk.refund(&order, "R2", 500, &[sent(), paid_back]).await;
        assert_eq!(retry("R2").await.out, "refund R2 is succeeded already\n");
        assert!(retry("R5").await.err.contains("has no refund R5"));
        desk.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn money_that_waits_for_a_person_is_found() {
        let desk = Desk::open().await;
        let list = async |more: &[&str]| desk.at.ok(&[&["order", "anomalies"][..], more].concat()).await;
        assert_eq!(list(&[]).await, "no unexpected money waits for a person\n");
        assert_eq!(list(&["--all"]).await, "no unexpected money\n");
        let twice = desk.paid_twice().await;
        assert_eq!(list(&[]).await, "no unexpected money waits for a person\n", "its policy decides");
        let disputed = desk.disputed(Mismatch::Foreign { field: "mchid".into() }).await;
        let rows = |told: &str| -> Vec<Vec<String>> {
            let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            told.lines().map(columns).collect()
        };
        let number = |order: &Order| order.out_trade_no(attempt(1).no).to_string();
        let named = |order: &Order| [order.order_no.to_string(), "C1".to_owned(), number(order)];
        let told = list(&[]).await;
        let lines = rows(&told);
        assert_eq!(lines.len(), 3, "a heading, a row, what to do next: {told}");
        assert_eq!(lines[1][1..4], named(&disputed), "{told}");
        assert!(lines[1].contains(&"disputed".to_owned()) && lines[1].contains(&"person".to_owned()), "{told}");
        for command in ["prepay order show", "prepay order decide", "prepay refund make", "prepay order settle"] {
            assert!(told.lines().last().unwrap().contains(command), "{command}: {told}");
        }
        assert_eq!(rows(&list(&["--all"]).await).len(), 5, "those of the policy, too");

        // A refund by policy that fails leaves its money to a person.
        let anomalies = desk.store.anomalies(twice.id).await.unwrap();
        assert!(desk.store.handle_anomaly(anomalies[1].id, Handled::Person).await.unwrap());
        let told = list(&[]).await;
        let found: Vec<_> = rows(&told)[1..3].iter().map(|row| row[1..4].to_vec()).collect();
        assert_eq!(found, [named(&disputed), named(&twice)], "the newest first: {told}");
        assert_eq!(rows(&list(&["--limit", "1"]).await).len(), 3);
        assert_eq!(desk.at.run(&["order", "anomalies", "--limit", "0"]).await.code, 2);
        desk.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_beside_a_payment_is_ended_with_a_note() {
        let desk = Desk::open().await;
        let settle = async |order: &Order, kind: &str, end: &str| {
            let args = ["order", "settle", order.order_no.as_str(), "--customer", "C1", "--attempt", "1"];
            let more = ["--anomaly", kind, end, "--note", "李: given back at the wallet"];
            desk.at.run(&[&args[..], &more].concat()).await
        };
        let twice = desk.paid_twice().await;
        let number = twice.out_trade_no(attempt(1).no);
        let refused = settle(&twice, "second_payment", "--went-back").await;
        assert!(refused.code == 1 && refused.err.contains("is due: it waits for nobody"), "{refused:?}");
        desk.decide_anomalies(&twice, Handled::Person).await;
        let done = settle(&twice, "second_payment", "--went-back").await;
        assert!(done.code == 0 && done.out == format!("second_payment of {number}: it went back\n"), "{done:?}");
        assert_eq!(settle(&twice, "closed_number_paid", "--stays").await.code, 0);
        let mut handled: Vec<_> = desk.store.anomalies(twice.id).await.unwrap();
        handled.sort_by_key(|row| row.kind.as_str());
        assert_eq!(handled.iter().map(|row| row.handled).collect::<Vec<_>>(), [Handled::Kept, Handled::LetGo]);
        assert!(settle(&twice, "second_payment", "--went-back").await.out.contains("is let_go already"));
        let after = desk.store.load_order(twice.id).await.unwrap().unwrap();
        assert_eq!((after.version, &after.attempts), (twice.version + 2, &twice.attempts), "nothing else changed");
        let notes = desk.store.history(twice.id).await.unwrap().into_iter().filter_map(|row| row.note).count();
        assert_eq!(notes, 2, "who decided stands in the history");

        assert!(settle(&twice, "late_payment", "--stays").await.err.contains("has no anomaly late_payment"));

        // What went back already is not given back once more, until somebody says that it did not.
        let make = async |amount: &str| {
            let args =
                ["refund", "make", twice.order_no.as_str(), "--customer", "C1", "--attempt", "1", "--reason", "x"];
            desk.at.run(&[&args[..], &["--amount", amount, "--left", "1999"]].concat()).await
        };
        let refused = make("1000").await;
        assert!(refused.code == 1 && refused.err.contains("`prepay order settle --stays` first"), "{refused:?}");
        assert_eq!(settle(&twice, "second_payment", "--stays").await.code, 0);
        assert_eq!(make("1000").await.code, 0);
        // With a part of it on its way, nothing is settled; when that fails, a person is wanted whatever was settled.
        let refused = settle(&twice, "second_payment", "--went-back").await;
        assert!(refused.code == 1 && refused.err.contains("is waiting: settle it first"), "{refused:?}");
        desk.sql("UPDATE anomalies SET handled = 'let_go' WHERE kind = 'second_payment'").await;
        let made = desk.store.refunds_of(twice.id).await.unwrap().remove(0);
        let cancel = ["refund", "cancel", made.refund_no.as_str(), "--customer", "C1"];
        assert_eq!(desk.at.run(&cancel).await.code, 0);
        let second = desk.store.anomalies(twice.id).await.unwrap();
        let second = second.iter().find(|row| row.kind == AnomalyKind::SecondPayment).unwrap();
        assert_eq!(second.handled, Handled::Person);
        let disputed = desk.disputed(Mismatch::Foreign { field: "mchid".into() }).await;
        assert!(settle(&disputed, "disputed", "--stays").await.err.contains("`prepay order decide` ends a dispute"));
        assert_eq!(settle(&twice, "nonsense", "--stays").await.code, 2);
        desk.close().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_payment_is_given_back_by_hand() {
        let desk = Desk::open().await;
        let make = async |order: &Order, more: &[&str]| {
            let no = order.order_no.as_str();
            let args =
                [&["refund", "make", no, "--customer", "C1", "--reason", "重复支付", "--attempt"][..], more].concat();
            desk.at.run(&args).await
        };
        let handled = async |order: &Order| {
            let rows = desk.store.anomalies(order.id).await.unwrap();
            rows.iter().map(|row| row.handled).collect::<Vec<_>>()
        };
        let order = desk.paid_twice().await;
        assert!(make(&order, &["1"]).await.err.contains("policy decides"));
        desk.decide_anomalies(&order, Handled::Kept).await;
        let number = order.out_trade_no(attempt(1).no);
        assert_eq!(make(&order, &["1", "--amount", "500"]).await.code, 2, "--left is to be given with it");
        for (n, more) in [(2, &["1", "--amount", "500", "--left", "1999"][..]), (3, &["1"])] {
            let done = make(&order, more).await;
            assert!(done.code == 0 && done.out.contains(&format!("refund: SYS-{number}-{n}\n")), "{done:?}");
            if n == 2 {
                let again = make(&order, more).await;
                let says = format!("1499 fen of {number} are left; the last refund is SYS-{number}-2, 500 fen");
                assert!(again.code == 1 && again.err.contains(&says), "said twice, it is made once: {again:?}");
                let shown = desk.at.ok(&["order", "show", order.order_no.as_str(), "--customer", "C1"]).await;
                assert!(shown.contains(&format!("left of {number}: 1499 fen")), "{shown}");
                assert_eq!(handled(&order).await, [Handled::Kept, Handled::Kept], "a part of it stays");
            }
        }
        assert!(make(&order, &["1"]).await.err.contains("0 fen of"));
        let refunds = desk.store.refunds_of(order.id).await.unwrap();
        let made: Vec<_> = refunds.iter().map(|row| (row.amount.get(), row.initiator, row.attempt)).collect();
        assert_eq!(made, [500, 1499].map(|fen| (fen, Initiator::System, attempt(1).no)));
        assert_eq!(
            handled(&order).await,
            [Handled::Kept, Handled::Refunded],
            "the closed number's, the second payment's"
        );

        // One that did not reach the payer keeps its part; what is left beside it may go.
        let order = desk.paid().await;
        let undelivered = RefundEvent::Undelivered { wallet_refund_no: None };
        desk.refund(&order, "R1", 1500, &[sent(), undelivered]).await;
        let done = make(&order, &["1", "--amount", "500", "--left", "499"]).await;
        assert!(done.code == 1 && done.err.contains("would pay twice"), "{done:?}");
        assert_eq!(make(&order, &["1", "--amount", "499", "--left", "499"]).await.code, 0);

        let order = desk.open_order().await;
        assert!(make(&order, &["1"]).await.err.contains("is sent: only what is paid is given back"));
        assert_eq!(make(&order, &["1", "--amount", "0", "--left", "0"]).await.code, 2);
        desk.close().await;
    }
}
