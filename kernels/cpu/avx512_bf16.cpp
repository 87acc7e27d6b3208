#include "common.h"
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2,popcnt,avx512bf16"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi2,popcnt,avx512bf16")
#endif
#define MOONTIDE_TABLE avx512_bf16_table
#define MOONTIDE_BF12
#define MOONTIDE_DOT
namespace moontide {
namespace {
#include "lanes_avx512.h"
#include "operations.h"
}  // namespace
}  // namespace moontide
#include "table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
namespace moontide {
const Table* avx512_bf16_table() { return nullptr; }
}  // namespace moontide
#endif
