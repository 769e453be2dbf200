// A driver of CUDA and a cuBLASLt for a card that is not there: what `src/driver.rs` and `src/products.rs` call of the
// libraries, with the kernels run by the emulator. Everything is done before a call returns, or recorded for a graph. It refuses what a card
// would fault or go wrong on: addresses outside of allocations, more shared memory than was asked for, unknown kernels,
// products whose layouts and sizes do not fit each other.
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <unistd.h>
#include <vector>
#define API extern "C" int

namespace fake {
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, NOT_FOUND = 500, INVALID_ADDRESS = 700, NOT_IN_A_CAPTURE = 900 };
enum { BF16 = 14, F32 = 0 };
const u64 USUAL_SHARED = 48 << 10, MOST_SHARED = 163 << 10;
inline std::mutex lock;
inline std::map<u64, u64> allocations;
inline u64 used, most_used, launches, graph_launches;
// What a stream does; recorded while it is captured.
typedef std::vector<std::function<int()>> Graph;
inline Graph* capturing;
inline int perform(std::function<int()> operation) {
  return capturing ? (capturing->push_back(std::move(operation)), OK) : operation();
}

// Whether so many bytes are within an allocation.
inline bool inside(u64 at, u64 bytes) {
  std::lock_guard<std::mutex> guard(lock);
  auto next = allocations.upper_bound(at);
  if (next == allocations.begin()) return false;
  auto [begin, size] = *std::prev(next);
  return at + bytes <= begin + size;
}
struct Function { std::string name; u64 shared = USUAL_SHARED; };
inline int asked(const char* name, int usual) {
  const char* value = getenv(name);
  return value ? atoi(value) : usual;
}
inline int chip() { return asked("FAKE_GPU_CHIP", 90); }
inline u64 memory() {
  const char* bytes = getenv("FAKE_GPU_MEMORY");
  return bytes ? strtoull(bytes, nullptr, 10) : 4ull << 30;
}
inline int count() { return asked("FAKE_GPU_COUNT", 1); }
// A line for each copy between host and device, in the folder FAKE_GPU_COPIES.
inline bool copied(const char* way, u64 bytes) {
  const char* folder = getenv("FAKE_GPU_COPIES");
  static FILE* copies = folder ? fopen((std::string(folder) + "/copies-" + std::to_string(getpid())).c_str(), "w") : nullptr;
  if (copies) fprintf(copies, "%s %llu\n", way, bytes), fflush(copies);
  return true;
}
// When the program ends, what it did goes to this file.
inline const char* report() { return getenv("FAKE_GPU_REPORT"); }
inline void tell() {
  FILE* file = fopen(report(), "w");
  if (!file) return;
  fprintf(file, "{\"peak_bytes\": %llu, \"launches\": %llu, \"graph_launches\": %llu}\n", most_used, launches, graph_launches);
  fclose(file);
}
[[noreturn]] inline void wrong(const char* what) {
  fprintf(stderr, "EMULATOR: cuBLASLt: %s\n", what);
  abort();
}
inline double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
struct Layout { int kind; u64 rows, columns; int64_t step; };
struct Operation {
  int turn_a = 0, turn_b = 0, epilogue = 1;
  u64 bias = 0, aux = 0;
  int64_t aux_step = 0;
};
// Boundaries that the addresses of A, B, C and D are on, as they were told.
struct Preference { u32 boundaries[4] = {256, 256, 256, 256}; };
struct Algorithm { u64 made, boundaries[4], rest[3]; };
struct Heuristic { Algorithm algorithm; u64 workspace; int state; float waves; int reserved[4]; };
const u64 MADE = 0x6d796e6168ull;
inline u64 bytes(const Layout& l, int64_t step) {
  return (u64)((l.columns - 1) * step + l.rows) * (l.kind == BF16 ? 2 : 4);
}
}
using namespace fake;

