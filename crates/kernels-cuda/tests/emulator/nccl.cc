
// An NCCL for GPUs that are not there: processes exchange bytes through files in the folder FAKE_NCCL, which they map.
// It refuses what the library would hang or go wrong on: addresses outside of allocations, groups that do not fit each
// other. Each operation is a line of the file `calls-RANK` there: its name and the bytes of the rank's part.
// With FAKE_NCCL_LOST the GPUs wait for ever after so many groups, and with FAKE_NCCL_FAILED they notice why.
#include <atomic>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace nccl {
enum { UNHANDLED_CUDA_ERROR = 1, INVALID_ARGUMENT = 4, REMOTE_ERROR = 6, BYTES = 1 };
enum Kind { SEND, RECEIVE, GATHER, BROADCAST };
const char* const NAMES[] = {"send", "receive", "all-gather", "broadcast"};
const u64 MOST_RANKS = 8, MOST_OPERATIONS = 4096, MOST_BYTES = 256 << 20;
struct Operation { Kind kind; int peer; u64 bytes, at; void* to; };
// What one rank has for the others in a group.
struct Slot { u64 count; Operation operations[MOST_OPERATIONS]; char bytes[MOST_BYTES]; };
struct Shared { std::atomic<u32> arrived, round; Slot slots[MOST_RANKS]; };
struct Communicator { int rank, size; Shared* shared; FILE* calls; u64 groups = 0; };
struct Id { char text[128]; };
inline bool lost;
inline thread_local int depth;
inline thread_local Communicator* of;
inline thread_local std::vector<std::pair<Operation, const void*>> group;

[[noreturn]] inline void wrong(const char* what) {
  fprintf(stderr, "EMULATOR: NCCL: %s\n", what);
  abort();
}
inline void meet(Communicator* c) {
  u32 round = c->shared->round;
  if (++c->shared->arrived == (u32)c->size) c->shared->arrived = 0, c->shared->round++;
  while (c->shared->round == round) usleep(50);
}
// The operation of `rank` that belongs to one of mine: the so-manieth of its kind.
inline const Operation& partner(Communicator* c, int rank, Kind kind, int peer, u64 number) {
  Slot& slot = c->shared->slots[rank];
  for (u64 i = 0; i < slot.count; i++) {
    const Operation& o = slot.operations[i];
    bool is_it = o.kind == kind && (kind == GATHER || o.peer == peer);
    if (is_it && number-- == 0) return o;
  }
  wrong("a group in which another process does not take part in the same way");
}
inline void exchange(Communicator* c) {
  if (c->groups++ >= (u64)asked("FAKE_NCCL_LOST", 1 << 30)) lost = true;
  if (lost) return;
  Slot& mine = c->shared->slots[c->rank];
  if (group.size() > MOST_OPERATIONS) wrong("too many operations in a group");
  mine.count = 0;
  u64 used = 0;
  for (auto& [o, from] : group) {
    fprintf(c->calls, "%s %llu\n", NAMES[o.kind], o.bytes);
    o.at = used;
    if (o.kind != RECEIVE && (o.kind != BROADCAST || o.peer == c->rank)) {
      if ((used += o.bytes) > MOST_BYTES) wrong("too many bytes in a group");
      memcpy(mine.bytes + o.at, from, o.bytes);
    }
    mine.operations[mine.count++] = o;
  }
  fflush(c->calls);
  meet(c);
  std::map<std::pair<int, int>, u64> seen;
  for (auto& [o, from] : group) {
    u64 number = seen[{o.kind, o.kind == GATHER ? 0 : o.peer}]++;
    for (int rank = 0; rank < c->size; rank++) {
      if ((o.kind == SEND || o.kind == RECEIVE) && rank != o.peer) continue;
      Kind kind = o.kind == SEND ? RECEIVE : o.kind == RECEIVE ? SEND : o.kind;
      int peer = o.kind == BROADCAST ? o.peer : c->rank;
      const Operation& other = partner(c, rank, kind, peer, number);
      if (other.bytes != o.bytes) wrong("processes that exchange another number of bytes than each other");
      const char* bytes = c->shared->slots[rank].bytes + other.at;
      if (o.kind == RECEIVE || (o.kind == BROADCAST && rank == o.peer)) memcpy(o.to, bytes, o.bytes);
      if (o.kind == GATHER) memcpy((char*)o.to + rank * o.bytes, bytes, o.bytes);
    }
  }
  meet(c);
}
inline int enqueue(Kind kind, const void* from, void* to, size_t bytes, int type, int peer, Communicator* c, void* stream) {
  bool reads = kind != RECEIVE, writes = kind != SEND;
  if (type != BYTES || peer < 0 || peer >= c->size || stream != &fake::lock) return INVALID_ARGUMENT;
  if ((reads && !inside((u64)from, bytes)) || (writes && !inside((u64)to, bytes * (kind == GATHER ? c->size : 1)))) return UNHANDLED_CUDA_ERROR;
  of = c;
  group.push_back({Operation{kind, peer, bytes, 0, to}, from});
  if (depth == 0) exchange(c), group.clear();
  return OK;
}
}

