// Normalisation of rows and of the heads within them: a warp a row. Sums of columns, of which gradients of gains
// and biases are made.

// Layer normalisation with `layer`, else of the root mean square. With `b` of the sum of both, which is kept.
template <int V>
DEVICE void norm_row(u64 row, int layer, void* out, int ob, float* stats, void* sum, int sb, const void* a, int ab, const void* b, int bb,
                     const float* weight, const float* bias, float eps, int width) {
  int lane = threadIdx.x & 31;
  u64 at = row * width;
  float v[V], w[V], total = 0.f;
  for (int c = lane * V; c < width; c += 32 * V) {
    load_values<V>(v, a, ab, at + c);
    if (b) {
      load_values<V>(w, b, bb, at + c);
      UNROLL for (int k = 0; k < V; k++) v[k] += w[k];
      store_values<V>(sum, sb, at + c, v);
    }
    UNROLL for (int k = 0; k < V; k++) total += layer ? v[k] : v[k] * v[k];
  }
  // A lane reads what it wrote itself.
  const void* x = b ? sum : a;
  int xb = b ? sb : ab;
  float mean = 0.f, square = warp_sum(total) / width;
  if (layer) {
    mean = square;
    float squares = 0.f;
    for (int c = lane * V; c < width; c += 32 * V) {
      load_values<V>(v, x, xb, at + c);
      UNROLL for (int k = 0; k < V; k++) squares += (v[k] - mean) * (v[k] - mean);
    }
    square = warp_sum(squares) / width;
  }
  // NaN where squares overflow: a row of zeros would hide it.
  float rstd = 1.f / sqrtf(square + eps) + 0.f * square;
  if (lane == 0 && layer) stats[2 * row] = mean, stats[2 * row + 1] = rstd;
  if (lane == 0 && !layer) stats[row] = rstd;
  for (int c = lane * V; c < width; c += 32 * V) {
    load_values<V>(v, x, xb, at + c);
    load_values<V>(w, weight, 0, c);
    UNROLL for (int k = 0; k < V; k++) v[k] = (v[k] - mean) * rstd * w[k];
    if (bias) {
      load_values<V>(w, bias, 0, c);
      UNROLL for (int k = 0; k < V; k++) v[k] += w[k];
    }
    store_values<V>(out, ob, at + c, v);
  }
}

