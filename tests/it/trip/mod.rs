//! Whole trips: a phone's call through front, queue and worker to a simulated wallet and back.

mod answers_lost;
mod bad_input;
mod basics;
mod bill_days;
mod bills;
mod books;
mod broker_away;
mod caller;
mod closes;
mod disputes;
mod events;
mod expiry;
mod extras;
mod forger;
mod forgeries;
pub mod harness;
pub mod inbox;
mod invariants;
mod late_money;
mod modes;
mod notices;
mod orders_api;
mod payers;
mod phone;
mod queue_gone;
mod rabbit;
mod refunds;
mod repairs;
pub mod shop;
mod sides;
mod signatures;
mod strangers;
mod switches;
mod switches_apart;
mod told;
mod turns;
mod verdicts;
pub mod watched;

/// Makes one module per place, each with all tests: a database and a broker, named in the path.
macro_rules! on_every_place {
    ($($room:ident: $($test:ident),+ $(,)?;)+) => {
        mod on_sqlite {
            on_every_place!(@module on_embedded Sqlite Embedded $($room: $($test),+;)+);
        }
        mod on_postgres {
            on_every_place!(@module on_rabbitmq Postgres Rabbitmq $($room: $($test),+;)+);
        }
        mod on_mariadb {
            on_every_place!(@module on_rabbitmq Mariadb Rabbitmq $($room: $($test),+;)+);
        }
    };
    (@module $module:ident $database:ident $broker:ident $($room:ident: $($test:ident),+;)+) => {
        pub mod $module {
            use crate::{store::place::On, trip::harness::{Via, World}};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    World::run(On::$database, Via::$broker, crate::trip::$room::$test).await;
                }
            )+)+
        }
    };
}

