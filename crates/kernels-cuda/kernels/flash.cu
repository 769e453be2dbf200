// Attention in tiles on tensor cores (Dao 2023), for bfloat16 and heads of up to 64 or 128 values: scores stay in
// registers. Gradients of keys and values are summed over queries by one kernel, those of queries over keys by
// another, so that nothing is added by two blocks and runs repeat.
//
// A block of 4 warps owns a tile of 64 · R queries, or keys, of one head, a warp R times 16 of them; it walks the tiles of
// the others, of which the next is copied while one is worked on.

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

// s += a · bᵀ: R times 16 rows of `a`, N rows of `b`, both of D values.
template <int D, int N, int R> DEVICE void product_rows(float (&s)[R][N / 8][4], const u16* a, const u16* b) {
  int lane = threadIdx.x & 31;
  UNROLL for (int k = 0; k < D; k += 16) {
    u32 x[R][4];
    UNROLL for (int r = 0; r < R; r++) ldmatrix4(x[r], &a[(r * 16 + (lane & 15)) * ROW + k + (lane >> 4) * 8]);
    UNROLL for (int j = 0; j < N / 16; j++) {
      u32 y[4];
      ldmatrix4(y, &b[(j * 16 + (lane & 7) + (lane >> 4) * 8) * ROW + k + ((lane >> 3) & 1) * 8]);
      UNROLL for (int r = 0; r < R; r++) {
        mma_16816(s[r][2 * j], x[r], y[0], y[1]);
        mma_16816(s[r][2 * j + 1], x[r], y[2], y[3]);
      }
    }
  }
}

// o += p · b: R times 16 rows of N values in registers, N rows of `b` of D values.
template <int D, int N, int R> DEVICE void product_columns(float (&o)[R][D / 8][4], const float (&p)[R][N / 8][4], const u16* b) {
  int lane = threadIdx.x & 31;
  UNROLL for (int k = 0; k < N / 16; k++) {
    u32 x[R][4];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int i = 0; i < 4; i++)
      x[r][i] = pack_bf16(p[r][2 * k + i / 2][i % 2 * 2], p[r][2 * k + i / 2][i % 2 * 2 + 1]);
    UNROLL for (int j = 0; j < D / 16; j++) {
      u32 y[4];
      ldmatrix4_trans(y, &b[(k * 16 + (lane & 15)) * ROW + j * 16 + (lane >> 4) * 8]);
      UNROLL for (int r = 0; r < R; r++) {
        mma_16816(o[r][2 * j], x[r], y[0], y[1]);
        mma_16816(o[r][2 * j + 1], x[r], y[2], y[3]);
      }
    }
  }
}

template <int R, int N> DEVICE void clear(float (&x)[R][N][4]) {
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int j = 0; j < N; j++) UNROLL for (int k = 0; k < 4; k++) x[r][j][k] = 0.f;
}

// 16 rows of a warp, of which this thread has two, to rows `row` and `row + 8` where they exist.
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

