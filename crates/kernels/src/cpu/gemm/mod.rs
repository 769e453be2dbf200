//! The one matrix product: `out (=|+=) left · right + bias`, everything else is made of it.
//!
//! Both factors are first *packed*: copied to where the kernel reads them in order, and converted to its
//! precision. So any storage, precision and transposition is a matter of packing alone, and there is one
//! kernel a level.
//!
//! # Bits
//!
//! An element of the result is a sum over *blocks* of k, in order; a block is a sum over its k, in order, in
//! a register. How k is cut into blocks depends on k alone (and on `groups` for gradients of weights).
//! Neither the number of rows nor of columns nor of threads has a part in it, nor where in a tile the element
//! lies.
//!
//! # Two ways in
//!
//! * [`Product`] on whole matrices, by all threads.
//! * Small products within one thread, as attention needs them: [`Kernel::pack_left`],
//!   [`Kernel::pack_right`], [`Kernel::multiply`].

mod codes;
#[cfg(target_arch = "x86_64")]
mod codes_avx2;
mod kernel;
#[cfg(target_arch = "x86_64")]
mod kernel_avx2;
#[cfg(target_arch = "x86_64")]
mod kernel_avx512;
mod kernel_portable;
mod layout;
mod pack;
#[cfg(target_arch = "x86_64")]
mod pack_avx2;
#[cfg(target_arch = "x86_64")]
mod pack_avx512;
mod product;
mod small;
#[cfg(test)]
mod tests;
mod tile;

pub(super) use codes::Codes;
pub(super) use kernel::Kernel;
pub(super) use layout::{Blocks, UNIT};
pub(super) use pack::Factor;
pub(super) use product::{PackedWeight, Product, Right, pack_right};
pub(super) use small::Part;
