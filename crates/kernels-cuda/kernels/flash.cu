// Attention in tiles on tensor cores (Dao 2023), for bfloat16 and heads of up to 64 or 128 values: scores stay in
// registers. Gradients of keys and values are summed over queries by one kernel, those of queries over keys by
// another, so that nothing is added by two blocks and runs repeat.

// A row of a tile in shared memory: padded, so that the eight rows of a small matrix are in different banks.
#define ROW (D + 8)

// Rows `row ..` of a tile, as far as there are any; zeros beyond, and beyond a head's width.
template <int D>
DEVICE void load_tile(u16* to, const u16* from, u64 stride, int row, int len, int width, int rows) {
  for (int c = threadIdx.x; c < rows * (D / 8); c += 128) {
    int r = c / (D / 8), q = c % (D / 8) * 8;
    u16* at = &to[r * ROW + q];
    if (row + r < len && q < width) cp_async16(at, from + (row + r) * stride + q);
    else *(Floats4*)at = {{0.f, 0.f, 0.f, 0.f}};
  }
}

// s += a · bᵀ: 16 rows of `a` from `row` on, N of `b`, both rows of D values.
template <int D, int N> DEVICE void product_rows(float (&s)[N / 8][4], const u16* a, const u16* b) {
  int lane = threadIdx.x & 31;
  UNROLL for (int k = 0; k < D; k += 16) {
    u32 x[4];
    ldmatrix4(x, &a[(lane & 15) * ROW + k + (lane >> 4) * 8]);
    UNROLL for (int j = 0; j < N / 16; j++) {
      u32 y[4];
      ldmatrix4(y, &b[(j * 16 + (lane & 7) + (lane >> 4) * 8) * ROW + k + ((lane >> 3) & 1) * 8]);
      mma_16816(s[2 * j], x, y[0], y[1]);
      mma_16816(s[2 * j + 1], x, y[2], y[3]);
    }
  }
}

// o += p · b: 16 rows of N values in registers, N rows of `b` of D values.
template <int D, int N> DEVICE void product_columns(float (&o)[D / 8][4], const float (&p)[N / 8][4], const u16* b) {
  int lane = threadIdx.x & 31;
  UNROLL for (int k = 0; k < N / 16; k++) {
    u32 x[4] = {pack_bf16(p[2 * k][0], p[2 * k][1]), pack_bf16(p[2 * k][2], p[2 * k][3]), pack_bf16(p[2 * k + 1][0], p[2 * k + 1][1]),
                pack_bf16(p[2 * k + 1][2], p[2 * k + 1][3])};
    UNROLL for (int j = 0; j < D / 16; j++) {
      u32 y[4];
      ldmatrix4_trans(y, &b[(k * 16 + (lane & 15)) * ROW + j * 16 + (lane >> 4) * 8]);
      mma_16816(o[2 * j], x, y[0], y[1]);
      mma_16816(o[2 * j + 1], x, y[2], y[3]);
    }
  }
}

template <int N> DEVICE void clear(float (&x)[N][4]) {
  UNROLL for (int j = 0; j < N; j++) UNROLL for (int k = 0; k < 4; k++) x[j][k] = 0.f;
}

// The 16 rows of a warp, of which this thread has two, to rows `row` and `row + 8` where they exist.
template <int D> DEVICE void store_rows(u16* out, u64 stride, const float (&o)[D / 8][4], float low, float high, int row, int len, int width) {
  int c = threadIdx.x % 4 * 2;
  UNROLL for (int half = 0; half < 2; half++) {
    int r = row + half * 8;
    float scale = half ? high : low;
    if (r < len) UNROLL for (int j = 0; j < D / 8; j++)
      if (j * 8 + c < width) *(u32*)&out[r * stride + j * 8 + c] = pack_bf16(o[j][half * 2] * scale, o[j][half * 2 + 1] * scale);
  }
}

DEVICE int seen(const Heads& h, int query, int key) { return key <= query && (!h.window || key + h.window > query); }

