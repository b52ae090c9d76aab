//! EFI variables as events: encodings of the TCG PC Client Platform Firmware Profile and of the
//! UEFI load option (UEFI 2.10, 3.1.3).

/// `UEFI_VARIABLE_DATA`: what an EV_EFI_VARIABLE_DRIVER_CONFIG event is the digest of.
pub(crate) fn variable_data(vendor: &[u8; 16], name: &str, data: &[u8]) -> Vec<u8> {
    let text = utf16(name);
    let mut out = Vec::with_capacity(data.len().saturating_add(64));
    out.extend_from_slice(vendor);
    for length in [text.len() / 2, data.len()] {
        out.extend_from_slice(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
    }
    out.extend_from_slice(&text);
    out.extend_from_slice(data);
    out
}

/// A `Boot####` variable of an application in the firmware volume of OVMF: hidden, in the category
/// of applications.
pub(crate) fn firmware_application(description: &str, file: &[u8; 16]) -> Vec<u8> {
    let mut path = Vec::with_capacity(44);
    // Media device path, PIWG firmware volume; then file.
    for (subtype, guid) in [(0x07, &DXE_VOLUME), (0x06, file)] {
        path.extend_from_slice(&[0x04, subtype, 20, 0]);
        path.extend_from_slice(guid);
    }
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);
    let mut out =
        (LOAD_OPTION_ACTIVE | LOAD_OPTION_HIDDEN | LOAD_OPTION_CATEGORY_APP).to_le_bytes().to_vec();
    out.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&utf16(description));
    out.extend_from_slice(&[0, 0]);
    out.append(&mut path);
    out
}

/// UTF-16LE without a terminator.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// EFI_GLOBAL_VARIABLE: 8be4df61-93ca-11d2-aa0d-00e098032b8c.
pub(crate) const GLOBAL: [u8; 16] = [
    0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c,
];

/// EFI_IMAGE_SECURITY_DATABASE: d719b2cb-3d3a-4596-a3bc-dad00e67656f.
pub(crate) const IMAGE_SECURITY: [u8; 16] = [
    0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f,
];

/// UiApp: 462caa21-7614-4503-836e-8ab6f4662331.
pub(crate) const UI_APP: [u8; 16] = [
    0x21, 0xaa, 0x2c, 0x46, 0x14, 0x76, 0x03, 0x45, 0x83, 0x6e, 0x8a, 0xb6, 0xf4, 0x66, 0x23, 0x31,
];

/// BootManagerMenuApp: eec25bdc-67f2-4d95-b1d5-f81b2039d11d.
pub(crate) const BOOT_MANAGER_MENU: [u8; 16] = [
    0xdc, 0x5b, 0xc2, 0xee, 0xf2, 0x67, 0x95, 0x4d, 0xb1, 0xd5, 0xf8, 0x1b, 0x20, 0x39, 0xd1, 0x1d,
];

/// The DXE volume of OVMF: 7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1.
const DXE_VOLUME: [u8; 16] = [
    0xc9, 0xbd, 0xb8, 0x7c, 0xeb, 0xf8, 0x34, 0x4f, 0xaa, 0xea, 0x3e, 0xe4, 0xaf, 0x65, 0x16, 0xa1,
];

const LOAD_OPTION_ACTIVE: u32 = 0x001;
const LOAD_OPTION_HIDDEN: u32 = 0x008;
const LOAD_OPTION_CATEGORY_APP: u32 = 0x100;
