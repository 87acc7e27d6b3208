#include "pool.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>

namespace moontide {
namespace {

constexpr auto SPIN = std::chrono::microseconds(1000);  // the next call of a forward, or the draw of its tokens, comes sooner
constexpr int64_t MOST_THREADS = 256;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

// One job at a time. `ticket` = generation << 40 | items << 20 | next item: a worker that comes late takes nothing.
class Pool {
  public:
    std::mutex owner;  // held by the caller whose job runs
    std::atomic<int64_t> wanted{1};

    void run(int64_t items, void (*body)(void*, int64_t), void* data) {
        start(wanted.load() - 1);
        body_ = body;
        data_ = data;
        done_.store(0, std::memory_order_relaxed);
        generation_ = (generation_ + 1) & 0xFFFFFF;
        {
            std::lock_guard<std::mutex> lock(sleep_);
            ticket_.store(generation_ << 40 | items << 20, std::memory_order_seq_cst);
        }
        if (sleeping_.load(std::memory_order_seq_cst) > 0) wake_.notify_all();
        work();
        for (int64_t spins = 0; done_.load(std::memory_order_acquire) < items; ++spins)
            if (spins < 4096) relax(); else std::this_thread::yield();
    }

  private:
    std::atomic<int64_t> ticket_{0}, done_{0}, sleeping_{0};
    void (*body_)(void*, int64_t) = nullptr;
    void* data_ = nullptr;
    int64_t generation_ = 0, started_ = 0;
    std::mutex sleep_;
    std::condition_variable wake_;

    static bool open(int64_t ticket) { return (ticket & 0xFFFFF) < (ticket >> 20 & 0xFFFFF); }

    void work() {
        int64_t ticket = ticket_.load(std::memory_order_acquire);
        while (open(ticket))
            if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) {
                body_(data_, ticket & 0xFFFFF);
                done_.fetch_add(1, std::memory_order_release);
                ticket = ticket_.load(std::memory_order_acquire);
            }
    }

    void start(int64_t workers) {
        for (; started_ < workers; ++started_) std::thread([this, index = started_] { serve(index); }).detach();
    }

    void serve(int64_t index) {
        auto since = std::chrono::steady_clock::now();
        for (;;) {
            for (int i = 0; i < 32; ++i) {
                if (index < wanted.load(std::memory_order_relaxed) - 1 && open(ticket_.load(std::memory_order_acquire))) {
                    work();
                    since = std::chrono::steady_clock::now();
                }
                relax();
            }
            if (std::chrono::steady_clock::now() - since > SPIN) {
                sleep(index);
                since = std::chrono::steady_clock::now();
            }
        }
    }

    void sleep(int64_t index) {
        std::unique_lock<std::mutex> lock(sleep_);
        sleeping_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return index < wanted.load() - 1 && open(ticket_.load(std::memory_order_seq_cst)); });
        sleeping_.fetch_sub(1, std::memory_order_seq_cst);
    }
};

// Never destroyed: its threads may outlive static objects. A forked child has no threads and starts its own.
std::atomic<Pool*> current{nullptr};

void after_fork() {
    Pool* fresh = new Pool();
    if (Pool* old = current.load()) fresh->wanted.store(old->wanted.load());
    current.store(fresh);
}

Pool& pool() {
    static const bool made = [] {
        current.store(new Pool());
        pthread_atfork(nullptr, nullptr, after_fork);
        return true;
    }();
    (void)made;
    return *current.load(std::memory_order_acquire);
}

struct Room {
    void* memory = nullptr;
    int64_t bytes = 0;
    ~Room() { std::free(memory); }
};
thread_local Room rooms[SLOTS];

}  // namespace

void set_threads(int64_t count) {
    pool().wanted.store(count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count);
}

int64_t threads() { return pool().wanted.load(); }

void run_items(int64_t items, void (*body)(void*, int64_t), void* data) {
    Pool& shared = pool();
    std::unique_lock<std::mutex> owner(shared.owner, std::defer_lock);
    if (items > 1 && items < (1 << 20) && shared.wanted.load() > 1 && owner.try_lock()) return shared.run(items, body, data);
    for (int64_t item = 0; item < items; ++item) body(data, item);
}

void* room(Slot slot, int64_t bytes) {
    Room& held = rooms[slot];
    if (held.bytes < bytes) {
        std::free(held.memory);
        held.bytes = (bytes + 4095) / 4096 * 4096;
        held.memory = std::aligned_alloc(64, held.bytes);
        if (!held.memory) {
            held.bytes = 0;
            throw std::bad_alloc();
        }
    }
    return held.memory;
}

}  // namespace moontide
