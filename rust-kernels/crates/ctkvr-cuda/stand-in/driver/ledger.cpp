// The ledger's hooks: kernels are compiled with -fsanitize=thread and call them for every access; the library of ThreadSanitizer is not there.
#if defined(SIMT_LEDGER)
#include "ledger.hpp"
#include "../simt/accesses.hpp"
#include "state.hpp"
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <vector>

namespace ledger {
namespace {
constexpr size_t PAGE = 4096, SECTOR = 32;
// Of each byte of the arena: its kind in the low bits, and what has happened to it.
enum : unsigned char { KIND = 3, READ = 4, WRITTEN = 8, IN_BLOCK = 16, SEEN = 32, OF_LAUNCH = READ | WRITTEN };

unsigned char *flags = nullptr, *is_touched = nullptr;  // of bytes, and of pages: 1 in the launch, 2 in the block, 4 ever
std::vector<size_t> of_launch, of_block, of_all;         // pages
std::map<std::string, Counted> all;                      // by kernel
Counted* counted = nullptr;                              // of the launch that runs
uint64_t seen_block = 0;

void* reserve(size_t bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) { std::perror("stand-in: the ledger's memory"); std::abort(); }
    return p;
}

void make_flags() {
    if (flags) return;
    flags = static_cast<unsigned char*>(reserve(arena_bytes));
    is_touched = static_cast<unsigned char*>(reserve(arena_bytes / PAGE));
}

void clear(std::vector<size_t>& pages, unsigned char what, unsigned char touched) {
    for (size_t page : pages) {
        for (size_t i = page * PAGE; i < (page + 1) * PAGE; i++) flags[i] &= ~what;
        is_touched[page] &= ~touched;
    }
    pages.clear();
}

void touch(size_t page) {
    if (!(is_touched[page] & 1)) { is_touched[page] |= 1; of_launch.push_back(page); }
    if (!(is_touched[page] & 2)) { is_touched[page] |= 2; of_block.push_back(page); }
    if (!(is_touched[page] & 4)) { is_touched[page] |= 4; of_all.push_back(page); }
}

/// Whether it is device memory, and where in the arena.
bool find(const void* p, size_t& at) {
    at = size_t(static_cast<const unsigned char*>(p) - arena);
    if (!counted || at >= arena_bytes) return false;
    if (simt::totals.blocks != seen_block) {
        clear(of_block, IN_BLOCK, 2);
        seen_block = simt::totals.blocks;
    }
    return true;
}

void read_byte(size_t at) {
    unsigned char& flag = flags[at];
    const unsigned char kind = flag & KIND;
    if (kind != BOOKKEEPING) {
        counted->asked++;
        if (!(flag & IN_BLOCK)) counted->by_blocks++;
    }
    if (!(flag & OF_LAUNCH)) (kind == STORED ? counted->stored : kind == PASSED ? counted->passed : counted->bookkeeping)++;
    if (kind == STORED && !(flag & SEEN)) { counted->fresh++; flag |= SEEN; }
    // What was written first is in the cache.
    flag |= flag & WRITTEN ? IN_BLOCK : READ | IN_BLOCK;
}

void write_byte(size_t at) {
    unsigned char& flag = flags[at];
    if (!(flag & WRITTEN) && (flag & KIND) != BOOKKEEPING) counted->written++;
    flag |= WRITTEN | IN_BLOCK;
}

template <void (*OF_BYTE)(size_t)> void access(const void* p, size_t bytes) {
    size_t at;
    if (!find(p, at)) return;
    touch(at / PAGE);
    touch((at + bytes - 1) / PAGE);
    for (size_t i = at; i < at + bytes; i++) OF_BYTE(i);
}

void set_kind(uint64_t address, uint64_t bytes, Kind kind) {
    make_flags();
    for (size_t i = address - Address(arena), end = i + bytes; i < end; i++) flags[i] = kind;
}
}  // namespace

void forget() {
    all.clear();
    clear(of_all, SEEN, 4);
}

void freed(uint64_t address, uint64_t bytes) {
    if (flags) set_kind(address, bytes, PASSED);
}

void begin_launch(const std::string& kernel) {
    make_flags();
    counted = &all[kernel];
    counted->launches++;
    seen_block = simt::totals.blocks;
}

void end_launch() {
    for (size_t page : of_launch) {
        for (size_t sector = page * PAGE; sector < (page + 1) * PAGE; sector += SECTOR) {
            bool is_read = false;
            for (size_t i = sector; i < sector + SECTOR; i++) is_read |= (flags[i] & READ) && (flags[i] & KIND) != BOOKKEEPING;
            if (is_read) counted->sectors += SECTOR;
        }
    }
    clear(of_block, IN_BLOCK, 2);
    clear(of_launch, OF_LAUNCH, 1);
    counted = nullptr;
}
}  // namespace ledger

void simt::reads(const void* p, size_t bytes) { ledger::access<ledger::read_byte>(p, bytes); }
void simt::writes(const void* p, size_t bytes) { ledger::access<ledger::write_byte>(p, bytes); }

extern "C" {
#define HOOKS(bytes)                                                  \
    void __tsan_read##bytes(void* p) { simt::reads(p, bytes); }       \
    void __tsan_write##bytes(void* p) { simt::writes(p, bytes); }     \
    void __tsan_unaligned_read##bytes(void* p) { simt::reads(p, bytes); }  \
    void __tsan_unaligned_write##bytes(void* p) { simt::writes(p, bytes); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#undef HOOKS
void __tsan_read_range(void* p, size_t bytes) { simt::reads(p, bytes); }
void __tsan_write_range(void* p, size_t bytes) { simt::writes(p, bytes); }
void __tsan_init() {}
void __tsan_atomic_thread_fence(int) {}
uint8_t __tsan_atomic8_load(const uint8_t* p, int) { return *p; }  // whether a variable of the shim is made

// An atomic operation of the shim is a load, and an exchange that succeeds at once, as one thread runs at a time: a read and a write.
#define ATOMICS(bits)                                                                                            \
    uint##bits##_t __tsan_atomic##bits##_load(const uint##bits##_t* p, int) { return *p; }                       \
    int __tsan_atomic##bits##_compare_exchange_strong(uint##bits##_t* p, uint##bits##_t* expected, uint##bits##_t made, int, int) { \
        simt::reads(p, sizeof(*p));                                                                              \
        if (*p != *expected) { *expected = *p; return 0; }                                                       \
        simt::writes(p, sizeof(*p));                                                                             \
        *p = made;                                                                                               \
        return 1;                                                                                                \
    }
ATOMICS(32)
ATOMICS(64)
#undef ATOMICS

#pragma GCC visibility push(default)
/// What memory is to the launches that follow: ledger::Kind.
void ctkvr_stand_in_memory(uint64_t address, uint64_t bytes, int kind) {
    std::unique_lock guard(the_lock);
    ledger::set_kind(address, bytes, ledger::Kind(kind));
}
/// What a kernel's launches have read and written; zeros if there were none.
void ctkvr_stand_in_counted(const char* kernel, ledger::Counted* out) {
    std::unique_lock guard(the_lock);
    *out = ledger::all[kernel];
}
/// Counts begin anew.
void ctkvr_stand_in_forget() {
    std::unique_lock guard(the_lock);
    ledger::forget();
}
#pragma GCC visibility pop
}
#endif
