// Attention for any width of heads and both kinds of values: a warp a query or a key, 32 of the others at a time. The
// quick one for bfloat16 is in flash.cu.

// A tile of queries: the first row of their sequence, its length, the tile's first position in it.
struct Tile { u32 start, len, first, unused; };
#define TILE 64
// Of which the key position is the column: 2²⁰ for each head.
#define DROPOUT_COLUMNS 1048576ull
// Values of a head that a lane keeps. What 32 others give is added up first, then to the sum: long sums lose less.
#define PER_LANE 8

struct Heads { int n_head, n_kv_head, width, window; float scale; };
struct Drop { u64 seed, stream, first_row; float p; int on; };

DEVICE int q_width(const Heads& h) { return h.n_head * h.width; }
DEVICE int qkv_width(const Heads& h) { return (h.n_head + 2 * h.n_kv_head) * h.width; }
DEVICE int kv_head(const Heads& h, int head) { return head / (h.n_head / h.n_kv_head); }
DEVICE int first_seen(const Heads& h, int position) { return h.window && position + 1 > h.window ? position + 1 - h.window : 0; }
// The random number of a query row and head, for key 0.
DEVICE u64 drop_index(const Heads& h, const Drop& d, u64 row, int head) { return ((d.first_row + row) * h.n_head + head) * DROPOUT_COLUMNS; }

DEVICE float dot(const void* a, u64 i, const void* b, u64 j, int bf, int width) {
  float sum = 0.f;
  for (int c = 0; c < width; c++) sum += load(a, bf, i + c) * load(b, bf, j + c);
  return sum;
}

// One query, at `q` of `queries`, over keys and values whose row `position` is at `k + position · stride`.
DEVICE float attend(float (&out)[PER_LANE], const void* queries, u64 q, const void* keys, u64 k, const void* values, u64 v, u64 stride, int bf,
                    int first, int position, const Heads& h, const Drop& drop, u64 index) {
  int lane = threadIdx.x & 31;
  float top = -INF, sum = 0.f;
  u64 key = random_key(drop.seed, drop.stream);
  UNROLL for (int e = 0; e < PER_LANE; e++) out[e] = 0.f;
  for (int j0 = first; j0 <= position; j0 += 32) {
    int j = j0 + lane, many = position - j0 + 1 < 32 ? position - j0 + 1 : 32;
    float score = j <= position ? h.scale * dot(queries, q, keys, k + j * stride, bf, h.width) : -INF;
    float new_top = fmaxf(top, warp_max(score)), shrink = expf(top - new_top), p = expf(score - new_top);
    sum = sum * shrink + warp_sum(p);
    top = new_top;
    if (drop.on && j <= position) p *= keep(key, index + j, drop.p);
    UNROLL for (int e = 0; e < PER_LANE; e++) out[e] *= shrink;
    for (int i = 0; i < many; i++) {
      float weight = shuffle(p, i);
      UNROLL for (int e = 0; e < PER_LANE; e++) {
        int c = e * 32 + lane;
        if (c < h.width) out[e] += weight * load(values, bf, v + (j0 + i) * stride + c);
      }
    }
  }
  UNROLL for (int e = 0; e < PER_LANE; e++) out[e] /= sum;
  return top + logf(sum);
}

DEVICE void clear_head(float (&values)[PER_LANE]) { UNROLL for (int e = 0; e < PER_LANE; e++) values[e] = 0.f; }
DEVICE void add_head(float (&sum)[PER_LANE], const float (&part)[PER_LANE]) { UNROLL for (int e = 0; e < PER_LANE; e++) sum[e] += part[e]; }

DEVICE void store_head(void* out, int bf, u64 at, const float (&values)[PER_LANE], float scale, int width) {
  int lane = threadIdx.x & 31;
  UNROLL for (int e = 0; e < PER_LANE; e++) {
    int c = e * 32 + lane;
    if (c < width) store(out, bf, at + c, values[e] * scale);
  }
}

