// The product that any sizes and layouts can have, for those that cuBLASLt has no algorithm for.

// `out[i·n + j] = alpha · Σₖ a[i·ai + k·ak] · b[j·bj + k·bk] (+ out)`.
KERNEL(256) product(void* out, int ob, u64 ld, const void* a, int ab, u64 ai, u64 ak, const void* b, int bb, u64 bj, u64 bk, int m, int n, int k,
                    float alpha, int add) {
  SHARED float as[16][17];
  SHARED float bs[16][17];
  int r = threadIdx.x / 16, c = threadIdx.x % 16, i = (int)blockIdx.x * 16 + r, j = (int)blockIdx.y * 16 + c, other = (int)blockIdx.y * 16 + r;
  float sum = 0.f;
  for (int k0 = 0; k0 < k; k0 += 16) {
    as[r][c] = i < m && k0 + c < k ? load(a, ab, i * ai + (k0 + c) * ak) : 0.f;
    bs[r][c] = other < n && k0 + c < k ? load(b, bb, other * bj + (k0 + c) * bk) : 0.f;
    __syncthreads();
    for (int e = 0; e < 16; e++) sum += as[r][e] * bs[c][e];
    __syncthreads();
  }
  if (i >= m || j >= n) return;
  u64 at = i * ld + j;
  store(out, ob, at, alpha * sum + (add ? load(out, ob, at) : 0.f));
}
