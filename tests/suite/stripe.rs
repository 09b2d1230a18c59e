//! Stripe as the payment provider, call by call, against the stand-in.

use std::time::{Duration, Instant};

use futures_util::future::join;
use orderflow::{
    effects::{LOOK_UP_AFTER, Stripe},
    engine::{EffectError, Effects},
    events::{Amount, CurrencyCode, OrderId, ReasonCode},
    sales::{
        Effect, Outcome,
        effect::{Charge, Refund},
    },
};
use serde_json::json;

use crate::{
    stripe_stand_in::{Booking, Fault, KEY, StripeStandIn, VERSION},
    support::{bill, client},
};

const CREATE: &str = "POST /v1/payment_intents";
const CANCEL: &str = "POST /v1/payment_intents/{id}/cancel";
const SEARCH: &str = "GET /v1/payment_intents/search";
const REFUND: &str = "POST /v1/refunds";

const ORDER: &str = "0199c0de-0000-7000-8000-00000000002a";
const BUDGET: Duration = Duration::from_secs(15);
const YOUNG: Duration = Duration::ZERO;

struct Fixture {
    stand_in: StripeStandIn,
    stripe: Stripe,
}

impl Fixture {
    async fn start() -> Self {
        let stand_in = StripeStandIn::start().await;
        let stripe = Stripe::new(&stand_in.url().parse().unwrap(), KEY).unwrap();
        Self { stand_in, stripe }
    }

    async fn ask(&self, effect: &Effect, age: Duration) -> Result<Outcome, EffectError> {
        self.stripe.perform(effect, age, BUDGET).await
    }

    /// Charges; what the provider calls the payment.
    async fn charged(&self, effect: &Effect) -> String {
        charged(self.ask(effect, YOUNG).await)
    }

    fn statuses(&self) -> Vec<String> {
        let intents = self.stand_in.payment_intents();
        let status = |intent: &serde_json::Value| intent["status"].as_str().unwrap().to_owned();
        intents.iter().map(status).collect()
    }
}

fn order_id() -> OrderId {
    serde_json::from_value(json!(ORDER)).unwrap()
}

fn charge_of(amount: i64, currency: &str, payment_method: &str, attempt: u32) -> Effect {
    Effect::Charge(Charge {
        order_id: order_id(),
        attempt,
        amount: Amount::from_minor_units(amount).unwrap(),
        currency: CurrencyCode::try_from(currency.to_owned()).unwrap(),
        payment_method: payment_method.to_owned(),
        bill: bill(order_id()),
    })
}

fn charge(payment_method: &str) -> Effect {
    charge_of(15_339, "EUR", payment_method, 1)
}

fn refund(payment: &str) -> Effect {
    Effect::Refund(Refund {
        order_id: order_id(),
        attempt: 1,
        provider_reference: payment.to_owned(),
        amount: Amount::from_minor_units(15_339).unwrap(),
        currency: CurrencyCode::try_from("EUR".to_owned()).unwrap(),
    })
}

#[track_caller]
fn charged(outcome: Result<Outcome, EffectError>) -> String {
    match outcome {
        Ok(Outcome::Charged { provider_reference }) => provider_reference,
        other => panic!("expected a charge, came {other:?}"),
    }
}

#[track_caller]
fn declined(outcome: &Result<Outcome, EffectError>) -> ReasonCode {
    match outcome {
        Ok(Outcome::Declined { reason_code, .. }) => *reason_code,
        other => panic!("expected a decline, came {other:?}"),
    }
}

#[track_caller]
fn unknown(outcome: Result<Outcome, EffectError>) -> String {
    let error = outcome.expect_err("expected no definite answer");
    assert_eq!(error.service, "payment provider");
    error.problem
}

