//! The layout, byte for byte, against `tests/golden.py`, which shares no code with the crate. A
//! change here changes every receipt ever signed: it needs a new tag and schema.

use chrysalis_receipt::SignedReceipt;
use chrysalis_wire::NetworkId;

use crate::{blinds, meter, receipt, signed};

fn assert_golden(signed: &SignedReceipt, hash: &str, signature: &str, root: &str) {
    assert_eq!(signed.hash().to_string(), hash);
    assert_eq!(hex::encode(signed.signature()), signature);
    let boc = hex::encode(signed.boc());
    // Magic, one-byte ids, two-byte size, five cells; root first, its references 1 to 4.
    assert!(boc.starts_with("b5ee9c72010205"), "{boc}");
    assert!(boc.contains(&format!("{root}01020304")), "{boc}");
}

#[test]
fn a_real_receipt_has_the_bytes_of_the_second_implementation() {
    assert_golden(
        &signed(),
        "3fe2ab28d6928cc5c1b9b33be2228d2bad4776a39b25a85ed397cb25bb3a2b0c",
        "e47fdc77b28ad3206f9c6c84c99baaab08a432987a50f5f83a6a423a22e9c756\
         99735225f3162d5272aaf0e6e390f44c433b69f61e083cf17fcd939ed5f01604",
        "04bd52515231fffffffd2121212121212121212121212121212121212121212121212121212121212121\
         d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737\
         222222222222222222222222222222226afd86c22010e8",
    );
}

#[test]
fn a_simulated_receipt_has_the_bytes_of_the_second_implementation() {
    let mut r = receipt();
    r.network = NetworkId::INSECURE_SIM;
    assert_golden(
        &meter().sign(&r, blinds()).unwrap(),
        "82dcaac00a09840d6c2255a1fa380869436d5979d5691da32344b35cbd5a50a0",
        "e711ffec8f74b4e6bccb068f4fd04cdb8245e3b624c6c505fa47875ea19808f6\
         901595fae030858582bb419ffcd8482db6b5341b721b9ec2ff2943fae339850f",
        "04bd53494d310053494d2121212121212121212121212121212121212121212121212121212121212121\
         d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737\
         222222222222222222222222222222226afd86c22010e8",
    );
}
