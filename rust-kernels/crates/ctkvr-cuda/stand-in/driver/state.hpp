// What the stand-in driver knows: settings, device memory, streams, modules. Everything under one lock.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include "../simt/block.hpp"

namespace simt { struct Kernel; }

/// Numbers of CUresult that we return. cudarc's enum is closed: no others.
enum Code {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
};

/// Set by name through ctkvr_stand_in_set, or by CTKVR_STAND_IN="seed=3,eager=1".
struct Settings {
    int64_t seed = 1;            // of the order of streams and threads
    int64_t eager = 0;           // 1: everything runs at once
    int64_t order = -1;          // of threads: 0 ascending, 1 descending, 2 drawn; -1 drawn for each launch
    int64_t total_memory = int64_t(4) << 30;
    int64_t devices = 1;
    int64_t version = 12080;     // what cuDriverGetVersion says
    int64_t fail_alloc_at = 0;   // the allocation of this number (from 1) finds no memory
    int64_t lose_at_launch = 0;  // the launch of this number (from 1) loses the device when it runs
    int64_t lose_code = ILLEGAL_ADDRESS;
    std::string fail_entry;      // the entry point of this name
    int64_t fail_entry_at = 1;   // at this call (from 1)
    int64_t fail_entry_code = LAUNCH_FAILED;
};

struct Counts { int64_t calls = 0, launches = 0, allocations = 0, drains = 0; };

extern std::recursive_mutex the_lock;
extern Settings settings;
extern Counts counts;
extern int sticky;          // what every call returns once the device is lost
extern std::string report;  // why, in words

/// One call of an entry point: holds the lock, counts, and says whether the call is to fail.
struct Call {
    std::unique_lock<std::recursive_mutex> guard{the_lock};
    int failure = OK;
    explicit Call(const char* name);
};
#define ENTER                         \
    Call call_(__func__);             \
    if (call_.failure) return call_.failure

unsigned draw(unsigned n);
void lose(int code, const std::string& why);
void reset();

// --- device memory (memory.cpp)
using Address = uint64_t;
extern unsigned char* arena;                     // null before the first allocation
constexpr size_t arena_bytes = size_t(256) << 30;
int allocate(Address* out, size_t bytes);
int release(Address address);
size_t used_memory();
bool is_device(Address address, size_t bytes);   // inside one allocation
bool is_pinned(const void* host, size_t bytes);
int allocate_pinned(void** out, size_t bytes);
int release_pinned(void* host);
void release_all_memory();
void say_where_it_runs(const char* kernel);      // for the report of a fault
/// Device memory can be read and written while one of these lives.
struct Open { Open(); ~Open(); };

// --- streams (streams.cpp)
struct Op { std::function<void()> run; std::vector<std::shared_ptr<Op>> after; bool done = false; };
using OpRef = std::shared_ptr<Op>;
struct Graph;
struct Stream { std::vector<OpRef> queue; size_t head = 0; OpRef last; std::shared_ptr<Graph> graph; OpRef captured_last; bool origin = false; };
struct Event { OpRef at, captured; std::shared_ptr<Graph> graph; };
struct Node { std::function<void()> run; std::vector<int> after; };
struct Graph { std::vector<Node> nodes; std::map<Op*, int> index; std::vector<OpRef> keep; std::vector<Stream*> streams; bool broken = false; };
Stream* stream_of(void* handle);   // null if there is no such stream
Stream* new_stream();
void drop_stream(Stream* stream);
int push(Stream* stream, std::function<void()> run, std::vector<OpRef> after = {});
void finish(const OpRef& op);   // runs streams in a drawn order until it is done
void finish_all();
bool breaks_capture();          // whether something is captured; if so the capture is of no use any more
void run_graph(const Graph& graph);
void release_all_streams();

// --- modules (modules.cpp)
struct Function { std::string name; const simt::Kernel* kernel; int max_dynamic_shared = 48 << 10; };
