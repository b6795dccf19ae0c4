// The ledger: bytes that a launch reads and writes of device memory. Each byte counts once a launch, which is what memory has to deliver; what a
// launch has written before it reads it, it finds in the cache. Beside that, how often blocks and threads ask for the same.
#pragma once
#include <cstdint>
#include <string>

namespace ledger {
/// What memory is to a launch. A test says it of the spans that it gives: `Memory` of src/stand_in.rs has the same numbers.
enum Kind : unsigned char { PASSED, STORED, BOOKKEEPING };

struct Counted {
    int64_t launches = 0;
    int64_t stored = 0, passed = 0, bookkeeping = 0;  // read, each byte once a launch
    int64_t written = 0;                               // the same; bookkeeping is not counted here
    int64_t by_blocks = 0;                             // read, each byte once a block, without bookkeeping
    int64_t asked = 0;                                 // read, as often as threads ask, without bookkeeping
    int64_t sectors = 0;                               // read, each sector of 32 bytes once a launch, without bookkeeping
    int64_t fresh = 0;                                 // of what is stored, what no launch since `forget` had read before
};

#if defined(SIMT_LEDGER)
void begin_launch(const std::string& kernel);
void end_launch();
/// Of memory that is freed: nothing is known of it any more.
void freed(uint64_t address, uint64_t bytes);
/// Counts begin anew.
void forget();
#else
inline void begin_launch(const std::string&) {}
inline void end_launch() {}
inline void freed(uint64_t, uint64_t) {}
inline void forget() {}
#endif
}  // namespace ledger
