// Device memory: an arena that nobody can touch but while the driver runs what is queued. Each allocation ends at a page that stays
// closed, so that a kernel that runs over its end stops (to within 256 bytes, the alignment that CUDA promises).
//
// A protection key opens and closes all allocations by one register of the thread; without keys each is closed by itself, which takes most of
// the time of a step.
#include "ledger.hpp"
#include "state.hpp"
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

unsigned char* arena = nullptr;

namespace {
constexpr size_t PAGE = 4096, ALIGNMENT = 256;
constexpr unsigned char POISON = 0xee;

struct Allocation { size_t bytes; unsigned char* pages; size_t mapped; };
std::map<Address, Allocation> allocations;
std::map<Address, size_t> pinned;
std::multimap<size_t, unsigned char*> free_pages;  // by size
unsigned char* arena_top = nullptr;
size_t used = 0;
int open_depth = 0;
// Below zero: the CPU, or the system, has no keys.
int key = -1;
const char* running_kernel = nullptr;
struct sigaction previous;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

/// A fault in the arena: of host code that took a device's pointer for its own, or of a kernel out of its bounds.
void on_fault(int signal, siginfo_t* info, void* context) {
    auto* at = static_cast<unsigned char*>(info->si_addr);
    const bool in_arena = arena && at >= arena && at < arena + arena_bytes, in_kernel = open_depth > 0 && simt::current != nullptr;
    if (in_arena || in_kernel) {
        char text[256];
        int n;
        if (!in_arena) n = std::snprintf(text, sizeof(text), "stand-in: kernel %s touches %p, which is no device memory (or its stack is full)\n", running_kernel ? running_kernel : "?", static_cast<void*>(at));
        else if (open_depth > 0) n = std::snprintf(text, sizeof(text), "stand-in: kernel %s touches %p, out of the bounds of an allocation\n", running_kernel ? running_kernel : "(a copy)", static_cast<void*>(at));
        else n = std::snprintf(text, sizeof(text), "stand-in: the host touches device memory at %p\n", static_cast<void*>(at));
        if (write(2, text, size_t(n)) < 0) {}
        std::signal(SIGABRT, SIG_DFL);
        std::abort();
    }
    if (previous.sa_flags & SA_SIGINFO) previous.sa_sigaction(signal, info, context);
    else { sigaction(SIGSEGV, &previous, nullptr); }  // returns to the fault, which now does what it did without us
}

bool make_arena() {
    if (arena) return true;
    void* p = mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    arena = arena_top = static_cast<unsigned char*>(p);
#ifdef PKEY_DISABLE_ACCESS
    key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
#endif
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &previous);
    return true;
}

void protect(const Allocation& a, int how) {
    if (a.mapped) mprotect(a.pages, a.mapped, how);
}

bool has_key() {
#ifdef PKEY_DISABLE_ACCESS
    return key >= 0;
#else
    return false;
#endif
}

/// For this thread.
void turn_key([[maybe_unused]] bool open) {
#ifdef PKEY_DISABLE_ACCESS
    pkey_set(key, open ? 0 : PKEY_DISABLE_ACCESS);
#endif
}

void open_all(bool open) {
    if (has_key()) turn_key(open);
    else for (auto& [_, a] : allocations) protect(a, open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/// A new allocation's pages, closed unless all are open.
void fill(const Allocation& a) {
#ifdef PKEY_DISABLE_ACCESS
    if (has_key()) pkey_mprotect(a.pages, a.mapped, PROT_READ | PROT_WRITE, key);
#endif
    if (has_key()) turn_key(true);
    else protect(a, PROT_READ | PROT_WRITE);
    std::memset(a.pages, POISON, a.mapped);
    if (open_depth > 0) return;
    if (has_key()) turn_key(false);
    else protect(a, PROT_NONE);
}

bool inside(const std::map<Address, size_t>& ranges, Address p, size_t n) {
    auto it = ranges.upper_bound(p);
    return it != ranges.begin() && p + n <= std::prev(it)->first + std::prev(it)->second;
}
}  // namespace

void say_where_it_runs(const char* kernel) { running_kernel = kernel; }
size_t used_memory() { return used; }

Open::Open() {
    if (open_depth++ == 0) open_all(true);
}
Open::~Open() {
    if (--open_depth == 0) open_all(false);
}

int allocate(Address* out, size_t bytes) {
    if (bytes == 0) return INVALID_VALUE;
    if (++counts.allocations == settings.fail_alloc_at || int64_t(used + bytes) > settings.total_memory || !make_arena()) return OUT_OF_MEMORY;
    const size_t mapped = round_up(round_up(bytes, ALIGNMENT), PAGE), with_guard = mapped + PAGE;
    unsigned char* pages;
    if (auto it = free_pages.find(with_guard); it != free_pages.end()) { pages = it->second; free_pages.erase(it); }
    else if (arena_top + with_guard > arena + arena_bytes) return OUT_OF_MEMORY;
    else { pages = arena_top; arena_top += with_guard; }
    const Allocation a{bytes, pages, mapped};
    fill(a);
    *out = Address(pages + mapped - round_up(bytes, ALIGNMENT));
    allocations[*out] = a;
    used += bytes;
    return OK;
}

int release(Address address) {
    auto it = allocations.find(address);
    if (it == allocations.end()) return INVALID_VALUE;
    const Allocation a = it->second;
    allocations.erase(it);
    used -= a.bytes;
    ledger::freed(address, a.bytes);
    madvise(a.pages, a.mapped, MADV_DONTNEED);
    mprotect(a.pages, a.mapped, PROT_NONE);
    free_pages.emplace(a.mapped + PAGE, a.pages);
    return OK;
}

bool is_device(Address p, size_t n) {
    auto it = allocations.upper_bound(p);
    return it != allocations.begin() && p + n <= std::prev(it)->first + std::prev(it)->second.bytes;
}

int allocate_pinned(void** out, size_t bytes) {
    if (posix_memalign(out, PAGE, bytes ? bytes : 1)) return OUT_OF_MEMORY;
    std::memset(*out, POISON, bytes);
    pinned[Address(*out)] = bytes;
    return OK;
}
int release_pinned(void* host) {
    if (pinned.erase(Address(host)) == 0) return INVALID_VALUE;
    std::free(host);
    return OK;
}
bool is_pinned(const void* host, size_t bytes) { return inside(pinned, Address(host), bytes); }

void release_all_memory() {
    while (!allocations.empty()) release(allocations.begin()->first);
    while (!pinned.empty()) release_pinned(reinterpret_cast<void*>(pinned.begin()->first));
}