template <int D, int R> DEVICE void flash_forward(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *qs = (u16*)memory, *ks = qs + 64 * R * ROW, *vs = ks + 2 * 64 * ROW;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y, len = tile.len, q0 = tile.first;
  u64 stride = qkv_width(h), key = random_key(drop.seed, drop.stream);
  const u16 *q = qkv + tile.start * stride + head * h.width, *k = qkv + tile.start * stride + q_width(h) + kv_head(h, head) * h.width;
  const u16* v = k + h.n_kv_head * h.width;
  float o[R][D / 8][4], top[R][2], sum[R][2], scale = h.scale * LOG2_E;
  clear(o);
  UNROLL for (int r = 0; r < R; r++) top[r][0] = top[r][1] = -INF, sum[r][0] = sum[r][1] = 0.f;
  // The warp's first query, and this thread's.
  int first = q0 + warp * 16 * R, row = first + lane / 4, buffer = 0;
  int begin = first_seen(h, q0) / 64 * 64, end = q0 + 64 * R < len ? q0 + 64 * R : len;
  load_tile<D>(qs, q, stride, q0, len, h.width, 64 * R);
  load_tile<D>(ks, k, stride, begin, len, h.width, 64);
  load_tile<D>(vs, v, stride, begin, len, h.width, 64);
  cp_async_commit();
  for (int k0 = begin; k0 < end; k0 += 64, buffer ^= 1) {
    if (k0 + 64 < end) {
      load_tile<D>(ks + (buffer ^ 1) * 64 * ROW, k, stride, k0 + 64, len, h.width, 64);
      load_tile<D>(vs + (buffer ^ 1) * 64 * ROW, v, stride, k0 + 64, len, h.width, 64);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    // A warp whose queries are all before these keys has nothing to do with them.
    if (k0 < first + 16 * R) {
      float s[R][8][4];
      clear(s);
      product_rows<D, 64, R>(s, qs + warp * 16 * R * ROW, ks + buffer * 64 * ROW);
      int all_seen = k0 + 63 <= first && (!h.window || k0 + h.window > first + 16 * R - 1);
      UNROLL for (int r = 0; r < R; r++) {
        UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = 0; e < 4; e++) {
          int column = k0 + j * 8 + lane % 4 * 2 + (e & 1);
          s[r][j][e] = all_seen || seen(h, row + r * 16 + (e >> 1) * 8, column) ? s[r][j][e] * scale : -INF;
        }
        UNROLL for (int half = 0; half < 2; half++) {
          float m = top[r][half];
          UNROLL for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(s[r][j][half * 2], s[r][j][half * 2 + 1]));
          m = fmaxf(m, shuffle_xor(m, 1));
          m = fmaxf(m, shuffle_xor(m, 2));
          // A row that has seen nothing yet.
          float base = m == -INF ? 0.f : m, shrink = exp2_fast(top[r][half] - base), more = 0.f;
          top[r][half] = m;
          UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = half * 2; e < half * 2 + 2; e++) more += s[r][j][e] = exp2_fast(s[r][j][e] - base);
          UNROLL for (int j = 0; j < D / 8; j++) UNROLL for (int e = half * 2; e < half * 2 + 2; e++) o[r][j][e] *= shrink;
          sum[r][half] = sum[r][half] * shrink + more;
        }
        if (drop.on) UNROLL for (int j = 0; j < 8; j++) UNROLL for (int e = 0; e < 4; e++) {
          int column = k0 + j * 8 + lane % 4 * 2 + (e & 1);
          s[r][j][e] *= keep(key, drop_index(h, drop, tile.start + row + r * 16 + (e >> 1) * 8, head) + column, drop.p);
        }
      }
      product_columns<D, 64, R>(o, s, vs + buffer * 64 * ROW);
    }
    __syncthreads();
  }
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int half = 0; half < 2; half++) {
      sum[r][half] += shuffle_xor(sum[r][half], 1);
      sum[r][half] += shuffle_xor(sum[r][half], 2);
      int at = row + r * 16 + half * 8;
      if (lane % 4 == 0 && at < len) lse[(u64)(tile.start + at) * h.n_head + head] = top[r][half] * LN_2 + logf(sum[r][half]);
    }
    store_rows<D>(out + (u64)tile.start * q_width(h) + head * h.width, q_width(h), o[r], 1.f / sum[r][0], 1.f / sum[r][1], row + r * 16, len, h.width);
  }
}

