// Draws as `kernels::draw` defines them, a row a block: weights are integers, so that their sums have no order.

// How a row is drawn from. Lists are offsets into what comes along: pairs of an id and what is added to its logit, and words of
// bits that say which ids may be drawn; `allowed` is NOBODY where all may.
struct DrawRow { float divisor, top_p; u32 top_k, n_tokens, added, added_len, allowed, greedy; u64 random; };
#define NOBODY 0xffffffffu
// What comes of a row that has no token.
#define DRAWN_NOTHING 0xffffffffu
#define DRAWN_NOT_FINITE 0xfffffffeu
#define DRAW_THREADS 512

// As `kernels` computes it, to the bit.
DEVICE float exact_exp(float x) {
  x = x < -127.f * 0.69314718f ? -127.f * 0.69314718f : x;
  x = x > 128.f * 0.69314718f ? 128.f * 0.69314718f : x;
  float shifted = exact_sum(exact_product(x, 1.44269504f), 12582912.f), n = exact_sum(shifted, -12582912.f);
  float r = exact_sum(exact_sum(x, -exact_product(n, 0.6933594f)), -exact_product(n, -2.1219444e-4f));
  float q = 0.0013814538f;
  q = exact_sum(exact_product(q, r), 0.008368745f);
  q = exact_sum(exact_product(q, r), 0.04166839f);
  q = exact_sum(exact_product(q, r), 0.16666521f);
  q = exact_sum(exact_product(q, r), 0.49999994f);
  float exp_r = exact_sum(1.f, exact_sum(r, exact_product(exact_product(r, r), q)));
  return exact_product(exp_r, float_of_bits((bits_of_float(shifted) << 23) + (127u << 23)));
}
DEVICE u64 draw_weight(float x) { return bits_of_double((double)exact_exp(x) * 1099511627776. + 4503599627370496.) - bits_of_double(4503599627370496.); }

// Larger for higher scores, 0 for none; both zeros are one.
DEVICE u32 key_of(float score) {
  u32 bits = bits_of_float(score + 0.f);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
DEVICE float score_of(u32 key) { return float_of_bits(key >> 31 ? key & 0x7fffffffu : ~key); }
DEVICE float score_at(float logit, float added) {
  float score = exact_sum(logit, added), most = 3.402823466e38f;
  return score < -most ? -most : score > most ? most : score;
}
DEVICE int may_be_drawn(const DrawRow& row, const u32* bits, u32 id) { return row.allowed == NOBODY || bits[row.allowed + id / 32] >> (id % 32) & 1; }

// Of every thread's number the sum, or the largest, for all.
DEVICE u64 block_all(u64 x, u64* shared, int largest) {
  int t = threadIdx.x;
  __syncthreads();
  shared[t] = x;
  __syncthreads();
  for (int half = DRAW_THREADS / 2; half; half >>= 1) {
    if (t < half) shared[t] = largest ? (shared[t] > shared[t + half] ? shared[t] : shared[t + half]) : shared[t] + shared[t + half];
    __syncthreads();
  }
  return shared[0];
}

// What is kept: keys above `key`, and of those that are equal the ids below `id`.
struct Cut { u32 key, id; };
DEVICE int is_kept(const Cut& cut, u32 key, u32 id) { return key > cut.key || (key == cut.key && id < cut.id); }

// What a search through the order works with, in shared memory.
struct Search { u64 bins[256], before; u32 digit; };

// One digit of the place where what is added up, from the highest bin down or from the lowest up, comes to `enough`; what is
// before that bin is counted in `search.before`.
DEVICE u32 find_digit(Search& search, u64 enough, int down) {
  __syncthreads();
  if (threadIdx.x == 0) {
    int bin = down ? 255 : 0;
    for (; bin != (down ? 0 : 255) && search.before + search.bins[bin] < enough; bin += down ? -1 : 1) search.before += search.bins[bin];
    search.digit = bin;
  }
  __syncthreads();
  u32 digit = search.digit;
  for (int i = threadIdx.x; i < 256; i += DRAW_THREADS) search.bins[i] = 0;
  __syncthreads();
  return digit;
}

// The shortest beginning of the order that has `enough`, of tokens or of their weight. With `weights` where it is weight. Digit
// by digit: first of the key that it ends in, then of the id among those that have it.
DEVICE Cut cut_after(const Cut& cut, u64 enough, const u32* keys, const u64* weights, u32 n, Search& search) {
  Cut found = {0, 0};
  __syncthreads();
  for (int i = threadIdx.x; i < 256; i += DRAW_THREADS) search.bins[i] = 0;
  if (threadIdx.x == 0) search.before = 0;
  __syncthreads();
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (u32 i = threadIdx.x; i < n; i += DRAW_THREADS)
      if (keys[i] && is_kept(cut, keys[i], i) && (u64)keys[i] >> (shift + 8) == (u64)found.key >> (shift + 8))
        add_shared(&search.bins[keys[i] >> shift & 255], weights ? weights[i] : 1);
    found.key |= find_digit(search, enough, 1) << shift;
  }
  // `before` goes on with those that have the key, by id.
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (u32 i = threadIdx.x; i < n; i += DRAW_THREADS)
      if (keys[i] == found.key && is_kept(cut, keys[i], i) && (u64)i >> (shift + 8) == (u64)found.id >> (shift + 8))
        add_shared(&search.bins[i >> shift & 255], weights ? weights[i] : 1);
    found.id |= find_digit(search, enough, 0) << shift;
  }
  found.id++;
  return found;
}

