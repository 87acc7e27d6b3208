#include "common.h"
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define MOONTIDE_TABLE avx2_table
namespace moontide {
namespace {
#include "lanes_avx2.h"
#include "operations.h"
}  // namespace
}  // namespace moontide
#include "table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace moontide {
const Table* avx2_table() { return nullptr; }
}  // namespace moontide
#endif