#[tokio::test]
async fn a_charge_is_one_request_with_published_names() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    let payment = fixture.charged(&effect).await;
    assert!(payment.starts_with("pi_"), "{payment}");
    let booking = Booking {
        payment_intent: payment,
        order_id: ORDER.to_owned(),
        amount: 15_339,
        currency: "eur".to_owned(),
    };
    assert_eq!(fixture.stand_in.ledger(), [booking]);
    let seen = fixture.stand_in.seen();
    let key = effect.idempotency_key().to_string();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].operation.as_str(), seen[0].status), (CREATE, 200));
    assert_eq!(seen[0].idempotency_key.as_ref(), Some(&key));
    let sent: Vec<_> = seen[0]
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        sent,
        [
            ("amount", "15339"),
            ("automatic_payment_methods[allow_redirects]", "never"),
            ("automatic_payment_methods[enabled]", "true"),
            ("capture_method", "automatic"),
            ("confirm", "true"),
            ("currency", "eur"),
            ("metadata[attempt]", "1"),
            ("metadata[idempotency_key]", key.as_str()),
            ("metadata[order_id]", ORDER),
            ("off_session", "true"),
            ("payment_method_data[card][token]", "tok_visa"),
            ("payment_method_data[type]", "card"),
        ]
    );
}

#[tokio::test]
async fn a_payment_method_is_charged_as_well_as_a_token() {
    let fixture = Fixture::start().await;
    fixture.charged(&charge("pm_card_visa")).await;
    let sent = &fixture.stand_in.seen()[0].parameters;
    assert_eq!(sent["payment_method"], "pm_card_visa");
    assert!(
        !sent
            .keys()
            .any(|name| name.starts_with("payment_method_data"))
    );
}

#[tokio::test]
async fn a_decline_has_its_reason_and_can_never_be_paid_later() {
    for (token, reason) in [
        ("tok_chargeDeclined", ReasonCode::CardDeclined),
        ("tok_chargeDeclinedFraudulent", ReasonCode::CardDeclined),
        ("tok_authenticationRequired", ReasonCode::CardDeclined),
        (
            "tok_chargeDeclinedInsufficientFunds",
            ReasonCode::InsufficientFunds,
        ),
        ("tok_chargeDeclinedExpiredCard", ReasonCode::ExpiredCard),
        (
            "tok_chargeDeclinedProcessingError",
            ReasonCode::ProcessingError,
        ),
        (
            "pm_card_chargeDeclinedInsufficientFunds",
            ReasonCode::InsufficientFunds,
        ),
    ] {
        let fixture = Fixture::start().await;
        let first = fixture.ask(&charge(token), YOUNG).await;
        assert_eq!(declined(&first), reason, "{token}");
        assert_eq!(fixture.statuses(), ["canceled"], "{token}");
        let intent = fixture.stand_in.payment_intents()[0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let late = client()
            .post(format!(
                "{}/v1/payment_intents/{intent}/confirm",
                fixture.stand_in.url()
            ))
            .bearer_auth(KEY)
            .header("stripe-version", VERSION)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("payment_method=pm_card_visa");
        assert_eq!(late.send().await.unwrap().status(), 400, "{token}");
        // The same question has the same answer, also when Stripe has forgotten the key.
        assert_eq!(fixture.ask(&charge(token), YOUNG).await, first, "{token}");
        fixture.stand_in.forget_keys();
        assert_eq!(
            fixture.ask(&charge(token), LOOK_UP_AFTER).await,
            first,
            "{token}"
        );
        assert_eq!(fixture.stand_in.payment_intents().len(), 1, "{token}");
        assert_eq!(fixture.stand_in.ledger(), [], "{token}");
    }
}

#[tokio::test]
async fn a_decline_is_reported_only_once_its_intent_is_cancelled() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_chargeDeclined");
    let fault = || Fault::RefuseWith(500, "stripe-should-retry", "false");
    fixture.stand_in.fail_next(CANCEL, fault());
    unknown(fixture.ask(&effect, YOUNG).await);
    assert_eq!(fixture.statuses(), ["requires_payment_method"]);
    // Cancelled, though nobody has heard of it.
    fixture.stand_in.fail_next(CANCEL, Fault::DropAnswer);
    assert_eq!(
        declined(&fixture.ask(&effect, YOUNG).await),
        ReasonCode::CardDeclined
    );
    assert_eq!(fixture.statuses(), ["canceled"]);
}