API cuInit(unsigned) { return report() ? atexit(tell) : OK; }
API cuGetErrorString(int code, const char** text) {
  *text = code == INVALID_ADDRESS ? "an address outside of all allocations" : code == OUT_OF_MEMORY ? "out of memory" : "the fake driver refuses it";
  return OK;
}
API cuGetErrorName(int code, const char** text) { return cuGetErrorString(code, text); }
API cuDeviceGetCount(int* devices) { return *devices = count(), OK; }
API cuDeviceGet(int* device, int number) { return *device = number, number < count() ? OK : INVALID_VALUE; }
API cuDeviceGetName(char* name, int size, int) { return snprintf(name, size, "emulated GPU"), OK; }
API cuDeviceTotalMem_v2(u64* bytes, int) { return *bytes = memory(), OK; }
API cuDeviceGetAttribute(int* value, int attribute, int) {
  if (attribute != 75 && attribute != 76) return INVALID_VALUE;
  return *value = attribute == 75 ? chip() / 10 : chip() % 10, OK;
}
API cuDevicePrimaryCtxRetain(void** context, int) { return *context = &allocations, OK; }
API cuCtxSetCurrent(void*) { return OK; }
API cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = &allocations, OK; }
API cuMemPoolSetAttribute(void*, int, void*) { return OK; }
API cuStreamCreate(void** stream, unsigned) { return *stream = &lock, OK; }
API cuStreamSynchronize(void*) { return capturing ? NOT_IN_A_CAPTURE : OK; }
API cuStreamBeginCapture_v2(void*, int) {
  if (capturing || getenv("FAKE_GPU_NO_CAPTURE")) return NOT_IN_A_CAPTURE;
  return capturing = new Graph, OK;
}
API cuStreamEndCapture(void*, Graph** graph) { return *graph = capturing, capturing = nullptr, *graph ? OK : INVALID_VALUE; }
API cuGraphInstantiateWithFlags(Graph** made, Graph* graph, u64) { return *made = new Graph(*graph), OK; }
API cuGraphDestroy(Graph* graph) { return delete graph, OK; }
API cuGraphExecDestroy(Graph* graph) { return delete graph, OK; }
API cuGraphLaunch(Graph* graph, void*) {
  graph_launches++;
  for (auto& operation : *graph)
    if (int failed = operation()) return failed;
  return OK;
}

API cuMemHostAlloc(void** at, size_t bytes, unsigned) { return *at = aligned_alloc(256, bytes), OK; }
API cuMemGetInfo_v2(u64* free, u64* total) { return *free = memory() - used, *total = memory(), OK; }
API cuMemAllocAsync(u64* at, size_t bytes, void*) {
  std::lock_guard<std::mutex> guard(lock);
  if (bytes == 0) return INVALID_VALUE;
  if (capturing) return NOT_IN_A_CAPTURE;
  if (used + bytes > memory()) return OUT_OF_MEMORY;
  u64 size = (bytes + 255) / 256 * 256;
  void* memory = aligned_alloc(256, size);
  // NaN in every kind of value: nothing may depend on what was there.
  memset(memory, 0xff, size);
  allocations[*at = (u64)memory] = bytes;
  most_used = std::max(most_used, used += bytes);
  return OK;
}
API cuMemFreeAsync(u64 at, void*) {
  if (capturing) return NOT_IN_A_CAPTURE;
  std::lock_guard<std::mutex> guard(lock);
  auto found = allocations.find(at);
  if (found == allocations.end()) return INVALID_ADDRESS;
  used -= found->second;
  allocations.erase(found);
  return free((void*)at), OK;
}
API cuMemsetD8Async(u64 at, unsigned char value, size_t bytes, void*) {
  return perform([=] { return inside(at, bytes) ? (memset((void*)at, value, bytes), OK) : INVALID_ADDRESS; });
}
API cuMemcpyHtoDAsync_v2(u64 to, const void* from, size_t bytes, void*) {
  return perform([=] { return inside(to, bytes) && copied("up", bytes) ? (memcpy((void*)to, from, bytes), OK) : INVALID_ADDRESS; });
}
API cuMemcpyDtoHAsync_v2(void* to, u64 from, size_t bytes, void*) {
  if (capturing) return NOT_IN_A_CAPTURE;
  return inside(from, bytes) && copied("down", bytes) ? (memcpy(to, (void*)from, bytes), OK) : INVALID_ADDRESS;
}
API cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t bytes, void*) {
  bool apart = to + bytes <= from || from + bytes <= to;
  return perform([=] {
    return apart && inside(to, bytes) && inside(from, bytes) ? (memcpy((void*)to, (void*)from, bytes), OK) : INVALID_ADDRESS;
  });
}