API cuStreamQuery(void*) { return nccl::lost ? 600 : OK; }

API ncclGetVersion(int* version) { return *version = 22703, OK; }
extern "C" const char* ncclGetErrorString(int code) {
  return code == nccl::REMOTE_ERROR ? "remote process exited or there was a network error"
         : code == nccl::UNHANDLED_CUDA_ERROR ? "unhandled cuda error" : "invalid argument";
}
API ncclGetUniqueId(nccl::Id* id) {
  memset(id, 0, sizeof *id);
  return snprintf(id->text, sizeof id->text, "%s/exchange-%d", getenv("FAKE_NCCL"), getpid()), OK;
}
API ncclCommInitRank(nccl::Communicator** communicator, int size, nccl::Id id, int rank) {
  if (size > (int)nccl::MOST_RANKS || rank < 0 || rank >= size) return nccl::INVALID_ARGUMENT;
  int file = open(id.text, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(nccl::Shared))) return nccl::UNHANDLED_CUDA_ERROR;
  void* at = mmap(nullptr, sizeof(nccl::Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (at == MAP_FAILED) return nccl::UNHANDLED_CUDA_ERROR;
  std::string calls = std::string(getenv("FAKE_NCCL")) + "/calls-" + std::to_string(rank);
  *communicator = new nccl::Communicator{rank, size, (nccl::Shared*)at, fopen(calls.c_str(), "w")};
  return nccl::meet(*communicator), OK;
}
API ncclCommGetAsyncError(nccl::Communicator*, int* code) {
  return *code = nccl::lost && getenv("FAKE_NCCL_FAILED") ? nccl::REMOTE_ERROR : OK, OK;
}
API ncclGroupStart() { return nccl::depth++, OK; }
API ncclGroupEnd() {
  if (nccl::depth == 0) return nccl::INVALID_ARGUMENT;
  if (--nccl::depth == 0 && !nccl::group.empty()) nccl::exchange(nccl::of), nccl::group.clear();
  return OK;
}
API ncclSend(const void* from, size_t count, int type, int peer, nccl::Communicator* c, void* stream) {
  return nccl::enqueue(nccl::SEND, from, nullptr, count, type, peer, c, stream);
}
API ncclRecv(void* to, size_t count, int type, int peer, nccl::Communicator* c, void* stream) {
  return nccl::enqueue(nccl::RECEIVE, nullptr, to, count, type, peer, c, stream);
}
API ncclAllGather(const void* from, void* to, size_t count, int type, nccl::Communicator* c, void* stream) {
  return nccl::enqueue(nccl::GATHER, from, to, count, type, 0, c, stream);
}
API ncclBroadcast(const void* from, void* to, size_t count, int type, int root, nccl::Communicator* c, void* stream) {
  return nccl::enqueue(nccl::BROADCAST, from, to, count, type, root, c, stream);
}
