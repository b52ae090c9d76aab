//! What a fake worker does wrong.

use chrysalis_tee_sim::Faults;
use std::net::SocketAddr;

/// What is wrong with its evidence.
#[derive(Clone, Debug, Default)]
pub(crate) enum Evidence {
    /// Nothing.
    #[default]
    Genuine,
    /// It answers every challenge with the document of the first.
    Replayed,
    /// It is made for another nonce.
    OtherNonce,
    /// It is made for another connection.
    OtherExporter,
    /// It comes from the genuine worker at this address: a machine in the middle.
    RelayedFrom(SocketAddr),
    /// The keyset beside the quote is not the one the quote is bound to.
    KeysetSwapped,
    /// The keyset names a TLS key that is not the one of the connection.
    KeysetNamesOtherTlsKey,
    /// It is genuine, and of a boot with another meter key.
    OtherBoot,
    /// The manifest beside the quote is not the measured one.
    ManifestSwapped,
    /// The platform lies.
    Platform(Faults),
    /// The answer is not JSON.
    NotJson,
    /// The document has a schema from the future.
    FutureSchema,
    /// The document is padded with spaces to this many bytes.
    PaddedTo(usize),
    /// The worker refuses with control characters in its message.
    Refused,
    /// The answer is a web page.
    WebPage,
    /// There is no answer.
    Silent,
}

/// What is wrong with its certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Nothing.
    #[default]
    Genuine,
    /// A second certificate comes with it.
    Chain,
    /// It carries a key the worker does not hold.
    StolenKey,
}

/// What is wrong with its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing.
    #[default]
    Good,
    /// HTTP ends the body after a few frames.
    EndsEarly,
    /// The connection breaks after a few frames.
    Killed,
    /// Nothing comes after a few frames.
    Stalls,
    /// The whole body is as large as the vectors of the most texts, with white space at its end.
    LargeBody,
    /// A keep-alive every now and then, for longer than a client waits, before the first frame.
    Slow,
    /// A keep-alive, and then nothing.
    AtWork,
    /// The last chunk is marked as the end.
    NoReceipt,
    /// A keep-alive is marked as the end.
    EndsWithKeepAlive,
    /// The receipt is not the last frame.
    ReceiptTooEarly,
    /// There is a receipt and no answer.
    ReceiptOnly,
    /// The receipt's signature has a changed digit.
    BadSignature,
    /// The receipt is signed by a key that is not attested.
    OtherMeterKey,
    /// The receipt is about another request.
    OtherRequest,
    /// The receipt names another model.
    OtherModel,
    /// The receipt names another measurement.
    OtherMeasurement,
    /// The receipt names other evidence.
    OtherEvidence,
    /// The receipt has other prices than the manifest.
    OtherPrices,
    /// The receipt bills more tokens than the answer reported.
    MoreTokens,
    /// The receipt commits to another request text.
    OtherRequestText,
    /// The receipt commits to another answer.
    OtherAnswerText,
    /// The receipt says the answer was cut off.
    OtherFinish,
    /// The receipt says other sampling parameters.
    OtherSampling,
    /// The receipt is from another day.
    OtherTime,
    /// The receipt is not JSON.
    ReceiptNotJson,
    /// The body is random bytes.
    Garbage,
    /// One bit of a frame is flipped.
    FlippedBit,
    /// Two frames are exchanged.
    SwappedFrames,
    /// A frame is left out.
    DroppedFrame,
    /// A frame comes twice.
    RepeatedFrame,
    /// Bytes follow the final frame.
    AfterFinal,
    /// A whole body answers a stream.
    OtherForm,
    /// A chunk is not JSON.
    NotJson,
    /// A chunk has a line break in it.
    LineBreak,
    /// The request is refused inside the channel.
    RefusedInside,
    /// The error frame has no error status.
    ErrorWithoutStatus,
    /// The engine fails after a few chunks; a receipt follows.
    FailsMidway,
    /// The same, and the receipt is for more tokens than any request can have.
    FailsDearly,
    /// The engine vanishes after a few chunks; a receipt that says so follows.
    Vanishes,
    /// HTTP 429 with `Retry-After: 7`.
    Busy,
    /// The request finds no place inside the channel, where there are no headers.
    BusyInside,
    /// The answer takes longer than any may.
    OutOfTime,
    /// HTTP 200 with a web page.
    WebPage,
    /// A refusal of one byte over its limit.
    HugeRefusal,
    /// A head of more header fields than the limit.
    HugeHead,
    /// The connection closes without an answer.
    Closes,
    /// The worker does not know the evidence the request names.
    EvidenceUnknown,
    /// The key the request is sealed to takes no more requests.
    KeyFull,
    /// The worker does not hold the key the request is sealed to.
    KeyUnknown,
}
