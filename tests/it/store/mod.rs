//! The store, the same tests on every database.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so")]

mod bills;
mod cancelled;
mod commits;
mod corrupt;
mod event_turns;
mod events;
mod exchanges;
mod faults;
mod orders;
mod outcomes;
pub mod place;
mod queries;
mod refund_news;
mod refunds;
mod registry;
mod schema;
pub mod shop;
mod stuck;
mod turns;

/// Makes one module per database, each with all tests: `on_sqlite::name`, `on_postgres::name`, `on_mariadb::name`.
macro_rules! on_every_database {
    ($($room:ident: $($test:ident),+ $(,)?;)+) => {
        on_every_database!(@module on_sqlite Sqlite $($room: $($test),+;)+);
        on_every_database!(@module on_postgres Postgres $($room: $($test),+;)+);
        on_every_database!(@module on_mariadb Mariadb $($room: $($test),+;)+);
    };
    (@module $module:ident $on:ident $($room:ident: $($test:ident),+;)+) => {
        mod $module {
            use super::place::{On, run};
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    run(On::$on, super::$room::$test).await;
                }
            )+)+
        }
    };
}

on_every_database! {
    schema:
        migrations_run_twice,
        a_migration_cut_off_half_way_runs_again,
        a_later_releases_migrations_are_told_from_a_strangers,
        the_clock_is_near,
        a_text_too_long_is_never_cut;
    orders:
        every_state_of_order_and_attempt_round_trips,
        one_number_makes_one_order,
        identifiers_compare_byte_for_byte,
        texts_of_four_byte_characters_round_trip,
        a_dispute_of_an_earlier_release_is_read,
        a_persons_decision_ends_a_dispute,
        what_a_person_settled_gives_its_place_to_the_next_trade,
        the_history_has_no_gaps;
    commits:
        a_stale_commit_writes_nothing,
        one_of_two_commits_wins,
        a_commit_of_a_missing_attempt_writes_nothing;
    bills:
        a_held_bill_is_nobody_elses_and_a_lost_one_writes_nothing,
        a_look_that_is_late_opens_nothing_again,
        a_discrepancy_is_asked_about_by_one_and_in_its_time,
        one_accounts_backlog_keeps_no_others_questions_waiting,
        with_more_accounts_than_questions_everybody_has_a_turn;
    events:
        a_payment_writes_one_event_with_its_commit,
        a_late_payment_withdraws_the_close_that_was_not_delivered,
        a_second_payment_writes_no_second_event,
        every_endpoint_has_its_turn_and_none_has_all_places,
        the_events_of_an_order_go_out_in_sequence,
        a_late_report_changes_nothing,
        a_close_on_its_way_when_the_payment_comes_is_not_sent_again,
        a_paused_endpoint_is_tried_by_one_event_at_a_time,
        a_person_pauses_an_endpoint_and_its_events_are_not_given_up,
        events_are_sent_again_by_number_and_by_span,
        a_long_queue_of_one_endpoint_is_held_and_let_out_in_parts,
        paused_endpoints_with_nothing_to_send_do_not_keep_others_from_being_tried,
        what_waits_for_its_next_try_keeps_nothing_held,
        tries_under_way_when_a_pause_begins_do_not_make_it_longer,
        held_events_are_let_out_endpoint_after_endpoint,
        a_close_that_a_payment_overtook_is_never_sent_again,
        a_wish_to_send_again_during_a_try_is_not_lost,
        a_merchant_of_many_endpoints_takes_turns_with_the_others,
        a_long_queue_of_one_merchant_is_held_over_all_its_endpoints,
        a_long_queue_that_cannot_be_read_keeps_no_other_from_being_held,
        an_event_that_cannot_be_read_keeps_no_other_waiting,
        no_event_is_leased_twice;
    event_turns:
        paused_endpoints_of_one_merchant_leave_the_others_their_tries,
        what_waits_for_a_held_event_does_not_keep_it_held,
        no_event_is_given_up_untried,
        a_close_is_not_sent_again_beside_a_payment_that_is_being_committed,
        a_wish_to_send_again_does_not_let_others_overtake_the_try_under_way,
        whoever_asks_for_an_event_again_is_tried_at_once,
        what_waits_for_an_endpoint_or_for_its_turn_is_not_late,
        an_event_that_cannot_be_read_does_not_try_its_endpoint_each_time,
        a_try_that_was_not_made_counts_for_nothing;
    corrupt:
        a_row_that_cannot_be_read_is_named;
    exchanges:
        one_of_twenty_exchanges_a_code,
        an_exchange_ends_once;
    faults:
        a_failing_handle_does_not_tell_what_it_did;
    outcomes:
        the_first_outcome_stays,
        many_outcomes_in_one_look,
        a_sweep_takes_the_oldest;
    queries:
        no_question_is_leased_twice,
        a_lease_ends,
        a_question_is_put_off_by_what_became_of_it,
        a_question_scheduled_anew_meanwhile_is_not_put_off,
        a_page_pulls_a_question_forward,
        orders_that_cannot_be_closed_do_not_keep_others_open;
    turns:
        a_backlog_of_one_account_delays_no_other,
        schedulers_together_keep_a_numbers_pace,
        accounts_under_one_number_take_turns,
        a_number_of_many_accounts_keeps_no_other_waiting,
        a_wallets_accounts_together_leave_the_other_wallet_places,
        a_waiting_pages_question_goes_first,
        pages_that_wait_leave_every_fourth_place,
        a_clock_that_was_ahead_holds_no_number_up,
        what_has_no_room_is_left_alone;
    refund_news:
        a_refunds_later_news_takes_the_place_of_the_earlier,
        a_refunds_later_news_waits_for_the_earlier_ones_try,
        news_of_refunds_do_not_use_up_a_payments_tries,
        what_is_told_at_once_is_numbered_one_after_the_other,
        what_cannot_be_told_did_not_happen;
    refunds:
        every_state_of_a_refund_round_trips,
        refunds_at_once_never_pass_what_was_paid,
        one_number_at_once_is_one_refund,
        a_payment_has_fifty_refunds_at_most_and_an_unpaid_number_none,
        sends_about_one_payment_keep_their_distance,
        a_due_refund_is_leased_once,
        one_accounts_many_refunds_delay_no_others,
        an_over_reserved_payment_sends_nothing,
        a_cancelled_refund_lets_the_others_of_its_payment_go,
        a_cancel_and_a_send_at_once_are_one_of_both,
        a_refund_by_hand_notes_the_anomalies_of_its_payment,
        money_that_a_person_settled_as_gone_is_not_given_back_beside_it,
        a_refund_by_policy_that_fails_is_a_persons,
        an_anomaly_is_kept_once_and_decided_once,
        money_is_not_noted_as_given_back_while_a_part_of_it_is_free;
    registry:
        merchants_and_their_keys,
        accounts_and_mini_programs,
        keys_of_the_deployment,
        nonces_are_taken_once,
        a_message_is_parked_once,
        the_largest_message_is_parked_whole,
        parked_messages_are_found_and_go;
    stuck:
        a_stuck_pool_is_replaced;
    cancelled:
        callers_that_hang_up_lose_no_later_write,
        readers_that_hang_up_leave_the_connection_in_step;
}
