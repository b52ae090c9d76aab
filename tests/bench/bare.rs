//! Signatures alone: messages of given sizes under one fresh key, verified one after the other. What
//! an appraisal is measured against.

use anyhow::{Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _,
    UnparsedPublicKey,
};

/// Messages and their signatures.
pub(crate) struct Bare {
    algorithm: &'static EcdsaVerificationAlgorithm,
    key: Vec<u8>,
    signed: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Bare {
    /// One message of each size.
    pub(crate) fn new(
        (signing, algorithm): (&'static EcdsaSigningAlgorithm, &'static EcdsaVerificationAlgorithm),
        sizes: &[usize],
    ) -> Result<Self> {
        let key = EcdsaKeyPair::generate(signing)?;
        let sign = |size: &usize| {
            let message = vec![0x5a; *size];
            let signature = key.sign(&SystemRandom::new(), &message)?.as_ref().to_vec();
            Ok((message, signature))
        };
        let signed = sizes.iter().map(sign).collect::<Result<_>>()?;
        Ok(Self { algorithm, key: key.public_key().as_ref().to_vec(), signed })
    }

    /// Verifies all of them.
    pub(crate) fn verify(&self) -> Result<()> {
        for (message, signature) in &self.signed {
            UnparsedPublicKey::new(self.algorithm, &self.key)
                .verify(message, signature)
                .map_err(|_| anyhow!("a signature of this benchmark does not verify"))?;
        }
        Ok(())
    }
}
