// Norm and AdamW over the pieces of many tensors at once.

DEVICE double not_finite(double x) { return x - x == 0. ? 0. : 1.; }

// A sum of `double` over a block of 256 threads, in a fixed order; the first thread has it.
DEVICE double block_sum(double x, double* shared) {
  shared[threadIdx.x] = x;
  __syncthreads();
  for (int half = 128; half; half >>= 1) {
    if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    __syncthreads();
  }
  return shared[0];
}

// Pieces are addresses and lengths; a piece a block.
KERNEL(256) square_sums(double* sums, const u64* pieces) {
  SHARED double shared[256];
  const float* x = (const float*)pieces[2 * blockIdx.x];
  u64 n = pieces[2 * blockIdx.x + 1];
  double sum = 0.;
  for (u64 i = threadIdx.x * 4; i < n; i += 1024) {
    float v[4] = {0.f, 0.f, 0.f, 0.f};
    if (i + 4 <= n) load_values<4>(v, x, 0, i);
    else for (int k = 0; k < (int)(n - i); k++) v[k] = x[i + k];
    UNROLL for (int k = 0; k < 4; k++) sum += (double)v[k] * v[k];
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

KERNEL(256) root_of_sums(double* out, const double* sums, int count) {
  SHARED double shared[256];
  double sum = 0.;
  for (int i = threadIdx.x; i < count; i += 256) sum += sums[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *out = sqrt(sum);
}

// What an update does: whether there is one, the factor on gradients, 1 / (1 - βᵗ) of both moments, ε.
struct Step { float applies, grad_scale, first, second, eps; };

// Decides about an update: counts it and notes it in `applied`, where there is one.
KERNEL(256) adamw_begin(Step* step, double* updates, const double* norm, double* applied, const double* a, u64 a_len, const double* b, u64 b_len,
                        float beta1, float beta2, float eps, int eps_hat, float grad_clip) {
  SHARED double shared[256];
  double bad = not_finite(*norm);
  for (u64 i = threadIdx.x; i < a_len; i += 256) bad += not_finite(a[i]);
  for (u64 i = threadIdx.x; i < b_len; i += 256) bad += not_finite(b[i]);
  bad = block_sum(bad, shared);
  if (threadIdx.x) return;
  int sound = bad == 0.;
  *applied = sound ? 1. : 0.;
  step->applies = sound ? 1.f : 0.f;
  if (!sound) return;
  double t = *updates += 1., second = 1. - pow((double)beta2, t);
  step->grad_scale = grad_clip > 0.f && *norm > (double)grad_clip ? (float)((double)grad_clip / *norm) : 1.f;
  step->first = (float)(1. / (1. - pow((double)beta1, t)));
  step->second = (float)(1. / second);
  step->eps = eps_hat ? (float)((double)eps / sqrt(second)) : eps;
}

// A piece of a parameter: where its values are, how many, its decay, and where their copy for products is, or 0.
struct Piece { u64 weight, m, v, grad, twin, len; float decay, unused; };

DEVICE void adamw_value(float& w, float& m, float& v, float g, const Step& s, float lr, float beta1, float beta2, float decay) {
  g *= s.grad_scale;
  m = beta1 * m + (1.f - beta1) * g;
  v = beta2 * v + (1.f - beta2) * g * g;
  w -= lr * (m * s.first / (sqrtf(v * s.second) + s.eps) + decay * w);
}

KERNEL(256) adamw(const Step* step, const Piece* pieces, float lr, float beta1, float beta2) {
  Step s = *step;
  if (s.applies == 0.f) return;
  Piece piece = pieces[blockIdx.x];
  float *weight = (float*)piece.weight, *first = (float*)piece.m, *second = (float*)piece.v, *grad = (float*)piece.grad;
  for (u64 i = threadIdx.x * 4; i < piece.len; i += 1024) {
    if (i + 4 <= piece.len) {
      float w[4], m[4], v[4], g[4];
      load_values<4>(w, weight, 0, i);
      load_values<4>(m, first, 0, i);
      load_values<4>(v, second, 0, i);
      load_values<4>(g, grad, 0, i);
      UNROLL for (int k = 0; k < 4; k++) adamw_value(w[k], m[k], v[k], g[k], s, lr, beta1, beta2, piece.decay);
      store_values<4>(weight, 0, i, w);
      store_values<4>(first, 0, i, m);
      store_values<4>(second, 0, i, v);
      if (piece.twin) store_values<4>((void*)piece.twin, 1, i, w);
    } else {
      for (u64 j = i; j < piece.len; j++) {
        float w = weight[j];
        adamw_value(w, first[j], second[j], grad[j], s, lr, beta1, beta2, piece.decay);
        weight[j] = w;
        if (piece.twin) store((void*)piece.twin, 1, j, w);
      }
    }
  }
}