template <int D> DEVICE void flash_forward(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *qs = (u16*)memory, *ks = qs + 64 * ROW, *vs = ks + 64 * ROW;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y, len = tile.len, q0 = tile.first;
  u64 stride = qkv_width(h), key = random_key(drop.seed, drop.stream);
  const u16 *q = qkv + tile.start * stride + head * h.width, *k = qkv + tile.start * stride + q_width(h) + kv_head(h, head) * h.width;
  const u16* v = k + h.n_kv_head * h.width;
  float o[D / 8][4], top[2] = {-INF, -INF}, sum[2] = {0.f, 0.f}, scale = h.scale * LOG2_E;
  clear(o);
  int k0 = first_seen(h, q0) / 64 * 64, row = q0 + warp * 16 + lane / 4;
  load_tile<D>(qs, q, stride, q0, len, h.width, 64);
  load_tile<D>(ks, k, stride, k0, len, h.width, 64);
  cp_async_commit();
  for (; k0 <= q0; k0 += 64) {
    load_tile<D>(vs, v, stride, k0, len, h.width, 64);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    float s[8][4];
    clear(s);
    product_rows<D, 64>(s, qs + warp * 16 * ROW, ks);
    __syncthreads();
    if (k0 < q0) load_tile<D>(ks, k, stride, k0 + 64, len, h.width, 64);
    cp_async_commit();
    int all_seen = k0 + 63 <= q0 && (!h.window || k0 + h.window > q0 + 63);
    UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = 0; e < 4; e++) {
      int column = k0 + j * 8 + lane % 4 * 2 + (e & 1);
      s[j][e] = all_seen || seen(h, row + (e >> 1) * 8, column) ? s[j][e] * scale : -INF;
    }
    UNROLL for (int half = 0; half < 2; half++) {
      float m = top[half];
      UNROLL for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(s[j][half * 2], s[j][half * 2 + 1]));
      m = fmaxf(m, shuffle_xor(m, 1));
      m = fmaxf(m, shuffle_xor(m, 2));
      // A row that has seen nothing yet.
      float base = m == -INF ? 0.f : m, shrink = exp2_fast(top[half] - base), more = 0.f;
      top[half] = m;
      UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = half * 2; e < half * 2 + 2; e++) more += s[j][e] = exp2_fast(s[j][e] - base);
      UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = half * 2; e < half * 2 + 2; e++) o[j][e] *= shrink;
      sum[half] = sum[half] * shrink + more;
    }
    if (drop.on) UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = 0; e < 4; e++) {
      int column = k0 + j * 8 + lane % 4 * 2 + (e & 1);
      s[j][e] *= keep(key, drop_index(h, drop, tile.start + row + (e >> 1) * 8, head) + column, drop.p);
    }
    cp_async_wait<1>();
    __syncthreads();
    product_columns<D, 64>(o, s, vs);
    __syncthreads();
  }
  UNROLL for (int half = 0; half < 2; half++) {
    sum[half] += shuffle_xor(sum[half], 1);
    sum[half] += shuffle_xor(sum[half], 2);
    int r = row + half * 8;
    if (lane % 4 == 0 && r < len) lse[(u64)(tile.start + r) * h.n_head + head] = top[half] * LN_2 + logf(sum[half]);
  }
  store_rows<D>(out + (u64)tile.start * q_width(h) + head * h.width, q_width(h), o, 1.f / sum[0], 1.f / sum[1], row, len, h.width);
}

// Gradients of a tile of queries.
template <int D>
DEVICE void flash_backward_queries(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *qs = (u16*)memory, *ds = qs + 64 * ROW, *ks = ds + 64 * ROW, *vs = ks + 64 * ROW;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y, len = tile.len, q0 = tile.first;
  u64 stride = qkv_width(h), random = random_key(drop.seed, drop.stream);
  u64 q = tile.start * stride + head * h.width, k = tile.start * stride + q_width(h) + kv_head(h, head) * h.width, v = k + h.n_kv_head * h.width;
  float dq[D / 8][4], scale = h.scale * LOG2_E, of_row[2], mean[2];
  clear(dq);
  int row = q0 + warp * 16 + lane / 4;
  UNROLL for (int half = 0; half < 2; half++) {
    u64 at = (u64)(tile.start + row + half * 8) * h.n_head + head;
    of_row[half] = row + half * 8 < len ? lse[at] * LOG2_E : INF;
    mean[half] = row + half * 8 < len ? delta[at] : 0.f;
  }
  load_tile<D>(qs, qkv + q, stride, q0, len, h.width, 64);
  load_tile<D>(ds, dout + (u64)tile.start * q_width(h) + head * h.width, q_width(h), q0, len, h.width, 64);
  for (int k0 = first_seen(h, q0) / 64 * 64; k0 <= q0; k0 += 64) {
    load_tile<D>(ks, qkv + k, stride, k0, len, h.width, 64);
    load_tile<D>(vs, qkv + v, stride, k0, len, h.width, 64);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    float s[8][4], dp[8][4];
    clear(s);
    clear(dp);
    product_rows<D, 64>(s, qs + warp * 16 * ROW, ks);
    product_rows<D, 64>(dp, ds + warp * 16 * ROW, vs);
    UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = 0; e < 4; e++) {
      int column = k0 + j * 8 + lane % 4 * 2 + (e & 1), r = row + (e >> 1) * 8;
      float p = seen(h, r, column) ? exp2_fast(s[j][e] * scale - of_row[e >> 1]) : 0.f;
      float kept = drop.on ? keep(random, drop_index(h, drop, tile.start + r, head) + column, drop.p) : 1.f;
      dp[j][e] = p * (kept * dp[j][e] - mean[e >> 1]);
    }
    product_columns<D, 64>(dq, dp, ks);
    __syncthreads();
  }
  store_rows<D>(dqkv + q, stride, dq, h.scale, h.scale, row, len, h.width);
}