KERNEL(128) norm_forward(int layer, void* out, int ob, float* stats, void* sum, int sb, const void* a, int ab, const void* b, int bb,
                         const float* weight, const float* bias, float eps, int rows, int width) {
  u64 row = (u64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (row >= (u64)rows) return;
  if (width % 4 == 0) norm_row<4>(row, layer, out, ob, stats, sum, sb, a, ab, b, bb, weight, bias, eps, width);
  else norm_row<1>(row, layer, out, ob, stats, sum, sb, a, ab, b, bb, weight, bias, eps, width);
}

// `dx (+)= rstd · (g - mean(g) - x̂ · mean(g·x̂))`, without `mean(g)` for the root mean square.
template <int V>
DEVICE void norm_row_backward(int layer, int add, void* dx, int dxb, const void* dout, int db, const void* x, int xb, float mean, float rstd,
                              const float* weight, u64 at, int width) {
  int lane = threadIdx.x & 31;
  float d[V], v[V], w[V], sum_g = 0.f, sum_gx = 0.f;
  for (int c = lane * V; c < width; c += 32 * V) {
    load_values<V>(d, dout, db, at + c);
    load_values<V>(v, x, xb, at + c);
    load_values<V>(w, weight, 0, c);
    UNROLL for (int k = 0; k < V; k++) {
      float g = d[k] * w[k];
      sum_g += g;
      sum_gx += g * (v[k] - mean) * rstd;
    }
  }
  float mean_g = layer ? warp_sum(sum_g) / width : 0.f, mean_gx = warp_sum(sum_gx) / width;
  for (int c = lane * V; c < width; c += 32 * V) {
    load_values<V>(d, dout, db, at + c);
    load_values<V>(v, x, xb, at + c);
    load_values<V>(w, weight, 0, c);
    UNROLL for (int k = 0; k < V; k++) v[k] = rstd * (d[k] * w[k] - mean_g - (v[k] - mean) * rstd * mean_gx);
    if (add) {
      load_values<V>(w, dx, dxb, at + c);
      UNROLL for (int k = 0; k < V; k++) v[k] += w[k];
    }
    store_values<V>(dx, dxb, at + c, v);
  }
}

KERNEL(128) norm_backward(int layer, void* dx, int dxb, const void* dout, int db, const void* x, int xb, const float* stats,
                          const float* weight, int rows, int width) {
  u64 row = (u64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (row >= (u64)rows) return;
  float mean = layer ? stats[2 * row] : 0.f, rstd = layer ? stats[2 * row + 1] : stats[row];
  if (width % 4 == 0) norm_row_backward<4>(layer, 1, dx, dxb, dout, db, x, xb, mean, rstd, weight, row * width, width);
  else norm_row_backward<1>(layer, 1, dx, dxb, dout, db, x, xb, mean, rstd, weight, row * width, width);
}

// Rows of which a block of 8 warps gives the gradients and a row of partial sums.
#define FUSED_ROWS 64

// The same for rows of up to C times 128 values, and partial sums of `dout · x̂` and of `dout` in one pass over them.
template <int C>
DEVICE void norm_rows_backward(int layer, void* dx, int dxb, float* weights, float* biases, const void* dout, int db, const void* x, int xb,
                               const float* stats, const float* weight, int rows, int width) {
  SHARED float shared[8][C * 128];
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  int begin = (int)blockIdx.x * FUSED_ROWS, end = begin + FUSED_ROWS < rows ? begin + FUSED_ROWS : rows;
  float sum_w[C][4], sum_b[C][4];
  UNROLL for (int c = 0; c < C; c++) UNROLL for (int k = 0; k < 4; k++) sum_w[c][k] = sum_b[c][k] = 0.f;
  for (int row = begin + warp; row < end; row += 8) {
    float mean = layer ? stats[2 * row] : 0.f, rstd = layer ? stats[2 * row + 1] : stats[row];
    float g[C][4], x_hat[C][4], d[4], v[4], w[4], sum_g = 0.f, sum_gx = 0.f;
    u64 at = (u64)row * width;
    UNROLL for (int c = 0; c < C; c++) {
      int column = (c * 32 + lane) * 4;
      UNROLL for (int k = 0; k < 4; k++) g[c][k] = x_hat[c][k] = 0.f;
      if (column >= width) continue;
      load_values<4>(d, dout, db, at + column);
      load_values<4>(v, x, xb, at + column);
      load_values<4>(w, weight, 0, column);
      UNROLL for (int k = 0; k < 4; k++) {
        x_hat[c][k] = (v[k] - mean) * rstd;
        g[c][k] = d[k] * w[k];
        sum_w[c][k] += d[k] * x_hat[c][k];
        sum_b[c][k] += d[k];
        sum_g += g[c][k];
        sum_gx += g[c][k] * x_hat[c][k];
      }
    }
    float mean_g = layer ? warp_sum(sum_g) / width : 0.f, mean_gx = warp_sum(sum_gx) / width;
    UNROLL for (int c = 0; c < C; c++) {
      int column = (c * 32 + lane) * 4;
      if (column >= width) continue;
      load_values<4>(v, dx, dxb, at + column);
      UNROLL for (int k = 0; k < 4; k++) v[k] += rstd * (g[c][k] - mean_g - x_hat[c][k] * mean_gx);
      store_values<4>(dx, dxb, at + column, v);
    }
  }
  UNROLL for (int pass = 0; pass < 2; pass++) {
    float* out = pass ? biases : weights;
    __syncthreads();
    UNROLL for (int c = 0; c < C; c++) UNROLL for (int k = 0; k < 4; k++) shared[warp][(c * 32 + lane) * 4 + k] = pass ? sum_b[c][k] : sum_w[c][k];
    __syncthreads();
    for (int c = threadIdx.x; c < width && out; c += 256) {
      float sum = 0.f;
      for (int i = 0; i < 8; i++) sum += shared[i][c];
      out[(u64)blockIdx.x * width + c] = sum;
    }
  }
}

KERNEL(256, 2) norm_rows_backward_512(int layer, void* dx, int dxb, float* weights, float* biases, const void* dout, int db, const void* x, int xb,
                                   const float* stats, const float* weight, int rows, int width) {
  norm_rows_backward<4>(layer, dx, dxb, weights, biases, dout, db, x, xb, stats, weight, rows, width);
}
KERNEL(256, 2) norm_rows_backward_768(int layer, void* dx, int dxb, float* weights, float* biases, const void* dout, int db, const void* x, int xb,
                                   const float* stats, const float* weight, int rows, int width) {
  norm_rows_backward<6>(layer, dx, dxb, weights, biases, dout, db, x, xb, stats, weight, rows, width);
}
KERNEL(256) norm_rows_backward_1024(int layer, void* dx, int dxb, float* weights, float* biases, const void* dout, int db, const void* x, int xb,
                                    const float* stats, const float* weight, int rows, int width) {
  norm_rows_backward<8>(layer, dx, dxb, weights, biases, dout, db, x, xb, stats, weight, rows, width);
}

// A warp a head: queries and keys become their norm, values are copied.
KERNEL(128) head_norm_forward(void* out, int ob, float* stats, const void* qkv, int qb, const float* q_weight, const float* k_weight, float eps,
                              int rows, int n_head, int n_kv_head, int width) {
  int heads = n_head + 2 * n_kv_head, normed = n_head + n_kv_head, lane = threadIdx.x & 31;
  u64 i = (u64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (i >= (u64)rows * heads) return;
  u64 row = i / heads;
  int head = i % heads;
  if (head >= normed) {
    for (int c = lane; c < width; c += 32) store(out, ob, i * width + c, load(qkv, qb, i * width + c));
    return;
  }
  const float* weight = head < n_head ? q_weight : k_weight;
  float squares = 0.f;
  for (int c = lane; c < width; c += 32) {
    float x = load(qkv, qb, i * width + c);
    squares += x * x;
  }
  float square = warp_sum(squares) / width, rstd = 1.f / sqrtf(square + eps) + 0.f * square;
  if (lane == 0) stats[row * normed + head] = rstd;
  for (int c = lane; c < width; c += 32) store(out, ob, i * width + c, load(qkv, qb, i * width + c) * rstd * weight[c]);
}

KERNEL(128) head_norm_backward(void* dqkv, int dqb, const void* dout, int db, const void* qkv, int qb, const float* stats,
                               const float* q_weight, const float* k_weight, int rows, int n_head, int n_kv_head, int width) {
  int heads = n_head + 2 * n_kv_head, normed = n_head + n_kv_head, lane = threadIdx.x & 31;
  u64 i = (u64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (i >= (u64)rows * heads) return;
  u64 row = i / heads;
  int head = i % heads;
  if (head >= normed) {
    for (int c = lane; c < width; c += 32) store(dqkv, dqb, i * width + c, load(dout, db, i * width + c));
    return;
  }
  const float* weight = head < n_head ? q_weight : k_weight;
  norm_row_backward<1>(0, 0, dqkv, dqb, dout, db, qkv, qb, 0.f, stats[row * normed + head], weight, i * width, width);
}

// Rows that a block sums, and rows of partial sums.
#define SUM_ROWS 256

// Partial sums over rows: of `dout · x̂` where there are `weights`, of `dout` where there are `biases`. A row
// is a head where there are several in a row of `row_width`: the `heads` from `offset` on.
template <int V>
DEVICE void column_sums_of(int c, float* weights, float* biases, const void* dout, int db, const void* x, int xb, const float* stats, int layer,
                           int stats_width, int stats_offset, int count, int width, int heads, int row_width, int offset) {
  SHARED float shared[2][8][32 * 4];
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  float d[V], v[V], sum_w[V], sum_b[V];
  UNROLL for (int k = 0; k < V; k++) sum_w[k] = sum_b[k] = 0.f;
  int begin = (int)blockIdx.y * SUM_ROWS, end = begin + SUM_ROWS < count ? begin + SUM_ROWS : count;
  if (c < width) for (int i = begin + warp; i < end; i += 8) {
    u64 row = i / heads;
    int head = i % heads;
    u64 at = row * row_width + offset + (u64)head * width + c;
    load_values<V>(d, dout, db, at);
    if (weights) {
      load_values<V>(v, x, xb, at);
      u64 s = row * stats_width + stats_offset + head;
      float mean = layer ? stats[row * 2] : 0.f, rstd = layer ? stats[row * 2 + 1] : stats[s];
      UNROLL for (int k = 0; k < V; k++) sum_w[k] += d[k] * ((v[k] - mean) * rstd);
    }
    UNROLL for (int k = 0; k < V; k++) sum_b[k] += d[k];
  }
  UNROLL for (int k = 0; k < V; k++) shared[0][warp][lane * V + k] = sum_w[k], shared[1][warp][lane * V + k] = sum_b[k];
  __syncthreads();
  int here = (int)blockIdx.x * 32 * V;
  for (int k = threadIdx.x; k < 32 * V && here + k < width; k += 256) {
    float w = 0.f, b = 0.f;
    for (int i = 0; i < 8; i++) w += shared[0][i][k], b += shared[1][i][k];
    u64 at = (u64)blockIdx.y * width + here + k;
    if (weights) weights[at] = w;
    if (biases) biases[at] = b;
  }
}

KERNEL(256) column_sums(float* weights, float* biases, const void* dout, int db, const void* x, int xb, const float* stats, int layer, int stats_width,
                        int stats_offset, int count, int width, int heads, int row_width, int offset) {
  int lane = threadIdx.x & 31;
  if (width % 4 == 0 && row_width % 4 == 0 && offset % 4 == 0)
    column_sums_of<4>(((int)blockIdx.x * 32 + lane) * 4, weights, biases, dout, db, x, xb, stats, layer, stats_width, stats_offset, count, width, heads, row_width, offset);
  else
    column_sums_of<1>((int)blockIdx.x * 32 + lane, weights, biases, dout, db, x, xb, stats, layer, stats_width, stats_offset, count, width, heads, row_width, offset);
}

// `out += Σ` of `count` rows of partial sums: 32 columns a block, 8 rows at a time.
KERNEL(256) add_sums(float* out, const float* sums, int count, int width) {
  SHARED float shared[8][32];
  int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, c = (int)blockIdx.x * 32 + lane;
  float sum = 0.f;
  if (c < width) for (int i = warp; i < count; i += 8) sum += sums[(u64)i * width + c];
  shared[warp][lane] = sum;
  __syncthreads();
  if (warp || c >= width) return;
  float total = 0.f;
  for (int i = 0; i < 8; i++) total += shared[i][lane];
  out[c] += total;
}