// Whether it is for this chip its first bytes tell: an ELF file's flags have the chip's number, in the second byte since
// the tenth generation; PTX begins with a comment.
API cuModuleLoadData(void** module, const void* image) {
  const unsigned char* code = (const unsigned char*)image;
  bool elf = !memcmp(code, "\x7f" "ELF", 4), ptx = !memcmp(code, "//", 2);
  int of = elf ? code[code[7] == 0x33 ? 48 : 49] : 80;
  if (getenv("FAKE_GPU_PTX_ONLY") && elf) return INVALID_IMAGE;
  bool runs = elf ? of / 10 == chip() / 10 && of % 10 <= chip() % 10 : ptx && chip() >= 80;
  return runs ? (*module = (void*)image, OK) : INVALID_IMAGE;
}
API cuModuleGetFunction(void** function, void*, const char* name) { return *function = new Function{name}, OK; }
API cuFuncSetAttribute(Function* function, int attribute, int value) {
  if (attribute != 8 || value < 0 || (u64)value > MOST_SHARED) return INVALID_VALUE;
  return function->shared = value, OK;
}
API cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void*, void** arguments, void** extra) {
  bool grid = x && y && z && y < 65536 && z < 65536;
  if (!grid || threads == 0 || threads > 1024 || threads_y != 1 || threads_z != 1 || extra || shared > function->shared) return INVALID_VALUE;
  const unsigned sizes[] = {x, y, z};
  launches += !capturing;
  auto launch = emu_launches(function->name.c_str(), sizes, threads, shared, arguments);
  return launch ? perform([=] { return launch(), OK; }) : NOT_FOUND;
}
API cuEventCreate(double** event, unsigned) { return *event = new double(0), OK; }
API cuEventRecord(double* event, void*) { return *event = now(), OK; }
API cuEventElapsedTime(float* milliseconds, double* from, double* to) { return *milliseconds = (float)(*to - *from), OK; }
API cuEventElapsedTime_v2(float* milliseconds, double* from, double* to) { return cuEventElapsedTime(milliseconds, from, to); }
API cuEventDestroy_v2(double* event) { return delete event, OK; }

