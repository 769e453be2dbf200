//! There are no kernels for distillation yet: it is refused by name.

use crate::{Cuda, CudaIds, CudaScalars, CudaTensor};
use kernels::{Distil, DistilShape, StoredShape};

/// # Panics
///
/// Always; whoever distils takes the processor.
impl Distil for Cuda {
    fn distil_forward(
        &mut self,
        _: &mut CudaScalars,
        _: [&CudaTensor; 2],
        _: [&CudaTensor; 2],
        _: &CudaIds,
        _: &DistilShape,
    ) {
        panic!("distil_forward: {MISSING}");
    }

    fn distil_backward(
        &mut self,
        _: &mut CudaScalars,
        _: &mut CudaTensor,
        _: Option<&mut CudaTensor>,
        _: &CudaScalars,
        _: [&CudaTensor; 2],
        _: [&CudaTensor; 2],
        _: &CudaIds,
        _: &DistilShape,
        _: &[usize],
    ) {
        panic!("distil_backward: {MISSING}");
    }

    fn stored_forward(
        &mut self,
        _: &mut CudaScalars,
        _: [&CudaTensor; 2],
        _: &CudaIds,
        _: &CudaScalars,
        _: &CudaIds,
        _: &StoredShape,
    ) {
        panic!("stored_forward: {MISSING}");
    }

    fn stored_backward(
        &mut self,
        _: &mut CudaScalars,
        _: &mut CudaTensor,
        _: Option<&mut CudaTensor>,
        _: &CudaScalars,
        _: [&CudaTensor; 2],
        _: &CudaIds,
        _: &CudaScalars,
        _: &CudaIds,
        _: &StoredShape,
        _: &[usize],
    ) {
        panic!("stored_backward: {MISSING}");
    }
}

const MISSING: &str = "there is no kernel for it, take the processor (--device cpu)";
