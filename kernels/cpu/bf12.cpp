// bf16 panels to bf12, which `jobs.h` draws: heads first, so that the caller learns how many bytes have no code.
#include <algorithm>
#include <cstring>

#include "jobs.h"
#include "pool.h"

#define MOONTIDE_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace moontide;

constexpr int64_t STEP_BYTES = 2 * BLOCK * 2;  // of a pair of columns in bf16

// The fifteen commonest high bytes behind one for code 0, which stands for none.
struct Codes {
    uint8_t bytes[BF12_CODES] = {};
    uint8_t of[256] = {};  // 0: without a code
    int64_t without = 0;

    explicit Codes(const int64_t (&counts)[256]) {
        int order[256];
        for (int i = 0; i < 256; ++i) order[i] = i, without += counts[i];
        std::stable_sort(order, order + 256, [&](int a, int b) { return counts[a] > counts[b]; });
        for (int code = 1; code < BF12_CODES; ++code) {
            bytes[code] = uint8_t(order[code - 1]);
            of[bytes[code]] = uint8_t(code);
            without -= counts[bytes[code]];
        }
    }
};

Codes codes_of(const uint8_t* plain, int64_t bytes) {
    int64_t counts[256] = {};
    for (int64_t i = 1; i < bytes; i += 2) ++counts[plain[i]];
    return Codes(counts);
}

int64_t block_bytes(int64_t columns) { return BF12_HEAD + columns / 2 * BF12_STEP; }

// 64 weights as half of a step: byte 16 * quad + b is word 8 * quad + b of the first panel, or of the second from b = 8 on.
uint8_t* pack_half(const uint8_t* words, const Codes& codes, uint8_t* low, uint8_t* nibbles, int shift, uint8_t* spare) {
    for (int64_t i = 0; i < BLOCK; ++i) {
        const uint8_t* word = words + 2 * (i % 16 / 8 * 32 + i / 16 * 8 + i % 8);
        low[i] = word[0];
        const uint8_t code = codes.of[word[1]];
        nibbles[i] |= uint8_t(code << shift);
        if (!code) *spare++ = word[1];
    }
    return spare;
}

void pack_block(const uint8_t* plain, uint8_t* to, uint8_t* spare, int64_t columns) {
    const Codes codes = codes_of(plain, columns / 2 * STEP_BYTES);
    uint8_t* step = to + BF12_HEAD;
    for (int64_t pair = 0; pair < columns / 2; ++pair, plain += STEP_BYTES, step += BF12_STEP) {
        memset(step + 2 * BLOCK, 0, BLOCK);
        spare = pack_half(plain, codes, step, step + 2 * BLOCK, 0, spare);
        spare = pack_half(plain + STEP_BYTES / 2, codes, step + BLOCK, step + 2 * BLOCK, 4, spare);
    }
}

}  // namespace

// Writes the head of every block of `to`; `first` bytes without a code lie in front of them, returns how many behind.
MOONTIDE_API int64_t moontide_bf12_heads(const uint8_t* plain, uint8_t* to, int64_t blocks, int64_t columns, int64_t first) {
    const int64_t bytes = columns / 2 * STEP_BYTES;
    for_each_item(blocks, [&](int64_t block) {
        const Codes codes = codes_of(plain + block * bytes, bytes);
        uint8_t* head = to + block * block_bytes(columns);
        memset(head, 0, BF12_HEAD);
        memcpy(head, codes.bytes, BF12_CODES);
        memcpy(head + BF12_CODES, &codes.without, 8);
    });
    int64_t without;
    for (int64_t block = 0; block < blocks; ++block, first += without) {
        uint8_t* place = to + block * block_bytes(columns) + BF12_CODES;
        memcpy(&without, place, 8);
        memcpy(place, &first, 8);
    }
    return first;
}

// Blocks whose heads are written; `spare` is for their bytes without a code, `first` lie in front of these.
MOONTIDE_API void moontide_bf12_pack(const uint8_t* plain, uint8_t* to, uint8_t* spare, int64_t blocks, int64_t columns,
                                     int64_t first) {
    for_each_item(blocks, [&](int64_t block) {
        uint8_t* place = to + block * block_bytes(columns);
        int64_t own;
        memcpy(&own, place + BF12_CODES, 8);
        pack_block(plain + block * columns / 2 * STEP_BYTES, place, spare + (own - first), columns);
    });
}
