// Sixteen lanes as one AVX-512 register; with MOONTIDE_DOT also products of bf16 pairs (vdpbf16ps).
struct Isa {
    static constexpr int ROWS = 6, WIDE = 4;
    using F = __m512;
    using I = __m512i;
    static F zero() { return _mm512_setzero_ps(); }
    static F set1(float x) { return _mm512_set1_ps(x); }
    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
    static F add(F a, F b) { return _mm512_add_ps(a, b); }
    static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F div(F a, F b) { return _mm512_div_ps(a, b); }
    static F max(F a, F b) { return _mm512_max_ps(a, b); }
    static F min(F a, F b) { return _mm512_min_ps(a, b); }
    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F round(F a) { return _mm512_roundscale_ps(a, 8); }
    static F power_of_two(F n) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
    }
    static F zero_below(F x, float limit, F value) {
        return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_LT_OQ), _mm512_setzero_ps());
    }
    static F inf_above(F x, float limit, F value) {
        return _mm512_mask_mov_ps(value, _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_GT_OQ), _mm512_set1_ps(INFINITY));
    }
    static I words(const void* p) { return _mm512_loadu_si512(p); }
    static F even(I w) { return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16)); }
    static F odd(I w) { return _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32(int(0xFFFF0000u)))); }
    template <int SHIFT> static F nibble(I w) {
        const I bits = _mm512_and_si512(_mm512_srli_epi32(w, SHIFT), _mm512_set1_epi32(15));
        return _mm512_cvtepi32_ps(_mm512_sub_epi32(bits, _mm512_set1_epi32(8)));
    }
    static F widen(const bf16* p) {
        const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
    }
    // Round to nearest even as bits, so that subnormal numbers survive (vcvtneps2bf16 would flush them).
    static I high_halves(F x) {
        const I bits = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
        const I tie = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        const I up = _mm512_add_epi32(bits, _mm512_add_epi32(tie, _mm512_set1_epi32(0x7FFF)));
        return _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7FC00000));
    }
    static void narrow(bf16* p, F x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(high_halves(x), 16)));
    }
#ifdef MOONTIDE_BF12
    static I bf12_table(const char* head) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(head)));
    }
    // The words of a pair, by panel; returns the first byte of `spare` that was not taken. Of `spare` 64 bytes are read.
    // Always inlined: a call would put every sum of the caller into memory.
    static inline __attribute__((always_inline)) const uint8_t* bf12_words(const char* pair, I table, const uint8_t* spare,
                                                                           I (&words)[4]) {
        const I codes = _mm512_loadu_si512(pair + 128), nibble = _mm512_set1_epi8(15);
        const I first = _mm512_and_si512(codes, nibble), second = _mm512_and_si512(_mm512_srli_epi16(codes, 4), nibble);
        I high[2] = {_mm512_shuffle_epi8(table, first), _mm512_shuffle_epi8(table, second)};
        const I least = _mm512_min_epu8(first, second);
        if (__builtin_expect(_mm512_testn_epi8_mask(least, least) != 0, 0)) {
            const __mmask64 one = _mm512_testn_epi8_mask(first, first), two = _mm512_testn_epi8_mask(second, second);
            high[0] = _mm512_mask_expand_epi8(high[0], one, _mm512_loadu_si512(spare));
            spare += __builtin_popcountll(one);
            high[1] = _mm512_mask_expand_epi8(high[1], two, _mm512_loadu_si512(spare));
            spare += __builtin_popcountll(two);
        }
        for (int i = 0; i < 2; ++i) {
            const I low = _mm512_loadu_si512(pair + 64 * i);
            words[2 * i] = _mm512_unpacklo_epi8(low, high[i]);
            words[2 * i + 1] = _mm512_unpackhi_epi8(low, high[i]);
        }
        return spare;
    }
#endif
#ifdef MOONTIDE_DOT
    static constexpr bool DOT = true;
    static F dot(F sum, I w, const bf16* x) {
        int32_t pair;
        memcpy(&pair, x, 4);
        return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
    }
    // Four bits to bf16 by table: the permutation looks at the low five bits, and both halves of the table are alike.
    static I nibble_table() {
        static const bf16 values[32] = {
            0xC100, 0xC0E0, 0xC0C0, 0xC0A0, 0xC080, 0xC040, 0xC000, 0xBF80, 0x0000, 0x3F80, 0x4000, 0x4040,
            0x4080, 0x40A0, 0x40C0, 0x40E0, 0xC100, 0xC0E0, 0xC0C0, 0xC0A0, 0xC080, 0xC040, 0xC000, 0xBF80,
            0x0000, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0, 0x40C0, 0x40E0};
        return _mm512_loadu_si512(values);
    }
    template <int SHIFT> static I nibble_pair(I w, I table) {
        return _mm512_permutexvar_epi16(_mm512_srli_epi16(w, SHIFT), table);
    }
    static I pairs(F first, F second) {
        return _mm512_or_si512(_mm512_srli_epi32(high_halves(first), 16),
                               _mm512_and_si512(high_halves(second), _mm512_set1_epi32(int(0xFFFF0000u))));
    }
    // Lane i: (a[i], b[i]), of the first `count` elements.
    static I interleaved(const bf16* a, const bf16* b, int64_t count) {
        const __mmask16 mask = count >= 16 ? __mmask16(0xFFFF) : __mmask16((1u << count) - 1);
        const I low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, a));
        const I high = b ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, b)) : _mm512_setzero_si512();
        return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
    }
#else
    static constexpr bool DOT = false;
#endif
};
