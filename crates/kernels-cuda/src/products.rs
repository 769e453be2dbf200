//! Products by cuBLASLt. A shape's algorithm is asked for once and then kept, so that runs repeat; none of
//! them adds up with atomics.

use crate::device::{Factor, Product, Then};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use std::collections::HashMap;
use std::ffi::c_void;

/// What algorithms may work with.
const WORKSPACE_BYTES: usize = 64 << 20;
/// Sums that are added up in the order of a shape, not as they come: through the workspace, in either
/// precision.
const ORDERED_REDUCTIONS: u32 = 2 | 4;

/// A handle, and what was found out with it.
pub(crate) struct Lt {
    handle: sys::cublasLtHandle_t,
    stream: sys::cudaStream_t,
    workspace: u64,
    plans: HashMap<Product<()>, Option<Plan>>,
}

/// How a product is computed.
struct Plan {
    operation: sys::cublasLtMatmulDesc_t,
    left: sys::cublasLtMatrixLayout_t,
    right: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

impl Lt {
    pub(crate) fn new(stream: cudarc::driver::sys::CUstream) -> Result<Self, String> {
        let handle = result::create_handle().map_err(|e| format!("cuBLASLt does not start: {e:?}"))?;
        // SAFETY: the stream exists.
        let workspace = unsafe { cudarc::driver::result::malloc_async(stream, WORKSPACE_BYTES) }
            .map_err(|e| format!("the GPU has no memory for products: {e:?}"))?;
        Ok(Lt { handle, stream: stream.cast(), workspace, plans: HashMap::new() })
    }

    /// Whether there is an algorithm for a product.
    pub(crate) fn has(&mut self, product: &Product) -> bool {
        self.plan(product).is_some()
    }

    fn plan(&mut self, product: &Product) -> Option<&Plan> {
        let key = key(product);
        let handle = self.handle;
        self.plans.entry(key).or_insert_with(|| Plan::new(handle, &key).ok()).as_ref()
    }

