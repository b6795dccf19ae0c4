//! Compiled kernels: which of those that are built in fits a device.

use std::borrow::Cow;

use crate::declaration::Family;
use crate::error::{Error, Result};
use crate::properties::Properties;

/// One `.cu` file compiled for one target: `sm_80` (a cubin) or `compute_80` (PTX).
struct Image {
    file: &'static str,
    target: &'static str,
    bytes: &'static [u8],
}

/// Written by build.rs from the folder `CTKVR_CUDA_KERNELS`; empty without it.
const IMAGES: &[Image] = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// What the stand-in calls its device. It takes a list of kernels in place of machine code, and has the kernels themselves.
const STAND_IN: &str = "CTKvr stand-in";

/// The image of a family for a device, ended by 0 where it is text: machine code of its generation, else PTX.
///
/// # Errors
/// `KernelsNotBuilt`.
pub fn of(family: &Family, device: &Properties) -> Result<Cow<'static, [u8]>> {
    if device.name == STAND_IN {
        return Ok(manifest(family).into_bytes().into());
    }
    let images = IMAGES.iter().filter(|image| image.file == family.file);
    let best = images.max_by_key(|image| rank(image.target, device.capability)).filter(|i| rank(i.target, device.capability) > 0);
    let Some(image) = best else {
        let (major, minor) = device.capability;
        return Err(Error::KernelsNotBuilt { target: format!("{} ({}.cu, sm_{major}{minor})", device.name, family.file) });
    };
    if image.target.starts_with("compute_") {
        return Ok([image.bytes, b"\0"].concat().into());
    }
    Ok(image.bytes.into())
}

/// Whether there are images of all families for a device.
///
/// # Errors
/// `KernelsNotBuilt`.
pub fn check(families: &[Family], device: &Properties) -> Result<()> {
    families.iter().filter(|family| !family.kernels.is_empty()).try_for_each(|family| of(family, device).map(drop))
}

/// How well a target fits, 0 where it does not run: machine code runs on its own major version and the same or a later minor one.
fn rank(target: &str, (major, minor): (i32, i32)) -> i32 {
    let number = |digits: &str| digits.parse::<i32>().ok();
    let version = 10 * major + minor;
    if let Some(built) = target.strip_prefix("sm_").and_then(number) {
        return if built / 10 == major && built <= version { 1000 + built } else { 0 };
    }
    target.strip_prefix("compute_").and_then(number).filter(|built| *built <= version).unwrap_or(0)
}

/// "ctkvr-kernels 1", then a line for each kernel: its name and the bytes of each parameter. Ends with 0.
fn manifest(family: &Family) -> String {
    let mut text = String::from("ctkvr-kernels 1\n");
    for kernel in family.kernels {
        text += kernel.name;
        for size in kernel.sizes {
            text += &format!(" {size}");
        }
        text.push('\n');
    }
    text.push('\0');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_of_the_same_generation_is_best_then_an_older_minor_version_then_ptx() {
        assert!(rank("sm_89", (8, 9)) > rank("sm_86", (8, 9)));
        assert!(rank("sm_80", (8, 9)) > rank("compute_80", (8, 9)));
        assert_eq!(rank("sm_90", (8, 9)), 0);
        assert_eq!(rank("sm_80", (9, 0)), 0);
        assert!(rank("compute_80", (12, 0)) > 0);
    }
}
