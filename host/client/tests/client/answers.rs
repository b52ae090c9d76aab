//! What counts as an answer: only a stream that opened frame by frame, ended with its final
//! frame, and whose receipt holds in every field.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrysalis_client::limits::{MAX_HEAD_BYTES, MAX_PLAIN_ERROR_BYTES};
use chrysalis_client::{Bounds, ClientError, ClientEvent, PathId, Question, ask, receipt_in_words};
use chrysalis_receipt::Outcome;

use crate::bench::{Bench, SHORT_WAITS, STREAM, WHOLE, collect, stream};
use crate::fake::answer::{LARGE_BODY_BYTES, SLOW_PAUSE};
use crate::fake::script::Answer;

/// The code with which an answer is refused.
async fn refused(script: Answer) -> &'static str {
    let (_, error) = Bench::start().await.refused_answer(script).await;
    // Whatever was wrong, nothing of the prompt or the answer is in the error.
    let text = format!("{error} {error:?} {}", error.next_step());
    assert!(!text.contains("canary") && !text.contains("wörd"), "{text}");
    error.code()
}

/// The checks of the receipt that do not hold.
async fn refused_receipt(script: Answer) -> Vec<String> {
    let (pieces, error) = Bench::start().await.refused_answer(script).await;
    assert!(pieces > 0, "the answer itself arrives");
    let ClientError::ReceiptRefused { failed } = error else { panic!("{error:?}") };
    failed
}

/// Whether exactly the check `id` does not hold.
async fn refused_by(script: Answer, id: &str) {
    let failed = refused_receipt(script).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains(&format!("({id})")), "{failed:?}");
}

#[tokio::test]
async fn streams_an_answer_and_verifies_every_field_of_its_receipt() {
    let bench = Bench::start().await;
    let (pieces, completed) = stream(&bench.attested().await).await;
    // Role, twelve words, finish reason, usage.
    assert_eq!(pieces.len(), 15);
    let checks = &completed.report.checks;
    assert!(completed.report.ok && completed.report.insecure_sim);
    assert!(checks.iter().all(|c| c.outcome == Outcome::Pass), "{checks:?}");
    assert!(receipt_in_words(&completed.report).contains("HOLDS (INSECURE-SIM"));
}

#[tokio::test]
async fn collects_an_answer_that_is_not_streamed() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let (pieces, completed) = collect(&worker, PathId::ChatCompletions, WHOLE).await;
    assert!(pieces.len() > 1, "it comes in several frames");
    let body: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(body["usage"]["completion_tokens"], 12);
    assert!(completed.report.checks.iter().all(|c| c.outcome == Outcome::Pass));
}

#[tokio::test]
async fn answers_text_completions() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let json = r#"{"model":"fake-model","prompt":"canary","max_tokens":3}"#;
    let (pieces, _) = collect(&worker, PathId::Completions, json).await;
    let body: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(body["object"], "text_completion");
}

#[tokio::test]
async fn a_stream_without_usage_says_that_tokens_were_not_compared() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let json = STREAM.replace(r#","stream_options":{"include_usage":true}"#, "");
    let (_, completed) = collect(&worker, PathId::ChatCompletions, &json).await;
    let skipped: Vec<_> = completed.report.skipped().map(|c| c.id).collect();
    assert_eq!(skipped, ["tokens"]);
}

#[tokio::test]
async fn asks_a_question_and_hands_the_text_on_as_it_comes() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    let question = Question {
        system: Some("be \"brief\""),
        prompt: "count",
        max_tokens: Some(3),
        temperature: Some(0.0),
        seed: Some(1),
        ..Question::default()
    };
    let mut pieces = Vec::new();
    let completed =
        ask(&worker, &question, |text| pieces.push(text.to_owned()), |_| panic!()).await;
    let completed = completed.unwrap();
    assert_eq!(pieces.concat(), "0-wörd 1-wörd 2-wörd");
    assert!(completed.report.ok);
}

#[tokio::test]
async fn a_question_refused_inside_the_channel_keeps_its_code_and_loses_its_message() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.answers(Answer::RefusedInside);
    let question = Question { prompt: "count", ..Question::default() };
    let error = ask(&worker, &question, |_| panic!("no text"), |_| panic!()).await.unwrap_err();
    assert_eq!(
        error,
        ClientError::AnswerRefused { status: 422, code: "E-CANARY-REFUSED".to_owned() }
    );
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    for _ in 0..3 {
        stream(&worker).await;
        // The connection comes back a moment after the receipt.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((bench.worker.connections(), bench.worker.requests()), (1, 3));
}

#[tokio::test]
async fn requests_at_the_same_time_have_connections_of_their_own() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    tokio::join!(stream(&worker), stream(&worker), stream(&worker));
    assert_eq!((bench.worker.connections(), bench.worker.attestations()), (3, 1));
}

#[tokio::test]
async fn dropping_an_answer_makes_the_worker_stop() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.answers(Answer::Stalls);
    let mut answer = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap();
    assert!(matches!(answer.next().await, Ok(Some(ClientEvent::Chunk(_)))));
    drop(answer);
    bench.worker.wait_for_cancelled(1).await;
}