    /// Computes a product that it [has](Self::has) an algorithm for.
    ///
    /// # Errors
    /// The library fails.
    ///
    /// # Safety
    /// What it reads and writes is within allocations.
    pub(crate) unsafe fn run(&mut self, product: &Product) -> Result<(), String> {
        let (handle, workspace, stream) = (self.handle, self.workspace, self.stream);
        let plan = self.plan(product).ok_or_else(|| format!("there is no algorithm for {product:?}"))?;
        // SAFETY: the plan's operation exists.
        unsafe { then(plan.operation, product.then, product.out_row) }
            .map_err(|e| format!("cuBLASLt refuses what it has an algorithm for, {product:?}: {e:?}"))?;
        let beta = if product.add { 1f32 } else { 0.0 };
        let pointer = |at: u64| at as *const c_void;
        // SAFETY: the caller's; the plan's layouts are those of the product.
        let done = unsafe {
            result::matmul(
                handle,
                plan.operation,
                (&raw const product.alpha).cast(),
                (&raw const beta).cast(),
                // Its matrices are in columns: rows of the right factor are columns of the left one there.
                pointer(product.b.at),
                plan.left,
                pointer(product.a.at),
                plan.right,
                pointer(product.out.0),
                plan.out,
                product.out.0 as *mut c_void,
                plan.out,
                &plan.algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream,
            )
        };
        done.map_err(|e| format!("cuBLASLt failed in {product:?}: {e:?}"))
    }
}

/// What an algorithm depends on: sizes and steps, and of addresses how they are aligned.
fn key(product: &Product) -> Product<()> {
    let alignment = |at: u64| 1 << at.trailing_zeros().min(8);
    let factor = |factor: Factor| Factor { at: alignment(factor.at), ..factor };
    Product {
        out: (alignment(product.out.0), product.out.1),
        a: factor(product.a),
        b: factor(product.b),
        alpha: (),
        out_row: product.out_row,
        bf16: product.bf16,
        sizes: product.sizes,
        add: product.add,
        then: match product.then {
            Then::Nothing => Then::Nothing,
            Then::Bias(bias) => Then::Bias(alignment(bias)),
            Then::BiasGelu { bias, aux } => {
                Then::BiasGelu { bias: if bias == 0 { 0 } else { alignment(bias) }, aux: alignment(aux) }
            }
            Then::GeluSlope { aux } => Then::GeluSlope { aux: alignment(aux) },
        },
    }
}

/// Has an operation do something with its sums.
unsafe fn then(operation: sys::cublasLtMatmulDesc_t, then: Then, row: usize) -> Result<(), CublasError> {
    use sys::cublasLtEpilogue_t::*;
    use sys::cublasLtMatmulDescAttributes_t::*;
    let (epilogue, bias, aux) = match then {
        Then::Nothing => return Ok(()),
        Then::Bias(bias) => (CUBLASLT_EPILOGUE_BIAS, bias, 0),
        Then::BiasGelu { bias: 0, aux } => (CUBLASLT_EPILOGUE_GELU_AUX, 0, aux),
        Then::BiasGelu { bias, aux } => (CUBLASLT_EPILOGUE_GELU_AUX_BIAS, bias, aux),
        Then::GeluSlope { aux } => (CUBLASLT_EPILOGUE_DGELU, 0, aux),
    };
    let row = row as i64;
    // SAFETY: attributes have the size that they are given.
    unsafe {
        let set = |attribute, value: *const c_void, size| {
            result::set_matmul_desc_attribute(operation, attribute, value, size)
        };
        set(CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), 4)?;
        if bias != 0 {
            set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const bias).cast(), 8)?;
        }
        if aux != 0 {
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, (&raw const aux).cast(), 8)?;
            set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (&raw const row).cast(), 8)?;
        }
        Ok(())
    }
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, product: &Product<()>) -> Result<Self, CublasError> {
        use sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        use sys::cublasLtMatmulDescAttributes_t::{CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB};
        use sys::cublasLtMatmulPreferenceAttributes_t::*;
        use sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_32F};
        let kind = |bf16| if bf16 { CUDA_R_16BF } else { CUDA_R_32F };
        let [rows, columns, terms] = product.sizes;
        // Of a factor with `rows` rows: whether its terms lie side by side, and its layout in columns.
        let layout = |factor: Factor, rows: usize| {
            let side_by_side = factor.term == 1;
            let (height, width, step) =
                if side_by_side { (terms, rows, factor.row) } else { (rows, terms, factor.term) };
            let made = result::create_matrix_layout(
                kind(product.bf16),
                height as u64,
                width as u64,
                step.max(height) as i64,
            );
            made.map(|layout| (side_by_side, layout))
        };
        let (left_turned, left) = layout(product.b, columns)?;
        let (right_straight, right) = layout(product.a, rows)?;
        let out = result::create_matrix_layout(
            kind(product.out.1),
            columns as u64,
            rows as u64,
            product.out_row as i64,
        )?;
        let operation = result::create_matmul_desc(CUBLAS_COMPUTE_32F, CUDA_R_32F)?;
        let preference = result::create_matmul_pref()?;
        // SAFETY: everything was just made, and attributes have the size that they are given.
        unsafe {
            then(operation, product.then, product.out_row)?;
            let turned = |turned| u32::from(turned);
            for (attribute, value) in [
                (CUBLASLT_MATMUL_DESC_TRANSA, turned(left_turned)),
                (CUBLASLT_MATMUL_DESC_TRANSB, turned(!right_straight)),
            ] {
                result::set_matmul_desc_attribute(operation, attribute, (&raw const value).cast(), 4)?;
            }
            let bytes = WORKSPACE_BYTES;
            let attribute = CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(preference, attribute, (&raw const bytes).cast(), 8)?;
            for (attribute, value) in [
                (CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, ORDERED_REDUCTIONS),
                (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, product.b.at as u32),
                (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, product.a.at as u32),
                (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, product.out.0 as u32),
                (CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, product.out.0 as u32),
            ] {
                result::set_matmul_pref_attribute(preference, attribute, (&raw const value).cast(), 4)?;
            }
            let found =
                result::get_matmul_algo_heuristic(handle, operation, left, right, out, out, preference);
            result::destroy_matmul_pref(preference)?;
            Ok(Plan { operation, left, right, out, algorithm: found?.algo })
        }
    }
}

// SAFETY: handles of cuBLASLt may be used from any thread, one at a time.
unsafe impl Send for Lt {}
