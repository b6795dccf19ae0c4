// Streams run lazily, in a drawn order, only when somebody waits: whoever forgets to wait for an event is found out.
#include "state.hpp"
#include <algorithm>
#include <stdexcept>

namespace {
std::vector<Stream*> streams;  // as they were made: one seed gives one order
Stream legacy;

bool ready(const OpRef& op) {
    return std::all_of(op->after.begin(), op->after.end(), [](const OpRef& a) { return a->done; });
}

/// The next of a stream's operations, or none.
OpRef next_of(Stream* s) {
    while (s->head < s->queue.size() && s->queue[s->head]->done) s->head++;
    if (s->head == s->queue.size()) { s->queue.clear(); s->head = 0; return nullptr; }
    return s->queue[s->head];
}

void run(const OpRef& op) {
    try { if (op->run && !sticky) op->run(); } catch (const std::exception& e) { lose(LAUNCH_FAILED, e.what()); }
    op->done = true;
    op->run = nullptr;
    op->after.clear();
}

void drain(const std::function<bool()>& until) {
    if (until()) return;
    counts.drains++;
    Open open;
    while (!until()) {
        std::vector<OpRef> can;
        for (Stream* s : streams) if (OpRef op = next_of(s); op && ready(op)) can.push_back(op);
        if (can.empty()) { lose(LAUNCH_FAILED, "streams wait for each other, or for an event that nobody recorded"); return; }
        run(can[draw(unsigned(can.size()))]);
    }
}

int capture(Stream* s, std::function<void()> run, const std::vector<OpRef>& after) {
    Graph& g = *s->graph;
    auto op = std::make_shared<Op>();
    Node node{std::move(run), {}};
    if (s->captured_last) node.after.push_back(g.index[s->captured_last.get()]);
    for (auto& a : after) {
        auto it = g.index.find(a.get());
        if (it == g.index.end()) { g.broken = true; return CAPTURE_UNSUPPORTED; }
        node.after.push_back(it->second);
    }
    g.index[op.get()] = int(g.nodes.size());
    g.nodes.push_back(std::move(node));
    g.keep.push_back(op);
    s->captured_last = op;
    return OK;
}
}  // namespace

Stream* stream_of(void* handle) {
    auto* s = handle ? static_cast<Stream*>(handle) : &legacy;
    if (std::find(streams.begin(), streams.end(), s) != streams.end()) return s;
    if (handle) return nullptr;
    streams.push_back(s);
    return s;
}
Stream* new_stream() { streams.push_back(new Stream); return streams.back(); }
void drop_stream(Stream* s) {
    if (s->last) finish(s->last);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    if (s != &legacy) delete s;
}

int push(Stream* s, std::function<void()> run, std::vector<OpRef> after) {
    if (!s) return INVALID_HANDLE;
    if (sticky) return sticky;
    if (s->graph) return capture(s, std::move(run), after);
    auto op = std::make_shared<Op>();
    op->run = std::move(run);
    op->after = std::move(after);
    if (s->last && !s->last->done) op->after.push_back(s->last);
    s->last = op;
    s->queue.push_back(op);
    if (settings.eager) finish(op);
    return sticky;
}

void finish(const OpRef& op) { drain([&] { return op->done; }); }
void finish_all() {
    drain([] { return std::none_of(streams.begin(), streams.end(), [](Stream* s) { return next_of(s) != nullptr; }); });
}

bool breaks_capture() {
    bool any = false;
    for (Stream* s : streams) if (s->graph) any = s->graph->broken = true;
    return any;
}

void run_graph(const Graph& g) {
    std::vector<int> left(g.nodes.size()), can;
    std::vector<std::vector<int>> next(g.nodes.size());
    for (size_t i = 0; i < g.nodes.size(); i++) {
        left[i] = int(g.nodes[i].after.size());
        for (int a : g.nodes[i].after) next[size_t(a)].push_back(int(i));
        if (!left[i]) can.push_back(int(i));
    }
    while (!can.empty()) {
        const unsigned k = draw(unsigned(can.size()));
        const int i = can[k];
        can.erase(can.begin() + k);
        g.nodes[size_t(i)].run();
        for (int j : next[size_t(i)]) if (!--left[size_t(j)]) can.push_back(j);
    }
}

void release_all_streams() {
    for (Stream* s : streams) if (s != &legacy) delete s;
    streams.clear();
    legacy = Stream{};
}
