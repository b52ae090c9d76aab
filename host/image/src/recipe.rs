//! The recipe (`images/*.toml`): what an image is, apart from foreign bytes and our programs. A
//! closed schema, read from a repository that may be anybody's; what it decides is measured.

use chrysalis_measure::tdx::FirmwareProfile;
use chrysalis_shape::QemuVersion;
use chrysalis_wire::image::{
    IMAGE_CONFIG_VERSION, ModuleEntry, NetworkSection, RootSection, SysctlEntry,
};
use chrysalis_wire::{CommandLine, ImageConfig, ImagePlatform};
use serde::Deserialize;

use crate::error::ImageError;
use crate::lock::{Lock, PinnedFile, Role};
use crate::root::RootRecipe;

/// What an image is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    version: u32,
    /// Name of the kind of image, as `cpu`.
    pub flavour: String,
    /// How the firmware measures; decided by its build.
    pub firmware_profile: FirmwareProfile,
    /// Oldest QEMU whose measurements are predicted.
    pub qemu_min: QemuVersion,
    /// Words of the kernel command line, in order.
    cmdline: Vec<String>,
    /// Words that a debug image has in place of `quiet`.
    cmdline_debug: Vec<String>,
    /// TCP port of the worker in the guest.
    listen_port: u16,
    network: NetworkSection,
    /// What its root holds, if it has one.
    pub root: Option<RootRecipe>,
    #[serde(rename = "module")]
    modules: Vec<WantedModule>,
    #[serde(rename = "sysctl")]
    sysctls: Vec<SysctlEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedModule {
    name: String,
    /// Only on this platform.
    platform: Option<ImagePlatform>,
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// [`ImageError`], saying which field and what was expected.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let recipe: Self = crate::error::parse_toml("recipe", bytes, MAX_RECIPE_BYTES)?;
        if recipe.version != RECIPE_VERSION {
            return Err(ImageError::Version { what: "recipe", got: recipe.version });
        }
        let flavour = &recipe.flavour;
        if !(1..=MAX_FLAVOUR_BYTES).contains(&flavour.len())
            || !flavour.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            let expected = "1 to 32 lower-case letters, digits and dashes";
            return Err(ImageError::field("recipe", "flavour", flavour, expected));
        }
        recipe.cmdline(false)?;
        recipe.cmdline(true)?;
        recipe.root.as_ref().map_or(Ok(()), RootRecipe::check)?;
        Ok(recipe)
    }

    /// The kernel command line.
    ///
    /// # Errors
    /// [`ImageError::Cmdline`].
    pub fn cmdline(&self, debug: bool) -> Result<String, ImageError> {
        let extra: &[String] = if debug { &self.cmdline_debug } else { &[] };
        let kept = self.cmdline.iter().filter(|a| !debug || *a != "quiet");
        let all: Vec<&str> = kept.chain(extra).map(String::as_str).collect();
        let text = all.join(" ");
        check_cmdline(text.as_bytes(), debug)?;
        Ok(text)
    }

    /// The modules of an image for `platform`, in the order they are loaded.
    ///
    /// # Errors
    /// [`ImageError::NoModule`] if the lock does not pin one.
    pub fn modules<'a>(
        &self,
        platform: ImagePlatform,
        lock: &'a Lock,
    ) -> Result<Vec<&'a PinnedFile>, ImageError> {
        let wanted = self.modules.iter().filter(|m| m.platform.is_none_or(|p| p == platform));
        wanted
            .map(|module| {
                let mut pinned = lock.files().map(|(_, f)| f).filter(|f| f.role == Role::Module);
                pinned
                    .find(|f| f.module_name() == module.name)
                    .ok_or_else(|| ImageError::NoModule { name: module.name.clone() })
            })
            .collect()
    }

    /// What PID 1 of the image is told, `root` being its root if it has one.
    ///
    /// # Errors
    /// [`ImageError::NoModule`]; [`ImageError::Config`] if PID 1 would refuse it.
    pub fn config(
        &self,
        platform: ImagePlatform,
        debug: bool,
        lock: &Lock,
        root: Option<RootSection>,
    ) -> Result<(ImageConfig, String), ImageError> {
        let modules = self.modules(platform, lock)?.into_iter();
        let config = ImageConfig {
            version: IMAGE_CONFIG_VERSION,
            platform,
            debug,
            listen_port: self.listen_port,
            network: self.network.clone(),
            root,
            modules: modules
                .map(|f| ModuleEntry { file: f.base_name().to_owned(), sha256: f.sha256 })
                .collect(),
            sysctls: self.sysctls.clone(),
        };
        let text = toml::to_string(&config).map_err(|e| ImageError::Malformed {
            what: "image configuration",
            reason: e.to_string(),
        })?;
        // PID 1's own parser has the last word, now and not at boot.
        Ok((ImageConfig::parse(text.as_bytes())?, text))
    }
}

/// The command line as PID 1 checks it, and without the word that only the firmware adds.
pub(crate) fn check_cmdline(bytes: &[u8], debug: bool) -> Result<CommandLine, ImageError> {
    let line = CommandLine::parse(bytes, debug)?;
    if line.words().contains(&FIRMWARE_WORD) {
        let expected = "words without the one the firmware adds";
        return Err(ImageError::field("command line", "word", FIRMWARE_WORD, expected));
    }
    Ok(line)
}

/// Version of the recipe this build reads.
pub const RECIPE_VERSION: u32 = 1;

/// Largest recipe, in bytes.
pub const MAX_RECIPE_BYTES: usize = 64 * 1024;

/// edk2 puts it before or behind our words when it hands the kernel an initrd.
const FIRMWARE_WORD: &str = "initrd=initrd";

const MAX_FLAVOUR_BYTES: usize = 32;
