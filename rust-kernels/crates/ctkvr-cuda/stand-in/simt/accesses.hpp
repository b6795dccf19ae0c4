// Accesses that no compiler sees, told to the ledger (driver/ledger.cpp) where bytes are counted.
#pragma once
#include <cstddef>

namespace simt {
#if defined(SIMT_LEDGER)
void reads(const void* p, size_t bytes);
void writes(const void* p, size_t bytes);
#else
inline void reads(const void*, size_t) {}
#endif
}  // namespace simt
