// The next token of a row and its logprobs: what `kernels/reference/draws.py` says, without sorting a vocabulary.

constexpr int BUCKET_SHIFT = 17;  // 64 buckets between a weight and its double
constexpr int64_t LAST_BUCKET = 0x3F800000 >> BUCKET_SHIFT;  // weight 1 is in bucket 0, weight 0 in this one
constexpr int64_t LOOK = 64;      // scores of which only the largest is looked at first
constexpr double TAIL_SLACK = 0.5;

struct Ranked {
    float score;
    int32_t id;
};

inline bool before(const Ranked& a, const Ranked& b) { return a.score > b.score || (a.score == b.score && a.id < b.id); }

inline Ranked ranked_at(const float* scores, int64_t id) {
    return {scores[id] == scores[id] ? scores[id] : -INFINITY, int32_t(id)};
}

inline float largest(const float* x, int64_t count) {
    F most = Isa::set1(-INFINITY);
    int64_t k = 0;
    for (; k + LANES <= count; k += LANES) most = Isa::max(Isa::load(x + k), most);  // in this order a NaN is passed by
    float lanes[LANES], found = -INFINITY;
    Isa::store(lanes, most);
    for (float lane : lanes) found = lane > found ? lane : found;
    for (; k < count; ++k) found = x[k] > found ? x[k] : found;
    return found;
}

// e^((x - top) / temperature) of every element, and their sum.
inline double weigh(const float* x, int64_t count, float top, float temperature, float* weights) {
    const F from = Isa::set1(top), divisor = Isa::set1(temperature);
    for (int64_t k = 0; k < count; k += LANES) {
        float tail[LANES];
        const float* place = x + k;
        if (k + LANES > count) {
            for (int64_t i = 0; i < LANES; ++i) tail[i] = k + i < count ? x[k + i] : -INFINITY;
            place = tail;
        }
        Isa::store(weights + k, exponential(Isa::div(Isa::sub(Isa::load(place), from), divisor)));
    }
    double parts[8] = {};
    for (int64_t k = 0; k < count / 8 * 8; k += 8)
        for (int i = 0; i < 8; ++i) parts[i] += double(weights[k + i]);
    for (int64_t k = count / 8 * 8; k < count; ++k) parts[0] += double(weights[k]);
    double sum = 0.0;
    for (double part : parts) sum += part;
    return sum;
}

class Drawing {
  public:
    explicit Drawing(DrawRow& row) : row_(row), count_(row.count) {
        const int64_t padded = (count_ + LANES - 1) / LANES * LANES, buckets = LAST_BUCKET + 1;
        char* place = static_cast<char*>(room(DRAWS, padded * 10 + count_ * sizeof(Ranked) + 2 * buckets * 8 + 192));
        sums_ = reinterpret_cast<double*>(place);
        weights_ = reinterpret_cast<float*>(place + 2 * buckets * 8);
        changed_ = weights_ + padded;
        list_ = reinterpret_cast<Ranked*>(changed_ + padded);
        buckets_ = reinterpret_cast<uint16_t*>(list_ + count_);
    }

    void run() {
        if (row_.token < 0) row_.token = choose();
        if (row_.token >= 0 && row_.top >= 0) logprobs();
    }

  private:
    DrawRow& row_;
    const int64_t count_;
    const float* scores_ = nullptr;  // what is drawn from
    double* sums_;
    float* changed_;
    float* weights_;
    Ranked* list_;
    uint16_t* buckets_;

    int64_t choose() {
        change();
        const float top = largest(scores_, count_);
        if (!(top > -INFINITY)) return -1;
        if (row_.temperature <= 0.0f) return first_of(top);
        double whole = weigh(scores_, count_, top, row_.temperature, weights_);
        if (row_.top_k > 0 && row_.top_k < count_) return among(rank(scores_, row_.top_k));
        fill(whole);
        double mass = 0.0;
        for (int64_t b = 0; b <= LAST_BUCKET; ++b) mass += sums_[b];
        const double total = mass;
        if (row_.top_p < 1.0) find(row_.top_p * whole, total, false, mass);
        double end;
        return find(std::fmin(row_.number * mass, std::nextafter(mass, 0.0)), total, true, end);
    }

