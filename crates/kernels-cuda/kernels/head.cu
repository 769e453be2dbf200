// From rows of logits, already divided by the temperature, to log-probabilities, entropies and gradients.

#define NO_TARGET 0xffffffffu

// Of some values: the largest, Σ e^(x - largest), Σ e^(x - largest) · (x - largest).
struct Softmax { float top, sum, weighted; };

DEVICE Softmax join(Softmax a, Softmax b) {
  if (a.top == -INF) return b;
  if (b.top == -INF) return a;
  float top = fmaxf(a.top, b.top), da = a.top - top, db = b.top - top, ea = expf(da), eb = expf(db);
  return {top, ea * a.sum + eb * b.sum, ea * (a.weighted + da * a.sum) + eb * (b.weighted + db * b.sum)};
}

// A row a block. `dlogits` are optional; their columns beyond the vocabulary are made 0.
KERNEL(512) head_rows(void* dlogits, int dlb, const void* logits, int lb, double* logprobs, double* entropies, const double* dlogprobs,
                      const double* dentropies, const u32* targets, int vocab_size, int ld, float temperature, float z_loss) {
  SHARED Softmax shared[16];
  int t = threadIdx.x, lane = t & 31, warp = t >> 5;
  u64 row = blockIdx.x, at = row * ld;
  u32 target = targets[row];
  if (target == NO_TARGET) {
    if (dlogits) for (int c = t * 4; c < ld; c += 2048) store_values<4>(dlogits, dlb, at + c, {0.f, 0.f, 0.f, 0.f});
    if (t == 0) logprobs[row] = 0.;
    if (t == 0 && entropies) entropies[row] = 0.;
    return;
  }
  Softmax mine = {-INF, 0.f, 0.f};
  float x[4];
  for (int c = t * 4; c < vocab_size; c += 2048) {
    load_values<4>(x, logits, lb, at + c);
    float top = mine.top;
    UNROLL for (int k = 0; k < 4; k++) if (c + k < vocab_size) top = fmaxf(top, x[k]);
    if (top > mine.top && mine.top > -INF) {
      float d = mine.top - top, e = expf(d);
      mine.weighted = e * (mine.weighted + d * mine.sum);
      mine.sum *= e;
    }
    mine.top = top;
    UNROLL for (int k = 0; k < 4; k++) if (c + k < vocab_size) {
      float d = x[k] - top, e = expf(d);
      mine.sum += e;
      mine.weighted += e > 0.f ? e * d : 0.f;
    }
  }
  UNROLL for (int m = 16; m; m >>= 1) {
    Softmax other = {shuffle_xor(mine.top, m), shuffle_xor(mine.sum, m), shuffle_xor(mine.weighted, m)};
    // The lower lane first, on both sides.
    mine = lane & m ? join(other, mine) : join(mine, other);
  }
  if (lane == 0) shared[warp] = mine;
  __syncthreads();
  Softmax all = shared[0];
  for (int i = 1; i < 16; i++) all = join(all, shared[i]);
  float log_sum = logf(all.sum), entropy = log_sum - all.weighted / all.sum;
  if (t == 0) logprobs[row] = (double)(load(logits, lb, at + target) - all.top - log_sum);
  if (t == 0 && entropies) entropies[row] = (double)entropy;
  if (!dlogits) return;
  float by_logprob = (float)dlogprobs[row] / temperature, by_entropy = dentropies ? (float)dentropies[row] / temperature : 0.f;
  // What the row's probabilities are multiplied by.
  float pull = z_loss != 0.f ? 1.f + 2.f * z_loss * (all.top + log_sum) : 1.f;
  float inverse = 1.f / all.sum, d[4];
  // Logits may stand where their gradients will: the target's is read before.
  __syncthreads();
  for (int c = t * 4; c < ld; c += 2048) {
    load_values<4>(x, logits, lb, at + c);
    UNROLL for (int k = 0; k < 4; k++) {
      float log_p = x[k] - all.top - log_sum, p = expf(x[k] - all.top) * inverse;
      d[k] = by_logprob * ((c + k == (int)target ? 1.f : 0.f) - pull * p);
      if (dentropies) d[k] -= p > 0.f ? by_entropy * p * (log_p + entropy) : 0.f;
      if (c + k >= vocab_size) d[k] = 0.f;
    }
    store_values<4>(dlogits, dlb, at + c, d);
  }
}