#[tokio::test]
async fn each_attempt_has_a_key_and_an_intent_of_its_own() {
    let fixture = Fixture::start().await;
    let token = "tok_chargeDeclinedInsufficientFunds";
    declined(
        &fixture
            .ask(&charge_of(15_339, "EUR", token, 1), YOUNG)
            .await,
    );
    declined(
        &fixture
            .ask(&charge_of(15_339, "EUR", token, 2), YOUNG)
            .await,
    );
    fixture
        .charged(&charge_of(15_339, "EUR", "tok_visa", 3))
        .await;
    assert_eq!(fixture.statuses(), ["canceled", "canceled", "succeeded"]);
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_asked_for_again_under_the_same_key() {
    let fixture = Fixture::start().await;
    fixture.stand_in.fail_next(CREATE, Fault::DropAnswer);
    fixture.stand_in.fail_next(CREATE, Fault::DropAnswer);
    let payment = fixture.charged(&charge("tok_visa")).await;
    assert_eq!(fixture.stand_in.count(CREATE), 3);
    fixture.stand_in.fail_next(REFUND, Fault::DropAnswer);
    assert_eq!(
        fixture.ask(&refund(&payment), YOUNG).await,
        Ok(Outcome::Refunded)
    );
    assert_eq!(fixture.stand_in.count(REFUND), 2);
    let amounts: Vec<i64> = fixture
        .stand_in
        .ledger()
        .iter()
        .map(|booking| booking.amount)
        .collect();
    assert_eq!(amounts, [15_339, -15_339]);
}

#[tokio::test]
async fn a_time_out_is_no_decline_and_the_charge_behind_it_is_found() {
    let fixture = Fixture::start().await;
    fixture
        .stand_in
        .fail_next(CREATE, Fault::Delay(Duration::from_secs(1)));
    let (effect, started) = (charge("tok_visa"), Instant::now());
    let budget = Duration::from_millis(200);
    unknown(fixture.stripe.perform(&effect, YOUNG, budget).await);
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "the budget bounds the call"
    );
    // Its key is in use for a while: 409.
    fixture.charged(&effect).await;
    let seen = fixture.stand_in.seen();
    assert!(seen.iter().any(|seen| seen.status == 409), "{seen:?}");
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn two_who_ask_at_the_same_time_get_one_charge() {
    let fixture = Fixture::start().await;
    fixture
        .stand_in
        .fail_next(CREATE, Fault::Delay(Duration::from_millis(300)));
    let effect = charge("tok_visa");
    let (one, other) = join(fixture.charged(&effect), fixture.charged(&effect)).await;
    assert_eq!(one, other);
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn too_many_requests_and_server_errors_pass() {
    let fixture = Fixture::start().await;
    for fault in [
        Fault::RefuseWith(429, "retry-after", "1"),
        Fault::Refuse(500),
        Fault::Refuse(503),
        Fault::RefuseWith(400, "stripe-should-retry", "true"),
    ] {
        fixture.stand_in.fail_next(CREATE, fault);
    }
    let started = Instant::now();
    fixture.charged(&charge("tok_visa")).await;
    assert!(
        started.elapsed() >= Duration::from_secs(1),
        "Retry-After is kept"
    );
    assert_eq!(fixture.stand_in.count(CREATE), 5);
}

#[tokio::test]
async fn what_stripe_says_not_to_repeat_is_left_for_later() {
    let fixture = Fixture::start().await;
    for fault in [
        Fault::RefuseWith(500, "stripe-should-retry", "false"),
        Fault::RefuseWith(429, "retry-after", "3600"),
    ] {
        fixture.stand_in.fail_next(CREATE, fault);
    }
    unknown(fixture.ask(&charge("tok_visa"), YOUNG).await);
    unknown(fixture.ask(&charge("tok_visa"), YOUNG).await);
    assert_eq!(fixture.stand_in.count(CREATE), 2);
    fixture.charged(&charge("tok_visa")).await;
}

#[tokio::test]
async fn nobody_there_is_unknown() {
    let stripe = Stripe::new(&"http://127.0.0.1:9".parse().unwrap(), KEY).unwrap();
    let budget = Duration::from_millis(500);
    unknown(stripe.perform(&charge("tok_visa"), YOUNG, budget).await);
}

#[tokio::test]
async fn a_stored_server_error_is_looked_behind() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    fixture.stand_in.freeze_index();
    fixture.stand_in.fail_next(CREATE, Fault::FailAfter);
    // The search does not show it yet: that proves nothing.
    unknown(fixture.ask(&effect, YOUNG).await);
    fixture.stand_in.thaw_index();
    fixture.charged(&effect).await;
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn a_stored_server_error_with_nothing_behind_it_is_over_when_its_key_is() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    fixture.stand_in.fail_next(CREATE, Fault::FailBefore);
    unknown(fixture.ask(&effect, YOUNG).await);
    unknown(fixture.ask(&effect, LOOK_UP_AFTER).await);
    fixture.stand_in.forget_keys();
    charged(fixture.ask(&effect, LOOK_UP_AFTER).await);
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn an_old_intent_is_looked_up_before_it_is_charged_again() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    let payment = fixture.charged(&effect).await;
    assert_eq!(fixture.stand_in.count(SEARCH), 0, "the key is enough");
    fixture.stand_in.forget_keys();
    assert_eq!(charged(fixture.ask(&effect, LOOK_UP_AFTER).await), payment);
    assert_eq!(
        (
            fixture.stand_in.count(CREATE),
            fixture.stand_in.count(SEARCH)
        ),
        (1, 1)
    );
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
    // While nobody can look, nobody charges.
    let fault = Fault::RefuseWith(500, "stripe-should-retry", "false");
    fixture.stand_in.fail_next(SEARCH, fault);
    unknown(fixture.ask(&effect, LOOK_UP_AFTER).await);
    assert_eq!(fixture.stand_in.count(CREATE), 1);
}

#[tokio::test]
async fn an_old_intent_that_was_charged_a_moment_ago_is_not_charged_again_while_the_search_is_behind()
 {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    fixture.stand_in.freeze_index();
    let payment = charged(fixture.ask(&effect, LOOK_UP_AFTER).await);
    assert_eq!(charged(fixture.ask(&effect, LOOK_UP_AFTER).await), payment);
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
}

#[tokio::test]
async fn a_key_that_was_used_for_something_else_is_never_a_decline() {
    let fixture = Fixture::start().await;
    fixture
        .charged(&charge_of(15_339, "EUR", "tok_visa", 1))
        .await;
    let other = charge_of(15_340, "EUR", "tok_visa", 1);
    let problem = unknown(fixture.ask(&other, YOUNG).await);
    assert!(problem.contains("expected 15340 eur"), "{problem}");
    fixture.stand_in.freeze_index();
    fixture.stand_in.forget_keys();
    let elsewhere = charge_of(15_339, "EUR", "pm_card_visa", 2);
    fixture.charged(&elsewhere).await;
    let problem = unknown(
        fixture
            .ask(&charge_of(1_000, "EUR", "tok_visa", 2), YOUNG)
            .await,
    );
    assert!(problem.contains("same parameters"), "{problem}");
    assert_eq!(fixture.stand_in.balance("eur"), 2 * 15_339);
}

#[tokio::test]
async fn a_wrong_credential_is_unknown_and_the_key_is_not_shown() {
    let stand_in = StripeStandIn::start().await;
    let stripe = Stripe::new(&stand_in.url().parse().unwrap(), "sk_test_hunter2").unwrap();
    assert!(!format!("{stripe:?}").contains("hunter2"), "{stripe:?}");
    let problem = unknown(stripe.perform(&charge("tok_visa"), YOUNG, BUDGET).await);
    // The stand-in's answer repeats the key.
    assert!(
        problem.contains("401") && problem.contains("[redacted]"),
        "{problem}"
    );
    assert!(!problem.contains("hunter2"), "{problem}");
    let (fixture, forbidden) = (Fixture::start().await, Fault::Refuse(403));
    fixture.stand_in.fail_next(CREATE, forbidden);
    assert!(unknown(fixture.ask(&charge("tok_visa"), YOUNG).await).contains("403"));
}

#[tokio::test]
async fn what_is_the_accounts_fault_is_no_decline() {
    let fixture = Fixture::start().await;
    let problem = unknown(fixture.ask(&charge("tok_notActivated"), YOUNG).await);
    assert!(problem.contains("payment_method_unactivated"), "{problem}");
    fixture.stand_in.fail_next(CREATE, Fault::Refuse(404));
    unknown(
        fixture
            .ask(&charge_of(15_339, "EUR", "tok_visa", 2), YOUNG)
            .await,
    );
}

#[tokio::test]
async fn every_status_of_an_intent_comes_to_an_end() {
    for (left_in, end) in [
        ("requires_action", "canceled"),
        ("requires_confirmation", "canceled"),
        ("requires_payment_method", "canceled"),
        ("canceled", "canceled"),
        ("requires_capture", "succeeded"),
    ] {
        let fixture = Fixture::start().await;
        fixture.stand_in.fail_next(CREATE, Fault::LeaveIn(left_in));
        let outcome = fixture.ask(&charge("tok_visa"), YOUNG).await;
        assert_eq!(fixture.statuses(), [end], "{left_in}");
        if end == "succeeded" {
            charged(outcome);
            assert_eq!(fixture.stand_in.balance("eur"), 15_339);
        } else {
            assert_eq!(declined(&outcome), ReasonCode::CardDeclined, "{left_in}");
        }
    }
}

#[tokio::test]
async fn what_is_being_processed_is_unknown_until_it_is_done() {
    let fixture = Fixture::start().await;
    let effect = charge("tok_visa");
    fixture
        .stand_in
        .fail_next(CREATE, Fault::LeaveIn("processing"));
    assert!(unknown(fixture.ask(&effect, YOUNG).await).contains("being processed"));
    assert!(unknown(fixture.ask(&effect, YOUNG).await).contains("being processed"));
    fixture.stand_in.settle("succeeded");
    fixture.charged(&effect).await;
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
    fixture
        .stand_in
        .fail_next(CREATE, Fault::LeaveIn("requires_a_sacrifice"));
    let strange = charge_of(15_339, "EUR", "tok_visa", 2);
    assert!(unknown(fixture.ask(&strange, YOUNG).await).contains("requires_a_sacrifice"));
}

#[tokio::test]
async fn amounts_are_sent_in_stripes_own_unit_or_not_at_all() {
    for (amount, currency, sent) in [
        (500, "JPY", "500"),
        (5_120, "KWD", "5120"),
        (5, "ISK", "500"),
        (50_000, "MGA", "500"),
        (1_045, "HUF", "1045"),
    ] {
        let fixture = Fixture::start().await;
        let effect = charge_of(amount, currency, "tok_visa", 1);
        fixture.charged(&effect).await;
        assert_eq!(
            fixture.stand_in.seen()[0].parameters["amount"],
            sent,
            "{currency}"
        );
    }
    let fixture = Fixture::start().await;
    for (amount, currency) in [(5_124, "KWD"), (50_020, "MGA"), (1_000, "LYD")] {
        let outcome = fixture
            .ask(&charge_of(amount, currency, "tok_visa", 1), YOUNG)
            .await;
        assert_eq!(declined(&outcome), ReasonCode::AmountRefused, "{currency}");
    }
    assert_eq!(fixture.stand_in.seen().len(), 0);
    for (attempt, (amount, currency)) in
        (1..).zip([(49, "EUR"), (100_000_000, "EUR"), (1_000, "XXX")])
    {
        let outcome = fixture
            .ask(&charge_of(amount, currency, "tok_visa", attempt), YOUNG)
            .await;
        assert_eq!(
            declined(&outcome),
            ReasonCode::AmountRefused,
            "{amount} {currency}"
        );
    }
}

#[tokio::test]
async fn unknown_means_of_payment_are_declined() {
    let fixture = Fixture::start().await;
    fixture
        .charged(&charge_of(15_339, "EUR", "tok_1OnceOnly", 1))
        .await;
    for (attempt, means) in (2..).zip([
        "tok_1OnceOnly",
        "tok_nothing",
        "pm_nothing",
        "cash",
        "4242424242424242",
    ]) {
        let outcome = fixture
            .ask(&charge_of(15_339, "EUR", means, attempt), YOUNG)
            .await;
        assert_eq!(
            declined(&outcome),
            ReasonCode::UnknownPaymentMethod,
            "{means}"
        );
    }
    assert_eq!(fixture.stand_in.balance("eur"), 15_339);
    assert_eq!(
        fixture.stand_in.count(CREATE),
        4,
        "what is neither is not sent anywhere"
    );
}

#[tokio::test]
async fn a_refund_is_one_request_with_published_names() {
    let fixture = Fixture::start().await;
    let payment = fixture.charged(&charge("tok_visa")).await;
    let effect = refund(&payment);
    assert_eq!(fixture.ask(&effect, YOUNG).await, Ok(Outcome::Refunded));
    let seen = fixture.stand_in.seen().pop().unwrap();
    let key = effect.idempotency_key().to_string();
    assert_eq!((seen.operation.as_str(), seen.status), (REFUND, 200));
    assert_eq!(seen.idempotency_key.as_ref(), Some(&key));
    let sent: Vec<_> = seen
        .parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        sent,
        [
            ("amount", "15339"),
            ("metadata[idempotency_key]", key.as_str()),
            ("metadata[order_id]", ORDER),
            ("payment_intent", payment.as_str()),
        ]
    );
    assert_eq!(fixture.stand_in.balance("eur"), 0);
}