    void change() {
        scores_ = row_.logits;
        if (!(row_.seen_count || row_.counted_count || row_.biased_count || row_.forbidden_count || row_.mask)) return;
        memcpy(changed_, row_.logits, count_ * 4);
        scores_ = changed_;
        for (int64_t i = 0; i < row_.seen_count; ++i) {
            float& score = changed_[row_.seen[i]];
            score = score > 0.0f ? score / row_.repetition : score * row_.repetition;
        }
        for (int64_t i = 0; i < row_.counted_count; ++i) {
            float& score = changed_[row_.counted[i]];
            score = (score - row_.presence) - row_.frequency * row_.counts[i];
        }
        for (int64_t i = 0; i < row_.biased_count; ++i) changed_[row_.biased[i]] += row_.biases[i];
        for (int64_t i = 0; i < row_.forbidden_count; ++i) changed_[row_.forbidden[i]] = -INFINITY;
        if (!row_.mask) return;
        for (int64_t byte = 0; byte * 8 < count_; ++byte) {
            const uint8_t allowed = byte < row_.mask_bytes ? row_.mask[byte] : 0;
            if (allowed == 255) continue;
            for (int64_t id = byte * 8; id < byte * 8 + 8 && id < count_; ++id)
                if (!(allowed >> (id - byte * 8) & 1)) changed_[id] = -INFINITY;
        }
    }

    int64_t first_of(float top) const {
        for (int64_t from = 0; from < count_; from += LOOK) {
            const int64_t end = from + LOOK < count_ ? from + LOOK : count_;
            if (largest(scores_ + from, end - from) != top) continue;
            for (int64_t id = from; id < end; ++id)
                if (scores_[id] == top) return id;
        }
        return 0;
    }

    // Weights into buckets by their first bits; those that cannot be chosen count as nothing.
    void fill(double whole) {
        const double left_out = (1.0 - row_.top_p) * whole * TAIL_SLACK / double(count_);
        const float least = left_out > row_.min_p ? float(left_out) : row_.min_p;
        double* odd = sums_ + LAST_BUCKET + 1;  // two sums each: neighbours do not wait for one another
        memset(sums_, 0, 2 * (LAST_BUCKET + 1) * 8);
        sort_out(least);
        int32_t* kept = reinterpret_cast<int32_t*>(list_);  // without branches: most are left out, at no regular places
        int64_t count = 0;
        for (int64_t k = 0; k < count_; ++k) {
            kept[count] = int32_t(k);
            count += buckets_[k] != LAST_BUCKET;
        }
        for (int64_t i = 0; i < count; ++i) {
            const int64_t k = kept[i];
            (k & 1 ? odd : sums_)[buckets_[k]] += double(weights_[k]);
        }
        for (int64_t b = 0; b <= LAST_BUCKET; ++b) sums_[b] += odd[b];
    }

    // Each weight's bucket, and 0 for weights under `least`: one loop without a choice in it, for all lanes at once.
    void sort_out(float least) {
        float* __restrict weights = weights_;
        uint16_t* __restrict buckets = buckets_;
        for (int64_t k = 0; k < count_; ++k) {
            const float weight = weights[k] >= least && weights[k] > 0.0f ? weights[k] : 0.0f;
            int32_t bits;
            memcpy(&bits, &weight, 4);
            weights[k] = weight;
            buckets[k] = uint16_t(LAST_BUCKET - (bits >> BUCKET_SHIFT));
        }
    }

    // The first token, likeliest first, whose end is at least (or `beyond`) `length`, and its end.
    int64_t find(double length, double total, bool beyond, double& end) {
        length = std::fmin(length, std::nextafter(total, 0.0));
        double reached = 0.0;
        int64_t bucket = 0;
        for (;; ++bucket) {
            const double next = reached + sums_[bucket];
            if (bucket == LAST_BUCKET || (beyond ? next > length : next >= length)) break;
            reached = next;
        }
        const int64_t found = collect(uint16_t(bucket));
        if (!found) return first_of(largest(scores_, count_));
        std::sort(list_, list_ + found, before);
        end = reached;
        for (int64_t i = 0;; ++i) {
            end += double(weights_[list_[i].id]);
            if (i == found - 1 || (beyond ? end > length : end >= length)) return list_[i].id;
        }
    }

