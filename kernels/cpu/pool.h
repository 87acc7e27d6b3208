// Threads that share out the items of one call. Items never share a sum, so who does which changes no bit.
#pragma once
#include <cstdint>

namespace moontide {

void set_threads(int64_t count);
int64_t threads();
void run_items(int64_t items, void (*body)(void*, int64_t), void* data);

template <class Body>
void for_each_item(int64_t items, Body&& body) {
    run_items(items, [](void* data, int64_t item) { (*static_cast<Body*>(data))(item); }, &body);
}

enum Slot { CALLER, ORDER, TOUCHED, LAYER, POINTERS, ATTENTION, DRAWS, SLOTS };

// Room of the calling thread for one purpose, kept until the thread ends. CALLER, ORDER, TOUCHED and LAYER are for
// who calls, the others for whoever does an item.
void* room(Slot slot, int64_t bytes);

}  // namespace moontide
