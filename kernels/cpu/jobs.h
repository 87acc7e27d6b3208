// What the entry points hand to an instruction set: plain structs of pointers and sizes. No torch, no Python.
//
// Letters: T rows, N output and K input columns, H heads, E experts, D hidden size, I inner size, R latent size.
// A matrix lies in blocks of 64 output columns; a block is four panels of 16 columns (one per lane), and the input
// columns come in pairs:
//   bf16  [block][pair][panel][16 lanes][2]             scales: none
//   f32   [block][pair][panel][2][16 lanes]             scales: none
//   int4  [block][group][word][panel][16 lanes][2] u16  scales: [block][group][panel][16 lanes] bf16
//   bf12  [block]{head, [pair]{low bytes, codes}}       scales: high bytes that have no code, in order
// Nibble j of the u16 in word i belongs to column 32 * group + 2 * (4 * i + j) + (0 or 1), and holds q + 8.
// bf12 is bf16 without loss: the low byte of a weight as it is, its high byte (sign, upper exponent) as one of fifteen
// codes that the head of its block lists, or as code 0, which takes the next byte of `scales`. A head is 64 bytes: high
// bytes of codes 0 to 15, then where the block's bytes of `scales` begin (i64). A pair is 192 bytes: two times 64 low
// bytes, each eight words of panel 2i, eight of panel 2i + 1, the next eight of both, …; then 64 bytes of codes, the lower
// nibbles for the first 64 low bytes, the upper ones for the others.
// Every output is one chain over the pairs in order, whatever the number of rows: that is the whole promise.
#pragma once
#include <cstdint>

namespace moontide {

using bf16 = uint16_t;

enum Format : int64_t { BF16 = 0, F32 = 1, INT4 = 2, BF12 = 3 };

constexpr int64_t LANES = 16, PANELS = 4, BLOCK = LANES * PANELS, GROUP = 32;
constexpr int64_t BF12_HEAD = 64, BF12_CODES = 16, BF12_STEP = 3 * BLOCK;  // bytes of a head, its table, a pair
constexpr int64_t KEYS = 64;   // keys of one block of the online softmax, counted from position 0
constexpr int64_t MOST_CHOSEN = 64;  // experts per row, in a whole layer
constexpr int64_t SPAN = 512;  // keys that are summed before they are merged, counted from position 0

struct Matrices {
    const char* values;
    const bf16* scales;
    int64_t format, count;
    int64_t blocks;   // of 64 output columns, padded
    int64_t columns;  // K, padded to a pair or to a group

    int64_t block_bytes() const {
        switch (format) {
            case INT4: return columns * BLOCK / 2;
            case BF12: return BF12_HEAD + columns / 2 * BF12_STEP;
            default: return columns * BLOCK * (format == F32 ? 4 : 2);
        }
    }
    int64_t block_scales() const { return columns / GROUP * BLOCK; }
    const char* block(int64_t matrix, int64_t index) const { return values + (matrix * blocks + index) * block_bytes(); }
    const bf16* scale(int64_t matrix, int64_t index) const {
        return format == INT4 ? scales + (matrix * blocks + index) * block_scales() : scales;
    }
};

// out[t, g, :N] = x[t, g, :K] times matrix g.
struct Products {
    Matrices weight;
    const void* x;
    void* out;
    int64_t rows, outputs;
    int64_t x_row, x_matrix, out_row, out_matrix;  // strides in elements
    bool x_bf16, out_bf16, sigmoid;
};

// out[a, :D] = down(silu(gate x) * up x) of assignment a = (token, slot); gate and up panels alternate.
struct Experts {
    Matrices gate_up, down;
    const void* x;
    const int64_t* chosen;  // [T * k]
    void* inner;            // [T * k, columns of down]: room for the values in between
    void* out;
    int64_t rows, slots, outputs, x_row;
    bool x_bf16;
};

struct Attention {
    const void *query, *pool;
    const int32_t* tables;
    const int64_t *sequences, *positions;
    void* out;
    int64_t rows, heads, width, rank, page, pages, table_row;
    float scale;
    bool is_bf16;
};

struct Rows {
    const void *x, *other;  // other: weight, or cosines and sines, or weights of a sum
    const void* third;
    void* out;
    int64_t rows, slots, columns, x_row, x_slot, out_row, out_slot;
    float eps;
    bool is_bf16;
};

// As `kernels/cpu/draws.py` fills it in, and reads it.
struct DrawRow {
    const float* logits;
    int64_t count;
    const int32_t *seen, *counted, *biased, *forbidden;
    const float *counts, *biases;
    const uint8_t* mask;  // bits of the allowed ids, null: all
    int64_t seen_count, counted_count, biased_count, forbidden_count, mask_bytes;
    float repetition, presence, frequency;
    double number, top_p;
    float temperature, min_p;
    int64_t top_k;
    int64_t token;  // below 0: to be drawn, or none is allowed
    int64_t top;    // below 0: no logprobs
    double chosen;
    int64_t* top_ids;
    double* top_values;
};

// Of one instruction set.
struct Table {
    void (*products)(const Products* jobs, int64_t count);  // none needs another
    void (*experts)(const Experts&, const int64_t* order, const int64_t* first);
    void (*attention)(const Attention&);
    void (*rms_norm)(const Rows&);
    void (*rotate)(const Rows&);
    void (*weighted_sum)(const Rows&);
    void (*add)(const Rows&);
    void (*draws)(DrawRow*, int64_t);
};

const Table* generic_table();
const Table* avx2_table();
const Table* avx512_table();
const Table* avx512_bf16_table();

}  // namespace moontide
