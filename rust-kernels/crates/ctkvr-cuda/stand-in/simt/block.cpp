#include "block.hpp"
#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace simt {
Block block;
Totals totals;

namespace {
struct Abandon {};  // thrown in the other threads when one has failed
std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<unsigned> places;  // threads in the order in which they start
const std::function<void()>* body = nullptr;

#if defined(SIMT_TSAN)
char begun, ended;  // two: a thread that ends orders nothing for one that begins after it
#endif

/// What nobody may rely on. Not zero, not a small number, and no NaN as f32: those would often do.
constexpr unsigned char POISON = 0xee;

void leave_ring(Fiber* f) {
    f->prev->next = f->next; f->next->prev = f->prev;
    f->warp_prev->warp_next = f->warp_next; f->warp_next->warp_prev = f->warp_prev;
}

void report_deadlock() {
    std::string what = "deadlock:";
    Fiber* f = current;
    unsigned shown = 0;
    do {
        what += " thread " + std::to_string(f->linear) + " waits at " + where(f->waits_at, f->waits_line) + ",";
        f = f->next;
    } while (f != current && ++shown < 4);
    what.pop_back();
    fail(what);
}

/// Others run until the generation changes.
void wait_until(const unsigned& generation, unsigned seen, bool in_warp, const char* file, int line) {
    current->waits_at = file; current->waits_line = line;
    unsigned stuck = 0;
    while (*const_cast<const volatile unsigned*>(&generation) == seen) {
        if (block.error) throw Abandon{};
        if (current->next == current || ++stuck > 2 * block.num + 64) {
            bool all_wait = true;
            for (Fiber* f = current->next; f != current; f = f->next) all_wait &= f->waits_at != nullptr;
            if (all_wait) report_deadlock();
        }
        Fiber* mate = current->warp_next;
        totals.switches++;
        switch_to(in_warp && mate != current && stuck < 40 ? mate : current->next);
    }
    if (block.error) throw Abandon{};
    current->waits_at = nullptr;
}

void release_block() {
    block.arrived = 0; block.count = block.predicates; block.predicates = 0; block.generation++;
}

void entry() {
#if defined(SIMT_ASAN)
    const void* from; size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &from, &size);
    if (!home_bottom) { home_bottom = from; home_size = size; }  // the first fiber is entered from home
#endif
#if defined(SIMT_TSAN)
    __tsan_acquire(&begun);
#endif
    try { (*body)(); } catch (Abandon&) {} catch (...) { if (!block.error) block.error = std::current_exception(); }
#if defined(SIMT_TSAN)
    __tsan_release(&ended);
#endif
    Fiber* me = current;
    me->warp->exited |= 1u << me->lane();
    block.alive--;
    if (block.error) {
        block.generation++;
        for (auto& w : warps) for (auto& m : w.meetings) m.generation++;
    } else if (block.alive > 0 && block.arrived == block.alive) release_block();
    // Its warp goes on first: it is the one that runs ahead.
    Fiber* next = block.alive == 0 ? &home : me->warp_next != me ? me->warp_next : me->next;
    leave_ring(me);
    totals.switches++;
    switch_to(next);
    std::abort();
}

/// Threads in the order in which they start: lanes of a warp are neighbours.
void place(const Launch& how, unsigned num) {
    places.resize(num);
    std::iota(places.begin(), places.end(), 0u);
    if (how.order == Order::Descending) std::reverse(places.begin(), places.end());
    if (how.order != Order::Drawn) return;
    uint64_t state = 2 * how.seed + 1;
    auto draw = [&](size_t n) { state = state * 6364136223846793005ull + 1442695040888963407ull; return (state >> 33) % n; };
    std::vector<unsigned> order((num + 31) / 32);
    std::iota(order.begin(), order.end(), 0u);
    auto shuffle = [&](auto begin, auto end) { for (size_t i = end - begin; i > 1; i--) std::swap(begin[i - 1], begin[draw(i)]); };
    shuffle(order.begin(), order.end());
    places.clear();
    for (unsigned w : order) {
        size_t from = places.size();
        for (unsigned t = w * 32; t < std::min(num, w * 32 + 32); t++) places.push_back(t);
        shuffle(places.begin() + from, places.end());
    }
}