on_every_place! {
    basics:
        a_code_becomes_signed_parameters,
        an_identify_id_becomes_signed_parameters,
        alipay_code_becomes_a_trade_no,
        a_paid_order_says_so,
        ;
    modes:
        a_wechat_provider_serves_its_merchant,
        a_providers_own_mini_program_pays_too,
        platform_certificates_are_fetched_and_used,
        both_kinds_of_key_are_accepted_while_wechat_moves,
        alipay_in_certificate_mode,
        alipays_certificate_gets_a_successor,
        an_alipay_provider_serves_its_merchant;
    phone:
        a_body_is_told_apart_by_looking,
        values_are_trimmed_and_absent_words_are_absent,
        what_cannot_be_read_is_1008_and_reaches_no_wallet,
        a_link_that_is_not_ours_is_2106_whichever_character_is_wrong,
        an_expired_link_still_tells_how_the_order_ended,
        the_other_wallet_is_shown_the_door,
        only_post_is_taken,
        every_answer_is_json_that_nobody_stores,
        chunked_bodies_are_taken_and_bounded_alike,
        a_slow_sender_does_not_hold_a_connection,
        the_page_is_shown_what_is_paid_and_how_it_stands,
        ;
    payers:
        the_same_code_again_gives_the_same_prepay_from_one_exchange,
        twenty_equal_calls_at_once_are_one_exchange_and_one_prepay,
        one_payer_who_comes_in_many_ways_at_once_has_one_prepay,
        two_fronts_and_two_workers_make_one_prepay,
        a_code_belongs_to_the_order_it_came_with,
        a_refused_code_asks_for_a_login_and_a_fresh_one_works,
        an_identity_that_the_wallet_does_not_know_is_3002,
        another_payer_gets_a_new_number_after_the_old_one_is_closed,
        the_other_wallet_gets_a_number_after_the_first_one_is_closed,
        a_crowd_on_one_link_pays_once,
        paid_meanwhile_is_told_to_the_next_payer,
        a_payment_that_wins_against_the_close_is_told,
        a_link_is_not_passed_round_without_end,
        whoever_cancels_may_pay_after_all_with_the_same_prepay,
        a_payer_who_paid_unheard_is_not_sent_to_pay_again,
        an_old_prepay_is_renewed_under_its_number,
        a_mini_program_without_secret_takes_identify_ids_alone,
        ;
    answers_lost:
        a_prepay_whose_answer_was_lost_is_found_under_its_number,
        a_prepay_that_never_arrived_is_sent_again_with_the_same_bytes,
        a_trade_that_is_seen_late_or_named_twice_is_still_one_payment,
        a_wallet_that_hangs_ends_in_processing_not_in_silence,
        an_answer_that_does_not_verify_is_never_handed_to_a_phone,
        a_query_that_does_not_verify_or_is_about_another_order_pays_nothing,
        a_lost_exchange_burns_its_code_and_a_fresh_login_works,
        what_the_login_server_says_is_told_as_published,
        a_throttling_wallet_sheds_its_merchant_in_milliseconds,
        the_backup_host_serves_while_the_main_one_is_away,
        a_wallet_that_is_away_is_told_quickly_and_found_again,
        a_number_paid_before_its_prepay_is_answered_is_paid,
        what_the_wallet_refuses_is_told_as_published,
        a_refusal_that_a_question_does_not_confirm_leaves_the_number_as_it_is,
        a_refused_number_that_the_wallet_knows_stays_the_only_one,
        a_number_that_may_exist_is_closed_before_another_payers_is_opened,
        a_lost_close_opens_no_second_number,
        ;
    orders_api:
        the_same_content_again_is_the_same_order,
        ten_equal_creates_at_once_make_one_order,
        what_is_wrong_with_an_order_is_told_and_nothing_is_made,
        the_largest_and_smallest_orders_are_taken,
        unsafe_notify_urls_are_refused_where_strangers_may_order,
        links_name_everything_that_opens_the_mini_program,
        revoked_links_open_nothing_and_stop_nothing_that_was_handed_out,
        an_order_tells_its_story_to_its_merchant_alone,
        an_order_nobody_paid_in_time_is_closed,
        ;
    signatures:
        a_call_that_is_not_signed_as_published_is_401_with_our_time,
        a_nonce_is_taken_once,
        an_unknown_merchant_and_a_wrong_key_are_answered_alike,
        keys_are_rotated_and_each_is_checked_as_its_record_says,
        an_address_list_lets_in_whom_it_names,
        an_address_list_is_judged_by_what_our_own_proxies_say,
        ;
    events:
        a_payment_is_told_signed_within_a_second,
        a_close_is_told,
        secrets_are_rotated_and_nothing_goes_out_unsigned,
        a_silent_endpoint_delays_no_other,
        silent_endpoints_that_are_tried_again_delay_no_other_merchant,
        a_failing_endpoint_is_paused_and_resumes,
        a_restart_in_the_middle_of_a_delivery_tells_again_under_the_same_id,
        after_its_last_try_an_event_is_parked_and_can_be_sent_again,
        ;
    extras:
        an_account_adds_what_it_is_set_to_and_is_paid,
        no_payer_chooses_the_address_that_a_wallet_is_told,
        a_number_keeps_what_its_first_send_added,
        ;
    notices:
        a_notice_pays_and_its_repeats_change_nothing,
        five_notices_at_once_pay_once,
        the_wallets_habits_do_not_matter,
        a_forged_notice_is_refused_and_changes_no_row,
        a_payment_of_another_amount_or_payee_waits_for_a_person,
        a_queried_payment_of_another_amount_waits_for_a_person,
        nobody_disputes_a_payment_by_accounts_that_cannot_be_read,
        a_page_that_asks_hears_of_a_payment_whose_notice_was_lost,
        a_merchant_that_syncs_hears_of_a_payment_whose_notice_was_lost,
        no_merchant_is_told_synced_while_the_wallet_is_silent,
        a_page_that_asks_all_the_time_does_not_hammer_the_wallet,
        a_payment_nobody_hears_of_is_found_by_asking,
        a_notice_before_the_prepays_answer_pays,
        notices_that_cannot_be_read_keep_nobody_elses_waiting,
        ;
    turns:
        a_wallet_that_hangs_delays_no_other_accounts_questions,
        a_wallet_that_throttles_delays_no_other_accounts_questions,
        ;
    forgeries:
        no_change_to_a_genuine_notice_is_taken,
        no_change_to_a_notice_of_a_refund_is_taken,
        ;
    verdicts:
        the_host_that_a_notice_is_sent_to_changes_no_verdict,
        a_queued_notice_that_does_not_verify_is_set_aside,
        ;
    strangers:
        another_merchants_notice_pays_nothing_here,
        a_genuine_notice_that_names_another_accounts_number_is_set_aside,
        ;
    bad_input:
        what_is_not_http_is_refused_without_words_and_disturbs_nobody,
        what_a_merchants_server_sends_that_is_no_order_is_told,
        what_is_no_notice_is_refused_in_the_wallets_words,
        a_slow_body_is_given_up_on_every_road,
        ;
    watched:
        metrics_say_what_happens_and_name_nobody,
        ;
    switches:
        wechats_switches_move_no_money,
        alipays_switches_move_no_money,
        a_providers_notices_may_name_its_merchant,
        ;
    switches_apart:
        a_refund_that_comes_too_soon_is_made_once,
        a_refund_that_nobody_ends_stays_on_its_way,
        a_refund_that_was_made_before_is_seen_by_asking,
        a_day_without_rows_is_none_in_every_word,
        answers_of_two_nodes_are_not_believed,
        answers_by_a_certificate_nobody_got_are_not_believed,
        ;
    refunds:
        a_paid_order_is_refunded_in_parts_and_no_fen_more,
        a_refund_whose_answer_was_lost_happens_once,
        a_refund_that_never_arrived_is_sent_again_with_the_same_bytes,
        a_denied_refund_fails_only_after_a_second_look,
        a_refund_that_was_made_under_a_refusal_is_found,
        a_refunds_notice_that_is_set_aside_still_tells_the_payment,
        a_refund_without_balance_waits_and_goes_on,
        a_refund_whose_money_went_back_otherwise_is_told_failed,
        an_abnormal_refund_is_seen_and_repaired,
        a_refund_that_the_wallet_closed_fails_and_gives_its_part_back,
        a_refund_nobody_hears_of_is_found_by_asking,
        a_word_about_another_amount_settles_nothing,
        what_is_wrong_with_a_refund_is_told_and_nothing_is_set_aside,
        ;
    disputes:
        a_payment_that_is_let_go_makes_room_for_another,
        a_payment_to_another_payee_is_taken_and_told_once,
        a_dispute_ends_in_the_close_that_waited_for_it,
        ;
    closes:
        an_order_nobody_opened_is_closed_at_once,
        an_open_number_is_closed_at_its_wallet_first,
        a_payment_nobody_heard_of_wins_against_the_merchants_close,
        a_payment_in_the_middle_of_a_merchants_close_wins,
        a_number_that_never_arrived_exists_before_it_is_closed,
        a_close_that_no_wallet_answers_ends_later,
        ;
    expiry:
        an_open_number_outlives_its_order_by_ninety_seconds_and_is_closed_first,
        a_payment_past_the_expiry_is_the_orders_while_its_number_is_open,
        money_that_comes_after_an_expired_order_was_closed_is_the_policys,
        ;
    late_money:
        a_late_payment_is_kept_and_makes_the_order_paid,
        a_late_payment_goes_back_where_its_merchant_says_so,
        a_second_payment_goes_back_once_and_the_first_stays_refundable,
        a_second_payment_stays_where_its_merchant_says_so,
        a_kept_second_payment_is_given_back_by_hand,
        a_refund_without_balance_is_cancelled_and_never_made,
        ;
    queue_gone:
        a_full_front_says_so_at_once,
        a_merchant_without_room_is_told_before_its_payers_code_is_spent,
        a_merchants_excess_is_429_and_its_own,
        one_orders_excess_is_3005_and_its_own,
        a_full_queue_is_told_at_once_and_calls_no_wallet,
        a_lost_reply_is_found_in_the_store,
        a_deleted_queue_is_a_503_until_it_stands_again,
        a_phone_that_hangs_up_finds_its_parameters_later,
        a_restart_in_the_middle_of_an_order_loses_nothing,
        ;
    bills:
        a_day_without_differences_agrees,
        every_planted_difference_is_found_once,
        a_payment_that_was_missed_is_repaired_by_asking,
        what_the_bill_lacks_is_asked_about_and_kept_open_if_the_wallet_insists,
        a_bill_that_cannot_be_believed_concludes_nothing,
        a_bill_that_is_not_ready_is_asked_for_again,
        a_day_without_a_bill_is_none_after_noon_and_misses_what_we_have,
        a_payment_near_midnight_is_looked_for_on_both_sides,
        a_bill_of_another_day_settles_what_was_missing,
        schedulers_match_each_bill_once,
        a_merchant_gets_its_own_bill_and_nobody_elses,
        ;
    repairs:
        a_refund_whose_end_nobody_heard_of_is_repaired_by_asking,
        a_refund_that_no_bill_names_is_repaired_by_hand,
        an_amount_that_differs_unheard_is_asked_about,
        ;
    bill_days:
        a_days_bill_is_whole_once_what_was_missed_was_asked_about,
        a_look_again_that_comes_to_nothing_leaves_a_finished_day_finished,
        a_look_that_is_dropped_anywhere_is_made_again,
        a_refund_in_no_bill_is_missed_whichever_day_is_last,
        a_refund_named_by_an_earlier_bill_is_kept,
        two_days_looked_at_side_by_side_miss_nothing_between_them,
        what_a_later_look_cannot_see_stays_open,
        a_wallet_that_contradicts_confirms_nothing,
        a_scheduler_that_was_away_wants_every_day,
        a_day_without_a_bill_and_with_payments_is_not_done,
        ;
}
