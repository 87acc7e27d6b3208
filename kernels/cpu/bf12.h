// bf12, which `jobs.h` draws, back to the words of bf16 that it was made of.

// Where the bytes without a code begin that belong to this block.
inline const uint8_t* bf12_spare(const char* block, const bf16* scales) {
    int64_t first;
    memcpy(&first, block + BF12_CODES, 8);
    return reinterpret_cast<const uint8_t*>(scales) + first;
}

// Unpacked anew for every tile of rows: that costs less than a copy of the block.
template <class X, int R>
MOONTIDE_INLINE void bf12_tile(const X* const (&x)[R], const char* block, const bf16* scales, int64_t columns, F (&sum)[R][PANELS]) {
    const uint8_t* spare = bf12_spare(block, scales);
    const I table = Isa::bf12_table(block);
    const char* pair = block + BF12_HEAD;
    clear(sum);
    for (int64_t column = 0; column < columns; column += 2, pair += BF12_STEP) {
        I words[PANELS];
        MOONTIDE_UNROLL for (int64_t line = 0; line < BF12_STEP; line += 64) __builtin_prefetch(pair + AHEAD + line);
        spare = Isa::bf12_words(pair, table, spare, words);
        typename Steps<X>::Step step[PANELS];
        MOONTIDE_UNROLL for (int p = 0; p < PANELS; ++p) step[p] = Steps<X>::of(words[p]);
        add_step<X, R, PANELS>(sum, step, x, column);
    }
}
