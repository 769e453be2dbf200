
// What the library does on a GPU: sums in 32-bit floats.
struct Flat {
  u64 out, a, b, sizes[3], steps[5], bias, aux;
  float alpha;
  int out_bf16, bf16, add, then;
};

extern "C" void emu_product(const Flat* p) {
  const u64 m = p->sizes[0], n = p->sizes[1], k = p->sizes[2];
  std::vector<float> b(n * k), row(k), sums(n);
  for (u64 e = 0; e < k; e++)
    for (u64 j = 0; j < n; j++) b[e * n + j] = load((void*)p->b, p->bf16, j * p->steps[3] + e * p->steps[4]);
  for (u64 i = 0; i < m; i++) {
    std::fill(sums.begin(), sums.end(), 0.f);
    for (u64 e = 0; e < k; e++) {
      float x = load((void*)p->a, p->bf16, i * p->steps[1] + e * p->steps[2]);
      for (u64 j = 0; j < n; j++) sums[j] += x * b[e * n + j];
    }
    for (u64 j = 0; j < n; j++) {
      u64 at = i * p->steps[0] + j;
      float x = p->alpha * sums[j] + (p->add ? load((void*)p->out, p->out_bf16, at) : 0.f);
      // As the device has it: a bias; that and the GELU; the slope of the GELU.
      if (p->bias) x += load((void*)p->bias, 1, j);
      if (p->then == 2) store((void*)p->aux, 1, at, x), x = gelu(x, 1);
      if (p->then == 3) x *= gelu_slope(load((void*)p->aux, 1, at), 1);
      store((void*)p->out, p->out_bf16, at, x);
    }
  }
}
