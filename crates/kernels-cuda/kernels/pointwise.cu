// Operations element by element, and those of rows that need nothing but their own values.

DEVICE float gelu_inner(float x) { return 0.797884560802865f * (x + 0.044715f * x * x * x); }
// In bfloat16 nobody sees the difference between the two.
DEVICE float tanh_of(float x, int fast) { return fast ? tanh_fast(x) : tanhf(x); }
DEVICE float gelu(float x, int fast) { return 0.5f * x * (1.f + tanh_of(gelu_inner(x), fast)); }
DEVICE float gelu_slope(float x, int fast) {
  float t = tanh_of(gelu_inner(x), fast), inner = 0.797884560802865f * (1.f + 3.f * 0.044715f * x * x);
  return 0.5f * (1.f + t) + 0.5f * x * (1.f - t * t) * inner;
}

// Numbers of operations, as the host has them.
enum { COPY, FILL, ADD, AVERAGE, GELU, GELU_BACKWARD, SCALE };

template <int V> DEVICE void pointwise_at(u64 i, int op, void* out, int ob, const void* a, int ab, const void* b, int bb, float s) {
  float x[V], y[V], z[V];
  if (op != FILL) load_values<V>(x, a, ab, i);
  if (op == ADD || op == AVERAGE || op == GELU_BACKWARD) load_values<V>(y, b, bb, i);
  UNROLL for (int k = 0; k < V; k++) {
    if (op == COPY) z[k] = x[k];
    else if (op == FILL) z[k] = s;
    else if (op == ADD) z[k] = x[k] + y[k];
    else if (op == AVERAGE) z[k] = s * x[k] + (1.f - s) * y[k];
    else if (op == GELU) z[k] = gelu(x[k], ob);
    else if (op == SCALE) z[k] = s * x[k];
    else z[k] = x[k] * gelu_slope(y[k], ob);
  }
  store_values<V>(out, ob, i, z);
}

KERNEL(256) pointwise(int op, void* out, int ob, const void* a, int ab, const void* b, int bb, float s, u64 n) {
  u64 i = ((u64)blockIdx.x * 256 + threadIdx.x) * 4;
  if (i + 4 <= n) return pointwise_at<4>(i, op, out, ob, a, ab, b, bb, s);
  for (; i < n; i++) pointwise_at<1>(i, op, out, ob, a, ab, b, bb, s);
}

// What follows a product, as the host has it: `x += bias`; then `out = gelu(x)`; or `out = residual + x + bias`.
enum { BIAS, BIAS_GELU, BIAS_ADD };

template <int V> DEVICE void after_product_at(u64 i, int c, int op, void* x, int xb, const float* bias, void* out, int ob, const void* residual, int rb) {
  float v[V], r[V], b[V];
  load_values<V>(v, x, xb, i);
  UNROLL for (int k = 0; k < V; k++) b[k] = 0.f;
  if (bias) load_values<V>(b, bias, 0, c);
  UNROLL for (int k = 0; k < V; k++) v[k] += b[k];
  if (op != BIAS_ADD) {
    if (bias) store_values<V>(x, xb, i, v);
    if (op == BIAS) return;
    // Of what was stored, so that fused and apart are the same.
    UNROLL for (int k = 0; k < V; k++) v[k] = gelu(xb ? of_bf16(to_bf16(v[k])) : v[k], ob);
  } else {
    load_values<V>(r, residual, rb, i);
    UNROLL for (int k = 0; k < V; k++) v[k] = r[k] + (xb ? of_bf16(to_bf16(v[k])) : v[k]);
  }
  store_values<V>(out, ob, i, v);
}

// A row a block, 1,024 columns each.
KERNEL(256) after_product(int op, void* x, int xb, const float* bias, void* out, int ob, const void* residual, int rb, int width) {
  u64 row = (u64)blockIdx.x * width;
  if (width % 4 == 0) {
    int c = ((int)blockIdx.y * 256 + (int)threadIdx.x) * 4;
    if (c < width) after_product_at<4>(row + c, c, op, x, xb, bias, out, ob, residual, rb);
  } else {
    for (int c = (int)blockIdx.y * 1024 + (int)threadIdx.x; c < width && c < ((int)blockIdx.y + 1) * 1024; c += 256)
      after_product_at<1>(row + c, c, op, x, xb, bias, out, ob, residual, rb);
  }
}

// Rows of `width` values times factors, plus a bias where there is one.
KERNEL(256) scale_columns(void* x, int xb, const void* factors, int fb, const void* bias, int bb, u64 n, u64 width) {
  u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  float y = load(x, xb, i) * load(factors, fb, i % width);
  store(x, xb, i, bias ? y + load(bias, bb, i % width) : y);
}

DEVICE float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }

KERNEL(256) swiglu_forward(void* out, int ob, const void* x, int xb, u64 n, int d_ff) {
  u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  u64 gate_at = i / d_ff * 2 * d_ff + i % d_ff;
  float gate = load(x, xb, gate_at), up = load(x, xb, gate_at + d_ff);
  store(out, ob, i, gate * sigmoid(gate) * up);
}

KERNEL(256) swiglu_backward(void* dx, int dxb, const void* dout, int db, const void* x, int xb, u64 n, int d_ff) {
  u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  u64 gate_at = i / d_ff * 2 * d_ff + i % d_ff;
  float gate = load(x, xb, gate_at), up = load(x, xb, gate_at + d_ff), d = load(dout, db, i), s = sigmoid(gate);
  store(dx, dxb, gate_at, d * up * s * (1.f + gate * (1.f - s)));
  store(dx, dxb, gate_at + d_ff, d * gate * s);
}

// `first` is the number of the first value's random number.
KERNEL(256) dropout(void* x, int xb, u64 n, u64 first, float p, u64 seed, u64 stream) {
  u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  store(x, xb, i, load(x, xb, i) * keep(random_key(seed, stream), first + i, p));
}

// A thread for each pair; `direction` 1 turns forward, -1 back.
KERNEL(256) rope(void* qkv, int qb, const float* table, const u32* positions, u64 n, int heads, int half, int row_width, float direction) {
  u64 i = (u64)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  int pair = i % half, head = i / half % heads;
  u64 row = i / half / heads, at = row * row_width + (u64)head * 2 * half + pair;
  const float* angles = table + (u64)positions[row] * 2 * half;
  float a = load(qkv, qb, at), b = load(qkv, qb, at + half), cosine = angles[pair], sine = direction * angles[pair + half];
  store(qkv, qb, at, a * cosine - b * sine);
  store(qkv, qb, at + half, b * cosine + a * sine);
}
