//! What a worker's refusal to boot means and what its operator does about it. A booting worker
//! says a stage and a code on its console and nothing else, because everything it says is read by
//! the host; the words are here.

/// What a code means, and what to do: the first entry whose prefix fits.
pub(crate) fn explain(code: &str) -> Option<(&'static str, &'static str)> {
    let known = CODES.iter().find(|(prefix, _, _)| code.starts_with(prefix));
    known.map(|(_, cause, next)| (*cause, *next))
}

/// Prefix of a code, cause, next step. Longer prefixes come first.
const CODES: &[(&str, &str, &str)] = &[
    (
        "E-TEE-NONE",
        "this machine has no TEE that the worker knows",
        "use a machine with TDX, or try everything out with `chrysalis-worker-sim`",
    ),
    ("E-TEE-", "the platform's interface did not do its part", PLATFORM),
    (
        "E-NVML-NONE",
        "the manifest names GPUs, and where the worker runs there is no NVIDIA driver \
         (libnvidia-ml.so.1)",
        NO_DRIVER,
    ),
    ("E-NVML-OLD", "the NVIDIA driver lacks what this worker calls", DRIVER),
    (
        "E-NVML-",
        "the NVIDIA driver shows no GPU whose memory is protected",
        "use GPUs in confidential mode and an image with their driver, or a manifest without devices",
    ),
    (
        "E-DEVICES",
        "this machine has other GPUs or switches than the manifest names",
        "attach those, or write the manifest for this machine with `manifest init --gpus`",
    ),
    (
        "E-CUDA-NO-KERNELS",
        "the manifest names GPUs, and this worker was built without kernels for them",
        "build it with `scripts/build-cuda`, or serve the model by the processor: a manifest of \
         `manifest init` without --gpus",
    ),
    (
        "E-CUDA-NO-GPU",
        "the NVIDIA driver sees no GPU where the worker runs",
        "attach the GPUs that the manifest names, and see whether `nvidia-smi` shows them there",
    ),
    (
        "E-CUDA-NONE",
        "the manifest names GPUs, and where the worker runs there is no NVIDIA driver (libcuda.so.1)",
        NO_DRIVER,
    ),
    ("E-CUDA-DRIVER", "the NVIDIA driver is older than the kernels of this worker", DRIVER),
    ("E-CUDA-FUNCTION", "the NVIDIA driver lacks what this worker calls", DRIVER),
    (
        "E-CUDA-OTHER-GPU",
        "this worker has no kernels for this kind of GPU",
        "use one of the Hopper or Blackwell generation (H100, H200, B200)",
    ),
    (
        "E-CUDA-MEMORY",
        "the GPU has too little memory for the model",
        "use a GPU with more memory that nobody else uses, or pack a smaller or quantised model",
    ),
    ("E-CUDA-IMAGE", "the kernels in this worker are damaged", KERNELS),
    ("E-CUDA-ARGUMENTS", "the kernels in this worker are of other sources than its code", KERNELS),
    (
        "E-CUDA-",
        "the GPU or its driver did not do its part",
        "look for Xid errors in the kernel's log and reset the GPU; then start the worker again",
    ),
    ("E-GPU-", "a GPU's evidence is not sound", "check that all GPUs are in confidential mode"),
    ("E-QGS-", "the quote service of this machine did not do its part", PLATFORM),
    ("E-QUOTE", "this machine gave no usable quote", PLATFORM),
    (
        "E-ENVIRONMENT",
        "the worker was given environment variables, which no measurement covers",
        "start it with `chrysalis up`, which gives it none",
    ),
    (
        "E-HARDENING",
        "the kernel refused a protection that the worker does not do without",
        "check the limits and security modules of this machine (core dumps, no_new_privs)",
    ),
    (
        "E-UNREADABLE",
        "a file of the launch cannot be read, or is larger than it may be",
        "check that this user may read manifest, bundle and collateral",
    ),
    (
        "E-PEER-PINS",
        "the manifest serves only some clients, and their pins are missing or other ones",
        "give `up --peer-pins` the very file that `manifest init --peer-pins` was given",
    ),
    (
        "E-NETWORK",
        "the manifest is for another kind of network than this platform may serve",
        "a simulated worker needs `manifest init --network sim`, a real one any other",
    ),
    (
        "E-MODEL-ROOT",
        "the bundle is not the model that the manifest names",
        "give the bundle whose root the manifest has (`chrysalis model inspect`), or write a new \
         manifest and pin it",
    ),
    (
        "E-MODEL-CACHE-MEMORY",
        "beside the weights, memory is too small for one request of the context that the manifest names",
        "give the machine more memory, or pin a manifest with a shorter context (`manifest init \
         --context-tokens`)",
    ),
    (
        "E-MODEL-",
        "the bundle is whole, but this engine cannot run the model in it",
        "see what it is with `chrysalis model inspect`; GGUF files and checkpoints of Llama, Mistral, \
         Qwen3 and Gemma 3 are supported",
    ),
    (
        "E-INSECURE-SIM",
        "the simulated platform could not do its part",
        "check that worker and collateral are of one release",
    ),
    (
        "E-TEMPLATE-",
        "the model's chat template cannot be used",
        "correct it in the GGUF file or the folder, and pack the model again",
    ),
    ("E-GGUF-", "the GGUF file in the bundle cannot be read", "pack a sound GGUF file"),
    ("E-BUNDLE-IO", "the bundle cannot be read", "check the disk and the file's permissions"),
    ("E-BUNDLE-MAGIC", "the file is no bundle", "make one with `chrysalis model pack`"),
    (
        "E-BUNDLE-VERSION",
        "the bundle is of a version that this worker does not read",
        "pack the model with the tools of the worker's release",
    ),
    ("E-BUNDLE-", "the bundle is damaged", DAMAGED),
    ("E-CHUNK-", "a chunk of the bundle is not the one that was packed", DAMAGED),
    ("E-TABLE-", "the bundle's table is not the one that was packed", DAMAGED),
    ("E-MANIFEST-", "the bundle's own manifest is not in its form", DAMAGED),
    (
        "E-MANIFEST",
        "the manifest is not one that this worker takes",
        "write it with `chrysalis manifest init`, which says what is wrong with it",
    ),
    (
        "E-KEY-WRONG",
        "the granted key is not the one the bundle was sealed with",
        "start the worker again and grant the right key",
    ),
    (
        "E-KEY-",
        "manifest and bundle do not agree about sealing, or the key is malformed",
        "write the manifest for this very bundle with `chrysalis manifest init`",
    ),
    (
        "E-NO-MODEL",
        "the bundle holds neither a GGUF file nor every file of a checkpoint",
        "pack a GGUF file, or the whole folder of a checkpoint, with `chrysalis model pack`",
    ),
    (
        "E-NOT-MEASURED",
        "the runtime register does not show what PID 1 had to measure before it started the worker",
        "boot the image again; if it stays, the image is not one this worker belongs to",
    ),
    ("E-NOT-RANDOM", "the system has no random numbers", "check the machine"),
    ("E-MEMORY", "there is not enough memory for the model", "give it more, or a smaller model"),
    (
        "E-ENGINE-DEVICE-CACHE",
        "a GPU keeps keys and values in f16, and the manifest asks for another type",
        "write the manifest without --kv-cache-type, or without --gpus",
    ),
    ("E-ENGINE-", "the engine did not start", "read `chrysalis logs --loader`"),
    ("E-COLLATERAL-", "the collateral is malformed, stale, or for another platform", COLLATERAL),
    ("E-EVAL-NUMBER", "the collateral is older than the policy allows", COLLATERAL),
    (
        "E-TCB-STATUS",
        "this platform's firmware is not up to date",
        "update BIOS, microcode and the TDX module, then fetch the collateral again",
    ),
    (
        "E-SELF-MEASUREMENT",
        "the worker's evidence does not show what the worker itself measured",
        "start it again; if it stays, this platform does not extend its registers",
    ),
    ("E-DCAP", "the worker's own quote does not verify with this collateral", COLLATERAL),
];