// Gradients of a tile of keys and values, over tiles of Q queries. Scores are transposed: a warp has 16 keys.
template <int D, int Q>
DEVICE void flash_backward_keys(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *ks = (u16*)memory, *vs = ks + 64 * ROW, *qs = vs + 64 * ROW, *ds = qs + Q * ROW;
  float *of_rows = (float*)(ds + Q * ROW), *means = of_rows + Q;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, kv = blockIdx.y, len = tile.len, k0 = tile.first, shared = h.n_head / h.n_kv_head;
  u64 stride = qkv_width(h), random = random_key(drop.seed, drop.stream);
  u64 k = tile.start * stride + q_width(h) + kv * h.width, v = k + h.n_kv_head * h.width;
  float dk[D / 8][4], dv[D / 8][4], scale = h.scale * LOG2_E;
  clear(dk);
  clear(dv);
  int row = k0 + warp * 16 + lane / 4, end = h.window && k0 + 63 + h.window < len ? k0 + 63 + h.window : len;
  load_tile<D>(ks, qkv + k, stride, k0, len, h.width, 64);
  load_tile<D>(vs, qkv + v, stride, k0, len, h.width, 64);
  for (int head = kv * shared; head < (kv + 1) * shared; head++)
    for (int q0 = k0; q0 < end; q0 += Q) {
      load_tile<D>(qs, qkv + tile.start * stride + head * h.width, stride, q0, len, h.width, Q);
      load_tile<D>(ds, dout + (u64)tile.start * q_width(h) + head * h.width, q_width(h), q0, len, h.width, Q);
      cp_async_commit();
      for (int i = threadIdx.x; i < Q; i += 128) {
        u64 at = (u64)(tile.start + q0 + i) * h.n_head + head;
        of_rows[i] = q0 + i < len ? lse[at] * LOG2_E : INF;
        means[i] = q0 + i < len ? delta[at] : 0.f;
      }
      cp_async_wait<0>();
      __syncthreads();
      float s[Q / 8][4], dp[Q / 8][4];
      clear(s);
      clear(dp);
      product_rows<D, Q>(s, ks + warp * 16 * ROW, qs);
      product_rows<D, Q>(dp, vs + warp * 16 * ROW, ds);
      UNROLL for (int j = 0; j < Q / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
        int i = j * 8 + lane % 4 * 2 + (e & 1), query = q0 + i, column = row + (e >> 1) * 8;
        float p = seen(h, query, column) ? exp2_fast(s[j][e] * scale - of_rows[i]) : 0.f;
        float kept = drop.on ? keep(random, drop_index(h, drop, tile.start + query, head) + column, drop.p) : 1.f;
        s[j][e] = p * kept;
        dp[j][e] = p * (kept * dp[j][e] - means[i]);
      }
      product_columns<D, Q>(dv, s, ds);
      product_columns<D, Q>(dk, dp, qs);
      __syncthreads();
    }
  store_rows<D>(dqkv + k, stride, dk, h.scale, h.scale, row, len, h.width);
  store_rows<D>(dqkv + v, stride, dv, 1.f, 1.f, row, len, h.width);
}

KERNEL(128) flash_forward_64(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) { flash_forward<64>(out, lse, qkv, tiles, h, drop); }
KERNEL(128) flash_forward_128(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) { flash_forward<128>(out, lse, qkv, tiles, h, drop); }
KERNEL(128) flash_backward_queries_64(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_queries<64>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_queries_128(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_queries<128>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_keys_64(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_keys<64, 64>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_keys_128(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_keys<128, 32>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
