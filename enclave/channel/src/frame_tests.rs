//! Tests of frames from the inside: plaintexts that no honest sealer makes, sealed with the right
//! key, and the bounds of the counter.

use super::*;

fn pair() -> (FrameCipher, FrameCipher) {
    let labels = Labels { key: b"key", iv: b"iv" };
    let make = || FrameCipher::derive(b"salt", &[7; 32], labels, b"", [9; 32]).unwrap();
    (make(), make())
}

/// Seals an arbitrary plaintext as frame 0, as only a holder of the key could.
fn sealed_plaintext(plain: &[u8]) -> Vec<u8> {
    let (cipher, _) = pair();
    let (nonce, aad) = cipher.position_inputs(true).unwrap();
    let mut body = plain.to_vec();
    let tag = cipher.cipher.encrypt_inout_detached(&nonce, &aad, body.as_mut_slice().into());
    body.extend_from_slice(&tag.unwrap());
    body
}

fn open_plaintext(plain: &[u8]) -> Result<(FrameKind, Vec<u8>), ChannelError> {
    let (_, mut opener) = pair();
    let mut body = sealed_plaintext(plain);
    opener.open(&mut body, true).map(|(kind, payload)| (kind, payload.to_vec()))
}

fn plaintext(kind: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut plain = vec![kind];
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(payload);
    plain.resize(256, 0);
    plain
}

#[test]
fn opens_a_well_formed_plaintext() {
    assert_eq!(open_plaintext(&plaintext(2, 3, b"abc")), Ok((FrameKind::Body, b"abc".to_vec())));
}

#[test]
fn refuses_nonzero_padding() {
    for position in [8, 100, 255] {
        let mut plain = plaintext(2, 3, b"abc");
        plain[position] = 1;
        assert_eq!(open_plaintext(&plain), Err(ChannelError::Refused), "byte {position}");
    }
}

#[test]
fn refuses_payload_length_beyond_the_frame() {
    assert!(open_plaintext(&plaintext(2, 251, b"")).is_ok());
    assert_eq!(open_plaintext(&plaintext(2, 252, b"")), Err(ChannelError::Refused));
    assert_eq!(open_plaintext(&plaintext(2, u32::MAX, b"")), Err(ChannelError::Refused));
}

#[test]
fn refuses_an_unknown_frame_kind() {
    for kind in [0, 6, 255] {
        assert_eq!(open_plaintext(&plaintext(kind, 0, b"")), Err(ChannelError::Refused));
    }
}

#[test]
fn refuses_a_final_mark_that_was_added_or_removed() {
    for sealed_last in [true, false] {
        let (mut sealer, mut opener) = pair();
        let mut out = Vec::new();
        sealer.seal(FrameKind::Chunk, b"x", sealed_last, &mut out).unwrap();
        assert_eq!(opener.open(&mut out[4..], !sealed_last), Err(ChannelError::Refused));
    }
}

#[test]
fn refuses_one_frame_more_than_the_limit() {
    let (mut sealer, mut opener) = pair();
    sealer.next = MAX_FRAMES - 1;
    opener.next = MAX_FRAMES - 1;
    let mut out = Vec::new();
    sealer.seal(FrameKind::Chunk, b"x", false, &mut out).unwrap();
    let refused = sealer.seal(FrameKind::Chunk, b"x", false, &mut Vec::new());
    assert_eq!(refused, Err(ChannelError::TooManyFrames));
    let mut second = out.clone();
    opener.open(&mut out[4..], false).unwrap();
    assert_eq!(opener.open(&mut second[4..], false), Err(ChannelError::TooManyFrames));
}

#[test]
fn pads_to_the_smallest_bucket_that_fits() {
    for (payload, expected) in [(0, 256), (251, 256), (252, 512), (507, 512), (508, 1024)] {
        assert_eq!(bucket(payload), Ok(expected), "payload {payload}");
    }
    assert_eq!(bucket(MAX_PAYLOAD_BYTES), Ok(MAX_FRAME_BYTES));
    let got = MAX_PAYLOAD_BYTES + 1;
    assert_eq!(bucket(got), Err(ChannelError::PayloadTooLarge { got }));
}

#[test]
fn refuses_every_length_that_is_no_bucket() {
    for got in 0..=MAX_FRAME_BYTES + 64 {
        let word = u32::try_from(got).unwrap();
        let plain = got.wrapping_sub(TAG_BYTES);
        let expected = if BUCKETS.contains(&plain) {
            Ok((got, false))
        } else if got > MAX_FRAME_BYTES + TAG_BYTES {
            Err(ChannelError::FrameTooLarge { got })
        } else {
            Err(ChannelError::FrameSize { got })
        };
        assert_eq!(read_length(word), expected, "length {got}");
    }
    assert_eq!(read_length(FINAL_BIT | 272), Ok((272, true)));
}

#[test]
fn frames_at_different_positions_differ() {
    let (mut sealer, _) = pair();
    let mut first = Vec::new();
    let mut second = Vec::new();
    sealer.seal(FrameKind::Chunk, b"same", false, &mut first).unwrap();
    sealer.seal(FrameKind::Chunk, b"same", false, &mut second).unwrap();
    assert_ne!(first, second);
}