void run_block() {
    const unsigned num = block.num;
    block.alive = num; block.arrived = 0; block.predicates = 0; block.error = nullptr;
    for (Warp& w : warps) { w.exited = 0; for (Meeting& m : w.meetings) m.arrived = 0; }
    if (num % 32) warps.back().exited = ~0u << (num % 32);  // lanes that do not exist count as returned
    for (unsigned i = 0, first = 0; i < num; i++) {
        const unsigned t = places[i];
        Fiber& f = fibers[t];
        f.linear = t; f.warp = &warps[t / 32]; f.waits_at = nullptr;
        f.index = {t % block.size.x, t / block.size.x % block.size.y, t / (block.size.x * block.size.y)};
        f.next = &fibers[places[i + 1 == num ? 0 : i + 1]]; f.prev = &fibers[places[i == 0 ? num - 1 : i - 1]];
        if (t / 32 != places[first] / 32) first = i;
        Fiber& head = fibers[places[first]];
        if (i == first) f.warp_next = f.warp_prev = &f;
        else { f.warp_next = &head; f.warp_prev = head.warp_prev; head.warp_prev->warp_next = &f; head.warp_prev = &f; }
        prepare(f, entry);
#if defined(SIMT_TSAN)
        if (!f.tsan) f.tsan = __tsan_create_fiber(0);  // slow, and kept: blocks are ordered anyway
#endif
    }
    current = &home;
#if defined(SIMT_TSAN)
    home.tsan = __tsan_get_current_fiber();
    __tsan_release(&begun);  // what the host did before is seen by all
#endif
    switch_to(&fibers[places[0]]);
    current = nullptr;
#if defined(SIMT_TSAN)
    __tsan_acquire(&ended);
#endif
    totals.blocks++;
    if (block.error) std::rethrow_exception(block.error);
}
}  // namespace

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error(what); }
std::string where(const char* file, int line) {
    const char* name = std::strrchr(file, '/');
    return std::string(name ? name + 1 : file) + ":" + std::to_string(line);
}

int sync_block(int predicate, const char* file, int line) {
    if (block.arrived == 0) block.line = line;
    else if (block.line != line) fail("threads meet at different barriers: " + where(file, block.line) + " and " + where(file, line));
#if defined(SIMT_TSAN)
    __tsan_release(&block.tsan);
#endif
    const unsigned seen = block.generation;
    block.predicates += predicate != 0;
    if (++block.arrived == block.alive) release_block();
    else wait_until(block.generation, seen, false, file, line);
#if defined(SIMT_TSAN)
    __tsan_acquire(&block.tsan);
#endif
    return block.count;
}

void meet(unsigned mask, bool orders, void (*last)(Warp&, unsigned, void*), void* context, const char* file, int line) {
    Warp& w = *current->warp;
    if (!(mask >> lane() & 1)) fail("a lane outside the mask at " + where(file, line));
    if (w.exited & mask) fail("the mask names a lane that has returned, at " + where(file, line));
    Meeting& m = w.meetings[std::countr_zero(mask)];
    if (m.arrived == 0) { m.mask = mask; m.line = line; }
    else if (m.mask != mask || m.line != line)
        fail("lanes of a warp meet with different masks or at different lines: " + where(file, m.line) + " and " + where(file, line));
#if defined(SIMT_TSAN)
    if (orders) __tsan_release(&w.tsan);
#endif
    const unsigned seen = m.generation;
    m.arrived |= 1u << lane();
    if (m.arrived == mask) { if (last) last(w, mask, context); m.arrived = 0; m.generation++; }
    else wait_until(m.generation, seen, true, file, line);
#if defined(SIMT_TSAN)
    if (orders) __tsan_acquire(&w.tsan);
#endif
    (void)orders;
}

void launch(const Launch& how, const std::function<void()>& run) {
    body = &run;
    block.grid = how.grid; block.size = how.size;
    block.num = how.size.x * how.size.y * how.size.z;
    if (fibers.size() < block.num) fibers.resize(block.num);
    warps.resize((block.num + 31) / 32);
    for (Warp& w : warps) for (Meeting& m : w.meetings) m.arrived = 0;
    place(how, block.num);
    std::vector<unsigned char> dynamic(how.shared_bytes + 128);
    block.dynamic = reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(dynamic.data()) + 127) & ~uintptr_t(127));
    const uint64_t n = uint64_t(how.grid.x) * how.grid.y * how.grid.z;
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t k = how.order == Order::Descending ? n - 1 - i : i;
        block.index = {unsigned(k % how.grid.x), unsigned(k / how.grid.x % how.grid.y), unsigned(k / (uint64_t(how.grid.x) * how.grid.y))};
        std::memset(block.dynamic, POISON, how.shared_bytes);
#if !defined(SIMT_ASAN)  // between variables it has its red zones
        if (how.shared.begin) std::memset(how.shared.begin, POISON, how.shared.end - how.shared.begin);
#endif
        run_block();
    }
}
}  // namespace simt