// Gradients of a tile of queries, over tiles of N keys.
template <int D, int R, int N>
DEVICE void flash_backward_queries(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *qs = (u16*)memory, *ds = qs + 64 * R * ROW, *ks = ds + 64 * R * ROW, *vs = ks + 2 * N * ROW;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, head = blockIdx.y, len = tile.len, q0 = tile.first;
  u64 stride = qkv_width(h), random = random_key(drop.seed, drop.stream);
  u64 q = tile.start * stride + head * h.width, k = tile.start * stride + q_width(h) + kv_head(h, head) * h.width, v = k + h.n_kv_head * h.width;
  float dq[R][D / 8][4], scale = h.scale * LOG2_E, of_row[R][2], mean[R][2];
  clear(dq);
  int first = q0 + warp * 16 * R, row = first + lane / 4, buffer = 0;
  UNROLL for (int r = 0; r < R; r++) UNROLL for (int half = 0; half < 2; half++) {
    int i = row + r * 16 + half * 8;
    u64 at = (u64)(tile.start + i) * h.n_head + head;
    of_row[r][half] = i < len ? lse[at] * LOG2_E : INF;
    mean[r][half] = i < len ? delta[at] : 0.f;
  }
  int begin = first_seen(h, q0) / N * N, end = q0 + 64 * R < len ? q0 + 64 * R : len;
  load_tile<D>(qs, qkv + q, stride, q0, len, h.width, 64 * R);
  load_tile<D>(ds, dout + (u64)tile.start * q_width(h) + head * h.width, q_width(h), q0, len, h.width, 64 * R);
  load_tile<D>(ks, qkv + k, stride, begin, len, h.width, N);
  load_tile<D>(vs, qkv + v, stride, begin, len, h.width, N);
  cp_async_commit();
  for (int k0 = begin; k0 < end; k0 += N, buffer ^= 1) {
    if (k0 + N < end) {
      load_tile<D>(ks + (buffer ^ 1) * N * ROW, qkv + k, stride, k0 + N, len, h.width, N);
      load_tile<D>(vs + (buffer ^ 1) * N * ROW, qkv + v, stride, k0 + N, len, h.width, N);
    }
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    if (k0 < first + 16 * R) {
      float s[R][N / 8][4], dp[R][N / 8][4];
      clear(s);
      clear(dp);
      product_rows<D, N, R>(s, qs + warp * 16 * R * ROW, ks + buffer * N * ROW);
      product_rows<D, N, R>(dp, ds + warp * 16 * R * ROW, vs + buffer * N * ROW);
      int all_seen = k0 + N - 1 <= first && (!h.window || k0 + h.window > first + 16 * R - 1);
      UNROLL for (int r = 0; r < R; r++) UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
        int column = k0 + j * 8 + lane % 4 * 2 + (e & 1), i = row + r * 16 + (e >> 1) * 8;
        float p = all_seen || seen(h, i, column) ? exp2_fast(s[r][j][e] * scale - of_row[r][e >> 1]) : 0.f;
        float kept = drop.on ? keep(random, drop_index(h, drop, tile.start + i, head) + column, drop.p) : 1.f;
        dp[r][j][e] = p * (kept * dp[r][j][e] - mean[r][e >> 1]);
      }
      product_columns<D, N, R>(dq, dp, ks + buffer * N * ROW);
    }
    __syncthreads();
  }
  UNROLL for (int r = 0; r < R; r++) store_rows<D>(dqkv + q, stride, dq[r], h.scale, h.scale, row + r * 16, len, h.width);
}