    // The tokens of a bucket to the list.
    int64_t collect(uint16_t bucket) {
        int64_t found = 0;
        for (int64_t from = 0; from < count_; from += LOOK) {
            const int64_t end = from + LOOK < count_ ? from + LOOK : count_;
            uint16_t any = 0;
            for (int64_t k = from; k < end; ++k) any |= uint16_t(buckets_[k] == bucket);
            if (!any) continue;
            for (int64_t k = from; k < end; ++k)
                if (buckets_[k] == bucket) list_[found++] = ranked_at(scores_, k);
        }
        return found;
    }

    // The same over the first `kept` of the list, which is in order.
    int64_t among(int64_t kept) const {
        double whole = 0.0, mass = 0.0, end = 0.0;
        for (int64_t i = 0; i < kept; ++i) whole += double(weights_[list_[i].id]);
        int64_t last = 0;
        for (; last < kept; ++last) {
            const float weight = weights_[list_[last].id];
            if (!(weight >= row_.min_p && weight > 0.0f)) break;
            mass += double(weight);
            if (row_.top_p < 1.0 && mass >= row_.top_p * whole) { ++last; break; }
        }
        const double length = std::fmin(row_.number * mass, std::nextafter(mass, 0.0));
        for (int64_t i = 0; i < last; ++i) {
            end += double(weights_[list_[i].id]);
            if (end > length) return list_[i].id;
        }
        return list_[last ? last - 1 : 0].id;
    }

    // The ids of the `most` largest to the list, the largest first, the lower id first on a tie.
    int64_t rank(const float* scores, int64_t most) {
        const int64_t looks = count_ / LOOK;
        int64_t found = 0;
        if (most <= looks) {
            float* heads = reinterpret_cast<float*>(sums_);  // each has one score that high
            float* order = heads + looks;
            if (2 * looks * 4 > 2 * (LAST_BUCKET + 1) * 8) return sorted(scores, most);
            for (int64_t i = 0; i < looks; ++i) order[i] = heads[i] = largest(scores + i * LOOK, LOOK);
            std::nth_element(order, order + most - 1, order + looks, [](float a, float b) { return a > b; });
            const float border = order[most - 1];
            for (int64_t i = 0; i < looks; ++i)
                if (heads[i] >= border)
                    for (int64_t id = i * LOOK; id < (i + 1) * LOOK; ++id)
                        if (scores[id] >= border) list_[found++] = {scores[id], int32_t(id)};
            for (int64_t id = looks * LOOK; id < count_; ++id)
                if (scores[id] >= border) list_[found++] = {scores[id], int32_t(id)};
            std::sort(list_, list_ + found, before);
            return most < found ? most : found;
        }
        return sorted(scores, most);
    }

    int64_t sorted(const float* scores, int64_t most) {
        if (most > count_) most = count_;
        for (int64_t id = 0; id < count_; ++id) list_[id] = ranked_at(scores, id);
        std::nth_element(list_, list_ + most - 1, list_ + count_, before);
        std::sort(list_, list_ + most, before);
        return most;
    }

    // Log-softmax of the model's own logits.
    void logprobs() {
        const float top = largest(row_.logits, count_);
        const double total = double(top) + std::log(weigh(row_.logits, count_, top, 1.0f, weights_));
        row_.chosen = double(row_.logits[row_.token]) - total;
        if (!row_.top) return;
        const int64_t found = rank(row_.logits, row_.top);
        for (int64_t i = 0; i < row_.top; ++i) {
            const Ranked& one = list_[i < found ? i : found - 1];
            row_.top_ids[i] = one.id;
            row_.top_values[i] = double(one.score) - total;
        }
    }
};

void run_draws(DrawRow* rows, int64_t count) {
    for_each_item(count, [&](int64_t item) { Drawing(rows[item]).run(); });
}