const PLATFORM: &str = "check the TDX driver and the quote service (qgsd) on the host";
const NO_DRIVER: &str = "install driver 580 or later there (for a VM into its image), or serve the model \
                         by the processor: a manifest of `manifest init` without --gpus";
const DRIVER: &str = "install driver 580 or later where the worker runs (for a VM into its image)";
const KERNELS: &str = "build the worker again with `scripts/build-cuda`";
const DAMAGED: &str = "find the damage with `chrysalis model verify`, then copy or pack it again";
const COLLATERAL: &str = "fetch the collateral again; for a simulated worker write it with \
                          `chrysalis-worker-sim sim collateral --out FILE`";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    /// The codes a source file of the enclave names.
    fn codes(file: &str) -> Vec<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../enclave").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        text.split('"').filter(|piece| piece.starts_with("E-")).map(str::to_owned).collect()
    }

    #[test]
    fn every_code_a_worker_can_refuse_to_boot_with_is_explained() {
        // Of the worker itself, what no launch by `up` and no boot can meet.
        let not_at_boot = ["E-USAGE", "E-LISTEN", "E-KEYS", "E-STOPPED"];
        let mut seen = 0;
        for file in ["worker/src/error.rs", "tee/src/error.rs", "cuda/src/error.rs"] {
            for code in codes(file) {
                seen += 1;
                let known = explain(&code).is_some() || not_at_boot.contains(&&*code);
                assert!(known, "{code} of {file} has no words");
            }
        }
        assert!(seen > 30, "only {seen} codes were found");
        for code in ["E-CHUNK-HASH", "E-BUNDLE-TRUNCATED", "E-KEY-WRONG", "E-MODEL-ARCHITECTURE"] {
            assert!(explain(code).is_some(), "{code}");
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        for (at, (prefix, _, _)) in CODES.iter().enumerate() {
            let hidden = CODES.iter().take(at).find(|(earlier, _, _)| prefix.starts_with(earlier));
            assert!(hidden.is_none(), "{prefix} is hidden by {hidden:?}");
        }
        assert!(explain("E-TEE-NONE").unwrap().1.contains("chrysalis-worker-sim"));
        assert!(explain("E-CUDA-NONE").unwrap().1.contains("driver 580"));
        assert!(explain("E-CUDA-NO-KERNELS").unwrap().1.contains("scripts/build-cuda"));
        assert_eq!(explain("E-UNHEARD-OF"), None);
    }
}