// Gradients of a tile of keys and values, over tiles of N queries of all heads that read them. Scores are transposed.
template <int D, int R, int N>
DEVICE void flash_backward_keys(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  DYNAMIC_SHARED(memory);
  u16 *ks = (u16*)memory, *vs = ks + 64 * R * ROW, *qs = vs + 64 * R * ROW, *ds = qs + 2 * N * ROW;
  float *of_rows = (float*)(ds + 2 * N * ROW), *means = of_rows + 2 * N;
  Tile tile = tiles[blockIdx.x];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, kv = blockIdx.y, len = tile.len, k0 = tile.first, shared = h.n_head / h.n_kv_head;
  u64 stride = qkv_width(h), random = random_key(drop.seed, drop.stream);
  u64 k = tile.start * stride + q_width(h) + kv * h.width, v = k + h.n_kv_head * h.width;
  float dk[R][D / 8][4], dv[R][D / 8][4], scale = h.scale * LOG2_E;
  clear(dk);
  clear(dv);
  int first = k0 + warp * 16 * R, row = first + lane / 4, last = k0 + 64 * R - 1;
  int end = h.window && last + h.window < len ? last + h.window : len, steps = (end - k0 + N - 1) / N, all = steps * shared;
  // Tiles of one head, then of the next.
  auto load = [&](int step) {
    int head = kv * shared + step / steps, q0 = k0 + step % steps * N, buffer = step & 1;
    load_tile<D>(qs + buffer * N * ROW, qkv + tile.start * stride + head * h.width, stride, q0, len, h.width, N);
    load_tile<D>(ds + buffer * N * ROW, dout + (u64)tile.start * q_width(h) + head * h.width, q_width(h), q0, len, h.width, N);
    for (int i = threadIdx.x; i < N; i += 128) {
      u64 at = (u64)(tile.start + q0 + i) * h.n_head + head;
      of_rows[buffer * N + i] = q0 + i < len ? lse[at] * LOG2_E : INF;
      means[buffer * N + i] = q0 + i < len ? delta[at] : 0.f;
    }
  };
  load_tile<D>(ks, qkv + k, stride, k0, len, h.width, 64 * R);
  load_tile<D>(vs, qkv + v, stride, k0, len, h.width, 64 * R);
  load(0);
  cp_async_commit();
  for (int step = 0; step < all; step++) {
    if (step + 1 < all) load(step + 1);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    int head = kv * shared + step / steps, q0 = k0 + step % steps * N, buffer = step & 1;
    // Queries that are all before the warp's keys see none of them.
    if (q0 + N > first) {
      float s[R][N / 8][4], dp[R][N / 8][4];
      clear(s);
      clear(dp);
      product_rows<D, N, R>(s, ks + warp * 16 * R * ROW, qs + buffer * N * ROW);
      product_rows<D, N, R>(dp, vs + warp * 16 * R * ROW, ds + buffer * N * ROW);
      int all_seen = q0 >= first + 16 * R - 1 && (!h.window || first + h.window > q0 + N - 1);
      UNROLL for (int r = 0; r < R; r++) UNROLL for (int j = 0; j < N / 8; j++) UNROLL for (int e = 0; e < 4; e++) {
        int i = j * 8 + lane % 4 * 2 + (e & 1), query = q0 + i, column = row + r * 16 + (e >> 1) * 8;
        float p = all_seen || seen(h, query, column) ? exp2_fast(s[r][j][e] * scale - of_rows[buffer * N + i]) : 0.f;
        float kept = drop.on ? keep(random, drop_index(h, drop, tile.start + query, head) + column, drop.p) : 1.f;
        s[r][j][e] = p * kept;
        dp[r][j][e] = p * (kept * dp[r][j][e] - means[buffer * N + i]);
      }
      product_columns<D, N, R>(dv, s, ds + buffer * N * ROW);
      product_columns<D, N, R>(dk, dp, qs + buffer * N * ROW);
    }
    __syncthreads();
  }
  UNROLL for (int r = 0; r < R; r++) {
    store_rows<D>(dqkv + k, stride, dk[r], h.scale, h.scale, row + r * 16, len, h.width);
    store_rows<D>(dqkv + v, stride, dv[r], 1.f, 1.f, row + r * 16, len, h.width);
  }
}

KERNEL(128) flash_forward_64(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) { flash_forward<64, 2>(out, lse, qkv, tiles, h, drop); }
KERNEL(128) flash_forward_128(u16* out, float* lse, const u16* qkv, const Tile* tiles, Heads h, Drop drop) { flash_forward<128, 1>(out, lse, qkv, tiles, h, drop); }
KERNEL(128) flash_backward_queries_64(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_queries<64, 2, 32>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_queries_128(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_queries<128, 1, 32>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_keys_64(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_keys<64, 2, 32>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
KERNEL(128) flash_backward_keys_128(u16* dqkv, const u16* dout, const float* lse, const float* delta, const u16* qkv, const Tile* tiles, Heads h, Drop drop) {
  flash_backward_keys<128, 1, 32>(dqkv, dout, lse, delta, qkv, tiles, h, drop);
}
