// A block of threads: barriers, warps, launches. A warp runs ahead of the others as far as it can, in ascending, descending or drawn
// order: whoever relies on another's being slow or fast is found out.
#pragma once
#include "fiber.hpp"
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace simt {
/// Lanes that meet at one operation of a warp, kept under the lowest lane of their mask: lanes of other masks may meet elsewhere meanwhile.
struct Meeting { unsigned arrived = 0, mask = 0, generation = 0; int line = 0; };

struct Warp {
    Meeting meetings[32];
    unsigned exited = 0;      // lanes that have returned, or never were
    uint64_t given[32];       // what a lane brings,
    unsigned from[32];        // whose it asks for,
    uint64_t taken[32];       // and what it gets: written by the last who comes, so nobody is overwritten who has not read yet
    unsigned tsan;
};

struct Block {
    dim3 grid, size;
    uint3 index{};
    unsigned num = 0, alive = 0, arrived = 0, generation = 0;
    int line = 0;
    int predicates = 0, count = 0;  // of __syncthreads_count
    std::exception_ptr error;
    unsigned char* dynamic = nullptr;
    unsigned tsan;
};
extern Block block;

enum class Order { Ascending, Descending, Drawn };
struct Totals { uint64_t blocks = 0, switches = 0; };
extern Totals totals;

/// Where static shared memory of a kernel's file lies, to be poisoned.
struct SharedMemory { unsigned char *begin, *end; };

/// How a launch runs. `seed`: of the drawn order.
struct Launch { dim3 grid, size; size_t shared_bytes = 0; Order order = Order::Ascending; uint64_t seed = 1; SharedMemory shared{}; };

/// Runs `body` for every thread. Throws what a thread throws, and the reports of barriers and warps.
void launch(const Launch& how, const std::function<void()>& body);

[[noreturn]] void fail(const std::string& what);
std::string where(const char* file, int line);

/// __syncthreads; returns how many threads brought a true `predicate`.
int sync_block(int predicate, const char* file, int line);
/// The lanes of `mask` meet. The last of them calls `last(context)` before anybody goes on. `orders`: whether it orders memory
/// (__syncwarp does, shuffles do not).
void meet(unsigned mask, bool orders, void (*last)(Warp&, unsigned mask, void* context), void* context, const char* file, int line);

inline unsigned lane() { return current->lane(); }
}  // namespace simt
