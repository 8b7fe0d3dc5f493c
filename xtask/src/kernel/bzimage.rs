//! The kernel proper out of a compressed image.
//!
//! QEMU can start either, but unpacking inside an emulated machine takes seconds of each boot.

use anyhow::{Context as _, Result, bail};

/// Offsets in the header that Linux' boot protocol for x86 defines.
const SETUP_SECTORS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// A compressed kernel inside a bzImage.
pub(crate) struct Payload<'a> {
    /// The program that unpacks it.
    pub(crate) unpacker: &'static str,
    /// What to feed to that program.
    pub(crate) data: &'a [u8],
}

/// Finds the compressed kernel in a bzImage.
pub(crate) fn payload(image: &[u8]) -> Result<Payload<'_>> {
    if image.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        bail!("this is no bzImage: it lacks the boot protocol's signature");
    }
    let sectors = usize::from(*image.get(SETUP_SECTORS).context("the bzImage is cut off")?);
    // For old boot loaders 0 means 4.
    let protected_mode = (if sectors == 0 { 4 } else { sectors } + 1) * 512;
    let start = protected_mode + number(image, PAYLOAD_OFFSET)?;
    let length = number(image, PAYLOAD_LENGTH)?;
    let data = image
        .get(start..start + length)
        .context("the bzImage is cut off")?;
    // The build appends the unpacked size to formats that do not contain it.
    let without_size = &data[..data.len().saturating_sub(4)];
    if data.starts_with(b"\xfd7zXZ\0") {
        Ok(Payload {
            unpacker: "xz",
            data: without_size,
        })
    } else if data.starts_with(b"\x28\xb5\x2f\xfd") {
        Ok(Payload {
            unpacker: "zstd",
            data: without_size,
        })
    } else if data.starts_with(b"\x1f\x8b") {
        Ok(Payload {
            unpacker: "gzip",
            data,
        })
    } else {
        bail!("the kernel is compressed in a way that is not known here");
    }
}

fn number(image: &[u8], at: usize) -> Result<usize> {
    let bytes = image
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok());
    let number = u32::from_le_bytes(bytes.context("the bzImage is cut off")?);
    usize::try_from(number).context("a size in the bzImage is too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_payload_behind_the_setup_code() {
        let mut image = vec![0; 2048];
        image[SETUP_SECTORS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET] = 16;
        image[PAYLOAD_LENGTH] = 12;
        image[1024 + 16..1024 + 28].copy_from_slice(b"\xfd7zXZ\0ab\x08\0\0\0");
        let payload = payload(&image).expect("a valid image");
        assert_eq!(payload.unpacker, "xz");
        assert_eq!(payload.data, b"\xfd7zXZ\0ab");
    }

    #[test]
    fn refuses_what_is_no_image() {
        assert!(payload(b"ELF").is_err());
        assert!(payload(&[0; 4096]).is_err());
    }
}