#[tokio::test]
async fn refuses_an_answer_without_its_final_frame() {
    let (pieces, error) = Bench::start().await.refused_answer(Answer::EndsEarly).await;
    // Four frames, one of them a keep-alive.
    assert_eq!((pieces, error), (3, ClientError::Truncated { chunks: 3 }));
}

#[tokio::test]
async fn refuses_an_answer_of_a_worker_killed_midway() {
    let (pieces, error) = Bench::start().await.refused_answer(Answer::Killed).await;
    assert_eq!((pieces, error), (3, ClientError::Truncated { chunks: 3 }));
}

#[tokio::test]
async fn gives_up_on_an_answer_that_stalls() {
    let begun = Instant::now();
    assert_eq!(refused(Answer::Stalls).await, "E-TIMEOUT");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn waits_for_an_answer_as_long_as_its_worker_says_that_it_computes() {
    let bench = Bench::start().await;
    bench.worker.answers(Answer::Slow);
    let bounds = Bounds { idle: 3 * SLOW_PAUSE, ..SHORT_WAITS };
    let begun = Instant::now();
    assert!(under(&bench, WHOLE, bounds).await.is_ok());
    assert!(begun.elapsed() > 5 * SLOW_PAUSE);
}

#[tokio::test]
async fn refuses_an_answer_whose_last_frame_is_no_receipt() {
    assert_eq!(refused(Answer::NoReceipt).await, "E-RECEIPT-MISSING");
    assert_eq!(refused(Answer::EndsWithKeepAlive).await, "E-RECEIPT-MISSING");
}

#[tokio::test]
async fn refuses_a_receipt_that_is_not_the_last_frame() {
    assert_eq!(refused(Answer::ReceiptTooEarly).await, "E-FRAME-ORDER");
}

#[tokio::test]
async fn refuses_a_receipt_for_no_answer() {
    assert_eq!(refused(Answer::ReceiptOnly).await, "E-FRAME-ORDER");
}

#[tokio::test]
async fn refuses_a_receipt_with_a_wrong_signature() {
    refused_by(Answer::BadSignature, "signature").await;
}

#[tokio::test]
async fn refuses_a_receipt_signed_by_a_key_that_is_not_attested() {
    refused_by(Answer::OtherMeterKey, "meter-key").await;
}

#[tokio::test]
async fn refuses_a_receipt_for_another_request() {
    let failed = refused_receipt(Answer::OtherRequest).await;
    assert!(failed.iter().any(|f| f.contains("(request-id)")), "{failed:?}");
}

#[tokio::test]
async fn refuses_a_receipt_for_another_model() {
    refused_by(Answer::OtherModel, "model").await;
}

#[tokio::test]
async fn refuses_a_receipt_of_another_measurement() {
    refused_by(Answer::OtherMeasurement, "measurement").await;
}

#[tokio::test]
async fn refuses_a_receipt_that_names_other_evidence() {
    refused_by(Answer::OtherEvidence, "evidence").await;
}

#[tokio::test]
async fn refuses_prices_that_are_not_in_the_manifest() {
    refused_by(Answer::OtherPrices, "prices").await;
}

#[tokio::test]
async fn refuses_to_pay_for_tokens_the_answer_did_not_report() {
    refused_by(Answer::MoreTokens, "tokens").await;
}

#[tokio::test]
async fn refuses_a_receipt_over_another_request_text() {
    refused_by(Answer::OtherRequestText, "request").await;
}

#[tokio::test]
async fn refuses_a_receipt_over_another_answer() {
    refused_by(Answer::OtherAnswerText, "response").await;
}

#[tokio::test]
async fn refuses_a_receipt_that_says_the_answer_was_cut_off() {
    refused_by(Answer::OtherFinish, "finish").await;
}

#[tokio::test]
async fn refuses_a_receipt_with_other_sampling_parameters() {
    refused_by(Answer::OtherSampling, "sampling").await;
}

#[tokio::test]
async fn refuses_a_receipt_from_another_day() {
    refused_by(Answer::OtherTime, "times").await;
}

#[tokio::test]
async fn refuses_a_receipt_that_cannot_be_read() {
    assert_eq!(refused(Answer::ReceiptNotJson).await, "E-RECEIPT-MALFORMED");
}

#[tokio::test]
async fn refuses_an_answer_of_random_bytes() {
    assert!(refused(Answer::Garbage).await.starts_with("E-SEAL-"));
}

#[tokio::test]
async fn refuses_a_frame_with_a_flipped_bit() {
    assert_eq!(refused(Answer::FlippedBit).await, "E-SEAL-REFUSED");
}

#[tokio::test]
async fn refuses_frames_out_of_order() {
    assert_eq!(refused(Answer::SwappedFrames).await, "E-SEAL-REFUSED");
}

#[tokio::test]
async fn refuses_an_answer_with_a_frame_left_out() {
    assert_eq!(refused(Answer::DroppedFrame).await, "E-SEAL-REFUSED");
}

#[tokio::test]
async fn refuses_a_frame_that_comes_twice() {
    assert_eq!(refused(Answer::RepeatedFrame).await, "E-SEAL-REFUSED");
}

#[tokio::test]
async fn refuses_bytes_after_the_final_frame() {
    assert_eq!(refused(Answer::AfterFinal).await, "E-SEAL-AFTER-FINAL");
}

#[tokio::test]
async fn refuses_a_whole_body_for_a_stream() {
    assert_eq!(refused(Answer::OtherForm).await, "E-FRAME-ORDER");
}

#[tokio::test]
async fn refuses_a_chunk_that_is_not_an_answer_without_quoting_it() {
    assert_eq!(refused(Answer::NotJson).await, "E-ANSWER-SHAPE");
}

#[tokio::test]
async fn refuses_an_error_frame_without_an_error_status() {
    assert_eq!(refused(Answer::ErrorWithoutStatus).await, "E-FRAME-ORDER");
}

#[tokio::test]
async fn refuses_an_answer_that_never_said_how_it_ended_although_its_receipt_holds() {
    assert_eq!(refused(Answer::Vanishes).await, "E-FRAME-ORDER");
}

#[tokio::test]
async fn an_engine_that_fails_midway_is_an_error_with_a_receipt_for_what_it_produced() {
    let bench = Bench::start().await;
    let worker = bench.attested().await;
    bench.worker.answers(Answer::FailsMidway);
    let mut answer = worker.request(PathId::ChatCompletions, STREAM.as_bytes()).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = answer.next().await.unwrap() {
        events.push(event);
    }
    let n = events.len();
    assert!(matches!(events[n - 2], ClientEvent::Error { status: 500, .. }));
    assert!(matches!(&events[n - 1], ClientEvent::Done(done) if done.report.ok));
}

#[tokio::test]
async fn passes_on_how_long_a_busy_worker_asks_to_wait() {
    let (_, error) = Bench::start().await.refused_answer(Answer::Busy).await;
    assert_eq!(error.retry_after(), Some(7));
    assert!(matches!(error, ClientError::WorkerRefused { status: 429, .. }));
}

#[tokio::test]
async fn refuses_a_web_page_as_an_answer() {
    assert_eq!(refused(Answer::WebPage).await, "E-PROTOCOL");
}

#[tokio::test]
async fn refuses_a_refusal_over_its_limit() {
    let (_, error) = Bench::start().await.refused_answer(Answer::HugeRefusal).await;
    assert_eq!(error, ClientError::TooLarge { what: "refusal", limit: MAX_PLAIN_ERROR_BYTES });
}

#[tokio::test]
async fn refuses_a_head_with_more_fields_than_the_limit() {
    let (_, error) = Bench::start().await.refused_answer(Answer::HugeHead).await;
    assert_eq!(error, ClientError::TooLarge { what: "response head", limit: MAX_HEAD_BYTES });
}

/// The outcome of a request under other bounds.
async fn under(bench: &Bench, json: &str, bounds: Bounds) -> Result<usize, ClientError> {
    let worker = bench.client().with_bounds(bounds).appraise().await.unwrap();
    let mut answer = worker.request(PathId::ChatCompletions, json.as_bytes()).await?;
    let mut size = 0;
    while let Some(event) = answer.next().await? {
        if let ClientEvent::Chunk(piece) | ClientEvent::Body(piece) = event {
            size += piece.len();
        }
    }
    Ok(size)
}

#[tokio::test]
async fn refuses_an_answer_one_byte_over_its_limit() {
    let bench = Bench::start().await;
    stream(&bench.attested().await).await;
    let size = bench.worker.state.answer_bytes.load(Ordering::SeqCst);
    let with = |response_bytes| Bounds { response_bytes, ..SHORT_WAITS };
    assert!(under(&bench, STREAM, with(size)).await.is_ok());
    let expected = ClientError::TooLarge { what: "answer", limit: size - 1 };
    assert_eq!(under(&bench, STREAM, with(size - 1)).await, Err(expected));
}

#[tokio::test]
async fn refuses_a_whole_body_one_byte_over_its_limit() {
    let bench = Bench::start().await;
    let size = under(&bench, WHOLE, SHORT_WAITS).await.unwrap();
    let with = |body_bytes| Bounds { body_bytes, ..SHORT_WAITS };
    assert_eq!(under(&bench, WHOLE, with(size)).await, Ok(size));
    let expected = ClientError::TooLarge { what: "answer body", limit: size - 1 };
    assert_eq!(under(&bench, WHOLE, with(size - 1)).await, Err(expected));
}

#[tokio::test]
async fn reads_a_body_as_large_as_the_vectors_of_the_most_texts() {
    let bench = Bench::start().await;
    bench.worker.answers(Answer::LargeBody);
    assert_eq!(under(&bench, WHOLE, SHORT_WAITS).await, Ok(LARGE_BODY_BYTES));
}

#[tokio::test]
async fn says_when_the_connection_closes_without_an_answer() {
    let code = refused(Answer::Closes).await;
    assert!(["E-DISCONNECTED", "E-TRUNCATED"].contains(&code), "{code}");
}
