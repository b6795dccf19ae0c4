// Settings, counts and reports, for tests.
#include "ledger.hpp"
#include "state.hpp"
#include <cstdlib>
#include <cstring>

std::recursive_mutex the_lock;
Settings settings;
Counts counts;
int sticky = OK;
std::string report;

namespace {
uint64_t state = 0;
std::map<std::string, int64_t> calls;

const std::map<std::string, int64_t Settings::*> numbers{
    {"seed", &Settings::seed}, {"eager", &Settings::eager}, {"order", &Settings::order}, {"total_memory", &Settings::total_memory},
    {"devices", &Settings::devices}, {"version", &Settings::version}, {"fail_alloc_at", &Settings::fail_alloc_at},
    {"lose_at_launch", &Settings::lose_at_launch}, {"lose_code", &Settings::lose_code}, {"fail_entry_at", &Settings::fail_entry_at},
    {"fail_entry_code", &Settings::fail_entry_code}};

bool set(const std::string& name, const std::string& value) {
    if (name == "fail_entry") { settings.fail_entry = value; return true; }
    auto it = numbers.find(name);
    if (it == numbers.end()) return false;
    settings.*(it->second) = std::strtoll(value.c_str(), nullptr, 10);
    if (name == "seed") state = 0;
    return true;
}

/// Settings of the environment: for a process that has no test inside.
void from_environment() {
    const char* text = std::getenv("CTKVR_STAND_IN");
    for (std::string rest = text ? text : ""; !rest.empty();) {
        const size_t comma = rest.find(',');
        const std::string one = rest.substr(0, comma);
        const size_t equals = one.find('=');
        if (equals == std::string::npos || !set(one.substr(0, equals), one.substr(equals + 1))) {
            std::fprintf(stderr, "stand-in: CTKVR_STAND_IN has no setting \"%s\"\n", one.c_str());
            std::abort();
        }
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    }
}
const bool environment_was_read = (from_environment(), true);
}  // namespace

unsigned draw(unsigned n) {
    if (!state) state = 2 * uint64_t(settings.seed) + 1;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned((state >> 33) % n);
}

void lose(int code, const std::string& why) {
    if (sticky) return;
    sticky = code;
    report = why;
    if (std::getenv("CTKVR_STAND_IN_VERBOSE")) std::fprintf(stderr, "stand-in: %s\n", why.c_str());
}

Call::Call(const char* name) {
    counts.calls++;
    const int64_t n = ++calls[name];
    if (settings.fail_entry == name && settings.fail_entry_at == n) {
        failure = int(settings.fail_entry_code);
        report = std::string(name) + " was told to fail";
        if (failure >= ILLEGAL_ADDRESS && failure < CAPTURE_UNSUPPORTED) sticky = failure;
    }
}

void reset() {
    release_all_streams();
    release_all_memory();
    settings = Settings{};
    from_environment();
    counts = Counts{};
    calls.clear();
    ledger::forget();
    sticky = OK;
    report.clear();
    state = 0;
}

#pragma GCC visibility push(default)
extern "C" {
/// Returns 0 if there is no setting of this name.
int ctkvr_stand_in_set(const char* name, const char* value) {
    std::unique_lock guard(the_lock);
    return set(name, value);
}
/// A count or setting, -1 if there is none of this name: calls, launches, allocations, drains, used_memory, blocks, switches, or how often an entry point was called.
int64_t ctkvr_stand_in_get(const char* name) {
    std::unique_lock guard(the_lock);
    const std::string key = name;
    if (key == "calls") return counts.calls;
    if (key == "launches") return counts.launches;
    if (key == "allocations") return counts.allocations;
    if (key == "drains") return counts.drains;
    if (key == "used_memory") return int64_t(used_memory());
    if (key == "blocks") return int64_t(simt::totals.blocks);
    if (key == "switches") return int64_t(simt::totals.switches);
    if (auto it = numbers.find(key); it != numbers.end()) return settings.*(it->second);
    if (auto it = calls.find(key); it != calls.end()) return it->second;
    return -1;
}
/// Why the device was lost or a call refused; empty if nothing happened. Valid until the next call of the driver.
const char* ctkvr_stand_in_report() {
    std::unique_lock guard(the_lock);
    return report.c_str();
}
/// As at the start: nothing allocated, no stream, settings of the environment. Handles from before are dead.
void ctkvr_stand_in_reset() {
    std::unique_lock guard(the_lock);
    reset();
}
}
