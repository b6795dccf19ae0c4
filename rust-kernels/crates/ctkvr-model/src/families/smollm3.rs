//! SmolLM3: as Llama, but every fourth layer turns nothing, and there are no factors of rope.

use super::{Family, llama};
use crate::description::{Description, RopePairing, RotarySpec, Sizes};
use crate::metadata::Metadata;

pub(super) const FAMILY: Family = Family { name: "smollm3", describe };

fn describe(sizes: &Sizes, file: &Metadata) -> Result<Description, String> {
    let rotary = RotarySpec { unrotated_period: Some(4), ..RotarySpec::plain(RopePairing::Adjacent) };
    Ok(Description { rotary, ..(llama::FAMILY.describe)(sizes, file)? })
}
