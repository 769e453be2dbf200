//! The kernels' machine code, as `tools/gpu_kernels.py` makes it of their source: for three chips, and PTX, which a
//! driver compiles itself for all others.

use flate2::read::ZlibDecoder;
use std::io::Read;

/// Code for a chip, packed by zlib: in gzip's container it would be a text to `mynah corpus`.
struct Compiled {
    /// The compute capabilities that it runs on.
    runs_on: fn((i32, i32)) -> bool,
    packed: &'static [u8],
}

/// What runs on fewer chips comes first. A chip's own instructions (`a`) are for that chip alone; other code is for the
/// later chips of its family too.
const COMPILED: [Compiled; 4] = [
    Compiled { runs_on: |chip| chip == (9, 0), packed: include_bytes!("../compiled/sm_90a.cubin.z") },
    Compiled { runs_on: |chip| chip == (10, 0), packed: include_bytes!("../compiled/sm_100a.cubin.z") },
    Compiled { runs_on: |(major, _)| major == 8, packed: include_bytes!("../compiled/sm_80.cubin.z") },
    Compiled { runs_on: |chip| chip >= (8, 0), packed: include_bytes!("../compiled/compute_80.ptx.z") },
];

/// Code for a chip of this compute capability, each as the driver takes it: what fits it best, then what it can be
/// compiled from.
pub(crate) fn code(chip: (i32, i32)) -> impl Iterator<Item = Vec<u8>> {
    COMPILED.iter().filter(move |compiled| (compiled.runs_on)(chip)).map(|compiled| unpacked(compiled.packed))
}

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut code = Vec::new();
    ZlibDecoder::new(packed).read_to_end(&mut code).expect("what is in the program is whole");
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    /// Bytes 18 and 19 of an ELF file: the machine, here CUDA's.
    const MACHINE: [u8; 2] = [190, 0];

    fn digest(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_is_compiled_comes_of_the_sources() {
        let made: serde_json::Value =
            serde_json::from_str(include_str!("../compiled/made.json")).expect("what made them");
        let stale = "the kernels are not those that were compiled: tools/gpu_kernels.py compiles them";
        assert_eq!(made["source"], digest(crate::source().as_bytes()), "{stale}");
        let digests: Vec<String> =
            COMPILED.iter().map(|compiled| digest(&unpacked(compiled.packed))).collect();
        for (i, name) in ["sm_90a.cubin", "sm_100a.cubin", "sm_80.cubin", "compute_80.ptx"].iter().enumerate()
        {
            assert_eq!(made["files"][name], digests[i], "{name}: {stale}");
        }
    }

    #[test]
    fn every_chip_has_code() {
        for (chip, cubins) in
            [((8, 0), 1), ((8, 9), 1), ((9, 0), 1), ((10, 0), 1), ((10, 3), 0), ((12, 0), 0)]
        {
            let code: Vec<_> = code(chip).collect();
            assert_eq!(code.len(), cubins + 1, "{chip:?}");
            assert!(
                code[..cubins].iter().all(|code| code.starts_with(b"\x7fELF") && code[18..20] == MACHINE)
            );
            // A text ends with a zero for the driver.
            assert!(code[cubins].starts_with(b"//") && code[cubins].ends_with(b"\0"));
        }
        assert_eq!(code((7, 5)).count(), 0);
    }
}
