// Copies from global to shared memory that a thread starts, groups and waits for. On the host a copy happens when it is waited for, and until
// then its place holds 0xee: who reads too early sees it.
#pragma once

#ifndef CTKVR_HOST
template <int BYTES> __device__ __forceinline__ void copy_async(void* shared, const void* global) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    if constexpr (BYTES == 16) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
    else asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(to), "l"(global), "n"(BYTES) : "memory");
}

// Ends a group: the copies since the last one.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all of this thread's groups but the newest `NEWEST`.
template <int NEWEST> __device__ __forceinline__ void wait_for_copies() { asm volatile("cp.async.wait_group %0;" ::"n"(NEWEST) : "memory"); }
#else
namespace async_copies {
struct Copy { void* to; const void* from; int bytes; };
struct Thread { std::vector<Copy> open; std::vector<std::vector<Copy>> groups; };
inline Thread& mine() {
    static std::vector<Thread> threads(1024);
    return threads[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
}
}  // namespace async_copies

template <int BYTES> inline void copy_async(void* shared, const void* global) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16);
    if (reinterpret_cast<uintptr_t>(shared) % BYTES || reinterpret_cast<uintptr_t>(global) % BYTES) simt::fail("an asynchronous copy is not aligned");
    simt::reads(global, BYTES);
    std::memset(shared, 0xee, BYTES);
    async_copies::mine().open.push_back({shared, global, BYTES});
}

inline void commit_copies() {
    auto& thread = async_copies::mine();
    thread.groups.push_back(std::move(thread.open));
    thread.open.clear();
}

template <int NEWEST> inline void wait_for_copies() {
    auto& groups = async_copies::mine().groups;
    for (; groups.size() > NEWEST; groups.erase(groups.begin())) {
        for (const auto& copy : groups.front()) std::memcpy(copy.to, copy.from, copy.bytes);
    }
}
#endif
