// Sixteen lanes as two AVX2 registers, with fused multiply-add.
struct Isa {
    static constexpr bool DOT = false;
    static constexpr int ROWS = 3, WIDE = 2;
    struct F { __m256 a, b; };
    struct I { __m256i a, b; };
    static F zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static F set1(float x) { __m256 v = _mm256_set1_ps(x); return {v, v}; }
    static F load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
    static void store(float* p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
    static F add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
    static F sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
    static F mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
    static F div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
    static F max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
    static F min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
    static F fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
    static F round(F x) { return {_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)}; }
    static __m256 power(__m256 n) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
    }
    static F power_of_two(F n) { return {power(n.a), power(n.b)}; }
    static F zero_below(F x, float limit, F value) {
        const __m256 l = _mm256_set1_ps(limit);
        return {_mm256_andnot_ps(_mm256_cmp_ps(x.a, l, _CMP_LT_OQ), value.a),
                _mm256_andnot_ps(_mm256_cmp_ps(x.b, l, _CMP_LT_OQ), value.b)};
    }
    static F inf_above(F x, float limit, F value) {
        const __m256 l = _mm256_set1_ps(limit), inf = _mm256_set1_ps(INFINITY);
        return {_mm256_blendv_ps(value.a, inf, _mm256_cmp_ps(x.a, l, _CMP_GT_OQ)),
                _mm256_blendv_ps(value.b, inf, _mm256_cmp_ps(x.b, l, _CMP_GT_OQ))};
    }
    static I words(const void* p) {
        const __m256i* from = static_cast<const __m256i*>(p);
        return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
    }
    static F even(I w) {
        return {_mm256_castsi256_ps(_mm256_slli_epi32(w.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(w.b, 16))};
    }
    static F odd(I w) {
        const __m256i mask = _mm256_set1_epi32(int(0xFFFF0000u));
        return {_mm256_castsi256_ps(_mm256_and_si256(w.a, mask)), _mm256_castsi256_ps(_mm256_and_si256(w.b, mask))};
    }
    template <int SHIFT> static __m256 four_bits(__m256i w) {
        const __m256i bits = _mm256_and_si256(_mm256_srli_epi32(w, SHIFT), _mm256_set1_epi32(15));
        return _mm256_cvtepi32_ps(_mm256_sub_epi32(bits, _mm256_set1_epi32(8)));
    }
    template <int SHIFT> static F nibble(I w) { return {four_bits<SHIFT>(w.a), four_bits<SHIFT>(w.b)}; }
    static __m256 eight(const bf16* p) {
        const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
    }
    static F widen(const bf16* p) { return {eight(p), eight(p + 8)}; }
    static void narrow(bf16* p, F x) {
        float wide[16];
        store(wide, x);
        for (int i = 0; i < 16; ++i) p[i] = rounded(wide[i]);
    }
};
