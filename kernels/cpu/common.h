// What every instruction set's file includes before it names its instruction set: nothing here may be compiled twice.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "jobs.h"
#include "pool.h"

namespace moontide {
namespace {

// Float to bf16, to nearest even.
[[maybe_unused]] inline bf16 rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7FC0;
    return bf16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

[[maybe_unused]] inline float widened(bf16 x) {
    const uint32_t bits = uint32_t(x) << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

[[maybe_unused]] inline int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

}  // namespace
}  // namespace moontide
