//! The wallets' bills on the desk: they agree, a payment is left out of one, and it is there again.

mod on_sqlite {
    mod on_embedded {
        use reqwest::StatusCode;
        use serde_json::{Value, json};

        use crate::{
            demo::{Phone, start, until},
            trip::harness::until_midnight_is_not_near,
        };

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn a_payment_that_a_bill_lacks_is_found_and_gone_once_it_is_there() {
            until_midnight_is_not_near().await;
            let demo = start(None).await;
            let phone = Phone::at(&demo.base_url);
            for wallet in look(&phone).await {
                assert_eq!((&wallet["trouble"], &wallet["found"]), (&json!("no_bill"), &json!([])), "{wallet:#}");
            }
            assert_eq!(leave_out(&phone, true).await, Value::Null, "nobody paid yet");

            let wechat = phone.order_paid_at_the_cashier("wechat").await;
            phone.until_paid(&wechat).await;
            let alipay = phone.order_paid_at_the_cashier("alipay").await;
            phone.until_paid(&alipay).await;
            assert_eq!(phone.refund(&wechat, 100).await.0, StatusCode::OK);
            until("the refund is settled", || async {
                phone.seen(&wechat).await["order"]["refunds"][0]["refundStatus"] == "SUCCESS"
            })
            .await;
            let [of_wechat, of_alipay] = look(&phone).await;
            for (wallet, order, refunds, refund_fen) in [(&of_wechat, &wechat, 1, 100), (&of_alipay, &alipay, 0, 0)] {
                let amount = phone.seen(order).await["order"]["orderAmount"].clone();
                assert_eq!((&wallet["payments"], &wallet["payFen"]), (&json!(1), &amount), "{wallet:#}");
                assert_eq!((&wallet["refunds"], &wallet["refundFen"]), (&json!(refunds), &json!(refund_fen)));
                assert_eq!((&wallet["trouble"], &wallet["discrepancies"]), (&Value::Null, &json!(0)), "{wallet:#}");
                assert_eq!(wallet["found"], json!([]));
            }

            // It was the only one in its bill; a wallet without rows would have no bill.
            let left_out = leave_out(&phone, true).await;
            let number = phone.seen(&alipay).await["order"]["attempts"][0]["outTradeNo"].clone();
            assert_eq!(left_out, json!({ "wallet": "alipay", "outTradeNo": number }));
            for _ in 0..2 {
                let [of_wechat, of_alipay] = look(&phone).await;
                assert_eq!(of_wechat["discrepancies"], 0, "{of_wechat:#}");
                assert_eq!((&of_alipay["discrepancies"], &of_alipay["ofOthers"]), (&json!(1), &json!(1)));
                // The scheduler may have asked about it already, so that it need not be open.
                let found = of_alipay["found"].as_array().unwrap();
                let found: Vec<_> = found.iter().map(|row| (&row["kind"], &row["number"])).collect();
                assert_eq!(found, [(&json!("missing_there"), &number)], "{of_alipay:#}");
            }

            assert_eq!(leave_out(&phone, false).await, Value::Null);
            let [_, of_alipay] = look(&phone).await;
            assert_eq!((&of_alipay["discrepancies"], &of_alipay["ofOthers"]), (&json!(0), &json!(0)));
            assert_eq!(of_alipay["found"][0]["open"], false, "{of_alipay:#}");
            let (status, refused) = phone.ask("/demo/bills", json!({ "leaveOut": "all" })).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{refused:#}");
            demo.stop().await;
        }

        /// Both wallets' bills, fetched and matched: WeChat's, Alipay's.
        async fn look(phone: &Phone) -> [Value; 2] {
            let (status, answer) = phone.ask("/demo/bills/look", json!({})).await;
            assert_eq!(status, StatusCode::OK, "{answer:#}");
            let wallets = answer["wallets"].as_array().unwrap();
            assert_eq!(wallets.len(), 2, "{answer:#}");
            ["wechat", "alipay"].map(|name| wallets.iter().find(|one| one["wallet"] == name).unwrap().clone())
        }

        async fn leave_out(phone: &Phone, yes: bool) -> Value {
            let (status, answer) = phone.ask("/demo/bills", json!({ "leaveOut": yes })).await;
            assert_eq!(status, StatusCode::OK, "{answer:#}");
            let (_, again) = phone.text("/demo/bills").await;
            assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), answer);
            answer["leftOut"].clone()
        }
    }
}
