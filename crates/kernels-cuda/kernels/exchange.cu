// Sums over the GPUs of several processes.

// Of parts of `len` values, one after another, the second of each pair of `additions` is added to the first, pair by pair.
// A thread goes through four values of all parts, which `len` is a multiple of.
KERNEL(256) add_parts(float* parts, u64 len, const u32* additions, int count) {
  u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
  if (i >= len) return;
  for (int k = 0; k < count; k++) {
    float sums[4], values[4];
    float* into = parts + additions[2 * k] * len;
    load_values(sums, into, 0, i);
    load_values(values, parts + additions[2 * k + 1] * len, 0, i);
    UNROLL for (int v = 0; v < 4; v++) sums[v] = exact_sum(sums[v], values[v]);
    store_values(into, 0, i, sums);
  }
}
