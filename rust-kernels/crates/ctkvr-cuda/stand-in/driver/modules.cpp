// Entry points: modules and launches. A module's image is PTX, of which only entries and sizes of parameters are read, or a manifest:
// "ctkvr-kernels 1", then a line for each kernel: its name and the bytes of each parameter. Either must agree with the C++ signature.
#include "../simt.hpp"
#include "ledger.hpp"
#include "state.hpp"
#include <set>
#include <sstream>

namespace {
using Sizes = std::vector<size_t>;
struct Module { std::map<std::string, Sizes> entries; std::map<std::string, std::unique_ptr<Function>> functions; };
std::set<Module*> modules;

std::map<std::string, simt::Kernel>& kernels() { static std::map<std::string, simt::Kernel> all; return all; }

void read_manifest(const std::string& text, Module& module) {
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string name;
        if (!(words >> name)) continue;
        Sizes& sizes = module.entries[name];
        for (size_t n; words >> n;) sizes.push_back(n);
    }
}

/// Bytes of a parameter's declaration: ".param .u64 x", ".param .align 8 .b8 x[40]".
size_t parameter_bytes(const std::string& text) {
    size_t one = 0, many = 1;
    for (const char* type : {".u8", ".s8", ".b8", ".u16", ".s16", ".b16", ".u32", ".s32", ".b32", ".f32", ".u64", ".s64", ".b64", ".f64"}) {
        const size_t at = text.find(std::string(type) + " ");
        if (at != std::string::npos) one = size_t(std::atoi(type + 2)) / 8;
    }
    if (const size_t open = text.find('['); open != std::string::npos) many = size_t(std::atoll(text.c_str() + open + 1));
    return one * many;
}

void read_ptx(const std::string& text, Module& module) {
    for (size_t at = 0; (at = text.find(".entry ", at)) != std::string::npos;) {
        const size_t name = at + 7, open = text.find('(', name), close = text.find(')', open);
        if (close == std::string::npos) return;
        Sizes& sizes = module.entries[text.substr(name, text.find_first_of(" (\n", name) - name)];
        std::istringstream list(text.substr(open + 1, close - open - 1));
        for (std::string one; std::getline(list, one, ',');) if (one.find(".param") != std::string::npos) sizes.push_back(parameter_bytes(one + " "));
        at = close;
    }
}

std::string listed(const Sizes& sizes) {
    std::string text;
    for (size_t n : sizes) text += " " + std::to_string(n);
    return text;
}
}  // namespace

void simt::add_kernel(simt::Kernel kernel) { kernels().emplace(kernel.name, std::move(kernel)); }

#pragma GCC visibility push(default)
extern "C" {
int cuModuleLoadData(void** out, const void* image) {
    ENTER;
    if (sticky) return sticky;
    auto* bytes = static_cast<const char*>(image);
    auto module = std::make_unique<Module>();
    if (!std::strncmp(bytes, "ctkvr-kernels 1\n", 16)) read_manifest(bytes, *module);
    else if (!std::strncmp(bytes, "\x7f" "ELF", 4)) return INVALID_IMAGE;
    else read_ptx(bytes, *module);
    *out = module.get();
    modules.insert(module.release());
    return OK;
}
int cuModuleUnload(void* m) {
    ENTER;
    finish_all();
    auto it = modules.find(static_cast<Module*>(m));
    if (it == modules.end()) return INVALID_HANDLE;
    delete *it;
    modules.erase(it);
    return OK;
}
int cuModuleGetFunction(void** f, void* m, const char* name) {
    ENTER;
    auto* module = static_cast<Module*>(m);
    auto entry = module->entries.find(name);
    auto kernel = kernels().find(name);
    if (entry == module->entries.end()) return NOT_FOUND;
    if (kernel == kernels().end()) { report = std::string("no kernel ") + name + ": is KERNEL(" + name + ") missing in its .cu file?"; return NOT_FOUND; }
    if (entry->second != kernel->second.sizes) {
        report = std::string(name) + ": declared with parameters of" + listed(entry->second) + " bytes, its C++ has" + listed(kernel->second.sizes);
        return INVALID_IMAGE;
    }
    auto& function = module->functions[name];
    if (!function) function.reset(new Function{name, &kernel->second});
    *f = function.get();
    return OK;
}
int cuFuncGetAttribute(int* v, int, void*) { ENTER; *v = 0; return OK; }
int cuFuncSetAttribute(void* f, int attribute, int value) {
    ENTER;
    if (attribute == 8) {  // dynamic shared memory
        if (value > 163 << 10) return INVALID_VALUE;
        static_cast<Function*>(f)->max_dynamic_shared = std::max(value, 48 << 10);
    }
    return OK;
}
int cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void* s,
                   void** parameters, void**) {
    ENTER;
    auto* function = static_cast<Function*>(f);
    const uint64_t threads = uint64_t(bx) * by * bz;
    if (threads == 0 || threads > 1024 || bz > 64 || gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535) {
        report = function->name + ": a grid or block that no device takes";
        return INVALID_VALUE;
    }
    if (int(shared) > function->max_dynamic_shared) { report = function->name + ": more shared memory than was asked for"; return INVALID_VALUE; }
    std::vector<std::vector<unsigned char>> values;
    for (size_t i = 0; i < function->kernel->sizes.size(); i++) {
        auto* p = static_cast<unsigned char*>(parameters[i]);
        values.emplace_back(p, p + function->kernel->sizes[i]);
    }
    return push(stream_of(s), [=, name = function->name, kernel = function->kernel, values = std::move(values)]() mutable {
        if (++counts.launches == settings.lose_at_launch) return lose(int(settings.lose_code), name + ": the device was told to be lost");
        std::vector<void*> arguments;
        for (auto& v : values) arguments.push_back(v.data());
        simt::Launch how{{gx, gy, gz}, {bx, by, bz}, shared, simt::Order(settings.order >= 0 ? settings.order : draw(3)), draw(1u << 30), kernel->shared};
        say_where_it_runs(name.c_str());
        Open open;
        ledger::begin_launch(name);
        try {
            simt::launch(how, [&] { kernel->call(kernel->entry, arguments.data()); });
        } catch (const std::exception& e) {
            lose(LAUNCH_FAILED, "kernel " + name + ": " + e.what());
        }
        ledger::end_launch();
        say_where_it_runs(nullptr);
    });
}
}