// A tile and a head a block: 4 warps, one query after another.
KERNEL(128) attention_forward(void* out, float* lse, const void* qkv, int bf, const Tile* tiles, Heads h, Drop drop) {
  Tile tile = tiles[blockIdx.x];
  int head = blockIdx.y, kv = kv_head(h, head);
  for (u32 i = threadIdx.x >> 5; i < TILE && tile.first + i < tile.len; i += 4) {
    int position = tile.first + i;
    u64 row = tile.start + position, base = (u64)tile.start * qkv_width(h);
    float values[PER_LANE];
    float of_row = attend(values, qkv, row * qkv_width(h) + head * h.width, qkv, base + q_width(h) + kv * h.width, qkv,
                          base + q_width(h) + (h.n_kv_head + kv) * h.width, qkv_width(h), bf, first_seen(h, position), position, h, drop,
                          drop_index(h, drop, row, head));
    store_head(out, bf, row * q_width(h) + head * h.width, values, 1.f, h.width);
    if ((threadIdx.x & 31) == 0) lse[row * h.n_head + head] = of_row;
  }
}

// `delta = Σ dout · out` of every row and head: the term that the softmax subtracts. A warp each.
KERNEL(128) attention_delta(float* delta, const void* dout, const void* out, int bf, int heads, int width) {
  int i = (int)blockIdx.x * 4 + (threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (i >= heads) return;
  float sum = 0.f;
  for (int c = lane; c < width; c += 32) sum += load(dout, bf, (u64)i * width + c) * load(out, bf, (u64)i * width + c);
  sum = warp_sum(sum);
  if (lane == 0) delta[i] = sum;
}

// Gradients of queries.
KERNEL(128) attention_backward_queries(void* dqkv, const void* dout, const float* lse, const float* delta, const void* qkv, int bf, const Tile* tiles,
                                       Heads h, Drop drop) {
  Tile tile = tiles[blockIdx.x];
  int head = blockIdx.y, kv = kv_head(h, head), lane = threadIdx.x & 31, stride = qkv_width(h);
  u64 key = random_key(drop.seed, drop.stream);
  for (u32 i = threadIdx.x >> 5; i < TILE && tile.first + i < tile.len; i += 4) {
    int position = tile.first + i;
    u64 row = tile.start + position, q = row * stride + head * h.width, d = row * q_width(h) + head * h.width;
    u64 k = (u64)tile.start * stride + q_width(h) + kv * h.width, v = k + h.n_kv_head * h.width, index = drop_index(h, drop, row, head);
    float of_row = lse[row * h.n_head + head], mean = delta[row * h.n_head + head], dq[PER_LANE];
    clear_head(dq);
    for (int j0 = first_seen(h, position); j0 <= position; j0 += 32) {
      int j = j0 + lane, many = position - j0 + 1 < 32 ? position - j0 + 1 : 32;
      float ds = 0.f;
      if (j <= position) {
        float p = expf(h.scale * dot(qkv, q, qkv, k + (u64)j * stride, bf, h.width) - of_row), dp = dot(dout, d, qkv, v + (u64)j * stride, bf, h.width);
        ds = p * ((drop.on ? keep(key, index + j, drop.p) : 1.f) * dp - mean);
      }
      float part[PER_LANE];
      clear_head(part);
      for (int other = 0; other < many; other++) {
        float weight = shuffle(ds, other);
        UNROLL for (int e = 0; e < PER_LANE; e++) {
          int c = e * 32 + lane;
          if (c < h.width) part[e] += weight * load(qkv, bf, k + (u64)(j0 + other) * stride + c);
        }
      }
      add_head(dq, part);
    }
    store_head(dqkv, bf, q, dq, h.scale, h.width);
  }
}

// Gradients of keys and values: all query heads that read them, in order.
KERNEL(128, 5) attention_backward_keys(void* dqkv, const void* dout, const float* lse, const float* delta, const void* qkv, int bf, const Tile* tiles,
                                    Heads h, Drop drop) {
  Tile tile = tiles[blockIdx.x];
  int kv = blockIdx.y, lane = threadIdx.x & 31, stride = qkv_width(h), shared = h.n_head / h.n_kv_head;
  u64 key = random_key(drop.seed, drop.stream);
  for (u32 n = threadIdx.x >> 5; n < TILE && tile.first + n < tile.len; n += 4) {
    int position = tile.first + n, len = tile.len, end = h.window && position + h.window < len ? position + h.window : len;
    u64 k = (u64)(tile.start + position) * stride + q_width(h) + kv * h.width, v = k + h.n_kv_head * h.width;
    float dk[PER_LANE], dv[PER_LANE];
    clear_head(dk);
    clear_head(dv);
    for (int head = kv * shared; head < (kv + 1) * shared; head++) {
      u64 q = (u64)tile.start * stride + head * h.width, d = (u64)tile.start * q_width(h) + head * h.width;
      for (int i0 = position; i0 < end; i0 += 32) {
        int i = i0 + lane, many = end - i0 < 32 ? end - i0 : 32;
        float ds = 0.f, p = 0.f;
        if (i < end) {
          u64 row = tile.start + i;
          p = expf(h.scale * dot(qkv, q + (u64)i * stride, qkv, k, bf, h.width) - lse[row * h.n_head + head]);
          float kept = drop.on ? keep(key, drop_index(h, drop, row, head) + position, drop.p) : 1.f;
          ds = p * (kept * dot(dout, d + (u64)i * q_width(h), qkv, v, bf, h.width) - delta[row * h.n_head + head]);
          p *= kept;
        }
        float part_k[PER_LANE], part_v[PER_LANE];
        clear_head(part_k);
        clear_head(part_v);
        for (int other = 0; other < many; other++) {
          float by_score = shuffle(ds, other), by_value = shuffle(p, other);
          UNROLL for (int e = 0; e < PER_LANE; e++) {
            int c = e * 32 + lane;
            if (c >= h.width) continue;
            part_k[e] += by_score * load(qkv, bf, q + (u64)(i0 + other) * stride + c);
            part_v[e] += by_value * load(dout, bf, d + (u64)(i0 + other) * q_width(h) + c);
          }
        }
        add_head(dk, part_k);
        add_head(dv, part_v);
      }
    }
    store_head(dqkv, bf, k, dk, h.scale, h.width);
    store_head(dqkv, bf, v, dv, 1.f, h.width);
  }
}

// ---- with a cache: `[slot, position, key or value head, value]`

// Where a new row is to go.
struct Place { u32 slot, position; };

KERNEL(256) cache_write(void* keys, void* values, int cb, const void* qkv, int bf, const Place* places, int capacity, Heads h) {
  Place place = places[blockIdx.x];
  int width = h.n_kv_head * h.width;
  u64 from = (u64)blockIdx.x * qkv_width(h) + q_width(h), to = ((u64)place.slot * capacity + place.position) * width;
  for (int c = threadIdx.x; c < width; c += 256) {
    store(keys, cb, to + c, load(qkv, bf, from + c));
    store(values, cb, to + c, load(qkv, bf, from + width + c));
  }
}

// A warp for each row and head.
KERNEL(128) attention_cached(void* out, const void* keys, const void* values, const void* qkv, int bf, const Place* places, int rows, int capacity, Heads h) {
  u64 i = (u64)blockIdx.x * 4 + (threadIdx.x >> 5);
  if (i >= (u64)rows * h.n_head) return;
  u64 row = i / h.n_head;
  int head = i % h.n_head, width = h.n_kv_head * h.width;
  Place place = places[row];
  u64 base = (u64)place.slot * capacity * width + kv_head(h, head) * h.width;
  Drop none = {0, 0, 0, 0.f, 0};
  float result[PER_LANE];
  attend(result, qkv, row * qkv_width(h) + head * h.width, keys, base, values, base, width, bf, first_seen(h, place.position), place.position, h, none, 0);
  store_head(out, bf, i * h.width, result, 1.f, h.width);
}