#[tokio::test]
async fn a_refund_whose_key_is_forgotten_is_not_made_twice() {
    let fixture = Fixture::start().await;
    let payment = fixture.charged(&charge("tok_visa")).await;
    for age in [YOUNG, LOOK_UP_AFTER, YOUNG] {
        fixture.stand_in.forget_keys();
        assert_eq!(
            fixture.ask(&refund(&payment), age).await,
            Ok(Outcome::Refunded)
        );
    }
    assert_eq!(fixture.stand_in.refunds().len(), 1);
    // The second was found, the third was refused as refunded already, and ours.
    assert_eq!(fixture.stand_in.count(REFUND), 2);
}

#[tokio::test]
async fn a_pending_refund_is_unknown_until_the_bank_has_it() {
    for (end, outcome) in [("succeeded", true), ("failed", false)] {
        let fixture = Fixture::start().await;
        let payment = fixture.charged(&charge("tok_pendingRefund")).await;
        assert!(unknown(fixture.ask(&refund(&payment), YOUNG).await).contains("pending"));
        assert!(unknown(fixture.ask(&refund(&payment), LOOK_UP_AFTER).await).contains("pending"));
        fixture.stand_in.settle(end);
        let first = fixture.ask(&refund(&payment), YOUNG).await;
        match &first {
            Ok(Outcome::Refunded) => assert!(outcome),
            Ok(Outcome::RefundRefused { detail }) => {
                assert!(
                    !outcome && detail.contains("expired_or_canceled_card"),
                    "{detail}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.ask(&refund(&payment), LOOK_UP_AFTER).await, first);
        assert_eq!(fixture.stand_in.refunds().len(), 1);
        assert_eq!(
            fixture.stand_in.balance("eur"),
            if outcome { 0 } else { 15_339 }
        );
    }
}

#[tokio::test]
async fn what_somebody_else_has_paid_back_is_refused() {
    for amount in ["15339", "1000"] {
        let fixture = Fixture::start().await;
        let payment = fixture.charged(&charge("tok_visa")).await;
        let by_hand = client()
            .post(format!("{}/v1/refunds", fixture.stand_in.url()))
            .bearer_auth(KEY)
            .header("stripe-version", VERSION)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("payment_intent={payment}&amount={amount}"));
        assert_eq!(by_hand.send().await.unwrap().status(), 200);
        let outcome = fixture.ask(&refund(&payment), YOUNG).await;
        assert!(
            matches!(outcome, Ok(Outcome::RefundRefused { .. })),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_refund_of_a_payment_that_this_account_does_not_have_is_unknown() {
    // A test key where a live one belongs, say: nothing that a customer should lose money by.
    let fixture = Fixture::start().await;
    let problem = unknown(fixture.ask(&refund("pi_elsewhere"), YOUNG).await);
    assert!(problem.contains("resource_missing"), "{problem}");
}

#[tokio::test]
async fn the_stand_in_takes_published_names_only() {
    let stand_in = StripeStandIn::start().await;
    let post = |path: &str, form: &'static str| {
        client()
            .post(format!("{}{path}", stand_in.url()))
            .bearer_auth(KEY)
            .header("stripe-version", VERSION)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form)
            .send()
    };
    let answer = post(
        "/v1/payment_intents",
        "amount=1000&currency=eur&payment_token=tok_visa",
    );
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("parameter_unknown") && text.contains("payment_token"),
        "{text}"
    );
    assert_eq!(
        post("/v1/charges", "amount=1000").await.unwrap().status(),
        404
    );
}
