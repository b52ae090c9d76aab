//! Writes the final Gramine manifest, byte for byte the same for the same template and files. Every
//! setting that weakens an enclave by its default, or that a later Gramine may default
//! differently, is written out.

use core::fmt::Write as _;

use chrysalis_wire::Digest;

use super::error::SgxError;
use super::gramine::GramineManifest;
use super::template::GramineTemplate;

impl GramineTemplate {
    /// The final manifest (`NAME.manifest.sgx`). `hash` is asked for the SHA-256 of each of
    /// [`GramineTemplate::measured_files`].
    ///
    /// # Errors
    /// Whatever `hash` returns; [`SgxError`] if the result is not a manifest we would measure,
    /// which is a defect.
    pub fn write<E: From<SgxError>>(
        &self,
        mut hash: impl FnMut(&str) -> Result<Digest, E>,
    ) -> Result<String, E> {
        let raw = &self.raw;
        let mut out = String::from(HEAD);
        let mut put = |line: core::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = out.write_fmt(line);
            out.push('\n');
        };
        put(format_args!("[libos]"));
        put(format_args!("check_invalid_pointers = true"));
        put(format_args!("entrypoint = \"{}\"\n", raw.program.entrypoint));

        put(format_args!("[loader]"));
        put(format_args!("argv = [{}]", list(&raw.program.arguments)));
        // No `env`, no `insecure__use_host_env`, no `insecure__use_cmdline_argv`: the host gives
        // the program nothing.
        put(format_args!("log_level = \"error\"\n"));
        put(format_args!("[loader.entrypoint]"));
        put(format_args!("sha256 = \"{}\"", hash(&raw.program.libos)?));
        put(format_args!("uri = \"file:{}\"\n", raw.program.libos));

        put(format_args!("[sys]"));
        put(format_args!("disallow_subprocesses = true"));
        put(format_args!("enable_extra_runtime_domain_names_conf = false"));
        put(format_args!("enable_sigterm_injection = false"));
        put(format_args!("insecure__allow_eventfd = {}", raw.process.allow_eventfd));
        put(format_args!("brk.max_size = \"{}\"", raw.process.brk));
        put(format_args!("stack.size = \"{}\"\n", raw.process.stack));

        put(format_args!("[fs]"));
        put(format_args!("start_dir = \"/\"\n"));
        put(format_args!("[fs.root]"));
        // Without a root of its own a program sees the directory that Gramine was started in.
        put(format_args!("type = \"tmpfs\""));
        let measured = raw.files.iter().map(|file| (&file.host, &file.inside));
        let unmeasured = raw.unmeasured.iter().map(|file| (&file.host, &file.inside));
        let mut mounts: Vec<_> = measured.chain(unmeasured).collect();
        mounts.sort_by_key(|(_, inside)| *inside);
        for (host, inside) in mounts {
            put(format_args!("\n[[fs.mounts]]"));
            put(format_args!("path = \"{inside}\""));
            put(format_args!("type = \"chroot\""));
            put(format_args!("uri = \"file:{host}\""));
        }

        put(format_args!("\n[sgx]"));
        let allowed: Vec<_> =
            raw.unmeasured.iter().map(|file| format!("file:{}", file.host)).collect();
        put(format_args!("allowed_files = [{}]", list(&allowed)));
        put(format_args!("debug = false"));
        put(format_args!("edmm_enable = {}", self.shape.edmm()));
        put(format_args!("enable_stats = false"));
        put(format_args!("enclave_size = \"{}\"", raw.enclave.size));
        put(format_args!("file_check_policy = \"strict\""));
        put(format_args!("isvprodid = {}", raw.enclave.isv_prod_id));
        put(format_args!("isvsvn = {}", raw.enclave.isv_svn));
        put(format_args!("max_threads = {}", self.shape.threads()));
        put(format_args!("preheat_enclave = false"));
        put(format_args!("remote_attestation = \"dcap\""));
        put(format_args!("use_exinfo = false\n"));
        put(format_args!("[sgx.cpu_features]"));
        for (name, setting) in raw.enclave.cpu_features.each() {
            put(format_args!("{name} = \"{setting}\""));
        }
        let mut trusted: Vec<&str> = self.measured_files().collect();
        trusted.sort_unstable();
        for path in trusted {
            put(format_args!("\n[[sgx.trusted_files]]"));
            put(format_args!("sha256 = \"{}\"", hash(path)?));
            put(format_args!("uri = \"file:{path}\""));
        }
        // What we write, we must be able to measure.
        GramineManifest::parse(out.as_bytes())?;
        Ok(out)
    }
}

/// Quoted and separated. The template's texts have nothing to escape.
fn list(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(", ")
}

const HEAD: &str = "\
# Written by `chrysalis manifest gramine`. Measured into MRENCLAVE byte for byte: do not edit.

";