KERNEL(DRAW_THREADS) draw(u32* out, u32* keys, u64* weights, const float* logits, const DrawRow* rows, const u32* added, const u32* allowed, int vocab_size) {
  SHARED u64 shared[DRAW_THREADS];
  SHARED Search search;
  DrawRow row = rows[blockIdx.x];
  u32 t = threadIdx.x, n = row.n_tokens;
  logits += (u64)blockIdx.x * vocab_size;
  keys += (u64)blockIdx.x * vocab_size;
  weights += (u64)blockIdx.x * vocab_size;
  u64 bad = 0;
  for (u32 i = t; i < (u32)vocab_size; i += DRAW_THREADS) {
    bad += (bits_of_float(logits[i]) & 0x7f800000u) == 0x7f800000u;
    if (i < n) keys[i] = may_be_drawn(row, allowed, i) ? key_of(score_at(logits[i], 0.f)) : 0;
  }
  if (block_all(bad, shared, 0)) {
    if (t == 0) out[blockIdx.x] = DRAWN_NOT_FINITE;
    return;
  }
  for (u32 i = t; i < row.added_len; i += DRAW_THREADS) {
    u32 id = added[row.added + 2 * i];
    if (may_be_drawn(row, allowed, id)) keys[id] = key_of(score_at(logits[id], float_of_bits(added[row.added + 2 * i + 1])));
  }
  __syncthreads();
  u64 best = 0;
  // The highest key, and of those that have it the lowest id.
  for (u32 i = t; i < n; i += DRAW_THREADS) {
    u64 here = (u64)keys[i] << 32 | (0xffffffffu - i);
    best = here > best ? here : best;
  }
  best = block_all(best, shared, 1);
  u32 highest = (u32)(best >> 32);
  if (!highest || row.greedy) {
    if (t == 0) out[blockIdx.x] = highest ? 0xffffffffu - (u32)best : DRAWN_NOTHING;
    return;
  }
  float top = score_of(highest);
  for (u32 i = t; i < n; i += DRAW_THREADS) weights[i] = keys[i] ? draw_weight(exact_sum(score_of(keys[i]), -top) / row.divisor) : 0;
  Cut cut = {0, 0};
  auto total_of = [&](int count) {
    u64 total = 0;
    for (u32 i = t; i < n; i += DRAW_THREADS) if (keys[i] && is_kept(cut, keys[i], i)) total += count ? 1 : weights[i];
    return block_all(total, shared, 0);
  };
  if (row.top_k && total_of(1) > row.top_k) cut = cut_after(cut, row.top_k, keys, nullptr, n, search);
  u64 total = total_of(0);
  if (row.top_p < 1.f) {
    u64 enough = (u64)ceil((double)row.top_p * (double)total);
    enough = enough < 1 ? 1 : enough > total ? total : enough;
    cut = cut_after(cut, enough, keys, weights, n, search);
    total = total_of(0);
  }
  // A thread for each run of ids; the one in whose run the number falls looks for it there.
  u64 left = high_product(row.random, total), mine = 0;
  u32 run = (n + DRAW_THREADS - 1) / DRAW_THREADS, begin = t * run, end = begin + run < n ? begin + run : n;
  for (u32 i = begin; i < end; i++) if (is_kept(cut, keys[i], i)) mine += weights[i];
  __syncthreads();
  shared[t] = mine;
  __syncthreads();
  u64 before = 0;
  for (u32 i = 0; i < t; i++) before += shared[i];
  if (left < before || left >= before + mine) return;
  for (u32 i = begin; i < end; i++) {
    if (!is_kept(cut, keys[i], i)) continue;
    before += weights[i];
    if (left < before) {
      out[blockIdx.x] = i;
      return;
    }
  }
}
