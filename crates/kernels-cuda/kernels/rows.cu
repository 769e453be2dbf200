// Rows that are looked up in a table, and their gradients.

// A row a block: `out[r] = first[a[r]] (+ second[b[r]])`.
KERNEL(256) gather_rows(void* out, int ob, const void* first, int fb, const u32* a, const void* second, int sb, const u32* b, int width) {
  u64 row = blockIdx.x, at = (u64)a[row] * width, second_at = second ? (u64)b[row] * width : 0;
  for (int c = threadIdx.x; c < width; c += 256) {
    float x = load(first, fb, at + c);
    if (second) x += load(second, sb, second_at + c);
    store(out, ob, row * width + c, x);
  }
}

// A row of the table a block, `table[ids[i]] += x[order[starts[i]]] + …`: each in order, so without atomics.
KERNEL(256) scatter_rows(void* table, int tb, const void* x, int xb, const u32* ids, const u32* starts, const u32* order, int width) {
  u64 to = (u64)ids[blockIdx.x] * width;
  u32 start = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  for (int c = threadIdx.x; c < width; c += 256) {
    float sum = load(table, tb, to + c);
    for (u32 i = start; i < end; i++) sum += load(x, xb, (u64)order[i] * width + c);
    store(table, tb, to + c, sum);
  }
}