API cublasLtCreate(void** handle) { return *handle = &used, OK; }
API cublasLtMatrixLayoutCreate(Layout** layout, int kind, u64 rows, u64 columns, int64_t step) {
  if ((kind != BF16 && kind != F32) || !rows || !columns || step < (int64_t)rows) wrong("a layout that is none");
  return *layout = new Layout{kind, rows, columns, step}, OK;
}
API cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, OK; }
API cublasLtMatmulDescCreate(Operation** operation, int compute, int scale) {
  return compute == 68 && scale == F32 ? (*operation = new Operation, OK) : 7;
}
API cublasLtMatmulDescDestroy(Operation* operation) { return delete operation, OK; }
API cublasLtMatmulDescSetAttribute(Operation* o, int attribute, const void* value, size_t size) {
  void* into = attribute == 3 ? (void*)&o->turn_a : attribute == 4 ? (void*)&o->turn_b : attribute == 7 ? (void*)&o->epilogue
               : attribute == 8 ? (void*)&o->bias : attribute == 11 ? (void*)&o->aux : attribute == 12 ? (void*)&o->aux_step : nullptr;
  if (!into || size != (attribute < 8 ? 4 : 8)) wrong("an attribute that is none");
  return memcpy(into, value, size), OK;
}
API cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference, OK; }
API cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, OK; }
API cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t size) {
  if (attribute >= 5 && attribute <= 8) return size == 4 ? (memcpy(&preference->boundaries[attribute - 5], value, 4), OK) : 7;
  return (attribute == 1 && size == 8) || (attribute == 3 && size == 4) ? OK : 7;
}
API cublasLtMatmulAlgoGetHeuristic(void*, Operation* o, Layout* a, Layout* b, Layout* c, Layout* d, Preference* preference,
                                   int, Heuristic* found, int* count) {
  u64 m = o->turn_a ? a->columns : a->rows, k = o->turn_a ? a->rows : a->columns;
  u64 terms = o->turn_b ? b->columns : b->rows, n = o->turn_b ? b->rows : b->columns;
  // The caller would go on without the library, and slowly.
  if (k != terms || m != d->rows || n != d->columns || a->kind != b->kind || memcmp(c, d, sizeof *c)) wrong("layouts that do not fit");
  bool plain = o->epilogue == 1, known = plain || o->epilogue == 4 || o->epilogue == 160 || o->epilogue == 164 || o->epilogue == 192;
  // As the library, which fuses nothing into products of 32-bit floats here; small products are left to the kernel.
  *count = known && (plain || (a->kind == BF16 && d->kind == BF16)) && m * n * k > SMALL_PRODUCT;
  *found = Heuristic{{MADE, {}, {}}, 0, 0, 1.f, {}};
  for (int i = 0; i < 4; i++) found->algorithm.boundaries[i] = preference->boundaries[i];
  return OK;
}
API cublasLtMatmul(void*, Operation* o, const float* alpha, u64 a, Layout* la, u64 b, Layout* lb, const float* beta, u64 c,
                   Layout* lc, u64 d, Layout* ld, const Algorithm* algorithm, u64 workspace, size_t workspace_bytes, void*) {
  const u64 addresses[] = {a, b, c, d};
  const Layout* layouts[] = {la, lb, lc, ld};
  for (int i = 0; i < 4; i++)
    if (addresses[i] % algorithm->boundaries[i] || !inside(addresses[i], bytes(*layouts[i], layouts[i]->step))) return 13;
  bool aux = o->epilogue >= 160, bias = o->epilogue == 4 || o->epilogue == 164;
  if (algorithm->made != MADE || !inside(workspace, workspace_bytes)) return 13;
  if ((bias && !inside(o->bias, ld->rows * 2)) || (aux && !inside(o->aux, bytes(*ld, o->aux_step)))) return 13;
  Flat flat = {};
  // Columns of D are the rows of a `Product`.
  flat.out = d, flat.a = b, flat.b = a;
  flat.sizes[0] = ld->columns, flat.sizes[1] = ld->rows, flat.sizes[2] = o->turn_a ? la->rows : la->columns;
  flat.steps[0] = ld->step;
  flat.steps[1] = o->turn_b ? 1 : lb->step, flat.steps[2] = o->turn_b ? lb->step : 1;
  flat.steps[3] = o->turn_a ? la->step : 1, flat.steps[4] = o->turn_a ? 1 : la->step;
  flat.bias = bias ? o->bias : 0, flat.aux = aux ? o->aux : 0;
  flat.alpha = *alpha, flat.add = *beta != 0.f;
  flat.bf16 = la->kind == BF16, flat.out_bf16 = ld->kind == BF16;
  flat.then = o->epilogue == 192 ? 3 : aux ? 2 : bias ? 1 : 0;
  launches += !capturing;
  return perform([=] { return emu_product(&flat), OK; });
}
