// Entry points: device, context, streams, events, graphs. The driver API's reference says what each does.
#include "state.hpp"
#include <cstdio>
#include <map>

namespace {
int context;
thread_local void* current_context = nullptr;
std::map<void*, std::shared_ptr<Graph>> graphs;  // by handle; instances too

void* keep(std::shared_ptr<Graph> graph) {
    void* handle = graph.get();
    graphs[handle] = std::move(graph);
    return handle;
}
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
int cuInit(unsigned) { ENTER; return settings.devices > 0 ? OK : NO_DEVICE; }
int cuDriverGetVersion(int* v) { ENTER; *v = int(settings.version); return OK; }
int cuDeviceGetCount(int* n) { ENTER; *n = int(settings.devices); return OK; }
int cuDeviceGet(int* d, int i) { ENTER; *d = i; return i >= 0 && i < settings.devices ? OK : INVALID_DEVICE; }
int cuDeviceGetName(char* s, int n, int) { ENTER; std::snprintf(s, size_t(n), "CTKvr stand-in"); return OK; }
int cuDeviceTotalMem_v2(size_t* n, int) { ENTER; *n = size_t(settings.total_memory); return OK; }
int cuMemGetInfo_v2(size_t* f, size_t* t) {
    ENTER;
    *t = size_t(settings.total_memory);
    *f = *t > used_memory() ? *t - used_memory() : 0;
    return sticky;
}
int cuDeviceGetAttribute(int* v, int attribute, int) {
    ENTER;
    switch (attribute) {
        case 8: *v = 48 << 10; break;    // shared memory a block
        case 10: *v = 32; break;         // warp
        case 16: *v = 4; break;          // multiprocessors
        case 75: *v = 8; break;          // compute capability
        case 76: *v = 0; break;
        case 97: *v = 163 << 10; break;  // shared memory a block, asked for
        default: *v = 1;
    }
    return OK;
}
int cuDevicePrimaryCtxRetain(void** c, int) { ENTER; *c = &context; return OK; }
int cuDevicePrimaryCtxRelease_v2(int) { ENTER; return OK; }
int cuCtxSetCurrent(void* c) { ENTER; current_context = c; return OK; }
int cuCtxGetCurrent(void** c) { ENTER; *c = current_context; return OK; }
int cuCtxSynchronize() { ENTER; finish_all(); return sticky; }

int cuStreamCreate(void** s, unsigned) { ENTER; if (sticky) return sticky; *s = new_stream(); return OK; }
int cuStreamCreateWithPriority(void** s, unsigned, int) { ENTER; if (sticky) return sticky; *s = new_stream(); return OK; }
int cuCtxGetStreamPriorityRange(int* least, int* greatest) { ENTER; *least = 0; *greatest = -5; return OK; }
int cuStreamDestroy_v2(void* s) { ENTER; Stream* x = stream_of(s); if (!x) return INVALID_HANDLE; drop_stream(x); return OK; }
int cuStreamSynchronize(void* s) {
    ENTER;
    Stream* x = stream_of(s);
    if (!x) return INVALID_HANDLE;
    if (x->graph) { x->graph->broken = true; return CAPTURE_UNSUPPORTED; }
    if (x->last) finish(x->last);
    return sticky;
}
int cuStreamQuery(void* s) {
    ENTER;
    Stream* x = stream_of(s);
    if (!x) return INVALID_HANDLE;
    return sticky ? sticky : !x->last || x->last->done ? OK : NOT_READY;
}
int cuStreamWaitEvent(void* s, void* e, unsigned) {
    ENTER;
    Stream* x = stream_of(s);
    auto* event = static_cast<Event*>(e);
    if (!x) return INVALID_HANDLE;
    if (event->graph && !x->graph) {  // the stream joins the capture
        x->graph = event->graph;
        event->graph->streams.push_back(x);
        x->captured_last = nullptr;
    }
    if (x->graph) {
        if (event->captured && event->graph == x->graph) return push(x, [] {}, {event->captured});
        return event->at ? CAPTURE_UNSUPPORTED : OK;
    }
    return event->at && !event->at->done ? push(x, [] {}, {event->at}) : sticky;
}
int cuLaunchHostFunc(void* s, void (*f)(void*), void* p) { ENTER; return push(stream_of(s), [=] { f(p); }); }

int cuEventCreate(void** e, unsigned) { ENTER; if (sticky) return sticky; *e = new Event; return OK; }
int cuEventDestroy_v2(void* e) { ENTER; delete static_cast<Event*>(e); return OK; }
int cuEventRecord(void* e, void* s) {
    ENTER;
    Stream* x = stream_of(s);
    auto* event = static_cast<Event*>(e);
    if (int code = push(x, [] {})) return code;
    if (x->graph) { event->captured = x->captured_last; event->graph = x->graph; event->at = nullptr; }
    else { event->at = x->last; event->graph = nullptr; event->captured = nullptr; }
    return OK;
}
int cuEventSynchronize(void* e) { ENTER; auto* event = static_cast<Event*>(e); if (event->at) finish(event->at); return sticky; }
int cuEventQuery(void* e) {
    ENTER;
    auto* event = static_cast<Event*>(e);
    return sticky ? sticky : !event->at || event->at->done ? OK : NOT_READY;
}
// Nothing here has a duration: every interval is a microsecond.
int cuEventElapsedTime(float* ms, void*, void*) { ENTER; *ms = 0.001f; return sticky; }

int cuStreamBeginCapture_v2(void* s, int) {
    ENTER;
    Stream* x = stream_of(s);
    if (!x || x->graph) return INVALID_VALUE;
    x->graph = std::make_shared<Graph>();
    x->graph->streams.push_back(x);
    x->origin = true;
    x->captured_last = nullptr;
    return sticky;
}
int cuStreamIsCapturing(void* s, int* v) { ENTER; Stream* x = stream_of(s); if (!x) return INVALID_HANDLE; *v = x->graph ? 1 : 0; return OK; }
int cuStreamEndCapture(void* s, void** g) {
    ENTER;
    Stream* x = stream_of(s);
    *g = nullptr;
    if (!x || !x->graph || !x->origin) return INVALID_VALUE;
    std::shared_ptr<Graph> graph = x->graph;
    x->origin = false;
    for (Stream* member : graph->streams) { member->graph = nullptr; member->captured_last = nullptr; }
    graph->streams.clear();
    if (graph->broken) return CAPTURE_INVALIDATED;
    *g = keep(std::move(graph));
    return OK;
}
int cuGraphInstantiateWithFlags(void** e, void* g, unsigned long long) {
    ENTER;
    auto it = graphs.find(g);
    if (it == graphs.end()) return INVALID_VALUE;
    *e = keep(std::make_shared<Graph>(*it->second));
    return sticky;
}
int cuGraphUpload(void*, void*) { ENTER; return sticky; }
int cuGraphLaunch(void* e, void* s) {
    ENTER;
    auto it = graphs.find(e);
    if (it == graphs.end()) return INVALID_VALUE;
    return push(stream_of(s), [graph = it->second] { run_graph(*graph); });
}
int cuGraphExecDestroy(void* e) { ENTER; return graphs.erase(e) ? OK : INVALID_VALUE; }
int cuGraphDestroy(void* g) { ENTER; return graphs.erase(g) ? OK : INVALID_VALUE; }

int cuGetErrorName(int code, const char** s) {
    static const std::map<int, const char*> names{
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"}, {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"}, {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"}, {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"}, {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
        {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"}, {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"}};
    auto it = names.find(code);
    *s = it == names.end() ? "CUDA_ERROR_UNKNOWN" : it->second;
    return OK;
}
int cuGetErrorString(int, const char** s) { *s = report.c_str(); return OK; }
}
