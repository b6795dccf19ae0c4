// Entry points: memory and copies. Ranges of device memory are checked; memory that is not pinned is staged at the call, as the driver does.
#include "state.hpp"
#include <cstring>

namespace {
/// Of host memory that is not pinned a graph would keep the address alone.
int refuse_in_capture(Stream* s, const char* what) {
    if (!s) return INVALID_HANDLE;
    if (!s->graph) return OK;
    s->graph->broken = true;
    report = std::string(what) + " of memory that is not pinned, in a capture";
    return CAPTURE_UNSUPPORTED;
}
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int cuMemAlloc_v2(Address* p, size_t n) {
    ENTER;
    if (breaks_capture()) { report = "memory is allocated in a capture"; return CAPTURE_UNSUPPORTED; }
    return sticky ? sticky : allocate(p, n);
}
int cuMemFree_v2(Address p) {
    ENTER;
    if (breaks_capture()) { report = "memory is freed in a capture"; return CAPTURE_UNSUPPORTED; }
    finish_all();
    return release(p);
}
int cuMemAllocAsync(Address* p, size_t n, void*) { ENTER; if (sticky) return sticky; return allocate(p, n); }
int cuMemFreeAsync(Address p, void* s) { ENTER; return push(stream_of(s), [p] { release(p); }); }
int cuMemHostAlloc(void** p, size_t n, unsigned) { ENTER; if (sticky) return sticky; return allocate_pinned(p, n); }
int cuMemFreeHost(void* p) { ENTER; finish_all(); return release_pinned(p); }

int cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t n, void* s) {
    ENTER;
    if (!is_device(to, n)) { report = "a copy to memory that is not the device's"; return INVALID_VALUE; }
    if (is_pinned(from, n)) return push(stream_of(s), [=] { std::memcpy(reinterpret_cast<void*>(to), from, n); });
    if (int code = refuse_in_capture(stream_of(s), "a copy")) return code;
    auto* bytes = static_cast<const unsigned char*>(from);
    auto staged = std::make_shared<std::vector<unsigned char>>(bytes, bytes + n);
    return push(stream_of(s), [=] { std::memcpy(reinterpret_cast<void*>(to), staged->data(), n); });
}
int cuMemcpyDtoHAsync_v2(void* to, Address from, size_t n, void* s) {
    ENTER;
    if (!is_device(from, n)) { report = "a copy from memory that is not the device's"; return INVALID_VALUE; }
    Stream* x = stream_of(s);
    if (int code = is_pinned(to, n) ? OK : refuse_in_capture(x, "a copy")) return code;
    if (int code = push(x, [=] { std::memcpy(to, reinterpret_cast<void*>(from), n); })) return code;
    if (!is_pinned(to, n)) finish(x->last);
    return sticky;
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t n, void* s) {
    ENTER;
    if (!is_device(to, n) || !is_device(from, n)) { report = "a copy of memory that is not the device's"; return INVALID_VALUE; }
    return push(stream_of(s), [=] { std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), n); });
}
int cuMemsetD8Async(Address to, unsigned char v, size_t n, void* s) {
    ENTER;
    if (!is_device(to, n)) { report = "a fill of memory that is not the device's"; return INVALID_VALUE; }
    return push(stream_of(s), [=] { std::memset(reinterpret_cast<void*>(to), v, n); });
}
}
